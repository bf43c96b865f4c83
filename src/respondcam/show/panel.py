"""One plane on the page: the volume in grey, the map over it in colour, and its names around it."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from respondcam.show.canvas import add_panel, write
from respondcam.show.legend import contours, edge_letters
from respondcam.show.scene import Plane, Scene
from respondcam.show.theme import Theme, format_length, signed_rgba

TITLE = 0.36  # inches above a plane, for its name and the upper letter
LETTER = 0.16  # inches below and beside a plane, for the other letters
THINNEST = 0.05  # inches: a plane of a single row of voxels stays visible

_PLANE_NAMES = ("axial", "coronal", "sagittal")
_AXIS_NAMES = ("z", "y", "x")


def panel_size(plane_height: float, plane_width: float, scale: float) -> tuple[float, float]:
    """Height and width in inches of a plane drawn at `scale` inches per unit of length."""
    return max(plane_height * scale, THINNEST), max(plane_width * scale, THINNEST)


def draw_plane(
    figure: Figure,
    scene: Scene,
    plane: Plane,
    corner: tuple[float, float],
    scale: float,
    *,
    theme: Theme,
    title: str = "",
    letters: bool = True,
) -> Axes:
    """Draw a plane to scale with its lower left corner at a place in inches.

    Returns
    -------
    The axes; data coordinates are lengths in the volume's unit from the plane's lower left corner.
    """
    height, width = panel_size(plane.height, plane.width, scale)
    axes = add_panel(figure, *corner, width, height)
    extent = (0.0, plane.width, 0.0, plane.height)
    low, high = scene.window
    placed = {"extent": extent, "origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    axes.imshow(plane.grey, cmap="gray", vmin=low, vmax=high, **placed)
    if plane.signed is not None:
        axes.imshow(signed_rgba(plane.signed, scene.limit), **placed)
        contours(axes, plane.signed, plane.width, plane.height, scene.limit)
    left, bottom = corner
    above = bottom + height + (TITLE - 0.14 if letters else 0.06)
    write(figure, left, above, title, size=theme.small_size, colour=theme.ink)
    if letters:
        vertical, horizontal = (scene.grey.letters(axis) for axis in plane.axes)
        edge_letters(figure, (left, bottom, width, height), vertical, horizontal, theme=theme)
    return axes


def plane_title(scene: Scene, plane: Plane) -> str:
    """Name the plane: its direction, the slice in the stored array, and the place in the world."""
    grey = scene.grey
    names = _PLANE_NAMES if grey.volume.unit == "mm" else _AXIS_NAMES
    title = f"{names[plane.across]} {plane.number}"
    if grey.volume.unit == "voxel" or grey.tilt_degrees > 1:
        return title  # a tilted plane has no single place along an axis of the world
    return f"{title} ({format_length(float(f'{plane.world:.4g}'), grey.volume.unit)})"
