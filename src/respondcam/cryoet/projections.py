"""Simulated subtomograms by the long way round: a tilt series of each box, and its reconstruction.

The box is projected at every tilt, each projection is imaged by itself (resolution, contrast
transfer, noise), and the projections are put together again in Fourier space. Projection and
insertion of central slices are those of torch-fourier-slice, the contrast transfer function is that
of torch-ctf. Unlike the Fourier route of `respondcam.cryoet.subtomograms`, the wedge is sampled by
separate tilts, denser at low frequencies, and noise belongs to projections.

Noise in a projection is white noise, half of whose variance went through the contrast transfer
function and the low-pass of the resolution as the sample did.

**Signal-to-noise ratio:** as in `respondcam.cryoet.imaging` the variance of the noise-free volume
over that of the noise in it, so that both routes can be compared; or with ``snr_in="projections"``
the same ratio over all pixels of the tilt series, before the reconstruction.

Limits: one defocus for all tilts and the whole box, all tilts of one dose. Tilt axis y, beam along
z.
"""

import math
from collections.abc import Generator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor

from respondcam._extras import require
from respondcam.cryoet.imaging import CTF, Imaging, low_pass
from respondcam.cryoet.poses import Poses, place_densities
from respondcam.cryoet.subtomograms import Subtomograms, simulate_subtomograms
from respondcam.errors import InputError

NoiseReference = Literal["volume", "projections"]
_BOXES = 8  # reconstructed at once: about 100 MB for boxes of 40 voxels and 41 tilts
_SMALLEST = 10  # the library takes the mean of four layers at each border
_PAD = 2  # boxes are padded to this many times their size, so that slices are sampled finely


def simulate_by_projection(
    densities: Float[Tensor, "density depth height width"],
    labels: Int[Tensor, "batch *particle"],
    poses: Poses,
    imaging: Imaging,
    *,
    size: int,
    tilt_step_degrees: float = 3.0,
    snr_in: NoiseReference = "volume",
    density_voxel_size_angstrom: float | None = None,
    generator: torch.Generator,
) -> Subtomograms:
    """Simulate boxes as `simulate_subtomograms` does, through tilt series.

    Parameters
    ----------
    densities, labels, poses, imaging, size, density_voxel_size_angstrom, generator
        As for `simulate_subtomograms`.
    tilt_step_degrees
        Between neighbouring tilts; 3 degrees from -60 to 60 are 41 tilts.
    snr_in
        Where `imaging.snr` is measured: ``"volume"`` or ``"projections"``.

    Raises
    ------
    InputError
        As `simulate_subtomograms`, or if the tilt step does not fit the range.
    MissingExtraError
        If torch-fourier-slice or torch-ctf is not installed.

    Examples
    --------
    >>> from respondcam.cryoet.poses import random_poses
    >>> generator = torch.Generator().manual_seed(0)
    >>> densities = torch.zeros(1, 16, 16, 16)
    >>> densities[0, 6:10, 6:10, 6:10] = 1
    >>> boxes = simulate_by_projection(
    ...     densities, torch.tensor([0, 0]), random_poses(2, generator=generator),
    ...     Imaging(snr=0.5), size=16, generator=generator)
    >>> boxes.volumes.shape
    torch.Size([2, 1, 16, 16, 16])
    """
    if snr_in not in get_args(NoiseReference):
        raise InputError(f"snr_in={snr_in!r}; accepted are {', '.join(get_args(NoiseReference))}")
    if size < _SMALLEST:
        raise InputError(f"{size=}; boxes of {_SMALLEST} voxels or more can be projected")
    tilts = tilt_angles(imaging.tilt_degrees, tilt_step_degrees)
    truth = _truth(densities, labels, poses, imaging, size, density_voxel_size_angstrom)
    boxes, masks = truth
    parts = [
        _imaged(part, tilts, imaging, snr_in, generator) for part in boxes.split(_BOXES, dim=0)
    ]
    return Subtomograms(torch.cat(parts)[:, None], labels, poses, masks)


def tilt_angles(tilt_degrees: tuple[float, float], step_degrees: float) -> Float[Tensor, " tilt"]:
    """List the tilts from the smallest to the largest one.

    Raises
    ------
    InputError
        If the step is not positive, or does not divide the range.

    Examples
    --------
    >>> tilt_angles((-60.0, 60.0), 3.0).shape
    torch.Size([41])
    """
    low, high = tilt_degrees
    steps = (high - low) / step_degrees if step_degrees > 0 else math.nan
    if not (math.isfinite(steps) and abs(steps - round(steps)) < 1e-6 and round(steps) >= 1):
        raise InputError(
            f"tilt_step_degrees={step_degrees} does not divide the range from {low} to {high} "
            f"degrees into whole steps; 3 does for -60 to 60"
        )
    return torch.linspace(low, high, round(steps) + 1, dtype=torch.float64)


def _truth(
    densities: Tensor,
    labels: Tensor,
    poses: Poses,
    imaging: Imaging,
    size: int,
    voxel: float | None,
) -> tuple[Tensor, Tensor]:
    """Noise-free boxes (batch, z, y, x) before imaging, and the particles' masks."""
    # the Fourier route checks everything and makes the masks; without noise it costs little
    clean = Imaging(
        imaging.voxel_size_angstrom, imaging.tilt_degrees, resolution_angstrom=None, ctf=None
    )
    simulated = simulate_subtomograms(
        densities,
        labels,
        poses,
        clean,
        size=size,
        density_voxel_size_angstrom=voxel,
        generator=torch.Generator(),
    )
    each = Poses(poses.rotations.reshape(-1, 3, 3), poses.shifts.reshape(-1, 3))
    placed = place_densities(
        densities[labels.flatten().to(densities.device)],
        each,
        size=size,
        density_voxels_per_voxel=imaging.voxel_size_angstrom
        / (voxel or imaging.voxel_size_angstrom),
    )
    boxes = rearrange(placed, "(batch particle) z y x -> batch particle z y x", batch=len(labels))
    return boxes.sum(dim=1), simulated.masks


def _imaged(
    boxes: Tensor,
    tilts: Tensor,
    imaging: Imaging,
    snr_in: NoiseReference,
    generator: torch.Generator,
) -> Float[Tensor, "batch z y x"]:
    """Tilt series, noise and reconstruction, standardised."""
    rotations = _tilted(tilts).to(boxes)
    size = boxes.shape[-1]
    transfer, spectrum = (gain.to(boxes) for gain in _filters(size, imaging))
    signal = _filter(project(boxes, rotations), transfer)
    if math.isinf(imaging.snr):
        return _standardised(reconstruct(signal, rotations))
    # each box draws its own noise, so that it does not depend on how boxes are grouped
    white = [
        torch.randn(signal.shape[1:], generator=generator, device=generator.device) for _ in boxes
    ]
    noise = _filter(torch.stack(white).to(boxes), spectrum)
    if snr_in == "projections":
        ratio = signal.std(dim=(1, 2, 3)) / noise.std(dim=(1, 2, 3))
        series = signal + noise * _each(ratio) / math.sqrt(imaging.snr)
        return _standardised(reconstruct(series, rotations))
    # the reconstruction is linear: its two parts are scaled exactly
    both = reconstruct(torch.cat([signal, noise]), rotations)
    signal, noise = both.chunk(2)
    ratio = signal.std(dim=(1, 2, 3)) / noise.std(dim=(1, 2, 3))
    return _standardised(signal + noise * _each(ratio) / math.sqrt(imaging.snr))


def project(
    boxes: Float[Tensor, "batch size size size"], rotations: Float[Tensor, "tilt 3 3"]
) -> Float[Tensor, "batch tilt size size"]:
    """Project boxes along z after turning the beam by each rotation (x, y, z order).

    Examples
    --------
    >>> boxes = torch.rand(2, 12, 12, 12, generator=torch.Generator().manual_seed(0))
    >>> project(boxes, torch.eye(3)[None]).shape
    torch.Size([2, 1, 12, 12])
    """
    library = require("torch_fourier_slice", extra="cryoet", purpose="project volumes")
    series = library.project_3d_to_2d_multichannel(boxes, rotations, pad_factor=float(_PAD))
    return rearrange(series, "tilt batch y x -> batch tilt y x")


def reconstruct(
    series: Float[Tensor, "batch tilt size size"], rotations: Float[Tensor, "tilt 3 3"]
) -> Float[Tensor, "batch size size size"]:
    """Put tilt series together in Fourier space, each frequency a weighted mean of its samples.

    Examples
    --------
    >>> series = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> reconstruct(series, torch.eye(3)[None]).shape
    torch.Size([2, 8, 8, 8])
    """
    library = require("torch_fourier_slice", extra="cryoet", purpose="reconstruct tilt series")
    size = series.shape[-1]
    margin = (_PAD - 1) * size // 2
    images = rearrange(F.pad(series, [margin] * 4), "batch tilt y x -> tilt batch y x")
    padded = images.shape[-1]
    images = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))
    # the slices alone come from the library: its whole back-projection of several volumes corrects
    # for the interpolation along the volumes, too
    with _ordered_sums():
        slices, weights = library.insert_central_slices_rfft_3d_multichannel(
            torch.fft.fftshift(images, dim=-2), (padded, padded, padded), rotations
        )
    # a frequency that only the edge of a slice touches is not blown up
    spectrum = torch.fft.ifftshift(slices / weights.clamp(min=1), dim=(-3, -2))
    volumes = torch.fft.irfftn(spectrum, s=(padded,) * 3, dim=(-3, -2, -1))
    inside = slice(margin, margin + size)
    volumes = torch.fft.fftshift(volumes, dim=(-3, -2, -1))[:, inside, inside, inside]
    # slices are spread by trilinear interpolation, which fades the volume towards its edges
    fading = torch.sinc(torch.fft.fftshift(torch.fft.fftfreq(padded)))[inside].to(volumes) ** 2
    return volumes / (fading[:, None, None] * fading[:, None] * fading)


@contextmanager
def _ordered_sums() -> Generator[None, None, None]:
    """Add samples in one order: with several threads the last bits would differ from run to run."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def _tilted(tilts: Float[Tensor, " tilt"]) -> Float[Tensor, "tilt 3 3"]:
    """Rotations about y that turn the plane z = 0 into the one with kz = kx tan(tilt)."""
    cosine, sine = torch.deg2rad(tilts).cos(), torch.deg2rad(tilts).sin()
    zero, one = torch.zeros_like(tilts), torch.ones_like(tilts)
    rows = [(cosine, zero, -sine), (zero, one, zero), (sine, zero, cosine)]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _filters(size: int, imaging: Imaging) -> tuple[Tensor, Tensor]:
    """Transfer of the signal in a projection, and the noise's amplitude spectrum, (y, half x)."""
    y = torch.fft.fftfreq(size, imaging.voxel_size_angstrom, dtype=torch.float64)
    x = torch.fft.rfftfreq(size, imaging.voxel_size_angstrom, dtype=torch.float64)
    transfer = torch.ones(size, len(x), dtype=torch.float64)
    if imaging.resolution_angstrom is not None:
        transfer = low_pass((y[:, None] ** 2 + x**2).sqrt(), imaging.resolution_angstrom)
    if imaging.ctf is not None:
        transfer = transfer * _contrast(imaging.ctf, size, imaging.voxel_size_angstrom)
    transfer[0, 0] = 0  # images are compared after standardising: the mean says nothing
    halves = torch.full((len(x),), 2.0, dtype=torch.float64)  # each stands for itself and -x
    halves[0] = 1
    if size % 2 == 0:
        halves[-1] = 1
    mean = (transfer**2 * halves).sum() / size**2
    spectrum = ((transfer**2 / mean + 1) / 2).sqrt()
    spectrum[0, 0] = 0
    return transfer, spectrum


def _contrast(ctf: CTF, size: int, voxel: float) -> Float[Tensor, "y half_x"]:
    """Contrast transfer function of a projection, matter bright."""
    library = require("torch_ctf", extra="cryoet", purpose="compute contrast transfer functions")
    return library.calculate_ctf_2d(
        defocus=ctf.defocus_um,
        astigmatism=0.0,
        astigmatism_angle=0.0,
        voltage=ctf.voltage_kv,
        spherical_aberration=ctf.spherical_aberration_mm,
        amplitude_contrast=ctf.amplitude_contrast,
        phase_shift=0.0,
        pixel_size=voxel,
        image_shape=(size, size),
        rfft=True,
        fftshift=False,
    ).double()


def _filter(series: Tensor, gain: Tensor) -> Tensor:
    return torch.fft.irfft2(torch.fft.rfft2(series) * gain, s=series.shape[-2:])


def _standardised(volumes: Float[Tensor, "batch z y x"]) -> Float[Tensor, "batch z y x"]:
    mean = reduce(volumes, "batch z y x -> batch 1 1 1", "mean")
    return (volumes - mean) / _each(volumes.std(dim=(1, 2, 3), correction=0))


def _each(values: Float[Tensor, " batch"]) -> Float[Tensor, "batch 1 1 1"]:
    return rearrange(values, "batch -> batch 1 1 1")
