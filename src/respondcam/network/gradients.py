"""Gradients of several scores at several layers, batched where the operators allow it."""

from collections.abc import Iterator

import torch
from torch import Tensor

from respondcam.network.trees import plain

# How large the gradients of one batched backward pass may get.
_BATCHED_BYTES = 64 * 2**20
# float16 underflows below 6e-8, and a mean over a grid divides by thousands.
_FP16_SCALE = 2.0**14


def full_precision(*values: Tensor) -> tuple[Tensor, ...]:
    """Half-precision tensors as float32: sums over a map need it."""
    half = (torch.float16, torch.bfloat16)
    return tuple(v.float() if v.dtype in half else v for v in values)


def gradients_of(
    scores: Tensor, leaves: list[Tensor], *, create_graph: bool
) -> Iterator[tuple[Tensor, ...]]:
    """Yield, target by target, the gradient of its score at each leaf."""
    # Samples do not influence each other, so the sum over the batch keeps them apart.
    half = any(leaf.dtype == torch.float16 for leaf in leaves)
    with torch.enable_grad():
        totals = scores.float().sum(dim=0) if half else scores.sum(dim=0)
    count = int(totals.numel())
    largest = sum(leaf.numel() * leaf.element_size() for leaf in leaves)
    chunk = 1 if create_graph else max(1, min(count, _BATCHED_BYTES // max(1, largest)))
    for start in range(0, count, chunk):
        width = min(chunk, count - start)
        seeds = torch.zeros(width, count, dtype=totals.dtype, device=totals.device)
        seeds[torch.arange(width), torch.arange(start, start + width)] = 1
        last = start + width == count
        with torch.set_grad_enabled(create_graph):  # a generator must not yield inside of this
            stacks = _seeded(totals, leaves, seeds, half=half, last=last, create_graph=create_graph)
            found = list(zip(*(stack.unbind() for stack in stacks), strict=True))
        yield from found


def _seeded(
    totals: Tensor,
    leaves: list[Tensor],
    seeds: Tensor,
    *,
    half: bool,
    last: bool,
    create_graph: bool,
) -> list[Tensor]:
    """Gradients (seed, *leaf) for each leaf; float16 is scaled up so that nothing underflows."""
    scale = _FP16_SCALE if half else 1.0
    while True:
        keep = (not last) or (scale > 1.0)
        found = _vector_jacobian(
            totals, leaves, seeds * scale, keep=keep, create_graph=create_graph
        )
        if scale <= 1.0 or all(bool(torch.isfinite(g).all()) for g in found):
            break
        scale /= 2.0**4
    return [g.float() / scale for g in found] if half else found


def _vector_jacobian(
    totals: Tensor, leaves: list[Tensor], seeds: Tensor, *, keep: bool, create_graph: bool
) -> list[Tensor]:
    options = {"allow_unused": True, "create_graph": create_graph}
    if len(seeds) > 1:
        try:
            batched = torch.autograd.grad(
                totals, leaves, seeds, retain_graph=True, is_grads_batched=True, **options
            )
            return [_filled(g, leaf, len(seeds)) for g, leaf in zip(batched, leaves, strict=True)]
        except torch.OutOfMemoryError:
            pass  # one at a time needs less
        except Exception:
            pass  # an operator without a batching rule, or one of the network's own that trips
    rows: list[list[Tensor]] = []
    for i, seed in enumerate(seeds):
        retain = keep or create_graph or i + 1 < len(seeds)
        row = torch.autograd.grad(totals, leaves, seed, retain_graph=retain, **options)
        rows.append([_filled(g, leaf) for g, leaf in zip(row, leaves, strict=True)])
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def _filled(gradient: Tensor | None, leaf: Tensor, count: int | None = None) -> Tensor:
    """A call of a layer that does not reach the score has gradient zero."""
    if gradient is None:
        shape = leaf.shape if count is None else (count, *leaf.shape)
        return torch.zeros(shape, dtype=leaf.dtype, device=leaf.device)
    return plain(gradient)
