"""Rules of the operators that regroup entries: views, permutations, slices, concatenations."""

from collections.abc import Sequence
from dataclasses import replace

from respondcam.network.layout.concatenating import concatenated
from respondcam.network.layout.digits import Digit, Dim, Family, Layout, NoLayoutError, zero
from respondcam.network.layout.moves import (
    contracted,
    cut,
    resampled,
    reshaped,
    single,
    without,
)
from respondcam.network.layout.rules import Call, is_tensor, rule


@rule("clone", "contiguous", "detach", "alias", "lift", "lift_fresh", "_to_copy", "dropout")
@rule("bernoulli", "cumsum", "cumprod", "logcumsumexp", "rrelu_with_noise", "_prelu_kernel")
@rule("triu", "tril", "renorm", "channel_shuffle", "fake_quantize_per_tensor_affine_cachemask")
@rule("fake_quantize_per_channel_affine_cachemask", "_conj", "_fused_dropout")
def _unchanged(call: Call) -> list[Layout]:
    return [call.layout, call.layout]


@rule("native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training")
@rule("cudnn_batch_norm", "miopen_batch_norm", "_batch_norm_with_update", "_batch_norm_no_update")
@rule("native_layer_norm", "native_group_norm", "_fused_rms_norm", "native_dropout")
def _normalised(call: Call) -> list[Layout | None]:
    return [call.layout, None, None, None, None]


@rule("view", "_unsafe_view", "reshape", "_reshape_alias", "unsqueeze", "flatten", "unflatten")
@rule("squeeze", "_reshape_copy")
def _view(call: Call) -> Layout:
    return reshaped(call.layout, call.shape)


@rule("as_strided")
def _as_strided(call: Call) -> Layout:
    source, result = call.first, call.result
    whole = source.is_contiguous() and result.is_contiguous()
    if whole and source.numel() == result.numel() and not call.get("storage_offset"):
        return reshaped(call.layout, call.shape)
    raise NoLayoutError("as_strided")


@rule("permute")
def _permute(call: Call) -> Layout:
    layout = call.layout
    order: Sequence[int] = call["dims"]
    return replace(layout, dims=tuple(layout.dims[index] for index in order))


@rule("transpose", "swapaxes")
def _transpose(call: Call) -> Layout:
    layout = call.layout
    order = list(range(len(layout.dims)))
    a, b = call.get("dim0", 0), call.get("dim1", 1)
    order[a], order[b] = order[b], order[a]
    return replace(layout, dims=tuple(layout.dims[index] for index in order))


@rule("t")
def _t(call: Call) -> Layout:
    return replace(call.layout, dims=tuple(reversed(call.layout.dims)))


@rule("expand", "expand_as", "broadcast_to")
def _expand(call: Call) -> Layout:
    return _expanded(call.layout, call.shape)


def _expanded(layout: Layout, shape: Sequence[int]) -> Layout:
    dims = [Dim()] * (len(shape) - len(layout.dims)) + list(layout.dims)
    layout = replace(layout, dims=tuple(dims))
    for index, size in enumerate(shape):
        if dims[index].size != size:
            batch = index == 0 and any(digit.batch for digit in dims[index].digits)
            layout = layout.with_dim(index, Dim((Digit(size, zero(layout.rank), batch),)))
    return layout


@rule("copy")
def _copy(call: Call) -> Layout:
    source = call.layout_of(call["src"])
    return call.layout if source is None else _expanded(source, call.shape)


@rule("repeat", "tile")
def _repeat(call: Call) -> Layout:
    layout, repeats = call.layout, list(call.get("repeats", call.get("dims")))
    dims = [Dim()] * (len(repeats) - len(layout.dims)) + list(layout.dims)
    for index, times in enumerate(repeats):
        if times == 1:
            continue
        if dims[index].ragged:
            raise NoLayoutError("a repetition of tokens")
        dims[index] = Dim((Digit(times, zero(layout.rank)), *dims[index].digits))
    return replace(layout, dims=tuple(dims))


@rule("slice")
def _slice(call: Call) -> Layout:
    layout = call.layout
    index: int = call.get("dim", 0) % len(layout.dims)
    start, _, step = slice(call["start"], call["end"], call["step"]).indices(
        layout.dims[index].size
    )
    return sliced(layout, index, start, step, call.shape[index])


def sliced(layout: Layout, index: int, start: int, step: int, size: int) -> Layout:
    """Layout of ``tensor[start : start + step * size : step]`` along one dimension.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> sliced(input_layout((1, 1, 8)), 2, 1, 2, 4).offset
    (Fraction(1, 1),)
    """
    dim = layout.dims[index]
    if size == dim.size:
        return layout
    if dim.ragged and step == 1:
        return _sliced_tokens(layout, index, start, size)
    if not dim.positional:
        batch = any(digit.batch for digit in dim.digits)
        return layout.with_dim(index, Dim((Digit(size, zero(layout.rank), batch),)))
    try:
        taken = resampled(layout, index, size, scale=step, shift=start)
    except NoLayoutError:
        return cut(_sliced_outer(layout, index, start, step, size), dim)
    if step > 1 or layout.family:
        taken = replace(taken, family=_family(layout, taken, index))
    return cut(taken, dim)


def _family(parent: Layout, taken: Layout, index: int) -> Family:
    if parent.family is None:
        token = (parent.offset, parent.dims, parent.radius)
        return Family(token, taken.offset, taken.offset)
    moved = [b - a for a, b in zip(single(parent, index).offset, taken.offset, strict=True)]
    low = tuple(a + b for a, b in zip(parent.family.low, moved, strict=True))
    high = tuple(a + b for a, b in zip(parent.family.high, moved, strict=True))
    return Family(parent.family.token, low, high)


def _sliced_tokens(layout: Layout, index: int, start: int, size: int) -> Layout:
    """Slice a dimension with entries without a position at its ends."""
    dim = layout.dims[index]
    stop, first, last = start + size, dim.lead, dim.lead + dim.inner
    if start <= first and stop >= last:
        kept = replace(dim, lead=first - start, trail=stop - last)
        return layout.with_dim(index, kept)
    if stop <= first or start >= last:  # only the tokens: they look at everything
        layout = contracted(layout, index)
        return layout.with_dim(index, layout.plain(size))
    layout = layout.with_dim(index, Dim(dim.digits))
    low, high = max(start - first, 0), min(stop, last) - first
    layout = sliced(layout, index, low, 1, high - low)
    kept = replace(layout.dims[index], lead=max(first - start, 0), trail=max(stop - last, 0))
    return layout.with_dim(index, kept)


def _sliced_outer(layout: Layout, index: int, start: int, step: int, size: int) -> Layout:
    """Slice whole blocks of the most significant digit."""
    digits = layout.dims[index].digits
    outer, rest = digits[0], Dim(digits[1:])
    if step != 1 or start % rest.size or size % rest.size:
        raise NoLayoutError("a slice that cuts through several axes")
    layout = layout.shifted(outer.vector, start // rest.size)
    kept = Dim((replace(outer, size=size // rest.size), *rest.digits))
    return layout.with_dim(index, kept)


def selected(layout: Layout, index: int, place: int) -> Layout:
    """Layout of ``tensor.select(index, place)``.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> selected(input_layout((1, 1, 8)), 2, 3).offset
    (Fraction(3, 1),)
    """
    index %= len(layout.dims)
    dim = layout.dims[index]
    place = place % dim.size - dim.lead
    if not 0 <= place < dim.inner:
        return without(contracted(layout, index), index)
    family = layout.family
    for digit in reversed(dim.digits):
        layout = layout.shifted(digit.vector, place % digit.size)
        place //= digit.size
    layout = cut(without(layout, index), dim)
    return layout if dim.positional else replace(layout, family=family)


@rule("select")
def _select(call: Call) -> Layout:
    return selected(call.layout, call["dim"], call["index"])


@rule("unbind")
def _unbind(call: Call) -> list[Layout]:
    return [selected(call.layout, call["dim"], place) for place in range(len(call.result))]


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
@rule("unsafe_split_with_sizes")
def _split(call: Call) -> list[Layout]:
    layout, index = call.layout, call["dim"] % len(call.layout.dims)
    parts: list[Layout] = []
    start = 0
    for part in call.result:
        parts.append(sliced(layout, index, start, 1, part.shape[index]))
        start += part.shape[index]
    return parts


@rule("cat", "concat", "concatenate")
def _cat(call: Call) -> Layout:
    index = call["dim"] % len(call.shape)
    tensors = [t for t in call["tensors"] if t.ndim == len(call.shape) and t.shape[index]]
    parts = [call.layout_of(tensor) for tensor in tensors]
    return concatenated(
        [p if p is not None else t.shape[index] for p, t in zip(parts, tensors, strict=True)],
        index,
        call.shape,
    )


@rule("stack")
def _stack(call: Call) -> Layout:
    index = call["dim"] % len(call.shape)
    parts: list[Layout | int] = []
    for tensor in call["tensors"]:
        layout = call.layout_of(tensor)
        if layout is None:
            parts.append(1)
            continue
        dims = (*layout.dims[:index], Dim(), *layout.dims[index:])
        parts.append(replace(layout, dims=dims))
    return concatenated(parts, index, call.shape)


@rule("index_select")
def _index_select(call: Call) -> Layout:
    index: int = call["dim"]
    return _picked(call.layout, index, call.shape[index])


def _picked(layout: Layout, index: int, size: int) -> Layout:
    dim = layout.dims[index]
    if dim.positional or dim.ragged:
        raise NoLayoutError("entries picked along an axis by an index tensor")
    batch = any(digit.batch for digit in dim.digits)
    return layout.with_dim(index, Dim((Digit(size, zero(layout.rank), batch),)))


@rule("index", "_unsafe_index")
def _index(call: Call) -> Layout:
    layout, picks = call.layout, call["indices"]
    used = [place for place, pick in enumerate(picks) if pick is not None]
    if len(used) == 1 and is_tensor(picks[used[0]]) and picks[used[0]].ndim == 1:
        return _picked(layout, used[0], call.shape[used[0]])
    raise NoLayoutError("entries picked by index tensors")


@rule("embedding")
def _embedding(call: Call) -> Layout:
    layout = call.layout_of(call["indices"])
    if layout is None:
        raise NoLayoutError("a table of vectors that depends on the input")
    return replace(layout, dims=(*layout.dims, layout.plain(call.shape[-1])))


@rule("topk", "sort", "kthvalue")
def _sorted(call: Call) -> list[Layout]:
    layout = call.layout
    index: int = call["dim"] % len(layout.dims)
    if layout.dims[index].positional:
        layout = contracted(layout, index)
    return [layout.with_dim(index, layout.plain(call.shape[index]))] * 2


@rule("view_as_real")
def _as_real(call: Call) -> Layout:
    return replace(call.layout, dims=(*call.layout.dims, call.layout.plain(2)))


@rule("view_as_complex")
def _as_complex(call: Call) -> Layout:
    return without(contracted(call.layout, -1), -1)
