"""Isosurfaces: where they are, that they are closed, and what is drawn."""

import numpy as np
import pytest
from matplotlib.collections import PolyCollection

from respondcam.show.average import average_figure
from respondcam.show.canvas import new_figure
from respondcam.show.surfaces import Surface, draw_surfaces, isosurface
from respondcam.show.theme import theme_named
from respondcam.volume import Volume


def ball(radius: float, *, size: int = 24, voxel: tuple[float, ...] = (1, 1, 1)) -> Volume:
    """Distance from the middle, falling: the surface at 0 is a sphere of `radius`; x, y, z."""
    affine = np.diag([*voxel, 1.0])
    affine[:3, 3] = (100, -50, 7)
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1)
    away = (grid - (size - 1) / 2) * np.array(voxel)[::-1]
    return Volume(radius - np.linalg.norm(away, axis=-1), affine, "angstrom")


def area(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


@pytest.mark.parametrize("voxel", [(1, 1, 1), (2, 1, 1.5)])
def test_a_ball_is_a_sphere_in_the_world(voxel: tuple[float, ...]) -> None:
    volume = ball(8.0, voxel=voxel)
    vertices, faces = isosurface(volume, 0.0)
    middle = volume.world(np.full(3, 11.5))
    np.testing.assert_allclose(np.linalg.norm(vertices - middle, axis=1), 8, atol=0.1)
    assert area(vertices, faces) == pytest.approx(4 * np.pi * 64, rel=0.02)


def test_surfaces_are_closed_at_the_border() -> None:
    vertices, faces = isosurface(Volume(np.ones((3, 4, 5))), 0.5)
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    _, times = np.unique(edges, axis=0, return_counts=True)
    assert (times == 2).all()  # every edge belongs to two faces
    assert np.ptp(vertices, axis=0).tolist() == pytest.approx([5, 4, 3], abs=1.1)


def test_nothing_reaches_the_level() -> None:
    vertices, faces = isosurface(Volume(np.zeros((3, 3, 3))), 1.0)
    assert len(vertices) == len(faces) == 0
    figure = new_figure(2.0, 2.0, theme_named("light"))
    volume = Volume(np.zeros((3, 3, 3)))
    axes = draw_surfaces(figure, (0.0, 0.0, 2.0), [Surface(volume, 1.0)], frame=volume)
    assert not axes.collections


def test_paint_colours_faces_by_their_values() -> None:
    volume = ball(8.0)
    x = np.broadcast_to(np.linspace(-1, 1, 24), (24, 24, 24))
    figure = new_figure(2.0, 2.0, theme_named("light"))
    painted = Surface(volume, 0.0, paint=volume.with_voxels(x.copy()), limit=1.0)
    axes = draw_surfaces(figure, (0.0, 0.0, 2.0), [painted], frame=volume)
    (collection,) = axes.collections
    assert isinstance(collection, PolyCollection)
    colours = np.asarray(collection.get_facecolor())
    warm = colours[:, 0] > colours[:, 2]
    assert 0.35 < warm.mean() < 0.65  # one half each


def test_the_nearest_face_is_painted_last() -> None:
    volume = ball(5.0)
    affine = volume.affine.copy()
    affine[:3, 3] += 30 * np.array([0.78, 0.45, 0.42])  # towards the eye
    front = Volume(volume.voxels, affine, "angstrom")
    figure = new_figure(2.0, 2.0, theme_named("light"))
    surfaces = [Surface(front, 0.0, "#ff0000"), Surface(volume, 0.0, "#0000ff")]
    axes = draw_surfaces(figure, (0.0, 0.0, 2.0), surfaces, frame=volume)
    colours = np.asarray(axes.collections[0].get_facecolor())
    half = len(colours) // 2
    assert (colours[:half, 2] > colours[:half, 0]).all()
    assert (colours[half:, 0] > colours[half:, 2]).all()


def test_an_average_without_any_map_is_drawn() -> None:
    volume = ball(8.0)
    nothing = volume.with_voxels(np.zeros(volume.shape))
    figure = average_figure(
        volume, nothing, nothing, name="ball", count=3, score=0.0, method="respond", layer="conv"
    )
    assert "ball, 3 particles" in [text.get_text() for text in figure.texts]


def test_the_slices_of_an_average_say_where_how_large_and_how_strong(letters) -> None:
    density = ball(8.0)
    spread = density.with_voxels(np.linspace(0, 2, density.voxels.size).reshape(density.shape))
    figure = average_figure(
        density, density, spread, name="ball", count=3, score=0.0, method="respond", layer="conv"
    )
    words = [text.get_text() for text in figure.texts]
    middle = density.shape[0] // 2
    assert {f"z {middle}: density and map", f"z {middle}: spread"} <= set(words)
    assert any(word.endswith(" Å") for word in words)  # the scale bar
    assert "black 0.0020, white 2.0" in " ".join(words)
    slices = [axes for axes in figure.axes if len(axes.images) and axes.get_xlim()[0] == 0.0]
    assert letters(figure, slices[0]) == {"left": "", "right": "+x", "bottom": "", "top": "+y"}
    figure.canvas.draw()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            assert not one.overlaps(other)
