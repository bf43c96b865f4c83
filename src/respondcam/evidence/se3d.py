"""The figures of the SE3D benchmark, which pool the voxels of all images.

Wisniewski, Giulivi, Boracchi: SE3D, a framework for saliency method evaluation in 3D imaging
(arXiv:2405.14584), as defined there and in the authors' code:

- VxAP: average precision of the voxels of all images together, in bins of 0.01 of the scaled map,
  the maximum in a bin of its own;
- MaxF1 of all voxels together over 100 thresholds from 0 to 1, with precision and recall there;
- Max3DBoxAcc and V2: share of images whose boxes overlap by at least a given IoU, at the one
  threshold that is best for all images together.

Maps are scaled by their own maximum after the negative part is cut off, so that 1 is the highest
value of each. What one image contributes is kept as counts (`Se3dCounts`), so that results of many
runs can be pooled, and resampled, without the maps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from respondcam.errors import InputError
from respondcam.evidence.boxes import box_overlaps

IOU = (0.3, 0.5, 0.7)
BINS = np.append(np.arange(0, 1, 0.01), [1.0, 2.0])  # the last bin holds the maximum alone
CUTS = np.linspace(0, 1, 100)


@dataclass(frozen=True, eq=False)
class Se3dCounts:
    """What one image contributes.

    Parameters
    ----------
    bins
        (2, bin): voxels inside and outside the mask, by value of the scaled map.
    cuts
        (2, cut): voxels inside and outside at or above each threshold of MaxF1.
    voxels
        Voxels of the mask.
    boxes
        (2, threshold): IoU of the largest boxes, and of the best pair; None where it was not
        measured (only volumes have boxes here).
    """

    bins: np.ndarray
    cuts: np.ndarray
    voxels: int
    boxes: np.ndarray | None = None


@dataclass(frozen=True)
class Se3d:
    """The figures over all images, each from 0 to 1; NaN where it was not measured.

    Parameters
    ----------
    vxap, max_f1, threshold, precision, recall
        As in the module's text.
    box_acc, box_acc_v2
        At an IoU of 0.5.
    box_acc_v2_mean
        Mean of Max3DBoxAccV2 over the IoUs 0.3, 0.5 and 0.7.
    """

    vxap: float
    max_f1: float
    threshold: float
    precision: float
    recall: float
    box_acc: float
    box_acc_v2: float
    box_acc_v2_mean: float


def scaled(one: np.ndarray) -> np.ndarray:
    """Cut the negative part off and divide by the maximum, in float32 as the authors do.

    Examples
    --------
    >>> scaled(np.array([-1.0, 2.0, 4.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    positive = np.clip(one, 0, None).astype(np.float32)
    top = positive.max()
    return positive / top if top > 0 else positive


def se3d_counts(one: np.ndarray, mask: np.ndarray, *, boxes: bool = True) -> Se3dCounts:
    """Count what one map contributes; `boxes` takes most of the time."""
    heat = scaled(one)
    inside, outside = heat[mask], heat[~mask]
    bins = np.stack([np.histogram(part, bins=BINS)[0] for part in (inside, outside)])
    cuts = np.stack([_at_or_above(part) for part in (inside, outside)])
    found = np.stack(box_overlaps(heat, mask)) if boxes and heat.ndim == 3 else None
    return Se3dCounts(bins, cuts, int(mask.sum()), found)


def se3d_figures(counts: Sequence[Se3dCounts]) -> Se3d:
    """Pool images.

    Raises
    ------
    InputError
        If there are none.

    Examples
    --------
    >>> mask = np.zeros((4, 4, 4), bool)
    >>> mask[1:3, 1:3, 1:3] = True
    >>> figures = se3d_figures([se3d_counts(mask.astype(float), mask)])
    >>> figures.max_f1, figures.box_acc
    (1.0, 1.0)
    """
    return se3d_resampled(counts, [range(len(counts))])[0]


def se3d_resampled(counts: Sequence[Se3dCounts], draws: Sequence[Sequence[int]]) -> list[Se3d]:
    """Pool images for each of several draws of them, such as a bootstrap's.

    Parameters
    ----------
    counts
        Of all images.
    draws
        Numbers of the images that are pooled, once each time they are named.

    Raises
    ------
    InputError
        If there are none.
    """
    if not counts:
        raise InputError("There is nothing to pool: no map was compared with a mask.")
    bins, cuts = (np.stack([getattr(one, name) for one in counts]) for name in ("bins", "cuts"))
    voxels = np.array([one.voxels for one in counts])
    known = [one.boxes for one in counts if one.boxes is not None]
    boxes = np.stack(known) if len(known) == len(counts) else None
    found = []
    for draw in draws:
        picked = np.asarray(draw)
        largest, best = _box_accuracies(None if boxes is None else boxes[picked])
        found.append(
            Se3d(
                _vxap(bins[picked].sum(axis=0)),
                *_best_f1(cuts[picked].sum(axis=0), int(voxels[picked].sum())),
                box_acc=largest[IOU.index(0.5)],
                box_acc_v2=best[IOU.index(0.5)],
                box_acc_v2_mean=float(np.mean(best)),
            )
        )
    return found


def _vxap(bins: np.ndarray) -> float:
    hits, misses = bins[:, ::-1].cumsum(axis=1).astype(float)
    counted = hits + misses
    precision = hits / np.where(counted > 0, counted, 1)
    return float((precision * np.diff(hits / hits[-1], prepend=0.0)).sum())


def _best_f1(cuts: np.ndarray, total: int) -> tuple[float, float, float, float]:
    hits, misses = cuts.astype(float)
    f1 = 2 * hits / (hits + misses + total)
    best = int(f1.argmax())
    counted = hits[best] + misses[best]
    precision = hits[best] / counted if counted else 0.0
    return float(f1[best]), float(CUTS[best]), float(precision), float(hits[best] / total)


def _box_accuracies(overlaps: np.ndarray | None) -> tuple[list[float], list[float]]:
    """Max3DBoxAcc and V2 for each of `IOU`; NaN where an image has no boxes."""
    if overlaps is None:
        nothing = [float("nan")] * len(IOU)
        return nothing, nothing
    largest, best = (
        [float((overlaps[:, kind] >= iou).mean(axis=0).max()) for iou in IOU] for kind in (0, 1)
    )
    return largest, best


def _at_or_above(values: np.ndarray) -> np.ndarray:
    ordered = np.sort(values)
    return len(ordered) - np.searchsorted(ordered, CUTS, side="left")
