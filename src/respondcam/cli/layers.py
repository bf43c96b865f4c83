"""``respondcam layers``: which layers can be explained, and which one would be."""

import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from respondcam.cli._options import (
    AxesOption,
    DeviceOption,
    JSONOption,
    ModelArgumentsOption,
    ModelOption,
    TrustOption,
    WeightsOption,
)

if TYPE_CHECKING:
    import torch

_LARGEST = 1 << 28  # numbers that the network is run on: 1 GiB
_DIGITS = 9  # of one of them


def layers(
    model: ModelOption,
    weights: WeightsOption = None,
    file: Annotated[
        str | None,
        typer.Option("--input", metavar="FILE", help="A volume that the network takes."),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="C,Z,Y,X", help="Or the shape of one: channels and voxels, as 1,40,40,40."
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="List only layers whose names have at most N parts."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", help="List only layers of such names: a part, or '*.conv2'."
        ),
    ] = None,
    axes: AxesOption = "zyx",
    device: DeviceOption = "auto",
    model_arg: ModelArgumentsOption = None,
    trust: TrustOption = False,
    as_json: JSONOption = False,
) -> None:
    """List the layers of a network, what explaining each one costs, and which one is chosen."""
    from respondcam.cli._explaining import AXES, noted, open_model, read_channels
    from respondcam.cli._options import choice
    from respondcam.cli._printing import print_json
    from respondcam.cli._tables import layer_table, print_notes, print_plain
    from respondcam.network.inspection import inspect

    choice(axes, AXES, "--axes")
    example = _example(file, shape, axes)
    loaded, notes = open_model(model, weights, model_arg, device, trust=trust)
    if file is not None and loaded.preparation is not None:
        with noted() as said:
            count = loaded.preparation.channel_files
            prepared = loaded.preparation.prepare(read_channels(Path(file), count))
        notes += [prepared.note, *said]
        example = prepared.window()
    where = next(loaded.module.parameters(), example).device
    with noted() as more, _asking(shape):
        table = inspect(loaded.module, example.to(where))
    every = len(table)
    matched = any(_listed(row.name, depth, name) for row in table)
    table = replace(table, rows=tuple(r for r in table if r.chosen or _listed(r.name, depth, name)))
    if as_json:
        rows = [vars(row) for row in table.rows]
        print_json({"chosen": table.chosen, "reason": table.reason, "rows": rows})
        return
    layer_table(table)
    if len(table) < every:
        none = "" if matched else f"No layer is like {name!r}; the chosen one is always listed. "
        print_plain(f"{none}{len(table)} of {every} layers are listed.")
    print_notes([*notes, *more], {})


def _listed(layer: str, depth: int | None, pattern: str | None) -> bool:
    """Whether a layer is one of those that were asked for.

    Examples
    --------
    >>> _listed("a.conv2", 1, None), _listed("a.conv2", 2, "conv"), _listed("a.conv2", None, "*.x")
    (False, True, False)
    """
    if depth is not None and layer.count(".") >= depth:
        return False
    return pattern is None or pattern in layer or fnmatchcase(layer, pattern)


def _example(file: str | None, shape: str | None, axes: str) -> "torch.Tensor":
    """Give what the network runs on: a volume's voxels, or zeros of a shape; as a batch of one."""
    import torch

    from respondcam._words import clipped
    from respondcam.errors import InputError
    from respondcam.volume import read_volume

    if (file is None) == (shape is None):
        raise InputError(
            "Give either --input FILE or --shape 1,40,40,40: what the network runs on."
        )
    if file is not None:
        volume = read_volume(file)
        return (volume.transposed() if axes == "xyz" else volume).tensor()
    sizes = _sizes(str(shape))
    if len(sizes) < 2 or not all(map(_is_length, sizes)):
        raise InputError(
            f"--shape is {clipped(str(shape))!r}. Accepted: the number of channels and of voxels "
            f"along each axis, without the batch, such as 1,40,40,40."
        )
    if max(map(len, sizes)) > _DIGITS or math.prod(map(int, sizes)) > _LARGEST:
        raise InputError(
            f"--shape is {clipped(str(shape))!r}, which is more than {_LARGEST} numbers: the "
            f"network runs on them once, and needs many times their memory. Give the shape of a "
            f"window, such as 1,64,64,64: the layers are the same."
        )
    return torch.zeros(1, *map(int, sizes))


def _is_length(size: str) -> bool:
    return size.isascii() and size.isdecimal() and size.strip("0") != ""


def _sizes(shape: str) -> list[str]:
    return [part.strip() for part in shape.replace("x", ",").split(",")]


@contextmanager
def _asking(shape: str | None) -> Generator[None, None, None]:
    """Where a network does not run on three or five numbers, ask what else they can be.

    Three can be meant as C,Y,X, where the channel was forgotten, and five can have the batch before
    them, so that only a failure tells.
    """
    from respondcam.errors import InputError, ModelError

    try:
        yield
    except InputError as error:
        if shape is None or len(sizes := _sizes(shape)) not in (3, 5):
            raise
        if len(sizes) == 5:
            raise ModelError(
                f"--shape is C,Z,Y,X, without the batch; did you mean {','.join(sizes[1:])}? As "
                f"channels and four axes the network does not take {','.join(sizes)}: {error}"
            ) from error
        voxels = ",".join(sizes)
        raise ModelError(
            f"--shape is C,Z,Y,X; did you mean 1,{voxels}? As C,Y,X the network does not take "
            f"{voxels}: {error}"
        ) from error
