"""DICOM elements that claim what the file cannot hold are found before GDCM believes them."""

import struct
import time
import zlib
from pathlib import Path

import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from respondcam.errors import VolumeError
from respondcam.volume import dicom_elements
from respondcam.volume.dicom_elements import check_elements

SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
)
OPEN = b"\xff\xff\xff\xff"
ITEM, ITEM_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0"
SEQUENCE = b"\x40\x00\x75\x02SQ\0\0" + OPEN
PIXELS = b"\xe0\x7f\x10\x00"


def good(path: Path, syntax: str = ExplicitVRLittleEndian, *, told: bool = True) -> Path:
    """An image with sequences in sequences, their lengths told or not."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, "1.2.3"
    for _ in range(3):
        inner, data_of = data, Dataset()
        data_of.SOPClassUID, data_of.SOPInstanceUID = CTImageStorage, "1.2.3"
        inner.is_undefined_length_sequence_item = not told
        data_of.ReferencedImageSequence = Sequence([inner, Dataset()])
        data_of["ReferencedImageSequence"].is_undefined_length = not told
        data = data_of
    data.Rows, data.Columns, data.SamplesPerPixel = 4, 6, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelData = bytes(48)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if syntax == RLELossless:
        data.compress(RLELossless)
    data.file_meta.TransferSyntaxUID = syntax
    data["PixelData"].VR = "OW"
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("syntax", SYNTAXES)
def test_sound_files_pass(tmp_path: Path, syntax: str, *, told: bool) -> None:
    check_elements(good(tmp_path / "a.dcm", syntax, told=told))


def test_what_gdcm_reads_of_pydicoms_own_examples_passes() -> None:
    """Files of many makers and kinds, broken ones among them."""
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    read = 0
    for path in sorted((Path(pydicom.__file__).parent / "data").rglob("*.dcm")):
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO("GDCMImageIO")
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            continue
        check_elements(path)
        read += 1
    assert read > 20


def test_padding_and_kinds_that_nobody_knows_pass(tmp_path: Path) -> None:
    path = good(tmp_path / "a.dcm")
    raw = path.read_bytes()
    path.write_bytes(raw + bytes(7))
    check_elements(path)
    for unknown in (b"zz\0\0" + struct.pack("<I", 4), b"zz" + struct.pack("<H", 4)):
        path.write_bytes(_before_pixels(raw, b"\x29\x00\x10\x00" + unknown + b"abcd"))
        check_elements(path)
    (tmp_path / "empty.dcm").touch()
    check_elements(tmp_path / "empty.dcm")


def _before_pixels(raw: bytes, added: bytes) -> bytes:
    at = raw.rindex(PIXELS)
    return raw[:at] + added + raw[at:]


HUGE = struct.pack("<I", 0xE0000000)


@pytest.mark.parametrize(
    ("added", "words"),
    [
        (b"\x29\x00\x10\x00OB\0\0" + HUGE, r"element \(0029,0010\) claims 3758096384 bytes"),
        (b"\x29\x00\x10\x00LO" + b"\xff\xff", r"element \(0029,0010\) claims 65535 bytes"),
        (b"\x29\x00\x10\x00UN\0\0" + OPEN + ITEM + HUGE, "an item claims 3758096384 bytes"),
        (b"\x29\x00\x10\x00UT\0\0" + OPEN, "has no length"),
        (SEQUENCE + PIXELS + bytes(4), "which is no item"),
        (ITEM + bytes(4), "an item stands outside a sequence"),
        (SEQUENCE + ITEM_END + b"abcd", "an end of a sequence has a length"),
        (100_000 * (SEQUENCE + ITEM + OPEN), "sequences within sequences, more than 32 deep"),
        (1000 * b"\x29\x00\x10\x00LO\0\0", "more than 1000 elements"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, added: bytes, words: str
) -> None:
    monkeypatch.setattr(dicom_elements, "_MOST", 1000)
    path = good(tmp_path / "a.dcm")
    path.write_bytes(_before_pixels(path.read_bytes(), added))
    started = time.process_time()
    with pytest.raises(VolumeError, match=rf"a\.dcm' cannot be read: .*{words}"):
        check_elements(path)
    assert time.process_time() - started < 5


def test_implicit_sequences_are_gone_into(tmp_path: Path) -> None:
    path = good(tmp_path / "a.dcm", ImplicitVRLittleEndian)
    raw = path.read_bytes()
    inside = ITEM + HUGE
    sequence = b"\x40\x00\x75\x02" + struct.pack("<I", len(inside)) + inside
    path.write_bytes(_before_pixels(raw, sequence))
    with pytest.raises(VolumeError, match="an item claims 3758096384 bytes where 0 are left"):
        check_elements(path)


def test_deflated_files_unpack_to_no_more_than_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = good(tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian)
    raw = path.read_bytes()
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    inner = packer.compress(b"\x29\x00\x10\x00OB\0\0" + HUGE) + packer.flush()
    head = raw[: raw.rindex(DeflatedExplicitVRLittleEndian.encode()) + 22]
    for content, words in (
        (head + inner, "claims 3758096384 bytes where 0 are left"),
        (head + b"\xff" * 20, "cannot be unpacked"),
    ):
        path.write_bytes(content)
        with pytest.raises(VolumeError, match=words):
            check_elements(path)
    path.write_bytes(raw)
    monkeypatch.setattr(dicom_elements, "_INFLATED", 64)
    with pytest.raises(VolumeError, match="unpack to more than"):
        check_elements(path)
