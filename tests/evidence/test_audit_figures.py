"""The figures of the sum-to-score experiment against scipy and slow loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from respondcam.errors import InputError
from respondcam.evidence.audit import SumToScore, kendall_tau, sum_to_score, summarise


@pytest.mark.parametrize("classes", [2, 3, 23, 200])
@pytest.mark.parametrize("levels", [3, 10**6])
def test_tau_agrees_with_scipy_with_and_without_ties(classes, levels):
    rng = np.random.default_rng(classes)
    x, y = rng.integers(levels, size=(2, 5, classes)).astype(np.float32)
    ours = kendall_tau(torch.from_numpy(x), torch.from_numpy(y))
    theirs = [stats.kendalltau(a, b).statistic for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=12))
def test_tau_agrees_with_scipy_on_small_integers(pairs):
    x, y = (torch.tensor(column, dtype=torch.float32) for column in zip(*pairs, strict=True))
    expected = stats.kendalltau(x.numpy(), y.numpy()).statistic
    assert kendall_tau(x, y).item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_tau_of_one_class_or_of_equal_values_is_undefined():
    assert kendall_tau(torch.ones(4, 1), torch.ones(4, 1)).isnan().all()
    assert kendall_tau(torch.ones(3), torch.arange(3.0)).isnan()


def test_figures_against_a_slow_loop():
    torch.manual_seed(0)
    score, baseline, mapped = torch.randn(3, 4, 7)
    rows = sum_to_score(score, baseline, mapped)
    for n, row in enumerate(rows):
        s, b, m = (t[n].tolist() for t in (score, baseline, mapped))
        l1 = sum(abs(m[c] - s[c]) for c in range(7)) / 7
        gap = sum(abs(s[c] - b[c] - m[c]) for c in range(7))
        moved = sum(abs(s[c] - b[c]) for c in range(7))
        assert row.l1 == pytest.approx(l1, rel=1e-6)
        assert row.relative_gap == pytest.approx(gap / moved, rel=1e-6)
        assert row.tau == pytest.approx(stats.kendalltau(m, s).statistic, abs=1e-12)


def test_a_map_that_explains_all_has_no_gap_though_its_sum_is_not_the_score():
    score, baseline = torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 2.0]])
    (row,) = sum_to_score(score, baseline, mapped=score - baseline)
    assert row == SumToScore(l1=2.0, tau=1.0, relative_gap=0.0)


def test_an_image_that_contributes_nothing_has_no_relative_gap():
    score = torch.tensor([[3.0, 1.0]])
    (empty,) = sum_to_score(score, score, mapped=torch.zeros(1, 2))
    (wrong,) = sum_to_score(score, score, mapped=torch.ones(1, 2))
    assert math.isnan(empty.relative_gap)
    assert math.isnan(wrong.relative_gap)


def test_summary_uses_the_population_s_deviation_and_leaves_undefined_values_out():
    rows = [SumToScore(1.0, math.nan, 0.2), SumToScore(2.0, 0.5, 0.4), SumToScore(6.0, 1.0, 0.9)]
    summary = summarise(rows)
    assert summary.images == 3
    assert summary.l1.mean == pytest.approx(np.mean([1, 2, 6]))
    assert summary.l1.std == pytest.approx(np.std([1, 2, 6]))
    assert (summary.tau.mean, summary.tau.count) == (0.75, 2)
    with pytest.raises(InputError, match="no image"):
        summarise([])


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (SumToScore(1.0, 1.0, 1e-7), ["The maps explain what", "in the order of the scores"]),
        (SumToScore(1.0, 0.99, 1e-7), ["The maps explain what", "nearly the order of"]),
        (SumToScore(1.0, 0.6, 0.05), ["explain most", "open: 5 %", "much the order"]),
        (SumToScore(1.0, 0.1, 0.4), ["do not add up", "40 %", "another order"]),
        (SumToScore(1.0, math.nan, math.nan), ["nothing to explain"]),
    ],
)
def test_verdicts(row, words):
    verdict = summarise([row]).verdict
    assert all(word in verdict for word in words), verdict


def test_an_order_that_the_baseline_decides_is_not_held_against_the_maps():
    """Everything is explained, but the scores' order comes from what the network adds anyway."""
    score, baseline = torch.tensor([[5.0, 1.0]]), torch.tensor([[4.9, 0.1]])
    rows = sum_to_score(score, baseline, score - baseline)
    assert "no fault of the maps" in summarise(rows).verdict
    assert "no fault" not in summarise(sum_to_score(score, baseline, 2 * baseline)).verdict
