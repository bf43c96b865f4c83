"""The preflight table: every layer that could be explained, and the one that would be."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from respondcam.errors import LayerError, PlacementWarning
from respondcam.network.calling import scattered, unwrap
from respondcam.network.choice import chosen_layer
from respondcam.network.failures import refuse_without_values
from respondcam.network.grid import LayerGrid
from respondcam.network.layout import LayerTrace, trace_layers
from respondcam.network.survey import SurveyedLayer, survey
from respondcam.network.typed import named_modules
from respondcam.network.unbatched import refuse_unbatched


@dataclass(frozen=True)
class LayerRow:
    """One layer of a network, as one forward pass saw it.

    Parameters
    ----------
    name, kind
        Dotted name and class.
    shape
        Shape of its output without the batch axis: (channel, *grid).
    grid
        Where its voxels are in the input, or None if it has no grid.
    calls
        How often one forward pass calls it.
    reached
        Whether gradient leads from the output back to it.
    head_bytes
        What autograd keeps in memory for the part of the network above it, per sample.
    chosen
        Whether it is explained when no layer is named.
    note
        What speaks against it, empty when nothing does.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    grid: LayerGrid | None
    calls: int
    reached: bool
    head_bytes: int
    chosen: bool
    note: str


@dataclass(frozen=True)
class LayerTable:
    """Layers in the order of the forward pass; iterates over its rows.

    Parameters
    ----------
    rows
        One per layer.
    chosen
        Name of the layer that is explained when none is named; empty if there is none.
    reason
        Why that one.
    """

    rows: tuple[LayerRow, ...]
    chosen: str
    reason: str

    def __iter__(self) -> Iterator[LayerRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Column titles and the text of every cell, for any renderer."""
        titles = ["layer", "kind", "output", "stride", "offset", "calls", "head memory", "note"]
        return titles, [_cells(row, self.reason) for row in self.rows]

    def __str__(self) -> str:
        titles, rows = self.cells()
        table = [titles, *rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(titles))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in table]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        from respondcam.show import table_html

        titles, rows = self.cells()
        return table_html(rows, titles)


def inspect(model: nn.Module, example: Any) -> LayerTable:
    """List the layers of a model: shape, grid, calls, gradient, memory, and which one is chosen.

    Parameters
    ----------
    model
        Any PyTorch network; it is left as it was.
    example
        An input as the model takes it: tensor (batch, channel, *spatial), or a tuple or dict. Only
        its shape matters.

    Raises
    ------
    ModelError
        If the model does not run on the example.
    InputError
        If the example has no batch axis.

    Examples
    --------
    >>> import torch
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2))
    >>> table = inspect(model, torch.zeros(1, 1, 9, 9, 9))
    >>> table.chosen, table.rows[0].grid.stride
    ('1', (2.0, 2.0, 2.0))
    """
    refuse_without_values(model)
    example = scattered(model, example)
    model = unwrap(model)
    refuse_unbatched(model, example)
    found = survey(model, example)
    modules = named_modules(model, every_name=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PlacementWarning)  # the note says it
        named = {layer.name: modules[layer.name] for layer in found.layers}
        traces = trace_layers(model, named, example, estimate=False)
    try:
        chosen, reason = chosen_layer(model, example)
    except LayerError:  # there is none
        chosen, reason = "", ""
    rows = tuple(_row(layer, traces[layer.name], chosen) for layer in found.layers)
    return LayerTable(rows, chosen, reason)


def _row(layer: SurveyedLayer, trace: LayerTrace, chosen: str) -> LayerRow:
    call = trace.calls[-1] if trace.calls else None
    grid = call.grid if call else None
    return LayerRow(
        name=layer.name,
        kind=layer.kind,
        shape=layer.shape,
        grid=grid,
        calls=layer.calls,
        reached=layer.reached,
        head_bytes=layer.head_bytes,
        chosen=layer.name == chosen,
        note=_note(layer, grid, call.problem if call else ""),
    )


def _note(layer: SurveyedLayer, grid: LayerGrid | None, problem: str) -> str:
    if not layer.reached:
        return "no gradient reaches it"
    if grid is not None and len(layer.shape) < 2:
        return "no voxels to map"
    if layer.same_as:
        return f"same output as {layer.same_as}"
    if grid is None:
        return f"no grid: {problem}" if problem else "no grid"
    if max(grid.shape) == 1:
        return "a single voxel"
    return grid.note


def _cells(row: LayerRow, reason: str) -> list[str]:
    shape = "x".join(map(str, row.shape))
    if len(row.shape) < 2:  # no axis along which voxels could lie
        stride, offset = "", ""
    elif row.grid is None:
        stride, offset = "-", "-"
    else:
        stride, offset = _numbers(row.grid.stride), _numbers(row.grid.offset)
    note = f"chosen: {reason}" if row.chosen else row.note
    memory = f"{row.head_bytes / 2**20:.1f} MiB"
    return [row.name, row.kind, shape, stride, offset, str(row.calls), memory, note]


def _numbers(values: tuple[float, ...]) -> str:
    texts = [f"{value:g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else ", ".join(texts)
