"""Targets in a part of a dense output: a mask, a box, a voxel, one connected component.

The score is the sum of a class's scores over the voxels of the part, so that it can be split into
contributions: `(batch, class, *spatial)` becomes one number per sample.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from respondcam._extras import require
from respondcam.attribution.outputs import batched, check_classes, class_scores, regions_of
from respondcam.attribution.targets.basic import Scores, Target
from respondcam.errors import TargetError
from respondcam.volume import Volume


def mask(where: Any, number: int = 1) -> Target:
    """A class within a mask, whatever is predicted there.

    Parameters
    ----------
    where
        `Volume`, array or tensor that is not zero inside, (*spatial) as the network's output or
        (batch, *spatial).
    number
        The class; of a single logit 1 or 0.

    Raises
    ------
    TargetError
        If the mask has not the output's shape or is empty, or there is no such class.

    Examples
    --------
    >>> output = torch.arange(8.0).reshape(1, 2, 4)
    >>> mask(torch.tensor([0, 1, 1, 0]), 1)(output).values
    tensor([[11.]])
    """
    inside = _inside(where)

    def score(output: Tensor) -> Scores:
        check_classes([number], output)
        flat = _dense(output)
        shape = tuple(flat.shape[2:])
        given = inside if inside.ndim == len(shape) + 1 else inside[None]
        if tuple(given.shape[1:]) != shape or len(given) not in (1, len(flat)):
            raise TargetError(
                f"The mask has shape {tuple(inside.shape)}, but the output has {shape} voxels for "
                f"{len(flat)} samples. Give a mask on the grid of the network's output."
            )
        given = given.expand(len(flat), *shape)
        if not bool(given.flatten(1).any(dim=1).all()):
            raise TargetError("The mask is empty: there is nothing to explain.")
        return _within(output, number, given, f"class {number} in the mask")

    return score


def box(low: Sequence[int], high: Sequence[int], number: int = 1) -> Target:
    """A class within a box, from voxel `low` to voxel `high`, which is not part of it.

    Parameters
    ----------
    low, high
        Corners in voxels of the output, in the order of its axes (z, y, x).
    number
        The class.

    Raises
    ------
    TargetError
        If the output is not dense, the box is not inside it, or there is no such class.

    Examples
    --------
    >>> box([1], [3], 0)(torch.arange(8.0).reshape(1, 2, 4)).values
    tensor([[3.]])
    """
    low, high = [int(n) for n in low], [int(n) for n in high]

    def score(output: Tensor) -> Scores:
        check_classes([number], output)
        flat = _dense(output)
        shape = tuple(flat.shape[2:])
        fits = len(low) == len(high) == len(shape) and all(
            0 <= a < b <= n for a, b, n in zip(low, high, shape, strict=True)
        )
        if not fits:
            raise TargetError(
                f"The box from {low} to {high} is empty or not inside the output's {shape} voxels. "
                f"Give two corners, lower and upper, with one number for each axis."
            )
        inside = torch.zeros(shape, dtype=torch.bool)
        inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        label = f"class {number} in the box {_place(low)} to {_place(high)}"
        return _within(output, number, inside.expand(len(flat), *shape), label)

    return score


def voxel(at: Sequence[int], number: int = 1) -> Target:
    """A class at one voxel of the output.

    Parameters
    ----------
    at
        Voxel of the output, in the order of its axes (z, y, x).
    number
        The class.

    Raises
    ------
    TargetError
        If the output is not dense, or has no such voxel or class.

    Examples
    --------
    >>> voxel([2], 1)(torch.arange(8.0).reshape(1, 2, 4)).labels
    ('class 1 at 2',)
    """
    at = [int(n) for n in at]

    def score(output: Tensor) -> Scores:
        check_classes([number], output)
        shape = tuple(_dense(output).shape[2:])
        if len(at) != len(shape) or not all(0 <= i < n for i, n in zip(at, shape, strict=True)):
            raise TargetError(
                f"The voxel {at} is not inside the output's {shape} voxels, counted from 0."
            )
        inside = torch.zeros(shape, dtype=torch.bool)
        inside[tuple(at)] = True
        label = f"class {number} at {_place(at)}"
        return _within(output, number, inside.expand(len(output), *shape), label)

    return score


def component(number: int = 1, at: Sequence[int] | None = None) -> Target:
    """One connected part of where a class is predicted: one lesion, one particle.

    Voxels are connected by their faces. Which part is decided once, on the network's own output.

    Parameters
    ----------
    number
        The class.
    at
        A voxel of the part; None is the largest part.

    Raises
    ------
    MissingExtraError
        If scipy is not installed.

    Examples
    --------
    >>> output = torch.tensor([[[1.0, -1.0, 1.0, 3.0, -1.0]]])
    >>> component(1)(output).values, component(1, at=[0])(output).values
    (tensor([[4.]]), tensor([[1.]]))
    """
    ndimage = require("scipy.ndimage", extra="cryoet", purpose="find connected components")
    at = None if at is None else [int(n) for n in at]

    def score(output: Tensor) -> Scores:
        check_classes([number], output)
        predicted = (regions_of(_dense(output).detach()) == number).cpu().numpy()
        parts = [_part(ndimage, one, number, at) for one in predicted]
        label = f"class {number}, " + ("largest part" if at is None else f"part at {_place(at)}")
        return _within(output, number, torch.tensor(np.stack(parts)), label)

    return score


def _part(ndimage: Any, predicted: np.ndarray, number: int, at: list[int] | None) -> np.ndarray:
    labels, count = ndimage.label(predicted)
    if not count:
        raise TargetError(f"Class {number} is predicted nowhere: there is no part to explain.")
    if at is None:
        return labels == np.bincount(labels.ravel())[1:].argmax() + 1
    inside = len(at) == labels.ndim and all(
        0 <= i < n for i, n in zip(at, labels.shape, strict=True)
    )
    if not inside or not labels[tuple(at)]:
        raise TargetError(
            f"Class {number} is not predicted at voxel {at} of the output's {labels.shape} voxels. "
            f"Give a voxel inside the part, or none for the largest one."
        )
    return labels == labels[tuple(at)]


def _within(output: Tensor, number: int, inside: Tensor, label: str) -> Scores:
    chosen = torch.full((len(output),), number)
    marked = torch.where(inside, number, -1).to(output.device)

    def again(other: Tensor) -> Tensor:
        return class_scores(other, chosen, marked)[:, None]

    return Scores(again(output), (label,), chosen[:, None], again=again)


def _dense(output: Tensor) -> Tensor:
    flat = batched(output)
    if flat.ndim < 3:
        raise TargetError(
            f"The output {tuple(output.shape)} has no spatial axes, so there is no place in it: "
            f"explain a class, such as target=1."
        )
    return flat


def _inside(where: Any) -> Tensor:
    values = where.voxels if isinstance(where, Volume) else where
    if isinstance(values, Tensor):
        return values.detach().cpu() != 0
    return torch.tensor(np.asarray(values) != 0)


def _place(at: Sequence[int]) -> str:
    return ", ".join(map(str, at))
