"""Figures 3 and 4: which cases are shown, what the panels say, and that pages are drawn."""

import dataclasses
import math

import numpy as np
import pytest

from respondcam.attribution import Explanation, RespondCAM
from respondcam.network.paper import cnn_1
from respondcam.paper import figure3, figure4
from respondcam.paper.cases import choose_cases, make_cases, map_panel
from respondcam.paper.networks import Laboratory
from respondcam.paper.strips import Panel, draw_strips
from respondcam.show.caption import Caption
from respondcam.volume import Volume


def words(page: object) -> list[str]:
    return [text.get_text() for text in page.texts]  # pyright: ignore[reportAttributeAccessIssue]


def test_cases_hold_the_object_where_the_image_has_it(laboratory: Laboratory) -> None:
    for case in make_cases(laboratory, math.inf):
        inside = case.object.voxels > case.level
        assert case.image.voxels[inside].mean() > case.image.voxels[~inside].mean() + 0.5
        assert case.image.unit == "angstrom"
        assert case.image.voxel_size == (20.0, 20.0, 20.0)


def test_cases_differ_in_size(laboratory: Laboratory) -> None:
    cases = make_cases(laboratory, math.inf)
    chosen = choose_cases(cases, [], 2)
    assert len(chosen) == 2
    assert chosen[0].voxels_inside > chosen[1].voxels_inside
    assert len(choose_cases(cases, [], 9)) == 3


def test_a_panel_says_sum_and_score(laboratory: Laboratory) -> None:
    case = make_cases(laboratory, math.inf)[1]
    explanation = RespondCAM(cnn_1(3, laboratory.plan.size), layer="conv3")(case.image, target=1)
    assert isinstance(explanation, Explanation)
    panel = map_panel("conv3", case, explanation)
    assert panel.map is not None
    total = float(explanation.maps.sum())
    np.testing.assert_allclose(panel.map.voxels, explanation.place("value")[0, 0], rtol=1e-4)
    sums, score = panel.words
    assert float(sums.removeprefix("sum ").replace("−", "-")) == pytest.approx(total, rel=1e-3)
    assert score.startswith("score ")


def test_both_figures_are_drawn_from_one_training(
    laboratory: Laboratory, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = []
    for module in (figure3, figure4):
        draw = module.draw_strips

        def kept(*args: object, draw: object = draw, **options: object) -> object:
            pages.append(draw(*args, **options))  # pyright: ignore[reportCallIssue]
            return pages[-1]

        monkeypatch.setattr(module, "draw_strips", kept)
    third = figure3.reproduce_figure3(laboratory, snr=math.inf)
    said: list[str] = []
    fourth = figure4.reproduce_figure4(dataclasses.replace(laboratory, tell=said.append), snr=1e999)
    assert said == []  # CNN-1 is there already
    assert third.name == "figure3-no-noise.png"
    assert fourth.name == "figure4-no-noise.png"
    assert third.read_bytes()[:4] == fourth.read_bytes()[:4] == b"\x89PNG"
    texts = words(pages[0])
    for title in ("object", "input", "Grad-CAM, CNN-1", "Respond-CAM, CNN-2"):
        assert texts.count(title) == 3
    assert set(laboratory.templates) <= set(texts)
    texts = words(pages[1])
    assert "input, 16 x 16 x 16" in texts
    assert "maxpool2, 4 x 4 x 4" in texts
    assert sum(text.startswith("sum ") for text in texts) == 7


def test_a_map_that_is_zero_is_drawn(laboratory: Laboratory) -> None:
    case = make_cases(laboratory, math.inf)[0]
    nothing = case.image.with_voxels(np.zeros(case.image.shape, np.float32))
    panel = Panel("empty", (case.object, case.level), case.image, nothing, ("sum 0",))
    page = draw_strips([("row", [panel])], columns=2, caption=Caption(target="page"))
    assert "sum 0" in words(page)
    assert isinstance(nothing, Volume)
