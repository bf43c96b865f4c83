"""Options that several commands share, and what their values may be."""

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from respondcam._files import parse_json
from respondcam._methods import METHOD_SUMMARIES
from respondcam.cli._panels import FIGURES, GOES_IN, NETWORK, RUNS, WHAT
from respondcam.errors import InputError

if TYPE_CHECKING:
    import torch


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
WindowsNormalizeOption = Annotated[
    str,
    typer.Option(
        "--normalize",
        metavar="none|zscore|minmax|percentile",
        help="What is done to the intensities first; as the network was trained. With --window it "
        "is done to each window by itself.",
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
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Replace results of other runs in that folder.",
        rich_help_panel=RUNS,
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


def choice(value: str, accepted: Sequence[str], option: str) -> str:
    """Check the value of an option.

    Examples
    --------
    >>> choice("zyx", ["zyx", "xyz"], "--axes")
    'zyx'
    >>> choice("Grad-CAM", ["respond", "grad", "grad++"], "--method")
    Traceback (most recent call last):
    respondcam.errors.InputError: --method is 'Grad-CAM'. Did you mean grad? Accepted: respond, ...
    """
    if value not in accepted:
        listed = ", ".join(accepted)
        raise InputError(
            f"{option} is {value!r}.{_meant(value, accepted)} Accepted: {listed}."
            f"{_once_each(value, option)}"
        )
    return value


def _meant(value: str, accepted: Sequence[str]) -> str:
    """What a value that is not accepted comes close to."""
    plain = {_plain(name): name for name in accepted}
    near = difflib.get_close_matches(_plain(value), plain, n=1, cutoff=0.7)
    return f" Did you mean {plain[near[0]]}?" if near else ""


def _plain(name: str) -> str:
    """A name as papers, people and other tools write it, alike: Grad-CAM, gradcam, grad_cam."""
    return re.sub(r"[-_ ]|cam", "", name.lower()).replace("plus", "+")


def three_numbers(text: str) -> tuple[int, int, int] | None:
    """Voxels along z, y and x as they were typed, with either separator; None if it is not that.

    Examples
    --------
    >>> three_numbers("32,64,64"), three_numbers("32x64x64"), three_numbers("32,64")
    ((32, 64, 64), (32, 64, 64), None)
    """
    parts = [part.strip() for part in text.lower().replace("x", ",").split(",")]
    if len(parts) != 3 or not all(part.isdecimal() and part.isascii() for part in parts):
        return None
    z, y, x = map(int, parts)
    return z, y, x


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
