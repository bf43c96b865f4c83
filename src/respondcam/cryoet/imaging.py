"""What a tomogram does to a density: missing wedge, resolution, contrast transfer, noise.

The fast route: everything is one filter on the 3-D Fourier transform of the box. With the density's
transform D(k), white noise n1 and n2, the mask W of what the tilt series measures, the low-pass
L of the resolution and the contrast transfer function C,

    image(k) = W C L D(k) + W C L a n1(k) + W b n2(k).

The first noise goes through the microscope as the sample does (other matter around the particle),
the second is added after it (shot noise, detector); a and b are chosen such that both have the
same variance in the image. The two kinds of noise are those of W. T. Baxter, R. A. Grassucci,
H. Gao and J. Frank, "Determination of signal-to-noise ratios and spectral SNRs in cryo-EM low-dose
imaging", J. Struct. Biol. 166 (2009) 126.

**Signal-to-noise ratio:** variance of the noise-free image over variance of the noise in it, each
over all voxels of the box and after all filters, before the image is standardised.

Limits: the transfer function is that of one defocus for the whole box and does not change from tilt
to tilt, the wedge is filled evenly, and the noise is Gaussian. Tilt axis y, beam along z.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from respondcam.errors import InputError


@dataclass(frozen=True)
class CTF:
    """Contrast transfer function of an electron microscope, isotropic.

    With the electron's wavelength l, defocus D, spherical aberration Cs and amplitude contrast A,

        C(f) = sin(pi l D f^2 - pi/2 Cs l^3 f^4 + asin A),

    the function of A. Rohou and N. Grigorieff, "CTFFIND4: Fast and accurate defocus
    estimation from electron micrographs", J. Struct. Biol. 192 (2015) 216, with the sign turned:
    matter is bright, as it is after the contrast inversion that is usual before averaging.

    Parameters
    ----------
    defocus_um
        In micrometres, positive for underfocus.
    voltage_kv, spherical_aberration_mm
        Of the microscope.
    amplitude_contrast
        Share of amplitude contrast, from 0 to 1.

    Raises
    ------
    InputError
        If the voltage is not positive or the amplitude contrast is outside 0 to 1.

    Examples
    --------
    >>> ctf = CTF(defocus_um=5.0)
    >>> ctf(torch.tensor([0.0, 1 / 40])).tolist()  # at frequencies in 1/Å
    [0.100..., 0.895...]
    """

    defocus_um: float = 5.0
    voltage_kv: float = 300.0
    spherical_aberration_mm: float = 2.7
    amplitude_contrast: float = 0.1

    def __post_init__(self) -> None:
        if not self.voltage_kv > 0:
            message = f"voltage_kv={self.voltage_kv} must be positive, 300 for example"
            raise InputError(message)
        if not 0 <= self.amplitude_contrast <= 1:
            message = f"amplitude_contrast={self.amplitude_contrast} must lie between 0 and 1"
            raise InputError(message)

    @property
    def wavelength_angstrom(self) -> float:
        """De Broglie wavelength h / sqrt(2 m e V (1 + e V / (2 m c^2))) of the electrons."""
        volt = self.voltage_kv * 1e3
        return 12.264259 / math.sqrt(volt * (1 + 0.9784756e-6 * volt))

    def __call__(self, frequency: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Value at spatial frequencies in 1/Å."""
        wavelength, square = self.wavelength_angstrom, frequency.double() ** 2
        defocus, aberration = self.defocus_um * 1e4, self.spherical_aberration_mm * 1e7
        phase = math.pi * wavelength * square * (defocus - aberration * wavelength**2 * square / 2)
        return torch.sin(phase + math.asin(self.amplitude_contrast)).to(frequency)


@dataclass(frozen=True)
class Imaging:
    """How subtomograms are imaged.

    Parameters
    ----------
    voxel_size_angstrom
        Edge of a voxel.
    tilt_degrees
        Smallest and largest tilt; what lies outside is the missing wedge.
    resolution_angstrom
        Where the signal's amplitude has fallen to one half, or None for no limit.
    ctf
        Contrast transfer function, or None to leave it out.
    snr
        Signal-to-noise ratio as the module defines it; `math.inf` for no noise.

    Raises
    ------
    InputError
        If a value is impossible; the message says which are possible.

    Examples
    --------
    >>> Imaging(snr=0.1).tilt_degrees
    (-60.0, 60.0)
    """

    voxel_size_angstrom: float = 10.0
    tilt_degrees: tuple[float, float] = (-60.0, 60.0)
    resolution_angstrom: float | None = 40.0
    ctf: CTF | None = CTF()
    snr: float = math.inf

    def __post_init__(self) -> None:
        if not (self.voxel_size_angstrom > 0 and math.isfinite(self.voxel_size_angstrom)):
            message = f"voxel_size_angstrom={self.voxel_size_angstrom} must be positive, in Å"
            raise InputError(message)
        low, high = self.tilt_degrees
        if not -90 <= low < high <= 90:
            message = (
                f"tilt_degrees={self.tilt_degrees} is no tilt range: give the smallest and the "
                f"largest tilt in degrees, between -90 and 90, for example (-60, 60)"
            )
            raise InputError(message)
        finest = 2 * self.voxel_size_angstrom
        if self.resolution_angstrom is not None and not self.resolution_angstrom >= finest:
            message = (
                f"resolution_angstrom={self.resolution_angstrom} is finer than voxels of "
                f"{self.voxel_size_angstrom} Å can hold; give {finest} Å or more, or None"
            )
            raise InputError(message)
        if not self.snr > 0:
            message = (
                f"snr={self.snr} must be positive (the ratio of the variances of signal and "
                f"noise, 0.1 for example), or math.inf for no noise"
            )
            raise InputError(message)


def image_boxes(
    boxes: Float[Tensor, "batch z y x"], imaging: Imaging, *, generator: torch.Generator
) -> Float[Tensor, "batch z y x"]:
    """Image noise-free boxes, and standardise each to mean 0 and standard deviation 1.

    The two noises of the module's formula are drawn as one: a sum of independent filtered white
    noises is Gaussian noise whose power spectrum is the sum of theirs.

    Raises
    ------
    InputError
        If a box is empty or constant, so that it has no signal to compare noise with.

    Examples
    --------
    >>> box = torch.zeros(1, 16, 16, 16)
    >>> box[:, 6:10, 6:10, 6:10] = 1
    >>> generator = torch.Generator().manual_seed(0)
    >>> image = image_boxes(box, Imaging(snr=0.1), generator=generator)
    >>> round(image.std(correction=0).item(), 3)
    1.0
    """
    signal, noise = signal_and_noise(boxes, imaging, generator=generator)
    image = signal if noise is None else signal + noise
    return image / image.std(dim=(1, 2, 3), correction=0, keepdim=True)


def signal_and_noise(
    boxes: Float[Tensor, "batch z y x"], imaging: Imaging, *, generator: torch.Generator
) -> tuple[Float[Tensor, "batch z y x"], Float[Tensor, "batch z y x"] | None]:
    """Give the two parts of an image: filtered signal, and noise at the chosen ratio or None.

    Both have mean 0. `generator` gives the noise; it may be on another device than the boxes.

    Raises
    ------
    InputError
        As `image_boxes`.

    Examples
    --------
    >>> box = torch.zeros(1, 32, 32, 32)
    >>> box[:, 12:20, 12:20, 12:20] = 1
    >>> generator = torch.Generator().manual_seed(0)
    >>> signal, noise = signal_and_noise(box, Imaging(snr=2.0), generator=generator)
    >>> round((signal.var() / noise.var()).item(), 1)
    2.0
    """
    axes, shape = (1, 2, 3), boxes.shape[1:]
    transfer, _ = _filters(shape, imaging)
    signal = torch.fft.irfftn(torch.fft.rfftn(boxes, dim=axes) * transfer.to(boxes), shape, axes)
    if not bool((signal.std(dim=axes, correction=0) > 0).all()):
        message = (
            "a box without any signal cannot be imaged: its density is zero, constant, or "
            "wholly outside the box"
        )
        raise InputError(message)
    return signal, None if math.isinf(imaging.snr) else noise_for(signal, imaging, generator)


def noise_for(
    signal: Float[Tensor, "batch z y x"], imaging: Imaging, generator: torch.Generator
) -> Float[Tensor, "batch z y x"]:
    """Draw noise for filtered signals, at the ratio that `imaging` says.

    Examples
    --------
    >>> signal = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> noise = noise_for(signal, Imaging(snr=0.5), torch.Generator().manual_seed(1))
    >>> round((signal.var() / noise.var()).item(), 1)
    0.5
    """
    axes, shape = (1, 2, 3), signal.shape[1:]
    _, spectrum = _filters(shape, imaging)
    white = torch.randn(signal.shape, generator=generator, device=generator.device).to(signal)
    noise = torch.fft.irfftn(torch.fft.rfftn(white, dim=axes) * spectrum.to(signal), shape, axes)
    deviation = signal.std(dim=axes, correction=0, keepdim=True)
    return noise * (deviation / math.sqrt(imaging.snr))


def missing_wedge(
    shape: tuple[int, int, int], tilt_degrees: tuple[float, float]
) -> Bool[Tensor, "z y half_x"]:
    """Which spatial frequencies a tilt series measures, laid out as `torch.fft.rfftn` does.

    The image at tilt t holds the frequencies with kz = kx tan t, whatever ky. The Nyquist planes of
    even axes are left out, because their sign, and so their tilt, is undefined.

    Examples
    --------
    >>> measured = missing_wedge((8, 8, 8), (-60.0, 60.0))
    >>> measured[0, 0, 1].item(), measured[1, 0, 0].item()  # kx = 1; kz = 1
    (True, False)
    """
    kz, ky, kx = _wave_numbers(shape)
    tilt = torch.rad2deg(torch.atan2(kz, kx))
    tilt = torch.where(tilt > 90, tilt - 180, tilt)
    low, high = tilt_degrees
    rounding = 1e-6
    measured = (tilt >= low - rounding) & (tilt <= high + rounding)
    # at kx = 0 the tilt is 90 and -90 degrees at once
    measured |= (kx == 0) & (kz != 0) & ((high >= 90) | (low <= -90))
    measured |= (kx == 0) & (kz == 0)
    for k, size in zip((kz, ky, kx), shape, strict=True):
        measured = measured & (2 * k.abs() != size)
    return measured


def low_pass(
    frequency: Float[Tensor, "*shape"], resolution_angstrom: float, *, edge: float = 0.3
) -> Float[Tensor, "*shape"]:
    """Raised-cosine low-pass that is one half at 1 / resolution, at frequencies in 1/Å.

    It falls from one to zero over a band of `edge` / resolution.

    Examples
    --------
    >>> low_pass(torch.tensor([0.0, 1 / 40, 1 / 20]), 40.0).tolist()
    [1.0, 0.4..., 0.0]
    """
    position = (frequency * resolution_angstrom - 1) / edge + 0.5
    return (1 + torch.cos(math.pi * position.clamp(0, 1))) / 2


def _filters(shape: torch.Size, imaging: Imaging) -> tuple[Tensor, Tensor]:
    """Transfer of the signal, and the noise's amplitude spectrum, scaled to unit variance."""
    size = (shape[0], shape[1], shape[2])
    kz, ky, kx = _wave_numbers(size)
    squares = [(k / n) ** 2 for k, n in zip((kz, ky, kx), size, strict=True)]
    frequency = (squares[0] + squares[1] + squares[2]).sqrt() / imaging.voxel_size_angstrom
    measured = missing_wedge(size, imaging.tilt_degrees).double()
    measured[0, 0, 0] = 0  # images are compared after standardising: the mean says nothing
    transfer = measured
    if imaging.resolution_angstrom is not None:
        transfer = transfer * low_pass(frequency, imaging.resolution_angstrom)
    if imaging.ctf is not None:
        transfer = transfer * imaging.ctf(frequency)
    power = (transfer**2 / _mean(transfer**2, size) + measured / _mean(measured, size)) / 2
    return transfer, power.sqrt()


def _mean(half: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Mean over all frequencies of what is given for the half with kx >= 0."""
    twice = torch.full((shape[2] // 2 + 1,), 2.0, dtype=half.dtype)
    twice[0] = 1
    if shape[2] % 2 == 0:
        twice[-1] = 1
    return (half * twice).sum() / math.prod(shape)


def _wave_numbers(shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Whole numbers of waves per box, each ready to broadcast over (z, y, half x)."""
    z, y, x = shape
    kz = torch.fft.fftfreq(z, 1 / z, dtype=torch.float64)[:, None, None]
    ky = torch.fft.fftfreq(y, 1 / y, dtype=torch.float64)[None, :, None]
    kx = torch.fft.rfftfreq(x, 1 / x, dtype=torch.float64)[None, None, :]
    return kz, ky, kx
