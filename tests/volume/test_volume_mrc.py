"""MRC: voxels against mrcfile itself, places against the cell worked out by hand."""

import gzip
import time
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from mrcfile.dtypes import HEADER_DTYPE

from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume import Volume, read_volume, write_volume

ARRAY = np.random.default_rng(3).normal(size=(4, 5, 6)).astype(np.float32)


def write_raw(path, *, array=ARRAY, order="<", extended=b"", **fields):
    """Write a map with mrcfile's header type and nothing else of mrcfile."""
    header = np.zeros((), HEADER_DTYPE.newbyteorder(order))
    header["nz"], header["ny"], header["nx"] = array.shape
    header["mz"], header["my"], header["mx"] = array.shape
    header["cella"] = tuple(2.0 * n for n in array.shape[::-1])
    header["cellb"] = (90, 90, 90)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    modes = {"i1": 0, "u1": 0, "i2": 1, "f4": 2, "c8": 4, "u2": 6, "f2": 12}
    header["mode"] = modes[array.dtype.str[1:]]
    header["map"] = b"MAP "
    header["machst"] = [0x44, 0x44, 0, 0] if order == "<" else [0x11, 0x11, 0, 0]
    header["ispg"] = 1
    header["nsymbt"] = len(extended)
    for name, value in fields.items():
        header[name] = value
    voxels = array.astype(array.dtype.newbyteorder(order)).tobytes()
    path.write_bytes(header.tobytes() + extended + voxels)
    return path


def test_the_densities_read_without_a_warning(shared_data):
    paths = sorted((shared_data / "densities").glob("*.mrc"))
    assert len(paths) == 23
    for path in paths:
        volume = read_volume(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = mrcfile.read(path)
        np.testing.assert_array_equal(volume.voxels, reference)
        assert volume.voxel_size == pytest.approx((10, 10, 10))
        assert volume.unit == "angstrom"
    half = volume.shape[0] // 2  # these are placed by start indices
    np.testing.assert_allclose(volume.world((half, half, half)), 0, atol=1e-9)


def test_permuted_axes_of_a_real_oblique_map(shared_data):
    path = shared_data / "volumes" / "EMD-3001.map"
    volume = read_volume(path)
    with mrcfile.open(path) as file:
        header, stored = file.header, file.data
        # columns lie along z, rows along x, sections along y
        assert [int(header[name]) for name in ("mapc", "mapr", "maps")] == [3, 1, 2]
        start_z, start_x, start_y = (
            int(header[name]) for name in ("nxstart", "nystart", "nzstart")
        )
        lengths = [float(header.cella[axis]) for axis in "xyz"]
        intervals = [int(header[name]) for name in ("mx", "my", "mz")]
        beta = np.radians(float(header.cellb.beta))
        assert volume.shape == (73, 25, 43)
        a, b, c = (
            np.array([lengths[0], 0, 0]),
            np.array([0, lengths[1], 0]),
            lengths[2] * np.array([np.cos(beta), 0, np.sin(beta)]),
        )
        for section, row, column in ((0, 0, 0), (24, 42, 72), (3, 17, 50)):
            assert volume.voxels[column, section, row] == stored[section, row, column]
            expected = (
                a * (start_x + row) / intervals[0]
                + b * (start_y + section) / intervals[1]
                + c * (start_z + column) / intervals[2]
            )
            np.testing.assert_allclose(volume.world((column, section, row)), expected, atol=1e-9)


def test_start_indices_count_columns_rows_and_sections(tmp_path):
    path = write_raw(
        tmp_path / "a.mrc", mapc=2, mapr=3, maps=1, nxstart=10, nystart=20, nzstart=30,
        mx=4, my=5, mz=6, cella=(4.0, 10.0, 18.0),
    )  # fmt: skip
    volume = read_volume(path)
    assert volume.voxel_size == (3, 2, 1)
    np.testing.assert_allclose(volume.world((0, 0, 0)), (30 * 1, 10 * 2, 20 * 3))
    # section 1, row 2, column 3 lies at x 1, z 2, y 3
    assert volume.voxels[2, 3, 1] == ARRAY[1, 2, 3]


def test_an_origin_goes_before_start_indices_and_needs_the_stamp(tmp_path):
    path = write_raw(tmp_path / "a.mrc", nxstart=10, origin=(1.0, 2.0, 3.0))
    np.testing.assert_array_equal(read_volume(path).affine[:3, 3], (1, 2, 3))
    path = write_raw(tmp_path / "b.mrc", nxstart=10, origin=(1.0, 2.0, 3.0), map=b"")
    with pytest.warns(RespondCAMWarning, match=r"b\.mrc.*no MAP stamp"):
        volume = read_volume(path)
    np.testing.assert_array_equal(volume.affine[:3, 3], (20, 0, 0))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", ["i1", "i2", "f4", "u2", "f2"])
@pytest.mark.parametrize("stamp", [True, False])
def test_every_mode_in_both_byte_orders_reads_as_mrcfile_reads_it(tmp_path, order, dtype, stamp):
    array = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(dtype)
    path = write_raw(tmp_path / "a.mrc", array=array, order=order, extended=b"x" * 160)
    expected = mrcfile.read(path)
    if not stamp:  # the byte order then follows from the numbers alone
        write_raw(path, array=array, order=order, extended=b"x" * 160, machst=[0] * 4)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, expected.astype(np.float32))
    np.testing.assert_array_equal(volume.voxels, array.astype(np.float32))
    assert volume.voxel_size == (2, 2, 2)


def test_bytes_of_imod_are_unsigned_unless_its_flag_says_otherwise(tmp_path):
    array = np.full((3, 4, 5), 200, np.uint8)
    path = write_raw(tmp_path / "a.rec", array=array)
    raw = bytearray(path.read_bytes())
    for flags, expected in ((0, 200), (1, 200 - 256)):
        raw[152:160] = np.array([1146047817, flags], "<i4").tobytes()
        path.write_bytes(bytes(raw))
        assert (read_volume(path).voxels == expected).all()


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_stamp_decides_where_both_byte_orders_make_sense(tmp_path, order):
    """256 is 65536 the other way round."""
    array = np.zeros((256, 256, 256), np.int8)
    array[1, 2, 3] = 7
    path = write_raw(tmp_path / "a.mrc", array=array, order=order)
    np.testing.assert_array_equal(mrcfile.read(path), array)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, array)
    assert volume.voxel_size == (2, 2, 2)


def test_two_integers_in_a_byte_are_refused(tmp_path):
    path = write_raw(tmp_path / "a.mrc", array=np.zeros((3, 4, 5), np.uint8))
    raw = bytearray(path.read_bytes())
    raw[152:160] = np.array([1146047817, 16], "<i4").tobytes()
    path.write_bytes(bytes(raw))
    with pytest.raises(VolumeError, match="two 4-bit integers in each byte"):
        read_volume(path)


def test_bytes_whose_statistics_are_unsigned_are_read_so_with_a_warning(tmp_path):
    array = np.full((3, 4, 5), 200, np.uint8)
    path = write_raw(tmp_path / "a.mrc", array=array, dmin=0, dmax=200)
    with pytest.warns(RespondCAMWarning, match="unsigned"):
        assert (read_volume(path).voxels == 200).all()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cella": (0.0, 0.0, 0.0)}, "no voxel size"),
        ({"mapc": 0, "mapr": 0, "maps": 0}, "columns, rows, sections taken as x, y, z"),
        ({"cellb": (10.0, 20.0, 170.0)}, "impossible cell angles"),
        ({"origin": (np.nan, 0.0, 0.0)}, "impossible origin"),
    ],
)
def test_what_is_assumed_is_warned_about_with_the_files_name(tmp_path, fields, words):
    path = write_raw(tmp_path / "odd.mrc", **fields)
    with pytest.warns(RespondCAMWarning, match=rf"odd\.mrc.*{words}"):
        volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, ARRAY)
    assert volume.unit == ("voxel" if "cella" in fields else "angstrom")


def test_zero_angles_mean_right_angles_without_a_word(tmp_path):
    path = write_raw(tmp_path / "a.mrc", cellb=(0.0, 0.0, 0.0))
    np.testing.assert_array_equal(read_volume(path).affine, np.diag([2.0, 2.0, 2.0, 1.0]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ispg": 0, "mz": 1}, "stack of 4 images.*set_volume"),
        ({"ispg": 401, "mz": 2}, "stack of volumes"),
        ({"array": ARRAY[:1], "ispg": 0}, "single 2-D image"),
        ({"array": ARRAY.astype(np.complex64)}, r"complex floats \(MRC mode 4\)"),
        ({"mode": 101}, "4-bit integers"),
        ({"mode": 77}, "mode 77"),
        ({"nx": 0}, "no voxels"),
        ({"nx": -3}, "no MRC file"),
        ({"nx": 10**4, "ny": 10**4, "nz": 10**4}, r"\(10000, 10000, 10000\), 4000000000000 bytes"),
        ({"nz": 5}, "truncated"),
        ({"nsymbt": -1}, "extended header of -1"),
    ],
)
def test_what_is_no_volume_is_refused_by_name(tmp_path, fields, words):
    path = write_raw(tmp_path / "bad.mrc", **fields)
    with pytest.raises(VolumeError, match=rf"bad\.mrc.*{words}"):
        read_volume(path)


def test_an_extended_header_that_is_not_there_is_passed_over(tmp_path):
    path = write_raw(tmp_path / "a.map", nsymbt=160)
    with pytest.warns(RespondCAMWarning, match="160 bytes that is not there"):
        np.testing.assert_array_equal(read_volume(path).voxels, ARRAY)


def test_bytes_after_the_voxels_are_mentioned(tmp_path):
    path = write_raw(tmp_path / "a.map")
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.warns(RespondCAMWarning, match="longer than its header says"):
        np.testing.assert_array_equal(read_volume(path).voxels, ARRAY)


def test_gzip_is_recognised_whatever_the_name(tmp_path):
    plain = write_raw(tmp_path / "a.mrc", origin=(1.0, 2.0, 3.0))
    packed = tmp_path / "b.map"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    np.testing.assert_array_equal(read_volume(packed).voxels, ARRAY)
    np.testing.assert_array_equal(read_volume(packed).affine, read_volume(plain).affine)


# ------------------------------------------------------------------ writing


def position_in_mrcfile(path, section, row, column):
    """World position of a voxel by the header alone, for files with axes x, y, z."""
    with mrcfile.open(path) as file:
        header = file.header
        assert [int(header[name]) for name in ("mapc", "mapr", "maps")] == [1, 2, 3]
        assert [float(angle) for angle in header.cellb.tolist()] == [90, 90, 90]
        size = np.array(file.voxel_size.tolist(), float)
        origin = np.array(header.origin.tolist(), float)
        start = np.array([int(header[name]) for name in ("nxstart", "nystart", "nzstart")])
        assert not (origin.any() and start.any())
        return origin + size * (start + np.array([column, row, section])), file.data[
            section, row, column
        ]


@pytest.mark.parametrize("suffix", [".mrc", ".MAP", ".rec", ".mrc.gz", ".map.bz2"])
def test_a_written_map_is_valid_and_places_its_voxels_for_mrcfile(tmp_path, suffix):
    affine = np.diag([1.35, 2.7, 4.05, 1.0])
    affine[:3, 3] = (-87.31, 12.5, 1000.25)
    volume = Volume(ARRAY, affine, "angstrom")
    path = tmp_path / f"map{suffix}"
    write_volume(path, volume)
    position, value = position_in_mrcfile(path, 3, 2, 1)
    np.testing.assert_allclose(position, volume.world((3, 2, 1)), atol=1e-4)
    assert value == ARRAY[3, 2, 1]
    with mrcfile.open(path) as file:
        assert file.is_volume()
        assert file.header.mode == 2
        assert float(file.header.dmax) == ARRAY.max()
        assert b"respondcam" in b"".join(file.header.label)
        if suffix in (".mrc", ".MAP"):
            assert mrcfile.validate(path)
    assert read_volume(path).unit == "angstrom"


@pytest.mark.parametrize("title", ["respond, layer conv5, GroEL", "é\n" + "αβ" * 50, ""])
def test_the_first_label_says_what_the_map_is_as_far_as_there_is_room(tmp_path, title):
    path = tmp_path / "map.mrc"
    write_volume(path, Volume(ARRAY, unit="mm", header={"title": title}))
    with mrcfile.open(path) as file:
        said = bytes(file.header.label[0]).decode("ascii")
    assert said.startswith("respondcam ")
    assert said.partition(": ")[2].startswith(
        title[:28].replace("\n", "?") if title.isascii() else "??"
    )
    assert read_volume(path).unit == "mm"


def test_a_companion_of_a_map_with_start_indices_has_them_too(tmp_path, shared_data):
    source = read_volume(shared_data / "densities" / "1bxn.mrc")
    write_volume(tmp_path / "same.mrc", source)
    with mrcfile.open(tmp_path / "same.mrc") as file:
        assert [int(file.header[name]) for name in ("nxstart", "nystart", "nzstart")] == [-26] * 3
        assert file.header.origin.tolist() == (0, 0, 0)
    # a coarser grid, half a voxel off, is placed by its origin
    coarse = source.affine @ np.diag([2.0, 2.0, 2.0, 1.0])
    coarse[:3, 3] += source.affine[:3, :3] @ (0.5, 0.5, 0.5)
    write_volume(tmp_path / "coarse.mrc", source.with_voxels(source.voxels[::2, ::2, ::2], coarse))
    position, _ = position_in_mrcfile(tmp_path / "coarse.mrc", 0, 0, 0)
    np.testing.assert_allclose(position, (-255, -255, -255))


def test_a_companion_of_the_oblique_map_has_the_same_cell(tmp_path, shared_data):
    source = read_volume(shared_data / "volumes" / "EMD-3001.map")
    write_volume(tmp_path / "companion.map", source)
    again = read_volume(tmp_path / "companion.map")
    np.testing.assert_array_equal(again.voxels, source.voxels)
    np.testing.assert_allclose(again.affine, source.affine, atol=1e-6)
    with mrcfile.open(tmp_path / "companion.map") as file:
        assert float(file.header.cellb.beta) == pytest.approx(94.326, abs=1e-4)


def test_a_flipped_volume_is_turned_without_interpolation(tmp_path, shared_data):
    source = read_volume(shared_data / "volumes" / "anatomical.nii")  # x runs to the left
    write_volume(tmp_path / "a.mrc", source)
    again = read_volume(tmp_path / "a.mrc")
    assert again.unit == "mm"
    for index in ((0, 0, 0), (3, 17, 30), (24, 40, 32)):
        there = tuple(np.round(again.index(source.world(index))).astype(int))
        np.testing.assert_allclose(again.world(there), source.world(index), atol=1e-4)
        assert again.voxels[there] == source.voxels[index]
    with mrcfile.open(tmp_path / "a.mrc") as file:  # 2 mm in ångström
        np.testing.assert_allclose(file.voxel_size.tolist(), [2e7] * 3)


def test_a_volume_without_a_unit_keeps_having_none(tmp_path):
    write_volume(tmp_path / "a.mrc", Volume(ARRAY, np.diag([1.0, 2.0, 3.0, 1.0])))
    again = read_volume(tmp_path / "a.mrc")
    assert (again.unit, again.voxel_size) == ("voxel", (3, 2, 1))


def test_what_a_header_cannot_hold_is_refused_with_a_way_out(tmp_path):
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    far = np.eye(4)
    far[0, 3] = 1e9 + 0.5
    for volume, words in (
        (Volume(ARRAY, turn, "angstrom"), "obliquely.*nii.gz"),
        (Volume(ARRAY, far, "angstrom"), "float32.*npz"),
        (Volume(np.stack([ARRAY, ARRAY])), "2.*each channel"),
    ):
        with pytest.raises(VolumeError, match=words):
            write_volume(tmp_path / "a.mrc", volume)
    assert not list(tmp_path.iterdir())


def test_the_same_volume_is_the_same_file(tmp_path: Path) -> None:
    volume = Volume(np.ones((3, 4, 5)), np.diag([2.0, 2.0, 2.0, 1.0]), "angstrom")
    write_volume(tmp_path / "a.mrc", volume)
    time.sleep(1.1)  # mrcfile labels to the second
    write_volume(tmp_path / "b.mrc", volume)
    assert (tmp_path / "a.mrc").read_bytes() == (tmp_path / "b.mrc").read_bytes()
