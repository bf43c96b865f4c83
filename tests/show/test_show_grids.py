"""Many maps side by side, surfaces in 3-D, and the viewer of a notebook."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from respondcam.attribution import Explanation
from respondcam.errors import InputError, MissingExtraError
from respondcam.network.grid import LayerGrid
from respondcam.show import (
    class_grid,
    layer_progression,
    map_grid,
    save_figure,
    surface_figure,
)
from respondcam.show import isosurface as surfaces
from respondcam.volume import Volume


def image() -> Volume:
    index = np.indices((16, 16, 16)) - 7.5
    ball = np.exp(-(index**2).sum(axis=0) / 12)
    return Volume(ball, np.diag([10.0, 10, 10, 1]), "angstrom")


def explanation(layer="conv", scores=(1.0, 3.0, -2.0)) -> Explanation:
    torch.manual_seed(0)
    maps = torch.randn(1, len(scores), 4, 4, 4)
    grid = LayerGrid((4.0,) * 3, (1.5,) * 3, (4,) * 3, (16,) * 3, (0.0,) * 3, "layout")
    names = tuple(f"class {i}" for i in range(len(scores)))
    values = torch.tensor([scores])
    return Explanation(maps, values, names, layer, "respond", grid, source=image())


def texts(figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_classes_stand_in_the_order_of_their_scores_in_common_colours():
    figure = class_grid(explanation())
    names = [text for text in texts(figure) if text.startswith("class ")]
    assert names == ["class 1", "class 0", "class 2"]
    assert any("one scale of colours" in text for text in texts(figure))
    strongest = float(explanation().maps.abs().max())
    bar = next(axes for axes in figure.axes if axes.get_ylim()[0] == -axes.get_ylim()[1])
    assert bar.get_ylim()[1] == pytest.approx(strongest)


def test_classes_of_one_plot(tmp_path):
    figure = explanation().plot(view="classes", theme="dark")
    assert "3 classes" in texts(figure)[0]
    assert save_figure(figure, tmp_path / "classes.pdf").stat().st_size > 1000


def test_layers_stand_in_the_order_given_each_with_its_sum():
    several = [explanation("conv1"), explanation("conv2")]
    found = texts(layer_progression(several, target=1))
    assert found.index("conv1") < found.index("conv2")
    total = float(several[0].maps[0, 1].double().sum())
    assert any(f"{total:.4g}".replace("-", "−")[:5] in text for text in found)
    assert any("colours of its own" in text for text in found)
    assert any("amber raises, blue lowers" in text for text in found)
    blind = [replace(one, method="eigen") for one in several]
    assert any("amber high, blue low" in text for text in texts(layer_progression(blind)))


def test_grids_refuse_what_they_cannot_draw():
    with pytest.raises(InputError, match="1 to 100 maps"):
        map_grid(image(), [], [])
    with pytest.raises(InputError, match="axis=3"):
        map_grid(image(), [image()], [("a", "b")], axis=3)
    with pytest.raises(InputError, match="one explanation for each layer"):
        layer_progression([])


def test_the_surface_shows_volume_and_both_signs_where_they_are(capfd):
    pytest.importorskip("pyvista")
    values = np.zeros((4, 4, 4))
    values[1, 1, 0], values[1, 1, 3] = 1.0, -1.0  # left raises, right lowers
    affine = np.diag([40.0, 40, 40, 1])
    affine[:3, 3] = 15
    figure = surface_figure(image(), Volume(values, affine, "angstrom"))
    picture = np.asarray(figure.axes[1].images[0].get_array(), float)  # from above: x to the right
    amber = np.argwhere(picture[..., 0] - picture[..., 2] > 60)
    blue = np.argwhere(picture[..., 2] - picture[..., 0] > 60)
    assert len(amber) > 50
    assert len(blue) > 50
    assert amber[:, 1].max() < blue[:, 1].min()
    middle = picture.shape[1] / 2
    assert (amber[:, 1].mean() + blue[:, 1].mean()) / 2 == pytest.approx(middle, rel=0.02)
    grey = np.argwhere((np.ptp(picture, axis=-1) < 12) & (picture[..., 0] < 190))
    assert grey.mean(axis=0) == pytest.approx([middle, middle], rel=0.03)
    # from above, y grows upwards: the map is below the middle of the picture's rows
    assert amber[:, 0].mean() > middle
    assert "X server" not in "".join(capfd.readouterr())


def test_where_nothing_draws_in_3d_the_planes_are_shown_and_a_word(monkeypatch):
    pytest.importorskip("pyvista")

    def broken(*_, **__):
        raise RuntimeError("no display and no EGL")

    monkeypatch.setattr("pyvista.Plotter", broken)
    with pytest.raises(surfaces.RendererError, match=r"no display and no EGL.*libegl1"):
        surface_figure(image())
    figure = explanation().plot(view="surface", account=False)
    found = " ".join(texts(figure))
    assert "can draw in 3-D" in found
    assert any(text.startswith("z ") for text in texts(figure))


def test_a_surface_without_pyvista_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvista", None)
    with pytest.raises(MissingExtraError, match=r"respondcam\[report\]"):
        surface_figure(image())


def test_a_constant_volume_has_no_surface_and_says_so():
    pytest.importorskip("pyvista")
    figure = surface_figure(Volume(np.zeros((8, 8, 8))), image_map())
    assert any("no surface" in text for text in texts(figure))


def image_map() -> Volume:
    return Volume(image().voxels[:8, :8, :8])


def test_the_notebook_viewer_holds_image_and_colours():
    pytest.importorskip("ipyniivue")
    viewer = explanation().view(target=1)
    assert [one.name for one in viewer.volumes] == ["image.nii.gz", "map.nii.gz"]


def test_the_notebook_viewer_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    with pytest.raises(MissingExtraError, match=r"respondcam\[notebook\]"):
        explanation().view()
