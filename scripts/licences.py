"""Writes ``docs/licences.md``: what each extra brings, under which licences.

``make licences`` runs this in an environment with every extra installed; what is not installed
there is named, not guessed.
"""

import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "licences.md"
NOT_FOR_USERS = {"all", "dev", "docs"}

# the first kind whose words are found in a licence's name; copyleft is looked for first
KINDS = {
    "strong copyleft": r"(?<![L])(?<!Lesser )(A?GPL|General Public)(?!.*exception)",
    "weak copyleft": r"LGPL|Lesser General|MPL|Mozilla|EPL|Eclipse",
    "proprietary": r"proprietary|NVIDIA|EULA",
    "permissive": r"MIT|BSD|Apache|ISC|PSF|Python Software|Zlib|HPND|Unlicense|CC0|0BSD|public"
    r" domain|BSL|Boost|FTL|FreeType|OFL",
}
HEAD = """\
# Licences

respondcam is under the Apache License 2.0. Nothing below is part of it but the viewer of its
reports: NiiVue (BSD-2-Clause) and the parts in it (MIT, ISC, BSD), whose texts lie in the wheel
beside the script, in `respondcam/show/vendor/niivue.licenses.txt`.

This list is made by `make licences` from what the packages say of themselves, in the versions of
`requirements/constraints.txt` and with a CPU build of PyTorch. It is no legal advice. The usual
Linux wheels of PyTorch also bring NVIDIA's CUDA libraries (packages `nvidia-*`, proprietary, under
NVIDIA's terms), in installations and in container images.
"""
CARE = """
Weak copyleft (MPL, LGPL) asks nothing of a program that imports a package, only of changes to the
package itself; both go with Apache-2.0.
"""


def main() -> None:
    """Write the page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    brought, absent = everything(project)
    PAGE.write_text(page(brought, absent), "utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {len(brought)} packages\n")


def everything(project: dict) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Installed packages, and those that are not, each with what asks for them."""
    brought: dict[str, set[str]] = defaultdict(set)
    absent: dict[str, set[str]] = defaultdict(set)
    groups = {"required": project["dependencies"], **project["optional-dependencies"]}
    for group in (g for g in groups if g not in NOT_FOR_USERS):
        for name, installed in closure(groups[group]):
            (brought if installed else absent)[name].add(group)
    return brought, absent


def closure(lines: list[str]) -> Iterator[tuple[str, bool]]:
    """Walk over requirements and what they require, each once, and say whether it is installed."""
    waiting = [(Requirement(line), "") for line in lines]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted, extra = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        for inner in {"", *wanted.extras}:
            if (name, inner) in seen:
                continue
            if not any(known == name for known, _ in seen):
                yield name, is_installed(name)
            seen.add((name, inner))
            if is_installed(name):
                needs = metadata.requires(name) or []
                waiting += [(Requirement(line), inner) for line in needs]


def is_installed(name: str) -> bool:
    """Whether a package is here."""
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def licence(name: str) -> str:
    """What a package says of its licence, in one line.

    >>> licence("numpy").startswith("BSD")
    True
    """
    about = metadata.metadata(name)
    if about.get("License-Expression"):
        return about["License-Expression"]
    classifiers = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or [] if "License" in c]
    said = [c for c in classifiers if c != "OSI Approved"]
    first = next((x.strip() for x in (about.get("License") or "").splitlines() if x.strip()), "")
    if said:
        return " and ".join(sorted(set(said)))
    if 0 < len(first) <= 60:
        return first
    files = [f for f in metadata.files(name) or [] if "LICEN" in f.name.upper()]
    text = files[0].read_text("utf-8") if files else ""
    title = next((x.strip() for x in text.splitlines() if x.strip()), "")
    return f"{title} (by its file)" if 0 < len(title) <= 60 else "not stated"


def kind(text: str) -> str:
    """Which kind of licence a name stands for.

    >>> kind("BSD-3-Clause AND MIT"), kind("LGPL-3.0-only"), kind("GPL-3.0-or-later")
    ('permissive', 'weak copyleft', 'strong copyleft')
    >>> kind("not stated")
    'to be looked at'
    """
    for name, words in KINDS.items():
        if re.search(words, text, re.IGNORECASE):
            return name
    return "to be looked at"


def page(brought: dict[str, set[str]], absent: dict[str, set[str]]) -> str:
    """The page as Markdown: first what needs care, then everything."""
    rows = {name: (licence(name), kind(licence(name))) for name in brought}
    parts = [HEAD, "\n## What needs care\n\n", *care(rows, brought)]
    parts += [
        "\n## Everything\n\n",
        "| package | version | licence | brought by |\n|---|---|---|---|\n",
    ]
    for name in sorted(rows):
        parts.append(
            f"| {name} | {metadata.version(name)} | {rows[name][0]} | {by(brought[name])} |\n"
        )
    if absent:
        parts.append("\nNot installed where this list was made, and so not looked at:\n")
        parts.append(", ".join(f"{name} ({by(groups)})" for name, groups in sorted(absent.items())))
        parts.append(".\n")
    return "".join(parts)


def care(rows: dict[str, tuple[str, str]], brought: dict[str, set[str]]) -> list[str]:
    """Packages under licences that ask for more than a notice."""
    lines = []
    for name, (text, sort) in sorted(rows.items(), key=lambda row: (row[1][1], row[0])):
        if sort != "permissive":
            lines.append(f"| {name} | {sort} | {text} | {by(brought[name])} |\n")
    if not lines:
        return ["Nothing: every licence below is permissive.\n"]
    strong = any("strong copyleft" in line for line in lines)
    about = "" if strong else " No package that was looked at is\nunder the GPL or AGPL.\n"
    head = "| package | kind | licence | brought by |\n|---|---|---|---|\n"
    return [head, *lines, CARE.rstrip() + about]


def by(groups: set[str]) -> str:
    """Who asks for a package; what is always installed is not listed again for extras."""
    return "required" if "required" in groups else ", ".join(sorted(groups))


if __name__ == "__main__":
    main()
