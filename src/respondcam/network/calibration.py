"""A layer's grid calibrated on where the trained network looks.

The layout gives the centre of the region that a grid voxel can depend on. A trained network need
not look at that centre: its weights weigh one side of the region more, and training pulls the
voxels next to the border inwards. The centroid of the squared gradients of grid voxels with respect
to the input is the centre of what they do depend on (the effective receptive field: Luo, Li,
Urtasun and Zemel, NeurIPS 2016, arXiv:1701.04128), for the images that are given. No labels are
needed.

It corrects the offset, one per axis. The stride stays that of the architecture. It makes no claim
about single voxels, and none about the class: only about where the layer's voxels look on average.
With fewer than about five voxels along an axis it is often no better than the layout.
"""

from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

from torch import Tensor, nn

from respondcam._warnings import warn
from respondcam.errors import LayerError, PlacementWarning
from respondcam.network.calling import call_model, unwrap
from respondcam.network.grid import LayerGrid
from respondcam.network.layout.axes import GridAxes
from respondcam.network.layout.centroids import Probe, offsets_seen, spread
from respondcam.network.layout.trace import trace_layers
from respondcam.network.trees import tensors

AXIS_ORDER = "(z, y, x)"
"""As it stands in the note of a grid with three axes."""


def measure_grid(
    model: nn.Module,
    layer: nn.Module,
    inputs: Any,
    grid: LayerGrid,
    *,
    axes: GridAxes | None = None,
    call: Callable[[nn.Module, Any], Any] = call_model,
    number: int = 0,
) -> LayerGrid:
    """Calibrate the offset of a layer's grid on the network's gradients.

    For the grid voxel in the middle of the input and its neighbours along every axis, and for every
    sample, the squared gradient with respect to the input is summed over channels, and its centroid
    is taken in a window that is symmetric about the centroid. The offset is the median over voxels
    and samples of centroid minus stride times voxel number. It takes one forward pass up to the
    layer with a graph, and 2 n + 1 backward passes for n axes.

    Parameters
    ----------
    model, layer
        The network and the layer; left exactly as they were.
    inputs
        As the model takes them. Several typical images make the offset steadier.
    grid
        The layer's grid from the layout; strides and shapes are taken from it.
    axes
        How the layer's output is read as (batch, channel, *grid); traced unless given.
    call
        ``call(model, inputs)`` runs the model.
    number
        Which of the layer's calls, counted from 0.

    Returns
    -------
    LayerGrid
        With `origin` ``"measured"``. Its `uncertainty` is the median distance of the single
        measurements from the offset.

    Raises
    ------
    LayerError
        If the layer is not called, or its output has no gradient with respect to the input.

    Warns
    -----
    PlacementWarning
        If no voxel's gradient can be located along an axis (all are zero, say, behind a ReLU): the
        grid's own offset is kept there.

    Examples
    --------
    >>> import torch
    >>> layer = nn.Conv1d(1, 1, 3, stride=2, padding=1, bias=False)
    >>> with torch.no_grad():
    ...     _ = layer.weight.copy_(torch.tensor([[[0.0, 0.0, 1.0]]]))  # looks to the right only
    >>> grid = LayerGrid((2.0,), (0.0,), (5,), (9,), (0.0,), "layout")
    >>> measure_grid(layer, layer, torch.zeros(1, 1, 9), grid).offset
    (1.0,)
    """
    model = unwrap(model)
    if axes is None:
        traced = trace_layers(model, {"layer": layer}, inputs).get("layer")
        axes = traced.calls[number].axes if traced and len(traced.calls) > number else None
        if axes is None:
            raise LayerError("The layer has no grid that could be calibrated.")
    probe = Probe(model, layer, inputs, axes, call, number, _aligned(inputs, grid))
    seen = offsets_seen(probe, grid)
    offset, slack = list(grid.offset), list(grid.uncertainty)
    blind: list[int] = []
    for axis, values in enumerate(seen):
        if values:
            offset[axis], slack[axis] = median(values), spread(values)
        else:
            blind.append(axis)
    if blind:
        warn(
            f"The gradients of the layer's central voxels cannot be located along axes {blind}; "
            f"the architecture's offset is kept there. Try other or more images.",
            PlacementWarning,
        )
    shift = ", ".join(f"{b - a:+.2f}" for a, b in zip(grid.offset, offset, strict=True))
    count = min((len(values) for values in seen if values), default=0)
    axes_words = f" {AXIS_ORDER}" if len(seen) == 3 else ""
    note = (
        f"the map was moved by {shift} voxels{axes_words} against the layout, measured on the "
        f"gradients of at least {count} voxels per axis"
    )
    return replace(
        grid,
        offset=tuple(offset),
        uncertainty=tuple(slack),
        origin="measured",
        note="; ".join(text for text in (grid.note, note) if text),
    )


def _aligned(inputs: Any, grid: LayerGrid) -> int:
    """Return the number of the first tensor with the spatial shape that the grid refers to."""
    found: list[Tensor] = list(tensors(inputs))
    for number, tensor in enumerate(found):
        sizes = list(tensor.shape[1:])
        for channel in range(len(sizes)):
            if tuple(sizes[:channel] + sizes[channel + 1 :]) == tuple(grid.input_shape):
                return number
    shapes = [tuple(tensor.shape) for tensor in found]
    raise LayerError(
        f"The grid is for an input of {tuple(grid.input_shape)} voxels, but the inputs have the "
        f"shapes {shapes}. Measure with inputs of the shape that the grid was traced for."
    )
