"""Where a layer's voxels are: positions followed through a network, operator by operator."""

from respondcam.network.layout.axes import GridAxes, from_grid, plain_axes, to_grid
from respondcam.network.layout.memory import forget
from respondcam.network.layout.results import LayerCall, LayerTrace
from respondcam.network.layout.trace import trace_layers

__all__ = [
    "GridAxes",
    "LayerCall",
    "LayerTrace",
    "forget",
    "from_grid",
    "plain_axes",
    "to_grid",
    "trace_layers",
]
