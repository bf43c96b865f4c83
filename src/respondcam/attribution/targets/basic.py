"""Targets of whole outputs: classes, regressions, and what a user writes for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from respondcam.attribution.outputs import (
    batched,
    check_classes,
    class_count,
    class_scores,
    describe,
    predicted_class,
    regions_of,
    warn_of_one_number,
    warn_of_probabilities,
)
from respondcam.errors import TargetError
from respondcam.network.typed import numbers


@dataclass(frozen=True)
class Scores:
    """Scores of the targets, with what they stand for.

    Parameters
    ----------
    values
        (batch, target), connected to the model's output.
    labels
        One per target.
    classes
        (batch, target) class numbers; None where a target is no class.
    notes
        (sample, target) -> why this target is empty; usually nothing.
    again
        The same targets on another output, (batch, target), with what was decided here (the
        predicted class, the predicted region) kept; None when nothing was decided.
    count
        How many scores the output has for a sample (or a voxel of it), set by `evaluate`.
    note
        What a score is, where that is not plain to see.
    predicted
        (batch,) the class that is predicted; only where several classes were asked for.
    """

    values: Tensor
    labels: tuple[str, ...]
    classes: Tensor | None = None
    notes: Mapping[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])
    again: Callable[[Any], Tensor] | None = None
    count: int | None = None
    note: str = ""
    predicted: Tensor | None = None


Target = Callable[[Tensor], "Tensor | Scores"]


def takes_output(target: Target) -> bool:
    """Whether the target reads the model's whole output, as that of a detector."""
    return bool(getattr(target, "takes_output", False))


def predicted() -> Target:
    """The class that the network predicts, each sample its own.

    For one logit (binary): class 1 where it is positive, else class 0, whose score is minus the
    logit. For a segmentation: the foreground class with the most voxels.
    """

    def score(output: Tensor) -> Scores:
        warn_of_one_number(output)
        chosen = predicted_class(output)
        label = f"class {int(chosen[0])} (predicted)" if len(chosen) == 1 else "predicted class"
        return of_classes(output, chosen[:, None], (label,))

    return score


def all_classes() -> Target:
    """Every class of the network, one target each."""

    def score(output: Tensor) -> Scores:
        warn_of_one_number(output)
        return _as_scores(classes(range(class_count(output))), output)

    return score


def classes(numbers: Sequence[int]) -> Target:
    """The given classes for all samples, one target each.

    Parameters
    ----------
    numbers
        Of the classes.

    Raises
    ------
    TargetError
        If the output has no such class.

    Examples
    --------
    >>> classes([2, 0])(torch.tensor([[1.0, 5.0, 3.0]])).values
    tensor([[3., 1.]])
    """
    wanted = tuple(int(n) for n in numbers)

    def score(output: Tensor) -> Scores:
        check_classes(wanted, output)
        chosen = torch.tensor(wanted).repeat(len(output), 1)
        return of_classes(output, chosen, tuple(f"class {n}" for n in wanted))

    return score


def class_score(number: int) -> Target:
    """One class, the same for all samples."""
    return classes([number])


def class_per_sample(numbers: Sequence[int]) -> Target:
    """One class per sample of the batch."""
    wanted = tuple(int(n) for n in numbers)

    def score(output: Tensor) -> Scores:
        if len(wanted) != len(output):
            raise TargetError(
                f"target gives {len(wanted)} classes for a batch of {len(output)} samples. Give "
                f"one class per sample, one int for all, or "
                f"respondcam.targets.classes({list(wanted)}) for each of these on every sample."
            )
        check_classes(wanted, output)
        label = f"class {wanted[0]}" if len(set(wanted)) == 1 else "class per sample"
        return of_classes(output, torch.tensor(wanted)[:, None], (label,))

    return score


def value(index: int = 0) -> Target:
    """One output of a regression, as it is.

    Parameters
    ----------
    index
        Which of several numbers.

    Raises
    ------
    TargetError
        If the output is not one row of numbers per sample, or has no such number.

    Examples
    --------
    >>> value()(torch.tensor([[4.0]])).values
    tensor([[4.]])
    """

    def score(output: Tensor) -> Scores:
        flat = batched(output)
        if flat.ndim != 2:
            raise TargetError(
                f"value() explains one number per sample, but the output is {describe(output)}. "
                f"For a dense output give a callable that sums the part that matters."
            )
        if not 0 <= index < flat.shape[1]:
            raise TargetError(
                f"value({index}): the output has {flat.shape[1]} numbers per sample, 0 to "
                f"{flat.shape[1] - 1}."
            )
        return Scores(flat[:, index : index + 1], (f"value {index}",))

    return score


def as_target(target: Any) -> Target:
    """Turn what a user gives into a target.

    Parameters
    ----------
    target
        ``"predicted"``, ``"all"``, ``"value"``, an int, a sequence or tensor of one int per sample,
        or a callable.

    Raises
    ------
    TargetError
        For anything else.
    """
    named = {"predicted": predicted, "all": all_classes, "value": value}
    if isinstance(target, str) and target in named:
        return named[target]()
    if isinstance(target, (bool, str)):
        raise TargetError(f"target={target!r} is none of {_ACCEPTED}.{_instead(target)}")
    if callable(target):
        return cast("Target", target)
    if isinstance(target, Tensor) and target.ndim > 1:
        raise TargetError(
            f"target is a tensor {tuple(target.shape)}, and none of {_ACCEPTED}. Of a network with "
            f"several inputs all go in as one: a tuple by position, or a mapping by name."
        )
    given: Any = numbers(target) if isinstance(target, Tensor) else target
    try:
        if not hasattr(given, "__len__"):
            return class_score(_whole(given))
        return class_per_sample([_whole(n) for n in given])
    except (TypeError, ValueError):
        raise TargetError(f"target={given!r} is none of {_ACCEPTED}.") from None


NOT_FINITE = "A score is NaN or infinite"
"""How the error begins that says so."""

_ACCEPTED = (
    "'predicted', 'all', 'value', a class number, one class number per sample, or a callable from "
    "the output to one score per sample"
)


def _instead(text: bool | str) -> str:
    """What somebody meant who gave a word of the command line, or the name of a class."""
    if not isinstance(text, str):
        return ""
    kind, colon, rest = text.partition(":")
    if not colon:
        return (
            f" A class is given by its number: names.index({text!r}) finds it in a list of names, "
            "and .named(names) puts the names on the maps."
        )
    name = kind.replace("-", "_")
    numbers = rest.replace(" ", "").split(",")
    known = name in ("contrast", "probability", "log_probability")
    if not known or not all(number.isdecimal() for number in numbers):
        return f" {kind!r} is a word of the command line; respondcam.targets has it for Python."
    return f" In Python this is respondcam.targets.{name}({', '.join(numbers)})."


def evaluate(target: Target, output: Any) -> Scores:
    """Apply a target to the score tensor and check what comes back.

    Raises
    ------
    TargetError
        If a callable does not give one scalar per sample (and target), or a score is not finite.
    """
    scores = _as_scores(target, output)
    if not bool(torch.isfinite(scores.values).all()):
        raise TargetError(
            f"{NOT_FINITE}, so its gradient explains nothing. Check that the input "
            "has no voxels that are NaN (torch.isfinite(x).all()), its normalisation, and the "
            "model's weights and precision."
        )
    if not isinstance(output, Tensor):
        return scores  # such as the boxes of a detector
    return replace(scores, count=int(output.shape[1]) if output.ndim > 1 else 1)


def _as_scores(target: Target, output: Any) -> Scores:
    result = target(output)
    return result if isinstance(result, Scores) else _from_callable(target, result, len(output))


def of_classes(output: Tensor, chosen: Tensor, labels: tuple[str, ...]) -> Scores:
    """Scores of the classes `chosen` (batch, target)."""
    warn_of_probabilities(output)
    flat = batched(output)
    regions = regions_of(flat.detach()) if flat.ndim > 2 else None

    def again(other: Tensor) -> Tensor:
        columns = [class_scores(other, column, regions) for column in chosen.unbind(dim=1)]
        return torch.stack(columns, dim=1)

    return Scores(
        again(output),
        labels,
        chosen,
        _empty_regions(regions, chosen),
        again,
        note="" if regions is None else _DENSE,
        predicted=predicted_class(output) if chosen.shape[1] > 1 else None,
    )


_DENSE = (
    "the network scores every voxel: the score of a class is the sum of its scores over the voxels "
    "where it is predicted, so it grows with their number and can be negative"
)


def _empty_regions(regions: Tensor | None, chosen: Tensor) -> dict[tuple[int, int], str]:
    if regions is None:
        return {}
    return {
        (sample, target): f"class {number} is predicted nowhere in sample {sample}"
        for sample, row in enumerate(numbers(chosen))
        for target, number in enumerate(row)
        if not bool((regions[sample] == number).any())
    }


def _from_callable(target: Target, result: Any, batch: int) -> Scores:
    name = getattr(target, "__name__", type(target).__name__)
    name = "target" if name == "<lambda>" else name
    if not isinstance(result, Tensor) or result.ndim not in (1, 2) or len(result) != batch:
        raise TargetError(
            f"The target {name} gave {describe(result)}; it must give one score per sample, shape "
            f"({batch},), or one per sample and target, shape ({batch}, targets)."
        )
    values = result[:, None] if result.ndim == 1 else result
    count = values.shape[1]
    return Scores(values, (name,) if count == 1 else tuple(f"{name} {i}" for i in range(count)))


def _whole(number: Any) -> int:
    if isinstance(number, float) and not number.is_integer():
        raise TypeError
    return int(number)
