"""Scores of changed images for the very target that was explained.

What a target decided on the original image (which class is predicted, which region) is kept for
the changed ones. Scores of classes can be read as probabilities, in which curves of different
networks can be compared; those of other targets are left as they are.
"""

from typing import Any, Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.inputs import as_tensors
from respondcam.attribution.outputs import batched, score_rows
from respondcam.attribution.targets import as_target, evaluate
from respondcam.errors import InputError
from respondcam.network.calling import call_model, unwrap
from respondcam.network.state import undisturbed
from respondcam.network.trees import map_tensors, plain, private_copy, spatial_tensor

Measure = Literal["auto", "score", "probability"]


class Scorer:
    """The network and the target as a function from images to scores.

    Parameters
    ----------
    model, inputs, target, output
        As for an explainer; `inputs` are the originals.
    measure
        ``"probability"`` after softmax (sigmoid for one logit), of a dense output its mean over the
        target's region; ``"score"`` as it is; ``"auto"``: probability where the target is a class.

    Raises
    ------
    InputError
        If the target has no probability, or the inputs or the target cannot be used.

    Examples
    --------
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> scorer = Scorer(model, torch.ones(1, 1, 4), 1)
    >>> bool(torch.isclose(scorer(torch.ones(2, 1, 4))[1, 0, 0], scorer.full[0, 0]))
    True
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        target: Any = "predicted",
        *,
        output: Any = None,
        measure: Measure = "auto",
    ) -> None:
        self.model, self.output = unwrap(model), output
        self.inputs = as_tensors(inputs, model)
        image = spatial_tensor(self.inputs)
        if image is None or image.ndim < 3:
            raise InputError(
                "The image is in whole numbers, which cannot be blurred or mixed, so figures that "
                "change it mean nothing. Give it as floating-point numbers."
            )
        self.image: Tensor = plain(image.detach())
        self.goal = as_target(target)
        self.forwards = 0
        raw = self._run(self.image)
        self._scores = evaluate(self.goal, raw)
        self.labels = self._scores.labels
        classes = self._scores.classes is not None and self._scores.again is not None
        if measure == "probability" and not classes:
            raise InputError(
                "measure='probability': this target is no class, so its score is no probability. "
                "Use measure='score'."
            )
        self.measure = "score" if measure == "score" or not classes else "probability"
        self.full: Float[Tensor, "batch target"] = self._values(raw)

    @property
    def batch(self) -> int:
        """Number of original images."""
        return len(self.image)

    def __call__(
        self, images: Float[Tensor, "copies_batch channel *spatial"]
    ) -> Float[Tensor, "copies batch target"]:
        """Scores of several changed copies of the batch, copy after copy."""
        raw = self._run(images)
        return torch.stack([self._values(part) for part in raw.split(self.batch)])

    def _run(self, images: Tensor) -> Tensor:
        """Score tensor of the network with the explained input replaced."""
        copies = len(images) // len(self.image)
        explained = spatial_tensor(self.inputs)

        def given(tensor: Tensor) -> Tensor:
            if tensor is explained:
                return private_copy(images)
            if copies > 1 and tensor.ndim and len(tensor) == len(self.image):
                return repeat(tensor, "b ... -> (n b) ...", n=copies)
            return private_copy(tensor)

        with undisturbed(self.model):
            result = call_model(self.model, map_tensors(given, self.inputs))
            self.forwards += len(images)
            return plain(score_rows(result, self.output, images).detach())

    def _values(self, raw: Tensor) -> Float[Tensor, "batch target"]:
        again = self._scores.again
        if again is None:
            return evaluate(self.goal, raw).values.double()
        if self.measure == "score":
            return again(raw).double()
        flat = batched(raw)
        both = torch.cat([torch.zeros_like(flat), flat], dim=1) if flat.shape[1] == 1 else flat
        chances = torch.softmax(both.double(), dim=1)
        # of a dense output the sum over the region, so divide by its voxels
        return again(chances) / again(torch.ones_like(chances)).clamp(min=1)


def copies_of(
    image: Float[Tensor, "batch channel *spatial"], count: int
) -> Float[Tensor, "copies_batch channel *spatial"]:
    """`count` copies of a batch, copy after copy."""
    return repeat(image, "b ... -> (n b) ...", n=count)


def joined(
    parts: Float[Tensor, "copies batch channel *spatial"],
) -> Float[Tensor, "copies_batch channel *spatial"]:
    """Copies in one batch, copy after copy, as `Scorer` takes them."""
    return rearrange(parts, "n b ... -> (n b) ...")
