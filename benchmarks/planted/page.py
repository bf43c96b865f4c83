"""The page with the tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from planted.measuring import Places
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
    "se3d_max_f1",
    "se3d_box_acc",
    "se3d_box_acc_v2_mean",
    "classes",
)
HEAD = """# Do maps point at what decides? Where the truth is known

```console
$ cd benchmarks && python -m planted
```

trains small networks on images with one object each and explains them on images with **two**
objects of different classes, of which one class is asked for: the map should lie on that object,
not on the other, and not in the middle. Shapes are planted in noise, as in SE3D; particles are
simulated subtomograms with the missing wedge, at a signal-to-noise ratio of 1. `--quick` takes a
few images and writes nothing. It needs `respondcam[cryoet,captum]` and, for the other libraries,
`requirements.txt`.

Controls know nothing of the asked class: `channel-sum` is the plain sum of the layer's channels,
`centre` a Gaussian in the middle, `uniform` the same value everywhere. Means over images; the
brackets are 95 % bootstrap intervals. A block with a ReLU lies between the explained layer and the
scores; right before a mean and a linear layer `respond`, `grad` and `hires` would be one map.
`refine` joins the layer and the one below, the last three methods explain the input. Other
libraries run as they are installed, with their own ReLU, scaling and resizing (`requirements.txt`);
what does not run on volumes is named below its table.

"""


TITLES = {"shapes": "Planted shapes", "particles": "Two-particle subtomograms"}


def page(parts: Sequence[Mapping[str, Any]]) -> str:
    """Write all parts that have been measured."""
    lines = [HEAD]
    for part in parts:
        facts = ", ".join(f"{name} {value}" for name, value in part["facts"].items())
        lines += [*part["lines"], f"Measured with {facts}.", ""]
    return "\n".join(lines)


def scene_lines(
    part: str, right: float, count: int, rows: Sequence[Compared], left_out: Mapping[str, str]
) -> list[str]:
    """The table of one scene."""
    return [
        f"## {TITLES[part]}: {count} images with two objects",
        "",
        f"The network names {100 * right:.0f} % of single objects right.",
        "",
        *_table(rows),
        *(f"- {name} is left out. {why}" for name, why in left_out.items()),
        "",
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


def places_lines(places: Sequence[Places], trainings: int) -> list[str]:
    """The table of placed and resized maps."""
    lines = [
        "## Placed or resized: voxels from the map to the object",
        "",
        f"{trainings} trainings of each small network, on small objects of three kinds that may be",
        "there or not, away from the border; Respond-CAM of the kind that is there, at the last",
        "layer with a grid (stride 4), in images where the network finds it. *Placed* is",
        "`explanation.place()`, through the network's own strides and padding; *values* is",
        '`place("value")`; *resized* stretches the grid over the input, as other libraries do.',
        "*centroid* is the positive part's centre of mass, *peak* the largest value. *over*: the",
        "ratio of the mean distances, resized over the other; above 1 the other is nearer.",
        "",
        "The two figures disagree. On the padded networks placed maps have the nearer centroid",
        "and resized maps the nearer peak; without padding it is the other way round. Peaks lie 4",
        "voxels and more from objects of radius 2, whichever way is taken; why was not examined.",
        "Objects and training matter too: with the larger shapes above and networks that name one",
        "of three, an earlier form of this table (one training) had ratios of 0.8 to 1.0 on padded",
        "networks for both figures. So this shows an advantage for the centroid of small objects,",
        "not for pointing in general.",
        "",
        "| network | found | figure | placed | values | resized | over placed | over values |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in places:
        for what, ways in one.apart.items():
            cells = [_cell(ways[way]) for way in ("placed", "placed values", "resized")]
            cells += [_cell(one.ratios[f"{what}, {way}"]) for way in ("placed", "placed values")]
            lines.append(
                f"| {one.network} | {100 * one.found:.0f} % | {what} | {' | '.join(cells)} |"
            )
    return [*lines, ""]


def _cell(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.mean):
        return "-"
    if math.isnan(interval.low):
        return f"{interval.mean:.3g}"
    return f"{interval.mean:.3g} ({interval.low:.3g} to {interval.high:.3g})"
