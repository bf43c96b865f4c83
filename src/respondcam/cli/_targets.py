"""What ``--target`` means: from a line of text to a target."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from respondcam.attribution import targets
from respondcam.errors import InputError
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
) -> Any:
    """Read the value of ``--target``.

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
        return text
    kind, colon, rest = text.partition(":")
    if colon and kind in _KINDS and text not in class_names:
        return _KINDS[kind](_Asked(text, rest, tuple(class_names), image, turned))
    numbers = [_class_number(part.strip(), text, class_names) for part in text.split(",")]
    if len(numbers) == 1:
        return numbers[0]
    return targets.classes(numbers)


class _Asked:
    """The part of a target behind its kind, cut into place and class."""

    def __init__(
        self,
        text: str,
        rest: str,
        names: tuple[str, ...],
        image: Volume | None,
        turned: bool,
    ) -> None:
        self.text, self.names, self.image, self.turned = text, names, image, turned
        self.rest = rest
        place, at, number = rest.rpartition("@")
        self.place = place if at else rest
        self.number = self.class_number(number.strip()) if at else 1

    def class_number(self, part: str) -> int:
        return _class_number(part, self.text, self.names)

    def voxels(self, text: str) -> list[int]:
        parts = text.split(",")
        if not all(part.strip().isdecimal() for part in parts):
            raise _meaningless(self.text, self.names)
        numbers = [int(part) for part in parts]
        return numbers[::-1] if self.turned else numbers


def _contrast(asked: _Asked) -> Any:
    numbers = [asked.class_number(part.strip()) for part in asked.rest.split(",")]
    if len(numbers) > 2:
        raise _meaningless(asked.text, asked.names)
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
    return targets.mask(inside.T if asked.turned else inside, asked.number)


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
        raise _meaningless(asked.text, asked.names)
    return targets.box(corners[0], corners[1], asked.number)


def _component(asked: _Asked) -> Any:
    at = None if asked.place == "largest" else asked.voxels(asked.place)
    return targets.component(asked.number, at)


def _detection(asked: _Asked) -> Any:
    label = asked.number if "@" in asked.rest else None
    if asked.place == "best":
        return targets.detection(label)
    try:
        corners = [[float(n) for n in part.split(",")] for part in asked.place.split("-")]
        low, high = corners
    except ValueError:
        raise _meaningless(asked.text, asked.names) from None
    return targets.detection(label, near=[*low, *high])


_KINDS: dict[str, Callable[[_Asked], Any]] = {
    "contrast": _contrast,
    "probability": lambda asked: targets.probability(asked.class_number(asked.rest)),
    "log-probability": lambda asked: targets.log_probability(asked.class_number(asked.rest)),
    "mask": _mask,
    "box": _box,
    "voxel": lambda asked: targets.voxel(asked.voxels(asked.place), asked.number),
    "component": _component,
    "detection": _detection,
}


def _class_number(part: str, text: str, class_names: Sequence[str]) -> int:
    if part in class_names:
        return list(class_names).index(part)
    part = part.removeprefix("class:")
    if part.isdecimal():
        return int(part)
    if part in class_names:
        return list(class_names).index(part)
    raise _meaningless(text, class_names)


def _meaningless(text: str, class_names: Sequence[str]) -> InputError:
    names = f", a class name ({', '.join(class_names)})" if class_names else ""
    return InputError(f"--target is {text!r}. Accepted: {ACCEPTED}{names}.")
