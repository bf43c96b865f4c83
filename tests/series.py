"""DICOM series as scanners write them, for tests of what lies around their reader."""

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian


def write_series(folder: Path, voxels: np.ndarray, *, series: str = "1.2.3.6") -> Path:
    """Write whole numbers (z, y, x), a millimetre apart, as files without suffixes."""
    folder.mkdir(exist_ok=True, parents=True)
    for number, section in enumerate(voxels.astype(np.uint16)):
        data = pydicom.Dataset()
        data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"{series}.{number}"
        data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality = series, "1.2.3.5", "CT"
        data.ImagePositionPatient, data.PixelSpacing = [0, 0, number], [1, 1]
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        data.Rows, data.Columns = section.shape
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
        data.PixelData = section.tobytes()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.save_as(folder / f"im{series[-1]}{number:02d}", enforce_file_format=True)
    return folder
