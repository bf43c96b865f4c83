"""What the site makes while it is built, so that it is never out of date and needs no other site.

The page of commands comes from the commands' own help. Formulas become MathML, which browsers draw
by themselves, without a script from elsewhere.
"""

import html
import re
from typing import Any

import typer
from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add ``commands.md``."""
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Turn the formulas of a page into MathML."""
    return _FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    kind, bracket, formula = match.groups()
    display = "block" if bracket == "[" else "inline"
    return f"<{kind}>{convert(html.unescape(formula), display=display)}</{kind}>"


def commands_page() -> str:
    """Markdown with the help of every command."""
    from respondcam.cli import app

    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="respondcam", max_content_width=88)
    lines = ["# Commands", "", "Exit codes: 0 done, 2 a mistake that the message names, 1 a fault."]
    for name in sorted(group.commands):  # type: ignore[attr-defined]
        command = group.commands[name]  # type: ignore[attr-defined]
        one = typer.Context(command, info_name=name, parent=context, max_content_width=88)
        lines += ["", f"## respondcam {name}", "", "```text", command.get_help(one).rstrip(), "```"]
    return "\n".join(lines)
