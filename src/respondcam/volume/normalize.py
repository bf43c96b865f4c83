"""Intensity normalisations, each a pure function on the voxels, channel by channel.

A channel without any contrast carries no information that a scaling could bring out: instead of
dividing by zero, ``zscore``, ``minmax`` and ``percentile`` turn it into zeros.
"""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float

Voxels = Float[np.ndarray, "channel z y x"]


def none(voxels: Voxels) -> Voxels:
    """Copy the voxels as they are.

    Examples
    --------
    >>> none(np.full((1, 1, 1, 2), 7, np.float32)).ravel()
    array([7., 7.], dtype=float32)
    """
    return voxels.astype(np.float32)


def zscore(voxels: Voxels) -> Voxels:
    """Shift and scale to mean 0 and (population) standard deviation 1; zeros if constant.

    Examples
    --------
    >>> zscore(np.array([[[[1, 3]]]], np.float32)).ravel()
    array([-1.,  1.], dtype=float32)
    """
    means = voxels.mean(axis=(1, 2, 3), dtype=np.float64)
    spans = [
        0.0 if channel.min() == channel.max() else _deviation(channel, mean)
        for channel, mean in zip(voxels, means, strict=True)
    ]
    return _rescaled(voxels, means, spans)


def minmax(voxels: Voxels) -> Voxels:
    """Scale to 0 .. 1 between the smallest and the largest voxel; zeros if constant.

    Examples
    --------
    >>> minmax(np.array([[[[2, 3, 4]]]], np.float32)).ravel()
    array([0. , 0.5, 1. ], dtype=float32)
    """
    lows = voxels.min(axis=(1, 2, 3)).astype(np.float64)
    highs = voxels.max(axis=(1, 2, 3)).astype(np.float64)
    return _rescaled(voxels, lows, highs - lows)


def percentile(voxels: Voxels) -> Voxels:
    """Clip to the 1st and 99th percentile, then scale to 0 .. 1; zeros if these are equal.

    Examples
    --------
    >>> percentile(np.arange(101, dtype=np.float32).reshape(1, 1, 1, 101)).ravel()[[0, 50, 100]]
    array([0. , 0.5, 1. ], dtype=float32)
    """
    lows, highs = np.percentile(voxels, (1, 99), axis=(1, 2, 3)).astype(np.float64)
    out = _rescaled(voxels, lows, highs - lows)
    return np.clip(out, 0, 1, out=out)


def _deviation(channel: np.ndarray, mean: float) -> float:
    """Population standard deviation of one channel, summed in float64."""
    squares = sum(np.square(section.astype(np.float64) - mean).sum() for section in channel)
    return float(np.sqrt(squares / channel.size))


def _rescaled(voxels: np.ndarray, shifts: Iterable[float], spans: Iterable[float]) -> np.ndarray:
    """(voxels - shift) / span per channel in float64, section by section to bound the memory."""
    out = np.zeros(voxels.shape, np.float32)
    for channel, target, shift, span in zip(voxels, out, shifts, spans, strict=True):
        if span > 0:
            for section, into in zip(channel, target, strict=True):
                into[:] = (section.astype(np.float64) - shift) / span
    return out


NORMALIZATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": none,
    "zscore": zscore,
    "minmax": minmax,
    "percentile": percentile,
}
