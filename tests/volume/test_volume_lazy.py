"""Volumes that stay on disk: any box is what reading the whole file gives there."""

import bz2
import gzip

import nibabel as nib
import numpy as np
import pytest
import tifffile

from respondcam.errors import InputError, VolumeError
from respondcam.volume import Volume, read_volume, write_volume
from respondcam.volume.lazy import RawArray, Stored, open_volume

ARRAY = np.random.default_rng(17).normal(size=(5, 6, 40)).astype(np.float32)
AFFINE = np.array([[2.0, 0, 0, -5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
BOXES = (
    ((0, 0, 0), (5, 6, 40)),
    ((1, 2, 3), (4, 5, 38)),  # whole rows are read and cut
    ((1, 2, 30), (4, 5, 33)),  # rows are so much longer that parts of them are read
    ((4, 5, 39), (5, 6, 40)),
)
IN_PLACE = (".mrc", ".rec", ".map", ".nii", ".tif", ".ome.zarr")
MRC = (".mrc", ".rec", ".map", ".mrc.gz", ".rec.bz2")  # has no channels
UNPACKED = (".mrc.gz", ".rec.bz2", ".nii.gz", ".nrrd", ".mha", ".npz")


def agrees(path, scratch):
    """Compare every box of a volume on disk with the file read whole; give the volume on disk."""
    whole, lazy = read_volume(path), open_volume(path, scratch)
    assert lazy.space.voxels.shape == whole.voxels.shape
    assert not lazy.space.voxels.any()
    np.testing.assert_array_equal(lazy.space.affine, whole.affine)
    assert (lazy.space.unit, lazy.space.source) == (whole.unit, path)
    voxels = whole.voxels.reshape(whole.channels, *whole.shape)
    for start, stop in BOXES:
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        found = lazy.read(start, stop)
        np.testing.assert_array_equal(found, voxels[:, *box])
        assert found.dtype == np.float32
    assert isinstance(lazy.stored, Stored)
    return lazy


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [(one, n) for one in (*IN_PLACE, *UNPACKED) for n in (1, 2) if n == 1 or one not in MRC],
)
def test_boxes_are_those_of_the_whole_file(tmp_path, suffix, channels):
    path, scratch = tmp_path / f"a{suffix}", tmp_path / "scratch"
    scratch.mkdir()
    write_volume(path, Volume(np.stack([ARRAY, -ARRAY])[:channels], AFFINE, "mm"))
    files = agrees(path, scratch).files((1, 2, 3), (4, 5, 38))
    assert all(file.is_file() for file in files)
    if suffix in UNPACKED:
        assert {file.parent for file in files} == {scratch}
    else:
        assert all(file == path or path in file.parents for file in files)
        assert not list(scratch.iterdir())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(5, 6, 40), (2, 5, 6, 40)])
def test_arrays_alone_in_either_order(tmp_path, order, shape):
    array = np.random.default_rng(0).integers(0, 999, shape).astype(">i2")
    np.save(tmp_path / "a.npy", np.asarray(array, order=order))
    agrees(tmp_path / "a.npy", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npy"]


def test_stored_numbers_are_scaled(tmp_path):
    image = nib.Nifti1Image(np.arange(1200, dtype=np.int16).reshape(40, 6, 5), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    image.to_filename(tmp_path / "a.nii")
    lazy = agrees(tmp_path / "a.nii", tmp_path)
    (voxel,) = lazy.read((0, 0, 1), (1, 1, 2)).ravel().tolist()
    assert voxel == nib.load(tmp_path / "a.nii").get_fdata()[1, 0, 0] == 0.5 * 30 - 3


def test_numbers_that_are_not_real_are_refused(tmp_path):
    nib.Nifti1Image(np.zeros((3, 4, 5), np.complex64), np.eye(4)).to_filename(tmp_path / "a.nii")
    with pytest.raises(VolumeError, match=r"a\.nii.*complex64.*real numbers"):
        open_volume(tmp_path / "a.nii", tmp_path)


@pytest.mark.parametrize("axes", ["ZYX", "CZYX", "ZCYX"])
@pytest.mark.parametrize("packed", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_in_place_or_unpacked_page_by_page(tmp_path, axes, packed, order):
    shape = [{"C": 2, "Z": 5, "Y": 6, "X": 40}[axis] for axis in axes]
    array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    sizes = {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.3, "PhysicalSizeZ": 0.9}
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": axes, **sizes}
    tifffile.imwrite(path, array, compression=packed, byteorder=order, metadata=metadata)
    lazy = agrees(path, tmp_path)
    made = sorted(file.name for file in tmp_path.iterdir() if file != path)
    assert made == (["unpacked.json", "unpacked.npy"] if packed else [])
    source = array.transpose([axes.index(axis) for axis in "CZYX" if axis in axes])
    found = lazy.read((1, 2, 3), (4, 5, 38))
    np.testing.assert_array_equal(
        found.reshape(source[..., 1:4, 2:5, 3:38].shape), source[..., 1:4, 2:5, 3:38]
    )


@pytest.mark.parametrize("suffix", [".mrc.gz", ".nrrd"])
def test_what_was_unpacked_before_is_used_again(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_volume(path, Volume(ARRAY, AFFINE, "mm"))
    (tmp_path / "scratch").mkdir()
    first = open_volume(path, tmp_path / "scratch").read((0, 0, 0), (5, 6, 40))
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "scratch").iterdir()}
    path.write_bytes(path.read_bytes()[:-30] if suffix == ".mrc.gz" else path.read_bytes())
    again = open_volume(path, tmp_path / "scratch")
    np.testing.assert_array_equal(again.read((0, 0, 0), (5, 6, 40)), first)
    assert stamps == {file: file.stat().st_mtime_ns for file in (tmp_path / "scratch").iterdir()}


@pytest.mark.parametrize("suffix", [".mrc", ".nii", ".npy"])
def test_a_file_that_shrinks_or_goes_while_it_is_open_has_words(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_volume(path, Volume(ARRAY))
    lazy = open_volume(path, tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    lazy.read((0, 0, 0), (4, 6, 40))
    with pytest.raises(VolumeError, match=rf"a\{suffix}.*truncated.*1200 voxels"):
        lazy.read((4, 0, 0), (5, 6, 40))
    path.unlink()
    with pytest.raises(VolumeError, match=rf"Cannot read .*a\{suffix}"):
        lazy.read((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize("suffix", [".mrc.gz", ".mrc.bz2", ".nii.gz"])
@pytest.mark.filterwarnings("ignore:.*longer than its header says")
def test_no_more_is_unpacked_than_the_header_declares(tmp_path, suffix):
    """A few kilobytes of packing could otherwise fill any disk."""
    write_volume(tmp_path / f"a{suffix}", Volume(ARRAY, AFFINE, "mm"))
    opener = bz2.open if suffix.endswith("bz2") else gzip.open
    with opener(tmp_path / f"a{suffix}") as stream:
        plain = stream.read()
    path = tmp_path / f"b{suffix}"
    with opener(path, "wb") as stream:
        stream.write(plain + bytes(1 << 22))
    agrees(path, tmp_path)
    (copy,) = tmp_path.glob("unpacked.*")
    assert copy.stat().st_size == len(plain)
    copy.unlink()
    with opener(path, "wb") as stream:
        stream.write(plain[:-4])
    with pytest.raises(VolumeError, match=rf"b\{suffix}' is truncated.*4 bytes are missing"):
        open_volume(path, tmp_path)
    with opener(path, "wb") as stream:
        stream.write(plain)
    path.write_bytes(path.read_bytes()[:-2])  # the checksum stands at the end
    with pytest.raises(VolumeError, match=rf"b\{suffix}' is truncated or damaged"):
        open_volume(path, tmp_path)
    assert not list(tmp_path.glob("unpacked.*"))


def test_a_place_that_is_none_is_said_of_the_file(tmp_path):
    write_volume(tmp_path / "a.nii", Volume(ARRAY, AFFINE, "mm"))
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[280:328] = bytes(48)
    (tmp_path / "a.nii").write_bytes(raw)
    with pytest.raises(VolumeError, match=r"a\.nii': affine must be invertible"):
        open_volume(tmp_path / "a.nii", tmp_path)


def test_what_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(VolumeError, match=r"no file or folder.*absent\.mrc"):
        open_volume(tmp_path / "absent.mrc", tmp_path)
    write_volume(tmp_path / "a.npz", Volume(ARRAY))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        open_volume(tmp_path / "a.npz", tmp_path / "file")
    (tmp_path / "folder").mkdir()
    with pytest.raises(VolumeError, match="folder"):
        open_volume(tmp_path / "folder", tmp_path)


@pytest.mark.parametrize(("start", "stop"), [((0, 0), (2, 30)), ((2, 30), (5, 40))])
def test_an_array_of_two_axes(tmp_path, start, stop):
    ARRAY[0, :5].tofile(tmp_path / "numbers")
    raw = RawArray(tmp_path / "numbers", 0, (5, 40), np.dtype(np.float32))
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    np.testing.assert_array_equal(raw.read(start, stop), ARRAY[0, :5][box])
    assert raw.files(start, stop) == [tmp_path / "numbers"]
