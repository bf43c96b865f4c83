"""Rules of the operators that move along axes: convolution, pooling, resizing, padding."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from torch import Tensor

from respondcam.network.layout.digits import Digit, Dim, Layout, NoLayoutError
from respondcam.network.layout.moves import contracted, cut, resampled, reshaped, single
from respondcam.network.layout.rules import Call, rule, spatial


def windowed(
    layout: Layout,
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
) -> Layout:
    """Layout after a window slides over the last axes.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> windowed(input_layout((1, 1, 9)), [5], [3], [2], [1], [1]).offset
    (Fraction(0, 1),)
    """
    first = len(layout.dims) - len(sizes)
    for axis, size in enumerate(sizes):
        reach = Fraction(dilation[axis] * (kernel[axis] - 1), 2)
        layout = resampled(
            layout, first + axis, size, scale=stride[axis], shift=reach - pad[axis], reach=reach
        )
    return layout


def unwindowed(
    layout: Layout,
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
) -> Layout:
    """Layout after a transposed convolution along the last axes.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> unwindowed(input_layout((1, 1, 4)), [8], [2], [2], [0], [1]).offset
    (Fraction(-1, 4),)
    """
    first = len(layout.dims) - len(sizes)
    for axis, size in enumerate(sizes):
        half, step = Fraction(dilation[axis] * (kernel[axis] - 1), 2), stride[axis]
        layout = resampled(
            layout,
            first + axis,
            size,
            scale=Fraction(1, step),
            shift=(pad[axis] - half) / step,
            reach=half / step,
        )
    return layout


@rule("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution")
@rule("cudnn_convolution", "cudnn_convolution_transpose", "miopen_convolution")
def _convolution(call: Call) -> Layout:
    weight: Tensor = call.get("weight")
    count = weight.ndim - 2
    layout, shape = call.layout, call.shape
    if count != len(shape) - 2:
        raise NoLayoutError("a convolution without a batch")
    channels = len(shape) - count - 1
    depthwise = call.get("groups", 1) == layout.dims[channels].size == shape[channels]
    if not depthwise:
        layout = contracted(layout, channels)
        layout = layout.with_dim(channels, layout.plain(shape[channels]))
    transposed = call.get("transposed", "transpose" in call.name)
    return (unwindowed if transposed else windowed)(
        layout,
        shape[-count:],
        list(weight.shape[2:]),
        spatial(call["stride"], count, 1),
        spatial(call["padding"], count, 0),
        spatial(call["dilation"], count, 1),
    )


@rule(
    "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d"
)
@rule("max_pool1d", "max_pool2d", "max_pool3d", "mkldnn_max_pool2d", "mkldnn_max_pool3d")
def _pool(call: Call) -> list[Layout]:
    count = next(int(letter) for letter in call.name if letter.isdigit())
    kernel = spatial(call["kernel_size"], count)
    layout = windowed(
        call.layout,
        call.shape[-count:],
        kernel,
        spatial(call["stride"], count) if call["stride"] else kernel,
        spatial(call["padding"], count),
        spatial(call.get("dilation"), count, 1),
    )
    return [layout, layout]


@rule("constant_pad_nd", "pad", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
@rule("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _pad(call: Call) -> Layout:
    layout, padding = call.layout, call.get("pad", call.get("padding"))
    for place in range(len(padding) // 2):
        low, high = padding[2 * place : 2 * place + 2]
        index = len(layout.dims) - 1 - place
        if low or high:
            layout = _padded(layout, index, low, high)
    return layout


def _padded(layout: Layout, index: int, low: int, high: int) -> Layout:
    """Pad one dimension; a sequence of tokens gets entries without a position."""
    dim = layout.dims[index]
    crops = min(low, high) < 0
    try:
        padded = resampled(layout, index, dim.size + low + high, shift=-low)
        return cut(padded, dim) if crops else padded
    except NoLayoutError:
        if crops:
            raise
        return layout.with_dim(index, replace(dim, lead=dim.lead + low, trail=dim.trail + high))


@rule("roll")
def _roll(call: Call) -> Layout:
    layout = call.layout
    dims = call["dims"] or ([0] if len(layout.dims) == 1 else [])
    if len(dims) != len(call["shifts"]):
        raise NoLayoutError("a roll over all dimensions at once")
    for index, times in zip(dims, call["shifts"], strict=True):
        index %= len(layout.dims)
        before = layout
        layout = resampled(layout, index, layout.dims[index].size, shift=-times)
        turn = tuple(
            a - b for a, b in zip(layout.offset, single(before, index).offset, strict=True)
        )
        rolled = tuple(a + b for a, b in zip(layout.rolled, turn, strict=True))
        layout = replace(layout, rolled=rolled)
    return layout


@rule("flip")
def _flip(call: Call) -> Layout:
    layout = call.layout
    dims: Sequence[int] = call["dims"]
    for index in dims:
        digits: list[Digit] = []
        if layout.dims[index].ragged:
            layout = single(layout, index)
        for digit in layout.dims[index].digits:
            layout = layout.shifted(digit.vector, digit.size - 1)
            digits.append(replace(digit, vector=tuple(-component for component in digit.vector)))
        layout = layout.with_dim(index, Dim(tuple(digits)))
    return layout


@rule("unfold")
def _unfold(call: Call) -> Layout:
    index: int = call["dimension"] % len(call.layout.dims)
    layout = single(call.layout, index)
    digit = layout.dims[index].digits[0]
    step = tuple(component * call["step"] for component in digit.vector)
    layout = layout.with_dim(index, Dim((Digit(call.shape[index], step, digit.batch),)))
    return replace(layout, dims=(*layout.dims, Dim((Digit(call["size"], digit.vector),))))


@rule("pixel_shuffle")
def _pixel_shuffle(call: Call) -> Layout:
    factor = call["upscale_factor"]
    layout = contracted(call.layout, -3)
    layout = layout.with_dim(-3, layout.plain(call.shape[-3]))
    kernel = [factor, factor]
    return unwindowed(layout, call.shape[-2:], kernel, kernel, [0, 0], [1, 1])


@rule("pixel_unshuffle")
def _pixel_unshuffle(call: Call) -> Layout:
    factor = call["downscale_factor"]
    layout = call.layout
    channels = layout.dims[-3].digits
    parts: list[Digit] = []
    for index in (-2, -1):
        layout = single(layout, index)
        digit = layout.dims[index].digits[0]
        parts.append(Digit(factor, digit.vector))
        outer = tuple(component * factor for component in digit.vector)
        layout = layout.with_dim(index, Dim((Digit(call.shape[index], outer, digit.batch),)))
    return layout.with_dim(-3, Dim((*channels, *parts)))


@rule("im2col")
def _im2col(call: Call) -> Layout:
    layout = call.layout
    if len(layout.dims) != 4:
        raise NoLayoutError("an unfolding without a batch")
    inner, outer = list(layout.dims[1].digits), list[Digit]()
    for axis in (0, 1):
        layout = single(layout, 2 + axis)
        digit = layout.dims[2 + axis].digits[0]
        size, step = call["kernel_size"][axis], call["stride"][axis]
        reach, pad = call["dilation"][axis], call["padding"][axis]
        count = (digit.size + 2 * pad - reach * (size - 1) - 1) // step + 1
        layout = layout.shifted(digit.vector, -pad)
        inner.append(Digit(size, tuple(c * reach for c in digit.vector)))
        outer.append(Digit(count, tuple(c * step for c in digit.vector)))
    return replace(layout, dims=(layout.dims[0], Dim(tuple(inner)), Dim(tuple(outer))))


@rule("col2im")
def _col2im(call: Call) -> Layout:
    layout, sizes = call.layout, list(call["output_size"])
    if len(layout.dims) != 3:
        raise NoLayoutError("a folding without a batch")
    kernel, step = list(call["kernel_size"]), list(call["stride"])
    pad, reach = list(call["padding"]), list(call["dilation"])
    counts = [
        (sizes[axis] + 2 * pad[axis] - reach[axis] * (kernel[axis] - 1) - 1) // step[axis] + 1
        for axis in (0, 1)
    ]
    layout = contracted(layout, 1)
    layout = layout.with_dim(1, layout.plain(call.shape[1]))
    layout = reshaped(layout, (*layout.shape[:2], *counts))
    return unwindowed(layout, sizes, kernel, step, pad, reach)
