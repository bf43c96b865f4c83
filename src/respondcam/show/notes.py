"""What a reader must know about a figure beyond its headline, one line each."""

from respondcam.show.caption import Caption
from respondcam.show.scene import Scene
from respondcam.show.theme import format_score
from respondcam.show.world import Index, upright


def scene_alert(scene: Scene, caption: Caption) -> str:
    """Say that a map is zero everywhere, and why if that is known; else nothing."""
    if scene.signed is None or scene.has_colour:
        return ""
    return empty_map(caption)


def empty_map(caption: Caption) -> str:
    """Word the sentence for a map that is zero everywhere."""
    return "The map is zero everywhere" + (f": {caption.why_empty}" if caption.why_empty else ".")


def scene_notes(
    scene: Scene, caption: Caption, channel: int, place: Index | None = None
) -> list[str]:
    """Say where the peak and the planes are, and what is unusual about the volume."""
    notes = list(caption.notes)
    at_peak = False
    if scene.signed is not None and scene.has_colour:
        peak, value = scene.peak()
        at_peak = place == peak
        shape = upright(scene.signed).volume.shape  # in the order of the planes, however stored
        notes.append(
            f"map of {' × '.join(map(str, shape))} voxels (z, y, x), strongest "
            f"{format_score(value, digits=3, sign=True)} at {_voxel(scene, peak)} of the image"
            + (", where the planes meet" if at_peak else "")
        )
    if place is not None and not at_peak:
        notes.append(f"planes through {_voxel(scene, place)} (z, y, x)")
    return notes + _volume_notes(scene, channel)


def _volume_notes(scene: Scene, channel: int) -> list[str]:
    grey, stored = scene.grey, scene.grey.stored
    voxels = grey.volume.voxels
    notes = []
    if stored.channels > 1:
        number = channel % stored.channels
        notes.append(f"channel {number} of {stored.channels} is shown (counted from 0)")
    if voxels.min() == voxels.max():
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


def _voxel(scene: Scene, index: Index) -> str:
    return "voxel " + ", ".join(map(str, scene.grey.stored_index(index)))
