"""The interactive viewer that a page carries: NiiVue, brought in when the package was built."""

import json
from dataclasses import dataclass
from pathlib import Path

from respondcam.errors import InputError

VENDOR = Path(__file__).parents[1] / "vendor"
_ASSETS = Path(__file__).parent / "assets"

MISSING = (
    "The interactive viewer is not part of this installation: it was built without npm or without "
    "a network. The figures below show the same maps. To have the viewer, install respondcam again "
    "with Node.js's npm, or with a network, at hand (pip install --force-reinstall --no-deps "
    "respondcam); in a checkout, run: python hatch_build.py"
)


@dataclass(frozen=True)
class Viewer:
    """What of the viewer goes into a page.

    Parameters
    ----------
    library
        NiiVue's script.
    script
        Ours, which starts it and connects it with the controls.
    version
        Of NiiVue.
    licenses
        Of NiiVue and all that is in it.
    """

    library: str
    script: str
    version: str
    licenses: str


def find_viewer() -> Viewer | None:
    """Read the viewer; None where the package was built without it.

    Examples
    --------
    >>> viewer = find_viewer()
    >>> viewer is None or viewer.version[0].isdecimal()
    True
    """
    try:
        library = _script(VENDOR / "niivue.js")
        about = json.loads((VENDOR / "niivue.json").read_text("utf-8"))
        licenses = (VENDOR / "niivue.licenses.txt").read_text("utf-8")
    except (OSError, ValueError):
        return None
    return Viewer(library, _script(_ASSETS / "viewer.js"), str(about["version"]), licenses)


def _script(path: Path) -> str:
    """Read a script as it can stand inside a page."""
    text = path.read_text("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in text.lower() or "<!--" in text:
        raise InputError(f"{path} cannot stand inside a page: it holds the end of a script.")
    return text


def asset(name: str) -> str:
    """Read a template, style or script of the report."""
    return (_ASSETS / name).read_text("utf-8")
