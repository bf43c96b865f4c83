"""Follow the layouts of all tensors through a forward pass, operator by operator."""

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from respondcam._kinds import is_listed, is_mapping
from respondcam.network.layout import (  # noqa: F401
    rules_mix,
    rules_resize,  # pyright: ignore[reportUnusedImport]
    rules_shape,  # pyright: ignore[reportUnusedImport]
    rules_spatial,  # pyright: ignore[reportUnusedImport]
)
from respondcam.network.layout.digits import Digit, Dim, Layout, NoLayoutError
from respondcam.network.layout.hollow import FACTORIES, HollowRun, written
from respondcam.network.layout.joining import joined
from respondcam.network.layout.rules import RULES, Call, base_name, named, pointwise
from respondcam.network.trees import tensors

# what depends on the shape of its argument only
_SHAPE_ONLY = {*FACTORIES, "sym_size", "sym_stride", "sym_numel", "device", "zero"}


@dataclass(frozen=True)
class Track:
    """What is known of a tensor that depends on the input.

    Parameters
    ----------
    layout
        Where its entries are, or None when that was lost.
    around
        One bit per followed layer: whether a path from the input leads here around that layer.
    lost
        Operators at which layouts were lost on the way here.
    """

    layout: Layout | None
    around: int
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Link:
    """A view into part of another tensor."""

    base: Tensor
    dim: int
    start: int
    step: int


class Tracker(TorchDispatchMode):
    """Dispatch mode that gives every tensor computed from a marked one its `Track`.

    Parameters
    ----------
    run
        Runs the operators of a pass on tensors without data; None for a real pass.
    """

    def __init__(self, run: HollowRun | None = None) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType]
        self.run = run
        self._tracks: MutableMapping[Tensor, Track] = WeakIdKeyDictionary()
        self._links: MutableMapping[Tensor, _Link] = WeakIdKeyDictionary()
        self._input_memory: set[int] = set()
        self.writes_input = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True would import the whole compiler at the first operator

    def track(self, tensor: Any) -> Track | None:
        """Return what is known of a tensor, None for one that does not depend on the input.

        Examples
        --------
        >>> Tracker().track(torch.zeros(1)) is None
        True
        """
        return self._tracks.get(tensor) if isinstance(tensor, Tensor) else None

    def mark(self, tensor: Tensor, track: Track) -> None:
        """Say where a tensor is.

        Examples
        --------
        >>> tracker, x = Tracker(), torch.zeros(1)
        >>> tracker.mark(x, Track(None, 1))
        >>> tracker.track(x).around
        1
        """
        self._tracks[tensor] = track

    def mark_input(self, tensor: Tensor, track: Track) -> None:
        """Say where an input of the model is, and watch whether its memory is written to.

        Examples
        --------
        >>> tracker, x = Tracker(), torch.zeros(3)
        >>> tracker.mark_input(x, Track(None, 0))
        >>> with tracker:
        ...     _ = x[1:].add_(1)
        >>> tracker.writes_input
        True
        """
        self.mark(tensor, track)
        self._input_memory.add(_memory(tensor))

    def _layout(self, value: Any) -> Layout | None:
        track = self.track(value)
        return track.layout if track else None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = base_name(func)
        arguments = named(func, args, kwargs)
        targets = written(func, arguments)
        self.writes_input |= any(_memory(tensor) in self._input_memory for tensor in targets)
        if self.run is None:
            result = func(*args, **kwargs)
        else:
            result = self.run(name, func, arguments, targets)
        tracks = [track for track in map(self.track, tensors(dict(arguments))) if track is not None]
        if tracks and name not in _SHAPE_ONLY:
            self._follow(func, Call(name, arguments, result, self._layout), tracks, targets)
        if name in ("slice", "select", "narrow") and isinstance(result, Tensor):
            self._link(name, arguments, result)
        return result

    def _follow(
        self, func: Any, call: Call, tracks: Sequence[Track], targets: Sequence[Tensor]
    ) -> None:
        """Give the results of one call their tracks."""
        around = 0
        for track in tracks:
            around |= track.around
        results = list(tensors(call.result))
        layouts, reason = self._placed(func, call, results)
        lost = tuple(dict.fromkeys(name for track in tracks for name in track.lost))
        lost = (*lost, reason) if reason and reason not in lost else lost
        for tensor, layout in zip(results, layouts, strict=True):
            self.mark(tensor, Track(layout, around, lost))
        for tensor in targets:
            # the result of a pass without data may be another object than what was written to
            same = results and layouts[0] is not None and results[0].shape == tensor.shape
            self.mark(tensor, Track(layouts[0] if same else None, around, lost))
            self._written(tensor, self.track(tensor))

    def _placed(
        self, func: Any, call: Call, results: Sequence[Tensor]
    ) -> tuple[list[Layout | None], str]:
        """Layouts of the results, and why there are none where there should be."""
        nothing: list[Layout | None] = [None] * len(results)
        if all(self._layout(tensor) is None for tensor in tensors(dict(call.arguments))):
            return nothing, ""
        function = RULES.get(call.name)
        if function is None and pointwise(func):
            function = rules_mix.elementwise
        if function is None:
            return nothing, call.name
        try:
            placed = function(call)
        except NoLayoutError as error:
            return nothing, f"{call.name}: {error}"
        except Exception as error:  # a call that the rule did not foresee costs only the place
            return nothing, f"{call.name}: {type(error).__name__} {error}"
        layouts = list(placed) if isinstance(placed, Sequence) else [placed]
        layouts = (layouts + nothing)[: len(results)]
        for tensor, layout in zip(results, layouts, strict=True):
            if layout is not None and layout.shape != tuple(tensor.shape):
                return nothing, f"{call.name}: an unforeseen shape"
        return layouts, ""

    def _link(self, name: str, arguments: Mapping[str, Any], view: Tensor) -> None:
        """Remember where a view lies in its base, in case it is written to."""
        base = next(iter(arguments.values()))
        dim = arguments.get("dim", 0) % base.ndim
        if name == "slice":
            start, _, step = slice(arguments["start"], arguments["end"], arguments["step"]).indices(
                base.shape[dim]
            )
        else:
            start, step = arguments.get("index", arguments.get("start", 0)), 0
        self._links[view] = _Link(base, dim, start, step)

    def _written(self, tensor: Tensor, tracks: Track | None) -> None:
        """Carry what was written into a view on to the tensors that it is a view of."""
        link = self._links.get(tensor)
        if link is None or tracks is None:
            self._aliases(tensor, tracks)
            return
        base = self.track(link.base)
        if self.run is not None:
            self.run.emptied(link.base)
        if base is None:
            lifted, reason = _lifted(tracks.layout, link)
            lost = (*tracks.lost, reason) if reason else tracks.lost
            self.mark(link.base, Track(lifted, tracks.around, lost))
        else:
            layout, reason = _overwritten(base.layout, tracks.layout, link, tensor)
            lost = tuple(dict.fromkeys((*base.lost, *tracks.lost, *([reason] if reason else ()))))
            self.mark(link.base, Track(layout, base.around | tracks.around, lost))
        self._written(link.base, self.track(link.base))

    def _aliases(self, tensor: Tensor, track: Track | None) -> None:
        """Tell the other tensors on the same memory that a path leads here."""
        base = tensor._base if tensor._is_view() else None
        if track is None or base is None:
            return
        known = self.track(base)
        if known is None:
            self.mark(base, replace(track, layout=_same(track.layout, base)))
        else:
            self.mark(base, replace(known, around=known.around | track.around))


def _memory(tensor: Tensor) -> int:
    """Identity of the memory of a tensor and its views, with or without data."""
    return tensor.untyped_storage()._cdata  # pyright: ignore[reportPrivateUsage]


def _same(layout: Layout | None, base: Tensor) -> Layout | None:
    return layout if layout is not None and layout.shape == tuple(base.shape) else None


def _lifted(layout: Layout | None, link: _Link) -> tuple[Layout | None, str]:
    """Layout of a tensor of which a slice was written."""
    if layout is None:
        return None, ""
    if not link.step:
        return None, "a write into one entry of an axis"
    digits = [digit for digit in layout.dims[link.dim].digits if digit.size > 1]
    if len(digits) > 1 or layout.dims[link.dim].ragged:
        return None, "a write into part of a dimension of several axes"
    size = link.base.shape[link.dim]
    if not digits:
        return layout.with_dim(link.dim, layout.plain(size)), ""
    vector = tuple(component / link.step for component in digits[0].vector)
    layout = layout.shifted(vector, -link.start)
    return layout.with_dim(link.dim, Dim((Digit(size, vector, digits[0].batch),))), ""


def _overwritten(
    old: Layout | None, written: Layout | None, link: _Link, part: Tensor
) -> tuple[Layout | None, str]:
    """Layout of a tensor that has one and of which a slice was written; the larger part decides."""
    lifted = _lifted(written, link)[0]
    if old is None or lifted is None:
        return old, ""
    both = [lifted, old] if 2 * part.numel() >= link.base.numel() else [old, lifted]
    try:
        return joined(both, tuple(link.base.shape), mostly_first=True), ""
    except NoLayoutError as error:
        return None, f"a write into a slice: {error}"


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Return all tensors in nested tuples, lists, mappings, dataclasses and plain objects.

    Examples
    --------
    >>> len(list(tensors_in({"a": [torch.zeros(1), 3], "b": torch.ones(1)})))
    2
    """
    if isinstance(value, Tensor):
        yield value
    elif is_mapping(value):
        for item in value.values():
            yield from tensors_in(item)
    elif is_listed(value):
        for item in value:
            yield from tensors_in(item)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, torch.nn.Module)):
        yield from tensors_in(vars(value))
