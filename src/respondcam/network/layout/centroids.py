"""Where a layer's voxels look, measured: centroids of squared gradients.

The squared gradient of a grid voxel with respect to the input is its effective receptive field. Its
centroid is taken in a window that is symmetric about the centroid itself and ends at the nearer
border, since layers that mix globally (instance norm, attention) add a faint even background, which
would pull a plain centroid to the middle of the input. Squares, for the same reason.
"""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.errors import LayerError
from respondcam.network.calling import call_model
from respondcam.network.grid import LayerGrid
from respondcam.network.hooks import hook_after
from respondcam.network.layout.axes import GridAxes, to_grid
from respondcam.network.layout.protect import untouched
from respondcam.network.taps import GradModeShim, set_grad, spatial_tensor
from respondcam.network.trees import is_float, map_tensors, plain, private_copy, tensors

_ROUNDS = 100
_SETTLED = 1e-3
_COMPACT = 0.9  # share of an energy in half of the axis, where it lies together
_FEW = 0.2  # of the voxels may look elsewhere
_SPREAD = 2 / 3  # where less than this lies in the nearer half of an axis, there is no place


@dataclass(frozen=True)
class Probe:
    """Which output of which layer is looked at, and with respect to which input.

    Parameters
    ----------
    model, layer
        The network and its layer.
    inputs
        As the model takes them; the values matter.
    axes
        How the layer's output is read as (batch, channel, *grid).
    call
        ``call(model, inputs)`` runs the model.
    number
        Which of the layer's calls, counted from 0.
    input
        Which of the tensors among the inputs, counted from 0.
    """

    model: nn.Module
    layer: nn.Module
    inputs: Any
    axes: GridAxes
    call: Any = call_model
    number: int = 0
    input: int = 0


class _ReachedError(BaseException):  # not an Exception: `call_model` words those
    """Ends the forward pass at the layer: what comes after it does not matter."""


def receptive_energy(
    probe: Probe, voxels: Sequence[tuple[int, ...]]
) -> list[list[Float[Tensor, "batch size"]]]:
    """Squared gradient of grid voxels, summed over channels and all axes but one.

    Channels of a voxel are combined with random signs, so that the expected square is the sum of
    the channels' squares.

    Returns
    -------
    list
        For each voxel, for each axis of the input: (batch, size), float64.

    Raises
    ------
    LayerError
        If the layer's output has no gradient with respect to the input.

    Examples
    --------
    >>> from respondcam.network.layout.axes import plain_axes
    >>> layer = nn.Conv1d(1, 1, 3, stride=2, padding=1)
    >>> probe = Probe(layer, layer, torch.zeros(1, 1, 9), plain_axes(1, (5,)))
    >>> (receptive_energy(probe, [(2,)])[0][0] > 0).nonzero()[:, 1].tolist()
    [3, 4, 5]
    """
    with untouched(probe.model, real=True):
        image, activation = _forward(probe)
        grid = to_grid(activation, probe.axes)
        chance = torch.Generator().manual_seed(0)
        found: list[list[Tensor]] = []
        for number, voxel in enumerate(voxels):
            signs = torch.randint(0, 2, grid.shape[:2], generator=chance) * 2.0 - 1
            here = grid[(slice(None), slice(None), *voxel)]
            score = (here.float() * signs.to(grid.device)).sum()
            more = number + 1 < len(voxels)
            (slope,) = torch.autograd.grad(score, image, retain_graph=more, allow_unused=True)
            if slope is None:  # pyright: ignore[reportUnnecessaryComparison]
                raise LayerError("The layer's output has no gradient with respect to the input.")
            found.append(_marginals(slope))
        return found


def _forward(probe: Probe) -> tuple[Tensor, Tensor]:
    """Run up to the layer, and return the input that gradients refer to and the layer's output."""
    copies = map_tensors(lambda tensor: plain(private_copy(tensor)), probe.inputs)
    image = list(tensors(copies))[probe.input]
    if not is_float(image):
        raise LayerError(f"The input is {image.dtype}, which has no gradient.")
    image.requires_grad_(True)
    reached: list[Tensor] = []

    def hook(module: nn.Module, args: Any, output: Any) -> None:
        chosen = spatial_tensor(output)
        if chosen is not None:
            reached.append(chosen)
            if len(reached) > probe.number:
                raise _ReachedError

    with contextlib.ExitStack() as stack, contextlib.suppress(_ReachedError):
        hook_after(stack, probe.layer, hook)
        set_grad(True)
        with GradModeShim():
            # an operation in place must not hit a leaf
            probe.call(probe.model, map_tensors(lambda tensor: tensor.clone(), copies))
    if len(reached) <= probe.number:
        raise LayerError(f"The layer was called {len(reached)} times in the forward pass.")
    if not reached[-1].requires_grad:
        raise LayerError("The layer's output has no gradient with respect to the input.")
    return image, reached[-1]


def _marginals(slope: Tensor) -> list[Tensor]:
    energy = slope.detach().abs().to("cpu", torch.float64).square().sum(dim=1)
    axes = range(1, energy.ndim)
    return [energy.sum(dim=[a for a in axes if a != axis]) if energy.ndim > 2 else energy
            for axis in axes]  # fmt: skip


def centroid(energy: Float[Tensor, " size"], start: float) -> float | None:
    """Centroid in a window that is symmetric about it and reaches to the nearer border.

    Parameters
    ----------
    energy
        Not negative.
    start
        Where to look first.

    Returns
    -------
    float or None
        None if there is nothing, or if it lies too close to the border to tell.

    Examples
    --------
    >>> centroid(torch.tensor([0.0, 1, 2, 1, 0, 0], dtype=torch.float64), 2.5)
    2.0
    """
    size, places = len(energy), torch.arange(len(energy), dtype=torch.float64)
    centre = min(max(start, 0.0), size - 1.0)
    for _ in range(_ROUNDS):
        half = min(centre, size - 1 - centre) + 0.5
        inside = (half + 0.5 - (places - centre).abs()).clamp(0, 1) * energy
        total = float(inside.sum())
        if half < 1 or not total > 0:
            return None
        moved = float((inside * places).sum()) / total
        if abs(moved - centre) < _SETTLED:
            return moved
        centre = moved
    return centre


def nearby(energy: Float[Tensor, " size"], centre: float) -> float:
    """Share of the energy in the half of the axis that lies nearest to a place.

    Examples
    --------
    >>> nearby(torch.tensor([0.0, 1, 2, 1, 0, 0], dtype=torch.float64), 2.0)
    1.0
    >>> nearby(torch.ones(6, dtype=torch.float64), 1.0)
    0.5
    """
    size, places = len(energy), torch.arange(len(energy), dtype=torch.float64)
    half = size / 4
    centre = min(max(centre, half - 0.5), size - 0.5 - half)
    inside = (half + 0.5 - (places - centre).abs()).clamp(0, 1) * energy
    return float(inside.sum() / energy.sum())


def central_voxels(grid: LayerGrid) -> list[tuple[int, ...]]:
    """Return the voxel nearest to the middle of the input, and its neighbours along every axis.

    Examples
    --------
    >>> central_voxels(LayerGrid((2.0,), (0.0,), (5,), (9,), (0.0,), "layout"))
    [(2,), (1,), (3,)]
    """
    middle: list[int] = []
    for axis, size in enumerate(grid.input_shape):
        centres = grid.centres(axis)
        middle.append(min(range(len(centres)), key=lambda i: abs(centres[i] - (size - 1) / 2)))
    voxels: list[tuple[int, ...]] = [tuple(middle)]
    for axis, count in enumerate(grid.shape):
        for step in (-1, 1):
            if 0 <= middle[axis] + step < count:
                moved = [place + step * (a == axis) for a, place in enumerate(middle)]
                voxels.append(tuple(moved))
    return voxels


def offsets_seen(probe: Probe, grid: LayerGrid) -> list[list[float]]:
    """Offsets that central voxels suggest, one list per axis, with the grid's own strides.

    Examples
    --------
    >>> from respondcam.network.layout.axes import plain_axes
    >>> layer = nn.Conv1d(1, 1, 3, stride=2, padding=1, bias=False)
    >>> _ = nn.init.ones_(layer.weight)
    >>> grid = LayerGrid((2.0,), (0.5,), (5,), (9,), (0.0,), "even")
    >>> offsets_seen(Probe(layer, layer, torch.zeros(1, 1, 9), plain_axes(1, (5,))), grid)
    [[0.0, 0.0, 0.0]]
    """
    voxels = central_voxels(grid)
    seen: list[list[float]] = [[] for _ in grid.shape]
    for voxel, marginals in zip(voxels, receptive_energy(probe, voxels), strict=True):
        for axis, energies in enumerate(marginals):
            expected = grid.offset[axis] + grid.stride[axis] * voxel[axis]
            for energy in energies:
                found = centroid(energy, expected)
                if found is not None:
                    seen[axis].append(found - grid.stride[axis] * voxel[axis])
    return seen


def spread(values: Sequence[float]) -> float:
    """Median distance from the median.

    Examples
    --------
    >>> spread([1.0, 2.0, 4.0])
    1.0
    """
    middle = median(values)
    return median(abs(value - middle) for value in values)


def estimated(probe: Probe, even: LayerGrid, reason: str) -> LayerGrid | None:
    """Grid whose strides and offsets are both estimated from gradients.

    Along each axis the centroids of up to nine voxels across the grid are fitted by a line that
    outliers do not move (Theil and Sen: median of the slopes between all pairs). The uncertainty is
    the largest distance of one of them from the line. Along an axis with a single voxel the stride
    is what that voxel looks at.

    Parameters
    ----------
    probe
        The layer.
    even
        Grid that spans the input evenly, where the search starts.
    reason
        Why the layout does not tell; it becomes part of the note.

    Returns
    -------
    LayerGrid or None
        None where the centroids do not form a grid (parts that changed places, say, or samples
        that look at different places), or where voxels look at the whole input: on an even spread
        a centroid stays wherever it is looked for.

    Examples
    --------
    >>> from respondcam.network.layout.axes import even_grid, plain_axes
    >>> layer = nn.Conv1d(1, 1, 3, stride=2, padding=1, bias=False)
    >>> _ = nn.init.ones_(layer.weight)
    >>> probe = Probe(layer, layer, torch.zeros(1, 1, 21), plain_axes(1, (11,)))
    >>> estimated(probe, even_grid((11,), (21,), ""), "for a test").offset
    (0.0,)
    """
    middle = central_voxels(even)[0]
    lines: list[tuple[float, float, float]] = []
    for axis, count in enumerate(even.shape):
        places = sorted({round(k * (count - 1) / 8) for k in range(9)})
        voxels = [(*middle[:axis], place, *middle[axis + 1 :]) for place in places]
        points: list[tuple[int, float]] = []
        plainly: list[tuple[int, float]] = []
        shares: list[float] = []
        seen: list[int] = []
        for place, marginals in zip(places, receptive_energy(probe, voxels), strict=True):
            expected = even.offset[axis] + even.stride[axis] * place
            for energy in marginals[axis]:
                seen.extend(n for n, value in enumerate(energy) if float(value) > 0)
                value = centroid(energy, expected)
                if value is not None:
                    points.append((place, value))
                    shares.append(nearby(energy, value))
                if (middle_of := _compact(energy)) is not None:
                    plainly.append((place, middle_of))
        line = _line(points, even.stride[axis])
        if count == 1 and seen and max(seen) - min(seen) + 1 < even.stride[axis]:
            line = _part(min(seen), max(seen), line)
        if line is None or (count > 1 and median(shares) < _SPREAD):
            return None
        if _strays(plainly, line) > _FEW:
            return None
        lines.append(line)
    return LayerGrid(
        stride=tuple(stride for stride, _, _ in lines),
        offset=tuple(offset for _, offset, _ in lines),
        shape=even.shape,
        input_shape=even.input_shape,
        uncertainty=tuple(slack for _, _, slack in lines),
        origin="measured",
        note=f"estimated from gradients, since {reason}",
    )


def _line(
    points: Sequence[tuple[int, float]], expected: float
) -> tuple[float, float, float] | None:
    """Slope, intercept and scatter of centroids against voxel numbers; None if it is no line."""
    slopes = [(b - a) / (j - i) for i, a in points for j, b in points if j > i]
    if not points:
        return None
    slope = median(slopes) if slopes else expected
    offset = median(value - slope * place for place, value in points)
    distances = [abs(value - slope * place - offset) for place, value in points]
    plausible = 0.5 * expected < slope < 2 * expected and median(distances) < max(slope, 1.0)
    return (slope, offset, max(distances)) if plausible and math.isfinite(offset) else None


def _part(
    first: int, last: int, line: tuple[float, float, float] | None
) -> tuple[float, float, float]:
    """Stride, offset and scatter of a single voxel that looks at a part of the axis.

    It spans that part, and lies in its middle where the border is too close for a centroid.
    """
    _, offset, scatter = line or (0.0, (first + last) / 2, 0.0)
    return float(last - first + 1), offset, scatter


def _compact(energy: Float[Tensor, " size"]) -> float | None:
    """Mean place of an energy that lies together, wherever that is; None for any other."""
    total = float(energy.sum())
    if not total > 0:
        return None
    middle = float((energy * torch.arange(len(energy), dtype=torch.float64)).sum()) / total
    return middle if nearby(energy, middle) > _COMPACT else None


def _strays(points: Sequence[tuple[int, float]], line: tuple[float, float, float]) -> float:
    """Share of voxels that look at some other place than the line says."""
    slope, offset, _ = line
    away = [abs(value - slope * place - offset) > 1.5 * max(slope, 1.0) for place, value in points]
    return sum(away) / len(away) if away else 0.0
