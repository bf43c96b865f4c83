"""Arguments by name into a frozen dataclass of options."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from respondcam.errors import ModelError

T = TypeVar("T")


def as_options(kind: type[T], arguments: Mapping[str, Any], what: str) -> T:
    """Make options of arguments.

    Raises
    ------
    ModelError
        If one has no such field.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Options:
    ...     fold: int = 0
    >>> as_options(Options, {"fold": 2}, "folders")
    Options(fold=2)
    """
    known = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    unknown = [name for name in arguments if name not in known]
    if unknown:
        raise ModelError(
            f"{what} take no argument {', '.join(map(repr, unknown))}. "
            f"They take {', '.join(known)}."
        )
    return kind(**arguments)
