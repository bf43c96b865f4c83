"""NumPy files: our archives come back whole, foreign ones are read without unpickling anything."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from respondcam.errors import VolumeError
from respondcam.volume import Volume, read_volume, write_volume
from respondcam.volume.lazy import open_volume

ARRAY = np.random.default_rng(11).normal(size=(4, 5, 6)).astype(np.float32)
AFFINE = np.array([[1, 0.2, 0, 5], [0, 2, 0.1, 6], [0, 0, 3, 7], [0, 0, 0, 1]])


def test_truths_are_no_lengths(tmp_path):
    good = io.BytesIO()
    np.lib.format.write_array(good, np.ones((1, 2, 4), np.float32))
    text = good.getvalue().replace(b"(1, 2, 4), }   ", b"(True, 2, 4), }")
    (tmp_path / "a.npy").write_bytes(text)
    with pytest.raises(VolumeError, match=r"its shape is \(True, 2, 4\)"):
        read_volume(tmp_path / "a.npy")


@pytest.mark.parametrize("unit", ["angstrom", "mm", "voxel"])
def test_our_archive_comes_back_exactly(tmp_path, unit):
    write_volume(tmp_path / "a.npz", Volume(ARRAY, AFFINE, unit))
    volume = read_volume(tmp_path / "a.npz")
    np.testing.assert_array_equal(volume.voxels, ARRAY)
    np.testing.assert_array_equal(volume.affine, AFFINE)
    assert volume.unit == unit
    with np.load(tmp_path / "a.npz") as archive:
        np.testing.assert_array_equal(archive["affine"], AFFINE)


@pytest.mark.parametrize("dtype", ["u1", ">i2", "f2", "f4", ">f8", "?"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (2, 4, 5, 3)])
def test_foreign_arrays_of_every_kind(tmp_path, dtype, order, shape):
    array = np.asarray(np.random.default_rng(0).integers(0, 9, shape).astype(dtype), order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", picture=array)
    np.savez_compressed(tmp_path / "c.npz", array)
    for name in ("a.npy", "b.npz", "c.npz"):
        volume = read_volume(tmp_path / name)
        np.testing.assert_array_equal(volume.voxels, array.astype(np.float32))
        assert (volume.unit, volume.voxel_size) == ("voxel", (1, 1, 1))


def test_several_arrays_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", scan=ARRAY, mask=ARRAY)
    with pytest.raises(VolumeError, match=r"a\.npz.*2 arrays: mask, scan"):
        read_volume(tmp_path / "a.npz")


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    objects = np.empty((2, 2, 2), object)
    objects[:] = Bomb()
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "b.npz", voxels=ARRAY, affine=objects, unit=np.array("mm"))
    for name, words in (("a.npy", "Python objects"), ("b.npz", "damaged array")):
        with pytest.raises(VolumeError, match=words):
            read_volume(tmp_path / name)


def npy_header(shape, descr="<f4"):
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy_header((10**4, 10**4, 10**4)) + bytes(99), "4000000000000 bytes"),
        (npy_header((2, 2, 2)) + bytes(31), "truncated"),
        (npy_header((0, 2, 2)), "no voxels"),
        (npy_header((-2, 2, 2)) + bytes(64), "no voxels|damaged"),
        (npy_header((2, 2)) + bytes(16), r"shape \(2, 2\)"),
        (npy_header((2, 2, 2), "<c8") + bytes(64), "real numbers"),
        (npy_header((2, 2, 2), "<U4") + bytes(128), "real numbers"),
        (b"\x93NUMPY\x01\x00\xff\xff{", "damaged"),
        (b"\x93NUMPY\x07\x00" + bytes(64), "damaged"),
        (npy_header("(2, 2").replace(b"'(2, 2'", b"(2, 2"), "damaged"),
        (npy_header((2, 2, 2)).replace(b"{'descr", b"{b'descr"), "damaged"),
        (b"once upon a time", "no NumPy array"),
        (npy_header("-" * 8000 + "1"), "header cannot be parsed"),
    ],
)
def test_lying_and_damaged_arrays_are_refused(tmp_path, content, words):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(VolumeError, match=rf"a\.npy.*({words})"):
        read_volume(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("picture.npy", content)
    with pytest.raises(VolumeError, match=rf"b\.npz.*({words})"):
        read_volume(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"affine": np.eye(3)}, r"damaged place: affine of shape \(3, 3\), unit 'mm'"),
        ({"affine": np.full((4, 4), "x")}, r"damaged place: affine of shape \(4, 4\)"),
        ({"unit": np.array("parsec")}, "damaged place: .* unit 'parsec'"),
        ({"affine": np.zeros((400, 400))}, r"array 'affine\.npy' that is too large"),
        ({"affine": np.full((4, 4), np.nan)}, r"a\.npz.*affine must be finite"),
    ],
)
def test_an_archive_like_ours_with_another_place_is_refused(tmp_path, change, words):
    np.savez(
        tmp_path / "a.npz", **{"voxels": ARRAY, "affine": AFFINE, "unit": np.array("mm"), **change}
    )
    with pytest.raises(VolumeError, match=words):
        read_volume(tmp_path / "a.npz")


def test_an_affine_that_declares_more_than_it_holds_is_refused(tmp_path):
    np.savez(tmp_path / "whole.npz", voxels=ARRAY, affine=AFFINE, unit=np.array("mm"))
    with (
        zipfile.ZipFile(tmp_path / "whole.npz") as whole,
        zipfile.ZipFile(tmp_path / "a.npz", "w") as archive,
    ):
        for name in ("voxels.npy", "unit.npy"):
            archive.writestr(name, whole.read(name))
        archive.writestr("affine.npy", npy_header((10**4, 10**4)))
    with pytest.raises(VolumeError, match=r"'affine\.npy': it declares .*\(10000, 10000\)"):
        read_volume(tmp_path / "a.npz")


def test_headers_of_the_second_version(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array(file, ARRAY, version=(2, 0))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.npy").voxels, ARRAY)


def test_damaged_archives_are_refused(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", ARRAY)
    raw = (tmp_path / "a.npz").read_bytes()
    flipped = bytearray(raw)
    flipped[len(raw) // 2] ^= 0xFF
    for content in (raw[:-40], b"once upon a time", bytes(flipped), raw[:10]):
        (tmp_path / "b.npz").write_bytes(content)
        with pytest.raises(VolumeError, match=r"b\.npz"):
            read_volume(tmp_path / "b.npz")


def test_an_array_alone_is_written_only_if_it_loses_nothing(tmp_path):
    write_volume(tmp_path / "a.npy", Volume(ARRAY))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), ARRAY)
    for volume in (Volume(ARRAY, AFFINE), Volume(ARRAY, unit="mm")):
        with pytest.raises(VolumeError, match=r"\.npz"):
            write_volume(tmp_path / "b.npy", volume)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize(
    "head",
    [
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b" " * 200,
        b"\x93NUMPYv\x00\x27\x64\x65\x73" + b" " * 200,
        b"\x93NUMPY\x02\x00\x00\x40",  # cut off within the length, two bytes before it count
    ],
)
def test_a_header_of_gigabytes_is_refused_before_it_is_read(tmp_path, head):
    """NumPy takes the memory that the header asks for; a file of unknown version is none."""
    (tmp_path / "a.npy").write_bytes(head)
    tracemalloc.start()
    with pytest.raises(VolumeError, match=r"a\.npy"):
        read_volume(tmp_path / "a.npy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_a_unit_of_numbers_that_are_no_characters(tmp_path):
    write_volume(tmp_path / "a.npz", Volume(ARRAY, unit="mm"))
    with np.load(tmp_path / "a.npz") as archive:
        parts = dict(archive)
    parts["unit"] = np.frombuffer(b"\xff\xff\xff\xff", "<U1")[0:1]
    np.savez(tmp_path / "a.npz", **parts)
    with pytest.raises(VolumeError, match="damaged place"):
        read_volume(tmp_path / "a.npz")


@pytest.mark.parametrize("dtype", ["V0", "U0", "c8", "M8[s]"])
def test_other_types_are_not_laid_open(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4), dtype))
    with pytest.raises(VolumeError, match="accepted are real numbers"):
        open_volume(tmp_path / "a.npy", tmp_path)


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_packs_best_is_read_from_every_packing(tmp_path, packing):
    """Zeros pack to less than a thousandth with bzip2 and LZMA, to no less with DEFLATE."""
    array = np.zeros((100, 200, 200), np.float32)
    packed = io.BytesIO()
    np.save(packed, array)
    path = tmp_path / "zeros.npz"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("zeros.npy", packed.getvalue())
    np.testing.assert_array_equal(read_volume(path).voxels, array)


@pytest.mark.parametrize("packing", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_arrays_that_their_packing_cannot_hold_are_refused(tmp_path, packing):
    path = tmp_path / "lie.npz"
    with zipfile.ZipFile(path, "w", packing) as archive:
        archive.writestr("lie.npy", npy_header((1000, 1000, 1000)))
    with pytest.raises(VolumeError, match="the file can hold"):
        read_volume(path)
