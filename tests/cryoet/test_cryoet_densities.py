"""Map files become densities in one box: in place, unchanged where possible, or an error."""

import mrcfile
import numpy as np
import pytest
import torch

from respondcam.cryoet.densities import densities_from_folder, density_from_file
from respondcam.cryoet.phantoms import phantom
from respondcam.cryoet.subtomograms import density_radius
from respondcam.errors import VolumeError
from respondcam.volume import Volume, write_volume


def write(path, voxels, voxel_size):
    with mrcfile.new(path) as file:
        file.set_data(np.asarray(voxels, np.float32))
        if voxel_size:
            file.voxel_size = voxel_size
    return path


def off_centre(seed=0, shape=(30, 34, 38)):
    """A handful of blobs away from the middle, with whole-number values."""
    rng = np.random.default_rng(seed)
    voxels = np.zeros(shape, np.float32)
    voxels[5:13, 8:15, 20:30] = rng.integers(10, 100, (8, 7, 10))
    return voxels


def test_a_map_with_the_wanted_voxels_is_moved_and_not_changed(tmp_path):
    given = off_centre()
    density = density_from_file(write(tmp_path / "a.mrc", given, 10.0), size=20).voxels
    kept = np.sort(density[density > 0])
    np.testing.assert_allclose(
        kept, np.sort(given[given > 0.05 * given.max()]) / given.max(), rtol=1e-6
    )
    centre = [(density * i).sum() / density.sum() for i in np.indices(density.shape)]
    np.testing.assert_allclose(centre, 9.5, atol=0.51)
    assert density.max() == 1
    # not mirrored, not transposed
    low = [int(np.argwhere(density > 0)[:, axis].min()) for axis in range(3)]
    np.testing.assert_allclose(
        density[low[0] : low[0] + 8, low[1] : low[1] + 7, low[2] : low[2] + 10],
        given[5:13, 8:15, 20:30] / given.max(),
        rtol=1e-6,
    )


@pytest.mark.parametrize("voxel", [5.0, 4.0, 8.0])
def test_finer_maps_become_what_coarse_ones_are(tmp_path, voxel):
    fine = phantom("groel", size=round(240 / voxel), voxel_size_angstrom=voxel)
    write_volume(tmp_path / "fine.mrc", fine)
    ours = density_from_file(tmp_path / "fine.mrc", size=24).voxels
    expected = phantom(
        "groel", size=24, resolution_angstrom=(20.0**2 + (2 * voxel) ** 2) ** 0.5
    ).voxels
    assert np.corrcoef(ours.ravel(), expected.ravel())[0, 1] > 0.99


def test_the_box_has_the_axes_of_the_world_whatever_the_order_in_the_file(tmp_path):
    given = off_centre()
    straight = density_from_file(write(tmp_path / "straight.mrc", given, 10.0), size=20)
    with mrcfile.new(tmp_path / "turned.mrc") as file:
        file.set_data(given.transpose(1, 2, 0).copy())  # columns are z, rows x, sections y
        file.header.mapc, file.header.mapr, file.header.maps = 3, 1, 2
        file.voxel_size = 10.0
        file.header.mx, file.header.my, file.header.mz = 38, 34, 30
        file.header.cella = (380.0, 340.0, 300.0)
    turned = density_from_file(tmp_path / "turned.mrc", size=20)
    np.testing.assert_allclose(turned.voxels, straight.voxels, atol=1e-6)


def test_anisotropic_voxels_become_cubes(tmp_path):
    ball = phantom("apoferritin", size=30, voxel_size_angstrom=5.0).voxels
    thin = ball[:, :, ::2]
    write_volume(tmp_path / "thin.mrc", Volume(thin, np.diag([10.0, 5.0, 5.0, 1.0]), "angstrom"))
    ours = density_from_file(tmp_path / "thin.mrc", size=16).voxels
    inside = np.argwhere(ours > 0.3)
    extent = inside.max(axis=0) - inside.min(axis=0)
    assert np.ptp(extent) <= 1
    assert extent.max() == pytest.approx(12, abs=1)


def test_a_level_cuts_the_noise_off(tmp_path):
    rng = np.random.default_rng(0)
    noisy = off_centre() + rng.uniform(0, 9, (30, 34, 38)).astype(np.float32)
    path = write(tmp_path / "noisy.mrc", noisy, 10.0)
    with pytest.raises(VolumeError, match="level of density"):
        density_from_file(path, size=20)
    density = density_from_file(path, size=20, level=9.5).voxels
    assert (density > 0).sum() == 8 * 7 * 10


@pytest.mark.parametrize(
    ("voxels", "voxel_size", "options", "says"),
    [
        (off_centre(), 10.0, {"size": 9}, "more or larger voxels"),
        (off_centre(), 60.0, {}, "reaches 270 Å"),
        (off_centre(), None, {}, "how large its voxels are"),
        (np.zeros((5, 5, 5)), 10.0, {}, "no density above 0"),
        (-np.ones((5, 5, 5)), 10.0, {}, "maximum is -1"),
        (off_centre(), 10.0, {"level": 500.0}, "no density above 500"),
        (off_centre(), 10.0, {"size": 0}, "impossible"),
        (off_centre(), 10.0, {"voxel_size_angstrom": -1.0}, "impossible"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*has no voxel size")
def test_maps_that_cannot_be_used_are_errors_that_say_why(
    tmp_path, voxels, voxel_size, options, says
):
    path = write(tmp_path / "map.mrc", voxels, voxel_size)
    with pytest.raises(VolumeError, match=says):
        density_from_file(path, **options)


def test_folders_that_hold_nothing_are_errors(tmp_path):
    with pytest.raises(VolumeError, match="There is no folder"):
        densities_from_folder(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(VolumeError, match="holds no density map"):
        densities_from_folder(tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_the_23_given_densities_fit_the_publications_boxes(shared_data):
    names, densities = densities_from_folder(shared_data / "densities")
    assert len(names) == 23
    assert names[0] == "1bxn"
    assert densities.shape == (23, 40, 40, 40)
    assert max(2 * density_radius(density) for density in densities) <= 40
    grid = torch.arange(40.0)
    for axis in range(3):
        profile = densities.sum(dim=[d for d in (1, 2, 3) if d != axis + 1])
        centre = (profile @ grid) / profile.sum(dim=1)
        np.testing.assert_allclose(centre, 19.5, atol=0.6)


@pytest.mark.filterwarnings("ignore")
def test_a_real_map_with_permuted_axes_and_anisotropic_voxels(shared_data):
    density = density_from_file(shared_data / "volumes" / "EMD-3001.map", size=24)
    assert density.voxels.shape == (24, 24, 24)
    assert density.voxels.max() == 1
