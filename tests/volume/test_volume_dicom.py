"""DICOM series that pydicom writes: order, spacing, rescaling, place; and series that are none."""

import itertools
import struct
import subprocess
import sys

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from respondcam.errors import VolumeError
from respondcam.volume import companion_suffix, dicom, read_volume, write_volume

ROTATION = nib.eulerangles.euler2mat(0.3, -0.2, 0.5)  # LPS directions of columns, rows, normal
SPACING = (0.7, 0.8, 2.5)  # along x, y, z
ORIGIN = np.array([-100.25, -50.5, 30.0])
STORED = np.random.default_rng(2).integers(0, 3000, (5, 4, 6)).astype(np.uint16)
SERIES = "1.3.6.1.4.1.99999.7.1"


def write_slice(path, section, position, *, series=SERIES, number=1, slope=1.0, **tags):
    data = pydicom.Dataset()
    data.SOPClassUID = CTImageStorage
    data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID = series, "1.2.3.4"
    data.Modality, data.InstanceNumber, data.SeriesDescription = "CT", number, "thorax"
    data.ImagePositionPatient = [f"{value:.6f}" for value in position]
    data.ImageOrientationPatient = [f"{value:.9f}" for value in ROTATION[:, :2].T.ravel()]
    data.PixelSpacing = [SPACING[1], SPACING[0]]  # between rows, then between columns
    data.SliceThickness = 1.0  # is not the distance between slices
    data.Rows, data.Columns = section.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.RescaleSlope, data.RescaleIntercept = slope, -1024
    data.PixelData = section.tobytes()
    for name, value in tags.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(path, enforce_file_format=True)


def write_series(folder, *, order=(3, 0, 4, 1, 2), positions=None, suffix=".dcm", **tags):
    """Write sections under shuffled names and instance numbers."""
    folder.mkdir(exist_ok=True)
    for rank, section in enumerate(order):
        position = ORIGIN + ROTATION[:, 2] * SPACING[2] * section
        if positions is not None:
            position = positions[section]
        path = folder / f"{rank:02d}{suffix}"
        slope = 1.0 + section  # differs from slice to slice, as in PET
        write_slice(path, STORED[section], position, number=rank + 1, slope=slope, **tags)
    return folder


def expected_voxels():
    slopes = np.arange(1.0, 6.0)[:, None, None]
    return slopes * STORED - 1024


@pytest.mark.parametrize("suffix", [".dcm", "", ".IMA"])
def test_slices_are_sorted_and_spaced_by_position_and_rescaled(tmp_path, suffix):
    folder = write_series(tmp_path / "ct", suffix=suffix)
    expected = np.diag([-1.0, -1.0, 1.0]) @ ROTATION * SPACING  # LPS to RAS
    for path in (folder, folder / f"02{suffix}"):
        volume = read_volume(path)
        np.testing.assert_allclose(volume.voxels, expected_voxels())
        np.testing.assert_allclose(volume.affine[:3, :3], expected, atol=1e-6)
        np.testing.assert_allclose(volume.affine[:3, 3], ORIGIN * (-1, -1, 1), atol=1e-6)
        assert (volume.unit, volume.source) == ("mm", path)
        assert companion_suffix(volume) == ".nii.gz"


def test_a_map_beside_the_series_lies_on_it_for_itk(tmp_path):
    folder = write_series(tmp_path / "ct")
    write_volume(tmp_path / "map.nii.gz", read_volume(folder))
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    series, written = reader.Execute(), SimpleITK.ReadImage(str(tmp_path / "map.nii.gz"))
    assert series.GetSize() == written.GetSize()
    for index in ((0, 0, 0), (5, 3, 1), (2, 1, 4)):
        np.testing.assert_allclose(
            series.TransformIndexToPhysicalPoint(index),
            written.TransformIndexToPhysicalPoint(index),
            atol=1e-3,
        )
        stored = STORED[index[::-1]]
        assert written[index] == pytest.approx((1 + index[2]) * stored - 1024)


def test_a_tilted_gantry_shears_the_grid(tmp_path):
    step = ROTATION @ (0.0, 0.6, 2.4)
    positions = [ORIGIN + step * section for section in range(5)]
    volume = read_volume(write_series(tmp_path / "ct", positions=positions))
    np.testing.assert_allclose(volume.affine[:3, 2], step * (-1, -1, 1), atol=1e-5)
    write_volume(tmp_path / "map.nii", volume)
    np.testing.assert_allclose(nib.load(tmp_path / "map.nii").affine, volume.affine, atol=1e-4)


def test_missing_and_doubled_slices_are_named(tmp_path):
    folder = write_series(tmp_path / "gap")
    (folder / "04.dcm").unlink()  # section 2
    with pytest.raises(VolumeError, match=r"missing or uneven.*5 mm between .*03.*00.*2\.5 mm"):
        read_volume(folder)
    folder = write_series(tmp_path / "twice")
    write_slice(folder / "99.dcm", STORED[2], ORIGIN + ROTATION[:, 2] * SPACING[2] * 2)
    with pytest.raises(VolumeError, match=r"same place.*(04.*99|99.*04)"):
        read_volume(folder)


def test_several_series_are_listed_and_a_file_tells_which(tmp_path):
    folder = write_series(tmp_path / "ct")
    for section in range(3):
        position = ORIGIN + np.array([0, 0, section])
        write_slice(folder / f"b{section}.dcm", STORED[0], position, series=SERIES + ".9")
    with pytest.raises(
        VolumeError, match=r"2 DICOM series.*thorax, [35] files.*thorax, [35] files"
    ):
        read_volume(folder)
    assert read_volume(folder / "00.dcm").shape == (5, 4, 6)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, 1]}, "orientation"),
        ({"PixelSpacing": [3, 3]}, "pixel spacing"),
        ({"ImagePositionPatient": None}, r"0020,0032"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0,
          "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelData": bytes(72)}, "colour"),
        ({"NumberOfFrames": 2, "PixelData": bytes(96)}, "multi-frame|2 frames"),
    ],
)  # fmt: skip
def test_a_slice_that_does_not_belong_is_named(tmp_path, tags, words):
    folder = write_series(tmp_path / "ct")
    write_slice(folder / "odd.dcm", STORED[0], ORIGIN + ROTATION[:, 2] * SPACING[2] * 5, **tags)
    with pytest.raises(VolumeError, match=words):
        read_volume(folder)


def table():
    """A Modality LUT that turns values round."""
    one = pydicom.Dataset()
    one.LUTDescriptor, one.ModalityLUTType = [256, 0, 16], "HU"
    one.LUTData = np.arange(256, dtype=np.uint16)[::-1].tobytes()
    one["LUTData"].VR = "OW"
    return [one]


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, r"MONOCHROME1, whose values ITK inverts"),
        ({"ModalityLUTSequence": table()}, r"table, the Modality LUT Sequence \(0028,3000\)"),
        ({"RescaleSlope": 0}, r"RescaleSlope \(0028,1053\) is 0"),
        ({"RescaleSlope": "nan"}, r"\(0028,1053\) is 'nan"),
        ({"RescaleSlope": "inf"}, r"\(0028,1053\) is 'inf"),
        ({"RescaleSlope": [2, 3]}, r"\(0028,1053\) is '2"),
        ({"RescaleIntercept": "inf"}, r"\(0028,1052\) is 'inf"),
        ({"PixelSpacing": [-0.8, 0.7]}, r"PixelSpacing \(0028,0030\) is -0\.8, 0\.7; accepted"),
        ({"PixelSpacing": [0, 0.7]}, r"PixelSpacing \(0028,0030\) is 0, 0\.7; accepted"),
        ({"ImageOrientationPatient": [2, 0, 0, 0, 2, 0]}, "is 2, 0, 0, 0, 2, 0; .*of length 1"),
        ({"ImageOrientationPatient": [1e300, 0, 0, 0, 1, 0]}, r"is 1e\+300, .*of length 1"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.6, 0.8, 0]}, "0.6, 0.8, 0; .*perpendicular"),
    ],
)
@pytest.mark.parametrize("every", [True, False])
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, of values that it should not write
def test_values_and_places_that_itk_would_not_give_as_they_are_are_refused(
    tmp_path, tags, words, every
):
    folder = write_series(tmp_path / "ct", **(tags if every else {}))
    write_slice(folder / "odd.dcm", STORED[0], ORIGIN + ROTATION[:, 2] * SPACING[2] * 5, **tags)
    with pytest.raises(VolumeError, match=rf"\.dcm'.*{words}"):
        read_volume(folder)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_table_of_values_is_found_however_it_is_written_and_in_no_other_sequence(
    tmp_path, syntax
):
    inner = pydicom.Dataset()
    inner.ModalityLUTSequence = table()
    more = {"ReferencedImageSequence": [inner], "ModalityLUTSequence": []}
    folder = write_series(tmp_path / "ct", **more)
    for wanted in (False, True):
        for path in folder.iterdir():
            data = pydicom.dcmread(path)
            data.file_meta.TransferSyntaxUID = syntax
            if wanted:
                data.ModalityLUTSequence = table()
            data.save_as(path)
        if not wanted:
            np.testing.assert_allclose(read_volume(folder).voxels, expected_voxels())
    with pytest.raises(VolumeError, match="Modality LUT Sequence"):
        read_volume(folder)


def test_cosines_that_were_rounded_are_read(tmp_path):
    rounded = ROTATION[:, :2].T.ravel().round(3).tolist()
    folder = write_series(tmp_path / "ct", ImageOrientationPatient=rounded, RescaleSlope=None)
    np.testing.assert_allclose(read_volume(folder).voxels, STORED - 1024.0)


@pytest.mark.parametrize(
    ("tag", "text"), [("0020|0032", "1\\2"), ("0020|0032", "1\\2\\x"), ("0028|0030", "1\\inf")]
)
def test_numbers_that_are_none_are_named_with_their_tag(tmp_path, monkeypatch, tag, text):
    folder = write_series(tmp_path / "ct")
    right = dicom._tag
    monkeypatch.setattr(
        dicom, "_tag", lambda info, key, path: text if key == tag else right(info, key, path)
    )
    with pytest.raises(VolumeError, match=rf"\({tag.replace('|', ',')}\) is .{text[0]}"):
        read_volume(folder)


def test_one_slice_is_no_volume(tmp_path):
    (tmp_path / "xr").mkdir()
    write_slice(tmp_path / "xr" / "a.dcm", STORED[0], ORIGIN)
    with pytest.raises(VolumeError, match="one 2-D image"):
        read_volume(tmp_path / "xr")


def test_folders_and_files_without_dicom_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="without DICOM files"):
        read_volume(tmp_path)
    (tmp_path / "a.dcm").write_text("once upon a time")
    with pytest.raises(VolumeError, match=r"a\.dcm.*cannot be read"):
        read_volume(tmp_path / "a.dcm")


def test_a_folder_of_files_that_cannot_be_read_is_not_called_one_without_dicom(tmp_path):
    folder = write_series(tmp_path / "cut")
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(VolumeError, match=r"5 files looked like one.*00\.dcm'.* truncated"):
        read_volume(folder)
    folder = write_series(tmp_path / "loose", SeriesInstanceUID=None)
    with pytest.raises(VolumeError, match=r"5 files looked like one.*no DICOM tag \(0020,000e\)"):
        read_volume(folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(VolumeError, match=r"without DICOM files; of folders, .* OME-Zarr"):
        read_volume(tmp_path / "none")


def test_pixels_of_one_bit_are_refused(tmp_path):
    """ITK makes 0 and 255 of them."""
    tags = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": b"\xa5\x0f\x33\0"}
    folder = write_series(tmp_path / "mask", **tags)
    with pytest.raises(VolumeError, match=r"pixels of one bit.*accepted are 8 bits or more"):
        read_volume(folder)


def test_a_damaged_slice_is_named_not_left_out(tmp_path):
    folder = write_series(tmp_path / "ct")
    raw = (folder / "01.dcm").read_bytes()  # the first section: without it the rest is even
    for content in (raw[:-20], raw.replace(b"DICM", b"XXXX")):
        (folder / "01.dcm").write_bytes(content)
        for path in (folder, folder / "00.dcm"):
            with pytest.raises(VolumeError, match=r"01\.dcm.*damaged"):
                read_volume(path)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_fewer_pixels_than_declared_are_refused(tmp_path, syntax):
    """GDCM would leave the others as its memory happened to be."""
    folder = write_series(tmp_path / "ct")
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = syntax
        data.save_as(path)
    np.testing.assert_allclose(read_volume(folder).voxels, expected_voxels())
    data = pydicom.dcmread(folder / "02.dcm")
    data.PixelData = data.PixelData[:-2]
    data.save_as(folder / "02.dcm")
    with pytest.raises(VolumeError, match=r"02\.dcm.*6 x 4 pixels, 48 bytes"):
        read_volume(folder)
    write_series(tmp_path / "huge", Rows=60000, Columns=60000)
    with pytest.raises(VolumeError, match=r"60000 x 60000 pixels, 7200000000 bytes"):
        read_volume(tmp_path / "huge")


def test_packed_pixels_are_bounded(tmp_path):
    folder = write_series(tmp_path / "ct")
    for path in folder.iterdir():
        data = pydicom.dcmread(path)
        data.compress(RLELossless)
        data.Rows = data.Columns = 60000
        data.save_as(path)
    with pytest.raises(VolumeError, match=r"60000 x 60000 pixels"):
        read_volume(folder)


def runs(count, *begins, body=b"junk" * 20):
    return struct.pack("<16I", count, *begins, *[0] * (15 - len(begins))) + body


def jpeg_ls(rows, columns):
    frame = struct.pack(">HBHHBBBB", 11, 8, rows, columns, 1, 1, 0x11, 0)
    scan = struct.pack(">HBBBBBB", 8, 1, 1, 0, 0, 0, 0)
    return b"\xff\xd8\xff\xf7" + frame + b"\xff\xda" + scan + bytes(200) + b"\xff\xd9"


def write_packed(path, syntax, fragments, **tags):
    write_slice(path, STORED[0], ORIGIN, **tags)
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate(fragments) if fragments else b"\xfe\xff\x00\xe0" + bytes(4)
    data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True
    data.save_as(path)


READ = """
import sys
from respondcam.errors import VolumeError
from respondcam.volume import read_volume
for path in sys.argv[1:]:
    print("reading", path, flush=True)
    try:
        read_volume(path)
    except VolumeError as error:
        print(error, flush=True)
    else:
        print("was read", flush=True)
"""


JUNK = [
    (RLELossless, [bytes(64) + b"junk" * 20]),  # no segments: GDCM would divide by zero
    (RLELossless, [runs(2, 64, 80), bytes(64)]),
    (RLELossless, [runs(16, *range(64, 79))]),
    (RLELossless, [runs(2, 80, 64)]),
    (RLELossless, [runs(2, 64, 4000)]),
    (RLELossless, [runs(1, 0)]),
    (RLELossless, [runs(3, 64, 80, 100)]),  # of pixels of two bytes
    (RLELossless, [b"ju"]),
    (RLELossless, []),
    (JPEGLSLossless, [jpeg_ls(4, 0)]),  # would be written to where nothing is
    (JPEGLSLossless, [jpeg_ls(0, 6)]),
    (JPEGLSLossless, [jpeg_ls(60000, 60000)]),
    (JPEGLSLossless, [b"\xff\xd8\xff\xff", b"\xff"]),
    (JPEGBaseline8Bit, [b"\xff\xd8\xff\xc0" + b"junk" * 20]),
    (JPEGBaseline8Bit, []),
    (JPEG2000Lossless, [b"\xff\x4f\xff\x51" + b"junk" * 20]),
]
UNUSUAL = [
    {},
    {"Rows": 20000, "Columns": 20000},
    {"Rows": 0},
    {"BitsAllocated": 7},
    {"SamplesPerPixel": 0},
    {"PlanarConfiguration": 7},
    {"NumberOfFrames": 0},
]


def test_junk_among_packed_pixels_is_refused(tmp_path):
    """In a process of its own, which GDCM would end."""
    paths = []
    drawn = zip(JUNK * 2, itertools.cycle(UNUSUAL), strict=False)
    for number, ((syntax, junk), tags) in enumerate(drawn):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths.append(folder / "00.dcm")
        write_packed(paths[-1], syntax, junk, **tags)
        write_slice(folder / "01.dcm", STORED[1], ORIGIN + ROTATION[:, 2])
    run = subprocess.run(
        [sys.executable, "-c", READ, *paths], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout.count("reading")) == (0, len(paths)), run.stdout
    assert "was read" not in run.stdout


def test_packed_pixels_are_read(tmp_path):
    sections = np.random.default_rng(3).integers(0, 3000, (2, 40, 60)).astype(np.uint16)
    for number, section in enumerate(sections):
        path = tmp_path / f"{number}.dcm"
        write_slice(path, section, ORIGIN + ROTATION[:, 2] * number)
        data = pydicom.dcmread(path)
        data.compress(RLELossless)
        data.save_as(path)
    np.testing.assert_allclose(read_volume(tmp_path).voxels, sections - 1024.0)


def test_dicom_under_another_name_is_refused(tmp_path):
    """ITK would take the reader that suits the content, and nothing would have been checked."""
    write_slice(tmp_path / "ct.dcm", STORED[0], ORIGIN)
    header = b"NRRD0004\n\n"  # the first 128 bytes of DICOM may be anything
    data = header + (tmp_path / "ct.dcm").read_bytes()[len(header) :]
    (tmp_path / "ct.nrrd").write_bytes(data)
    with pytest.raises(VolumeError, match=r"ct\.nrrd.*cannot be read"):
        read_volume(tmp_path / "ct.nrrd")


def test_what_is_no_slice_of_the_series_is_passed_over(tmp_path):
    folder = write_series(tmp_path / "ct")
    write_slice(folder / "report.dcm", STORED[0], ORIGIN, PixelData=None, Rows=None)
    write_slice(folder / "other.dcm", STORED[0], ORIGIN, series="1.2.3.9")
    (folder / "other.dcm").write_bytes((folder / "other.dcm").read_bytes()[:-20])  # damaged
    (folder / "notes.txt").write_text("once upon a time")
    (folder / "README").write_text("once upon a time")
    (folder / "more").mkdir()
    assert read_volume(folder).shape == (5, 4, 6)


def test_dicom_is_not_written(tmp_path):
    volume = read_volume(write_series(tmp_path / "ct"))
    with pytest.raises(VolumeError, match=r"\.nii\.gz instead"):
        write_volume(tmp_path / "map.dcm", volume)
