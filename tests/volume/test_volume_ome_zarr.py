"""OME-Zarr: other programs' images of either version, and what is none or damaged."""

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import zarr

from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume import Volume, read_volume, write_volume
from respondcam.volume.ome_zarr import along_axes, create_image, pyramid_shapes
from respondcam.volume.zarr_chunks import unpacked_size

ARRAY = np.random.default_rng(23).normal(size=(5, 6, 7)).astype(np.float32)


def image(
    path: Path,
    array: np.ndarray = ARRAY,
    axes: str = "zyx",
    *,
    version: str = "0.4",
    unit: str | None = None,
    steps: Sequence[dict] | None = None,
    later: tuple[dict, ...] = (),
    **chunks,
) -> Path:
    """An image as zarr-python alone writes it."""
    format_ = 2 if version == "0.4" else 3
    group = zarr.open_group(str(path), mode="w", zarr_format=format_)
    kinds = {"c": "channel", "t": "time"}
    steps = [{"type": "scale", "scale": [1.0] * len(axes)}] if steps is None else steps
    named = [{"name": one, "type": kinds.get(one, "space")} for one in axes]
    named = [one | ({"unit": unit} if unit and one["type"] == "space" else {}) for one in named]
    scales = {
        "axes": named,
        "datasets": [{"path": "finest", "coordinateTransformations": list(steps)}],
        "coordinateTransformations": list(later),
    }
    about = {"multiscales": [scales]}
    group.attrs.update(about if version == "0.4" else {"ome": {"version": "0.5", **about}})
    stored = group.create_array("finest", shape=array.shape, dtype=array.dtype, **chunks)
    stored[...] = array
    return path


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([{"type": "affine", "affine": [[4, 0, 0, 5], [0, 3, 0, 6], [0, 0, 2, 7]]}], "kind affine"),
        ([{"type": "rotation", "rotation": [[0, 1, 0], [1, 0, 0], [0, 0, 1]]}], "kind rotation"),
        ([], "no coordinate transformation of the kind scale"),
        ([{"type": "identity"}], "no coordinate transformation of the kind scale"),
    ],
)
def test_a_place_that_is_not_told_in_scales_is_taken_for_unknown(tmp_path, steps, words):
    path = image(tmp_path / "a.zarr", steps=steps, unit="micrometer")
    with pytest.warns(RespondCAMWarning, match=rf"a\.zarr.*{words}.*place are taken for unknown"):
        volume = read_volume(path)
    assert (volume.unit, volume.affine.tolist()) == ("voxel", np.eye(4).tolist())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RespondCAMWarning):
            read_volume(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(
    ("unit", "expected", "factor"),
    [
        (None, "voxel", 1),
        ("micrometer", "angstrom", 1e4),
        ("nanometer", "angstrom", 10),
        ("millimeter", "mm", 1),
    ],
)
def test_scale_and_translation_of_both_levels_place_the_image(
    tmp_path, version, unit, expected, factor
):
    steps = (
        {"type": "scale", "scale": [2.0, 3.0, 4.0]},
        {"type": "translation", "translation": [10.0, 20.0, 30.0]},
    )
    later = ({"type": "scale", "scale": [0.5, 0.5, 0.5]},)
    path = tmp_path / "a.zarr"
    volume = read_volume(image(path, version=version, unit=unit, steps=steps, later=later))
    np.testing.assert_array_equal(volume.voxels, ARRAY)
    assert volume.unit == expected
    assert volume.voxel_size == pytest.approx((factor * 1.0, factor * 1.5, factor * 2.0))
    np.testing.assert_allclose(volume.affine[:3, 3], factor * np.array([15.0, 10.0, 5.0]))


def test_axes_in_any_order_with_others_of_length_one(tmp_path):
    array = np.stack([ARRAY, 2 * ARRAY])
    turned = array.transpose(3, 0, 1, 2)[:, :, None]  # x, c, t, z, y
    step = {"type": "scale", "scale": [4.0, 1.0, 1.0, 2.0, 3.0]}
    volume = read_volume(image(tmp_path / "a.zarr", turned, "xctzy", steps=(step,)))
    np.testing.assert_array_equal(volume.voxels, array)
    assert volume.voxel_size == (2.0, 3.0, 4.0)
    single = read_volume(image(tmp_path / "b.zarr", ARRAY[None], "czyx"))
    np.testing.assert_array_equal(single.voxels, ARRAY)


def set_units(path, *units):
    """Of the axes, in their order in the file."""
    group = zarr.open_group(str(path), mode="a")
    scales = group.attrs["multiscales"]
    for axis, unit in zip(scales[0]["axes"], units, strict=True):
        axis["unit"] = unit
    group.attrs["multiscales"] = scales


def test_units_that_are_none_or_no_lengths_are_mentioned(tmp_path):
    path = image(tmp_path / "a.zarr", unit="furlong")
    with pytest.warns(RespondCAMWarning, match=r"a\.zarr.*furlong.*Known are lengths such as"):
        assert read_volume(path).unit == "voxel"
    for units in (("mm", "mm", ""), ("mm", "pixel", "mm")):
        set_units(path, *units)
        with pytest.warns(RespondCAMWarning, match=r"a\.zarr.*mm.*no single known unit"):
            assert read_volume(path).unit == "voxel"


def test_units_that_differ_from_axis_to_axis_are_converted(tmp_path):
    steps = [
        {"type": "scale", "scale": [2.0, 3.0, 4.0]},
        {"type": "translation", "translation": [20.0, 30.0, 40.0]},
    ]
    path = image(tmp_path / "a.zarr", steps=steps)
    set_units(path, "centimeter", "micrometer", "millimeter")
    volume = read_volume(path)
    assert (volume.unit, volume.voxel_size) == ("mm", pytest.approx((20, 0.003, 4)))
    np.testing.assert_allclose(volume.affine[:3, 3], (40, 0.03, 200))


@pytest.mark.parametrize(
    ("name", "unit", "factor"),
    [
        ("picometer", "angstrom", 0.01),
        ("femtometer", "angstrom", 1e-5),
        ("decimeter", "mm", 100),
        ("kilometer", "mm", 1e6),
        ("megameter", "mm", 1e9),
        ("inch", "mm", 25.4),
        ("foot", "mm", 304.8),
        ("yard", "mm", 914.4),
        ("mile", "mm", 1609344),
        ("parsec", "mm", 3.0856775814913673e19),
    ],
)
def test_every_length_of_the_format_is_known(tmp_path, name, unit, factor):
    volume = read_volume(image(tmp_path / "a.zarr", unit=name))
    assert (volume.unit, volume.voxel_size) == (unit, pytest.approx((factor,) * 3))


@pytest.mark.parametrize(
    ("array", "axes", "words"),
    [
        (np.stack([ARRAY, ARRAY]), "tzyx", r"axes t, z, y, x of lengths \(2, 5, 6, 7\)"),
        (ARRAY[0], "yx", "axes y, x"),
        (ARRAY, "zy", "other axes than it declares"),
        (ARRAY.astype(np.complex64), "zyx", "no real numbers"),
        (np.stack([ARRAY, ARRAY], axis=-1), "zyxx", "axes z, y, x, x.*each once"),
    ],
)
def test_what_is_no_volume_is_refused_with_its_axes(tmp_path, array, axes, words):
    with pytest.raises(VolumeError, match=rf"a\.zarr.*{words}"):
        read_volume(image(tmp_path / "a.zarr", array, axes))


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("kind", ["scale", "translation"])
@pytest.mark.parametrize("count", [2, 4])
def test_steps_of_more_or_fewer_numbers_than_axes_are_refused(tmp_path, later, kind, count):
    scale, odd = {"type": "scale", "scale": [1.0] * 3}, {"type": kind, kind: [2.0] * count}
    path = image(tmp_path / "a.zarr", steps=[scale, *[odd][later:]], later=(odd,) if later else ())
    with pytest.raises(
        VolumeError, match=rf"a\.zarr.*a {kind} of {count} numbers; .*its 3 axes z, y, x"
    ):
        read_volume(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_the_finest_level_is_read_wherever_it_is_listed(tmp_path, version):
    path = image(tmp_path / "a.zarr", version=version)
    group = zarr.open_group(str(path), mode="a")
    group.create_array("coarse", shape=(3, 3, 4), dtype="f4")[...] = 1
    about = dict(group.attrs)
    datasets = about.get("ome", about)["multiscales"][0]["datasets"]
    coarse = {"type": "scale", "scale": [2.0, 2.0, 2.0]}
    datasets.insert(0, {"path": "coarse", "coordinateTransformations": [coarse]})
    datasets += [{"path": "missing"}, {}]  # do no harm where they are not needed
    group.attrs.update(about)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.voxels, ARRAY)
    assert volume.voxel_size == (1, 1, 1)


@pytest.mark.parametrize(
    ("axes", "version", "words"),
    [(["z", "y", "x"], "0.3", "0.3"), (["z", "y", "x"], "0.4", "0.3"), (None, "0.1", "0.1")],
)
def test_versions_before_0_4_are_refused(tmp_path, axes, version, words):
    path = image(tmp_path / "a.zarr")
    group = zarr.open_group(str(path), mode="a")
    [scales] = group.attrs["multiscales"]
    del scales["axes"]
    group.attrs["multiscales"] = [
        {**scales, "version": version, **({"axes": axes} if axes else {})}
    ]
    with pytest.raises(
        VolumeError, match=rf"a\.zarr.*is OME-Zarr {words} by .*read are 0\.4 and 0\.5"
    ):
        read_volume(path)


def test_groups_without_an_image_and_damaged_metadata_are_refused(tmp_path):
    zarr.open_group(str(tmp_path / "bare.zarr"), mode="w").create_array(
        "x", shape=(3, 3, 3), dtype="f4"
    )
    with pytest.raises(VolumeError, match=r"bare\.zarr.*without OME-Zarr metadata"):
        read_volume(tmp_path / "bare.zarr")
    path = image(tmp_path / "a.zarr")
    group = zarr.open_group(str(path), mode="a")
    group.attrs["multiscales"] = [{"datasets": []}]
    with pytest.raises(VolumeError, match=r"a\.zarr.*damaged OME-Zarr metadata"):
        read_volume(path)
    (path / ".zgroup").write_text("{")
    (path / ".zattrs").write_text("{")
    with pytest.raises(VolumeError, match=r"a\.zarr"):
        read_volume(path)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_stores_whose_images_are_inside_say_where(tmp_path, version):
    def store(name, **about):
        path = tmp_path / name
        format_ = 2 if version == "0.4" else 3
        group = zarr.open_group(str(path), mode="w", zarr_format=format_)
        group.attrs.update(about if version == "0.4" else {"ome": {"version": "0.5", **about}})
        return path

    raw = store("raw.zarr", **{"bioformats2raw.layout": 3})
    for inner in ("0", "1"):
        image(raw / inner, version=version)
    (raw / "OME").mkdir()
    with pytest.raises(VolumeError, match=r"2 of them: 0, 1\. Give one .*raw\.zarr/0'"):
        read_volume(raw)
    assert read_volume(raw / "1").shape == (5, 6, 7)
    wells = [{"path": "B/3", "rowIndex": 1, "columnIndex": 2}]
    for name, about, words in (
        ("plate.zarr", {"plate": {"wells": wells}}, r"is a plate.*plate\.zarr/B/3/0'"),
        ("empty.zarr", {"plate": {}}, r"is a plate.*empty\.zarr/A/1/0'"),
        ("well.zarr", {"well": {"images": [{"path": "2"}]}}, r"is a well.*well\.zarr/2'"),
    ):
        with pytest.raises(VolumeError, match=words):
            read_volume(store(name, **about))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_a_bare_array_is_sent_to_its_image(tmp_path, version):
    path = image(tmp_path / "a.zarr", version=version)
    with pytest.raises(VolumeError, match=r"single Zarr array.*that it is in: '.*a\.zarr'"):
        read_volume(path / "finest")
    zarr.create_array(str(tmp_path / "b.zarr"), shape=(3, 4, 5), dtype="f4")
    with pytest.raises(VolumeError, match=r"b\.zarr' is a single Zarr array.*Write it as OME"):
        read_volume(tmp_path / "b.zarr")


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"ome": "text"}, "a value in them is of another kind than it must be"),
        ({"multiscales": "text"}, "a value in them is of another kind than it must be"),
        ({"multiscales": [{"axes": []}]}, "'datasets' is missing"),
        ({"multiscales": [{"axes": [], "datasets": []}]}, "a list in them is too short"),
    ],
)
def test_damaged_metadata_are_told_in_words(tmp_path, attributes, words):
    path = tmp_path / "a.zarr"
    zarr.open_group(str(path), mode="w", zarr_format=2).attrs.update(attributes)
    with pytest.raises(VolumeError, match=rf"a\.zarr' has damaged OME.*: {words}\. Accepted are"):
        read_volume(path)


def test_a_damaged_chunk_is_named(tmp_path):
    write_volume(tmp_path / "a.ome.zarr", Volume(ARRAY))
    (chunk,) = (file for file in (tmp_path / "a.ome.zarr" / "0" / "c").rglob("*") if file.is_file())
    raw = bytearray(chunk.read_bytes())
    raw[len(raw) // 2] ^= 0xFF  # the checksum behind it no longer fits
    chunk.write_bytes(raw)
    with pytest.raises(VolumeError, match=r"a\.ome\.zarr.*damaged chunk"):
        read_volume(tmp_path / "a.ome.zarr")


def test_a_chunk_that_is_missing_is_empty(tmp_path):
    path = image(tmp_path / "a.zarr", 1 + ARRAY**2, chunks=(5, 6, 4))
    (path / "finest" / "0.0.1").unlink()
    voxels = read_volume(path).voxels
    np.testing.assert_array_equal(voxels[..., :4], (1 + ARRAY**2)[..., :4])
    assert not voxels[..., 4:].any()


def test_a_chunk_that_would_unpack_to_more_than_a_chunk_is_refused(tmp_path):
    path = image(tmp_path / "a.zarr", compressors=zarr.codecs.BloscCodec(), version="0.5")
    (chunk,) = (file for file in (path / "finest" / "c").rglob("*") if file.is_file())
    raw = bytearray(chunk.read_bytes())
    raw[4:8] = (1 << 30).to_bytes(4, "little")
    chunk.write_bytes(raw)
    with pytest.raises(VolumeError, match=r"a\.zarr.*unpacks to more than the 210 voxels"):
        read_volume(path)


def test_an_array_of_far_more_voxels_than_are_stored_is_refused(tmp_path):
    path = image(tmp_path / "a.zarr")
    layout = path / "finest" / ".zarray"
    declared = json.loads(layout.read_text())
    declared["shape"] = [20_000] * 3
    layout.write_text(json.dumps(declared))
    with pytest.raises(VolumeError, match=r"a\.zarr.*\(20000, 20000, 20000\).*holds 3 files"):
        read_volume(path)


def test_shards_are_read(tmp_path):
    path = image(
        tmp_path / "a.zarr", ARRAY[:4, :6, :6], version="0.5", chunks=(2, 3, 3), shards=(4, 6, 6)
    )
    np.testing.assert_array_equal(read_volume(path).voxels, ARRAY[:4, :6, :6])


@pytest.mark.parametrize("nested", [False, True])
def test_shards_of_more_chunks_than_their_indices_list_are_refused(tmp_path, nested):
    """Zarr would make a list of all of them before it looks for any."""
    whole = {"chunks": (300, 300, 300), "shards": (300, 300, 300)}
    path = image(tmp_path / "a.zarr", ARRAY[:4, :6, :6], version="0.5", **whole)
    about = path / "finest" / "zarr.json"
    content = json.loads(about.read_text("utf-8"))
    shard = content["codecs"][0]
    tiny = {**shard, "configuration": {**shard["configuration"], "chunk_shape": [1, 1, 1]}}
    inner = {**shard, "configuration": {**shard["configuration"], "codecs": [tiny]}}
    content |= {"codecs": [inner if nested else tiny], "shape": [300, 300, 300]}
    about.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(VolumeError, match=r"27000000 chunks of shape \(1, 1, 1\)"):
        read_volume(path)


@pytest.mark.parametrize(
    ("head", "size"),
    [
        ("28b52ffd 20 07", 7),  # one byte, single segment
        ("28b52ffd 00 58 07", 0),  # no size is said
        ("28b52ffd 61 99 0100", 257),  # a dictionary's number stands before it
        ("28b52ffd a0 00000100", 65536),
        ("28b52ffd e0 0000000001000000", 1 << 32),
        ("28b52ffd", 0),
    ],
)
def test_sizes_that_zstandard_frames_say(head, size):
    assert unpacked_size(bytes.fromhex(head)) == size


def test_a_turned_volume_keeps_its_affine_and_says_its_voxel_size(tmp_path):
    affine = np.array([[0, -2.0, 0, 5], [3.0, 0, 0, 6], [0, 0, -4.0, 7], [0, 0, 0, 1]])
    assert not along_axes(affine)
    write_volume(tmp_path / "a.ome.zarr", Volume(ARRAY, affine, "mm"))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.ome.zarr").affine, affine)
    (scales,) = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r").attrs["ome"]["multiscales"]
    scale, translation = scales["datasets"][0]["coordinateTransformations"]
    assert scale["scale"] == [4.0, 2.0, 3.0]
    assert translation["translation"] == [7.0, 6.0, 5.0]


def test_levels_and_chunks_as_asked_for(tmp_path):
    volume = Volume(np.stack([ARRAY, ARRAY]), unit="mm")
    for together, lead in ((False, 1), (True, 2)):
        path = tmp_path / f"{together}.ome.zarr"
        options = {"levels": 2, "name": "scan", "channels_together": together}
        finest, coarse = create_image(path, volume, chunk=(2, 3, 4), **options)
        assert (finest.shape, coarse.shape) == ((2, 5, 6, 7), (2, 3, 3, 4))
        assert (finest.chunks, coarse.chunks) == ((lead, 2, 3, 4), (lead, 2, 3, 4))
        (scales,) = zarr.open_group(str(path), mode="r").attrs["ome"]["multiscales"]
        assert scales["name"] == "scan"
        # the first coarse voxel lies between the two fine ones that it is the mean of
        step = scales["datasets"][1]["coordinateTransformations"]
        assert step[0]["scale"] == [1.0, 2.0, 2.0, 2.0]
        assert step[1]["translation"] == [0.0, 0.5, 0.5, 0.5]
    assert pyramid_shapes((5, 8, 16), (99, 99, 99), levels=3) == [(5, 8, 16), (3, 4, 8), (2, 2, 4)]


def test_a_pyramid_holds_means(tmp_path):
    array = np.random.default_rng(0).normal(size=(3, 4, 200)).astype(np.float32)
    write_volume(tmp_path / "a.ome.zarr", Volume(array))
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    coarse = group["1"][...]
    assert coarse.shape == (2, 2, 100)
    assert coarse[0, 1, 7] == pytest.approx(array[:2, 2:, 14:16].mean(), rel=1e-6)
    assert coarse[1, 0, 99] == pytest.approx(array[2:, :2, 198:].mean(), rel=1e-6)


@pytest.mark.parametrize("at", [8, 12], ids=["blocks", "length"])
def test_a_chunk_of_blosc_that_lies_about_itself_is_refused(tmp_path, at):
    """The library reads beyond its end, which ends the process."""
    import numcodecs

    path = tmp_path / "a.ome.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    array = group.create_array(
        "0", shape=(4, 4, 4), chunks=(4, 4, 4), dtype="<i2", compressors=numcodecs.Blosc()
    )
    array[...] = np.arange(64).reshape(4, 4, 4)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    steps = [{"type": "scale", "scale": [1.0, 1.0, 1.0]}]
    dataset = {"path": "0", "coordinateTransformations": steps}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    assert read_volume(path).shape == (4, 4, 4)
    (chunk,) = (one for one in (path / "0").rglob("*") if one.is_file() and one.name[0] == "0")
    good = chunk.read_bytes()
    chunk.write_bytes(good[:at] + b"\xff\xff\xff\x7f" + good[at + 4 :])
    with pytest.raises(VolumeError, match=r"damaged chunk.*Blosc"):
        read_volume(path)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, endless])
@pytest.mark.parametrize("where", ["0/zarr.json", "0/c/0/0/0"])
def test_what_is_no_regular_file_is_not_opened(tmp_path, make, where):
    """A pipe would be waited for, and a device read, for ever."""
    path = tmp_path / "a.ome.zarr"
    write_volume(path, Volume(ARRAY))
    (path / where).unlink()
    make(path / where)
    with pytest.raises(VolumeError, match=rf"{where}' is no regular file"):
        read_volume(path)


def test_metadata_of_any_length_are_not_read(tmp_path):
    path = tmp_path / "a.ome.zarr"
    write_volume(path, Volume(ARRAY))
    with (path / "0" / "zarr.json").open("r+b") as file:
        file.truncate(1 << 40)
    with pytest.raises(VolumeError, match="1099511627776 bytes of metadata"):
        read_volume(path)
