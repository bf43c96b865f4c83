"""Intervals against scipy's, and what is said where there is none."""

import math

import numpy as np
import pytest
from scipy import stats

from respondcam.errors import InputError
from respondcam.evidence.intervals import bootstrap, paired


@pytest.mark.parametrize(("kind", "theirs"), [("percentile", "percentile"), ("bca", "BCa")])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_the_interval_is_scipy_s(kind, theirs, level) -> None:
    values = np.random.default_rng(3).exponential(size=23)
    found = bootstrap(values.tolist(), level=level, resamples=1000, seed=5, kind=kind)
    expected = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=1000,
        confidence_level=level,
        method=theirs,
        rng=np.random.default_rng(5),
        vectorized=True,
    ).confidence_interval
    assert found.mean == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_an_interval_of_many_data_sets_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        found = bootstrap(rng.normal(1.0, 2.0, 40).tolist(), resamples=300, seed=seed)
        held += found.low <= 1.0 <= found.high
    assert 0.86 < held / 200 < 0.99


def test_differences_are_of_the_same_images() -> None:
    rng = np.random.default_rng(1)
    hard = rng.normal(0, 10, 30)
    better, worse = hard + 1 + rng.normal(0, 0.1, 30), hard
    found = paired(better.tolist(), worse.tolist())
    assert found.clear_of_zero
    assert found.high - found.low < 0.2
    assert not bootstrap(better.tolist()).clear_of_zero
    assert paired([1.0, math.nan, 2.0] * 4, [1.0, 1.0, math.nan] * 4).left_out == 8
    with pytest.raises(InputError, match="2 values and 1"):
        paired([1.0, 2.0], [1.0])


def test_too_few_values_have_a_mean_and_a_reason_but_no_interval() -> None:
    found = bootstrap([1.0, 2.0, math.nan])
    assert (found.mean, found.count, found.left_out) == (1.5, 2, 1)
    assert math.isnan(found.low)
    assert not found.clear_of_zero
    assert "1 of 3 values are undefined" in found.note
    assert "too few" in found.note
    assert bootstrap([]).note == "there are no values"
    assert math.isnan(bootstrap([math.nan]).mean)


def test_the_same_seed_gives_the_same_and_large_data_sets_fit() -> None:
    values = np.random.default_rng(0).normal(size=50_000).tolist()
    one, other = bootstrap(values, resamples=200), bootstrap(values, resamples=200)
    assert one == other
    assert one.high - one.low == pytest.approx(2 * 1.96 / math.sqrt(50_000), rel=0.25)


@pytest.mark.parametrize("options", [{"level": 1.0}, {"resamples": 3}])
def test_options_out_of_range(options) -> None:
    with pytest.raises(InputError, match="level="):
        bootstrap([1.0] * 9, **options)
