"""What was asked for, marked on a plane: the outline of a box."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from respondcam.show.scene import Plane, Scene
from respondcam.show.world import Index

Box = tuple[Index, Index]
"""First voxel (z, y, x) of a volume's array, and the one behind the last."""


def outline(axes: Axes, scene: Scene, plane: Plane, box: Box) -> Rectangle:
    """Draw a box's outline on a plane of a scene, dotted where the plane passes it by."""
    low, high = np.array(box[0]), np.array(box[1]) - 1
    ends = [scene.grey.index_of_stored(tuple(corner.tolist())) for corner in (low, high)]
    first, last = np.min(ends, axis=0), np.max(ends, axis=0)
    size = np.array(scene.grey.volume.voxel_size)
    start, length = first * size, (last - first + 1) * size
    vertical, horizontal = plane.axes
    inside = first[plane.across] <= plane.index <= last[plane.across]
    found = Rectangle(
        (start[horizontal], start[vertical]),
        length[horizontal],
        length[vertical],
        fill=False,
        edgecolor="#ffffff",
        linewidth=1.0,
        linestyle="solid" if inside else (0, (1, 2)),
        path_effects=[withStroke(linewidth=2.2, foreground="#000000b0")],  # seen on white too
    )
    axes.add_patch(found)
    return found
