"""Targets in words: from a line of text, as a user types it, to a target."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from respondcam.attribution import targets
from respondcam.errors import InputError
from respondcam.network.preparation import Prepared
from respondcam.volume import Volume, read_volume

ACCEPTED = (
    "predicted, all, value, a class number such as 3, several such as 0,3,5, contrast:3,5, "
    "probability:3, log-probability:3, mask:FILE@3, box:Z,Y,X-Z,Y,X@3, voxel:Z,Y,X@3, "
    "component:largest@3, component:Z,Y,X@3, detection:best@3, detection:LOW-HIGH@3 (corners of "
    "a box, in the detector's order of axes)"
)


def parse_target(
    text: str,
    class_names: Sequence[str] = (),
    *,
    image: Volume | None = None,
    turned: bool = False,
    prepared: Prepared | None = None,
    overlapping: bool = False,
    option: str = "--target",
) -> Any:
    """Read a target that was typed.

    Parameters
    ----------
    text
        As typed. What stands behind ``@`` is the class, by number or name, 1 unless given.
    class_names
        Of the network.
    image
        What is explained: masks must be on its grid.
    turned
        Whether the network sees the image's axes in the order x, y, z.
    prepared
        What the network sees of the image, if that is another grid: places are given in the
        image's voxels and carried over.
    overlapping
        Whether the network's classes may overlap.
    option
        What the place is called where it was typed, for messages.

    Raises
    ------
    InputError
        If it means nothing, or a mask does not fit the image.

    Examples
    --------
    >>> parse_target("predicted"), parse_target("class:3"), parse_target("7")
    ('predicted', 3, 7)
    >>> parse_target("ferritin", ["ribosome", "ferritin"])
    1
    """
    if text in ("predicted", "all", "value"):
        return targets.overlapping(text) if overlapping and text != "value" else text
    typed = _Typed(text, tuple(class_names), option)
    kind, colon, rest = text.partition(":")
    if colon and kind in _KINDS and text not in class_names:
        asked = _Asked(typed, rest, image, turned, prepared, overlapping)
        return _KINDS[kind](asked)
    numbers = [typed.class_number(part.strip()) for part in text.split(",")]
    if overlapping:
        return targets.overlapping(numbers)
    return numbers[0] if len(numbers) == 1 else targets.classes(numbers)


@dataclass(frozen=True)
class _Typed:
    """The whole text, the names that it may hold, and what the place where it stands is called."""

    text: str
    names: tuple[str, ...]
    option: str

    @property
    def said(self) -> str:
        return f"{self.option} is {self.text!r}"

    def class_number(self, part: str) -> int:
        if part in self.names:
            return self.names.index(part)
        part = part.removeprefix("class:")
        if part.isdecimal() and len(part) < 19:  # longer ones are no numbers of classes
            return int(part)
        if part in self.names:
            return self.names.index(part)
        raise self.meaningless()

    def _without_names(self) -> str:
        """How names come to a network that has none, if a name seems to be meant."""
        kind, colon, rest = self.text.partition(":")
        _, at, number = self.text.rpartition("@")
        of_classes = kind in ("contrast", "probability", "log-probability")
        meant = number if at else rest if of_classes else "" if colon else self.text
        if self.names or not any(part.strip()[:1].isalpha() for part in meant.split(",")):
            return ""
        give = "give --classes" if self.option.startswith("--") else "give weights that hold them"
        return f"This network has no class names: {give}, or return (network, names) from build(). "

    def meaningless(self) -> InputError:
        near = difflib.get_close_matches(self.text, self.names, n=1)
        hint = f"Did you mean {near[0]}? " if near else self._without_names()
        names = f"the name of a class ({', '.join(self.names)}), " if self.names else ""
        return InputError(f"{self.said}. {hint}Accepted: {names}{ACCEPTED}.")


class _Asked:
    """The part of a target behind its kind, cut into place and class."""

    def __init__(
        self,
        typed: _Typed,
        rest: str,
        image: Volume | None,
        turned: bool,
        prepared: Prepared | None,
        overlapping: bool,
    ) -> None:
        self.typed, self.image, self.turned = typed, image, turned
        self.prepared, self.overlapping = prepared, overlapping
        self.rest = rest
        place, at, number = rest.rpartition("@")
        self.place = place if at else rest
        self.number = typed.class_number(number.strip()) if at else 1

    def voxels(self, text: str) -> list[int]:
        parts = text.split(",")
        if not all(part.strip().isdecimal() for part in parts):
            raise self.typed.meaningless()
        numbers = [int(part) for part in parts]
        return numbers[::-1] if self.turned else numbers

    def voxel(self) -> list[int]:
        """One voxel, in the grid of the network's output."""
        at = self.voxels(self.place)
        if self.prepared is None:
            return at
        self._check_inside(at, at)
        grid = self.prepared.grid
        moved = np.floor(grid.index(self.prepared.original.world(at)) + 0.5).astype(int)
        if not all(0 <= i < n for i, n in zip(moved, grid.shape, strict=True)):
            raise self._unseen()
        return moved.tolist()

    def carried(self, inside: np.ndarray) -> np.ndarray:
        """Carry a mask of the image's voxels into the grid of the network's output."""
        if self.prepared is None:
            return inside.T if self.turned else inside
        found = self.prepared.carry(inside)
        if not found.any():
            raise self._unseen()
        return found

    def box(self, low: list[int], high: list[int]) -> np.ndarray:
        """Carry a box of the image's voxels over."""
        assert self.prepared is not None
        self._check_inside(low, [i - 1 for i in high])
        inside = np.zeros(self.prepared.original.shape, bool)
        inside[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
        return self.carried(inside)

    def _check_inside(self, low: list[int], last: list[int]) -> None:
        assert self.prepared is not None
        shape = self.prepared.original.shape
        fits = len(low) == len(last) == 3 and all(
            0 <= a <= b < n for a, b, n in zip(low, last, shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"{self.typed.said}, which is empty or not inside the volume's {shape} "
                f"voxels (z, y, x), counted from 0."
            )

    def _unseen(self) -> InputError:
        return InputError(
            f"{self.typed.said}, which lies outside the part of the volume that the "
            f"network sees after its preprocessing."
        )


def _contrast(asked: _Asked) -> Any:
    numbers = [asked.typed.class_number(part.strip()) for part in asked.rest.split(",")]
    if len(numbers) > 2:
        raise asked.typed.meaningless()
    return targets.contrast(*numbers)


def _mask(asked: _Asked) -> Any:
    values = read_on_grid(Path(asked.place), asked.image, "mask")
    # a label map numbers its regions like the classes; a mask is 0 and something
    several = len(np.unique(values)) > 2
    inside = values == asked.number if several else values != 0
    if not inside.any():
        raise InputError(
            f"The mask {asked.place!r} is empty"
            + (f": no voxel has the label {asked.number}." if several else ".")
        )
    return targets.mask(asked.carried(inside), asked.number)


def read_on_grid(path: Path, image: Volume | None, what: str) -> np.ndarray:
    """Read a mask or label map (z, y, x) that must be on the grid of an image.

    Raises
    ------
    InputError
        If it has several channels, another shape, or lies elsewhere in the world.
    """
    volume = read_volume(path)
    name = str(path)
    if volume.channels != 1:
        raise InputError(f"The {what} {name!r} has {volume.channels} channels; give one.")
    if image is not None:
        if volume.shape != image.shape:
            raise InputError(
                f"The {what} {name!r} has {volume.shape} voxels (z, y, x), the image "
                f"{image.shape}. Resample it to the image's grid."
            )
        if image.unit == volume.unit != "voxel" and not np.allclose(
            volume.affine, image.affine, atol=1e-2 * min(image.voxel_size)
        ):
            raise InputError(
                f"The {what} {name!r} has the image's shape, but lies elsewhere in the world: "
                f"their affines differ. Resample it to the image's grid."
            )
    return np.asarray(volume.voxels).reshape(volume.shape)


def _box(asked: _Asked) -> Any:
    corners = [asked.voxels(part) for part in asked.place.split("-")]
    if len(corners) != 2:
        raise asked.typed.meaningless()
    if asked.prepared is None:
        return targets.box(corners[0], corners[1], asked.number)
    inside = targets.mask(asked.box(*corners), asked.number)
    places = " to ".join(", ".join(map(str, corner)) for corner in corners)
    return _called(f"class {asked.number} in the box {places}", inside)


def _voxel(asked: _Asked) -> Any:
    found = targets.voxel(asked.voxel(), asked.number)
    return _called(f"class {asked.number} at {_spelt(asked)}", found, asked)


def _component(asked: _Asked) -> Any:
    at = None if asked.place == "largest" else asked.voxel()
    if asked.overlapping:
        found = targets.alone(asked.number, targets.component(1, at))
    else:
        found = targets.component(asked.number, at)
    if at is None:
        return found
    return _called(f"class {asked.number}, part at {_spelt(asked)}", found, asked)


def _spelt(asked: _Asked) -> str:
    return ", ".join(part.strip() for part in asked.place.split(","))


def _called(label: str, target: targets.Target, asked: _Asked | None = None) -> targets.Target:
    """The same target, called by its place in the image where the network has another grid."""
    if asked is not None and asked.prepared is None:
        return target

    def score(output: Any) -> Any:
        return replace(cast("targets.Scores", target(output)), labels=(label,))

    return score


def _detection(asked: _Asked) -> Any:
    label = asked.number if "@" in asked.rest else None
    if asked.place == "best":
        return targets.detection(label)
    try:
        corners = [[float(n) for n in part.split(",")] for part in asked.place.split("-")]
        low, high = corners
    except ValueError:
        raise asked.typed.meaningless() from None
    return targets.detection(label, near=[*low, *high])


_KINDS: dict[str, Callable[[_Asked], Any]] = {
    "contrast": _contrast,
    "probability": lambda asked: targets.probability(asked.typed.class_number(asked.rest)),
    "log-probability": lambda asked: targets.log_probability(asked.typed.class_number(asked.rest)),
    "mask": _mask,
    "box": _box,
    "voxel": _voxel,
    "component": _component,
    "detection": _detection,
}
