"""Which files ``respondcam audit`` may write: free ones, and those that an audit wrote before."""

import csv
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from respondcam._files import why_no_file
from respondcam.cli._audit_classes import CLASS_COLUMNS, classes_beside
from respondcam.errors import InputError

TITLE = "Do the maps add up?"
FIGURES = ("score", "baseline", "mapped", "gap", "relative_gap")
OVER_CLASSES = ("l1", "tau", "open_share")
COLUMNS: tuple[str, ...] = ("file", "method", "layer", "class", *FIGURES, *OVER_CLASSES, "error")
_HEAD = 20_000  # characters of a page in which its title stands


def check_files(csv_file: Path | None, page: Path | None, *, overwrite: bool) -> None:
    """Find out before the work whether the files can and may be written.

    Raises
    ------
    InputError
        If one cannot be, or is there and no audit wrote it.
    """
    if csv_file is not None:
        _check_writable(csv_file, "--csv")
        _check_own(csv_file, "--csv", lambda path: _has_columns(path, COLUMNS), overwrite)
        beside = classes_beside(csv_file)
        _check_own(beside, "--csv", lambda path: _has_columns(path, CLASS_COLUMNS), overwrite)
    if page is not None:
        _check_writable(page, "--report")
        _check_own(page, "--report", _is_page, overwrite)


def _check_writable(path: Path, option: str) -> None:
    try:
        if path.exists() and (no_file := why_no_file(path)):
            raise InputError(f"{option} {str(path)!r} {no_file}. Give the name of a file.")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(
            f"{option} {str(path)!r} cannot be written: {error.strerror or error}. Give a file in "
            f"a folder that exists and that you may write to."
        ) from error


def _check_own(path: Path, option: str, own: Callable[[Path], bool], overwrite: bool) -> None:
    if not path.exists():
        return
    no_file = why_no_file(path)  # a pipe is not opened: that could wait for ever
    if no_file or not (overwrite or own(path)):
        what = no_file or "exists already and was not written by audit"
        remedy = "" if no_file else ", or allow it to be replaced with --overwrite"
        raise InputError(f"{str(path)!r} {what}. Give another file with {option}{remedy}.")


def _has_columns(path: Path, columns: Sequence[str]) -> bool:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return next(csv.reader(file), None) == list(columns)
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _is_page(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return f"<title>{TITLE} – respondcam</title>" in file.read(_HEAD)
    except (OSError, UnicodeDecodeError):
        return False
