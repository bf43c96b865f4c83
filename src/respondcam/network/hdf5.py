"""HDF5 files looked through by a process of their own, before anything here opens them.

The HDF5 library believes what a damaged file says of itself: there are files of a few kilobytes on
which it runs for ever, others end the process, and some name further files of the machine to be
read. What it does cannot be interrupted from Python. So a child reads all of a file first, under
limits of time and memory; if it comes to its end, this process may read the same bytes.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from respondcam.errors import ModelError
from respondcam.network.hdf5_child import REFUSED

_SECONDS = 3  # of processor time, and more for large files
_BYTES_A_SECOND = 1 << 24
_PATIENCE = 60.0  # seconds until what does not even work has hung
_STOPPED = (-9, -24)  # killed, or out of processor time


def check_hdf5(file: Path) -> None:
    """Refuse an HDF5 file, or an archive with some, that the library cannot read to its end.

    Raises
    ------
    ModelError
        If it takes too long or ends the process, refers to other files, or unpacks to many times
        its own size.
    """
    members = _members(file)
    if members == []:
        return
    seconds = _SECONDS + file.stat().st_size // _BYTES_A_SECOND
    status, said = run_child([str(file), members, seconds], _PATIENCE + 2 * seconds)
    if status == 0:
        return
    if status == REFUSED:
        raise ModelError(f"The Keras file {str(file)!r} is not opened: {said}.")
    if status in _STOPPED:
        why = f"needed more than {seconds} s or too much memory and was stopped"
    else:
        why = "ended the process that tried" if status < 0 else f"failed ({said})"
    raise ModelError(
        f"The Keras file {str(file)!r} cannot be read: the HDF5 library {why}. The file is "
        f"damaged; save it again with model.save()."
    )


def _members(file: Path) -> list[str] | None:
    """The HDF5 files of an archive; None for a file that is no archive."""
    if not zipfile.is_zipfile(file):
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            names = [one.filename for one in archive.infolist()]
    except (ValueError, zipfile.BadZipFile, NotImplementedError):
        return []  # whoever opens it says what is wrong
    return [name for name in names if name.endswith((".h5", ".hdf5"))]


def run_child(request: list[object], patience: float) -> tuple[int, str]:
    """Have a child read a file: the status with which it ended, and what it said."""
    script = str(Path(__file__).with_name("hdf5_child.py"))
    # -P: the script's folder holds modules with names of the standard library
    command = [sys.executable, "-P", script, json.dumps(request)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(one for one in sys.path if one)}
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return _STOPPED[0], ""
    lines = (run.stdout or run.stderr).strip().splitlines()
    return run.returncode, lines[-1][:300] if lines else ""
