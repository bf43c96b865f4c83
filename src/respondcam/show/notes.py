"""What a reader must know about a figure beyond its headline, one line each."""

import numpy as np

from respondcam.show.caption import AccountLine, Caption
from respondcam.show.scene import Scene
from respondcam.show.theme import format_score
from respondcam.show.world import Index, upright

_MOST_OPEN = 0.5  # of what the image adds to the score: a map that shows the smaller part
_ROUNDED = 1 + 1e-6  # a limit taken from the map itself may have been rounded


def scene_alert(scene: Scene, caption: Caption) -> str:
    """Say that a map is zero everywhere, or leaves most of the score open; else nothing."""
    if scene.signed is None:
        return ""
    return mostly_open(caption.account) if scene.has_colour else empty_map(caption)


def mostly_open(account: AccountLine | None) -> str:
    """Word the sentence for an account whose gap is most of what the image adds to the score.

    Examples
    --------
    >>> mostly_open(AccountLine(3.0, 1.0, 0.5, 1.5))
    'The map leaves 75 % of what the image adds to the score open: it shows the smaller part.'
    >>> mostly_open(AccountLine(3.0, 1.0, 1.9, 0.1))
    ''
    """
    if account is None or account.score == account.baseline:
        return ""
    share = abs(account.gap / (account.score - account.baseline))
    if share > 1:
        return (
            "The map's gap is larger than all that the image adds to the score: no account of it."
        )
    if share > _MOST_OPEN:
        return (
            f"The map leaves {100 * share:.0f} % of what the image adds to the score open: it "
            f"shows the smaller part."
        )
    return ""


def empty_map(caption: Caption) -> str:
    """Word the sentence for a map that is zero everywhere."""
    return "The map is zero everywhere" + (f": {caption.why_empty}" if caption.why_empty else ".")


def scene_notes(
    scene: Scene,
    caption: Caption,
    channel: int,
    place: Index | None = None,
    cut_at: Index = (0, 0, 0),
) -> list[str]:
    """Say where the peak and the planes are, and what is unusual about the volume.

    `cut_at` is the first voxel of a volume that was cut out of a larger one, as it is stored.
    """
    notes = list(caption.notes)
    below = "image" if caption.has_image else "input"
    at_peak = False
    if scene.signed is not None and scene.has_colour:
        peak, value = scene.peak()
        at_peak = place == peak
        notes.append(
            _size_and_peak(scene, value, f"{_voxel(scene, peak, cut_at)} of the {below}")
            + (", where the planes meet" if at_peak else "")
        )
        notes += beyond_colours(scene.signed.voxels, scene.limit)
    if place is not None and not at_peak:
        notes.append(f"planes through {_voxel(scene, place)} (z, y, x)")
    return notes + _volume_notes(scene, channel, has_image=caption.has_image)


def _size_and_peak(scene: Scene, value: float, where: str) -> str:
    """Size, value and place in the words of the image's file, whatever is drawn where."""
    assert scene.signed is not None
    strongest = format_score(value, digits=3, sign=True)
    if scene.signed.voxels.size == 1:
        return f"map of a single voxel, {strongest}, which tells no place; its centre is at {where}"
    turned = upright(scene.signed).volume.shape
    shape = [turned[scene.grey.axis_of_stored(axis)] for axis in range(3)]
    size = " × ".join(map(str, shape))
    # between voxels of the image the written map has other values, so the place is a centre's
    return f"map of {size} voxels (z, y, x), the strongest {strongest} with its centre at {where}"


def beyond_colours(shown: np.ndarray, limit: float) -> list[str]:
    """Say that a limit that was given cuts the map's strongest values.

    Examples
    --------
    >>> print(beyond_colours(np.array([0.5, -2.0, 1.0, 0.0]), 1.0)[0])
    25 % of the map lies beyond ±1.00, where scale and colours end
    >>> beyond_colours(np.array([0.5, -1.0]), 1.0)
    []
    """
    beyond = float((np.abs(shown) > limit * _ROUNDED).mean())
    if not beyond:
        return []
    share = "less than 0.1" if beyond < 0.001 else f"{100 * beyond:.2g}"
    end = format_score(limit, digits=3)
    return [f"{share} % of the map lies beyond ±{end}, where scale and colours end"]


def _volume_notes(scene: Scene, channel: int, *, has_image: bool) -> list[str]:
    grey, stored = scene.grey, scene.grey.stored
    voxels = grey.volume.voxels
    notes = []
    if stored.channels > 1:
        number = channel % stored.channels
        notes.append(f"channel {number} of {stored.channels} is shown (counted from 0)")
    if has_image and voxels.min() == voxels.max():
        notes.append(
            f"the volume is constant: every voxel is {format_score(float(voxels.flat[0]))}"
        )
    if stored.unit == "voxel":
        notes.append("the voxel size is not known: lengths are in voxels")
    if grey.tilt_degrees > 1:
        notes.append(
            f"the volume's axes are tilted by up to {grey.tilt_degrees:.0f}° against the world's: "
            f"the letters name the nearest direction"
        )
    return notes


def _voxel(scene: Scene, index: Index, cut_at: Index = (0, 0, 0)) -> str:
    stored = scene.grey.stored_index(index)
    return "voxel " + ", ".join(str(a + b) for a, b in zip(stored, cut_at, strict=True))
