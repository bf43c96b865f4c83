"""What all commands share: options, errors as one message, devices, and printing."""

import dataclasses
import functools
import json
import math
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from respondcam._files import REMEDIES, parse_json, why_unwritten
from respondcam._methods import METHOD_SUMMARIES
from respondcam._readers import at_the_command_line
from respondcam.cli._interrupting import Interrupted, exit_code_of, left_behind
from respondcam.cli._panels import FIGURES, GOES_IN, NETWORK, RUNS, WHAT
from respondcam.errors import InputError, is_out_of_memory

if TYPE_CHECKING:
    import torch
    from rich.console import Console

# what moves a terminal's cursor, colours, or turns the direction of what follows; not the line feed
_COMMANDS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u202a-\\u202e\\u2066-\\u2069]")


def folder_option(summary: str, panel: str | None = None) -> Any:
    """An option for the folder of the results, under a heading if the command has some."""
    return typer.Option(metavar="DIR", help=summary, parser=_named_folder, rich_help_panel=panel)


def _named_folder(name: str | Path) -> Path:
    if not str(name):
        raise typer.BadParameter(
            "it is empty, perhaps from a variable of the shell that is not set. Give the name of "
            "a folder; the current one is ."
        )
    return Path(name)


ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="SPEC",
        help="The network: package.module:factory, path/to/file.py:factory, a TorchScript file "
        "(.pt, .ts), a torch.export archive (.pt2), onnx:FILE, keras:FILE, nnunet:MODEL_DIR, "
        "monai:BUNDLE_DIR, paper:cnn-1, paper:cnn-2 or demo.",
        rich_help_panel=NETWORK,
    ),
]
WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Its weights: safetensors, a state dict or a checkpoint.",
        rich_help_panel=NETWORK,
    ),
]
ModelArgumentsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model-arg",
        metavar="NAME=VALUE",
        help="An argument of the factory, its value as JSON; may be repeated.",
        rich_help_panel=NETWORK,
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="NAME",
        help=f"Method: {', '.join(METHOD_SUMMARIES)}.",
        rich_help_panel=WHAT,
    ),
]
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow weights that can run code when they are opened (pickles).",
        rich_help_panel=NETWORK,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda[:n]",
        help="Where the network runs.",
        rich_help_panel=RUNS,
    ),
]
NormalizeOption = Annotated[
    str,
    typer.Option(
        "--normalize",
        metavar="none|zscore|minmax|percentile",
        help="What is done to the intensities first; as the network was trained.",
        rich_help_panel=GOES_IN,
    ),
]
AxesOption = Annotated[
    str,
    typer.Option(
        "--axes",
        metavar="zyx|xyz",
        help="Order of the spatial axes that the network was trained on: zyx as in NumPy and MRC, "
        "xyz as in arrays from nibabel (MONAI).",
        rich_help_panel=GOES_IN,
    ),
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "--output",
        metavar="KEY",
        help="Which part of the network's output holds the scores, where it has several: a key, "
        "an attribute, or a number counted from 0.",
        rich_help_panel=WHAT,
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        "--classes",
        metavar="A,B,...",
        help="Names of the classes, one for each score in their order, instead of the network's.",
        rich_help_panel=WHAT,
    ),
]
JSONOption = Annotated[
    bool,
    typer.Option(
        "--json", help="Print one JSON document for machines instead of text.", rich_help_panel=RUNS
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print nothing but what went wrong.", rich_help_panel=RUNS),
]
ReportOption = Annotated[
    bool,
    typer.Option(
        "--report",
        help="Also write a web page for each volume, with an interactive viewer.",
        rich_help_panel=FIGURES,
    ),
]
PageOption = Annotated[
    bool,
    typer.Option(
        "--report",
        help="Also write a web page with the figures and tables.",
        rich_help_panel=FIGURES,
    ),
]

P = ParamSpec("P")
R = TypeVar("R")


def guarded(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what goes wrong in a command into one message and an exit code.

    2 for what the user can mend, 1 for a fault of the library, 130 for an interruption, 143 where
    the system asked for the end.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with at_the_command_line():
                return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt as stop:
            # CPython remembers an interruption within an exec (of dataclasses, say) until the next
            # one, and would end the process by the signal in place of our exit code
            exec("")
            out = kwargs.get("out")
            name = getattr(command, "__name__", "")
            told = str(stop) if isinstance(stop, Interrupted) else ""
            told = told or left_behind(name, out if isinstance(out, Path) else None)
            leave(f"Interrupted. {told}", exit_code_of(stop))
        except Exception as error:
            if os.environ.get("RESPONDCAM_DEBUG"):
                traceback.print_exc()
            leave(in_words(error), exit_code(error))

    return run


def leave(message: str, code: int) -> NoReturn:
    """Print a message to the standard error and end the command."""
    say(f"respondcam: {message}", err=True)
    raise typer.Exit(code)


def exit_code(error: BaseException) -> int:
    """2 for what the user can mend, 1 for the rest."""
    return 2 if isinstance(error, InputError | OSError) else 1


def in_words(error: BaseException) -> str:
    """Say in one message what went wrong."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename!r}: " if error.filename else ""
        known = error.errno in REMEDIES
        return f"{where}{why_unwritten(error) if known else f'{error.strerror or error}.'}"
    if is_out_of_memory(error):
        return (
            "There is not enough memory. Explain the volume window by window (--window), or with "
            "smaller windows or batches if it is, choose a later layer, or use --device cpu."
        )
    text = " ".join(str(error).split())
    text = text if len(text) < 300 else f"{text[:300]}..."
    return (
        f"Something went wrong inside respondcam ({type(error).__name__}: {text}). Run it again "
        f"with RESPONDCAM_DEBUG=1 in the environment for the traceback, and report that with what "
        f"respondcam --version --json prints."
    )


def choice(value: str, accepted: Sequence[str], option: str) -> str:
    """Check the value of an option.

    Examples
    --------
    >>> choice("zyx", ["zyx", "xyz"], "--axes")
    'zyx'
    """
    if value not in accepted:
        listed = ", ".join(accepted)
        raise InputError(f"{option} is {value!r}. Accepted: {listed}.{_once_each(value, option)}")
    return value


def _once_each(value: str, option: str) -> str:
    """What to do instead of a list with commas, where an option may be repeated."""
    names = [name.strip() for name in value.split(",")]
    if len(names) < 2 or option != "--method":
        return ""
    return f" For several give {' '.join(f'{option} {name}' for name in names)}."


def pick_device(name: str) -> "torch.device":
    """Find the device that a name stands for.

    Raises
    ------
    InputError
        If there is no such device on this machine.

    Examples
    --------
    >>> pick_device("cpu")
    device(type='cpu')
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, colon, number = name.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise InputError(f"--device is {name!r}. Accepted: auto, cpu, cuda, cuda:0, cuda:1, ...")
    if int(number or 0) >= count:
        found = f"there are {count}: cuda:0 to cuda:{count - 1}" if count else "there is none"
        raise InputError(
            f"--device is {name!r}, but of CUDA devices that this PyTorch can use {found}. "
            f"Use --device auto or --device cpu."
        )
    return torch.device(name)


def parse_arguments(
    pairs: Sequence[str] | None, option: str = "--model-arg", example: str = "classes=5"
) -> dict[str, Any]:
    """Read ``name=value`` pairs whose values are JSON, or else text.

    Examples
    --------
    >>> parse_arguments(["classes=5", "spatial=[8, 8]", "norm=batch", "deep=true"])
    {'classes': 5, 'spatial': [8, 8], 'norm': 'batch', 'deep': True}
    """
    arguments: dict[str, Any] = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"{option} is {pair!r}. Accepted: NAME=VALUE, such as {example}.")
        try:
            arguments[name] = parse_json(value)
        except json.JSONDecodeError:
            arguments[name] = value
        except ValueError as error:
            raise InputError(f"{option} {name} cannot be read as JSON: {error}.") from error
    return arguments


def shown(text: str, *, one_line: bool = False) -> str:
    r"""Text as a terminal may get it: what would command it stands there as an escape.

    Names of files and classes may hold anything, also what moves the cursor or recolours lines.

    Examples
    --------
    >>> print(shown("a\x1b[31m.mrc"))
    a\x1b[31m.mrc
    """
    escaped = _COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)
    return escaped.replace("\n", "\\n") if one_line else escaped


def say(text: str, *, err: bool = False) -> None:
    """Print a text to a terminal, a file or a pipe."""
    typer.echo(shown(text), err=err)


def say_when(line: str) -> None:
    """A line about the progress, with the time of day, on the standard error."""
    say(f"{time.strftime('%H:%M:%S')} {line}", err=True)
    sys.stderr.flush()


def console(*, stderr: bool = False) -> "Console":
    """A rich console that does not cut what goes into a file or a pipe, and prints as `shown`."""
    from rich.console import Console

    class Shown(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            super().print(*(shown(o) if isinstance(o, str) else o for o in objects), **options)

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 240
    return Shown(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def print_json(document: Any) -> None:
    """Print a document as JSON; values that are not finite become null."""
    # what is left of them stands within strings, where JSON has its own escapes
    typer.echo(_COMMANDS.sub(lambda found: f"\\u{ord(found[0]):04x}", to_json(document)))


def to_json(document: Any) -> str:
    """Write a document as JSON text; values that are not finite become null.

    Examples
    --------
    >>> print(to_json({"tau": float("nan"), "shape": (1, 2)}))
    {
      "tau": null,
      "shape": [
        1,
        2
      ]
    }
    """
    return json.dumps(_plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return str(value)


def for_csv(cells: Mapping[str, Any]) -> dict[str, Any]:
    """A row as a CSV file may hold it: texts that spreadsheets would run begin with an apostrophe.

    As the OWASP recommends against CSV injection; numbers stay numbers, also negative ones.

    Examples
    --------
    >>> for_csv({"class": "=1+1", "score": -1.5, "method": "respond"})
    {'class': "'=1+1", 'score': -1.5, 'method': 'respond'}
    """
    return {name: _harmless(value) for name, value in cells.items()}


def _harmless(value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip(" ").startswith(tuple("=+-@\t\r\n")):
        return value
    # a dash stands for nothing, and a number that is written as a text runs nothing
    return value if re.fullmatch(r"-|[+-]?\d+(\.\d+)?", value, re.ASCII) else f"'{value}"


def number(value: float) -> str:
    """Write a number for a table: four significant digits, a dash where it is undefined.

    Examples
    --------
    >>> number(12.34567), number(float("nan")), number(1.2e-9)
    ('12.35', '-', '1.2e-09')
    """
    return f"{value:.4g}" if math.isfinite(value) else "-"


def percent(value: float) -> str:
    """Write a share for a table.

    Examples
    --------
    >>> percent(0.0123), percent(float("nan")), percent(2e-8)
    ('1.2 %', '-', '0 %')
    >>> percent(0.9957), percent(1.0)
    ('99.57 %', '100 %')
    """
    if not math.isfinite(value):
        return "-"
    if abs(value) < 5e-6:
        return "0 %"
    digits = 4 if abs(value) > 0.99 else 3 if abs(value) > 0.1 else 2
    return f"{100 * value:.{digits}g} %"
