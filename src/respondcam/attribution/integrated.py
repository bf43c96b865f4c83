r"""Integrated Respond-CAM: Respond-CAM along a straight path from a baseline activation.

Respond-CAM's sum follows the score exactly where the head is linear in the layer's output. For any
other head the gradient is replaced by its mean along the path from a baseline :math:`A_0` to
:math:`A`, and the activation by the difference :math:`D = A - A_0`:

.. math::

    \bar G = \int_0^1 \frac{\partial y}{\partial A}\bigl(A_0 + t\, D\bigr)\, dt, \qquad
    L = \sum_l \Bigl(\sum_i D_{l,i} \bar G_{l,i}\Bigr) \frac{|D_l|}{\sum_i |D_{l,i}|}

so that, by the fundamental theorem of calculus along the path (as for integrated gradients,
M. Sundararajan, A. Taly, Q. Yan, ICML 2017, arXiv:1703.01365, here from a layer on),

.. math::

    \sum_i L_i = y(A) - y(A_0) .

Quadrature: with a zero baseline and small biases the ReLUs of a head switch very near to t = 0, so
nodes crowd there: :math:`t_k = ((k + 1/2)/n)^4`, each weighted by the length of its cell,
:math:`((k+1)/n)^4 - (k/n)^4`. The account's gap is the error that is left.

Limits: the head runs on n copies of the batch; where a path leads around the layer the whole
network does, and y(A_0) depends on the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.outputs import score_tensor
from respondcam.attribution.respond import respond_cam
from respondcam.attribution.run import Align, Baseline, Run
from respondcam.attribution.targets import evaluate
from respondcam.errors import InputError, LayerError, ModelError
from respondcam.network.layers import Layer
from respondcam.network.split import Expansion, split_pass
from respondcam.network.survey import cached_survey
from respondcam.network.trees import map_tensors, spatial_batch

# What autograd may keep for the copies that run at once.
_HEAD_BYTES = 256 * 2**20


class IntegratedRespondCAM(Explainer):
    """Explain with Integrated Respond-CAM; parameters as for every `Explainer`, and two more.

    Parameters
    ----------
    nodes
        Points of the path at which the gradient is taken.
    baseline
        Activation A0 where the path starts: a tensor that broadcasts to the layer's output, or a
        callable from the layer's output to it; zero unless given.

    Examples
    --------
    >>> head = [nn.Flatten(), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 2)]
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), *head)
    >>> explanation = IntegratedRespondCAM(model, layer="1", nodes=64)(torch.rand(1, 1, 4, 4, 4))
    >>> bool(explanation.account.relative_gap < 0.01)
    True
    """

    method = "integrated-respond"

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
        nodes: int = 16,
        baseline: Tensor | Baseline | None = None,
    ) -> None:
        super().__init__(model, layer, output=output, relu=relu, align=align)
        if not isinstance(nodes, int) or nodes < 1:
            raise InputError(f"nodes={nodes!r}: give a whole number of at least 1.")
        self.baseline = _as_baseline(baseline)
        self.schedule = PathPasses(nodes)

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`respond_cam` of the difference to the baseline and the mean gradient."""
        return respond_cam(activation, gradient)


def path_nodes(count: int) -> tuple[Float[Tensor, "node"], Float[Tensor, "node"]]:
    """Nodes t_k = ((k + 1/2)/n)^4 on (0, 1) and the lengths of their cells, which add up to one.

    Examples
    --------
    >>> t, lengths = path_nodes(2)
    >>> t.tolist(), lengths.tolist()
    ([0.00390625, 0.31640625], [0.0625, 0.9375])
    """
    edges = (torch.arange(count + 1, dtype=torch.float64) / count) ** 4
    middles = ((torch.arange(count, dtype=torch.float64) + 0.5) / count) ** 4
    return middles, edges.diff()


@dataclass(frozen=True)
class PathPasses:
    """The passes of the integrated form: a layer at a time, the nodes in chunks that fit memory."""

    nodes: int

    def __call__(self, run: Run, layers: Sequence[Layer]) -> dict[str, tuple[Tensor, ...]]:
        """For each layer the maps (target, batch, *grid), as `Schedule` asks."""
        return {layer.name: self._maps(run, layer) for layer in layers}

    def _maps(self, run: Run, layer: Layer) -> tuple[Tensor, ...]:
        points, lengths = path_nodes(self.nodes)
        size = self._chunk(run, layer)
        activation, total = None, None
        for some, weights in zip(points.split(size), lengths.split(size), strict=True):
            activation, part = _Chunk(run, layer, some, weights).gradients()
            total = part if total is None else total + part
        assert activation is not None
        assert total is not None
        difference = activation - run.setting.baseline(activation)
        call = layer.call or 0
        maps = torch.stack([run.reduce(layer.name, call, difference, g) for g in total])
        return (maps,) * (call + 1)

    def _chunk(self, run: Run, layer: Layer) -> int:
        known = cached_survey(run.setting.model, run.inputs).layers
        kept = [one.head_bytes for one in known if one.name == layer.name]
        each = (kept or [max(one.head_bytes for one in known)])[0] * spatial_batch(run.inputs)
        return max(1, min(self.nodes, _HEAD_BYTES // max(1, each)))


@dataclass(frozen=True)
class _Chunk:
    """Some nodes of the path in one pass: the batch itself first, then one copy for each node."""

    run: Run
    layer: Layer
    points: Tensor
    weights: Tensor

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Activation (batch, ...) and its weighted gradients (target, batch, ...)."""
        if not self.run.traces[self.layer.name].bypassed:
            try:
                return self._pass(self.run.inputs)
            except ModelError:
                pass  # a head that is built for this batch size, or reads the input again
        copies = 1 + len(self.points)
        batch = spatial_batch(self.run.inputs)
        return self._pass(
            map_tensors(
                lambda t: torch.cat([t] * copies) if t.ndim and len(t) == batch else t,
                self.run.inputs,
            )
        )

    def _pass(self, inputs: Any) -> tuple[Tensor, Tensor]:
        name, call = self.layer.name, self.layer.call or 0
        kept = split_pass(
            self.run.setting.model,
            {name: self.layer.module},
            inputs,
            self._score,
            self._reduce,
            expand=Expansion(name, call, self._copies),
        ).kept[name]
        if self.layer.call is None and len(kept) > 1:
            raise LayerError(
                f"Layer {name!r} is called {len(kept)} times in one forward pass. Name the call "
                f"that the path runs through: '{name}#0' to '{name}#{len(kept) - 1}'."
            )
        if call >= len(kept):
            raise LayerError(
                f"Layer {name!r} is called {len(kept)} times; there is no call {call}."
            )
        return kept[call][0, 0], kept[call][:, 1]

    def _copies(self, activation: Tensor) -> Tensor:
        own = activation[: self._batch]
        start = self.run.setting.baseline(own)
        steps = self.points.to(own)
        return torch.cat([own, *(start + t * (own - start) for t in steps)])

    def _score(self, output: Any) -> Tensor:
        tensor = score_tensor(output, self.run.setting.output)
        own, *copies = tensor.split(self._batch)
        if len(copies) != len(self.points):
            raise ModelError("The head gave another number of samples than it was handed.")
        scores = evaluate(self.run.goal, own)
        self.run.scores = scores
        again = scores.again or (lambda t: evaluate(self.run.goal, t).values)
        weighted = [w * again(t) for w, t in zip(self.weights.tolist(), copies, strict=True)]
        return torch.stack(weighted).sum(dim=0)

    def _reduce(self, name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
        if call != (self.layer.call or 0):
            return activation.new_zeros(())
        parts = gradient[self._batch :].unflatten(0, (len(self.points), self._batch))
        return torch.stack([activation[: self._batch], parts.sum(dim=0)])

    @property
    def _batch(self) -> int:
        return spatial_batch(self.run.inputs)


def _as_baseline(baseline: Tensor | Baseline | None) -> Baseline:
    if baseline is None:
        return torch.zeros_like
    if isinstance(baseline, Tensor):
        fixed = baseline.detach()

        def constant(activation: Tensor) -> Tensor:
            try:
                return fixed.to(activation).expand_as(activation)
            except RuntimeError:
                raise InputError(
                    f"baseline has shape {tuple(fixed.shape)}, the layer's output "
                    f"{tuple(activation.shape)}. Give a tensor that broadcasts to it."
                ) from None

        return constant
    if not callable(baseline):
        raise InputError(f"baseline={baseline!r} is neither a tensor nor a callable.")
    return baseline
