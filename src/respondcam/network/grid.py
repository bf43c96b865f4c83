"""Where the voxels of a layer are, in voxels of the network's input."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LayerGrid:
    """The place of a layer's grid in the input: centre of voxel i = offset + stride * i, per axis.

    All tuples have one entry per spatial axis, in the order of the tensor's axes (z, y, x).

    Parameters
    ----------
    stride, offset
        In input voxels; input voxel 0 has its centre at 0.
    shape
        Number of voxels of the layer's grid.
    input_shape
        Spatial shape of the input for which this holds: offsets can depend on it.
    uncertainty
        Half-width, in input voxels, of the interval in which the true offset lies. Not zero where
        branches of the network that meet disagree about the place.
    origin
        ``"layout"``: derived from the network's own strides and padding; ``"measured"``: calibrated
        on the network's gradients; ``"even"``: the grid is assumed to span the input evenly.
    note
        What a user should know about it, empty when there is nothing.
    """

    stride: tuple[float, ...]
    offset: tuple[float, ...]
    shape: tuple[int, ...]
    input_shape: tuple[int, ...]
    uncertainty: tuple[float, ...]
    origin: Literal["layout", "measured", "even"]
    note: str = ""

    def centres(self, axis: int) -> list[float]:
        """Centres of the grid's voxels along one axis, in input voxels."""
        return [self.offset[axis] + self.stride[axis] * i for i in range(self.shape[axis])]
