"""All figures of localisation of one or many maps, together."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from respondcam.errors import InputError
from respondcam.evidence.checks import check_maps, check_masks
from respondcam.evidence.overlap import average_precision, max_f1
from respondcam.evidence.pointing import (
    absolute_mass,
    centroid_distance,
    centroid_pointing,
    peak_distance,
    peak_pointing,
    positive_mass,
)
from respondcam.evidence.se3d import Se3dCounts, se3d_counts

_SHARES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "positive_mass": positive_mass,
    "absolute_mass": absolute_mass,
}
_PEAKS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "peak_pointing": peak_pointing,
    "peak_distance": peak_distance,
}
_HEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "centroid_pointing": centroid_pointing,
    "centroid_distance": centroid_distance,
    "vxap": average_precision,
}


@dataclass(frozen=True)
class Located:
    """How one map lies on one mask; NaN where a figure is not defined for the map.

    Parameters
    ----------
    positive_mass, absolute_mass, peak_pointing, centroid_pointing
        As the functions of these names in `respondcam.evidence.pointing`.
    peak_distance, centroid_distance
        Voxels from there to the mask's centre.
    vxap
        Voxel average precision of this map alone.
    max_f1, f1_threshold, f1_precision, f1_recall
        The best F1 of this map alone, and where.
    mask_share
        Share of the box that the mask fills: what a uniform map has as mass, pointing and vxap.
    note
        What makes the figures say less than they seem to; empty when nothing does.
    """

    positive_mass: float
    absolute_mass: float
    peak_pointing: float
    centroid_pointing: float
    peak_distance: float
    centroid_distance: float
    vxap: float
    max_f1: float
    f1_threshold: float
    f1_precision: float
    f1_recall: float
    mask_share: float
    note: str = ""

    def figures(self) -> dict[str, float]:
        """The numbers by name."""
        return {name: value for name, value in vars(self).items() if name != "note"}


def locate(
    maps: Float[Tensor, "image *spatial"],
    masks: Bool[Tensor, "image *inside"],
    *,
    heights: Float[Tensor, "image *heights"] | None = None,
    background: Bool[Tensor, "image *outside"] | None = None,
) -> list[Located]:
    """Compare maps with masks of what they should lie on.

    Parameters
    ----------
    maps
        Signed, in the masks' voxels: ``explanation.place()[:, 0]``.
    masks
        True inside the object.
    heights
        What peaks, centroids, VxAP and MaxF1 are read from: ``explanation.place("value")[:, 0]``,
        in which the border is not denser than the middle. The maps themselves unless given. Where
        heights tie because a value goes on to the border, the peak is where the maps are largest.
    background
        True where the map does not count, such as padding; the map is taken as zero there.

    Raises
    ------
    InputError
        If the shapes differ, a mask is empty or covers everything, or a map is not finite.

    Examples
    --------
    >>> import torch
    >>> mask = torch.tensor([[True, True, False, False]])
    >>> (found,) = locate(torch.tensor([[3.0, 1.0, 0.0, -4.0]]), mask)
    >>> found.positive_mass, found.absolute_mass, found.vxap
    (1.0, 0.5, 1.0)
    """
    check_masks(maps, masks)
    heights = maps if heights is None else heights
    check_masks(heights, masks)
    for one in (maps, heights):
        check_maps(one)
    if background is not None:
        check_background(background, masks)
        outside = background.to(maps.device)
        maps, heights = (one.masked_fill(outside, 0.0) for one in (maps, heights))
    maps, heights, masks = maps.detach().cpu(), heights.detach().cpu(), masks.cpu()
    columns = {
        name: function(given, masks).tolist()
        for given, functions in ((maps, _SHARES), (heights, _HEIGHTS))
        for name, function in functions.items()
    }
    for name, function in _PEAKS.items():
        columns[name] = function(heights, masks, maps).tolist()
    shares = masks.double().flatten(1).mean(dim=1).tolist()
    return [
        Located(
            **{name: column[image] for name, column in columns.items()},
            max_f1=best.f1,
            f1_threshold=best.threshold,
            f1_precision=best.precision,
            f1_recall=best.recall,
            mask_share=shares[image],
            note=_note(maps[image]),
        )
        for image, best in enumerate(max_f1(heights, masks))
    ]


def pooled_counts(
    maps: Float[Tensor, "image *spatial"],
    masks: Bool[Tensor, "image *inside"],
    *,
    boxes: bool = True,
) -> list[Se3dCounts]:
    """What each image contributes to the figures that pool images: see `respondcam.evidence.se3d`.

    Raises
    ------
    InputError
        As `locate`.
    """
    check_masks(maps, masks)
    check_maps(maps)
    arrays = maps.detach().cpu().double().numpy(), masks.cpu().numpy()
    return [se3d_counts(one, mask, boxes=boxes) for one, mask in zip(*arrays, strict=True)]


def check_background(
    background: Bool[Tensor, "image *outside"], masks: Bool[Tensor, "image *inside"]
) -> None:
    """Refuse a background on another grid, or one that covers all of an object.

    Raises
    ------
    InputError
        With the first image where it does.
    """
    if background.shape != masks.shape:
        raise InputError(
            f"The background has shape {tuple(background.shape)}, the masks "
            f"{tuple(masks.shape)}. Give it on the masks' grid."
        )
    left = (masks & ~background.to(masks.device)).flatten(1).any(dim=1)
    for image, some in enumerate(left.tolist()):
        if not some:
            raise InputError(f"The background covers all of mask {image}: nothing is left of it.")


def _note(one: Float[Tensor, "*spatial"]) -> str:
    low, high = float(one.min()), float(one.max())
    if low == high:
        return "the map is constant: its figures are those of the uniform control"
    if high <= 0:
        return "the map has no positive value: it speaks against the target everywhere"
    return ""
