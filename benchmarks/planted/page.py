"""The page with the tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from respondcam.evidence.comparison import METRICS, Compared
from respondcam.evidence.intervals import Interval

SHOWN = (
    "open",
    "deletion",
    "insertion",
    "positive_mass",
    "peak_pointing",
    "centroid_distance",
    "vxap",
    "max_f1",
    "se3d_vxap",
    "se3d_box_acc",
)
HEAD = """# Do maps point at what decides? Where the truth is known

```console
$ cd benchmarks && python -m planted
```

trains small networks on images with one object each (300 images, 8 epochs) and explains
them on images with **two** objects of different classes, of which one class is asked for: the map
should lie on that object, not on the other, and not in the middle. Shapes are planted in noise, as
in SE3D; particles are simulated subtomograms with the missing wedge, at a signal-to-noise ratio of
1. Controls know nothing of the asked class: `channel-sum` is the plain sum of the layer's channels,
`centre` a Gaussian in the middle, `uniform` the same value everywhere. Means over images; the
brackets are 95 % bootstrap intervals. A block with a ReLU lies between the explained layer and the
scores; right before a mean and a linear layer `respond`, `grad` and `hires` would be one map.

"""


TITLES = {"shapes": "Planted shapes", "particles": "Two-particle subtomograms"}


def page(parts: Sequence[Mapping[str, Any]]) -> str:
    """Write all parts that have been measured."""
    lines = [HEAD]
    for part in parts:
        facts = ", ".join(f"{name} {value}" for name, value in part["facts"].items())
        lines += [*part["lines"], f"Measured with {facts}.", ""]
    return "\n".join(lines)


def scene_lines(part: str, right: float, count: int, rows: Sequence[Compared]) -> list[str]:
    """The table of one scene."""
    return [
        f"## {TITLES[part]}: {count} images with two objects",
        "",
        f"The network names {100 * right:.0f} % of single objects right.",
        "",
        *_table(rows),
    ]


def _table(rows: Sequence[Compared]) -> list[str]:
    metrics = [name for name in SHOWN if any(row.metric == name for row in rows)]
    methods = list(dict.fromkeys(row.method for row in rows))
    methods.sort(key=lambda name: name in ("channel-sum", "uniform", "centre"))
    arrows = {"higher": "↑", "lower": "↓", "": ""}
    titles = [f"{METRICS[name].title} {arrows[METRICS[name].better]}" for name in metrics]
    lines = [f"| method | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(metrics)]
    by_key = {(row.method, row.metric): row.value for row in rows}
    for method in methods:
        cells = [_cell(by_key.get((method, metric))) for metric in metrics]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return [*lines, ""]


def places_lines(
    places: Sequence[tuple[str, float, Mapping[str, tuple[Interval, ...]]]],
) -> list[str]:
    """The table of placed and resized maps."""
    lines = [
        "## Placed or resized: voxels from the map to the object",
        "",
        "Respond-CAM of the asked class on single shapes in 32³ voxels, at the last layer with a",
        "grid. *Placed* is `explanation.place()`, through the network's own strides and padding;",
        "*resized* stretches the grid over the input, as other libraries do. *grid peak* is the",
        "raw map's largest voxel, put where the grid has it or where an even one would: geometry",
        "alone. *peak* and *centroid* are read in the input's voxels, on images named right. There",
        "placing has a bias of its own: it keeps each grid voxel's value whole at the border, so a",
        "flat map is up to 5.6 times as dense in a corner (stride 8, offset 0), and a faint",
        "plateau there can outdo the object's own peak.",
        "",
        "| network | accuracy | figure | placed | resized | resized - placed | ratio |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for name, right, figures in places:
        for what, (placed, resized, difference) in figures.items():
            lines.append(
                f"| {name} | {100 * right:.0f} % | {what} | {_cell(placed)} | {_cell(resized)} | "
                f"{_cell(difference)} | {resized.mean / placed.mean:.2f} |"
            )
    return [*lines, ""]


def _cell(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.mean):
        return "-"
    if math.isnan(interval.low):
        return f"{interval.mean:.3g}"
    return f"{interval.mean:.3g} ({interval.low:.3g} to {interval.high:.3g})"
