"""Layers whose output is the same memory as a tensor that the network goes on with elsewhere.

A hook hands on a copy of a layer's output, so that what follows may write to it. Where the output
also goes by another name (the skip connection ``skip = identity(x)`` is ``x``) and one of the two
is written to (``relu_(x)``), the copy and the other name part, and the network would compute other
numbers than without the hook. Such outputs keep their memory: what is handed on is written there.
"""

# The version of a tensor, which every write to its memory raises, has a name with an underscore.
# pyright: reportPrivateUsage=false

import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from respondcam.errors import LayerError, ModelError
from respondcam.network.trees import tensors

Way = Literal["copy", "apart", "keep"]
"""How an output is handed on: as a copy; as a copy although its argument goes on elsewhere, which
is a path around the layer; in its own memory."""

_lock = threading.Lock()
# For each call: whether another name was written to, so that a copy is certainly wrong.
_sharing: "weakref.WeakKeyDictionary[nn.Module, dict[int, bool]]" = weakref.WeakKeyDictionary()
_whole: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()  # below them views need a graph, too
_copied: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()  # where keeping memory does not work


@dataclass(frozen=True)
class Known:
    """What is known of some layers when a pass begins; other threads may learn more meanwhile.

    Examples
    --------
    >>> Known.of([layer := nn.Identity()]).shares([layer])
    False
    """

    calls: Mapping[nn.Module, Mapping[int, bool]]
    whole: frozenset[nn.Module]
    copied: frozenset[nn.Module]

    @classmethod
    def of(cls, modules: Iterable[nn.Module]) -> "Known":
        """What is known of these layers now."""
        chosen = set(modules)
        with _lock:
            calls = {module: dict(_sharing[module]) for module in chosen if module in _sharing}
            whole = frozenset(module for module in chosen if module in _whole)
            copied = frozenset(module for module in chosen if module in _copied)
            return cls(calls, whole, copied)

    def shares(self, modules: Iterable[nn.Module]) -> bool:
        """Whether one of these layers is known to share its output's memory."""
        return any(module in self.calls for module in modules)

    def writes(self, modules: Iterable[nn.Module]) -> bool:
        """Whether one of them writes to its argument, or shares its output's memory.

        Views of that memory count as its other names only where they were made with autograd on.
        """
        chosen = list(modules)
        said = any(getattr(module, "inplace", False) is True for module in chosen)
        return said or self.shares(chosen) or any(module in self.whole for module in chosen)


@dataclass(frozen=True)
class _Handed:
    """An output, the copy in its place, and the versions of both at that moment."""

    call: int
    output: Tensor
    copy: Tensor
    versions: tuple[int, int]
    argument: bool

    def other_written(self) -> bool:
        """Whether the output was written to under another name."""
        return _version(self.output) != self.versions[0]

    def parted(self) -> bool:
        """Whether that happened, or the copy was written to where the output has another name."""
        written = self.argument and _version(self.copy) != self.versions[1]
        return self.other_written() or written


@dataclass
class Sharing:
    """What one layer does with memory in one pass.

    Parameters
    ----------
    module
        The layer.
    known
        What is known of it.

    Examples
    --------
    >>> shortcut = nn.Identity()
    >>> sharing = Sharing(shortcut, Known.of([shortcut]))
    >>> x = torch.ones(1, 2, 3)
    >>> sharing.enter((x,))
    >>> sharing.leave(x)
    'apart'
    >>> sharing.hand_on(x.clone())
    >>> _ = x.mul_(2)
    >>> sharing.parted(), Known.of([shortcut]).shares([shortcut])
    (True, True)
    """

    module: nn.Module
    known: Known
    _given: list[list[tuple[Tensor, int]]] = field(default_factory=list[list[tuple[Tensor, int]]])
    _handed: list[_Handed] = field(default_factory=list[_Handed])
    _leaving: tuple[int, Tensor, bool] | None = None
    _calls: int = 0
    _kept: bool = False
    _late: bool = False
    _alike: bool = False

    def enter(self, arguments: Any) -> None:
        """Note what the layer is called with."""
        self._given.append([(one, _version(one)) for one in tensors(arguments)])

    def leave(
        self,
        output: Tensor | None,
        *,
        graph: bool = True,
        casts: bool = False,
        changes: bool = False,
    ) -> Way:
        """How the layer's output is to be handed on.

        It keeps its memory where that is known of the layer, and where the layer itself wrote to
        its argument (ReLU in place): all that holds the argument then holds the output. Where it
        already has a graph, that counts all its names by itself.

        Parameters
        ----------
        graph
            Whether what is handed on gets a graph.
        casts
            Whether it is of another precision than the output.
        changes
            Whether it holds other values than the output, which a graph does not carry to the
            output's other names.
        """
        given = self._given.pop() if self._given else []
        if output is None:
            return "copy"
        given = [(one, version) for one, version in given if _alike(one, output)]
        self._alike = self._alike or bool(given)
        written = any(_version(one) != version for one, version in given)
        call, self._calls = self._calls, self._calls + 1
        certain = self._certain(call)
        self._leaving = call, output, bool(given)
        carried = output.requires_grad and not changes
        if certain or (certain is not None and not carried):
            return "keep"
        if written and not (carried or casts or self.module in self.known.copied):
            if not graph or torch.is_grad_enabled():
                self._kept = True
                return "keep"
            # views that were made without a graph take none, and give none
            self._late = self._late or self.module not in self.known.whole
        return "apart" if given and not written else "copy"

    def must_keep(self, output: Tensor, changed: Tensor) -> bool:
        """Whether what is handed on has to be written into the output's memory.

        Not where there are more samples than it has room for, and the layer wrote to its argument:
        the head is then run alone, which nothing reaches but through the layer. Of a second call
        the memory may be that of the first.
        """
        known = self.module in self.known.calls or self._calls > 1
        return changed.shape == output.shape or known

    def hand_on(self, copy: Tensor) -> None:
        """Note the copy in place of the output that left."""
        assert self._leaving is not None
        call, output, argument = self._leaving
        versions = _version(output), _version(copy)
        self._handed.append(_Handed(call, output, copy, versions, argument))

    def parted(self) -> bool:
        """Whether a copy was wrong in this pass; the layer is remembered for the next."""
        news = self._late
        with _lock:
            if self._late:
                _whole.add(self.module)
            for one in [one for one in self._handed if one.parted()]:
                certain, before = one.other_written(), self._certain(one.call)
                news = news or before is None or certain > before
                learned = _sharing.setdefault(self.module, {})
                learned[one.call] = certain or learned.get(one.call, False)
        return news

    def is_doubtful(self) -> bool:
        """Whether what the network computes should be compared with what it computes by itself.

        Several calls on one memory are more than the rules here can follow.
        """
        return self.module in self.known.calls or (self._alike and self._calls > 1)

    def failed(self) -> bool:
        """Whether keeping memory can be why a pass failed; the next one hands on copies.

        A view of the output that was made without a graph cannot be read once it has one.
        """
        if self._kept:
            with _lock:
                _copied.add(self.module)
        return self._kept

    def _certain(self, call: int) -> bool | None:
        return self.known.calls.get(self.module, {}).get(call)


def write_into(output: Tensor, changed: Tensor, name: str) -> None:
    """Write into a layer's output what is to be handed on, with the graph of it.

    Raises
    ------
    ModelError
        If there are more samples than the output has room for.
    LayerError
        If the memory cannot be written to.
    """
    if changed.shape != output.shape:
        raise ModelError(
            f"The output of layer {name!r} goes on elsewhere, so it cannot be replaced by one of "
            f"shape {tuple(changed.shape)}."
        )
    try:
        output.copy_(changed)
    except RuntimeError as error:
        raise LayerError(
            f"The output of layer {name!r} is memory that the network also uses elsewhere and "
            f"writes to, in a way that leaves no gradient ({error}). Choose the layer before or "
            f"after it."
        ) from error


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are on the same memory."""
    if one is other:
        return True
    try:
        return one.untyped_storage()._cdata == other.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # sparse, nested: no single memory
        return False
