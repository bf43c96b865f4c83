"""What a value from outside is, said so that a type checker follows.

A plain `isinstance` of something untyped tells a checker that it is a mapping, but of unknown keys
and values, and it then complains of everything that is made of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard


def is_mapping(value: Any) -> TypeGuard[Mapping[Any, Any]]:
    """Whether a value is a mapping, of whatever to whatever.

    Examples
    --------
    >>> is_mapping({}), is_mapping([])
    (True, False)
    """
    return isinstance(value, Mapping)


def is_listed(value: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether a value is a list or a tuple, of whatever.

    Examples
    --------
    >>> is_listed((1, "a")), is_listed("a")
    (True, False)
    """
    return isinstance(value, (list, tuple))


def is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    """Whether a value is a tuple, of whatever.

    Examples
    --------
    >>> is_tuple((1, "a")), is_tuple([1, "a"])
    (True, False)
    """
    return isinstance(value, tuple)


def is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether a value is a sequence, of whatever.

    Examples
    --------
    >>> is_sequence(range(3)), is_sequence({1, 2})
    (True, False)
    """
    return isinstance(value, Sequence)
