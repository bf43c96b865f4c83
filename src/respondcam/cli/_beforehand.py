"""What can be found wrong before PyTorch and the network are loaded, which takes seconds."""

from collections.abc import Sequence

from respondcam._extras import check_installed
from respondcam._methods import METHOD_SUMMARIES, ON_INPUT
from respondcam.cli._inputs import Source, find_sources
from respondcam.cli._options import choice
from respondcam.errors import InputError

_MOST = 3  # reasons that are told


def check_beforehand(
    files: Sequence[str], methods: Sequence[str], *, every: bool = False
) -> list[Source]:
    """Find the volumes; see to it that one can be read at all and that the methods are installed.

    Parameters
    ----------
    files, methods
        As they were typed.
    every
        Whether "all" stands for all methods.

    Raises
    ------
    InputError
        If a method is unknown or lacks its extra, or no volume is there or of a known kind. One
        that cannot be read among others stops nothing.
    """
    accepted = (*METHOD_SUMMARIES, *(("all",) if every else ()))
    for name in methods:
        choice(name, accepted, "--method")
    for name in ON_INPUT:
        if name in methods or "all" in methods:
            check_installed("captum", extra="captum", purpose=f"explain with {name}")
    sources = find_sources(files)
    _check_any(sources)
    return sources


def check_windows() -> None:
    """See to it that maps window by window can be written.

    Raises
    ------
    MissingExtraError
        If their extra is not installed.
    """
    for package in ("zarr", "ome_zarr_models"):
        check_installed(package, extra="large", purpose="explain window by window (--window)")


def _check_any(sources: Sequence[Source]) -> None:
    from respondcam.volume.io import check_readable, module_of

    reasons: list[str] = []
    for source in sources:
        try:
            check_readable(source.path)
            module_of(source.path)
        except InputError as error:
            reasons.append(str(error))
        else:
            return
    more = f"; and {len(reasons) - _MOST} more" if len(reasons) > _MOST else ""
    raise InputError(f"{'; '.join(reasons[:_MOST])}{more}")
