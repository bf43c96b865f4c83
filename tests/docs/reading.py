"""What there is to run in a page: its fenced blocks, in order."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PYTHON = {"python", "pycon"}
SHELL = {"console", "sh", "bash", "shell"}
SCRIPTS = {"slurm"}  # run by a test of their own, test_batch_script.py
SHOWN = {"text", "json", "yaml", "toml", "bibtex", "dockerfile", "diff", "make", "html"}

_FENCE = re.compile(
    r"(?P<remark><!-- not run: (?P<reason>[^>]*?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w*)(?P<info>[^\n]*)\n"
    r"(?P<code>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, title, code, first line, and why it is not run, if so."""

    language: str
    title: str
    code: str
    line: int
    not_run: str

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command of a console block, with the output that the page shows for it."""
        found: list[tuple[str, str]] = []
        lines = iter(self.code.splitlines())
        for line in lines:
            if line.startswith("$ ") or self.language != "console":
                command = line.removeprefix("$ ")
                while command.endswith("\\"):
                    command = command[:-1] + next(lines).strip()
                if command.strip() and not command.startswith("#"):
                    found.append((command, ""))
            elif found:
                command, shown = found[-1]
                found[-1] = command, f"{shown}{line}\n"
        return found


def pages() -> list[Path]:
    """Every page of the documentation, the README first."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def name_of(page: Path) -> str:
    """The page's path below ``docs``."""
    return str(page.relative_to(DOCS if DOCS in page.parents else ROOT))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text("utf-8")
    found = []
    for match in _FENCE.finditer(text):
        title = re.search(r'title="([^"]+)"', match["info"])
        found.append(
            Block(
                language=match["language"],
                title=title[1] if title else "",
                code=textwrap.dedent(match["code"]),
                line=text[: match.start("code")].count("\n") + 1,
                not_run=" ".join((match["reason"] or "").split()),
            )
        )
    return found
