"""The figure of a comparison shows the numbers that it was given."""

import math

import pytest

from respondcam.evidence import bootstrap
from respondcam.evidence.comparison import Compared, Result, compare
from respondcam.evidence.intervals import Interval
from respondcam.show import comparison_figure
from respondcam.show.theme import format_score


def rows():
    results = [
        Result(str(n), method, layer, {"drop": n / 10 + k, "peak_pointing": float(n % 2)})
        for n in range(10)
        for k, (method, layer) in enumerate(
            [("respond", "conv"), ("grad", "conv"), ("centre", "-")]
        )
    ]
    return compare(results)


def test_a_panel_for_each_figure_with_dots_at_the_means_and_lines_along_the_intervals() -> None:
    page = comparison_figure(rows(), images=10)
    drop, pointing = page.axes
    dots = [line for line in drop.lines if line.get_marker() == "o"]
    assert [float(dot.get_xdata()[0]) for dot in dots] == pytest.approx([0.45, 1.45, 2.45])
    bars = [
        line for line in drop.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2
    ]
    spans = [
        end for bar in bars if bar.get_ydata()[0] == bar.get_ydata()[1] for end in bar.get_xdata()
    ]
    drops = [row.value for row in rows() if row.metric == "drop"]
    expected = [end for value in drops for end in (value.low, value.high)]
    assert spans == pytest.approx(expected)
    assert len(pointing.lines) == 7
    words = {text.get_text() for text in page.texts}
    assert {"respond, conv", "centre", "drop: lower is better"} <= words


def test_without_intervals_and_without_numbers() -> None:
    few = Compared("drop", "respond", "conv", bootstrap([0.5]), None)
    nothing = Compared("drop", "grad", "conv", bootstrap([float("nan")]), None)
    (axes,) = comparison_figure([few, nothing], images=1, theme="dark").axes
    assert len(axes.lines) == 2  # one dot and the dotted line


def axis(metric: str, *values: float) -> tuple[float, float]:
    """The ends of a panel with one method for each value."""
    rows = [
        Compared(metric, f"m{n}", "conv", Interval(value, math.nan, math.nan, 3), None)
        for n, value in enumerate(values)
    ]
    (axes,) = comparison_figure(rows, images=3).axes
    return axes.get_xlim()


@pytest.mark.parametrize("values", [(0.3091234, 0.3091238), (0.0, 7.7e-9), (1.41e-7, 1.59e-7)])
def test_a_difference_that_is_nothing_is_not_stretched_over_the_axis(values) -> None:
    low, high = axis("open", *values)
    assert values[1] - values[0] < 0.01 * (high - low)
    assert format_score(low, digits=3) != format_score(high, digits=3)


def test_small_scores_keep_their_differences() -> None:
    low, high = axis("deletion", 1e-5, 2e-5)
    assert (2e-5 - 1e-5) / (high - low) == pytest.approx(1 / 1.12)


@pytest.mark.parametrize(
    ("metric", "values", "ends"),
    [
        ("increase", (0.0, 1.0), (0.0, 1.0)),
        ("open", (0.0, 8e-9), (0.0, 0.01)),  # rounding, at the lower end of a round axis
        ("increase", (0.0, 0.0), (0.0, 0.01)),
        ("increase", (1.0, 1.0), (0.99, 1.0)),
        ("drop", (0.0, 1e-3), (0.0, 0.01)),
        ("drop", (0.0, 0.1), (0.0, 0.106)),
        ("noise", (-1.0, 0.5), (-1.0, 0.59)),
        ("peak_distance", (0.0, 10.0), (0.0, 10.6)),
        ("deletion", (-3.0, 2.0), (-3.3, 2.3)),  # scores may be anything
    ],
)
def test_an_axis_ends_where_the_values_of_its_kind_do(metric, values, ends) -> None:
    assert axis(metric, *values) == pytest.approx(ends)


def test_the_ends_of_an_axis_are_written_without_digits_that_say_nothing() -> None:
    row = Compared("open", "respond", "4", Interval(0.0, math.nan, math.nan, 1), None)
    words = [text.get_text() for text in comparison_figure([row], images=1).texts]
    assert {"0", "0.01", "respond, layer 4", "1 volume"} <= set(words)


def test_the_words_are_of_what_was_followed() -> None:
    def words(measure: str) -> set[str]:
        figure = comparison_figure(
            [Compared("drop", "grad", "c", bootstrap([0.5]), None)], images=1, measure=measure
        )
        return {text.get_text() for text in figure.texts}

    assert "share of the score lost when the map masks the image" in words("score")
    assert "share of the probability lost when the map masks the image" in words("probability")


def test_the_caption_promises_intervals_only_where_there_are_some() -> None:
    def words(*counts: int) -> str:
        rows = [
            Compared("drop", f"m{n}", "conv", bootstrap([0.25, 0.5] * (count // 2)), None)
            for n, count in enumerate(counts)
        ]
        return " ".join(text.get_text() for text in comparison_figure(rows, images=9).texts)

    assert "lines their 95 % intervals by bootstrap." in words(10, 10)
    assert "too few" not in words(10, 10)
    assert "intervals by bootstrap; without a line, too few volumes for one." in words(10, 4)
    assert "lines" not in words(4, 4)
    assert "There are too few volumes for intervals." in words(4, 4)
