"""What the site makes while it is built, so that it is never out of date and needs no other site.

The page of commands gets the commands' own help. Formulas become MathML, which browsers draw
by themselves, without a script from elsewhere.
"""

import html
import re
from typing import Any

import typer
from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the commands' help on their page."""
    return f"{markdown}\n{commands_help()}" if page.file.src_uri == "commands.md" else markdown


def on_page_content(content: str, **_: Any) -> str:
    """Turn the formulas of a page into MathML."""
    return _FORMULA.sub(_mathml, content)


def _mathml(match: re.Match[str]) -> str:
    kind, bracket, formula = match.groups()
    display = "block" if bracket == "[" else "inline"
    return f"<{kind}>{convert(html.unescape(formula), display=display)}</{kind}>"


def commands_help() -> str:
    """Markdown with the help of every command."""
    from respondcam.cli import app

    group = typer.main.get_command(app)
    context = typer.Context(group, info_name="respondcam", max_content_width=88)
    lines: list[str] = []
    for name in sorted(group.commands):  # type: ignore[attr-defined]
        command = group.commands[name]  # type: ignore[attr-defined]
        one = typer.Context(command, info_name=name, parent=context, max_content_width=88)
        lines += ["", f"## respondcam {name}", "", "```text", command.get_help(one).rstrip(), "```"]
    return "\n".join(lines)
