"""Figures per class against slow loops and scipy."""

import math

import pytest
import torch
from scipy import stats

from respondcam.errors import InputError
from respondcam.evidence import SumToScore, audit_classes, summarise


def test_figures_against_slow_loops() -> None:
    score, baseline, mapped = torch.randn(3, 12, 4, dtype=torch.float64)
    for k, found in enumerate(audit_classes("abcd", score, baseline, mapped)):
        s, b, m = (part[:, k].tolist() for part in (score, baseline, mapped))
        gaps = [abs(x - y - z) for x, y, z in zip(s, b, m, strict=True)]
        moved = [abs(x - y) for x, y in zip(s, b, strict=True)]
        assert found.label == "abcd"[k]
        assert found.l1.mean == pytest.approx(sum(abs(x - z) for x, z in zip(s, m)) / 12)  # noqa: B905
        assert found.relative_gap.mean == pytest.approx(
            sum(g / w for g, w in zip(gaps, moved, strict=True)) / 12
        )
        assert found.open_share == pytest.approx(sum(gaps) / sum(moved))
        assert found.tau == pytest.approx(stats.kendalltau(m, s).statistic)
        assert found.l1.low < found.l1.mean < found.l1.high


def test_one_image_has_no_order_and_no_interval() -> None:
    (found,) = audit_classes(["a"], *torch.rand(3, 1, 1))
    assert math.isnan(found.tau)
    assert "too few" in found.l1.note


def test_an_image_that_contributes_nothing_is_left_out() -> None:
    score = torch.tensor([[1.0], [2.0]])
    (found,) = audit_classes(["a"], score, torch.tensor([[1.0], [1.0]]), torch.tensor([[1.0], [1]]))
    assert found.relative_gap.left_out == 1
    assert found.open_share == 1  # of the two, one contributed 1, and 1 is open


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="2 labels"):
        audit_classes(["a", "b"], *torch.rand(3, 5, 1))
    with pytest.raises(InputError, match="at least one"):
        audit_classes([], *torch.rand(3, 0, 0))


def test_the_summary_has_intervals_and_counts_the_bad_images() -> None:
    rows = [SumToScore(1.0 + 0.1 * n, 0.99, 0.3 if n == 0 else 0.01) for n in range(20)]
    summary = summarise(rows)
    assert summary.intervals["l1"].low < summary.l1.mean < summary.intervals["l1"].high
    assert "In 1 of 20 images more than 10 % is open" in summary.verdict
    assert "too few" in summarise(rows[:3]).intervals["tau"].note
