"""What a trace tells of a layer."""

from dataclasses import dataclass

from respondcam.errors import LayerError
from respondcam.network.grid import LayerGrid
from respondcam.network.layout.axes import GridAxes


@dataclass(frozen=True)
class LayerCall:
    """The output of one call of a layer: the tensor that `spatial_tensor` picks.

    Parameters
    ----------
    shape
        Of the output.
    grid
        Where its voxels are; None if it has no grid that could be told.
    axes
        How to read it as (batch, channel, *grid); None where `grid` is None.
    input
        Which of the model's inputs the grid refers to, counted among its tensors.
    problem
        Why there is no grid, or why it is not known from the architecture; empty if it is.
    """

    shape: tuple[int, ...]
    grid: LayerGrid | None
    axes: GridAxes | None
    input: int = 0
    problem: str = ""


@dataclass(frozen=True)
class LayerTrace:
    """What a trace tells of one layer.

    Parameters
    ----------
    name
        Of the layer.
    calls
        One per call of the layer, in order.
    bypassed
        Whether some path from the input to the model's output avoids the layer.
    writes_input
        Whether the model may write to its input.
    """

    name: str
    calls: tuple[LayerCall, ...]
    bypassed: bool
    writes_input: bool = True

    @property
    def grid(self) -> LayerGrid:
        """Grid of the layer's first output.

        Raises
        ------
        LayerError
            If the layer was never called or has no grid.
        """
        return self._first[0]

    @property
    def axes(self) -> GridAxes:
        """Axes of the layer's first output.

        Raises
        ------
        LayerError
            If the layer was never called or has no grid.
        """
        return self._first[1]

    @property
    def _first(self) -> tuple[LayerGrid, GridAxes]:
        if not self.calls:
            raise LayerError(
                f"Layer {self.name!r} was not called in the model's forward pass, so it has no "
                f"place in the input. Choose a layer that the model calls."
            )
        call = self.calls[0]
        if call.grid is None or call.axes is None:
            raise LayerError(
                f"The output of layer {self.name!r}, of shape {call.shape}, has no grid: "
                f"{call.problem}. Choose a layer whose output is (batch, channel, *spatial)."
            )
        return call.grid, call.axes
