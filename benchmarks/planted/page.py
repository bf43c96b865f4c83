"""The page with the tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from planted.looking import Looks
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


PLACES = """## Placed or resized: voxels from the map to the object

*Placed* is `explanation.place()`, through the network's own strides and padding; *values* is
`place("value")`; *resized* stretches the grid over the input, as other libraries do. *centroid* is
the positive part's centre of mass, *peak* the largest value; where values tie because they go on to
the border, the layer's voxel counts, in all three. *over*: the ratio of the mean distances, resized
over the other; above 1 the other is nearer.

### Where the answer is known

Networks with weights by hand, kernel / stride of each layer: a matched filter for the one ball in
the image, then blurs or pooling, so that the cell nearest to the ball answers most. 120 images
each; balls are anywhere that is a stride and two voxels away from the border. *worst*: the farthest
peak along an axis, in strides, placed / values / resized.

Placed peaks are never more than half a stride off along an axis: the rounding to cells, which no
placing can undo. That rounding is all of their distance, and it limits the ratio of peaks: 1.1 at
stride 2, 1.47 to 2.7 at stride 4, 1.7 at 8 and 1.9 at 16, where padding shifts the grid. A centroid
is not rounded, and the ratio is 3 and more. In the last three networks resizing is right, and the
ratio is 1. Values go on beyond a grid that ends early, which pulls their centroid outwards.

"""
TRAINED = """### Trained networks

{trainings} trainings of each small network, on small objects of three kinds that may be there or
not, away from the border; Respond-CAM of the kind that is there, at the last layer with a grid
(stride 4), in images where the network finds it.

On the padded networks placed maps have the nearer centroid and resized maps the nearer peak;
without padding it is the other way round. Objects and training matter too: with the larger shapes
above and networks that name one of three, an earlier form of this table (one training) had ratios
of 0.8 to 1.0 on padded networks for both figures.

"""
LOOKS = """### Why these peaks are off

What the largest cell of a map looks at, in 20 images of each training: *largest cell off*, its
centre's distance from the object in voxels, and the mean of its coordinates' differences *along an
axis* (below zero: towards low indices); the value of the cell *nearest* to the object as a share of
the largest; how many *cells* have more than *half* of the largest; how much of the largest cell's
value is *lost* when the *object* is replaced by zeros, and when a *ball* of the same size is, at
that cell's centre (over 100 %: it turns negative); how far an *occlusion* map's peak (windows of 4
voxels, 2 images of each training) is from the object. The last two rows are controls.

- These peaks are neither misread nor misplaced: the largest cell's value comes from the object, not
  from where the cell's centre is. The network does look at the object, and answers beside it.
- Cells of the last layer see up to 17 voxels and stand 4 apart, so dozens of them see one object,
  and all answer nearly alike. The score is their mean, and training has no reason to prefer the
  nearest. Which one is largest says little; their centroid says where the object is. With a last
  convolution that sees one cell (the last row) fewer cells answer, and the peak is nearer.
- The pull towards low indices is learned. The grid of a padded network starts at voxel 0 and ends
  at 28 of 31; trained on 33 voxels, where it ends at the last one, the network has no such pull.
  Measured apart: it is the same on mirrored images and with the object in the middle of 64 voxels;
  with circular padding, with the pooled network on 33 voxels, and with 1 / 1 on 33, trainings have
  no pull in common.
- Why resized peaks are nearer, also measured apart (90 images each): centres of largest cells are
  6.6 voxels off, and 5.8 where the grid is taken as even (5.6 and 5.1 with max-pooling, 5.3 and 5.6
  with 7 / 4, whose pull is small). Resizing moves the grid by 1.5 voxels towards high indices, and
  so undoes the pull. Points of a resized grid lie between voxels, so its highest voxel is on the
  side of the higher neighbour: another 0.3 to 0.4. On 33 voxels, without a pull, it squeezes cells
  together, from 4 to 3.67 voxels, and with them their scatter, from 6.5 to 6.1. None of this is
  placing: the centroids show what it costs.
- `align="measured"` does not mend it (two trainings, 20 images each): peaks within 0.6 voxels of
  those of the layout, centroids mostly farther. It was calibrated on one image at a time.

So the peak of such a network says little about placing, or about the place of an object.

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


WAYS = ("placed", "placed values", "resized")


def places_lines(
    known: Sequence[Places], trained: Sequence[Places], looked: Sequence[Looks], trainings: int
) -> list[str]:
    """The tables of placed and resized maps."""
    return [
        *PLACES.splitlines(),
        *_known_table(known),
        *TRAINED.format(trainings=trainings).splitlines(),
        *_trained_table(trained),
        *LOOKS.splitlines(),
        *_looks_table(looked),
    ]


def _known_table(known: Sequence[Places]) -> list[str]:
    lines = [
        "| network | figure | placed | values | resized | over placed | over values | worst |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in known:
        for what, ways in one.apart.items():
            worst = " / ".join(f"{one.worst[way]:.2f}" for way in WAYS)
            cells = [*_distances(one, what, ways), worst if what == "peak" else ""]
            lines.append(f"| {one.network} | {what} | {' | '.join(cells)} |")
    return [*lines, ""]


def _trained_table(trained: Sequence[Places]) -> list[str]:
    lines = [
        "| network | found | figure | placed | values | resized | over placed | over values |",
        "| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in trained:
        for what, ways in one.apart.items():
            cells = " | ".join(_distances(one, what, ways))
            lines.append(f"| {one.network} | {100 * one.found:.0f} % | {what} | {cells} |")
    return [*lines, ""]


def _distances(one: Places, what: str, ways: Mapping[str, Interval]) -> list[str]:
    over = [_cell(one.ratios[f"{what}, {way}"]) for way in WAYS[:2]]
    return [_cell(ways[way]) for way in WAYS] + over


def _looks_table(looked: Sequence[Looks]) -> list[str]:
    titles = (
        "largest cell off",
        "along an axis",
        "nearest / largest",
        "cells above half",
        "lost without object",
        "lost without ball there",
        "occlusion's peak off",
    )
    lines = [f"| network | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(titles)]
    for one in looked:
        lines.append(
            f"| {one.network} | {one.apart:.1f} | {one.pull:+.1f} | {one.nearest:.2f} "
            f"| {one.cells:.0f} | {100 * one.without_object:.0f} % "
            f"| {100 * one.without_there:.0f} % | {one.occlusion:.1f} |"
        )
    return [*lines, ""]


def _cell(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.mean):
        return "-"
    if math.isnan(interval.low):
        return f"{interval.mean:.3g}"
    return f"{interval.mean:.3g} ({interval.low:.3g} to {interval.high:.3g})"
