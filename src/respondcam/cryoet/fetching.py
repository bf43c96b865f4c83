"""Structures and maps by their identifiers, fetched once and kept in a cache folder.

Structures come from the Protein Data Bank as mmCIF, maps from the Electron Microscopy Data Bank
with the contour level that their authors recommend. What was got is kept with its SHA-256, so that
a file which changes in the cache afterwards is noticed and fetched anew.
"""

import hashlib
import os
import re
import shutil
import urllib.error
import urllib.request
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from respondcam._extras import require
from respondcam._files import expanded, make_folder, whole_file
from respondcam.errors import InputError, RespondCAMWarning

PDB_URL = "https://files.rcsb.org/download"
EMDB_URL = "https://files.wwpdb.org/pub/emdb/structures"
CACHE_VARIABLE = "RESPONDCAM_CACHE"
_TIMEOUT_SECONDS = 60.0
_PDB = re.compile(r"(?:pdb:)?(pdb_\d{4}[1-9][a-z0-9]{3}|[1-9][a-z0-9]{3})", re.IGNORECASE)
_EMDB = re.compile(r"(?:emdb:(?:EMD-)?|EMD-)(\d{4,5})", re.IGNORECASE)


@dataclass(frozen=True)
class FetchedMap:
    """A map of the Electron Microscopy Data Bank.

    Parameters
    ----------
    path
        The map, compressed.
    level
        Contour level that its authors recommend, or None if they give none.
    """

    path: Path
    level: float | None


def cache_folder() -> Path:
    """Folder of what was fetched: ``$RESPONDCAM_CACHE``, or else the platform's place for caches.

    Examples
    --------
    >>> cache_folder().is_absolute()
    True
    """
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return expanded(given).absolute()
    platformdirs = require("platformdirs", extra="cryoet", purpose="find the cache folder")
    return Path(platformdirs.user_cache_dir("respondcam", appauthor=False)).absolute()


def is_pdb_identifier(text: str) -> bool:
    """Say whether a text names an entry of the Protein Data Bank.

    Examples
    --------
    >>> [is_pdb_identifier(text) for text in ("1bxn", "pdb:1BXN", "pdb_00001bxn", "groel")]
    [True, True, True, False]
    """
    return _PDB.fullmatch(text) is not None


def is_emdb_identifier(text: str) -> bool:
    """Say whether a text names an entry of the Electron Microscopy Data Bank.

    Examples
    --------
    >>> [is_emdb_identifier(text) for text in ("EMD-3001", "emdb:3001", "3001")]
    [True, True, False]
    """
    return _EMDB.fullmatch(text) is not None


def fetch_structure(
    identifier: str, *, folder: str | os.PathLike[str] | None = None, url: str = PDB_URL
) -> Path:
    """Fetch an atomic structure of the Protein Data Bank, or take it from the cache.

    Parameters
    ----------
    identifier
        Four characters such as ``"1bxn"``, or the long form ``"pdb_00001bxn"``.
    folder
        Where files are kept; `cache_folder` unless given.
    url
        Of the folder that holds files named like ``1bxn.cif.gz``; for mirrors.

    Returns
    -------
    Path
        The mmCIF file, compressed.

    Raises
    ------
    InputError
        If that is no identifier, there is no such entry, or the bank cannot be reached.

    Examples
    --------
    >>> from pathlib import Path
    >>> import gzip, tempfile
    >>> bank, cache = Path(tempfile.mkdtemp()), tempfile.mkdtemp()
    >>> _ = (bank / "1bxn.cif.gz").write_bytes(gzip.compress(b"data_1BXN"))
    >>> fetch_structure("1BXN", folder=cache, url=bank.as_uri()).name
    '1bxn.cif.gz'
    """
    found = _PDB.fullmatch(identifier)
    if not found:
        raise InputError(
            f"{identifier!r} is no PDB identifier; give four characters such as '1bxn', or the "
            f"long form 'pdb_00001bxn'"
        )
    name = f"{found[1].lower()}.cif.gz"
    place = _folder(folder) / "pdb" / name
    return _cached(place, f"{url.rstrip('/')}/{name}", f"entry {identifier!r} of the PDB")


def fetch_map(
    identifier: str, *, folder: str | os.PathLike[str] | None = None, url: str = EMDB_URL
) -> FetchedMap:
    """Fetch a map of the Electron Microscopy Data Bank with its contour level, or from the cache.

    Parameters
    ----------
    identifier
        ``"EMD-3001"`` or ``"emdb:3001"``.
    folder
        Where files are kept; `cache_folder` unless given.
    url
        Of the folder that holds the entries' folders, ``EMD-3001`` and so on; for mirrors.

    Raises
    ------
    InputError
        If that is no identifier, there is no such entry, or the bank cannot be reached.

    Examples
    --------
    >>> import gzip, tempfile
    >>> entry = Path(tempfile.mkdtemp(), "EMD-3001")
    >>> for part in ("map", "header"):
    ...     (entry / part).mkdir(parents=True)
    >>> _ = (entry / "map" / "emd_3001.map.gz").write_bytes(gzip.compress(b"voxels"))
    >>> _ = (entry / "header" / "emd-3001.xml").write_text(
    ...     "<emd><map><contour_list><contour primary='true'><level>0.5</level></contour>"
    ...     "</contour_list></map></emd>")
    >>> fetch_map("EMD-3001", folder=tempfile.mkdtemp(), url=entry.parent.as_uri()).level
    0.5
    """
    found = _EMDB.fullmatch(identifier)
    if not found:
        raise InputError(f"{identifier!r} is no EMDB identifier; give one such as 'EMD-3001'")
    number, what = found[1], f"entry {identifier!r} of the EMDB"
    place, entry = _folder(folder) / "emdb", f"{url.rstrip('/')}/EMD-{number}"
    header = _cached(place / f"emd-{number}.xml", f"{entry}/header/emd-{number}.xml", what)
    name = f"emd_{number}.map.gz"
    return FetchedMap(_cached(place / name, f"{entry}/map/{name}", what), _level(header))


def _folder(given: str | os.PathLike[str] | None) -> Path:
    return cache_folder() if given is None else Path(given)


def _level(header: Path) -> float | None:
    """Contour level in the header of an entry."""
    try:
        contours = ElementTree.parse(header).findall("./map/contour_list/contour")
    except ElementTree.ParseError as error:
        raise InputError(
            f"{str(header)!r} is no header of the EMDB ({error}); delete it to fetch it again"
        ) from error
    primary = [one for one in contours if one.get("primary") == "true"] or contours
    text = primary[0].findtext("level") if primary else None
    return float(text) if text else None


def _cached(place: Path, url: str, what: str) -> Path:
    """Give the file if it is there and whole; else fetch it."""
    note = place.with_name(place.name + ".sha256")
    if place.is_file() and note.is_file():
        if note.read_text(encoding="ascii").split()[:1] == [_sha256(place)]:
            return place
        warnings.warn(
            f"{str(place)!r} has changed since it was fetched; it is fetched again",
            RespondCAMWarning,
            stacklevel=3,
        )
    make_folder(place.parent, f"Set {CACHE_VARIABLE} to a folder that you may write to")
    with whole_file(place) as beside:
        _download(url, beside, what, place)
        _check_whole(beside, url)
        # noted before the file appears: a file without its note is fetched again
        with whole_file(note) as noted:
            noted.write_text(f"{_sha256(beside)}  {place.name}\n", encoding="ascii")
    return place


def _download(url: str, path: Path, what: str, place: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer, path.open("wb") as to:
            shutil.copyfileobj(answer, to)
            promised = answer.headers.get("Content-Length")
    except urllib.error.HTTPError as error:
        with error:
            why = "there is no such entry" if error.code in (403, 404) else f"error {error.code}"
        raise InputError(f"There is no {what} at {url}: {why}. Check the identifier") from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, FileNotFoundError):  # of file:// addresses
            raise InputError(f"There is no {what} at {url}. Check the identifier") from error
        raise InputError(
            f"Cannot fetch {what} from {url}: {reason}. Is this machine offline? Fetch the file "
            f"elsewhere and give its path instead, or copy the cache folder "
            f"{str(place.parents[1])!r} from a machine that has it"
        ) from error
    if promised is not None and path.stat().st_size != int(promised):
        raise InputError(
            f"{url} broke off after {path.stat().st_size} of {promised} bytes. Try again"
        )


def _check_whole(path: Path, url: str) -> None:
    """Read a compressed file to its end, whose checksum tells whether all of it is there."""
    if path.suffix != ".gz":
        return
    unpacker = zlib.decompressobj(wbits=31)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                unpacker.decompress(block)
    except zlib.error as error:
        raise InputError(f"What {url} gave is no gzip file ({error}). Try again later") from error
    if not unpacker.eof:
        raise InputError(f"What {url} gave ends too early. Try again")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
