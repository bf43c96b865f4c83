"""Files of voxels that a header names: in the header's own folder, and regular files.

A header that somebody sent could otherwise have any file of the machine read and passed on as
voxels, or wait for a pipe for ever.
"""

from pathlib import Path

from respondcam.errors import VolumeError


def lies_beside(header: Path, name: str) -> bool:
    """Whether a name leads to the folder of the file that it stands in, or below it.

    Examples
    --------
    >>> lies_beside(Path("maps/a.json"), "a.mrc"), lies_beside(Path("maps/a.json"), "../b.mrc")
    (True, False)
    """
    folder = header.parent.absolute()
    return ".." not in Path(name).parts and (folder / name).is_relative_to(folder)


def file_beside(header: Path, name: str) -> Path:
    """The file of voxels that a header names.

    Raises
    ------
    VolumeError
        If it lies outside the header's folder, or is no regular file. Links are followed: making
        one is not in a header's power.

    Examples
    --------
    >>> file_beside(Path("scan.nhdr"), "/etc/passwd")
    Traceback (most recent call last):
    respondcam.errors.VolumeError: 'scan.nhdr' keeps its voxels in '/etc/passwd', outside ...
    """
    found = header.parent.absolute() / name
    if not lies_beside(header, name):
        raise VolumeError(
            f"{str(header)!r} keeps its voxels in {name!r}, outside its own folder; that is not "
            f"read, since a header could name any file of this machine. Put both in one folder, "
            f"and the bare name into the header"
        )
    if not found.is_file():
        raise VolumeError(
            f"{str(header)!r} keeps its voxels in {name!r}; accepted are regular files, and there "
            f"is none of that name beside it"
        )
    return found
