"""What holds for every format: bad input has one clear message, files are whole, memory bounded."""

import bz2
import contextlib
import gzip
import inspect
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from respondcam.errors import InputError, VolumeError
from respondcam.volume import (
    Volume,
    companion_suffix,
    numpy_files,
    read_suffixes,
    read_volume,
    stem,
    write_suffixes,
    write_volume,
)
from respondcam.volume.lazy import open_volume

ARRAY = np.random.default_rng(13).normal(size=(4, 5, 6)).astype(np.float32)
AFFINE = np.array([[2.0, 0, 0, -5], [0, 3, 0, 6], [0, 0, 4, 7], [0, 0, 0, 1]])
PLACED = tuple(suffix for suffix in write_suffixes() if suffix != ".npy")
KINDS = (".mrc", ".map.gz", ".rec.bz2", ".nii", ".nii.gz", ".nrrd", ".mha", ".tif", ".npz")


@pytest.mark.parametrize("suffix", PLACED)
@pytest.mark.parametrize("unit", ["angstrom", "mm", "voxel"])
def test_every_format_brings_back_voxels_place_and_unit(tmp_path, suffix, unit):
    write_volume(tmp_path / f"map{suffix}", Volume(ARRAY, AFFINE, unit))
    volume = read_volume(tmp_path / f"map{suffix}")
    np.testing.assert_array_equal(volume.voxels, ARRAY)
    np.testing.assert_allclose(volume.affine, AFFINE, rtol=1e-6)
    assert volume.unit == unit
    assert volume.source == tmp_path / f"map{suffix}"
    assert companion_suffix(volume) == suffix
    assert [path.name for path in tmp_path.iterdir()] == [f"map{suffix}"]


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_grid_along_the_axes_survives_every_pair_of_formats(tmp_path_factory, data):
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    sizes = data.draw(st.tuples(*[st.floats(0.05, 50)] * 3))
    origin = data.draw(st.tuples(*[st.floats(-500, 500)] * 3))
    # a TIFF file of a single section is a 2-D image to everybody
    formats = [suffix for suffix in KINDS if suffix != ".tif" or shape[0] > 1]
    one, other = data.draw(st.tuples(*[st.sampled_from(formats)] * 2))
    unit = data.draw(st.sampled_from(["angstrom", "mm", "voxel"]))
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = origin
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    folder = tmp_path_factory.mktemp("pair")
    write_volume(folder / f"a{one}", Volume(array, affine, unit))
    write_volume(folder / f"b{other}", read_volume(folder / f"a{one}"))
    volume = read_volume(folder / f"b{other}")
    np.testing.assert_array_equal(volume.voxels, array)
    np.testing.assert_allclose(volume.affine, affine, rtol=1e-5, atol=1e-4 * min(sizes))
    assert volume.unit == unit


# ------------------------------------------------------------------ bad input


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VolumeError, match=r"no file or folder.*absent\.mrc"):
        read_volume(tmp_path / "absent.mrc")


def test_names_that_no_file_has_and_what_is_no_file_are_refused(tmp_path):
    with pytest.raises(VolumeError, match=r"Cannot read.*aaa\.mrc.*too long"):
        read_volume(tmp_path / ("a" * 300 + ".mrc"))
    os.mkfifo(tmp_path / "pipe.mrc")
    with pytest.raises(VolumeError, match=r"pipe\.mrc.*no regular file"):
        read_volume(tmp_path / "pipe.mrc")


def test_an_error_that_does_not_know_its_file_gets_its_name(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", ARRAY)
    for error, words in (
        (VolumeError("affine must be finite"), r"a\.npy': affine must be finite"),
        (VolumeError(f"{str(tmp_path / 'a.npy')!r} is odd"), r"^'[^']*a\.npy' is odd$"),
        (OSError(5, "Input/output error"), r"Cannot read .*a\.npy.*Input/output"),
        (MemoryError(), r"a\.npy' does not fit into this machine's memory"),
    ):

        def fail(path, error=error):
            raise error

        monkeypatch.setattr(numpy_files, "read", fail)
        with pytest.raises(VolumeError, match=words):
            read_volume(tmp_path / "a.npy")


def test_three_ways_with_voxels_that_are_not_finite(tmp_path):
    unchecked = inspect.unwrap(read_volume)  # the tests' types would refuse it first
    with pytest.raises(VolumeError, match="'error', 'zero' or 'keep', received 'drop'"):
        unchecked(tmp_path / "a.npy", nonfinite="drop")


@pytest.mark.parametrize("suffix", read_suffixes())
def test_empty_files_folders_and_texts_are_refused_by_name(tmp_path, suffix):
    (tmp_path / f"empty{suffix}").write_bytes(b"")
    (tmp_path / f"text{suffix}").write_text("once upon a time " * 200)
    (tmp_path / f"short{suffix}").write_bytes(b"\x1f\x8b")
    (tmp_path / f"folder{suffix}").mkdir()
    for name in ("empty", "text", "short", "folder"):
        with pytest.raises(VolumeError, match=rf"{name}\{suffix}"):
            read_volume(tmp_path / f"{name}{suffix}")


def test_an_unknown_suffix_lists_the_known_ones(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"x" * 200)
    with pytest.raises(VolumeError, match=r"a\.xyz.*\.mrc, .*\.nii\.gz, .*\.npz.*DICOM"):
        read_volume(tmp_path / "a.xyz")
    with pytest.raises(VolumeError, match=r"a\.xyz.*\.mrc, .*\.nii\.gz, .*\.npz"):
        write_volume(tmp_path / "a.xyz", Volume(ARRAY))


@pytest.mark.parametrize("name", ["a.png", "a.JPEG", "a.npy"])
def test_pictures_are_sent_to_where_they_are_explained(tmp_path, name):
    np.save(tmp_path / "a.npy", ARRAY[0])
    if name != "a.npy":
        (tmp_path / name).write_bytes(b"x" * 200)
    with pytest.raises(VolumeError, match=r"in Python, as a tensor \(batch, channel, y, x\)"):
        read_volume(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "instead"), [("a.hdr", ".nii.gz"), ("a.mhd", ".mha"), ("a.nhdr", ".nrrd")]
)
def test_pairs_are_not_written_but_the_single_file_is_named(tmp_path, name, instead):
    with pytest.raises(VolumeError, match=rf"write to \{instead} instead"):
        write_volume(tmp_path / name, Volume(ARRAY))


@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
@pytest.mark.filterwarnings("ignore:.*damaged tags")
def test_truncated_files_are_refused_by_name(tmp_path, suffix, keep):
    rng = np.random.default_rng(0)
    write_volume(tmp_path / f"a{suffix}", Volume(rng.normal(size=(9, 9, 9)), AFFINE))
    raw = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"cut{suffix}").write_bytes(raw[: int(keep * len(raw))])
    if suffix == ".tif" and keep == 0.9:  # only what comes after the voxels is cut off
        whole = read_volume(tmp_path / f"a{suffix}")
        np.testing.assert_array_equal(read_volume(tmp_path / "cut.tif").voxels, whole.voxels)
        return
    with pytest.raises(VolumeError, match=rf"cut\{suffix}"):
        read_volume(tmp_path / f"cut{suffix}")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_is_an_error_for_the_user_or_no_harm(tmp_path, suffix):
    rng = np.random.default_rng(0)
    write_volume(tmp_path / f"a{suffix}", Volume(ARRAY, AFFINE, "mm"))
    raw = (tmp_path / f"a{suffix}").read_bytes()
    for _ in range(100):
        damaged = bytearray(raw)
        for place in rng.integers(0, min(len(raw), 1100), rng.integers(1, 4)):
            damaged[place] = rng.integers(0, 256)
        (tmp_path / f"b{suffix}").write_bytes(bytes(damaged))
        try:
            volume = read_volume(tmp_path / f"b{suffix}", nonfinite="keep")
            harmless = volume.voxels.nbytes <= 64 * len(raw)
        except VolumeError as error:
            harmless = f"b{suffix}" in str(error)
        assert harmless


def test_voxels_that_are_not_finite_are_counted_and_can_be_zeroed_or_kept(tmp_path):
    array = ARRAY.copy()
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(VolumeError, match=r"a\.npy.* 3 voxels of 120 .*nonfinite='zero'"):
        read_volume(tmp_path / "a.npy")
    zeroed = read_volume(tmp_path / "a.npy", nonfinite="zero").voxels
    np.testing.assert_array_equal(zeroed, np.where(np.isfinite(array), array, 0))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.npy", nonfinite="keep").voxels, array)


def test_float64_beyond_float32_counts_as_infinite(tmp_path):
    array = ARRAY.astype(np.float64)
    array[0, 0, 0] = 1e300
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(VolumeError, match="1 voxels"):
        read_volume(tmp_path / "a.npy")


def test_a_map_that_is_not_finite_is_not_written(tmp_path):
    array = ARRAY.copy()
    array[0, 0, 0] = np.nan
    with pytest.raises(VolumeError, match="1 voxels of 120"):
        write_volume(tmp_path / "a.mrc", Volume(array))
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ whole files


def content(path: Path) -> list[bytes]:
    """Of a file, or of all files of a format that is a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file.read_bytes() for file in files if file.is_file()]


@pytest.mark.parametrize("suffix", PLACED)
def test_a_write_that_fails_leaves_what_was_there(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"map{suffix}"
    write_volume(path, Volume(ARRAY, AFFINE))
    before = content(path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="No space left"):
        write_volume(path, Volume(2 * ARRAY, AFFINE))
    assert content(path) == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.*existing folder"):
        write_volume(tmp_path / "absent" / "a.mrc", Volume(ARRAY))


def test_a_volume_is_left_as_it_was_by_writing_it(tmp_path):
    for suffix in PLACED:
        volume = Volume(ARRAY, AFFINE, "mm", header={"format": "x"})
        write_volume(tmp_path / f"map{suffix}", volume)
        np.testing.assert_array_equal(volume.voxels, ARRAY)
        np.testing.assert_array_equal(volume.affine, AFFINE)
        assert volume.header == {"format": "x"}


# ------------------------------------------------------------------ memory


def peak_bytes(path):
    """Peak memory of Python and NumPy that reading takes, and the size of the voxels or -1."""
    with contextlib.suppress(VolumeError):  # imports and checks made once are not counted
        small = path.with_name(f"small{path.name}")
        write_volume(small, Volume(ARRAY))
        read_volume(small)
    tracemalloc.start()
    try:
        size = read_volume(path).voxels.nbytes
    except VolumeError:
        size = -1
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, size


@pytest.mark.parametrize("suffix", [".mrc", ".mrc.gz", ".nii", ".nii.gz", ".npy", ".npz", ".mha"])
def test_reading_takes_the_memory_of_the_voxels_and_little_more(tmp_path, suffix):
    array = np.zeros((96, 256, 256), np.float32)  # 24 MiB
    array[::7] = 1
    write_volume(tmp_path / f"a{suffix}", Volume(array))
    used, size = peak_bytes(tmp_path / f"a{suffix}")
    assert size == array.nbytes
    assert used < array.nbytes + 8 * 2**20  # gzip itself takes four


def huge_mrc():
    header = bytearray(1024)
    header[:16] = np.array([10000, 10000, 10000, 2], "<i4").tobytes()
    header[208:212] = b"MAP "
    return bytes(header)


def huge_nifti():
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape((10000, 10000, 10000))
    header.set_data_dtype(np.float32)
    header.set_sform(np.eye(4), 1)
    header["vox_offset"] = 352
    return header.binaryblock + bytes(4)


@pytest.mark.parametrize("suffix", [".mrc", ".mrc.gz", ".mrc.bz2", ".nii", ".nii.gz"])
def test_a_header_that_claims_terabytes_allocates_nothing(tmp_path, suffix):
    pack = {".gz": gzip.compress, ".bz2": bz2.compress}.get(Path(suffix).suffix, bytes)
    content = (huge_mrc() if suffix.startswith(".mrc") else huge_nifti()) + bytes(10**6)
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(pack(content))
    used, size = peak_bytes(path)
    assert size == -1
    assert used < 4 * 2**20


# ------------------------------------------------------------------ names and imports


@pytest.mark.parametrize(
    ("name", "format_", "expected"),
    [
        ("a.nii", None, ".nii"),
        ("a.MAP.GZ", None, ".map.gz"),
        ("a.img", None, ".nii.gz"),
        ("a.mhd", None, ".mha"),
        ("a.nhdr", None, ".nrrd"),
        ("a.npy", None, ".npz"),
        ("a.dcm", None, ".nii.gz"),
        ("series", "dicom", ".nii.gz"),
    ],
)
def test_the_suffix_of_a_companion(name, format_, expected):
    volume = Volume(ARRAY, unit="mm", source=Path(name), header={"format": format_})
    assert companion_suffix(volume) == expected
    assert expected in write_suffixes()


def test_stems_lose_the_whole_suffix():
    assert stem("x/a.b.nii.gz") == "a.b"
    assert stem(Path("EMD-1.MAP")) == "EMD-1"
    assert stem("1.2.840.113") == "1.2.840.113"
    assert stem(".mrc") == ".mrc"


def test_importing_the_room_loads_nothing_heavy():
    code = (
        "import sys, respondcam.volume\n"
        "heavy = {'torch', 'SimpleITK', 'nibabel', 'mrcfile', 'tifffile', 'matplotlib', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_name_that_no_file_can_have_is_refused_in_words():
    for name in ("a\0b/c.mrc", "\0.nii"):
        with pytest.raises(VolumeError, match=r"no file|Cannot read"):
            read_volume(name)


@pytest.mark.parametrize("suffix", [".nii.gz", ".mrc.gz", ".npz"])
@pytest.mark.parametrize("lazy", [False, True])
def test_checksums_of_packed_files_are_compared(tmp_path, suffix, lazy):
    voxels = np.random.default_rng(4).normal(size=(8, 8, 8)).astype(np.float32)
    write_volume(tmp_path / f"a{suffix}", Volume(voxels, unit="mm"))
    raw = (tmp_path / f"a{suffix}").read_bytes()
    if suffix.endswith(".gz"):  # stored as it is, so that a bit can be turned among the voxels
        raw = gzip.compress(gzip.decompress(raw), 0)
    at = raw.index(voxels[4].tobytes()[:100])
    flipped = raw[: at + 3] + bytes([raw[at + 3] ^ 0x01]) + raw[at + 4 :]
    path = tmp_path / f"b{suffix}"
    path.write_bytes(flipped)
    with pytest.raises(VolumeError, match="CRC"):
        open_volume(path, tmp_path) if lazy else read_volume(path)
    path.write_bytes(raw)
    read_volume(path)


def test_what_follows_the_voxels_is_read_on_only_so_far(tmp_path, monkeypatch):
    monkeypatch.setattr("respondcam.volume._stream._LONGEST_REST", 1 << 20)
    write_volume(tmp_path / "a.nii", Volume(np.ones((4, 4, 4)), unit="mm"))
    raw = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(raw + bytes(1 << 19)))
    assert read_volume(tmp_path / "b.nii.gz").voxels.max() == 1
    (tmp_path / "c.nii.gz").write_bytes(gzip.compress(raw + bytes(1 << 21)))
    with pytest.raises(VolumeError, match="goes on for more than 1 MiB"):
        read_volume(tmp_path / "c.nii.gz")


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_packing_without_end_is_given_up_early(tmp_path, pack):
    """What a header that lies says is not unpacked for long."""
    write_volume(tmp_path / "a.mrc", Volume(np.ones((4, 4, 4)), unit="angstrom"))
    raw = (tmp_path / "a.mrc").read_bytes()
    path = tmp_path / "b.mrc.gz"
    path.write_bytes(pack(raw + bytes(1 << 25)))
    with pytest.raises(VolumeError, match="goes on for more than 16 MiB"):
        read_volume(path)
    path.write_bytes(pack(raw[:92] + struct.pack("<i", 1 << 30) + raw[96:] + bytes(1 << 20)))
    with pytest.raises(VolumeError, match="extended header of 1073741824 bytes"):
        read_volume(path)


def test_a_link_that_leads_nowhere_is_named_as_such(tmp_path):
    (tmp_path / "a.mrc").symlink_to(tmp_path / "gone.mrc")
    with pytest.raises(VolumeError, match=r"a\.mrc' is a link that leads nowhere: .*gone\.mrc"):
        read_volume(tmp_path / "a.mrc")
