"""NRRD and MetaImage: what SimpleITK writes we read, what we write SimpleITK reads."""

import bz2
import gzip
import os
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume import Volume, read_volume, write_volume

ARRAY = np.random.default_rng(7).normal(size=(4, 5, 6)).astype(np.float32)  # z, y, x
ROTATION = nib.eulerangles.euler2mat(0.3, -0.2, 0.5)
OBLIQUE = nib.affines.from_matvec(ROTATION @ np.diag([1.5, 2.0, 3.0]), [-20.0, 7.0, 11.0])
SHEARED = OBLIQUE @ np.array([[1, 0, 0.2, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def itk_image(array=ARRAY, *, vector=False):
    image = SimpleITK.GetImageFromArray(array, isVector=vector)
    image.SetSpacing((1.5, 2.0, 3.0))
    image.SetOrigin((-20.0, 7.0, 11.0))
    image.SetDirection(ROTATION.ravel().tolist())
    return image


def ras(image, index_xyz):
    x, y, z = image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index_xyz])
    return np.array([-x, -y, z])


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd", ".NRRD"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8"])
def test_what_itk_writes_is_read_in_its_place(tmp_path, suffix, compressed, dtype):
    image = itk_image((10 * ARRAY + 50).astype(dtype))
    path = tmp_path / f"scan{suffix}"
    SimpleITK.WriteImage(image, str(path), compressed)
    volume = read_volume(path)
    np.testing.assert_array_equal(
        volume.voxels, SimpleITK.GetArrayViewFromImage(image).astype(np.float32)
    )
    assert volume.unit == "mm"
    np.testing.assert_allclose(volume.world((3, 2, 1)), ras(image, (1, 2, 3)))


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("affine", [np.diag([-2.0, 2, 2, 1]), OBLIQUE, SHEARED])
def test_what_we_write_lies_in_its_place_for_itk(tmp_path, suffix, affine):
    volume = Volume(ARRAY, affine, "mm")
    write_volume(tmp_path / f"map{suffix}", volume)
    image = SimpleITK.ReadImage(str(tmp_path / f"map{suffix}"))
    np.testing.assert_allclose(ras(image, (5, 3, 1)), volume.world((1, 3, 5)))
    assert image[5, 3, 1] == ARRAY[1, 3, 5]
    again = read_volume(tmp_path / f"map{suffix}")
    np.testing.assert_allclose(again.affine, affine, atol=1e-12)
    np.testing.assert_array_equal(again.voxels, ARRAY)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_vectors_and_a_fourth_axis_become_channels(tmp_path, suffix):
    array = np.stack([ARRAY, 2 * ARRAY])
    path = str(tmp_path / f"scan{suffix}")
    SimpleITK.WriteImage(itk_image(np.moveaxis(array, 0, -1), vector=True), path)
    np.testing.assert_array_equal(read_volume(path).voxels, array)
    image = SimpleITK.GetImageFromArray(array, isVector=False)
    image.SetSpacing((1.5, 2.0, 3.0, 9.0))
    SimpleITK.WriteImage(image, path)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, array)
    assert volume.voxel_size == (3, 2, 1.5)
    write_volume(path, volume)
    np.testing.assert_array_equal(read_volume(path).voxels, array)


@settings(deadline=None, max_examples=15)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["mm", "angstrom", "voxel"]),
    st.sampled_from([".nrrd", ".mha"]),
)
def test_any_affine_and_unit_survive(tmp_path_factory, seed, unit, suffix):
    affine = np.eye(4)
    affine[:3] = np.random.default_rng(seed).normal(size=(3, 4)) * 20
    path = tmp_path_factory.mktemp("itk") / f"map{suffix}"
    write_volume(path, Volume(ARRAY, affine, unit))
    again = read_volume(path)
    assert again.unit == unit
    np.testing.assert_allclose(again.affine, affine, rtol=1e-9, atol=1e-9)


def write_nrrd(path, *lines, data=None, encoding="raw"):
    header = ("NRRD0004", "type: float", *lines, "endian: little", f"encoding: {encoding}", "", "")
    path.write_bytes("\n".join(header).encode() + (ARRAY.tobytes() if data is None else data))
    return path


PLACED = (
    "dimension: 3",
    "space: left-posterior-superior",
    "sizes: 6 5 4",
    "space directions: (1,0,0) (0,1,0) (0,0,2)",
    "space origin: (1,2,3)",
)


@pytest.mark.parametrize(
    ("name", "unit", "factor"),
    [("mm", "mm", 1), ("um", "angstrom", 1e4), ("nm", "angstrom", 10), ("cm", "mm", 10)],
)
def test_the_unit_of_a_nrrd_file_holds_and_a_companion_keeps_its_numbers(
    tmp_path, name, unit, factor
):
    path = write_nrrd(tmp_path / "a.nrrd", *PLACED, f'space units: "{name}" "{name}" "{name}"')
    volume = read_volume(path)
    assert volume.unit == unit
    assert volume.voxel_size == pytest.approx((2 * factor, factor, factor))
    write_volume(tmp_path / "map.nrrd", volume)
    one, other = (SimpleITK.ReadImage(str(p)) for p in (path, tmp_path / "map.nrrd"))
    np.testing.assert_allclose(ras(one, (3, 2, 1)), ras(other, (3, 2, 1)))
    again = read_volume(tmp_path / "map.nrrd")
    assert again.unit == unit
    np.testing.assert_allclose(again.affine, volume.affine)


def test_an_unknown_unit_is_mentioned(tmp_path):
    path = write_nrrd(tmp_path / "a.nrrd", *PLACED, 'space units: "furlong" "furlong" "furlong"')
    with pytest.warns(RespondCAMWarning, match=r"a\.nrrd.*furlong"):
        assert read_volume(path).unit == "mm"


def test_anatomical_spaces_are_turned(tmp_path):
    lines = [line.replace("left-posterior", "right-anterior") for line in PLACED]
    volume = read_volume(write_nrrd(tmp_path / "a.nrrd", *lines))
    np.testing.assert_allclose(volume.affine[:3, 3], (1, 2, 3))
    assert volume.orientation == "RAS"


@pytest.mark.parametrize(
    ("sizes", "data", "encoding", "words"),
    [
        ("10000 10000 10000", None, "raw", "4000000000000 bytes"),
        ("10000 10000 10000", b"1" * 99, "gzip", "4000000000000 bytes"),
        ("6 5 4", ARRAY.tobytes()[:-200], "raw", "can hold|cannot be read"),
        ("6 5 4", gzip.compress(ARRAY.tobytes())[:-200], "gzip", "cannot be read"),
        ("6 5 0", None, "raw", "no voxels|cannot be read"),
    ],
)
def test_lying_and_truncated_files_are_refused(tmp_path, sizes, data, encoding, words):
    lines = [line.replace("6 5 4", sizes) for line in PLACED]
    path = write_nrrd(tmp_path / "a.nrrd", *lines, data=data, encoding=encoding)
    with pytest.raises(VolumeError, match=rf"a\.nrrd.*({words})"):
        read_volume(path)


def test_a_lying_metaimage_is_refused(tmp_path):
    write_volume(tmp_path / "a.mha", Volume(ARRAY))
    raw = (tmp_path / "a.mha").read_bytes()
    for sizes in (b"9999 9999 9999", b"6 5 5"):
        (tmp_path / "b.mha").write_bytes(raw.replace(b"DimSize = 6 5 4", b"DimSize = " + sizes))
        with pytest.raises(VolumeError, match=r"b\.mha.*can hold"):
            read_volume(tmp_path / "b.mha")


@pytest.mark.parametrize(("header_size", "before"), [(-1, b"abcd"), (-1, b""), (200, b"")])
def test_a_metaimage_says_where_its_voxels_begin(tmp_path, header_size, before):
    text = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nHeaderSize = {header_size}\n"
        "DimSize = 6 5 4\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n"
    ).encode()
    data = text + before + b"x" * max(0, header_size - len(text)) + ARRAY.tobytes()
    (tmp_path / "a.mha").write_bytes(data)
    there = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "a.mha")))
    np.testing.assert_array_equal(there, ARRAY)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").voxels, ARRAY)


def test_a_metaimage_whose_voxels_begin_within_its_header_is_refused(tmp_path):
    write_volume(tmp_path / "a.mha", Volume(ARRAY))
    raw = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "b.mha").write_bytes(raw.replace(b"NDims", b"HeaderSize = 9\nNDims"))
    with pytest.raises(VolumeError, match=r"b\.mha.*HeaderSize is 9.*within its header"):
        read_volume(tmp_path / "b.mha")


@pytest.mark.parametrize("sizes", [b"6.5 5 4", b"6 5 4.9"])
def test_parts_of_a_voxel_are_refused(tmp_path, sizes):
    write_volume(tmp_path / "a.mha", Volume(ARRAY))
    raw = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "b.mha").write_bytes(raw.replace(b"DimSize = 6 5 4", b"DimSize = " + sizes))
    with pytest.raises(VolumeError, match=r"b\.mha.*dimsize.*whole numbers"):
        read_volume(tmp_path / "b.mha")


def test_missing_voxels_beside_a_header_are_named(tmp_path):
    for suffix in (".nhdr", ".mhd"):
        path = tmp_path / f"a{suffix}"
        SimpleITK.WriteImage(itk_image(), str(path))
        (tmp_path / "a.raw").unlink()
        with pytest.raises(VolumeError, match=rf"a\{suffix}"):
            read_volume(path)


HEADERS = {
    ".nhdr": "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n{}\n",
    ".mhd": "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n{}\n",
}


@pytest.mark.parametrize(
    ("suffix", "named"),
    [
        (".nhdr", "data file: /etc/passwd"),
        (".nhdr", "DATA FILE: /etc/passwd"),
        (".nhdr", "datafile: ../secret.raw"),
        (".nhdr", "data file: deeper/../../secret.raw"),
        (".nhdr", "data file: LIST\n/etc/passwd"),
        (".nhdr", "data file: LIST 2\na.raw\n../secret.raw"),
        (".nhdr", "data file: ../secret%d.raw 1 1 1"),
        (".nhdr", "spacings: 1 1 1\rdata file: ../secret.raw\n\n" + 200 * "x"),
        (".nhdr", "spacings: 1 1 1\rdata file: LIST\r../secret.raw\n\n" + 200 * "x"),
        (".nhdr", "data file: pipe"),
        (".nhdr", "data file: LIST\npipe"),
        (".nhdr", "data file: pi%ce 112 112 1"),
        (".mhd", "ElementDataFile = /etc/passwd"),
        (".mhd", "ElementDataFile = ../secret.raw"),
        (".mhd", "ElementDataFile = pipe"),
    ],
)
def test_a_header_names_voxels_in_its_own_folder_alone(tmp_path, suffix, named):
    """Neither any file of the machine, nor a pipe that nobody ever writes to."""
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "secret.raw").write_bytes(bytes(64))
    (tmp_path / "secret1.raw").write_bytes(bytes(64))
    (folder / "a.raw").write_bytes(bytes(64))
    os.mkfifo(folder / "pipe")
    (folder / f"a{suffix}").write_text(HEADERS[suffix].format(named))
    with pytest.raises(VolumeError, match=rf"a\{suffix}.*(outside|regular files)"):
        read_volume(folder / f"a{suffix}")


def test_voxels_in_one_file_beside_the_header_in_several_and_behind_a_link(tmp_path):
    slices = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)
    (tmp_path / "sub").mkdir()
    for number, one in enumerate(slices):
        (tmp_path / f"sub/s{number:02d}.raw").write_bytes(one.tobytes())
    (tmp_path / "elsewhere").write_bytes(slices.tobytes())
    (tmp_path / "whole.raw").symlink_to(tmp_path / "elsewhere")
    names = "\n".join(f"sub/s{number:02d}.raw" for number in range(4))
    for data in ("whole.raw", f"{tmp_path}/whole.raw", "sub/s%02d.raw 0 3 1", f"LIST\n{names}"):
        path = tmp_path / "a.nhdr"
        path.write_text(HEADERS[".nhdr"].format(f"data file: {data}"))
        np.testing.assert_array_equal(read_volume(path).voxels, slices)


def test_every_encoding_is_read_or_named(tmp_path):
    text = " ".join(map(repr, ARRAY.ravel().tolist())).encode()
    for encoding, data in (("ascii", text), ("gzip", gzip.compress(ARRAY.tobytes()))):
        path = write_nrrd(tmp_path / "a.nrrd", *PLACED, data=data, encoding=encoding)
        np.testing.assert_array_equal(read_volume(path).voxels, ARRAY)
    packed = bz2.compress(ARRAY.tobytes())
    path = write_nrrd(tmp_path / "b.nrrd", *PLACED, data=packed, encoding="bzip2")
    with pytest.raises(VolumeError, match=r"b\.nrrd.*bzip2 encoding not available"):
        read_volume(path)


@pytest.mark.parametrize(
    "named", ["s%0999999999d.raw 0 3 1", f"s%0{'9' * 30}d.raw 0 3 1", "s%d%n.raw 0 3 1", "s%s.raw"]
)
def test_patterns_that_are_no_names_of_files_are_refused(tmp_path, named):
    """Numbers of a gigabyte, and what C's printf would do more than print."""
    (tmp_path / named).write_bytes(bytes(64))
    (tmp_path / "a.nhdr").write_text(HEADERS[".nhdr"].format(f"data file: {named}"))
    with pytest.raises(VolumeError, match=r"a\.nhdr.*a pattern such as"):
        read_volume(tmp_path / "a.nhdr")


def test_what_itk_cannot_unpack_takes_no_memory(tmp_path, monkeypatch):
    lines = [line.replace("6 5 4", "600 600 9000") for line in PLACED]
    path = write_nrrd(tmp_path / "a.nrrd", *lines, data=b"BZh9", encoding="bzip2")
    monkeypatch.setattr(SimpleITK, "ReadImage", lambda *_: pytest.fail("ITK was asked"))
    with pytest.raises(VolumeError, match="bzip2 encoding not available"):
        read_volume(path)


def test_voxels_in_several_files_are_read(tmp_path):
    for number, section in enumerate(ARRAY):
        section.tofile(tmp_path / f"{number}.raw")
    lines = [*PLACED, f"data file: {tmp_path}/%d.raw 0 3 1 2"]
    path = write_nrrd(tmp_path / "a.nhdr", *lines, data=b"", encoding="raw")
    np.testing.assert_array_equal(read_volume(path).voxels, ARRAY)


def test_complex_and_flat_images_are_refused(tmp_path):
    SimpleITK.WriteImage(itk_image(ARRAY.astype(np.complex64)), str(tmp_path / "a.nrrd"))
    with pytest.raises(VolumeError, match=r"a\.nrrd.*(real numbers|complex)"):
        read_volume(tmp_path / "a.nrrd")
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(ARRAY[0]), str(tmp_path / "b.mha"))
    with pytest.raises(VolumeError, match=r"b\.mha.*2 axes"):
        read_volume(tmp_path / "b.mha")


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("space directions: (1,0,0) (1,0,0) (0,0,1)", "accepted are three directions"),
        ("space directions: (1,0,0) (0,0,0) (0,0,1)", "accepted are three directions"),
        ("space directions: (1,0) (0,1,0) (0,0,1)", "read: parsed 2 values, but space dimension"),
        ("foo: 3", 'read: failed to parse "foo" as field identifier'),
    ],
)
def test_what_itk_says_of_a_nrrd_is_told_without_its_own_names(tmp_path, field, words):
    (tmp_path / "a.nrrd").write_bytes(
        f"NRRD0004\ntype: float\ndimension: 3\nsizes: 4 5 6\nencoding: raw\nendian: little\n"
        f"space dimension: 3\n{field}\n\n".encode()
        + bytes(480)
    )
    with pytest.raises(VolumeError) as caught:
        read_volume(tmp_path / "a.nrrd")
    assert words in str(caught.value)
    assert not any(one in str(caught.value) for one in ("ITK", "0x", "nrrdR"))
    other = "space dimension: 2\nspace directions: (1,0) (0,1) none\n"
    raw = (tmp_path / "a.nrrd").read_text("latin-1")
    raw = raw.replace(f"space dimension: 3\n{field}\n", other)
    (tmp_path / "a.nrrd").write_text(raw, "latin-1")
    with pytest.raises(VolumeError, match="cannot be read: number of domain axes"):
        read_volume(tmp_path / "a.nrrd")


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_text_is_no_image(tmp_path, suffix):
    (tmp_path / f"a{suffix}").write_text("once upon a time")
    with pytest.raises(VolumeError, match=rf"a\{suffix}.*cannot be read"):
        read_volume(tmp_path / f"a{suffix}")


def test_a_nrrd_line_too_long_for_a_field_is_refused_before_itk_sees_it(tmp_path):
    """ITK's reader ends the process over it; long comments and values of one's own are fine."""
    write_volume(tmp_path / "good.nrrd", Volume(np.ones((4, 5, 6))))
    good = (tmp_path / "good.nrrd").read_bytes()
    (tmp_path / "long.nrrd").write_bytes(
        good.replace(b"dimension: 3\n", b"#" * 5000 + b"\ndimension: 3\n").replace(
            b"\n\n", b"\nnote:=" + b"x" * 5000 + b"\n\n", 1
        )
    )
    assert read_volume(tmp_path / "long.nrrd").shape == (4, 5, 6)
    (tmp_path / "hostile.nrrd").write_bytes(
        good.replace(b"dimension: 3\n", b"dimension: 3\n" + b"space" * 300 + b"\n")
    )
    with pytest.raises(VolumeError, match="longer than any field"):
        read_volume(tmp_path / "hostile.nrrd")


@pytest.mark.parametrize("value", ["True", "TRUE", "t", "T", "1", "False", "F", "f", "0"])
def test_truth_values_of_a_metaimage_are_read_as_metaio_reads_them(tmp_path, value):
    """The same file through SimpleITK, whose reader is MetaIO."""
    array = np.arange(210, dtype=np.int16).reshape(5, 6, 7)
    true = value[0] in "Tt1"
    for field, data in (
        ("BinaryDataByteOrderMSB", array.astype(">i2" if true else "<i2").tobytes()),
        ("ElementByteOrderMSB", array.astype(">i2" if true else "<i2").tobytes()),
        ("CompressedData", zlib.compress(array.tobytes()) if true else array.tobytes()),
    ):
        path = tmp_path / f"{field}.mha"
        path.write_bytes(
            f"ObjectType = Image\nNDims = 3\nBinaryData = True\n{field} = {value}\n"
            f"CompressedDataSize = {len(data)}\nDimSize = 7 6 5\nElementType = MET_SHORT\n"
            f"ElementDataFile = LOCAL\n".encode()
            + data
        )
        image = SimpleITK.ReadImage(str(path), imageIO="MetaImageIO")
        np.testing.assert_array_equal(SimpleITK.GetArrayViewFromImage(image), array)
        np.testing.assert_array_equal(read_volume(path).voxels, array)


@pytest.mark.parametrize(
    "field", ["BinaryData", "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData"]
)
def test_truth_values_of_a_metaimage_that_are_none_are_refused(tmp_path, field):
    path = tmp_path / "yes.mha"
    path.write_bytes(
        f"NDims = 3\n{field} = Yes\nDimSize = 2 2 2\nElementType = MET_UCHAR\n"
        f"ElementDataFile = LOCAL\n".encode()
        + bytes(8)
    )
    with pytest.raises(VolumeError, match=f"{field.lower()} is 'Yes', accepted are True and False"):
        read_volume(path)
