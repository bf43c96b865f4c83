"""What the baselines on the input share: the network as captum wants it, left as it was.

captum explains a function from one tensor to one number per sample. Here it is the score of one
target, with everything decided on the input itself (the predicted class, a predicted region) kept,
and the model's other inputs held fixed.
"""

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from respondcam._extras import require
from respondcam.attribution.explainer import LayerSpec
from respondcam.attribution.mixing import copies_mix, repeat
from respondcam.attribution.run import Kept, Run
from respondcam.attribution.targets import evaluate
from respondcam.errors import LayerError
from respondcam.network.calling import INPUT, call_model, input_name, unwrap
from respondcam.network.gradients import full_precision
from respondcam.network.layers import Layer
from respondcam.network.state import undisturbed
from respondcam.network.survey import cached_survey
from respondcam.network.trees import (
    map_tensors,
    plain,
    private_copy,
    spatial_batch,
    spatial_tensor,
    tensors,
)

# What autograd may keep, or copies may hold, at once.
_BYTES = 256 * 2**20

Attribute = Callable[["OneScore", Tensor], Tensor]
"""(score of one target, image) -> attribution (batch, channel, *spatial)."""


class OneScore(nn.Module):
    """Image -> one target's score for each sample; the image may hold the batch several times."""

    def __init__(self, run: Run, layer: Layer) -> None:
        super().__init__()
        self.model = unwrap(run.setting.model)
        self.run, self.layer = run, layer
        self.target = 0
        self.mix: bool | None = None

    def forward(self, image: Tensor) -> Tensor:
        """Scores (copy x batch,); where one sample alone is explained those of others are zero."""
        parts = torch.split(image, spatial_batch(self.run.inputs))
        if len(parts) > 1 and self.mix is None:
            self.mix = copies_mix(self.run, self.layer, 0)
        scores = torch.cat([self._scores(part) for part in (parts if self.mix else [image])])
        return torch.where(self._counting(scores), scores, 0)

    def _counting(self, rows: Tensor) -> Tensor:
        """Which rows of (copy x batch, ...) are of samples that are explained."""
        samples = torch.arange(len(rows), device=rows.device) % spatial_batch(self.run.inputs)
        found = samples == (samples if self.run.only is None else self.run.only)
        return found.view(-1, *[1] * (rows.ndim - 1))

    def _scores(self, image: Tensor) -> Tensor:
        """The target's scores from one pass, (copy x batch,)."""
        inputs, batch = self.run.inputs, spatial_batch(self.run.inputs)
        chosen = spatial_tensor(inputs)
        assert chosen is not None
        copies = len(image) // batch
        if self.run.only is not None:
            given = plain(repeat(chosen, copies)).detach()
            image = torch.where(self._counting(image), image, given)

        def exchange(tensor: Tensor) -> Tensor:
            # clones, since the model may write to its input
            return image.clone() if tensor is chosen else private_copy(repeat(tensor, copies))

        output = call_model(self.model, map_tensors(exchange, inputs))
        parts = torch.split(self.run.score_rows(output, copies), batch)
        if self.run.scores is None:
            self.run.scores = evaluate(self.run.goal, parts[0].detach())
        return torch.cat([self.run.score_again(part)[:, self.target] for part in parts])

    @property
    def copies(self) -> int:
        """How many copies of the batch may run at once."""
        known = cached_survey(self.model, self.run.inputs).layers
        kept = max((layer.head_bytes for layer in known), default=0)
        # a network may keep next to nothing, but the copies themselves are there: the changed
        # images, what they are made from, and the clone that the model may write to
        own = 3 * sum(t.numel() * t.element_size() for t in tensors(self.run.inputs))
        return max(1, _BYTES // max(1, kept * spatial_batch(self.run.inputs) + own))


@dataclass(frozen=True)
class InputPasses:
    """The passes of a method on the input, target by target."""

    attribute: Attribute

    def __call__(self, run: Run, layers: Sequence[Layer]) -> Kept:
        """The maps (target, batch, *spatial), as `Schedule` asks."""
        scored = OneScore(run, layers[0])
        found = spatial_tensor(run.inputs)
        assert found is not None
        image = plain(private_copy(found))
        with undisturbed(scored.model):
            scored(image)  # the scores, and what they decide
            assert run.scores is not None
            maps: list[Tensor] = []
            for scored.target in range(run.scores.values.shape[1]):
                shares = self._shares(scored, image).detach()
                maps.append(run.finish(layers[0].name, 0, *full_precision(image, shares)))
        return {(layers[0].name, 0): torch.stack(maps)}

    def _shares(self, scored: OneScore, image: Tensor) -> Tensor:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # captum tells of its hooks
                return self.attribute(scored, image.clone())
        except RuntimeError as error:
            if "grad" not in str(error):
                raise
            raise LayerError(
                f"No gradient leads from the score to the input: the network cuts it (.detach(), "
                f"torch.no_grad(), an operation without a gradient). captum said: {error}"
            ) from error


def captum_for(method: str) -> ModuleType:
    """Captum's methods, or the error that says how to install it."""
    return require("captum.attr", extra="captum", purpose=f"explain with {method}")


def only_input(model: nn.Module, layer: LayerSpec | Sequence[LayerSpec] | None, method: str) -> str:
    """The one layer of these methods; LayerError if another was named."""
    is_model = isinstance(model, nn.Module)  # pyright: ignore[reportUnnecessaryIsInstance]
    own = input_name(unwrap(model)) if is_model else INPUT
    if layer is None or layer in (own, INPUT, [own], [INPUT], (own,), (INPUT,)):
        return own
    raise LayerError(
        f"{method} explains the input, not layer {layer!r}. Leave the layer out, or give 'input'."
    )


@contextmanager
def separate_relus(model: nn.Module) -> Generator[int, None, None]:
    """ReLUs that do not write over their input while hooks watch them; gives their number."""
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    inplace: list[Any] = [module.inplace for module in relus]
    try:
        for module in relus:
            module.inplace = False
        yield len(relus)
    finally:
        for module, before in zip(relus, inplace, strict=True):
            module.inplace = before
