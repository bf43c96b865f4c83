"""A volume and its place in the world."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np

from respondcam.errors import VolumeError
from respondcam.volume.geometry import as_affine
from respondcam.volume.normalize import NORMALIZATIONS

if TYPE_CHECKING:
    import torch

Unit = Literal["angstrom", "mm", "voxel"]


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """Voxels and where they are in the world.

    Nothing changes a volume: its arrays are not writable, and an array that somebody else could
    still write to is copied.

    Parameters
    ----------
    voxels
        float32 array (z, y, x) or (channel, z, y, x), not writable. Real numbers of other types
        are converted.
    affine
        4x4 matrix from voxel indices to the world, **in x, y, z order on both sides**, as in NIfTI:
        ``world_xyz = (affine @ (ix, iy, iz, 1))[:3]`` is the centre of ``voxels[..., iz, iy, ix]``.
        For millimetres the world is RAS+ (x to the right, y to the front, z up).
    unit
        Of the world: ``"angstrom"``, ``"mm"``, or ``"voxel"`` when nobody knows.
    source
        The file that it came from, or None.
    header
        What the source's format needs to write a companion file (format-specific, may be empty). A
        ``title`` is written into MRC and NIfTI, as far as there is room.

    Raises
    ------
    VolumeError
        If the voxels are not three- or four-dimensional real numbers, an axis is empty, the affine
        is not a finite invertible 4x4 matrix, or the unit is unknown.

    Examples
    --------
    >>> volume = Volume(np.zeros((4, 5, 6)), np.diag([2.0, 2.0, 3.0, 1.0]), "mm")
    >>> volume
    Volume(z, y, x = 4, 5, 6; voxel 3 x 2 x 2 mm; RAS)
    >>> volume.world((1, 0, 0))
    array([0., 0., 3.])
    """

    voxels: np.ndarray
    affine: np.ndarray = field(default_factory=lambda: np.eye(4))
    unit: Unit = "voxel"
    source: Path | None = None
    header: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.unit not in get_args(Unit):
            accepted = ", ".join(repr(unit) for unit in get_args(Unit))
            raise VolumeError(f"unit must be one of {accepted}, received {self.unit!r}")
        object.__setattr__(self, "voxels", _frozen_float32(self.voxels))
        object.__setattr__(self, "affine", as_affine(self.affine))
        object.__setattr__(self, "source", None if self.source is None else Path(self.source))
        object.__setattr__(self, "header", dict(self.header or {}))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along z, y, x."""
        z, y, x = self.voxels.shape[-3:]
        return z, y, x

    @property
    def channels(self) -> int:
        """Number of channels: 1 for an array (z, y, x)."""
        return self.voxels.shape[0] if self.voxels.ndim == 4 else 1

    @property
    def voxel_size(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along z, y, x, in the unit of the world."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return z, y, x

    @property
    def orientation(self) -> str | None:
        """Where the array's x, y, z axes point, as in nibabel: "LAS" is left, anterior, superior.

        None when the world is no patient, that is, for units other than millimetres.
        """
        if self.unit != "mm":
            return None
        import nibabel

        return "".join(cast("Any", nibabel).aff2axcodes(self.affine))

    def world(self, index_zyx: Any) -> np.ndarray:
        """Coordinates x, y, z in the world of voxel indices z, y, x (need not be whole numbers).

        Parameters
        ----------
        index_zyx
            Array-like (..., 3).

        Returns
        -------
        numpy.ndarray
            float64 array (..., 3).

        Examples
        --------
        >>> Volume(np.zeros((2, 2, 2)), np.diag([1.0, 2.0, 3.0, 1.0])).world((1, 1, 1))
        array([1., 2., 3.])
        """
        index_xyz = np.asarray(index_zyx, dtype=np.float64)[..., ::-1]
        return index_xyz @ self.affine[:3, :3].T + self.affine[:3, 3]

    def index(self, world_xyz: Any) -> np.ndarray:
        """Voxel indices z, y, x (fractions kept) of world coordinates x, y, z.

        Parameters
        ----------
        world_xyz
            Array-like (..., 3).

        Returns
        -------
        numpy.ndarray
            float64 array (..., 3).

        Examples
        --------
        >>> Volume(np.zeros((2, 2, 2)), np.diag([1.0, 2.0, 3.0, 1.0])).index((1, 2, 1.5))
        array([0.5, 1. , 1. ])
        """
        offset = np.asarray(world_xyz, dtype=np.float64) - self.affine[:3, 3]
        index_xyz = np.linalg.solve(self.affine[:3, :3], offset[..., None])[..., 0]
        return index_xyz[..., ::-1]

    def with_voxels(self, voxels: Any, affine: Any = None) -> "Volume":
        """Put other voxels into the same world; unit, source and header stay.

        Parameters
        ----------
        voxels
            Array (z, y, x) or (channel, z, y, x).
        affine
            Of the new voxels; None takes this volume's, and the spatial shape must be the same.

        Raises
        ------
        VolumeError
            If the shapes differ and no affine is given.

        Examples
        --------
        >>> Volume(np.zeros((2, 2, 2)), unit="mm").with_voxels(np.ones((3, 2, 2, 2))).channels
        3
        """
        voxels = np.asarray(voxels)
        if affine is None:
            affine = self.affine
            if voxels.shape[-3:] != self.shape:
                raise VolumeError(
                    f"voxels of shape {voxels.shape} do not fit the grid of {self.shape}: "
                    f"give the affine of their grid too"
                )
        return replace(self, voxels=voxels, affine=np.asarray(affine))

    def transposed(self) -> "Volume":
        """Reverse the array's axes to x, y, z, still in the same place in the world.

        For networks that were trained on arrays in nibabel's axis order: the first spatial axis of
        the result is this volume's x. The affine's columns are exchanged with the axes.

        Examples
        --------
        >>> Volume(np.zeros((2, 3, 4))).transposed().shape
        (4, 3, 2)
        """
        axes = (*range(self.voxels.ndim - 3), -1, -2, -3)
        return replace(
            self, voxels=self.voxels.transpose(axes), affine=self.affine[:, [2, 1, 0, 3]]
        )

    def tensor(self, normalize: str = "none") -> "torch.Tensor":
        """Give the voxels as a batch of one for a network.

        Parameters
        ----------
        normalize
            A name of `NORMALIZATIONS`: "none", "zscore", "minmax" or "percentile", per channel.

        Returns
        -------
        torch.Tensor
            float32 (1, channel, z, y, x), a copy of the voxels.

        Raises
        ------
        VolumeError
            If the name is unknown.

        Examples
        --------
        >>> Volume(np.zeros((2, 3, 4))).tensor().shape
        torch.Size([1, 1, 2, 3, 4])
        """
        import torch

        voxels = self.normalized(normalize).voxels.reshape(self.channels, *self.shape)
        tensor = torch.from_numpy(voxels.copy())  # pyright: ignore[reportUnknownMemberType]
        return tensor.unsqueeze(0)

    def normalized(self, normalize: str) -> "Volume":
        """Change the intensities as a network expects them; the place in the world stays.

        Parameters
        ----------
        normalize
            A name of `NORMALIZATIONS`: "none", "zscore", "minmax" or "percentile", per channel.

        Raises
        ------
        VolumeError
            If the name is unknown.

        Examples
        --------
        >>> Volume(np.array([[[1.0, 3.0]]]), unit="mm").normalized("zscore").voxels.ravel()
        array([-1.,  1.], dtype=float32)
        """
        if normalize not in NORMALIZATIONS:
            accepted = ", ".join(repr(name) for name in NORMALIZATIONS)
            raise VolumeError(f"normalize must be one of {accepted}, received {normalize!r}")
        voxels = self.voxels.reshape(self.channels, *self.shape)
        return self.with_voxels(NORMALIZATIONS[normalize](voxels).reshape(self.voxels.shape))

    def _repr_html_(self) -> str:
        from respondcam.show import volume_html

        return volume_html(self)

    def __repr__(self) -> str:
        shape = ", ".join(str(n) for n in self.shape)
        channels = f"{self.channels} channels; " if self.voxels.ndim == 4 else ""
        size = " x ".join(f"{length:.4g}" for length in self.voxel_size)
        unit = "" if self.unit == "voxel" else f" {self.unit}"
        orientation = f"; {self.orientation}" if self.unit == "mm" else ""
        source = f"; from {self.source.name}" if self.source else ""
        return f"Volume({channels}z, y, x = {shape}; voxel {size}{unit}{orientation}{source})"


def _frozen_float32(voxels: Any) -> np.ndarray:
    """Check `voxels` and give them as float32 that nobody can write to, copied if need be."""
    array = np.asarray(voxels)
    if array.dtype.kind not in "fiub":
        raise VolumeError(
            f"voxels must be real numbers, received {array.dtype}; "
            f"give the real part or the magnitude of complex numbers"
        )
    if array.ndim not in (3, 4):
        raise VolumeError(
            f"voxels must have shape (z, y, x) or (channel, z, y, x), received shape {array.shape}"
        )
    if 0 in array.shape:
        raise VolumeError(f"voxels must not have an empty axis, received shape {array.shape}")
    if array.dtype == np.float32 and array.dtype.isnative and _is_frozen(array):
        return array
    with np.errstate(over="ignore"):
        out = np.array(array, dtype=np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > 4:
        lost = int(np.count_nonzero(np.isinf(out) & np.isfinite(array)))
        if lost:
            raise VolumeError(f"{lost} voxels are too large for float32; rescale them first")
    out.setflags(write=False)
    return out


def _is_frozen(array: np.ndarray) -> bool:
    """Say whether neither the array nor what it is a view of can be written to."""
    owner: Any = array
    while isinstance(owner, np.ndarray):
        if owner.flags.writeable:
            return False
        owner = owner.base
    return owner is None or isinstance(owner, bytes)
