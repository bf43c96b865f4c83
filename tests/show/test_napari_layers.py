"""What napari gets: layers whose voxels are where the volume's are, and readers of files."""

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

import respondcam as rc
from respondcam.errors import InputError
from respondcam.show.caption import Caption
from respondcam.show.napari.layers import (
    OURS,
    explanation_layers,
    image_layers,
    map_layer,
    placement,
    signed_colormap,
    volume_of,
)
from respondcam.show.napari.reader import get_reader
from respondcam.show.napari.saved import saved_layers
from respondcam.show.napari.showing import show_explanation

pytest.importorskip("napari")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
OBLIQUE = pytest.mark.filterwarnings("ignore:Non-orthogonal slicing:UserWarning")

SHAPE = (3, 4, 5)


def layer(data: tuple[np.ndarray, dict[str, Any], str]) -> Any:
    from napari.layers import Layer

    return Layer.create(*data)


def random_volume(affine: np.ndarray, unit: str = "mm") -> rc.Volume:
    voxels = np.random.default_rng(0).normal(size=SHAPE)
    return rc.Volume(voxels, affine, unit)  # type: ignore[arg-type]


def affines() -> list[np.ndarray]:
    """Every order of the axes and every direction of each, and one oblique grid."""
    found = []
    signs_of = [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, 1), (-1, -1, -1)]
    for order, signs in zip(permutations(range(3)), signs_of, strict=True):
        affine = np.eye(4)
        affine[:3, :3] = (np.eye(3)[list(order)] * signs) @ np.diag([1.5, 2.0, 3.0])
        affine[:3, 3] = (10, -20, 30)
        found.append(affine)
    turn = np.radians(20)
    oblique = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0.1]])
    found.append(np.vstack([np.hstack([oblique, [[5], [6]]]), [0, 0, 2, 7], [0, 0, 0, 1]]))
    return found


@OBLIQUE
def test_every_voxel_is_at_its_place_in_the_world_for_every_order_and_direction_of_axes() -> None:
    for affine in affines():
        volume = random_volume(affine)
        (one,) = [layer(data) for data in image_layers(volume)]
        axes = placement(volume).axes
        for index in [(0, 0, 0), (2, 3, 4), (1, 2, 0)]:
            there = tuple(index[axis] for axis in axes)
            assert one.data[there] == volume.voxels[index]
            world = np.array(one.data_to_world(there))[::-1]
            np.testing.assert_allclose(world, volume.world(index), atol=1e-5)
        assert [str(unit) for unit in one.units] == ["millimeter"] * 3
        again = volume_of(one)
        assert again.voxels is volume.voxels
        np.testing.assert_allclose(again.affine, affine, atol=1e-5)


def test_planes_can_be_cut_along_every_grid_that_is_not_oblique() -> None:
    """napari cuts only grids whose axes run along the world's, in its order; it warns otherwise."""
    from napari.components import ViewerModel

    for affine in affines()[:-1]:
        viewer = ViewerModel()
        viewer.add_layer(layer(image_layers(random_volume(affine))[0]))
        for order in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
            viewer.dims.order = order  # warnings are errors


def test_a_plain_grid_gets_scale_and_translate_and_a_flipped_one_an_affine() -> None:
    plain = placement(random_volume(np.diag([1.5, 2.0, 3.0, 1.0])))
    assert set(plain.options) == {"scale", "translate", "units"}
    flipped = placement(random_volume(np.diag([-1.5, 2.0, 3.0, 1.0])))
    assert set(flipped.options) == {"affine", "units"}


def test_the_volume_of_a_layer_follows_what_was_done_to_it_in_napari() -> None:
    volume = random_volume(affines()[3])
    one = layer(image_layers(volume)[0])
    one.affine = np.array([[1, 0, 0, 4], [0, 1, 0, 5], [0, 0, 1, 6], [0, 0, 0, 1]]) @ np.array(
        one.affine
    )
    np.testing.assert_allclose(
        volume_of(one).affine[:3, 3], volume.affine[:3, 3] + (6, 5, 4), atol=1e-5
    )
    one.data = one.data[:2]
    assert volume_of(one).shape == one.data.shape  # cropped: no longer what was read


def test_layers_of_other_readers_are_volumes_too() -> None:
    from napari.layers import Image, Labels

    nm = Image(np.ones(SHAPE), scale=(2, 3, 4), translate=(1, 1, 1), units=["nm"] * 3, name="tilt")
    volume = volume_of(nm)
    assert volume.unit == "angstrom"
    assert volume.voxel_size == pytest.approx((20, 30, 40))
    assert volume_of(Image(np.ones(SHAPE))).unit == "voxel"
    with pytest.raises(InputError, match="has 4 axes; a volume has three"):
        volume_of(Image(np.ones((2, *SHAPE)), name="stack"))
    with pytest.raises(InputError, match="no image of one number per voxel"):
        volume_of(Labels(np.ones(SHAPE, int)))


def test_each_channel_is_a_layer_and_any_of_them_gives_all_channels_to_the_network() -> None:
    volume = rc.Volume(np.random.default_rng(0).random((2, *SHAPE)), unit="mm")
    both = [layer(data) for data in image_layers(volume, "scan")]
    assert [one.name for one in both] == ["scan, channel 0", "scan, channel 1"]
    assert volume_of(both[1]).channels == 2


def test_colours_of_a_map_are_centred_at_zero_which_is_not_seen() -> None:
    map = rc.Volume(np.array([[[-1.0, 0.0, 4.0, 2.0]]]))
    one = layer(map_layer(map, Caption(target="cat", layer="conv", method="respond")))
    assert tuple(one.contrast_limits) == (-4.0, 4.0)
    assert one.name == "cat · conv · respond"
    low, zero, high = one.colormap.map(np.array([0.0, 0.5, 1.0]))
    assert (low[3], zero[3], high[3]) == (1.0, 0.0, 1.0)
    assert low[2] > low[0]  # blue lowers
    assert high[0] > high[2]  # amber raises
    nothing = layer(map_layer(rc.Volume(np.zeros(SHAPE)), Caption(why_empty="a saturated output")))
    assert tuple(nothing.contrast_limits) == (-1.0, 1.0)
    assert nothing.metadata[OURS]["why_empty"] == "a saturated output"
    assert len(signed_colormap()["colors"]) % 2  # zero has a colour of its own


class Spot(torch.nn.Module):
    """Its only score is the sum of what is bright, seen in cubes of two voxels."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = torch.nn.MaxPool3d(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = self.pool(x)
        return torch.stack([seen.sum(dim=(1, 2, 3, 4)), -seen.sum(dim=(1, 2, 3, 4))], dim=1)


def spotted(affine: np.ndarray) -> rc.Volume:
    voxels = np.zeros((8, 10, 12))
    voxels[2:4, 6:8, 10:12] = 1.0  # one voxel of the layer
    return rc.Volume(voxels, affine, "mm")


@OBLIQUE
@pytest.mark.parametrize("resolution", ["input", "layer"])
@pytest.mark.parametrize("case", [0, 1, 4, 6])
def test_a_map_peaks_where_the_spot_is_in_the_world(case: int, resolution: str) -> None:
    volume = spotted(affines()[case])
    found = rc.RespondCAM(Spot(), layer="pool")(volume, target="all")
    assert isinstance(found, rc.Explanation)
    *others, top = [layer(d) for d in explanation_layers(found, resolution=resolution)]  # type: ignore[arg-type]
    assert [one.visible for one in others] == [False]
    assert top.visible
    assert top.metadata[OURS]["account"]["score"] == pytest.approx(1.0)
    assert top.metadata[OURS]["sum"] == pytest.approx(1.0, abs=1e-5)
    # the spot lies between eight voxels of the image, in the middle of one of the layer
    peak = np.unravel_index(int(np.abs(top.data).argmax()), top.data.shape)
    world = np.array(top.data_to_world([float(i) for i in peak]))[::-1]
    assert np.abs(volume.index(world) - (2.5, 6.5, 10.5)).max() <= 0.5 + 1e-6
    if resolution == "layer":  # and by SciPy's interpolation at that place of the world
        inside = np.array(top.world_to_data(volume.world((2.5, 6.5, 10.5))[::-1]))
        there = map_coordinates(np.asarray(top.data), inside[:, None], order=1)[0]
        assert there == pytest.approx(float(np.abs(top.data).max()), rel=1e-5)


def test_a_network_that_takes_axes_in_reverse_has_its_map_in_the_same_place() -> None:
    volume = spotted(affines()[4])
    found = rc.RespondCAM(Spot(), layer="pool")(volume.transposed(), target=0)
    assert isinstance(found, rc.Explanation)
    (one,) = [layer(data) for data in explanation_layers(found, turned=True)]
    peak = np.unravel_index(int(np.argmax(one.data)), one.data.shape)
    world = np.array(one.data_to_world([float(i) for i in peak]))[::-1]
    assert np.abs(volume.index(world) - (2.5, 6.5, 10.5)).max() <= 0.5 + 1e-6


def test_an_explanation_goes_into_a_viewer_that_is_given() -> None:
    from napari.components import ViewerModel

    found = rc.RespondCAM(Spot(), layer="pool")(spotted(np.eye(4)), target=0)
    assert isinstance(found, rc.Explanation)
    viewer = show_explanation(found, viewer=ViewerModel())
    assert [one.name for one in viewer.layers] == ["volume", "class 0 · pool · respond"]
    tensor = rc.RespondCAM(Spot(), layer="pool")(torch.rand(1, 1, 8, 8, 8), target=0)
    assert isinstance(tensor, rc.Explanation)
    with pytest.raises(InputError, match="image=Volume"):
        show_explanation(tensor, viewer=viewer)
    image = rc.Volume(np.ones((8, 8, 8)), np.diag([2.0, 2.0, 2.0, 1.0]), "mm")
    last = show_explanation(tensor, viewer=viewer, image=image).layers[-1]
    assert tuple(last.scale) == (2.0, 2.0, 2.0)


# --- reading ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix", [".mrc", ".map", ".rec", ".nii", ".nii.gz", ".nrrd", ".ome.zarr"]
)
def test_the_reader_gives_scale_translate_and_unit(tmp_path: Path, suffix: str) -> None:
    affine = np.diag([1.5, 2.0, 3.0, 1.0])
    affine[:3, 3] = (10, 20, 30)
    unit = "angstrom" if suffix in (".mrc", ".map", ".rec") else "mm"
    volume = rc.Volume(np.random.default_rng(0).random(SHAPE), affine, unit)  # type: ignore[arg-type]
    path = tmp_path / f"image{suffix}"
    rc.write_volume(path, volume)
    read = get_reader(str(path))
    assert read is not None
    (one,) = [layer(data) for data in read(str(path))]
    assert tuple(one.scale) == pytest.approx((3.0, 2.0, 1.5))
    assert tuple(one.translate) == pytest.approx((30.0, 20.0, 10.0))
    assert str(one.units[0]) == {"mm": "millimeter"}.get(unit, unit)
    np.testing.assert_array_equal(one.data, volume.voxels)


def test_what_is_no_volume_is_left_to_other_readers(tmp_path: Path) -> None:
    text = tmp_path / "linker.map"
    text.write_text("Memory map of a program, long enough to hold a header\n" * 40, "utf-8")
    plate = tmp_path / "plate.ome.zarr"
    plate.mkdir()
    (plate / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}', "utf-8")
    assert get_reader(str(text)) is None
    assert get_reader(str(plate)) is None
    assert get_reader([str(text), str(text)]) is None


def test_a_damaged_file_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari.utils import notifications

    said: list[str] = []
    monkeypatch.setattr(notifications, "show_error", said.append)
    path = tmp_path / "damaged.mrc"
    path.write_bytes(b"\0" * 2000)
    read = get_reader(str(path))
    assert read is not None
    assert read(str(path)) == [(None,)]
    assert len(said) == 1
    assert "damaged.mrc" in said[0]


def test_real_files_lie_where_their_headers_say(shared_data: Path) -> None:
    (mri,) = [layer(d) for d in read_by_name(shared_data / "volumes" / "anatomical.nii")]
    volume = rc.read_volume(shared_data / "volumes" / "anatomical.nii")
    assert np.linalg.det(np.array(mri.affine)[:3, :3]) < 0  # LAS: x runs to the left
    np.testing.assert_allclose(
        np.array(mri.data_to_world((3, 4, 5)))[::-1], volume.world((3, 4, 5))
    )


def read_by_name(path: Path) -> list[Any]:
    read = get_reader(str(path))
    assert read is not None
    return read(str(path))


# --- what explain wrote -----------------------------------------------------------------------


def written(folder: Path) -> rc.Volume:
    """A volume with the files of two maps, as ``respondcam explain`` leaves them."""
    import hashlib

    volume = spotted(np.diag([-2.0, 2.0, 2.0, 1.0]))
    path = folder / "scan.nii.gz"
    rc.write_volume(path, volume)
    found = rc.RespondCAM(Spot(), layer="pool")(volume, target="all")
    assert isinstance(found, rc.Explanation)
    for target, name in enumerate(("bright", "dark")):
        files = {}
        for resolution in ("input", "layer"):
            files[resolution] = f"scan.respond.pool.{name}.{resolution}.nii.gz"
            rc.write_volume(folder / files[resolution], found.volume(0, target, resolution))  # type: ignore[arg-type]
        score = float(found.scores[0, target])
        record = {
            "input": {
                "path": str(path),
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            },
            "layer": "pool",
            "target": {"name": name},
            "settings": {"method": "respond"},
            "account": {"score": score, "baseline": 0.0, "mapped": score, "gap": 0.0},
            "notes": ["a note"],
            "files": files,
        }
        (folder / f"scan.respond.pool.{name}.json").write_text(json.dumps(record), "utf-8")
    return volume


def test_maps_of_a_folder_lie_over_their_image(tmp_path: Path) -> None:
    volume = written(tmp_path)
    for resolution in ("input", "layer"):
        image, dark, bright = [layer(d) for d in saved_layers([tmp_path], resolution=resolution)]
        assert [one.name for one in (image, dark, bright)] == [
            "scan.nii.gz",
            "dark · pool · respond",
            "bright · pool · respond",
        ]
        assert [one.visible for one in (image, dark, bright)] == [True, False, True]
        about = bright.metadata[OURS]
        assert about["account_in_words"].startswith("score 1.000 = baseline 0.000 + mapped 1.000")
        assert about["notes"] == ["a note"]
        peak = np.unravel_index(int(np.argmax(bright.data)), bright.data.shape)
        world = np.array(bright.data_to_world([float(i) for i in peak]))[::-1]
        assert np.abs(volume.index(world) - (2.5, 6.5, 10.5)).max() <= 0.5 + 1e-6
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="There are no maps to report"):
        saved_layers([tmp_path / "empty"])


def test_a_single_map_is_known_by_the_record_beside_it(tmp_path: Path) -> None:
    written(tmp_path)
    (one,) = read_by_name(tmp_path / "scan.respond.pool.dark.input.nii.gz")
    assert one[1]["name"] == "dark · pool · respond"
    assert one[1]["contrast_limits"][0] == -one[1]["contrast_limits"][1]
    (image,) = read_by_name(tmp_path / "scan.nii.gz")
    assert image[1]["colormap"] == "gray"


def test_maps_of_windows_are_known_by_what_their_store_says(tmp_path: Path) -> None:
    from respondcam.large import LargeSettings, explain_large
    from respondcam.network.sources import LoadedModel

    volume = spotted(np.diag([2.0, 3.0, 4.0, 1.0]))
    rc.write_volume(tmp_path / "scan.nii.gz", volume)
    settings = LargeSettings(window=(4, 4, 4), layer="pool", target="all", stitch="sum")
    model = LoadedModel(Spot().eval(), "spot", ("bright", "dark"))
    explain_large(tmp_path / "scan.nii.gz", tmp_path, model, settings)
    (store,) = tmp_path.glob("*.ome.zarr")
    first, second = [layer(data) for data in read_by_name(store)]
    assert [first.visible, second.visible] == [True, False]
    assert "pool · respond" in first.name
    assert first.contrast_limits[0] == -first.contrast_limits[1]
    assert tuple(first.scale) == pytest.approx((4.0, 3.0, 2.0))
    peak = np.unravel_index(int(np.argmax(first.data)), first.data.shape)
    assert np.abs(np.array(peak) - (2.5, 6.5, 10.5)).max() <= 1
    plain = tmp_path / "plain.ome.zarr"
    rc.write_volume(plain, volume)
    ((_, options, _),) = read_by_name(plain)
    assert options["colormap"] == "gray"
