"""How much the objects of a pickle unfold to, counted before any of them is made.

A pickle may name one object again in place of writing it again. A tuple that holds another one
twice, which holds a third one twice, and so on, takes four bytes for each doubling; whoever hashes
it as a key, or prints it in a message, goes through all of it. Thirty of them take a thousand
million steps. So the pickle is followed without making its objects, and all that is in each of them
is added up.
"""

import pickle
import pickletools
from collections.abc import Iterator
from io import BytesIO
from typing import cast

_FREE = 1 << 22  # that may be unfolded whatever the length of the pickle
_TIMES = 64  # the length: what is in a tensor is in all that hold the tensor
_OF_A_TEXT = 16  # bytes that count as one more
_PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_INTO = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}  # what lies below them
_EMPTY = {"EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"}


class UnfoldingError(pickle.UnpicklingError):
    """A pickle whose objects stand in one another as those of weights do not."""


class _Holder:
    """Something that holds others: how much of its own, and what may be shared."""

    __slots__ = ("held", "own")

    def __init__(self) -> None:
        self.own, self.held = 1, cast("list[_Holder]", [])

    def add(self, objects: "list[_Object]") -> None:
        self.own += sum(one for one in objects if isinstance(one, int))
        self.held += [one for one in objects if isinstance(one, _Holder)]


_Object = _Holder | int  # of what holds nothing, such as a text, how much it counts


def check_unfolded(data: bytes, pickles: int = 1) -> None:
    """Refuse pickles, one behind the other, whose objects unfold to far more than their length.

    What cannot be followed is let pass: PyTorch's own reader, which takes fewer operations, gets no
    further.

    Raises
    ------
    UnfoldingError
        If they do, or if an object holds itself.

    Examples
    --------
    >>> import pickle
    >>> shared = ()
    >>> for _ in range(60):
    ...     shared = (shared, shared)
    >>> check_unfolded(pickle.dumps(shared))
    Traceback (most recent call last):
    respondcam.network.unfolding.UnfoldingError: its objects stand in one another so often that ...
    """
    stream = BytesIO(data)
    limit = _FREE + _TIMES * len(data)
    for _ in range(pickles):
        holders: list[_Holder] = []
        try:
            for holder in _holders(stream):
                holders.append(holder)
        except (ValueError, IndexError, KeyError, AttributeError, OverflowError):
            stream.seek(0, 2)  # nobody reads on from here
        if _unfolded(holders, limit) > limit:
            raise UnfoldingError(
                f"its objects stand in one another so often that they unfold to more than {limit} "
                f"entries"
            )


def _holders(stream: BytesIO) -> Iterator[_Holder]:
    """Everything in one pickle that holds something; filled when the pickle is at its end."""
    stack: list[_Object] = []
    marks: list[int] = []
    memo: dict[int, _Object] = {}
    for code, value, _ in pickletools.genops(stream):
        if code.name == "MARK":
            marks.append(len(stack))
        elif code.name in _PUT:
            memo[len(memo) if value is None else int(str(value))] = stack[-1]
        elif code.name in _GET:
            stack.append(memo[int(str(value))])
        elif not code.stack_before and code.name not in _EMPTY:
            length = len(value) if isinstance(value, str | bytes) else 0
            stack += [1 + length // _OF_A_TEXT] * len(code.stack_after)
        else:
            taken = _taken(stack, marks, code)
            if code.name in _INTO:
                cast("_Holder", taken[0]).add(taken[1:])
                stack.append(taken[0])
                continue
            for _ in code.stack_after:
                holder = _Holder()
                holder.add(taken)
                stack.append(holder)
                yield holder


def _taken(stack: list[_Object], marks: list[int], code: pickletools.OpcodeInfo) -> list[_Object]:
    """What an operation takes from the stack, from below."""
    before = code.stack_before
    marked = pickletools.markobject in before
    count = before.index(pickletools.markobject) if marked else len(before)
    start = (marks.pop() if marked else len(stack)) - count
    if start < 0:
        raise IndexError("it takes more than there is")
    taken = stack[start:]
    del stack[start:]
    return taken


def _unfolded(holders: list[_Holder], limit: int) -> int:
    """All that is in each of the objects, added up; of one that is beyond a limit as much.

    Raises
    ------
    UnfoldingError
        If one holds itself.
    """
    sizes: dict[_Holder, int] = {}
    for holder in holders:
        waiting, within = [holder], set[_Holder]()
        while waiting:
            one = waiting[-1]
            if one in sizes:
                waiting.pop()
            elif one in within:  # by now the size of everything in it is known
                if not all(inner in sizes for inner in one.held):
                    raise UnfoldingError("an object in it holds itself, as no weights do")
                # beyond the limit it is cut: such numbers double with every object
                sizes[one] = min(one.own + sum(sizes[inner] for inner in one.held), limit + 1)
                waiting.pop()
            else:
                within.add(one)
                waiting += [inner for inner in one.held if inner not in sizes]
    return sum(sizes.values())
