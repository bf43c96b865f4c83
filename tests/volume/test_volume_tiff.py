"""TIFF: what tifffile writes as ImageJ, OME and plain files, and back."""

import json
import os
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume import Volume, read_volume, write_volume
from respondcam.volume.lazy import open_volume
from respondcam.volume.tiff_parts import check_parts

ARRAY = np.random.default_rng(9).normal(size=(5, 6, 7)).astype(np.float32)


def unpacked(path):
    return open_volume(path, path.parent)


@pytest.mark.parametrize(
    ("name", "unit", "factor"),
    [
        ("micron", "angstrom", 1e4),
        ("\\u00B5m", "angstrom", 1e4),
        ("nm", "angstrom", 10),
        ("mm", "mm", 1),
        ("cm", "mm", 10),
        ("pixel", "voxel", 1),
    ],
)
def test_voxel_sizes_of_imagej(tmp_path, name, unit, factor):
    metadata = {"axes": "ZYX", "spacing": 1.5, "unit": name, "zorigin": 2}
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ARRAY, imagej=True, resolution=(1 / 0.25, 1 / 0.5), metadata=metadata)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, ARRAY)
    assert volume.unit == unit
    assert volume.voxel_size == pytest.approx((1.5 * factor, 0.5 * factor, 0.25 * factor))
    np.testing.assert_allclose(volume.world((2, 0, 0)), 0, atol=1e-9)


def test_an_unknown_unit_is_mentioned(tmp_path):
    metadata = {"axes": "ZYX", "unit": "furlong"}
    tifffile.imwrite(tmp_path / "a.tif", ARRAY, imagej=True, metadata=metadata)
    with pytest.warns(RespondCAMWarning, match=r"a\.tif.*furlong"):
        assert read_volume(tmp_path / "a.tif").unit == "voxel"


def test_voxel_sizes_of_ome_are_micrometres_unless_they_say_otherwise(tmp_path):
    sizes = {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.3, "PhysicalSizeZ": 0.9}
    for more, unit, factor in (({}, "angstrom", 1e4), ({"Unit": "mm"}, "mm", 1)):
        units = {f"{key}{end}": value for end, value in more.items() for key in sizes}
        tifffile.imwrite(tmp_path / "a.ome.tif", ARRAY, metadata={"axes": "ZYX", **sizes, **units})
        volume = read_volume(tmp_path / "a.ome.tif")
        assert volume.unit == unit
        assert volume.voxel_size == pytest.approx((0.9 * factor, 0.3 * factor, 0.2 * factor))
    del sizes["PhysicalSizeZ"]
    tifffile.imwrite(tmp_path / "b.ome.tif", ARRAY, metadata={"axes": "ZYX", **sizes})
    with pytest.warns(RespondCAMWarning, match=r"b\.ome\.tif.*sections"):
        read_volume(tmp_path / "b.ome.tif")


def test_units_that_differ_from_axis_to_axis_are_converted(tmp_path):
    path = tmp_path / "a.ome.tif"
    for units, unit, lengths in (
        (("nm", "nm", "um"), "angstrom", (9000.0, 3.0, 2.0)),
        (("mm", "um", "um"), "mm", (0.0009, 0.0003, 0.2)),
    ):
        facts = {}
        for axis, size, name in zip("XYZ", (0.2, 0.3, 0.9), units, strict=True):
            facts |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": name}
        tifffile.imwrite(path, ARRAY, metadata={"axes": "ZYX", **facts})
        volume = read_volume(path)
        assert volume.unit == unit
        assert volume.voxel_size == pytest.approx(lengths)
        write_volume(tmp_path / "b.ome.tif", volume)
        np.testing.assert_allclose(read_volume(tmp_path / "b.ome.tif").affine, volume.affine)
    tifffile.imwrite(path, ARRAY, metadata={"axes": "ZYX", **facts, "PhysicalSizeYUnit": "pixel"})
    with pytest.raises(VolumeError, match="no single length"):
        read_volume(path)
    del facts["PhysicalSizeZ"], facts["PhysicalSizeZUnit"]
    tifffile.imwrite(path, ARRAY, metadata={"axes": "ZYX", **facts})
    with pytest.warns(RespondCAMWarning, match="taken as in x"):
        assert read_volume(path).voxel_size == pytest.approx((0.2, 0.0003, 0.2))


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i2", "f2", "f4", "f8", "?"])
def test_plain_stacks_have_no_unit(tmp_path, dtype):
    array = (10 * np.abs(ARRAY)).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tiff", array, byteorder="<")
    volume = read_volume(tmp_path / "a.tiff")
    np.testing.assert_array_equal(volume.voxels, array.astype(np.float32))
    assert (volume.unit, volume.voxel_size) == ("voxel", (1, 1, 1))


def test_pages_written_one_by_one_and_packed_are_a_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in ARRAY:
            writer.write(page, metadata=None, contiguous=False, compression="zlib")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").voxels, ARRAY)


def write_pages(path, pages, **last):
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(pages, 1):
            about = last if number == len(pages) else {}
            writer.write(page, metadata=None, contiguous=False, photometric="minisblack", **about)
    return path


@pytest.mark.parametrize("reader", [read_volume, unpacked])
@pytest.mark.parametrize("at", [0, 2, 4])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda page: page.astype(np.uint16), "6 x 7 numbers of type uint16"),
        (lambda page: page[:4], "4 x 7 numbers of type float32"),
    ],
)
def test_a_page_unlike_the_others_is_named(tmp_path, reader, at, change, words):
    """It would be left out, and later sections would move."""
    pages = list(ARRAY)
    pages[at] = change(pages[at])
    path = write_pages(tmp_path / "a.tif", pages)
    if at == 4 and pages[at].shape != ARRAY[0].shape:  # a picture of the stack, as far as one knows
        assert reader(path).shape == (4, 6, 7) if reader is read_volume else reader(path)
        return
    with pytest.raises(
        VolumeError, match=rf"page {at + 1} of 5 holds {words}, the others 6 x 7 .*float32; accept"
    ):
        reader(path)


def test_pages_and_parts_of_pages_that_are_thumbnails_are_passed_over(tmp_path):
    thumbnail = ARRAY[0, ::2, ::2]
    path = write_pages(tmp_path / "a.tif", [*ARRAY, thumbnail], subfiletype=1)
    np.testing.assert_array_equal(read_volume(path).voxels, ARRAY)
    with tifffile.TiffWriter(path) as writer:
        for page in ARRAY:
            writer.write(page, metadata=None, contiguous=False, subifds=1)
            writer.write(page[::2, ::2], metadata=None, contiguous=False, subfiletype=1)
    np.testing.assert_array_equal(read_volume(path).voxels, ARRAY)


@pytest.mark.parametrize("reader", [read_volume, unpacked])
@pytest.mark.parametrize("single", [False, True])
def test_a_header_of_imagej_that_tells_of_fewer_sections_than_are_stored_is_refused(
    tmp_path, reader, single
):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, ARRAY, imagej=True, metadata={"axes": "ZYX"})
    if single:  # as ImageJ writes large stacks: all behind one page
        with tifffile.TiffFile(path) as file:
            end = file.pages[0].offset + 2 + 12 * len(file.pages[0].tags)
            order = file.byteorder
        raw = bytearray(path.read_bytes())
        struct.pack_into(f"{order}I", raw, end, 0)
        path.write_bytes(raw)
    assert reader(path).voxels.shape == (5, 6, 7) if reader is read_volume else reader(path)
    path.write_bytes(path.read_bytes().replace(b"slices=5", b"slices=3"))
    with pytest.raises(VolumeError, match=r"a\.tif.*tells of 3 sections, and 5 are stored"):
        reader(path)


def test_channels_come_first(tmp_path):
    array = np.stack([ARRAY, 2 * ARRAY], axis=1)  # z, c, y, x
    for kind in ({"imagej": True}, {"ome": True}):
        tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": "ZCYX"}, **kind)
        np.testing.assert_array_equal(
            read_volume(tmp_path / "a.tif").voxels, array.transpose(1, 0, 2, 3)
        )


@pytest.mark.parametrize(
    ("array", "keywords", "words"),
    [
        (ARRAY[0], {}, "a single picture, not a stack.*in Python"),
        (np.stack([ARRAY, ARRAY])[:, None], {}, "no stacks.*"),
        (np.stack([ARRAY, ARRAY]), {"imagej": True, "metadata": {"axes": "TZYX"}}, "TZYX"),
        (np.zeros((6, 7, 3), np.uint8), {"photometric": "rgb"}, "a single picture"),
    ],
)
def test_what_is_no_volume_is_refused_with_its_axes(tmp_path, array, keywords, words):
    tifffile.imwrite(tmp_path / "a.tif", array, **keywords)
    with pytest.raises(VolumeError, match=rf"a\.tif.*{words}"):
        read_volume(tmp_path / "a.tif")


def test_several_stacks_are_listed(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", ARRAY)
    tifffile.imwrite(tmp_path / "a.tif", ARRAY[:, :4], append=True)
    with pytest.raises(VolumeError, match=r"2 stacks.*\(5, 6, 7\).*\(5, 4, 7\)"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "unit", "factor"),
    [
        ("pm", "angstrom", 0.01),
        ("fm", "angstrom", 1e-5),
        ("\u212b", "angstrom", 1),
        ("\u00c5", "angstrom", 1),
        ("dm", "mm", 100),
        ("km", "mm", 1e6),
        ("Mm", "mm", 1e9),
        ("mm", "mm", 1),
        ("in", "mm", 25.4),
        ("pt", "mm", 25.4 / 72),
        ("thou", "mm", 0.0254),
        ("mi", "mm", 1609344),
    ],
)
def test_every_length_of_ome_is_known(tmp_path, name, unit, factor):
    facts = {f"PhysicalSize{axis}": 2.0 for axis in "XYZ"}
    facts |= {f"PhysicalSize{axis}Unit": name for axis in "XYZ"}
    tifffile.imwrite(tmp_path / "a.ome.tif", ARRAY, metadata={"axes": "ZYX", **facts})
    volume = read_volume(tmp_path / "a.ome.tif")
    assert (volume.unit, volume.voxel_size) == (unit, pytest.approx((2 * factor,) * 3))
    write_volume(tmp_path / "b.tif", volume)
    np.testing.assert_allclose(read_volume(tmp_path / "b.tif").affine, volume.affine)


def imagej(path, array=ARRAY, **metadata):
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": "ZYX", **metadata})
    return path


def test_units_of_imagej_may_differ_from_axis_to_axis(tmp_path):
    path = tmp_path / "a.tif"
    metadata = {"axes": "ZYX", "spacing": 3, "unit": "um", "yunit": "mm", "zunit": "nm"}
    metadata["zorigin"] = 2
    tifffile.imwrite(path, ARRAY, imagej=True, resolution=(2, 4), metadata=metadata)
    volume = read_volume(path)
    assert (volume.unit, volume.voxel_size) == ("angstrom", pytest.approx((30, 0.25e7, 0.5e4)))
    np.testing.assert_allclose(volume.world((2, 0, 0)), 0, atol=1e-9)
    imagej(path, unit="um", zunit="furlong")
    with pytest.raises(VolumeError, match=r"furlong.*accepted are lengths such as angstrom"):
        read_volume(path)


CALIBRATED = {"cf": 0, "c0": -1000.0, "c1": 0.5, "vunit": "HU"}


@pytest.mark.parametrize("reader", [read_volume, unpacked])
@pytest.mark.parametrize("packed", [None, "zlib"])
@pytest.mark.parametrize(("dtype", "first"), [("u1", 0), ("u2", 0), ("i2", -32768)])
def test_values_on_a_straight_line_are_those_of_imagej(tmp_path, reader, packed, dtype, first):
    """ImageJ counts signed numbers from -32768 (setCalibration in its FileOpener.java)."""
    stored = np.random.default_rng(1).integers(0, 255, (5, 6, 7)).astype(dtype)
    path = imagej(tmp_path / "a.tif", stored, **CALIBRATED)
    if packed:  # ImageJ packs nothing; other programs that keep its description do
        with tifffile.TiffFile(path) as file:
            about = file.pages[0].description
        options = {"compression": packed, "metadata": None, "description": about}
        tifffile.imwrite(path, stored, photometric="minisblack", **options)
    expected = 0.5 * (stored.astype(np.float64) - first) - 1000
    found = reader(path)
    voxels = found.voxels if reader is read_volume else found.read((0, 0, 0), stored.shape)[0]
    np.testing.assert_array_equal(voxels, expected.astype(np.float32))


@pytest.mark.parametrize("reader", [read_volume, unpacked])
@pytest.mark.parametrize(
    "change", [{"cf": 1}, {"cf": 21}, {"c1": "x"}, {"c1": 0}, {"c0": "nan"}, {"zeroclip": True}]
)
def test_other_functions_of_values_are_refused(tmp_path, reader, change):
    path = imagej(tmp_path / "a.tif", ARRAY.astype("u2"), **{**CALIBRATED, **change})
    with pytest.raises(VolumeError, match=r"a function of ImageJ .*accepted is a straight line"):
        reader(path)


@pytest.mark.parametrize("change", [{"cf": 20}, {"vunit": None}])
def test_values_that_imagej_takes_as_they_are_stay_so(tmp_path, change):
    metadata = {n: value for n, value in {**CALIBRATED, **change}.items() if value is not None}
    stored = np.random.default_rng(1).integers(0, 255, (5, 6, 7)).astype("u2")
    path = imagej(tmp_path / "a.tif", stored, **metadata)
    np.testing.assert_array_equal(read_volume(path).voxels, stored)
    path = imagej(tmp_path / "b.tif", ARRAY, **CALIBRATED)  # 32 bits
    np.testing.assert_array_equal(read_volume(path).voxels, ARRAY)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"</Image>", b"</Emage>", "damaged OME metadata"),
        (b'PhysicalSizeYUnit="um"', b'PhysicalSizeYUnit="zz"', "no single length"),
        (b'Unit="um"', b'Unit="zz"', "no single length"),
    ],
)
def test_ome_metadata_that_mean_nothing_are_refused(tmp_path, old, new, words):
    sizes = {f"PhysicalSize{axis}": 0.2 for axis in "XYZ"}
    units = {f"PhysicalSize{axis}Unit": "um" for axis in "XYZ"}
    metadata = {"axes": "ZYX", **sizes, **units}
    tifffile.imwrite(tmp_path / "a.ome.tif", ARRAY, metadata=metadata)
    raw = (tmp_path / "a.ome.tif").read_bytes()
    assert old in raw
    (tmp_path / "b.ome.tif").write_bytes(raw.replace(old, new))
    with pytest.raises(VolumeError, match=rf"b\.ome\.tif.*{words}"):
        read_volume(tmp_path / "b.ome.tif")


@pytest.mark.parametrize("reader", [read_volume, unpacked])
@pytest.mark.parametrize("packed", [None, "zlib"])
def test_complex_voxels_are_refused(tmp_path, reader, packed):
    tifffile.imwrite(tmp_path / "a.tif", ARRAY.astype(np.complex64), compression=packed)
    with pytest.raises(VolumeError, match=r"a\.tif.*real numbers"):
        reader(tmp_path / "a.tif")


@pytest.mark.parametrize("keep", [4, 8, 100, 300, 0.5, 0.9])
@pytest.mark.parametrize("packed", [None, "zlib"])
@pytest.mark.filterwarnings("ignore:.*damaged tags")
def test_truncated_files_are_refused(tmp_path, keep, packed):
    tifffile.imwrite(tmp_path / "a.tif", ARRAY, compression=packed)
    raw = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "b.tif").write_bytes(raw[: keep if keep > 1 else int(keep * len(raw))])
    with pytest.raises(VolumeError, match=r"b\.tif"):
        read_volume(tmp_path / "b.tif")


def test_a_lying_size_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", ARRAY, imagej=True, metadata={"axes": "ZYX"})
    raw = (tmp_path / "a.tif").read_bytes()
    assert b"images=5" in raw
    raw = raw.replace(b"images=5\nslices=5", b"images=9\nslices=9")
    (tmp_path / "b.tif").write_bytes(raw)
    with pytest.raises(VolumeError, match=r"b\.tif"):
        read_volume(tmp_path / "b.tif")


@pytest.mark.parametrize("unit", ["angstrom", "mm", "voxel"])
def test_what_we_write_is_an_imagej_stack_in_its_place(tmp_path, unit):
    affine = np.diag([1.35, 2.7, 4.05, 1.0])
    affine[:3, 3] = (-87.31, 12.5, 1000.25)
    volume = Volume(np.stack([ARRAY, 2 * ARRAY]), affine, unit)
    write_volume(tmp_path / "a.tif", volume)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        about = file.imagej_metadata
        assert about["unit"] == ("pixel" if unit == "voxel" else unit)
        assert about["spacing"] == 4.05
        assert file.series[0].axes == "ZCYX"
        pixels, per = file.pages[0].tags["XResolution"].value
        assert per / pixels == pytest.approx(1.35)
    again = read_volume(tmp_path / "a.tif")
    assert again.unit == unit
    np.testing.assert_array_equal(again.voxels, volume.voxels)
    np.testing.assert_allclose(again.affine, affine, rtol=1e-6)


def test_a_companion_keeps_the_sources_unit(tmp_path):
    metadata = {"axes": "ZYX", "spacing": 1.5, "unit": "micron"}
    tifffile.imwrite(tmp_path / "a.tif", ARRAY, imagej=True, resolution=(4, 4), metadata=metadata)
    write_volume(tmp_path / "b.tif", read_volume(tmp_path / "a.tif"))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert (file.imagej_metadata["unit"], file.imagej_metadata["spacing"]) == ("micron", 1.5)
        assert file.pages[0].tags["XResolution"].value == (4, 1)


def test_an_oblique_volume_is_refused_with_a_way_out(tmp_path):
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    with pytest.raises(VolumeError, match=r"obliquely.*nii\.gz"):
        write_volume(tmp_path / "a.tif", Volume(ARRAY, turn, "mm"))
    assert not list(tmp_path.iterdir())


def test_pages_that_lead_round_in_a_circle_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "two.tif", np.zeros((2, 8, 8), np.float32), photometric="minisblack"
    )
    with tifffile.TiffFile(tmp_path / "two.tif") as file:
        first = file.pages[0].offset
    data = bytearray((tmp_path / "two.tif").read_bytes())
    (tags,) = struct.unpack_from("<H", data, first)
    struct.pack_into("<I", data, first + 2 + 12 * tags, first)  # the next page is this one
    (tmp_path / "circle.tif").write_bytes(data)
    with pytest.raises(VolumeError, match="circle"):
        read_volume(tmp_path / "circle.tif")


@pytest.mark.parametrize("read", [read_volume, unpacked])
def test_pages_that_claim_more_bytes_than_the_file_has_are_refused_before_memory_is_set_aside(
    tmp_path, read
):
    tifffile.imwrite(tmp_path / "a.tif", ARRAY, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        at = file.pages[0].tags["StripByteCounts"].valueoffset
        order = file.byteorder
    data = bytearray((tmp_path / "a.tif").read_bytes())
    struct.pack_into(f"{order}I", data, at, 2**30)
    (tmp_path / "b.tif").write_bytes(data)
    with pytest.raises(VolumeError, match=rf"b\.tif.*{2**30} bytes"):
        read(tmp_path / "b.tif")


@pytest.mark.filterwarnings("ignore::respondcam.errors.RespondCAMWarning")  # of damaged tags
@pytest.mark.parametrize("reader", [read_volume, unpacked])
def test_pages_that_consist_of_more_pieces_than_they_list_are_refused(tmp_path, reader):
    """tifffile would fill each of the others with zeros."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.ones((3, 4, 5), np.float32), compression="zlib", photometric="minisblack"
    )
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        places = [page.tags["ImageLength"].valueoffset for page in file.pages]
    for place in places:
        data[place : place + 4] = struct.pack("<I", 5 << 24)
    path.write_bytes(data)
    with pytest.raises(VolumeError, match=r"a page is said to consist of \d+ pieces, and lists 1"):
        reader(path)


def ome(path, places, *, packed=None):
    """An OME-TIFF by hand: each section is in the file that `places` names, which calls itself so.

    It holds the sections at its own name in `places`; None in it names no file.
    """
    sections = [z for z, one in enumerate(places) if one in (None, path.name)]
    entries = "".join(
        f'<TiffData FirstZ="{z}" IFD="{places[:z].count(one)}" PlaneCount="1">'
        + (f'<UUID FileName="{one}">urn:uuid:{one}</UUID>' if one else "")
        + "</TiffData>"
        for z, one in enumerate(places)
    )
    xml = (
        f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="urn:uuid:{path.name}">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="float" '
        f'SizeX="7" SizeY="6" SizeZ="5" SizeC="1" SizeT="1">{entries}</Pixels></Image></OME>'
    )
    path.parent.mkdir(exist_ok=True)
    with tifffile.TiffWriter(path) as writer:
        for z in sections or [0]:
            about = {"description": xml} if z == (sections or [0])[0] else {}
            writer.write(ARRAY[z], metadata=None, contiguous=False, compression=packed, **about)
    return path


@pytest.mark.parametrize("reader", [read_volume, unpacked])
@pytest.mark.parametrize("packed", [None, "zlib"])
@pytest.mark.parametrize("places", [["a.ome.tif"] * 2 + ["b.ome.tif"] * 3, ["b.ome.tif"] * 5])
def test_sections_in_several_files_of_a_folder_are_one_stack(tmp_path, reader, packed, places):
    first, second = (
        ome(tmp_path / name, places, packed=packed) for name in ("a.ome.tif", "b.ome.tif")
    )
    volume = reader(first)
    voxels = volume.voxels if reader is read_volume else volume.read((0, 0, 0), (5, 6, 7))[0]
    np.testing.assert_array_equal(voxels, ARRAY)
    second.unlink()
    with pytest.raises(VolumeError, match=r"'b\.ome\.tif'.*none of that name beside it"):
        reader(first)


@pytest.mark.parametrize("reader", [read_volume, unpacked])
def test_a_description_names_files_in_its_own_folder_alone(tmp_path, reader):
    secret = ome(tmp_path / "secret.ome.tif", [None] * 5)
    for name in ("../secret.ome.tif", str(secret)):
        path = ome(tmp_path / "inside" / "a.ome.tif", [name] * 5)
        with pytest.raises(VolumeError, match=r"a\.ome\.tif.*outside its own folder"):
            reader(path)
    os.mkfifo(tmp_path / "inside" / "pipe")
    with pytest.raises(VolumeError, match="accepted are regular files"):
        reader(ome(tmp_path / "inside" / "a.ome.tif", ["pipe"] * 5))


def test_a_renamed_file_still_calls_itself_by_its_old_name(tmp_path):
    ome(tmp_path / "a.ome.tif", ["a.ome.tif"] * 5).rename(tmp_path / "renamed.ome.tif")
    np.testing.assert_array_equal(read_volume(tmp_path / "renamed.ome.tif").voxels, ARRAY)


_ALONG = (
    '<StructuredAnnotations><XMLAnnotation ID="A" Namespace="openmicroscopy.org/omero/dimension/'
    'modulo"><Value><Modulo><ModuloAlongZ Type="angle" Start="0" End="1" Step="1e-9"/></Modulo>'
    "</Value></XMLAnnotation></StructuredAnnotations>"
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('SizeZ="5"', 'SizeZ="900000000"'),
        ('PlaneCount="1"', 'PlaneCount="900000000"'),
        ("<Image ", f"{_ALONG}<Image "),
    ],
)
def test_descriptions_of_more_sections_than_the_file_can_hold_are_refused(tmp_path, old, new):
    path = ome(tmp_path / "a.ome.tif", [None] * 5)
    with tifffile.TiffFile(path) as file:
        xml = file.ome_metadata
    with tifffile.TiffWriter(tmp_path / "b.ome.tif") as writer:
        writer.write(ARRAY[0], description=xml.replace(old, new), metadata=None)
    with pytest.raises(VolumeError, match=r"b\.ome\.tif.*sections, and the file can hold 1048576"):
        read_volume(tmp_path / "b.ome.tif")


def test_what_lies_beside_a_stack_of_micro_manager_is_looked_at_first(tmp_path):
    secret = tmp_path / "secret.tif"
    tifffile.imwrite(secret, ARRAY)
    about = json.dumps({"Axes": {"z": 0}}).encode()
    (tmp_path / "in").mkdir()
    name = b"../secret.tif"
    (tmp_path / "in" / "NDTiff.index").write_bytes(
        struct.pack("<I", len(about)) + about + struct.pack("<I", len(name)) + name
        + struct.pack("<IiiiiIii", 8, 7, 6, 1, 0, 0, 0, 0)
    )  # fmt: skip
    file = SimpleNamespace(is_mmstack=False, is_ndtiff=True, is_ome=False)
    with pytest.raises(VolumeError, match=r"secret\.tif', outside its own folder"):
        check_parts(file, tmp_path / "in" / "a.tif", tifffile.tifffile.read_ndtiff_index)
    os.mkfifo(tmp_path / "in" / "a_MMStack_1.tif")
    file = SimpleNamespace(is_mmstack=True, is_ndtiff=False, is_ome=False)
    with pytest.raises(VolumeError, match="accepted are regular files"):
        check_parts(file, tmp_path / "in" / "a_MMStack.tif", None)


def test_a_place_that_is_no_whole_number_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    write_volume(path, Volume(ARRAY))
    raw = path.read_bytes()
    order = "<" if raw[:2] == b"II" else ">"
    at = raw.index(struct.pack(f"{order}HH", 273, 4))
    (place,) = struct.unpack_from(f"{order}I", raw, at + 8)
    raw = bytearray(raw)
    struct.pack_into(f"{order}H", raw, at + 2, 12)  # StripOffsets, as a double that stands there
    struct.pack_into(f"{order}d", raw, place, -9.5)
    path.write_bytes(raw)
    with pytest.raises(
        VolumeError, match=r"read as TIFF: 'float' object cannot be interpreted as an integer"
    ):
        unpacked(path).read((0, 0, 0), (1, 4, 5))


@pytest.mark.parametrize("length", [0.0003, 13.37, 1 / 3, 4e9, 1e-9])
def test_lengths_keep_the_digits_that_two_whole_numbers_can_tell(tmp_path, length):
    volume = Volume(ARRAY, unit="mm", affine=np.diag([length, length, length, 1.0]))
    write_volume(tmp_path / "a.tif", volume)
    np.testing.assert_allclose(read_volume(tmp_path / "a.tif").voxel_size, length, rtol=1e-9)


@pytest.mark.parametrize("length", [1e12, 1e-10])
def test_lengths_that_they_cannot_tell_are_refused(tmp_path, length):
    volume = Volume(ARRAY, unit="mm", affine=np.diag([length, length, length, 1.0]))
    with pytest.raises(VolumeError, match="does not keep the place"):
        write_volume(tmp_path / "a.tif", volume)
    assert not list(tmp_path.iterdir())
