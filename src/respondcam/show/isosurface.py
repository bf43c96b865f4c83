"""The surface of a volume in 3-D with the positive and negative parts of a map, by PyVista.

Drawn off screen, with or without a graphics card. Where no renderer works the error says so, and
`explanation_figure` falls back to slices.
"""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from respondcam._extras import require
from respondcam.errors import InputError
from respondcam.show.binning import binned
from respondcam.show.canvas import add_panel, text_width, write
from respondcam.show.caption import NOTHING, Caption
from respondcam.show.notes import scene_alert, scene_notes
from respondcam.show.page import MARGIN, Words, make_page
from respondcam.show.scene import Scene, make_scene
from respondcam.show.theme import Theme, format_length, format_score, signed_colours, theme_named
from respondcam.volume import Volume
from respondcam.volume.sampling import sample

_GAP, _TITLE, _FOOT = 0.2, 0.22, 0.55  # inches
_FINEST = 96  # voxels of the volume along an axis: more are not seen at the size of a figure
_SMOOTH = 40  # samples of a map along its longest axis
_SMALLEST = 0.02  # of the largest piece of a surface: what is smaller is noise
_DPI = 200
_GREY = "#a8a8a8"
_VEIL = 0.5  # opacity of the map's contours: the volume inside stays visible
_VIEWS = (("from the front and above", (1.0, -1.7, 0.9)), ("from above", (0.0, -0.001, 1.0)))


class RendererError(InputError):
    """There is no way to draw in 3-D on this machine."""


def surface_figure(
    volume: Volume,
    map: Volume | None = None,
    *,
    level: float | None = None,
    share: float = 0.5,
    channel: int = 0,
    limit: float | None = None,
    theme: str = "light",
    caption: Caption = NOTHING,
) -> Figure:
    """Draw where a volume has one value, and where a map reaches a share of its strongest value.

    Parameters
    ----------
    volume
        The image.
    map
        Signed values in units of the score, in the same world; None for the image alone.
    level
        Value of the volume's surface; None lies half way between the background (median) and the
        brightest half percent of the smoothed volume.
    share
        Of the strongest value, above 0 and below 1: where the map's contours lie, on both sides of
        zero.
    channel, limit, theme, caption
        As in `orthogonal_planes`.

    Raises
    ------
    RendererError
        If nothing on this machine can draw in 3-D.
    MissingExtraError
        If PyVista is not installed.
    InputError
        If an argument is not one of these, or map and volume have no place in common.

    Examples
    --------
    >>> index = np.indices((16, 16, 16)) - 7.5
    >>> ball = Volume(np.exp(-(index**2).sum(axis=0) / 20))
    >>> figure = surface_figure(ball)  # doctest: +SKIP
    """
    if not 0 < share < 1:
        raise InputError(f"share={share!r}: give a share of the strongest value, 0 to 1.")
    require("pyvista", extra="report", purpose="draw surfaces in 3-D")
    look = theme_named(theme)
    scene = make_scene(volume, map, channel=channel, limit=limit)
    side = (look.width_inches - 2 * MARGIN - _GAP) / 2
    pixels = round(side * _DPI)
    meshes, at = _meshes(scene, level, share)
    pictures = _render(meshes, scene, pixels, look)
    notes = [*scene_notes(scene, caption, channel), _words(scene, at, share)]
    words = Words(caption, scene_alert(scene, caption), notes)
    figure, foot = make_page(side + _TITLE + _FOOT, words, look)
    for number, (name, picture) in enumerate(zip(_VIEWS, pictures, strict=True)):
        left = MARGIN + number * (side + _GAP)
        bottom = foot + _FOOT
        add_panel(figure, left, bottom, side, side).imshow(picture, aspect="auto")
        write(figure, left, bottom + side + 0.06, name[0], size=look.small_size, colour=look.ink)
    _legend(figure, foot, share, look, caption.ends() if scene.has_colour else ())
    return figure


def _words(scene: Scene, level: float | None, share: float) -> str:
    extent = [format_length(float(f"{x:.3g}"), scene.grey.volume.unit) for x in scene.grey.extent]
    box = f"box of {' × '.join(extent)} (z, y, x)"
    if level is None:
        return f"{box}; the volume has no surface, since it is constant"
    where = f"surface of the smoothed volume at {format_score(level)}"
    if not scene.has_colour:
        return f"{box}; {where}"
    contour = format_score(share * scene.limit, digits=3)
    return f"{box}; {where}; contours at ±{contour} per voxel of the map"


def _legend(figure: Figure, foot: float, share: float, theme: Theme, ends: tuple[str, ...]) -> None:
    entries = [("volume", _GREY)]
    if ends:
        percent = f"{100 * share:.0f} % of the strongest"
        up, down = (_hex(1.0), _hex(-1.0))
        entries += [(f"{ends[1]}: {percent}", up), (f"{ends[0]}: {percent}", down)]
    left = MARGIN
    for text, colour in entries:
        swatch = add_panel(figure, left, foot + 0.2, 0.16, 0.11)
        swatch.set_facecolor(colour)
        swatch.axis("on")
        swatch.set(xticks=[], yticks=[])
        swatch.spines[:].set_visible(False)
        write(figure, left + 0.22, foot + 0.2, text, size=theme.small_size, colour=theme.ink)
        left += 0.5 + text_width(text, theme.small_size)


def _hex(share: float) -> str:
    from matplotlib.colors import to_hex

    return to_hex(signed_colours()((share + 1) / 2))


def _meshes(
    scene: Scene, level: float | None, share: float
) -> tuple[list[tuple[Any, str, float]], float | None]:
    """Give surfaces with colour and opacity, and the level of the volume's."""
    grey = scene.grey.volume
    small = binned(grey, -(-max(grey.shape) // _FINEST))
    smooth = _grid(small).gaussian_smooth(scalars="values", std_dev=1.0)
    values = np.asarray(smooth["values"])
    meshes: list[tuple[Any, str, float]] = []
    at: float | None = None
    if values.min() < values.max():
        at = float(np.quantile(values, (0.5, 0.995)).mean()) if level is None else level
        meshes.append((_placed(_contour(smooth, at, tidy=True), small), _GREY, 1.0))
    if scene.signed is not None and scene.has_colour:
        fine = _finer(scene.signed)
        for sign in (1, -1):
            contour = _contour(_grid(fine), sign * share * scene.limit)
            meshes.append((_placed(contour, fine), _hex(float(sign)), _VEIL))
    return [mesh for mesh in meshes if mesh[0].n_cells], at


def _grid(volume: Volume) -> Any:
    import pyvista

    grid = pyvista.ImageData(dimensions=volume.shape[::-1])
    grid["values"] = np.ascontiguousarray(volume.voxels).ravel()  # x runs fastest in both
    return grid


def _contour(grid: Any, level: float, *, tidy: bool = False) -> Any:
    surface = grid.contour([level], scalars="values")
    if not tidy or not surface.n_cells:
        return surface
    pieces = surface.connectivity("all")
    sizes = np.bincount(pieces.cell_data["RegionId"])
    kept = np.flatnonzero(sizes >= _SMALLEST * sizes.max())
    if len(kept) == len(sizes):
        return surface
    return pieces.extract_cells(np.isin(pieces.cell_data["RegionId"], kept)).extract_surface(
        algorithm="dataset_surface"
    )


def _placed(mesh: Any, volume: Volume) -> Any:
    return mesh.transform(volume.affine, inplace=False) if mesh.n_cells else mesh


def _finer(map: Volume) -> Volume:
    """Sample a coarse map finely, with the margin over which it falls to zero."""
    fine = max(1, round(_SMOOTH / max(map.shape)))
    axes = [np.arange(-1.0, n + 1e-6, 1 / fine) for n in map.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    affine = map.affine @ np.diag([1 / fine, 1 / fine, 1 / fine, 1.0])
    affine[:3, 3] = map.world((-1, -1, -1))
    return Volume(sample(map.voxels, index), affine, map.unit)


def _render(
    meshes: list[tuple[Any, str, float]], scene: Scene, pixels: int, theme: Theme
) -> list[np.ndarray]:
    import pyvista

    pictures = []
    diagonal = float(np.linalg.norm(scene.grey.extent))
    with _quiet_vtk():
        try:
            plotter: Any = pyvista.Plotter(off_screen=True, window_size=[pixels, pixels])
            plotter.set_background(theme.page)
            for mesh, colour, opacity in meshes:
                plotter.add_mesh(mesh, color=colour, opacity=opacity, smooth_shading=True)
            plotter.add_mesh(_box(scene), color=theme.line, line_width=1)
            plotter.enable_parallel_projection()
            # depth peeling would sort what is seen through, but some software renderers lose it
            for _, direction in _VIEWS:
                up = (0, 1, 0) if direction[2] == 1 else (0, 0, 1)
                plotter.view_vector(direction, viewup=up)
                plotter.camera.parallel_scale = 0.5 * diagonal  # the same in every view
                pictures.append(np.array(plotter.screenshot(return_img=True)))
            plotter.close()
        except Exception as error:
            raise RendererError(_no_renderer(error)) from error
    if not all(picture.std() > 0 for picture in pictures):
        raise RendererError(_no_renderer("it drew an empty picture"))
    return pictures


def _box(scene: Scene) -> Any:
    import pyvista

    z, y, x = scene.grey.volume.shape
    box = pyvista.Box(bounds=(-0.5, x - 0.5, -0.5, y - 0.5, -0.5, z - 0.5))
    return box.extract_all_edges().transform(scene.grey.volume.affine, inplace=False)


def _no_renderer(why: object) -> str:
    text = " ".join(str(why).split())[:200]
    return (
        f"Nothing on this machine can draw in 3-D ({text}). Install a software renderer (on Debian "
        f"and Ubuntu: apt-get install libegl1 libgl1), or use slices: view='planes'."
    )


@contextmanager
def _quiet_vtk() -> Generator[None, None, None]:
    """Keep VTK from printing that there is no screen: it draws without one."""
    from vtkmodules.vtkCommonCore import vtkLogger

    before = vtkLogger.GetCurrentVerbosityCutoff()
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyVista about options of other versions
            yield
    finally:
        vtkLogger.SetStderrVerbosity(before)
