"""From a model and an input to an `Explanation`: what all methods share.

A method is a pure function from (activation, gradient) to a map. Everything else is shared: the
inputs, the layer and the target (here), the split forward pass, the grid and the score account (in
`respondcam.attribution.run`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.account import PrecisionError
from respondcam.attribution.bad_weights import blaming_weights
from respondcam.attribution.baseline import Baseline
from respondcam.attribution.explanation import Explanation
from respondcam.attribution.inputs import Inputs, as_tensors, check_trainable, first_volume
from respondcam.attribution.mixing import EachSample, samples_mix
from respondcam.attribution.order import check_order
from respondcam.attribution.outputs import score_tensor
from respondcam.attribution.precision import precision_error
from respondcam.attribution.run import (
    Align,
    Run,
    Schedule,
    Setting,
    one_pass,
    trace_all,
)
from respondcam.attribution.targets import as_target, takes_output
from respondcam.errors import InputError, LayerError, ModelError
from respondcam.network.calling import call_model
from respondcam.network.choice import chosen_layer
from respondcam.network.keras_model import is_keras
from respondcam.network.layers import find_layer
from respondcam.network.precision import Precision, trunk_precision
from respondcam.network.survey import Survey, cached_survey

LayerSpec = str | nn.Module

# what is given in the place of a network -> what to do
_REMEDIES = {
    "ExportedProgram": "Give torch.export.unflatten(program)",
    "LoadedModel": (
        "Give its .module; if it has a .preparation, explain what that prepares with "
        "respondcam.attribution.prepared.explain_prepared"
    ),
}


class Explainer(ABC):
    """Base of all explainers; see `RespondCAM` for the parameters.

    Parameters
    ----------
    model
        Any PyTorch network, in any mode, on any device. It is explained in evaluation mode and left
        exactly as it was.
    layer
        Dotted name, module, ``"name#1"`` for the second call of a layer, ``"input"``, or a list of
        these (then a tuple of explanations comes back, from one pass). None chooses: the last layer
        with a grid before the scores, or the bottleneck of a network with a dense output.
    output
        Picks the score tensor out of what the model returns, where that is not clear.
    relu
        Cut the negative part off, for parity with other tools. The account then no longer closes.
    align
        Where the layer's grid is: ``"layout"`` from the network's strides and padding;
        ``"measured"`` calibrated with the network's own gradients.
    precision
        ``"bf16"`` runs the network up to the layer in bfloat16, 1.3 to 1.9 times as fast where the
        processor has instructions for it; weights stay untouched. The first call makes its maps in
        float32 too, and the account of every explanation says how far they were apart.

    Raises
    ------
    LayerError
        If there is no such layer.
    """

    method: ClassVar[str]
    differentiable: ClassVar[bool] = True
    """Whether its maps can carry a graph; not where the head is run again without one."""
    note: ClassVar[str] = ""
    """What its maps do not stand for; goes into every account."""
    no_weight: ClassVar[str] = ""
    """Why a map of a method without gradients is empty; ``{layer!r}`` is put in."""

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
        precision: Precision = "fp32",
    ) -> None:
        if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(model).__name__
            remedy = _REMEDIES.get(kind, "Build the network first, then give the object")
            raise InputError(f"The model must be a torch.nn.Module, not {kind}. {remedy}.")
        if is_keras(model):
            raise ModelError(
                "A Keras model hides its layers from PyTorch and takes channels last. Give "
                "respondcam.network.keras_model.KerasNetwork(model), which takes (batch, channel, "
                "*spatial) and names the layers as Keras does."
            )
        if align not in ("layout", "measured"):
            raise InputError(f"align={align!r} is neither 'layout' nor 'measured'.")
        if precision not in ("fp32", "bf16"):
            raise InputError(f"precision={precision!r} is neither 'fp32' nor 'bf16'.")
        self.model = model
        self.output = output
        self.relu = relu
        self.align: Align = align
        self.precision: Precision = precision
        self.precision_error: PrecisionError | None = None
        self.schedule: Schedule = one_pass
        self.baseline: Baseline = torch.zeros_like
        # Names layers where none was named, and says why; None takes the last one that has a grid.
        self.choose: Callable[[Survey], tuple[list[str], str]] | None = None
        # Makes one explanation of all layers'; None leaves them apart.
        self.join: Callable[[tuple[Explanation, ...]], Explanation] | None = None
        # One callable for the life of the explainer: traces are remembered by it.
        self._read: Callable[[Any], Tensor] = lambda out: score_tensor(out, output)
        self._scored: Callable[[nn.Module, Any], Tensor] = lambda model, inputs: score_tensor(
            call_model(model, inputs), output
        )
        self.several = isinstance(layer, (list, tuple))
        given: Sequence[Any] = layer if isinstance(layer, (list, tuple)) else [layer]
        if not given:
            raise LayerError("layer is an empty list; name at least one layer, or give None.")
        self._layers = [find_layer(model, one) for one in given if one is not None]

    def setting(self) -> Setting:
        """What a run needs to know of this explainer."""
        return Setting(
            self.model,
            self.method,
            self.map,
            self.output,
            self.relu,
            self.align,
            self.baseline,
            self.precision,
            self.note,
            self.no_weight,
        )

    @abstractmethod
    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *#grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """The method itself: signed maps from a layer's output and the score's gradient there.

        A method without gradients has its weights in their place.
        """

    @blaming_weights
    def __call__(
        self, inputs: Inputs, target: Any = "predicted", *, create_graph: bool = False
    ) -> Explanation | tuple[Explanation, ...]:
        """Explain `inputs`.

        Parameters
        ----------
        inputs
            Tensor (batch, channel, *spatial) as the model takes it; a `Volume` (one sample, put on
            the model's device, not normalised); or a tuple or dict of these for models with several
            inputs (by position or by keyword).
        target
            ``"predicted"``, ``"all"``, a class, one class per sample, ``"value"`` for regression,
            or a callable ``output -> (batch,)`` or ``(batch, target)``; see `respondcam.targets`.
        create_graph
            Keep the graph from the maps and scores to the parameters, and to the inputs that
            require a gradient, so that they can enter a training loss. The model is in evaluation
            mode all the same.

        Returns
        -------
        Explanation
            Or a tuple of them, if a list of layers was given.

        Raises
        ------
        LayerError, TargetError, ModelError
            If the layer, the target or the model cannot be used; the message says why.
        """
        goal = as_target(target)
        given = as_tensors(inputs, self.model)
        whole = takes_output(goal)
        if create_graph and not self.differentiable:
            raise InputError(
                f"Maps of {self.method!r} carry no graph (create_graph=True): they come from runs "
                f"without autograd. Use 'respond', 'hires' or another method made of gradients."
            )
        if create_graph:
            check_trainable(self.model, given)
        layers, reason = self._layers, ""
        if not layers:
            if self.choose is None:
                name, reason = chosen_layer(self.model, given, None if whole else self._read)
                names = [name]
            else:
                names, reason = self.choose(cached_survey(self.model, given))
            layers = [find_layer(self.model, name) for name in names]
        traces = trace_all(self.model, layers, given, call_model if whole else self._scored)
        run = Run(self.setting(), goal, given, traces, create_graph=create_graph)
        with trunk_precision(self.precision):
            check_order(run, layers)
            mix = samples_mix(run, layers)
            schedule = EachSample(self.schedule) if mix else self.schedule
            kept = schedule(run, layers)
        if self.precision != "fp32" and self.precision_error is None:
            self.precision_error = precision_error(run, schedule, layers, kept)
        source = first_volume(inputs)
        explanations = tuple(
            replace(
                run.explanation(layer, kept, source=source, reason=reason),
                precision=self.precision_error,
            )
            for layer in layers
        )
        if self.join is not None:
            return self.join(explanations)
        return explanations if self.several else explanations[0]
