"""Rules of the operators that mix entries: reductions, products of matrices, attention."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from respondcam.network.layout.digits import Dim, Layout
from respondcam.network.layout.joining import joined
from respondcam.network.layout.moves import contracted, without
from respondcam.network.layout.rules import Call, rule


def reduced(layout: Layout, dims: Sequence[int], *, keep: bool) -> Layout:
    """Layout after a sum, mean or maximum over dimensions.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> reduced(input_layout((1, 1, 5)), [2], keep=False).offset
    (Fraction(2, 1),)
    """
    places = sorted({index % len(layout.dims) for index in dims}, reverse=True)
    for index in places:
        layout = contracted(layout, index)
        if not keep:
            layout = without(layout, index)
    return layout


@rule("mean", "sum", "nansum", "amax", "amin", "max", "min", "var", "std", "var_mean", "std_mean")
@rule("prod", "logsumexp", "linalg_vector_norm", "norm", "any", "all", "argmax", "argmin")
@rule("median", "nanmedian", "aminmax", "count_nonzero", "mode")
def _reduction(call: Call) -> list[Layout] | Layout:
    if "other" in call.arguments:
        return elementwise(call)
    dims = call.get("dim")
    every = list(range(len(call.layout.dims)))
    dims = every if dims is None or dims == [] else dims
    dims = [dims] if isinstance(dims, int) else dims
    layout = reduced(call.layout, dims, keep=bool(call.get("keepdim", False)))
    return [layout, layout]


@rule("hardswish", "floor_divide", "rsub", "masked_fill", "masked_scatter", "prelu", "fill")
@rule("log_sigmoid_forward", "complex", "polar", "real", "imag", "__and__", "__or__", "__xor__")
def elementwise(call: Call) -> Layout:
    """Layout of an operator that works entry by entry on all its tensors.

    Examples
    --------
    >>> import torch
    >>> from respondcam.network.layout.digits import input_layout
    >>> x = torch.zeros(1, 1, 4)
    >>> elementwise(Call("relu", {"self": x}, x, lambda t: input_layout((1, 1, 4)))).shape
    (1, 1, 4)
    """
    layouts = [call.layout_of(value) for value in call.arguments.values()]
    return joined([layout for layout in layouts if layout is not None], call.shape)


@rule("glu")
def _glu(call: Call) -> Layout:
    index: int = call["dim"] % len(call.shape)
    return call.layout.with_dim(index, call.layout.plain(call.shape[index]))


@rule("_softmax", "_log_softmax", "softmax", "log_softmax", "_safe_softmax", "special_softmax")
def _softmax(call: Call) -> Layout:
    """Attention weights: what is summed over next is the keys, so only the queries are placed."""
    layout = call.layout
    index: int = call["dim"] % len(layout.dims)
    if not _repeats(layout, index, [d for i, d in enumerate(layout.dims) if i != index]):
        return layout
    return layout.with_dim(index, layout.plain(layout.dims[index].size))


def _repeats(layout: Layout, index: int, others: Sequence[Dim]) -> bool:
    """Whether a dimension walks along an axis that other dimensions walk along already."""
    for axis in range(layout.rank):
        own = [(abs(d.vector[axis]), d.size) for d in layout.dims[index].digits if d.size > 1]
        own = [(step, size) for step, size in own if step]
        rest = [(abs(d.vector[axis]), d.size) for dim in others for d in dim.digits if d.size > 1]
        rest = [(step, size) for step, size in rest if step]
        if own and rest:
            chain = sorted(own + rest, reverse=True)
            if any(a[0] < b[0] * b[1] for a, b in pairwise(chain)):
                return True
    return False


def _summed(layout: Layout, index: int, others: Sequence[Dim]) -> Layout:
    """Sum over one dimension, without a shift where others walk along the same axis."""
    if _repeats(layout, index, others):
        return layout.with_dim(index, Dim())
    return contracted(layout, index)


def product(a: Layout | None, b: Layout | None, shape: Sequence[int]) -> Layout:
    """Layout of ``a @ b``, matrices in the last two dimensions.

    Rows come from `a` and columns from `b`. Where both stand for positions it is attention of the
    rows (queries) to the columns (keys), and the place is that of the rows.

    Examples
    --------
    >>> from respondcam.network.layout.digits import input_layout
    >>> from respondcam.network.layout.moves import reshaped
    >>> tokens = reshaped(input_layout((1, 1, 4)), (4, 1))
    >>> product(tokens, None, (4, 8)).shape
    (4, 8)
    """
    if a is not None and b is not None and a.frame != b.frame:
        a, b = (a, None) if a.frame < b.frame else (None, b)
    rows = a is not None and any(dim.positional for dim in a.dims[:-1])
    columns = b is not None and (
        b.dims[-1].positional or any(dim.positional for dim in b.dims[:-2])
    )
    rank = len(shape)
    if a is not None and (rows or not columns):
        last = len(a.dims) - 1
        result = contracted(a, last) if b is None else _summed(a, last, a.dims[:-1])
        keys = b.dims[-1] if b is not None and b.dims[-1].positional else a.plain(shape[-1])
        result = result.with_dim(-1, keys)
    else:
        assert b is not None
        middle, free = len(b.dims) - 2, (*b.dims[:-2], b.dims[-1])
        result = contracted(b, middle) if a is None else _summed(b, middle, free)
        result = result.with_dim(-2, result.plain(shape[-2]))
    missing = rank - len(result.dims)
    return replace(result, dims=(*[Dim()] * missing, *result.dims)) if missing else result


@rule("mm", "bmm", "matmul")
def _matmul(call: Call) -> Layout:
    a, b = list(call.arguments.values())[:2]
    return product(call.layout_of(a), call.layout_of(b), call.shape)


@rule("addmm", "baddbmm", "addbmm")
def _addmm(call: Call) -> Layout:
    _, a, b = list(call.arguments.values())[:3]
    added = call.layout_of(call.first)
    a, b = call.layout_of(a), call.layout_of(b)
    if a is None and b is None:
        assert added is not None
        return joined([added], call.shape)
    both = product(a, b, call.shape)
    return both if added is None else joined([both, added], call.shape)


@rule("mv")
def _mv(call: Call) -> Layout:
    layout = call.layout
    return without(_summed(layout, 1, layout.dims[:1]), 1)


@rule("linear")
def _linear(call: Call) -> Layout:
    layout = call.layout
    last = len(layout.dims) - 1
    layout = contracted(layout, last)
    return layout.with_dim(last, layout.plain(call.shape[-1]))


@rule("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention")
@rule("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_cudnn_attention")
@rule("_scaled_dot_product_attention_math", "scaled_dot_product_attention")
@rule("_scaled_dot_product_fused_attention_overrideable", "_flash_attention_forward")
@rule("_efficient_attention_forward", "_scaled_dot_product_attention_math_for_mps")
@rule("_transformer_encoder_layer_fwd", "_native_multi_head_attention")
def _attention(call: Call) -> list[Layout | None]:
    layout = call.layout
    if layout.dims[-1].size != call.shape[-1]:
        layout = layout.with_dim(-1, layout.plain(call.shape[-1]))
    return [layout, *[None] * 9]
