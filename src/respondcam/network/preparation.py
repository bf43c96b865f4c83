"""What happens to a volume between the file and the network, and the way back for a map.

Many trained networks come with their own preprocessing: crops, other voxel sizes, another
orientation, normalisation, and windows that slide over what is too large. A `Preparation` does
that to a volume; what it gives, a `Prepared`, knows both grids in the same world. So the way back
needs no inverse of any single step: `respondcam.volume.regrid.put_back`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from respondcam.volume import Volume
from respondcam.volume.regrid import carry_mask, put_back

Window = tuple[slice | int, ...]


@dataclass(frozen=True, eq=False)
class Tiles:
    """Windows in which a network sees a volume, and how their scores become one.

    Parameters
    ----------
    windows
        Of each one the part of every spatial axis; a number instead of a slice takes that axis
        away, for networks that see single slices.
    importance
        (*window): weight of a window's voxels where windows overlap; the scores of a voxel are
        the weighted mean.
    flips
        Spatial axes of the window that are reversed; one entry per pass, and the scores, turned
        back, are averaged. ``((),)`` is one pass as it is.
    """

    windows: tuple[Window, ...]
    importance: Tensor
    flips: tuple[tuple[int, ...], ...] = ((),)

    @property
    def single(self) -> bool:
        """Whether one pass sees all of the volume as it is."""
        whole = not any(isinstance(part, int) for window in self.windows for part in window)
        return len(self.windows) == 1 and self.flips == ((),) and whole


def whole(shape: Sequence[int]) -> Tiles:
    """One window that is the whole volume.

    Examples
    --------
    >>> whole((2, 3, 4)).single
    True
    """
    return Tiles((tuple(slice(0, n) for n in shape),), torch.ones(tuple(shape)))


@dataclass(frozen=True, eq=False)
class Prepared:
    """A volume as a network sees it, and the one it was made from.

    Parameters
    ----------
    volume
        What the network sees: channels and spatial axes in the network's order, with the affine of
        this grid in the original's world; padding included.
    original
        As it was given.
    inside
        The part of every spatial axis that is no padding.
    tiles
        How the network goes over it.
    note
        What was done, for the user.
    """

    volume: Volume
    original: Volume
    inside: tuple[slice, slice, slice]
    tiles: Tiles
    note: str = ""

    @property
    def grid(self) -> Volume:
        """The part that is no padding: the grid of the network's predictions."""
        start = np.array([part.start for part in self.inside])
        affine = np.array(self.volume.affine)
        affine[:3, 3] = self.volume.world(start)
        return self.volume.with_voxels(self.volume.voxels[(..., *self.inside)], affine)

    def inverse(self, map_volume: Volume) -> Volume:
        """Put a map into the original's grid, keeping its sum."""
        return put_back(map_volume, self.original)

    def carry(self, mask: np.ndarray) -> np.ndarray:
        """Carry a mask of the original's voxels into `grid`."""
        return carry_mask(np.asarray(mask, bool), self.original, self.grid)

    def window(self) -> Tensor:
        """The first window, as a batch of one: an example of what the network takes."""
        return self.volume.tensor()[(..., *self.tiles.windows[0])]


@runtime_checkable
class Preparation(Protocol):
    """The preprocessing that belongs to a trained network.

    Attributes
    ----------
    channel_files
        How many files of one channel each, called NAME_0000, NAME_0001 and so on, make one volume;
        0 where that is not the custom.
    """

    channel_files: int

    def prepare(self, volume: Volume) -> Prepared:
        """Prepare one volume.

        Raises
        ------
        InputError
            If the network cannot take it, with what it takes.
        """
        ...
