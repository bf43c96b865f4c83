"""NIfTI: voxels and places against nibabel and ITK, each reading on its own."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from respondcam.errors import RespondCAMWarning, VolumeError
from respondcam.volume import Volume, read_volume, write_volume

ARRAY = np.random.default_rng(5).normal(size=(6, 5, 4)).astype(np.float32)  # x, y, z
ROTATION = nib.eulerangles.euler2mat(0.3, -0.2, 0.5)
OBLIQUE = nib.affines.from_matvec(ROTATION @ np.diag([1.5, 2.0, 3.0]), [-20.0, 7.0, 11.0])
SHEARED = OBLIQUE @ np.array([[1, 0, 0.2, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def save(path, array=ARRAY, affine=OBLIQUE, *, image=nib.Nifti1Image):
    nib.save(image(array, affine), path)
    return path


def save_forms(path, sform, qform):
    """Write a scan whose two forms differ, with codes, and voxel sizes 2, 3, 4."""
    header = nib.Nifti1Header()
    header.set_data_shape(ARRAY.shape)
    header.set_data_dtype(np.float32)
    header.set_qform(np.diag([2.0, 3.0, 4.0, 1.0]), qform)
    header.set_sform(OBLIQUE, sform)
    nib.save(nib.Nifti1Image(ARRAY, None, header), path)
    written = nib.load(path).header
    assert (int(written["sform_code"]), int(written["qform_code"])) == (sform, qform)
    return path


def patched(path, **fields):
    """Overwrite fields of a NIfTI-1 header, byte by byte."""
    raw = bytearray(path.read_bytes())
    for name, value in fields.items():
        kind, offset = nib.nifti1.header_dtype.fields[name][:2]
        content = np.array(value, kind.base).tobytes()
        raw[offset : offset + len(content)] = content
    path.write_bytes(bytes(raw))
    return path


def in_itk(path, index_xyz):
    """RAS world position, according to ITK, of a voxel index (need not be whole numbers)."""
    image = SimpleITK.ReadImage(str(path))
    x, y, z = image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index_xyz])
    return np.array([-x, -y, z])


def assert_is_nibabels(volume, path):
    image = nib.load(path)
    np.testing.assert_allclose(volume.voxels, image.get_fdata().T, rtol=1e-6)
    np.testing.assert_allclose(volume.affine, image.affine)


def test_the_big_endian_scan_is_nibabels(shared_data):
    path = shared_data / "volumes" / "anatomical.nii"
    volume = read_volume(path)
    assert_is_nibabels(volume, path)
    assert (volume.shape, volume.orientation, volume.unit) == ((25, 41, 33), "LAS", "mm")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ", ".hdr", ".img"])
@pytest.mark.parametrize("image", [nib.Nifti1Image, nib.Nifti2Image])
def test_every_container_is_nibabels(tmp_path, suffix, image):
    if suffix in (".hdr", ".img"):
        image = {nib.Nifti1Image: nib.Nifti1Pair, nib.Nifti2Image: nib.Nifti2Pair}[image]
    path = tmp_path / f"scan{suffix}"
    if suffix == ".NII.GZ":
        save(tmp_path / "scan.nii.gz", image=image).rename(path)
        volume = read_volume(path)
        path = path.rename(tmp_path / "scan.nii.gz")
    else:
        volume = read_volume(save(path, image=image))
    assert_is_nibabels(volume, path)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_with_its_scaling_is_nibabels(tmp_path, dtype, order):
    array = np.random.default_rng(0).integers(0, 100, (6, 5, 4)).astype(dtype)
    header = nib.Nifti1Header(endianness=order)
    header.set_data_dtype(np.dtype(dtype))
    path = tmp_path / "scan.nii"
    nib.save(nib.Nifti1Image(array, OBLIQUE, header), path)
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([0.37, -1024.5], f"{order}f4").tobytes()  # scl_slope, scl_inter
    path.write_bytes(bytes(raw))
    volume = read_volume(path)
    assert_is_nibabels(volume, path)
    np.testing.assert_allclose(volume.voxels, 0.37 * array.astype(float).T - 1024.5, rtol=1e-6)


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_a_slope_of_zero_or_nan_means_no_scaling(tmp_path, slope):
    path = patched(save(tmp_path / "scan.nii"), scl_slope=slope, scl_inter=7.0)
    np.testing.assert_array_equal(read_volume(path).voxels, ARRAY.T)


@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (4, 1), (0, 0)])
def test_the_choice_between_sform_and_qform_is_nibabels(tmp_path, sform, qform):
    path = save_forms(tmp_path / "scan.nii", sform, qform)
    assert_is_nibabels(read_volume(path), path)


@pytest.mark.parametrize(
    ("name", "unit", "factor"),
    [("mm", "mm", 1), ("unknown", "mm", 1), ("meter", "mm", 1e3), ("micron", "angstrom", 1e4)],
)
def test_units_are_converted_and_a_companion_keeps_the_sources(tmp_path, name, unit, factor):
    image = nib.Nifti1Image(ARRAY, OBLIQUE)
    image.header.set_xyzt_units(name)
    nib.save(image, tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii")
    assert volume.unit == unit
    np.testing.assert_allclose(volume.affine[:3], image.affine[:3] * factor, rtol=1e-6)
    write_volume(tmp_path / "companion.nii", volume)
    again = nib.load(tmp_path / "companion.nii")
    assert again.header.get_xyzt_units()[0] == name
    np.testing.assert_allclose(again.affine, image.affine, rtol=1e-6, atol=1e-6)


def test_a_fourth_or_fifth_axis_becomes_the_channels(tmp_path):
    for shape, expected in (
        ((6, 5, 4, 3), (3, 4, 5, 6)),
        ((6, 5, 4, 1), (4, 5, 6)),
        ((6, 5, 4, 1, 2), (2, 4, 5, 6)),
    ):
        array = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        volume = read_volume(save(tmp_path / "scan.nii.gz", array))
        assert volume.voxels.shape == expected
        np.testing.assert_array_equal(volume.voxels, array.squeeze().T)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 4, 3, 2)])
def test_other_numbers_of_axes_are_refused_by_shape(tmp_path, shape):
    path = save(tmp_path / "scan.nii", np.zeros(shape, np.float32))
    with pytest.raises(VolumeError, match=r"scan\.nii.*\(6, 5"):
        read_volume(path)


@pytest.mark.parametrize("dtype", [np.complex64, [("R", "u1"), ("G", "u1"), ("B", "u1")]])
def test_complex_and_colour_voxels_are_refused(tmp_path, dtype):
    path = save(tmp_path / "scan.nii", np.zeros((6, 5, 4), dtype))
    with pytest.raises(VolumeError, match="real numbers"):
        read_volume(path)


def test_an_analyze_file_does_not_say_which_side_is_left(tmp_path):
    nib.save(nib.AnalyzeImage(ARRAY, np.eye(4)), tmp_path / "scan.img")
    with pytest.raises(VolumeError, match=r"ANALYZE 7\.5"):
        read_volume(tmp_path / "scan.hdr")


def test_half_a_pair_names_the_other_half(tmp_path):
    save(tmp_path / "scan.img", image=nib.Nifti1Pair)
    (tmp_path / "scan.hdr").unlink()
    with pytest.raises(VolumeError, match=r"scan\.hdr' is missing"):
        read_volume(tmp_path / "scan.img")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"dim": [3, 9999, 9999, 9999, 1, 1, 1, 1]}, "3998800119996 bytes"),
        ({"dim": [3, 0, 5, 4, 1, 1, 1, 1]}, "no voxels|damaged"),
        ({"dim": [3, -6, 5, 4, 1, 1, 1, 1]}, "no voxels|damaged"),
        ({"dim": [3, 7, 5, 4, 1, 1, 1, 1]}, "truncated"),
        ({"datatype": 77}, "damaged"),
        ({"magic": b"xxx"}, "no NIfTI stamp"),
        ({"magic": b"n+2"}, "348 bytes long.*540"),
        ({"srow_x": [np.nan] * 4}, "finite"),
        ({"srow_x": [0.0] * 4}, "invertible"),
        ({"sizeof_hdr": 12}, "no NIfTI file"),
        ({"vox_offset": 2.0**31}, "begin nowhere"),
        ({"vox_offset": 0.0}, "byte 0 .*within the header, which is 348"),
        ({"vox_offset": 340.0}, "340 too low"),
    ],
)
def test_lying_headers_are_refused_by_name(tmp_path, fields, words):
    path = patched(save(tmp_path / "scan.nii"), **fields)
    with pytest.raises(VolumeError, match=rf"scan\.nii.*({words})") as caught:
        read_volume(path)
    assert str(caught.value).count("scan.nii") == 1


def test_what_nibabel_mends_is_a_warning_and_nothing_else_is_printed(tmp_path, capfd):
    path = patched(save(tmp_path / "scan.nii"), pixdim=[1, -2, 2, 2, 1, 1, 1, 1])
    with pytest.warns(RespondCAMWarning, match=r"scan\.nii.*pixdim.*should be positive"):
        read_volume(path)
    with pytest.raises(VolumeError, match="data code 77"):
        read_volume(patched(path, datatype=77, pixdim=[1, 2, 2, 2, 1, 1, 1, 1]))
    assert capfd.readouterr().err == ""


# ------------------------------------------------------------------ writing


@pytest.mark.parametrize("affine", [np.diag([-2.0, 2, 2, 1]), OBLIQUE, SHEARED])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_written_volume_is_in_its_place_for_nibabel_and_itk(tmp_path, affine, suffix):
    volume = Volume(ARRAY.T, affine, "mm")
    path = tmp_path / f"map{suffix}"
    write_volume(path, volume)
    image = nib.load(path)
    np.testing.assert_allclose(image.affine, affine, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(image.dataobj), ARRAY)
    assert image.get_data_dtype() == np.float32
    if affine is not SHEARED:  # ITK itself drops shears from NIfTI
        np.testing.assert_allclose(in_itk(path, (5, 3, 1)), volume.world((1, 3, 5)), atol=1e-4)
        assert SimpleITK.ReadImage(str(path))[5, 3, 1] == ARRAY[5, 3, 1]


@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (4, 1), (0, 0), (2, 2)])
@pytest.mark.parametrize("coarser", [False, True])
def test_a_companion_keeps_both_forms_and_their_codes(tmp_path, sform, qform, coarser):
    path = save_forms(tmp_path / "scan.nii.gz", sform, qform)
    volume = read_volume(path)
    step = np.eye(4)  # from indices of the companion to those of the source
    if coarser:
        step = np.array([[2, 0, 0, 0.5], [0, 2, 0, 0.5], [0, 0, 2, 0.5], [0, 0, 0, 1]])
        volume = volume.with_voxels(volume.voxels[::2, ::2, ::2], volume.affine @ step)
    write_volume(tmp_path / "map.nii.gz", volume)
    source, written = nib.load(path).header, nib.load(tmp_path / "map.nii.gz").header
    np.testing.assert_allclose(written.get_best_affine(), volume.affine, atol=1e-5)
    if (sform, qform) == (0, 0) and coarser:  # voxel sizes alone cannot say this
        assert int(written["sform_code"]) == 2
        return
    assert (int(written["sform_code"]), int(written["qform_code"])) == (sform, qform)
    for code, form in ((sform, "get_sform"), (qform, "get_qform")):
        if code:
            expected = getattr(source, form)() @ step
            np.testing.assert_allclose(getattr(written, form)(), expected, atol=1e-5)
    if (sform, qform) == (1, 0) and coarser:
        return  # ITK mixes this source's sform with its other voxel sizes: nothing fits both
    for index in ((0, 0, 0), (2, 1, 1)):  # whatever ITK makes of the codes, it lies on the source
        np.testing.assert_allclose(
            in_itk(tmp_path / "map.nii.gz", index),
            in_itk(path, (step @ (*index, 1))[:3]),
            atol=1e-4,
        )


def test_a_companion_of_the_real_scan_overlays_it(tmp_path, shared_data):
    source = shared_data / "volumes" / "anatomical.nii"
    volume = read_volume(source)
    write_volume(tmp_path / "map.nii", volume)
    one, other = nib.load(source), nib.load(tmp_path / "map.nii")
    np.testing.assert_array_equal(one.affine, other.affine)
    np.testing.assert_array_equal(one.get_fdata(), other.get_fdata())
    for name in ("sform_code", "qform_code", "quatern_b", "quatern_c", "quatern_d"):
        np.testing.assert_array_equal(one.header[name], other.header[name])
    np.testing.assert_array_equal(
        in_itk(source, (3, 30, 20)), in_itk(tmp_path / "map.nii", (3, 30, 20))
    )


def test_angstrom_become_micrometres_and_come_back(tmp_path):
    volume = Volume(ARRAY.T, np.diag([10.0, 20.0, 30.0, 1.0]), "angstrom")
    write_volume(tmp_path / "map.nii", volume)
    image = nib.load(tmp_path / "map.nii")
    assert image.header.get_xyzt_units()[0] == "micron"
    np.testing.assert_allclose(image.header.get_zooms(), (1e-3, 2e-3, 3e-3))
    again = read_volume(tmp_path / "map.nii")
    assert again.unit == "angstrom"
    np.testing.assert_allclose(again.affine, volume.affine, rtol=1e-6)


def test_a_volume_without_a_unit_keeps_having_none(tmp_path):
    write_volume(tmp_path / "map.nii", Volume(ARRAY.T))
    assert read_volume(tmp_path / "map.nii").unit == "voxel"
    assert nib.load(tmp_path / "map.nii").header.get_xyzt_units()[0] == "unknown"


def test_channels_are_the_fourth_axis(tmp_path):
    array = np.stack([ARRAY.T, 2 * ARRAY.T])
    write_volume(tmp_path / "map.nii", Volume(array, OBLIQUE, "mm"))
    image = nib.load(tmp_path / "map.nii")
    np.testing.assert_array_equal(image.get_fdata(dtype=np.float32), np.moveaxis(array.T, -1, 3))
    np.testing.assert_array_equal(read_volume(tmp_path / "map.nii").voxels, array)


def test_a_long_axis_makes_it_nifti_2(tmp_path):
    write_volume(tmp_path / "map.nii", Volume(np.zeros((1, 1, 40000)), unit="mm"))
    assert isinstance(nib.load(tmp_path / "map.nii"), nib.Nifti2Image)
    assert read_volume(tmp_path / "map.nii").shape == (1, 1, 40000)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["mm", "angstrom", "voxel"]))
def test_any_affine_survives(tmp_path_factory, seed, unit):
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.1, 10, 3)
    affine[:3, 3] = rng.uniform(-500, 500, 3)
    path = tmp_path_factory.mktemp("nifti") / "map.nii"
    write_volume(path, Volume(ARRAY.T, affine, unit))
    again = read_volume(path)
    assert again.unit == unit
    np.testing.assert_allclose(again.affine, affine, rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(again.voxels, ARRAY.T)


def test_a_quaternion_that_is_no_rotation_does_not_matter_beside_a_good_sform(tmp_path):
    image = nib.Nifti1Image(np.ones((4, 5, 6), np.float32), np.diag([2.0, 3.0, 4.0, 1.0]))
    image.header["quatern_b"] = 4.0
    path = tmp_path / "scan.nii"
    image.to_filename(path)
    data = bytearray(path.read_bytes())
    data[256:260] = np.float32(4.0).tobytes()  # quatern_b, as no library would write it
    path.write_bytes(data)
    volume = read_volume(path)
    np.testing.assert_allclose(np.diag(volume.affine), [2, 3, 4, 1])
    write_volume(tmp_path / "map.nii", volume)
    np.testing.assert_allclose(nib.load(tmp_path / "map.nii").affine, volume.affine)


@pytest.mark.parametrize("title", ["respond, layer conv5, GroEL", "αβ" * 50, ""])
def test_the_description_says_what_the_map_is_as_far_as_there_is_room(tmp_path, title):
    path = tmp_path / "map.nii.gz"
    write_volume(path, Volume(ARRAY, header={"title": title}))
    said = nib.load(path).header["descrip"].tobytes().rstrip(b"\0").decode()  # no half letter
    assert said.startswith("respondcam ")
    assert title.startswith(said.partition(": voxel")[2].removeprefix(": "))
    assert read_volume(path).unit == "voxel"
