"""Comparisons: means, intervals and paired differences from kept results."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from respondcam import METHODS, RespondCAM
from respondcam._methods import ON_INPUT
from respondcam.errors import InputError
from respondcam.evidence import bootstrap, paired
from respondcam.evidence.comparison import METRICS, Result, compare, controls_in_words, is_clear
from respondcam.evidence.faithfulness import Changing, deletion
from respondcam.evidence.locating import locate
from respondcam.evidence.measuring import GROUPS, Method, Wanted, measure
from respondcam.evidence.scoring import Scorer
from respondcam.evidence.se3d import se3d_counts, se3d_figures


def some(images=12):
    rng = np.random.default_rng(0)
    mask = np.zeros((6, 6, 6), bool)
    mask[1:4, 1:4, 1:4] = True
    return [
        Result(
            str(n),
            method,
            "conv",
            {"drop": rng.random(), "vxap": math.nan if n == 3 else rng.random()},
            se3d_counts(rng.random((6, 6, 6)) + better * mask, mask),
        )
        for n in range(images)
        for method, better in (("respond", 0.3), ("grad", 0.0))
    ]


def test_means_and_differences_are_the_bootstrap_s() -> None:
    results = some()
    rows = {(row.metric, row.method): row for row in compare(results, seed=3)}
    for metric in ("drop", "vxap"):
        one, other = (
            [r.figures[metric] for r in results if r.method == name] for name in ("respond", "grad")
        )
        assert rows[metric, "respond"].value == bootstrap(one, seed=3)
        assert rows[metric, "respond"].difference is None
        assert rows[metric, "grad"].difference == paired(other, one, seed=3)
    assert rows["vxap", "grad"].difference.left_out == 1


def test_pooled_figures_pool_and_their_difference_is_of_the_same_images() -> None:
    results = some()
    rows = {(row.metric, row.method): row for row in compare(results)}
    counts = {m: [r.counts for r in results if r.method == m] for m in ("respond", "grad")}
    for figure in ("vxap", "max_f1", "box_acc"):
        first, other = (getattr(se3d_figures(counts[m]), figure) for m in ("respond", "grad"))
        assert rows[f"se3d_{figure}", "respond"].value.mean == pytest.approx(first)
        difference = rows[f"se3d_{figure}", "grad"].difference
        assert difference.mean == pytest.approx(other - first)
        assert difference.low <= difference.mean <= difference.high
    assert rows["se3d_vxap", "grad"].difference.clear_of_zero


def test_differences_are_of_images_that_both_have() -> None:
    results = [r for r in some() if not (r.method == "grad" and r.image in "012")]
    rows = {(row.metric, row.method): row for row in compare(results)}
    assert rows["drop", "respond"].value.count == 12
    assert rows["drop", "grad"].difference.count == 9
    with pytest.raises(InputError, match="nothing to compare"):
        compare([])


def test_a_control_that_is_ahead_of_the_method_is_named_with_its_measures() -> None:
    def results(method: str, layer: str, deletion: float, vxap: float) -> list[Result]:
        return [
            Result(str(n), method, layer, {"deletion": deletion + (n % 2) / 100, "vxap": vxap})
            for n in range(10)
        ]

    respond, grad = results("respond", "c", 0.6, 0.2), results("grad", "c", 0.1, 0.9)
    better = results("uniform", "-", 0.5, 0.1) + results("channel-sum", "c", 0.7, 0.4)
    told = controls_in_words(compare([*respond, *grad, *better]))
    assert told == (
        "Controls are ahead of respond at c by 2 of 2 measures: uniform by deletion *; channel-sum "
        "by VxAP * (* clearly)."
    )
    two = [*respond, *results("channel-sum", "c", 0.7, 0.4), *results("channel-sum", "d", 0.7, 0.1)]
    assert "by 1 of 2 measures: channel-sum at c by VxAP" in controls_in_words(compare(two))
    few = [one for one in [*respond, *better] if int(one.image) < 3]
    assert "*" not in controls_in_words(compare(few))  # too few for an interval
    equal = [*respond, *results("centre", "-", 0.6, 0.2)]
    told = controls_in_words(compare(equal))
    assert told == "No control is ahead of respond at c by any of 2 measures."
    assert controls_in_words(compare([*respond, *grad])) == ""


def test_what_a_map_of_ones_reaches_by_construction_is_no_lead() -> None:
    """It masks nothing, so it loses nothing of the score."""
    some = [
        Result(str(n), method, "c", {"drop": drop, "deletion": 0.5})
        for n in range(8)
        for method, drop in (("respond", 0.4), ("uniform", 0.0))
    ]
    told = controls_in_words(compare(some))
    assert told == (
        "No control is ahead of respond at c by the one measure. Not counted: uniform by drop (its "
        "map of ones keeps the whole image)."
    )
    alone = [Result(one.image, one.method, "c", {"drop": one.figures["drop"]}) for one in some]
    told = controls_in_words(compare(alone))
    assert told == "Not counted: uniform by drop (its map of ones keeps the whole image)."


def test_a_clear_lead_of_next_to_nothing_is_named_and_not_counted() -> None:
    """The table has a star for it, so words without it would contradict the table."""
    some = [
        Result(str(n), method, "c", {"drop": drop + (n % 2) / 100})
        for n in range(8)
        for method, drop in (("respond", 0.5), ("channel-sum", 0.4999))
    ]
    rows = compare(some)
    assert is_clear(rows[1])
    assert controls_in_words(rows) == (
        "No control is ahead of respond at c by the one measure. Not counted: channel-sum by drop "
        "(less than a hundredth of the figure)."
    )


def test_a_control_is_no_way_ahead_by_less_than_one_image() -> None:
    """No peak of 8 inside, where one of 200 would be by chance, is what chance gives."""

    def results(method: str, layer: str, pointing: float, count: int = 8) -> list[Result]:
        return [Result(str(n), method, layer, {"peak_pointing": pointing}) for n in range(count)]

    respond = results("respond", "4", 0.0)
    rows = compare([*respond, *results("uniform", "-", 0.005)])
    assert rows[1].difference is not None
    assert rows[1].difference.clear_of_zero
    assert not is_clear(rows[1])
    assert (
        controls_in_words(rows) == "No control is ahead of respond at layer 4 by the one measure."
    )
    told = controls_in_words(compare([*respond, *results("uniform", "-", 0.5)]))
    assert "by 1 of 1 measure: uniform by peak * (* clearly)" in told


@pytest.mark.parametrize("method", sorted(METHODS))
def test_no_gap_is_compared_of_a_sum_without_relation_to_the_score(method: str) -> None:
    model = nn.Sequential(
        nn.Conv3d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    image = torch.rand(1, 1, 6, 6, 6)
    layer = ["0", "1"] if method == "refine" else None if method in ON_INPUT else "1"
    if method in ON_INPUT:
        pytest.importorskip("captum")
    explanation = METHODS[method](model, layer)(image, 1)
    scorer = Scorer(model, image, 1)
    found = measure(scorer, explanation.place(), Wanted(("account",)), explanation=explanation)
    assert math.isnan(found.figures["open"]) == bool(explanation.note)


def test_measuring_gives_each_figure_as_measured_alone() -> None:
    model = nn.Sequential(
        nn.Conv3d(1, 3, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(3, 2),
    )
    image = torch.randn(1, 1, 8, 8, 8)
    mask = torch.zeros(1, 8, 8, 8, dtype=torch.bool)
    mask[:, 2:5, 2:5, 2:5] = True
    explanation = RespondCAM(model, "1")(image, 1)
    maps, scorer, how = explanation.place(), Scorer(model, image, 1), Changing(steps=2)
    found = measure(
        scorer,
        maps,
        Wanted(tuple(GROUPS), how),
        mask=mask,
        explanation=explanation,
        method=Method(lambda net: RespondCAM(net, "1"), model, 1),
    )
    shown = {name for name in METRICS if not name.startswith("se3d")}
    assert shown <= set(found.figures)
    assert found.figures["deletion"] == deletion(scorer, maps, how).area.item()
    assert found.figures["vxap"] == locate(maps[:, 0], mask)[0].vxap
    assert found.figures["open"] == pytest.approx(float(explanation.account.relative_gap))
    assert found.counts.boxes is not None
    control = measure(scorer, maps, Wanted(tuple(GROUPS), how))
    assert {"deletion", "insertion", "drop", "increase", "road"} == set(control.figures)
    with pytest.raises(InputError, match="beauty"):
        Wanted(("beauty",))


def test_a_notebook_shows_a_comparison_as_a_table_with_names_escaped() -> None:
    results = [
        Result(str(n), method, "<b>conv</b>", {"drop": n / 10 + shift})
        for n in range(8)
        for method, shift in (("respond", 0.0), ("<script>", 1.0))
    ]
    page = compare(results)._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;" in page
    assert "0.3500" in page
    assert "1.350" in page
    assert ">*<" in page  # the difference is clear of zero
