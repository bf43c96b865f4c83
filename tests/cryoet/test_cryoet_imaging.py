"""Imaging: the wedge is empty, the noise is as strong as stated, units are units."""

import math

import numpy as np
import pytest
import torch
from scipy import constants

from respondcam.cryoet.imaging import (
    CTF,
    Imaging,
    image_boxes,
    low_pass,
    missing_wedge,
    signal_and_noise,
)
from respondcam.errors import InputError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def boxes(count=2, size=32):
    """A filled ellipsoid in each box."""
    z, y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 3, indexing="ij")
    radius = (x / 6) ** 2 + (y / 4) ** 2 + (z / 8) ** 2
    return (radius < 1).double().expand(count, size, size, size).clone()


def frequencies(size):
    """kz, ky, kx of `torch.fft.fftn`, whole waves per box."""
    k = np.fft.fftfreq(size, 1 / size)
    return np.meshgrid(k, k, k, indexing="ij")


@pytest.mark.parametrize("tilts", [(-60.0, 60.0), (-40.0, 65.0)])
@pytest.mark.parametrize("size", [32, 33])
def test_images_are_empty_in_the_missing_wedge_and_only_there(size, tilts):
    imaging = Imaging(tilt_degrees=tilts, snr=0.1, resolution_angstrom=None, ctf=None)
    image = image_boxes(boxes(size=size), imaging, generator=seeded())
    power = np.abs(np.fft.fftn(image.numpy(), axes=(1, 2, 3))).mean(axis=0) ** 2
    kz, ky, kx = frequencies(size)
    # tilt of the line through the origin that a frequency lies on, in the plane of z and x
    with np.errstate(divide="ignore", invalid="ignore"):
        tilt = np.degrees(np.arctan(kz / kx))
    nyquist = np.maximum.reduce([abs(kz), abs(ky), abs(kx)]) * 2 == size
    missing = ((tilt < tilts[0] - 0.1) | (tilt > tilts[1] + 0.1)) & ~nyquist
    there = (tilt > tilts[0] + 0.1) & (tilt < tilts[1] - 0.1) & ~nyquist
    assert missing.sum() > 0.2 * size**3
    assert power[missing].max() < 1e-12 * power[there].mean()
    assert (power[there] > 1e-4 * power[there].mean()).all()


def test_wedge_keeps_the_tilt_axis_and_leaves_out_the_beam():
    measured = missing_wedge((16, 16, 16), (-60.0, 60.0))
    assert measured[0, :8, 0].all()  # ky: the tilt axis
    assert measured[0, 0, :8].all()
    assert not measured[1:, :, 0].any()  # kz: the beam
    assert missing_wedge((15, 15, 15), (-90.0, 90.0)).all()


@pytest.mark.parametrize("snr", [10.0, 0.5, 0.05])
@pytest.mark.parametrize("ctf", [None, CTF()])
def test_measured_ratio_of_variances_is_the_stated_one(snr, ctf):
    imaging = Imaging(snr=snr, ctf=ctf)
    signal, noise = signal_and_noise(boxes(8, size=40), imaging, generator=seeded())
    ratio = signal.var(dim=(1, 2, 3)) / noise.var(dim=(1, 2, 3))
    np.testing.assert_allclose(ratio, snr, rtol=0.06)
    assert ratio.mean().item() == pytest.approx(snr, rel=0.02)


def test_noise_has_the_spectrum_of_one_noise_before_and_one_after_the_transfer():
    """Against the two noises drawn and filtered apart, as the module's formula says."""
    size, count = 24, 60
    imaging = Imaging(snr=1.0, tilt_degrees=(-50.0, 50.0))
    _, noise = signal_and_noise(boxes(count, size=size), imaging, generator=seeded())
    noise = noise / noise.std()
    kz, ky, kx = frequencies(size)
    frequency = torch.tensor(np.sqrt(kz**2 + ky**2 + kx**2) / size / 10.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        measured = np.where(kx == 0, kz == 0, abs(kz) <= abs(kx) * np.tan(np.radians(50)) + 1e-9)
    measured &= (abs(kz) * 2 != size) & (abs(ky) * 2 != size) & (abs(kx) * 2 != size)
    transfer = (low_pass(frequency, 40.0) * CTF()(frequency)).numpy()
    rng = np.random.default_rng(0)
    parts = []
    for gain in (measured * transfer, measured):
        white = np.fft.fftn(rng.standard_normal((count, size, size, size)), axes=(1, 2, 3))
        part = np.fft.ifftn(white * gain, axes=(1, 2, 3)).real
        parts.append(part / part.std())
    reference = (parts[0] + parts[1]) / math.sqrt(2)

    def radial(images):
        power = (np.abs(np.fft.fftn(images, axes=(1, 2, 3))) ** 2).mean(axis=0) / size**3
        shell = np.minimum(np.round(frequency.numpy() * 10 * size), size // 2 - 1).astype(int)
        return np.bincount(shell.ravel(), power.ravel()) / np.bincount(shell.ravel())

    np.testing.assert_allclose(radial(noise.numpy())[2:], radial(reference)[2:], rtol=0.1)


def test_images_are_standardised_seeded_and_leave_their_input_alone():
    given = boxes().float()
    before = given.clone()
    imaging = Imaging(snr=0.3)
    one, same, other = (image_boxes(given, imaging, generator=seeded(s)) for s in (1, 1, 2))
    np.testing.assert_allclose(one.mean(dim=(1, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(one.std(dim=(1, 2, 3), correction=0), 1, atol=1e-5)
    assert torch.equal(one, same)
    assert not torch.allclose(one, other, atol=0.1)
    assert not torch.allclose(one[0], one[1], atol=0.1)  # each box has noise of its own
    assert torch.equal(given, before)


def test_without_noise_or_limits_only_the_mean_goes():
    imaging = Imaging(tilt_degrees=(-90.0, 90.0), resolution_angstrom=None, ctf=None)
    given = boxes(1, size=33)
    image = image_boxes(given, imaging, generator=seeded())
    np.testing.assert_allclose(image, (given - given.mean()) / given.std(correction=0), atol=1e-9)


def test_a_wave_passes_with_the_gain_of_its_frequency():
    """One plane wave along x comes out as the product of low-pass and contrast transfer."""
    size, waves = 32, 5
    x = torch.arange(size, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * waves * x / size).expand(1, size, size, size)
    imaging = Imaging(resolution_angstrom=55.0, voxel_size_angstrom=8.0)
    signal, _ = signal_and_noise(wave, imaging, generator=seeded())
    frequency = torch.tensor(waves / (size * 8.0), dtype=torch.float64)
    gain = low_pass(frequency, 55.0) * CTF()(frequency)
    assert 0.05 < abs(gain) < 0.95
    np.testing.assert_allclose(signal, wave * gain, atol=1e-9)


def test_wavelength_is_de_broglies():
    volt = 200e3
    energy = volt * constants.e
    momentum = math.sqrt(2 * constants.m_e * energy + (energy / constants.c) ** 2)
    ours = CTF(voltage_kv=200.0).wavelength_angstrom
    assert ours == pytest.approx(constants.h / momentum * 1e10, rel=1e-6)
    assert CTF(voltage_kv=300.0).wavelength_angstrom == pytest.approx(0.019687, abs=1e-6)


@pytest.mark.parametrize("defocus_um", [1.5, 3.0, 6.0])
def test_first_zeros_are_at_the_analytic_frequencies(defocus_um):
    """The phase pi l D f^2 - pi/2 Cs l^3 f^4 + asin A is n pi at the n-th zero."""
    ctf = CTF(defocus_um=defocus_um, voltage_kv=300.0, spherical_aberration_mm=2.7)
    wavelength, defocus, aberration = ctf.wavelength_angstrom, defocus_um * 1e4, 2.7e7
    grid = torch.linspace(1e-4, 0.1, 400_000, dtype=torch.float64)
    values = ctf(grid)
    crossings = grid[1:][values[1:] * values[:-1] < 0]
    for n, found in zip((1, 2), crossings[:2].tolist(), strict=True):
        rest = n * math.pi - math.asin(0.1)
        # the quadratic equation in f^2
        a, b = math.pi / 2 * aberration * wavelength**3, math.pi * wavelength * defocus
        square = (b - math.sqrt(b * b - 4 * a * rest)) / (2 * a)
        assert found == pytest.approx(math.sqrt(square), rel=1e-4)


def test_contrast_transfer_is_amplitude_contrast_at_zero_and_matter_is_bright():
    assert CTF(amplitude_contrast=0.07)(torch.tensor(0.0)).item() == pytest.approx(0.07)
    assert CTF(defocus_um=5.0)(torch.tensor(1 / 60)) > 0
    overfocus = CTF(defocus_um=-5.0, amplitude_contrast=0.0)(torch.tensor(1 / 60))
    assert overfocus < 0


def test_low_pass_is_one_half_at_the_resolution_and_falls():
    gain = low_pass(torch.linspace(0, 0.05, 101, dtype=torch.float64), 40.0)
    assert (gain.diff() <= 0).all()
    assert gain[0] == 1
    assert gain[-1] == 0
    assert low_pass(torch.tensor(1 / 40, dtype=torch.float64), 40.0).item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tilt_degrees": (-95.0, 60.0)}, "-95"),
        ({"tilt_degrees": (-60.0, 90.5)}, "90.5"),
        ({"tilt_degrees": (60.0, -60.0)}, "smallest and the largest"),
        ({"snr": 0.0}, "snr=0.0"),
        ({"snr": -1.0}, "snr=-1.0"),
        ({"snr": math.nan}, "snr=nan"),
        ({"voxel_size_angstrom": 0.0}, "voxel_size_angstrom"),
        ({"resolution_angstrom": 15.0}, "20.0 Å or more"),
    ],
)
def test_impossible_imaging_is_an_error_with_the_remedy(wrong, says):
    with pytest.raises(InputError, match=says):
        Imaging(**wrong)


@pytest.mark.parametrize("wrong", [{"voltage_kv": 0.0}, {"amplitude_contrast": 1.5}])
def test_an_impossible_microscope_is_an_error(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        CTF(**wrong)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_box_without_signal_is_an_error(value):
    with pytest.raises(InputError, match="without any signal"):
        image_boxes(torch.full((1, 8, 8, 8), value), Imaging(snr=1.0), generator=seeded())
