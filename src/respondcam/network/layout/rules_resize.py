"""Rules of the operators that resize axes: adaptive pooling and interpolation."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from respondcam.network.layout.digits import Layout
from respondcam.network.layout.moves import resampled, single
from respondcam.network.layout.rules import Call, rule


def _evenly(
    layout: Layout, sizes: Sequence[int], starts: Callable[[int, int, int], tuple[int, int]]
) -> Layout:
    """Layout after windows that share out each axis, with what rounding makes uncertain."""
    first = len(layout.dims) - len(sizes)
    for axis, size in enumerate(sizes):
        before = layout.dims[first + axis].size
        scale = Fraction(before, size)
        layout = single(layout, first + axis)
        vector = layout.dims[first + axis].digits[0].vector
        shift = (scale - 1) / 2
        layout = resampled(layout, first + axis, size, scale=scale, shift=shift, reach=shift)
        ends = [starts(index, before, size) for index in range(size)]
        centres = [Fraction(start + stop - 1, 2) for start, stop in ends]
        slack = max(abs(centre - shift - scale * i) for i, centre in enumerate(centres))
        layout = layout.uncertain(vector, slack)
    return layout


def _adaptive_window(index: int, before: int, after: int) -> tuple[int, int]:
    return index * before // after, -(-(index + 1) * before // after)


@rule("_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d")
@rule("adaptive_avg_pool2d", "adaptive_avg_pool3d", "mkldnn_adaptive_avg_pool2d")
@rule("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d")
def _adaptive_pool(call: Call) -> list[Layout]:
    count = next(int(letter) for letter in call.name if letter.isdigit())
    layout = _evenly(call.layout, call.shape[-count:], _adaptive_window)
    return [layout, layout]


@rule("fractional_max_pool2d", "fractional_max_pool3d")
def _fractional_pool(call: Call) -> list[Layout]:
    count = next(int(letter) for letter in call.name if letter.isdigit())
    layout = _evenly(call.layout, call.shape[-count:], _adaptive_window)
    return [layout, layout]


@rule("max_unpool2d", "max_unpool3d")
def _unpool(call: Call) -> Layout:
    count = next(int(letter) for letter in call.name if letter.isdigit())
    return _resized(call.layout, call.shape[-count:], [None] * count, _linear)


Positions = Callable[[Fraction, int, int], tuple[Fraction, Fraction]]


def _linear(scale: Fraction, before: int, after: int) -> tuple[Fraction, Fraction]:
    """Scale and shift of half-pixel centres."""
    return scale, (scale - 1) / 2


def _corners(scale: Fraction, before: int, after: int) -> tuple[Fraction, Fraction]:
    """Scale and shift of aligned corners."""
    return (Fraction(before - 1, after - 1) if after > 1 else Fraction(before)), Fraction(0)


def _nearest(scale: Fraction, before: int, after: int) -> tuple[Fraction, Fraction]:
    """Scale and mean shift of floor(i * scale)."""
    return scale, Fraction(1 - scale.denominator, 2 * scale.denominator)


def _nearest_exact(scale: Fraction, before: int, after: int) -> tuple[Fraction, Fraction]:
    """Scale and mean shift of floor((i + 1/2) * scale), over one period."""
    period = scale.denominator
    half = Fraction(1, 2)
    shifts = [math.floor((i + half) * scale) - i * scale for i in range(period)]
    return scale, sum(shifts, Fraction(0)) / period


def _resized(
    layout: Layout, sizes: Sequence[int], factors: Sequence[float | None], positions: Positions
) -> Layout:
    first = len(layout.dims) - len(sizes)
    for axis, (size, factor) in enumerate(zip(sizes, factors, strict=True)):
        before = layout.dims[first + axis].size
        given = Fraction(factor).limit_denominator(4096) if factor else None
        scale, shift = positions(1 / given if given else Fraction(before, size), before, size)
        reach = max(scale, Fraction(1)) / 2
        layout = resampled(layout, first + axis, size, scale=scale, shift=shift, reach=reach)
    return layout


def _factors(call: Call, count: int) -> list[float | None]:
    """Scale factors that the caller gave and the operator uses, one per axis."""
    if "scale_factors" in call.arguments:
        return list(call["scale_factors"] or [None] * count)
    names = {1: ["scales"], 2: ["scales_h", "scales_w"], 3: ["scales_d", "scales_h", "scales_w"]}
    return [call.get(name) for name in names[count]]


@rule("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d", "upsample_bicubic2d")
@rule("_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa", "_upsample_lanczos2d_aa")
def _upsample_linear(call: Call) -> Layout:
    count = next(int(letter) for letter in call.name if letter.isdigit())
    positions = _corners if call["align_corners"] else _linear
    return _resized(call.layout, call.shape[-count:], _factors(call, count), positions)


@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _upsample_nearest(call: Call) -> Layout:
    count = int(call.name[-2])
    return _resized(call.layout, call.shape[-count:], _factors(call, count), _nearest)


@rule("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
def _upsample_nearest_exact(call: Call) -> Layout:
    count = int(call.name[-2])
    return _resized(call.layout, call.shape[-count:], _factors(call, count), _nearest_exact)
