"""The figure of a comparison shows the numbers that it was given."""

import pytest

from respondcam.evidence import bootstrap
from respondcam.evidence.comparison import Compared, Result, compare
from respondcam.show import comparison_figure


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
