"""Every reader of files from elsewhere, with good files of its kinds to start from."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.fuzz.folder_readers import FOLDER_READERS
from tests.fuzz.network_readers import NETWORK_READERS
from tests.fuzz.reader import Reader

from respondcam.volume import Volume, read_volume, write_volume

GEMMI_PDB = """\
CRYST1   30.000   30.000   30.000  90.00  90.00  90.00 P 1           1
ATOM      1  N   ALA A   1       1.000   2.000   3.000  1.00 20.00           N
ATOM      2  CA  ALA A   1       2.400   2.000   3.000  1.00 20.00           C
ATOM      3  C   ALA A   1       2.900   3.400   3.000  1.00 20.00           C
ATOM      4  O   ALA A   1       2.200   4.400   3.000  1.00 20.00           O
TER       5      ALA A   1
END
"""
STAR = """\
data_optics

loop_
_rlnOpticsGroup #1
_rlnImagePixelSize #2
_rlnImageSize #3
1 10.0 40

data_particles

loop_
_rlnImageName #1
_rlnAngleRot #2
_rlnAngleTilt #3
_rlnAnglePsi #4
_rlnOriginXAngst #5
_rlnOriginYAngst #6
_rlnOriginZAngst #7
_rlnOpticsGroup #8
a.mrc 10.0 20.0 30.0 1.0 2.0 3.0 1
b.mrc 40.0 50.0 60.0 0.0 0.0 0.0 1
"""


def _volume(suffixes: tuple[str, ...]) -> Callable[[Path], dict[str, bytes]]:
    def make(folder: Path) -> dict[str, bytes]:
        voxels = np.random.default_rng(3).normal(size=(4, 5, 6)).astype(np.float32)
        volume = Volume(voxels, np.diag([2.0, 3.0, 4.0, 1.0]), "mm")
        return {suffix: _written(folder / f"good{suffix}", volume) for suffix in suffixes}

    return make


def _written(path: Path, volume: Volume) -> bytes:
    write_volume(path, volume)
    return path.read_bytes()


def _arrays(folder: Path) -> dict[str, bytes]:
    np.save(folder / "good.npy", np.ones((4, 5, 6), np.float32))
    return {".npy": (folder / "good.npy").read_bytes(), **_volume((".npz",))(folder)}


def _dicom(folder: Path) -> dict[str, bytes]:
    """Two slices of a series, plain and packed: one stays as it is, one becomes hostile."""
    seeds: dict[str, bytes] = {}
    for packed in (False, True):
        _slice(folder / f"neighbour-{packed}.dcm", 0.0, packed=packed)
        good = folder / "good.dcm"
        _slice(good, 2.0, packed=packed)
        seeds["-rle.dcm" if packed else ".dcm"] = good.read_bytes()
        good.unlink()
    return seeds


def _slice(path: Path, z: float, *, packed: bool) -> None:
    import pydicom
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, RLELossless

    data = pydicom.Dataset()
    data.SOPClassUID, data.SOPInstanceUID = CTImageStorage, f"1.2.3.{int(z)}"
    data.SeriesInstanceUID = "1.2.3.6" if packed else "1.2.3.4"
    data.StudyInstanceUID, data.Modality = "1.2.3.5", "CT"
    data.ImagePositionPatient, data.PixelSpacing = [0, 0, z], [1, 1]
    data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    data.Rows, data.Columns, data.SamplesPerPixel = 12, 20, 1
    data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelData = np.arange(240, dtype=np.uint16).tobytes()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    if packed:
        data.compress(RLELossless)
    data.save_as(path, enforce_file_format=True)


def _star(path: Path) -> object:
    from respondcam.cryoet.particles_star import read_particles

    return read_particles(path)


def _structure(path: Path) -> object:
    from respondcam.cryoet.structures import density_from_structure

    return density_from_structure(path, size=8, voxel_size_angstrom=10.0, resolution_angstrom=40.0)


def _structures(folder: Path) -> dict[str, bytes]:
    import gemmi

    document = gemmi.read_pdb_string(GEMMI_PDB).make_mmcif_document()
    return {".pdb": GEMMI_PDB.encode(), ".cif": document.as_string().encode()}


READERS: dict[str, Reader] = {
    "mrc": Reader(read_volume, _volume((".mrc", ".map.gz"))),
    "nifti": Reader(read_volume, _volume((".nii", ".nii.gz")), 348),
    "nrrd": Reader(read_volume, _volume((".nrrd",)), 400),
    "metaimage": Reader(read_volume, _volume((".mha",)), 400),
    "tiff": Reader(read_volume, _volume((".tif",)), 600),
    "numpy": Reader(read_volume, _arrays, 256),
    "dicom": Reader(read_volume, _dicom, 1400),
    "star": Reader(_star, lambda folder: {".star": STAR.encode()}, 700),
    "structure": Reader(_structure, _structures, 1000),
    **NETWORK_READERS,
    **FOLDER_READERS,
}
