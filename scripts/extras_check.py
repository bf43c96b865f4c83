"""Does each extra, installed alone in an empty environment, do what it is for?

``make extras-check`` runs this: one environment per extra, and in each the file
``scripts/smoke/with_NAME.py``. ``make extras-check ARGS="cryoet large"`` takes only some.
"""

import argparse
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from environments import ROOT, CheckError, built, environment, only, run

SMOKE = Path(__file__).with_name("smoke")
NOT_FOR_USERS = {"all", "dev", "docs"}
# what the test suite's makers of trained folders need besides the extra
HELPERS = {"monai": ["pytest", "scipy"], "nnunet": ["pytest"]}


def main() -> None:
    """Check the extras that are named, or all of them and the plain installation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*", help="core and names of extras; all if none")
    parser.add_argument("--python", default=sys.executable, help="which Python to install into")
    options = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="respondcam-extras-") as folder:
        wheel = only(built(Path(folder)), "*.whl")
        for extra in options.extras or extras():
            try:
                print(f"{extra}: {check(extra, wheel, Path(folder), options.python)}", flush=True)
            except CheckError as failure:
                failed.append(extra)
                print(f"{extra}: FAILED\n{failure}", flush=True)
    sys.exit(f"extras-check: failed: {', '.join(failed)}" if failed else 0)


def extras() -> list[str]:
    """The plain installation, and the extras of ``pyproject.toml`` that are for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return ["core", *(n for n in project["optional-dependencies"] if n not in NOT_FOR_USERS)]


def check(extra: str, wheel: Path, folder: Path, python: str) -> str:
    """Install one extra alone and run its smoke test; give how long that took."""
    wanted = str(wheel) if extra == "core" else f"{wheel}[{extra}]"
    began = time.monotonic()
    wanted_all = [wanted, *HELPERS.get(extra, [])]
    interpreter = environment(folder / extra, wanted_all, python=python)
    installed = time.monotonic()
    place = folder / f"{extra}-run"
    place.mkdir()
    name = "without_extras" if extra == "core" else f"with_{extra}"
    run([interpreter, SMOKE / f"{name}.py"], cwd=place)
    ran = time.monotonic()
    return f"installed in {installed - began:.0f} s, works ({ran - installed:.0f} s)"


if __name__ == "__main__":
    main()
