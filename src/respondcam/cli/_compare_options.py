"""Which option goes to which of the methods that ``respondcam compare`` sets side by side."""

import inspect
from collections.abc import Sequence

from respondcam.attribution import METHODS
from respondcam.errors import InputError

_OWN = ("output", "align", "precision")  # options of the command itself, or none of its business


def options_of(methods: Sequence[str], arguments: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """For each method its ``name=value`` pairs.

    ``METHOD.NAME=VALUE`` is for that method; ``NAME=VALUE`` for every method that has such an
    option.

    Raises
    ------
    InputError
        If no method has the option, or it is for one that is not compared.

    Examples
    --------
    >>> options_of(["respond", "ablation"], ["ablation.weights=drop", "denominator=paper"])
    {'respond': ('denominator=paper',), 'ablation': ('weights=drop',)}
    """
    found: dict[str, list[str]] = {name: [] for name in methods}
    for pair in arguments:
        head, dot, option = pair.partition("=")[0].partition(".")
        if dot:
            if head not in found:
                raise InputError(
                    f"--method-arg is {pair!r}, but {head!r} is not compared. Compared: "
                    f"{', '.join(methods)}."
                )
            takers, pair = [head], pair[len(head) + 1 :]
        else:
            option = head
            takers = [name for name in methods if option in _options(name)]
        unknown = [name for name in takers if option not in _options(name)]
        if option not in _OWN and (unknown or not takers):  # the command's own are refused later
            have = "; ".join(f"{n}: {', '.join(_options(n)) or 'none'}" for n in unknown or methods)
            raise InputError(
                f"--method-arg is {pair!r}, but no method that it is for has an option {option!r}. "
                f"They have: {have}."
            )
        for name in takers or methods:
            found[name].append(pair)
    return {name: tuple(pairs) for name, pairs in found.items()}


def check_precision(methods: Sequence[str], precision: str) -> None:
    """Refuse a precision that a method does not have: a mixture would compare nothing.

    Raises
    ------
    InputError
        With the methods that run in float32 only.
    """
    without = [
        name for name in methods if "precision" not in inspect.signature(METHODS[name]).parameters
    ]
    if precision != "fp32" and without:
        raise InputError(
            f"--precision is {precision!r}, but these run in float32 only: {', '.join(without)}. "
            f"Compare them without it, or the others alone."
        )


def _options(method: str) -> list[str]:
    """Options by which a method differs from the others."""
    common = {*inspect.signature(METHODS["hires"]).parameters, *_OWN}
    names = list(inspect.signature(METHODS[method]).parameters)[2:]
    return [name for name in names if name not in common or name == "relu"]
