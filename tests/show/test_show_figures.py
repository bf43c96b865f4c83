"""From an explanation to its figure: the right map, in its place, with its words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from respondcam.attribution import Explanation
from respondcam.attribution import place as place_map
from respondcam.errors import InputError
from respondcam.network.grid import LayerGrid
from respondcam.show import explanation_caption, explanation_figure
from respondcam.show.scene import cut, make_scene
from respondcam.volume import Volume


def grid_of(axes: int, *, note: str = "") -> LayerGrid:
    return LayerGrid(
        (4.0,) * axes, (1.0,) * axes, (5,) * axes, (20,) * axes, (0.0,) * axes, "layout", note
    )


def explanation(axes: int = 3, **changes) -> Explanation:
    torch.manual_seed(0)
    parts = {
        "maps": torch.randn(2, 2, *(5,) * axes),
        "scores": torch.tensor([[1.5, -2.0], [3.0, 0.5]]),
        "targets": ("nucleus", "ribosome"),
        "layer": "conv5",
        "method": "respond",
        "grid": grid_of(axes),
        "baseline": lambda: torch.full((2, 2), 0.25),
    }
    return Explanation(**{**parts, **changes})


def words(figure) -> str:
    return "\n".join(text.get_text() for text in figure.texts)


def scan() -> Volume:
    rng = np.random.default_rng(0)
    return Volume(
        rng.random((20, 20, 20)), np.diag([-2.0, 2, 2, 1]), "mm", source=Path("/data/scan.nii")
    )


@pytest.mark.parametrize("view", ["planes", "montage"])
def test_figure_names_what_was_explained(view):
    one = explanation(source=scan())
    figure = explanation_figure(one, sample=1, target=1, view=view)
    mapped = float(one.maps[1, 1].double().sum())
    text = words(figure)
    assert "scan.nii · ribosome, sample 1" in text
    assert "respond · layer conv5 · score 0.5000" in text
    assert 10 < mapped < 100  # four digits: two decimals
    assert f"mapped {mapped:.2f} + gap (−{mapped - 0.25:.2f})" in text
    strongest = one.maps[1, 1].abs().max()
    assert figure.axes[-1].get_ylim()[1] == pytest.approx(float(strongest))


def test_the_peak_of_the_layer_is_shown_where_the_layer_grid_says():
    maps = torch.zeros(1, 1, 5, 5, 5)
    maps[0, 0, 3, 1, 2] = -1.0
    one = explanation(
        maps=maps, scores=torch.zeros(1, 1), targets=("a",), source=scan(), baseline=None
    )
    text = words(explanation_figure(one))
    assert (
        "the strongest −1.00 with its centre at voxel 13, 5, 9 of the image" in text
    )  # 1 + 4 * index
    assert "no account: the explanation was made without its model" in text


def test_what_is_drawn_has_the_shape_of_the_placed_map():
    one = explanation(source=scan())
    scene = make_scene(scan(), one.volume(0, 0, "layer"))
    placed = place_map(one.maps[:1, :1].double(), one.grid)[0, 0].numpy()
    plane = cut(scene, 0, 9)  # a node of the layer's grid: 1 + 4 * 2
    fine = plane.signed.shape[0] // 20
    drawn = plane.signed[fine // 2 :: fine, fine // 2 :: fine][:, ::-1]  # x runs to the left
    inner = slice(5, 14)  # away from the border, placing only divides by the voxels per cell
    np.testing.assert_allclose(drawn[inner, inner], 64 * placed[9, inner, inner], atol=1e-5)
    nodes = np.stack(np.meshgrid([9.0], np.arange(20.0), np.arange(20.0), indexing="ij"))
    expected = map_coordinates(
        one.maps[0, 0].double().numpy(), (nodes - 1) / 4, order=1, mode="grid-constant"
    )[0]
    np.testing.assert_allclose(drawn, expected, atol=1e-5)


def test_a_map_without_an_image_says_so_and_takes_one():
    one = explanation()
    assert "no image below the map" in words(explanation_figure(one))
    image = np.random.default_rng(0).random((20, 20, 20))
    assert "no image" not in words(explanation_figure(one, image=image))
    both = np.stack([image, image])
    assert "channel 1 of 2" in words(explanation_figure(one, image=both, channel=1))
    assert "no image" not in words(explanation_figure(one, image=Volume(image)))


@pytest.mark.parametrize("axes", [1, 2])
def test_images_and_signals_are_drawn_in_the_input_voxels(axes):
    one = explanation(axes)
    rng = np.random.default_rng(0)
    figure = explanation_figure(one, target=1, image=rng.random((3,) + (20,) * axes), limit=0.5)
    assert "ribosome, sample 0" in words(figure)
    assert figure.axes[-1].get_ylim() == (-0.5, 0.5)
    placed = one.place("value")[0, 1]
    peak = np.unravel_index(int(placed.abs().argmax()), placed.shape)
    assert f"{('sample', 'row')[axes - 1]} {peak[0]}" in words(figure)
    assert "no image" in words(explanation_figure(one))


def test_an_empty_map_says_why():
    one = explanation(
        maps=torch.zeros(2, 2, 5, 5, 5), source=scan(), empty={(0, 1): "every ReLU is closed"}
    )
    assert "zero everywhere: every ReLU is closed" in words(explanation_figure(one, target=1))
    assert "zero everywhere: every ReLU is closed" in words(
        explanation_figure(one, target=-1, sample=-2)
    )
    assert "The map is zero everywhere." in words(explanation_figure(one))


def test_notes_of_grid_and_account_are_shown():
    one = explanation(grid=grid_of(3, note="the grid is assumed to be even"), bypassed=True)
    text = words(explanation_figure(one))
    assert "the grid is assumed to be even" in text
    assert "around this layer" in text


def test_the_account_runs_the_network_only_when_asked():
    calls = []

    def baseline():
        calls.append(1)
        return torch.zeros(2, 2)

    one = explanation(baseline=baseline)
    assert explanation_caption(one, account=False).account is None
    assert not calls
    assert explanation_caption(one).account is not None
    assert explanation_caption(one, account=False).account is not None  # it is there now
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample": 2}, "sample 2"),
        ({"target": -3}, "target -3"),
        ({"view": "cube"}, "view='cube'"),
        ({"theme": "sepia"}, "sepia"),
    ],
)
def test_what_does_not_exist_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        explanation_figure(explanation(), **options)


def test_a_volume_below_a_flat_map_is_refused():
    with pytest.raises(InputError, match="as an array"):
        explanation_figure(explanation(2), image=scan())


def test_plot_and_notebook_of_an_explanation_lead_here():
    one = explanation(source=scan())
    assert "nucleus" in words(one.plot())
    assert "data:image/png" in one._repr_html_()


def test_nothing_is_said_of_the_blank_below_a_tensor_s_map():
    for view in ("planes", "montage"):
        text = words(explanation_figure(explanation(source=None), view=view))
        assert "no image below the map" in text
        assert "constant" not in text
        assert "of the input" in text
    flat = Volume(np.ones((20, 20, 20)))
    assert "the volume is constant" in words(explanation_figure(explanation(), image=flat))
