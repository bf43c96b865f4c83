"""The projection route: against direct sums, the library's own route, and the Fourier route."""

import math
import warnings

import numpy as np
import pytest
import torch

from respondcam.cryoet.densities import density_from_file
from respondcam.cryoet.imaging import CTF, Imaging
from respondcam.cryoet.phantoms import phantom
from respondcam.cryoet.poses import Poses, random_poses
from respondcam.cryoet.projections import (
    project,
    reconstruct,
    simulate_by_projection,
    tilt_angles,
)
from respondcam.cryoet.subtomograms import simulate_subtomograms
from respondcam.errors import InputError, RespondCAMWarning

library = pytest.importorskip("torch_fourier_slice")
torch_ctf = pytest.importorskip("torch_ctf")

WIDE = (-60.0, 60.0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def correlations(a, b):
    a, b = (v.flatten(1).double() - v.flatten(1).double().mean(1, keepdim=True) for v in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


@pytest.fixture(scope="module")
def densities():
    names = ("groel", "p97")
    return torch.stack([torch.tensor(phantom(name, size=24).voxels) for name in names])


def test_projection_along_the_beam_is_the_sum_along_z(densities):
    series = project(densities, torch.eye(3)[None])
    assert series.shape == (2, 1, 24, 24)
    assert correlations(series[:, 0], densities.sum(dim=1)).min() > 0.999


def test_several_volumes_are_reconstructed_as_each_alone(densities):
    """The library's single-volume route is right; its route for several mixes in their number."""
    angles = tilt_angles(WIDE, 10.0)
    rotations = torch.stack(
        [
            torch.tensor([[c, 0.0, -s], [0.0, 1.0, 0.0], [s, 0.0, c]])
            for c, s in zip(torch.deg2rad(angles).cos(), torch.deg2rad(angles).sin(), strict=True)
        ]
    ).float()
    series = project(densities, rotations)
    together = reconstruct(series, rotations)
    for one, volume in zip(series, together, strict=True):
        expected = library.backproject_2d_to_3d(one, rotations, pad_factor=2.0)
        torch.testing.assert_close(volume, expected, rtol=1e-4, atol=1e-5)


def test_tilts_fill_the_wedge_of_the_right_side(densities):
    """An asymmetric range tells the sign of the tilt: its mirror image is another wedge."""
    labels, poses = torch.tensor([0, 1]), random_poses(2, generator=seeded())
    made = simulate_by_projection(
        densities,
        labels,
        poses,
        Imaging(tilt_degrees=(-20.0, 70.0)),
        size=24,
        tilt_step_degrees=5.0,
        generator=seeded(),
    ).volumes
    right, mirrored = (
        simulate_subtomograms(
            densities,
            labels,
            poses,
            Imaging(tilt_degrees=tilts),
            size=24,
            generator=seeded(),
        ).volumes
        for tilts in ((-20.0, 70.0), (-70.0, 20.0))
    )
    assert correlations(made, right).min() > 0.93
    assert correlations(made, mirrored).max() < correlations(made, right).min() - 0.2


def test_truth_is_that_of_the_fourier_route(densities):
    labels, poses = torch.tensor([1, 0]), random_poses(2, generator=seeded(3))
    options = {"size": 24, "generator": seeded()}
    one = simulate_by_projection(densities, labels, poses, Imaging(), **options)
    other = simulate_subtomograms(densities, labels, poses, Imaging(), **options)
    assert torch.equal(one.masks, other.masks)
    assert torch.equal(one.labels, other.labels)
    assert one.poses is poses
    np.testing.assert_allclose(one.volumes.mean(dim=(1, 2, 3, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(one.volumes.std(dim=(1, 2, 3, 4), correction=0), 1, atol=1e-5)


def test_contrast_transfer_is_our_own_with_the_same_sign(densities):
    """Flipping every phase flips the volume: a CTF of nearly pure amplitude contrast."""
    labels, poses = torch.tensor([0]), random_poses(1, max_shift_voxels=0.0, generator=seeded())
    ctf = CTF(defocus_um=0.01, spherical_aberration_mm=0.0, amplitude_contrast=1.0)
    with_ctf, without = (
        simulate_by_projection(
            densities, labels, poses, Imaging(ctf=each), size=24, generator=seeded()
        ).volumes
        for each in (ctf, None)
    )
    torch.testing.assert_close(with_ctf, without, atol=0.02, rtol=0)


def test_noise_has_the_ratio_that_was_asked_for(densities):
    labels = torch.tensor([0, 1, 0, 1])
    poses = random_poses(4, generator=seeded())
    clean, noisy = (
        simulate_by_projection(
            densities,
            labels,
            poses,
            Imaging(snr=snr),
            size=24,
            tilt_step_degrees=10.0,
            generator=seeded(),
        ).volumes
        for snr in (math.inf, 0.5)
    )
    # of x = (s + n) / sd: the share of s is the correlation squared, so that snr = r^2 / (1 - r^2)
    share = correlations(clean, noisy) ** 2
    assert (share / (1 - share)).mean().item() == pytest.approx(0.5, rel=0.1)


def test_noise_of_projections_has_the_ratio_that_was_asked_for(densities, monkeypatch):
    seen = []

    def spy(series, rotations):
        seen.append(series)
        return reconstruct(series, rotations)

    monkeypatch.setattr("respondcam.cryoet.projections.reconstruct", spy)
    for snr in (math.inf, 0.25):
        simulate_by_projection(
            densities,
            torch.tensor([1]),
            random_poses(1, generator=seeded()),
            Imaging(snr=snr),
            size=24,
            snr_in="projections",
            generator=seeded(),
        )
    signal, noise = seen[0], seen[1] - seen[0]
    assert (signal.var() / noise.var()).item() == pytest.approx(0.25, rel=1e-3)
    assert abs(np.corrcoef(signal.flatten(), noise.flatten())[0, 1]) < 0.05


def test_same_seed_same_bits_however_boxes_are_grouped(densities):
    labels = torch.arange(10) % 2
    poses = random_poses(10, generator=seeded())
    options = {"size": 24, "tilt_step_degrees": 30.0}
    imaging = Imaging(snr=0.3)
    many, again = (
        simulate_by_projection(densities, labels, poses, imaging, generator=seeded(1), **options)
        for _ in range(2)
    )
    assert torch.equal(many.volumes, again.volumes)
    few = simulate_by_projection(
        densities,
        labels[:3],
        Poses(poses.rotations[:3], poses.shifts[:3]),
        imaging,
        generator=seeded(1),
        **options,
    )
    torch.testing.assert_close(few.volumes, many.volumes[:3], atol=1e-4, rtol=0)


def test_same_bits_with_several_threads_and_nothing_left_set(densities):
    labels, poses = torch.tensor([0, 1]), random_poses(2, generator=seeded())
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        made = [
            simulate_by_projection(
                densities, labels, poses, Imaging(snr=0.3), size=40, generator=seeded(1)
            ).volumes
            for _ in range(4)
        ]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, made[0]) for one in made)
    assert not torch.are_deterministic_algorithms_enabled()


def test_torchs_settings_are_restored_when_something_fails(monkeypatch):
    def fail(*_):
        assert torch.are_deterministic_algorithms_enabled()
        raise ZeroDivisionError

    monkeypatch.setattr(library, "insert_central_slices_rfft_3d_multichannel", fail)
    with pytest.raises(ZeroDivisionError):
        reconstruct(torch.zeros(1, 1, 12, 12), torch.eye(3)[None])
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tilt_step_degrees": 7.0}, "does not divide the range"),
        ({"tilt_step_degrees": 0.0}, "does not divide the range"),
        ({"snr_in": "pixels"}, "accepted are volume, projections"),
        ({"size": 6}, "10 voxels or more"),
    ],
)
def test_wrong_requests_are_errors(densities, options, message):
    imaging, poses = Imaging(), random_poses(1, generator=seeded())
    arguments = {"size": 24, "generator": seeded(), **options}
    if options.get("snr_in"):
        pytest.importorskip("beartype")
        with pytest.raises(Exception, match="snr_in"):
            simulate_by_projection(densities, torch.tensor([0]), poses, imaging, **arguments)
        return
    with pytest.raises(InputError, match=message):
        simulate_by_projection(densities, torch.tensor([0]), poses, imaging, **arguments)


def test_forty_one_tilts():
    tilts = tilt_angles(WIDE, 3.0)
    assert len(tilts) == 41
    np.testing.assert_allclose(tilts, np.arange(-60, 61, 3))
    assert math.isclose(tilts[20].item(), 0.0, abs_tol=1e-12)


@pytest.mark.slow
def test_both_routes_agree_on_real_densities(shared_data):
    names = ("1bxn", "3j9i", "4v4r", "5mrc", "1s3x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RespondCAMWarning)
        maps = [density_from_file(shared_data / "densities" / f"{name}.mrc") for name in names]
    densities = torch.stack([torch.tensor(one.voxels) for one in maps])
    labels, poses = torch.arange(len(names)), random_poses(len(names), generator=seeded())
    options = {"size": 40, "generator": seeded()}
    agreement = correlations(
        simulate_by_projection(densities, labels, poses, Imaging(), **options).volumes,
        simulate_subtomograms(densities, labels, poses, Imaging(), **options).volumes,
    )
    assert agreement.mean() > 0.95
