"""Files appear whole or not at all."""

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from respondcam.errors import InputError


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Generator[Path, None, None]:
    """Give a temporary path beside `path`, and rename it to `path` when the block succeeds.

    The temporary name keeps all suffixes of `path`, since writers choose the format by them.
    When the block raises, nothing is left behind and a file that was there before stays.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to, or a pipe or device has this name.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with whole_file(f"{folder}/note.txt") as beside:
    ...     _ = beside.write_text("whole")
    >>> Path(folder, "note.txt").read_text()
    'whole'
    """
    target = Path(path)
    if is_special(target):  # renaming would put a file in its place
        raise InputError(f"Cannot write {str(target)!r}: it {why_no_file(target)}. Give a file.")
    with _beside(target) as beside:
        yield beside
        beside.replace(target)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str]) -> Generator[Path, None, None]:
    """Like `whole_file`, for a format that is a folder; one that was there before is replaced.

    Raises
    ------
    InputError
        If the folder above does not exist or cannot be written to, or a file has this name.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with whole_folder(f"{folder}/image.zarr") as beside:
    ...     beside.mkdir()
    >>> Path(folder, "image.zarr").is_dir()
    True
    """
    target = Path(path)
    if target.is_file():
        raise InputError(f"Cannot write {str(target)!r}: a file has this name. Give another one.")
    with _beside(target) as beside:
        yield beside
        before = beside.with_name("replaced")
        if target.exists():
            target.replace(before)
        try:
            beside.replace(target)
        except OSError:
            if before.exists():
                before.replace(target)
            raise


@contextlib.contextmanager
def _beside(target: Path) -> Generator[Path, None, None]:
    """A path of the same name in a temporary folder beside `target`, which vanishes at the end."""
    try:
        folder = tempfile.mkdtemp(prefix=".respondcam-", dir=target.parent)
    except OSError as error:
        raise InputError(f"Cannot write {str(target)!r}: {why_unwritten(error)}") from error
    try:
        yield Path(folder) / target.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)


REMEDIES = {
    errno.ENOSPC: "Make room on that disk, or give a folder on another one.",
    errno.EDQUOT: "Delete files of yours on that disk, or give a folder on another one.",
    errno.EFBIG: "Allow larger files (ulimit -f), or give a folder on a disk that takes them.",
    errno.ENAMETOOLONG: "Give shorter names: results are named after input, layer and class.",
}
"""What to do about errors of the system that only writing has, by their numbers."""


def why_unwritten(error: OSError) -> str:
    """Why something could not be written, and what to do about it.

    Examples
    --------
    >>> why_unwritten(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device. Make room on that disk, or give a folder on another one.'
    """
    otherwise = "Give a path in an existing folder that you may write to."
    remedy = REMEDIES.get(error.errno or 0, otherwise)
    return f"{error.strerror or error}. {remedy}"


def make_folder(path: str | os.PathLike[str], remedy: str = "Give another one.") -> Path:
    """Make a folder, with those above it, unless it is there.

    Raises
    ------
    InputError
        If it cannot be made; the message ends with `remedy`.

    Examples
    --------
    >>> import tempfile
    >>> make_folder(f"{tempfile.mkdtemp()}/a/b").is_dir()
    True
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {str(folder)!r} cannot be made: {error.strerror or error}. {remedy}"
        ) from error
    return folder


_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def why_no_file(path: Path) -> str:
    """What is wrong with a path where a file is wanted, for messages; empty for a regular file.

    Examples
    --------
    >>> why_no_file(Path(tempfile.mkdtemp())), why_no_file(Path("no/such.file"))
    ('is a folder', 'does not exist')
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return "is a link to a file that does not exist" if path.is_symlink() else "does not exist"
    except OSError as error:
        loop = error.errno == errno.ELOOP
        return "is a link that leads back to itself" if loop else f"is not there: {error.strerror}"
    if kind == stat.S_IFREG:
        return ""
    if kind == stat.S_IFDIR:
        return "is a folder"
    return f"is no regular file but {_SPECIAL.get(kind, 'something else')}"


def is_special(path: Path) -> bool:
    """Whether a path is there and neither a file nor a folder: reading it could wait for ever."""
    return why_no_file(path).startswith("is no regular file")


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with the home folder for ``~`` or ``~user`` in front; as it is where nobody is that.

    Examples
    --------
    >>> expanded("~no-such-user/a.mrc").parts
    ('~no-such-user', 'a.mrc')
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user: perhaps it is the file's own name
        return Path(path)


def check_regular(path: str | os.PathLike[str], kind: type[InputError] = InputError) -> None:
    """Refuse what is not there, and folders, pipes and devices: reading those may never end.

    Raises
    ------
    InputError
        Of the kind given.

    Examples
    --------
    >>> check_regular("/")
    Traceback (most recent call last):
    respondcam.errors.InputError: '/' is no regular file
    """
    if Path(path).is_file():
        return
    if os.path.lexists(path):
        broken = Path(path).is_symlink() and not Path(path).exists()
        what = "a link that leads nowhere" if broken else "no regular file"
        raise kind(f"{str(path)!r} is {what}")
    raise kind(f"There is no file {str(path)!r}")


def slug(text: str) -> str:
    """Make a text fit to be part of a file's name.

    Examples
    --------
    >>> slug("class 3 (20S/proteasome)")
    'class-3-20S-proteasome'
    """
    text = re.sub(r",(?!\w)", "", text)  # of a list of numbers they stay
    return re.sub(r"[^\w.+#=,]+", "-", text).strip("-.") or "unnamed"


def distinct(names: Sequence[str]) -> list[str]:
    """Number names that file systems may take for each other: equal ones, whatever the case.

    Examples
    --------
    >>> distinct(["a", "b", "A"])
    ['a', 'b', 'A-2']
    """
    found: list[str] = []
    for name in names:
        tried, number = name, 1
        while tried.casefold() in {one.casefold() for one in found}:
            number += 1
            tried = f"{name}-{number}"
        found.append(tried)
    return found


# a string is passed over as a whole; one that does not end takes the rest with it
_BRACKETS = re.compile(r'[\[{\]}]|"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_DEEPEST = 200  # no record of ours goes down further
_LONGEST_INTEGER = 300  # digits; floats end after 308
_LARGEST = 1 << 28  # bytes; none is longer


def read_json(path: Path) -> Any:
    """Read a JSON file that anybody may have written.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If it is no JSON or no regular file, very long, or goes down so far that reading it would
        end the process.

    Examples
    --------
    >>> path = Path(tempfile.mkdtemp(), "deep.json")
    >>> _ = path.write_text("[" * 100_000)
    >>> read_json(path)
    Traceback (most recent call last):
    ValueError: it goes down 100000 levels
    """
    if not path.is_file() and path.exists():
        raise ValueError("it is no regular file")
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"it is {path.stat().st_size} bytes long")
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Parse JSON that anybody may have written.

    Raises
    ------
    ValueError
        If it is no JSON, goes down so far that reading it would end the process, or holds
        integers that no float can hold, or halves of characters.

    Examples
    --------
    >>> parse_json('["[a", {"b": 1}]')
    ['[a', {'b': 1}]
    """
    level = deepest = 0
    for bracket in _BRACKETS.finditer(text):
        level += (bracket[0] in "[{") - (bracket[0] in "]}")  # neither: it is a string
        deepest = max(deepest, level)
    if deepest > _DEEPEST:
        raise ValueError(f"it goes down {deepest} levels")
    found = json.loads(text, parse_int=_integer)
    if re.search(r"\\u[dD][89a-fA-F]", text):
        _check_characters(found)
    return found


def _integer(digits: str) -> int:
    """An integer that a float can hold, too."""
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(f"it holds an integer of {len(digits)} digits")
    return int(digits)


def _check_characters(found: Any) -> None:
    """Refuse halves of characters, which can neither be printed nor written."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a character (a lone surrogate)") from error
