"""Windows, tiles and chunks: every window in one tile, every voxel in a chunk that knows it."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from respondcam.errors import InputError
from respondcam.large.plan import Plan, check_window, stride_of, window_starts

axis = st.integers(1, 30).flatmap(
    lambda n: st.integers(1, n).flatmap(
        lambda w: st.tuples(
            st.just(n), st.just(w), st.integers(1, w), st.integers(1, 4), st.integers(1, n)
        )
    )
)


@settings(max_examples=60, deadline=None)
@given(axis)
def test_one_axis_seen_from_each_voxel(numbers):
    n, window, stride, block, chunk = numbers
    plan = Plan((n, 1, 1), (window, 1, 1), (stride, 1, 1), (block, 1, 1), (chunk, 1, 1))
    starts = plan.starts[0]
    touching = {j: {k for k, s in enumerate(starts) if s <= j < s + window} for j in range(n)}
    assert all(touching.values()), "every voxel lies in a window"
    assert starts[0] == 0
    assert starts[-1] + window == n
    owned = [k for t in range(plan.tiles[0]) for k in range(*plan.tile_windows((t, 0, 0))[0])]
    assert owned == list(range(len(starts))), "every window belongs to one tile"
    seen = []
    for c in range(plan.chunks[0]):
        first, last = plan.chunk_region((c, 0, 0))[0]
        seen += range(first, last)
        expected = set().union(*(touching[j] for j in range(first, last)))
        assert set(range(*plan.chunk_windows((c, 0, 0))[0])) >= expected
        tiles = {k // block for k in expected}
        assert {t for t, _, _ in plan.tiles_of_chunk((c, 0, 0))} >= tiles
    assert seen == list(range(n))


def test_three_axes_are_independent():
    plan = Plan((20, 30, 40), (8, 10, 12), (4, 5, 6), (2, 2, 2), (16, 16, 16))
    for tile in product(*map(range, plan.tiles)):
        for one, (a, b) in enumerate(plan.tile_region(tile)):
            first, last = plan.tile_windows(tile)[one]
            assert (a, b) == (
                plan.starts[one][first],
                plan.starts[one][last - 1] + plan.window[one],
            )


def test_the_last_window_is_flush_with_the_end():
    assert window_starts(41, 40, 20) == (0, 1)
    assert window_starts(40, 40, 20) == (0,)


@pytest.mark.parametrize("overlap", [1.0, 1.5, -0.1, float("nan")])
def test_an_overlap_that_leads_nowhere(overlap):
    with pytest.raises(InputError, match="below 1"):
        stride_of((8, 8, 8), overlap)


def test_a_window_larger_than_its_volume():
    with pytest.raises(InputError, match=r"9 x 8 x 8 is larger than .*8 x 20 x 20"):
        check_window((8, 20, 20), (9, 8, 8), "it")
