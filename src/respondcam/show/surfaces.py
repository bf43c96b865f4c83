"""Isosurfaces on paper: shaded, without a graphics card or a window.

Triangles are projected along one direction and painted from the farthest to the nearest, so they
can be translucent and stay vector graphics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from respondcam._extras import require
from respondcam.errors import InputError
from respondcam.show.canvas import add_panel
from respondcam.show.theme import signed_colours
from respondcam.volume import Volume
from respondcam.volume.sampling import sample

AZIMUTH, ELEVATION = 30.0, 25.0  # degrees, of the eye: from +x towards +y, and from there up
_LIGHT = np.array([-0.35, 0.55, 0.76])  # from the upper left behind the eye
_SHADE = 0.5  # of a face that looks away from the light


@dataclass(frozen=True, eq=False)
class Surface:
    """Where a volume has one value.

    Parameters
    ----------
    volume
        (z, y, x).
    level
        The value.
    colour
        Of the surface.
    opacity
        0 to 1.
    paint
        Signed values that colour the surface instead of `colour`, in the same world.
    limit
        Value of the strongest colours of `paint`.
    """

    volume: Volume
    level: float
    colour: str = "#9a9a9a"
    opacity: float = 1.0
    paint: Volume | None = None
    limit: float = 1.0


def isosurface(
    volume: Volume, level: float
) -> tuple[Float[np.ndarray, "vertex 3"], Int[np.ndarray, "face 3"]]:
    """Find the triangles where a volume has the value `level`, closed at the border of the box.

    By marching cubes (scikit-image).

    Returns
    -------
    Vertices in the world, x, y, z, and the three vertices of each face; no faces where nothing
    reaches the level.

    Examples
    --------
    >>> voxels = np.zeros((5, 5, 5))
    >>> voxels[2, 2, 2] = 1
    >>> vertices, faces = isosurface(Volume(voxels), 0.5)
    >>> np.ptp(vertices, axis=0).tolist(), len(faces)
    ([1.0, 1.0, 1.0], 8)
    """
    require("skimage", extra="cryoet", purpose="draw surfaces")
    from skimage import measure

    voxels = np.asarray(volume.voxels, np.float64)
    if voxels.ndim != 3:
        raise InputError(f"A surface needs a volume (z, y, x), not one of shape {voxels.shape}.")
    outside = min(float(voxels.min()), level - 1.0)
    closed = np.pad(voxels, 1, constant_values=outside)
    if not closed.max() > level:
        return np.zeros((0, 3)), np.zeros((0, 3), int)
    vertices, faces, _, _ = measure.marching_cubes(closed, level)
    return volume.world(vertices - 1.0), faces


def draw_surfaces(
    figure: Figure,
    box: tuple[float, float, float],
    surfaces: Sequence[Surface],
    *,
    frame: Volume,
) -> Axes:
    """Draw surfaces in one picture, seen from one side.

    Parameters
    ----------
    box
        Left, bottom and side of the square, in inches.
    surfaces
        What to draw.
    frame
        The volume that fills the square, so that pictures of one box have one scale.
    """
    axes = add_panel(figure, box[0], box[1], box[2], box[2])
    eye = _directions()
    triangles, colours = [], []
    for one in surfaces:
        vertices, faces = isosurface(one.volume, one.level)
        if len(faces):
            triangles.append(vertices[faces])
            colours.append(_colours(one, triangles[-1], eye))
    middle = frame.world((np.array(frame.shape) - 1) / 2)
    half = 0.5 * max(n * size for n, size in zip(frame.shape, frame.voxel_size, strict=True))
    half *= 1.1  # corners of a cube reach further, but no particle reaches into them
    axes.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    if not triangles:
        return axes
    seen = (np.concatenate(triangles) - middle) @ eye.T  # right, up, towards the eye
    order = np.argsort(seen[..., 2].mean(axis=1))
    painted = np.concatenate(colours)[order]
    axes.add_collection(
        PolyCollection(
            list(seen[order][..., :2]),
            facecolors=painted,
            edgecolors=painted,
            linewidths=0.1,  # else the page shines through between faces
            rasterized=True,
            antialiaseds=False,
        )
    )
    return axes


def _directions() -> Float[np.ndarray, "3 3"]:
    """Rows: to the right, upwards, and towards the eye, in the world."""
    azimuth, elevation = math.radians(AZIMUTH), math.radians(ELEVATION)
    to_eye = np.array(
        [
            math.cos(elevation) * math.cos(azimuth),
            math.cos(elevation) * math.sin(azimuth),
            math.sin(elevation),
        ]
    )
    right = np.cross([0.0, 0.0, 1.0], to_eye)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(to_eye, right), to_eye])


def _colours(
    one: Surface, triangles: Float[np.ndarray, "face 3 3"], eye: np.ndarray
) -> Float[np.ndarray, "face 4"]:
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    # both sides alike: which one is outside depends on the sign of the values
    facing = np.abs((normals @ eye.T) @ (_LIGHT / np.linalg.norm(_LIGHT)))
    shade = (_SHADE + (1 - _SHADE) * facing)[:, None]
    if one.paint is None:
        colour = np.broadcast_to(to_rgb(one.colour), (len(triangles), 3))
    else:
        points = one.paint.index(triangles.mean(axis=1))
        values = sample(np.asarray(one.paint.voxels, np.float64), points)
        share = np.clip(values / one.limit, -1.0, 1.0)
        colour = np.asarray(signed_colours()((share + 1) / 2))[:, :3]
    return np.concatenate([colour * shade, np.full((len(triangles), 1), one.opacity)], axis=1)
