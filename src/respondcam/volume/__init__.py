"""The image in the world: voxels, affine and unit, and one reader and writer per file format."""

from respondcam.volume.io import (
    companion_suffix,
    read_suffixes,
    read_volume,
    stem,
    write_suffixes,
    write_volume,
)
from respondcam.volume.normalize import NORMALIZATIONS
from respondcam.volume.volume import Unit, Volume

__all__ = [
    "NORMALIZATIONS",
    "Unit",
    "Volume",
    "companion_suffix",
    "read_suffixes",
    "read_volume",
    "stem",
    "write_suffixes",
    "write_volume",
]
