"""Where the planes and the view in three dimensions are on the stage of a report."""

from dataclasses import dataclass

_GAP = 0.008  # of the stage's longer side
_SMALL = 0.6  # of the volume's longest side: a smaller view in three dimensions goes elsewhere
_BESIDE, _BELOW = 0.75, 0.5  # of the planes' height or width: the size of the view there
_AXIAL, _CORONAL, _SAGITTAL, _RENDER = 0, 1, 2, 4  # as the viewer counts


@dataclass(frozen=True)
class Stage:
    """A stage and its tiles.

    Parameters
    ----------
    aspect
        Width by height.
    tiles
        What is shown (as the viewer counts: 0, 1, 2 across z, y, x, and 4 in three dimensions),
        and left, top, width and height as shares of the stage.
    """

    aspect: float
    tiles: tuple[tuple[int, tuple[float, float, float, float]], ...]


def tiled(tall: float, deep: float, wide: float) -> Stage:
    """Lay out a volume's planes, all in one scale, and the view in three dimensions.

    The plane across z is below that across y, and that across x beside it. The view in three
    dimensions fills the corner that they leave. In a volume that is thin along y the corner is
    small: then the view has a tile of its own, beside planes that are tall, below those that are
    not.

    Parameters
    ----------
    tall, deep, wide
        Along z, y and x, in any unit of length.

    Examples
    --------
    >>> cube, slab = tiled(1.0, 1.0, 1.0), tiled(3.0, 1.0, 2.0)
    >>> cube.aspect, slab.aspect > 1
    (1.0, True)
    """
    across, down = wide + deep, tall + deep
    gap = _GAP * max(across, down)
    width, height = across + gap, down + gap
    view = (wide + gap, tall + gap, deep, deep)
    if deep < _SMALL * max(wide, tall):
        if down >= across:
            view = (width + gap, 0.0, _BESIDE * height, height)
            width += gap + view[2]
        else:
            view = (0.0, height + gap, width, _BELOW * width)
            height += gap + view[3]
    boxes = {
        _CORONAL: (0.0, 0.0, wide, tall),
        _SAGITTAL: (wide + gap, 0.0, deep, tall),
        _AXIAL: (0.0, tall + gap, wide, deep),
        _RENDER: view,
    }
    shares = (
        (shown, (left / width, top / height, own / width, high / height))
        for shown, (left, top, own, high) in boxes.items()
    )
    return Stage(width / height, tuple(shares))
