"""Targets of detectors, whose output is a list of boxes with scores for every image.

As torchvision's and MONAI's detectors give it: for each image a dict of ``boxes`` (or ``box``),
``scores`` (``label_scores``) and ``labels`` (``label``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from respondcam._kinds import is_listed
from respondcam.attribution.outputs import describe
from respondcam.attribution.targets.basic import Scores
from respondcam.errors import TargetError

_NAMES = {
    "boxes": ("boxes", "box"),
    "scores": ("scores", "label_scores", "score"),
    "labels": ("labels", "label"),
}


@dataclass(frozen=True)
class Detection:
    """See `detection`."""

    label: int | None = None
    near: tuple[float, ...] | None = None
    overlap: float = 0.5
    threshold: float = 0.0

    takes_output: ClassVar[bool] = True
    """The target reads the model's whole output, not one tensor of scores."""

    def __call__(self, output: Any) -> Scores:
        """Score (batch, 1) of the boxes that are meant."""
        images = [self._kept(one) for one in _images(output)]
        chosen = [self._chosen(boxes, scores) for boxes, scores in images]

        def again(other: Any) -> Tensor:
            kept = [self._kept(one) for one in _images(other)]
            rows = [self._summed(*one, box) for one, box in zip(kept, chosen, strict=True)]
            return torch.stack(rows)[:, None]

        name = "boxes" if self.label is None else f"boxes of label {self.label}"
        which = "best of the " + name if self.near is None else f"{name} near the given one"
        return Scores(again(output), (which,), again=again)

    def _kept(self, image: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        boxes, scores = _entry(image, "boxes"), _entry(image, "scores")
        keep = scores.detach() >= self.threshold
        if self.label is not None:
            keep &= _entry(image, "labels") == self.label
        return boxes.detach()[keep], scores[keep]

    def _chosen(self, boxes: Tensor, scores: Tensor) -> Tensor:
        """The box that scores are collected at."""
        if not len(scores):
            raise TargetError(
                f"No box is detected with label {self.label} and a score of at least "
                f"{self.threshold:g}: there is nothing to explain."
            )
        if self.near is None:
            return boxes[scores.detach().argmax()]
        if len(self.near) != boxes.shape[1]:
            raise TargetError(
                f"near has {len(self.near)} numbers, but the boxes have {boxes.shape[1]}: give the "
                f"lower corner, then the upper one, in the detector's own order of axes."
            )
        near = torch.tensor(self.near).to(boxes)
        if not bool((overlaps(boxes, near) >= self.overlap).any()):
            best = float(overlaps(boxes, near).max())
            raise TargetError(
                f"No box overlaps the given one by {self.overlap:g}; the nearest overlaps it by "
                f"{best:.2f}. Give another box, or a smaller overlap."
            )
        return near

    def _summed(self, boxes: Tensor, scores: Tensor, at: Tensor) -> Tensor:
        """Of the best box: the score of the one that overlaps it most; else all that overlap."""
        if not len(scores):
            return scores.sum()
        share = overlaps(boxes, at)
        if self.near is None:
            best = int(share.argmax())
            return scores[best] * float(share[best] >= self.overlap)
        return scores[share >= self.overlap].sum()


def detection(
    label: int | None = None,
    *,
    near: Sequence[float | int] | None = None,
    overlap: float | int = 0.5,
    threshold: float | int = 0.0,
) -> Detection:
    """Score of a detected box: the best one, or all that overlap a given one.

    Parameters
    ----------
    label
        Of the boxes that count; all labels unless given.
    near
        Lower corner, then upper corner, in the detector's order of axes. The scores of all boxes
        that overlap it are added up.
    overlap
        Intersection over union from which boxes count as overlapping.
    threshold
        Boxes below this score do not count.

    Examples
    --------
    >>> boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 3.0], [6.0, 6.0, 9.0, 9.0]])
    >>> found = {"boxes": boxes, "scores": torch.tensor([0.5, 0.25, 0.7]), "labels": torch.ones(3)}
    >>> detection()([found]).values, detection(1, near=[0, 0, 4, 4])([found]).values
    (tensor([[0.7000]]), tensor([[0.7500]]))
    """
    if not 0 < overlap <= 1:
        raise TargetError(f"overlap={overlap!r} is not above 0 and at most 1.")
    return Detection(label, None if near is None else tuple(map(float, near)), overlap, threshold)


def overlaps(boxes: Tensor, one: Tensor) -> Tensor:
    """Intersection over union of every box (n, 2 * rank) with one, in any number of axes.

    Examples
    --------
    >>> overlaps(torch.tensor([[0.0, 2.0], [1.0, 3.0]]), torch.tensor([0.0, 2.0]))
    tensor([1.0000, 0.3333])
    """
    rank = boxes.shape[1] // 2
    low, high = (
        torch.maximum(boxes[:, :rank], one[:rank]),
        torch.minimum(boxes[:, rank:], one[rank:]),
    )
    common = (high - low).clamp(min=0).prod(dim=1)
    sizes = (boxes[:, rank:] - boxes[:, :rank]).prod(dim=1) + (one[rank:] - one[:rank]).prod()
    return common / (sizes - common)


def _images(output: Any) -> list[Mapping[str, Tensor]]:
    images: Any = [output] if isinstance(output, Mapping) else output
    if is_listed(images) and images and all(isinstance(one, Mapping) for one in images):
        return list(images)
    raise TargetError(
        f"detection() reads a list with a dict of boxes and scores for each image, but the output "
        f"is {describe(output)}."
    )


def _entry(image: Mapping[str, Tensor], what: str) -> Tensor:
    for name in _NAMES[what]:
        if name in image:
            return image[name]
    raise TargetError(
        f"A detection has the keys {', '.join(map(repr, image))}, but none of "
        f"{', '.join(map(repr, _NAMES[what]))}."
    )
