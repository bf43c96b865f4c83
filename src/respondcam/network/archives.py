"""Zip archives that torch wrote, looked into before torch opens them.

torch stores what it writes as it is, so an archive's contents cannot be much longer than the file;
one that unpacks to more was made to fill the memory.
"""

import contextlib
import io
import pickletools
import struct
import tokenize
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from respondcam.network.unfolding import check_unfolded

_FREE = 1 << 26  # bytes that may be unpacked whatever the file's size
_PICKLES = 5  # one behind the other, in files of torch before 1.6
_HEADER = struct.Struct("<4s22xHH")  # of a member: its mark, and the lengths of name and extras

# What a TorchScript program can call that reaches beyond its tensors: files and other processes.
_REACHING = {"save", "from_file", "load_tensor", "rpc_async", "rpc_sync", "rpc_remote"}
_PLACES = {"PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET", "LONG_BINGET"}


def is_archive(path: Path) -> bool:
    """Whether a file is a zip archive from its first byte on, with an end that can be read.

    ``zipfile.is_zipfile`` also takes files for archives that hold one further on, and raises for
    some ends that are damaged.
    """
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return False
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def for_torch(path: Path) -> Path | io.BytesIO:
    """What ``torch.load`` gets: an archive by its path, a bare pickle's bytes.

    A pickle may claim lengths that only its end refutes; out of a file, memory is taken for them
    before that.

    Raises
    ------
    UnfoldingError
        If its objects unfold to far more than its length, see `respondcam.network.unfolding`.
    """
    if not is_archive(path):
        data = path.read_bytes()
        check_unfolded(data, _PICKLES)
        return io.BytesIO(data)
    with contextlib.suppress(RuntimeError):  # what is wrong with it, torch says
        # by the reader that opens it, so that both see the same
        reader: Any = torch._C.PyTorchFileReader(str(path))  # pyright: ignore[reportPrivateUsage]
        check_unfolded(reader.get_record("data.pkl"))
    return path


def names_in(path: Path) -> list[str]:
    """Names of an archive's members.

    Raises
    ------
    ValueError
        If it is damaged, or unpacks to far more than its own size.
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            members = archive.infolist()
            for member in members:
                _check_header(file, member)
    except (zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError, OSError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    unpacked = sum(member.file_size for member in members)
    if unpacked > 4 * path.stat().st_size + _FREE:
        raise ValueError(f"it unpacks to {unpacked} bytes, many times its own size")
    return [member.filename for member in members]


def _check_header(file: BinaryIO, member: zipfile.ZipInfo) -> None:
    """Refuse a member whose own header says another name than the list of all members.

    torch takes the place of its data, and memory for them, from the lengths in that header.
    """
    file.seek(member.header_offset)
    header = file.read(_HEADER.size)
    fields = _HEADER.unpack(header) if len(header) == _HEADER.size else (b"", 0, 0)
    if fields[0] != b"PK\3\4" or file.read(fields[1]) != _as_written(member):
        raise zipfile.BadZipFile(f"the header of {member.orig_filename!r} is damaged")


def _as_written(member: zipfile.ZipInfo) -> bytes:
    unicode = member.flag_bits & 0x800
    return member.orig_filename.encode("utf-8" if unicode else "cp437")


def reaching_calls(path: Path) -> list[str]:
    """Operators in a TorchScript archive that reach files or other processes.

    A program can run code of its own while it is opened (``__setstate__``), so its source is read
    before that. It is read by the reader that opens the program, so that both see the same.

    Raises
    ------
    RuntimeError
        If torch cannot read the archive.
    """
    reader: Any = torch._C.PyTorchFileReader(str(path))  # pyright: ignore[reportPrivateUsage]
    found: set[str] = set()
    for name in reader.get_all_records():
        if name.endswith(".pkl"):
            _check_pickle(reader.get_record(name))
        if name.endswith(".py"):
            source = reader.get_record(name).decode("utf-8", "replace")
            found |= _words(source) & _REACHING
    return sorted(found)


def check_pickles(archive: Path | zipfile.ZipExtFile) -> None:
    """Look into the pickles of an archive, and of archives in it, as ``torch.export`` writes them.

    Raises
    ------
    RuntimeError
        If one of them is damaged.
    zipfile.BadZipFile
        If an archive is.
    """
    with zipfile.ZipFile(cast(Any, archive)) as opened:  # it reads anything that seeks
        for name in opened.namelist():
            with opened.open(name) as member:
                if name.endswith(".pkl"):
                    _check_pickle(member.read())
                elif member.read(2) == b"PK":
                    check_pickles(cast(zipfile.ZipExtFile, member))


def _check_pickle(data: bytes) -> None:
    """Refuse a pickle with lengths and places beyond its end; torch would take memory for them."""
    try:
        for code, value, _ in pickletools.genops(data):
            if code.name in _PLACES and int(str(value)) > len(data):
                raise ValueError(f"place {value} in a pickle of {len(data)} bytes")
    except (ValueError, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise RuntimeError(f"its data are damaged: {error}") from error


def _words(source: str) -> set[str]:
    r"""Names and texts of a program: an attribute can be named by either.

    Examples
    --------
    >>> sorted(_words('getattr(torch, "s" "av\x65")(x)'))
    ['getattr', 's', 'save', 'torch', 'x']
    """
    words: set[str] = set()
    text = ""
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.STRING:
                text += _literal(token.string)
                words.add(text)
            elif token.type not in (tokenize.NL, tokenize.COMMENT):
                text = ""
                words.add(token.string)
    except (tokenize.TokenError, SyntaxError) as error:
        raise RuntimeError(f"its program cannot be read: {error}") from error
    return {word for word in words if word.isidentifier()}


def _literal(token: str) -> str:
    quote = token[-1]
    body = token[token.index(quote) :].strip(quote)
    return body.encode("latin-1", "backslashreplace").decode("unicode_escape", "replace")
