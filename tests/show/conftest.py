"""Reading a figure back: pixels of its panels, and the letters around them."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def _pixels(figure: Figure, axes: Axes) -> np.ndarray:
    """Give red, green, blue of the pixels inside axes, float (row from above, column, 3)."""
    figure.canvas.draw()
    page = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)
    box = axes.get_window_extent()
    left, right = round(box.x0), round(box.x1)
    top, bottom = len(page) - round(box.y1), len(page) - round(box.y0)
    return page[top:bottom, left:right]


def _letters(figure: Figure, axes: Axes) -> dict[str, str]:
    """Find the one-letter text nearest to each side of a panel."""
    figure.canvas.draw()
    box = axes.get_window_extent()
    middle_x, middle_y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
    sides = {
        "left": (box.x0, middle_y),
        "right": (box.x1, middle_y),
        "bottom": (middle_x, box.y0),
        "top": (middle_x, box.y1),
    }
    found = {}
    for side, (x, y) in sides.items():
        near = []
        for text in figure.texts:
            place = text.get_window_extent()
            dx = max(place.x0 - x, x - place.x1, 0)
            dy = max(place.y0 - y, y - place.y1, 0)
            if text.get_text() in {*"LRAPIS", "+x", "+y", "+z"} and np.hypot(dx, dy) < 12:
                near.append(text.get_text())
        assert len(near) <= 1, (side, near)
        found[side] = near[0] if near else ""
    return found


@pytest.fixture
def pixels() -> Callable[[Figure, Axes], np.ndarray]:
    return _pixels


@pytest.fixture
def letters() -> Callable[[Figure, Axes], dict[str, str]]:
    return _letters
