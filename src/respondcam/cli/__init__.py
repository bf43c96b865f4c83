"""The command line: one thin module per command.

Here, and at the top of each command's module, nothing heavy is imported: help and mistyped options
answer at once.
"""

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand

from respondcam.cli._failures import guarded
from respondcam.cli._interrupting import on_sigterm
from respondcam.cli._panels import MOST_IN_ONE, ORDER, RUNS
from respondcam.cli._printing import print_json
from respondcam.cli.audit import audit
from respondcam.cli.average import average
from respondcam.cli.compare import compare
from respondcam.cli.demo import demo
from respondcam.cli.explain import explain
from respondcam.cli.layers import layers
from respondcam.cli.report import report
from respondcam.cli.reproduce import reproduce
from respondcam.cli.simulate import simulate
from respondcam.cli.train import train
from respondcam.errors import InputError


class _Command(TyperCommand):
    """A command whose help calls arguments by their names alone, not FILES <list[str]>.

    Many options stand under headings, in plain text too.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write what the options and arguments are."""
        sections: dict[str, list[Any]] = {"Arguments": [], **{panel: [] for panel in ORDER}}
        for parameter in self.get_params(ctx):
            argument = isinstance(parameter, TyperArgument)
            if argument:
                setattr(parameter, "display_type_rich", lambda ctx: None)  # noqa: B010
            panel = getattr(parameter, "rich_help_panel", None) or RUNS  # of --help
            sections["Arguments" if argument else panel].append(parameter.get_help_record(ctx))
        if sum(map(len, sections.values())) - len(sections["Arguments"]) <= MOST_IN_ONE:
            super().format_options(ctx, formatter)
            return
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


# plain help: laying it out in boxes would take longer than everything else together
app = typer.Typer(
    name="respondcam",
    help="See where a 3-D network looked, as maps whose sum follows the class score.",
    epilog="Start with: respondcam demo",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback(invoke_without_command=True)
@guarded
def root(
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
    as_json: bool = typer.Option(
        False, "--json", help="With --version: all that a report of a fault needs, as JSON."
    ),
) -> None:
    """See where a 3-D network looked, as maps whose sum follows the class score."""
    if version:
        _print_version(as_json)
        raise typer.Exit
    if as_json:
        raise InputError("--json goes behind the command: respondcam COMMAND ... --json.")


def _print_version(as_json: bool) -> None:
    if as_json:
        from respondcam.cli._about import about

        print_json(about())
    else:
        from respondcam import __version__

        typer.echo(f"respondcam {__version__}")


_COMMANDS = {
    demo: "Explain a phantom with the network in the package.",
    explain: "Explain volumes: maps, figures and accounts.",
    layers: "List the layers that can be explained.",
    audit: "Check whether map sums follow the scores.",
    compare: "Compare methods: accounts, faithfulness, localisation.",
    simulate: "Make subtomograms or tomograms whose truth is known.",
    train: "Train a classifier on simulated subtomograms or a folder.",
    average: "Average maps in the particle's own frame.",
    report: "Write pages with an interactive viewer of maps.",
    reproduce: "Make the publication's table and figures again.",
}
for _command, _summary in _COMMANDS.items():
    app.command(short_help=_summary, cls=_Command)(guarded(_command))


def _replace_closed() -> None:
    """Give streams that were closed (``>&-``) somewhere to go.

    Their numbers would be those of the next files to be opened, and what a library prints would go
    into them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115  (to the end)
            setattr(sys, name, stream)


def main() -> None:
    """Run the command line; what the ``respondcam`` script calls."""
    _replace_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows only ASCII gets a "?"
    signal.signal(signal.SIGTERM, on_sigterm)
    asked = sys.argv[1:]
    if asked[:1] == ["help"]:
        asked = [*asked[1:2], "--help"]
    app(asked, prog_name="respondcam")
