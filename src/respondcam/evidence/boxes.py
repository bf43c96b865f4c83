"""Bounding boxes of a map's blobs against boxes of the mask: the parts of Max3DBoxAcc.

Wisniewski, Giulivi, Boracchi: SE3D, a framework for saliency method evaluation in 3D imaging
(arXiv:2405.14584), after Choe et al.'s MaxBoxAcc (CVPR 2020). A map, scaled to 0 to 1 and held in
steps of 1/255, is cut at shares of its maximum; voxels above the cut that touch by faces or edges
are a blob. Max3DBoxAcc compares the box of the largest blob with the box of the mask's largest
part; Max3DBoxAccV2 takes the best pair of any blob and any part.

"Largest" is, as in the authors' code, by the product of the box's extents less one voxel each (a
flat blob has none). An empty cut has no box and overlaps nothing (theirs puts a box at the corner).
"""

from typing import Any

import numpy as np

from respondcam._extras import require

THRESHOLDS = np.arange(0, 1, 0.01)  # shares of the map's maximum, as in the authors' code


def box_overlaps(heat: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intersection over union of the boxes at every threshold.

    Parameters
    ----------
    heat
        Map (z, y, x) within 0 to 1.
    mask
        Where the object is.

    Returns
    -------
    tuple
        Of the largest blob, and of the best pair, each (threshold,).

    Examples
    --------
    >>> mask = np.zeros((4, 4, 4), bool)
    >>> mask[1:3, 1:3, 1:3] = True
    >>> largest, best = box_overlaps(mask.astype(float), mask)
    >>> float(largest.min()), float(best.min())
    (1.0, 1.0)
    """
    ndimage = require("scipy.ndimage", extra="cryoet", purpose="find the blobs of a map")
    levels = (heat * 255).astype(np.uint8)
    parts = _boxes(ndimage, mask)
    one, any_ = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    known: dict[int, tuple[float, float]] = {}
    for place, share in enumerate(THRESHOLDS):
        cut = int(np.floor(share * levels.max()))  # whole levels above it are above the share
        if cut not in known:
            known[cut] = _overlap(_boxes(ndimage, levels > cut), parts)
        one[place], any_[place] = known[cut]
    return one, any_


def _overlap(blobs: np.ndarray, parts: np.ndarray) -> tuple[float, float]:
    if not len(blobs):
        return 0.0, 0.0
    pairs = _iou(blobs, parts)
    return float(pairs[_largest(blobs), _largest(parts)]), float(pairs.max())


def _boxes(ndimage: Any, where: np.ndarray) -> np.ndarray:
    """First voxels and voxels behind the last, (box, 2, axis)."""
    shape = ndimage.generate_binary_structure(where.ndim, min(2, where.ndim))
    labels, _ = ndimage.label(where, structure=shape)
    slices = ndimage.find_objects(labels)
    found = [[[s.start for s in one], [s.stop for s in one]] for one in slices]
    return np.array(found, dtype=np.int64).reshape(-1, 2, where.ndim)


def _largest(boxes: np.ndarray) -> int:
    return int(np.prod(boxes[:, 1] - boxes[:, 0] - 1, axis=1).argmax())


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low = np.maximum(a[:, None, 0], b[None, :, 0])
    high = np.minimum(a[:, None, 1], b[None, :, 1])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    size_a, size_b = (np.prod(boxes[:, 1] - boxes[:, 0], axis=1) for boxes in (a, b))
    return common / (size_a[:, None] + size_b[None, :] - common)
