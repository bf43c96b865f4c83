"""Writes the page of commands from the commands' own help, so that it is never out of date."""

from typing import Any

import typer
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: Any) -> Files:
    """Add ``commands.md``."""
    files.append(File.generated(config, "commands.md", content=commands_page()))
    return files


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
