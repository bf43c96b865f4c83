"""Many methods on many images: means with intervals, and differences on the same images.

Everything here is a pure function of `Result`s, one per image, method and layer, which a run can
keep in files: nothing is explained again to make the table.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from respondcam._words import counted, layer_named
from respondcam.errors import InputError
from respondcam.evidence.controls import CONTROLS
from respondcam.evidence.intervals import FEWEST, Interval, bootstrap, paired
from respondcam.evidence.se3d import Se3d, Se3dCounts, se3d_resampled

_POOLED_RESAMPLES = 1000
_VISIBLE = 0.01  # share of a figure below which two are alike to everybody
_ROUNDING = 1e-12  # of sums in another order


@dataclass(frozen=True)
class Metric:
    """What a figure is.

    Parameters
    ----------
    title
        For tables.
    better
        ``"higher"``, ``"lower"``, or empty where neither is.
    words
        One line for people.
    """

    title: str
    better: str
    words: str


METRICS: dict[str, Metric] = {
    "open": Metric("relative gap", "lower", "share of the score's change that the map leaves open"),
    "deletion": Metric("deletion", "lower", "area under the score, highest voxels taken away"),
    "insertion": Metric("insertion", "higher", "area under the score, highest voxels put back"),
    "drop": Metric("drop", "lower", "share of the score lost when the map masks the image"),
    "increase": Metric(
        "increase", "higher", "how often the score rises when the map masks the image"
    ),
    "road": Metric("ROAD", "higher", "half the score without the lowest minus without the highest"),
    "arcc": Metric("ARCC", "higher", "harmonic mean of ROAD, coherency and 1 - complexity"),
    "coherency": Metric("coherency", "higher", "likeness to the map of the masked image"),
    "complexity": Metric("complexity", "lower", "share of the image that the map shows"),
    "positive_mass": Metric("mass", "higher", "share of the positive values inside the mask"),
    "absolute_mass": Metric("|mass|", "higher", "share of the values' magnitudes inside"),
    "peak_pointing": Metric("peak", "higher", "how often the largest value is inside"),
    "centroid_pointing": Metric("centroid", "higher", "how often the centre of mass is inside"),
    "peak_distance": Metric("peak off", "lower", "voxels from the largest value to the middle"),
    "centroid_distance": Metric("centroid off", "lower", "voxels from the centre of mass"),
    "vxap": Metric("VxAP", "higher", "voxel average precision, image by image"),
    "max_f1": Metric("MaxF1", "higher", "best F1 over thresholds, image by image"),
    "se3d_vxap": Metric("SE3D VxAP", "higher", "voxel average precision, images pooled"),
    "se3d_max_f1": Metric("SE3D MaxF1", "higher", "best F1, images pooled"),
    "se3d_box_acc": Metric("Max3DBoxAcc", "higher", "boxes that overlap by half, one threshold"),
    "se3d_box_acc_v2_mean": Metric("Max3DBoxAccV2", "higher", "best boxes, at IoU 0.3, 0.5, 0.7"),
    "classes": Metric("classes", "lower", "likeness of the maps of all classes, worry above 0.9"),
    "randomised": Metric("randomised", "lower", "likeness to the map without learned weights"),
    "noise": Metric("noise", "higher", "likeness to the map of the image with noise"),
    "shift": Metric("shift", "higher", "likeness to the map of the shifted image"),
}
"""Every figure that is compared; those named se3d pool images and are made from counts."""

_OF_CHANGED_IMAGES = ("deletion", "insertion", "drop", "increase", "road")
_HITS = ("increase", "peak_pointing", "centroid_pointing")  # yes or no for each image


def words_of(metric: str, measure: str = "score") -> str:
    """One line on a figure for people, with what was followed in changed images.

    Parameters
    ----------
    metric
        A name of `METRICS`.
    measure
        ``"score"`` or ``"probability"``, as `respondcam.evidence.scoring.Scorer` has it.

    Examples
    --------
    >>> words_of("deletion", "probability")
    'area under the probability, highest voxels taken away'
    """
    words = METRICS[metric].words
    return words.replace("the score", f"the {measure}") if metric in _OF_CHANGED_IMAGES else words


@dataclass(frozen=True, eq=False)
class Result:
    """The figures of one image by one method at one layer.

    Parameters
    ----------
    image, method, layer
        Names; `layer` is a dash for controls that have none.
    figures
        By names of `METRICS`; NaN where one is not defined.
    counts
        For the figures that pool images.
    """

    image: str
    method: str
    layer: str
    figures: Mapping[str, float] = field(default_factory=dict)
    counts: Se3dCounts | None = None


@dataclass(frozen=True)
class Compared:
    """One figure of one method at one layer over all images.

    Parameters
    ----------
    metric, method, layer
        Names.
    value
        Mean over images with its interval; of pooled figures the figure itself.
    difference
        To the first method at its first layer, on the images that both have; None for that itself.
    """

    metric: str
    method: str
    layer: str
    value: Interval
    difference: Interval | None


class ComparedTable(list[Compared]):
    """Rows of a comparison, in the order of the figures; a notebook shows them as a table."""

    def cells(self) -> tuple[list[str], list[list[object]]]:
        """Column titles and the cells of every row, for any renderer."""
        titles = ["measure", "better", "method", "layer", "mean", "95 %", "", "to the first", ""]
        return titles, [_cells(row) for row in self]

    def _repr_html_(self) -> str:
        from respondcam.show import table_html

        titles, rows = self.cells()
        return table_html(rows, titles)


def compare(results: Sequence[Result], *, seed: int = 0) -> ComparedTable:
    """Summarise results; the first method and layer among them is what others are compared with.

    Raises
    ------
    InputError
        If there are none.

    Examples
    --------
    >>> some = [Result(str(n), m, "conv", {"drop": n / 10 + (m == "b")})
    ...         for n in range(8) for m in "ab"]
    >>> first, second = compare(some)
    >>> first.difference, round(second.difference.mean, 6)
    (None, 1.0)
    """
    if not results:
        raise InputError("There is nothing to compare: no volume was explained.")
    groups: dict[tuple[str, str], dict[str, Result]] = {}
    for result in results:
        groups.setdefault((result.method, result.layer), {})[result.image] = result
    first = next(iter(groups))
    found = ComparedTable()
    draws = _Draws(seed)
    for metric in METRICS:
        for key, by_image in groups.items():
            one = _compared(metric, by_image, None if key == first else groups[first], draws)
            if one is not None:
                found.append(Compared(metric, *key, *one))
    return found


def controls_in_words(rows: Sequence[Compared]) -> str:
    """By which measures a control is ahead of the first method; empty without controls.

    A method that such a map outdoes has shown nothing by that measure, however good its figure is.
    What a control reaches by construction is not counted, nor a lead that is clear and next to
    nothing; where the table has such a lead, the words name it.

    Examples
    --------
    >>> some = [Result(str(n), m, "conv", {"deletion": 0.5 - (m == "uniform") / 10})
    ...         for n in range(8) for m in ("respond", "uniform")]
    >>> controls_in_words(compare(some))
    'Controls are ahead of respond at conv by 1 of 1 measure: uniform by deletion * (* clearly).'
    """
    asked = [row for row in rows if row.method in CONTROLS and row.difference is not None]
    asked = [row for row in asked if METRICS[row.metric].better]
    uncounted = _uncounted(asked)
    asked = [row for row in asked if (row.method, row.metric) not in _BY_CONSTRUCTION]
    if not asked:
        return uncounted.strip()
    first, total = rows[0], len({row.metric for row in asked})
    layer = layer_named(first.layer)
    ahead = [row for row in asked if _is_ahead(row)]
    if not ahead:
        measures = "the one measure" if total == 1 else f"any of {total} measures"
        return f"No control is ahead of {first.method} at {layer} by {measures}.{uncounted}"
    titles: dict[str, list[str]] = {}
    for row in ahead:
        star = " *" if is_clear(row) else ""
        titles.setdefault(_named(row, asked), []).append(METRICS[row.metric].title + star)
    told = "; ".join(f"{name} by {', '.join(found)}" for name, found in titles.items())
    told += " (* clearly)" if "*" in told else ""
    count = len({row.metric for row in ahead})
    return (
        f"Controls are ahead of {first.method} at {layer} by {count} of "
        f"{counted(total, 'measure')}: {told}.{uncounted}"
    )


_BY_CONSTRUCTION = {("uniform", "drop"): "its map of ones keeps the whole image"}


def _uncounted(asked: Sequence[Compared]) -> str:
    """The leads of controls that the table shows and that are not counted, and why."""
    told: list[str] = []
    for row in asked:
        if not (is_clear(row) and _gain(row) > 0):
            continue
        why = _BY_CONSTRUCTION.get((row.method, row.metric))
        if why is None and not _is_ahead(row):
            why = "less than a hundredth of the figure"
        if why is not None:
            told.append(f"{_named(row, asked)} by {METRICS[row.metric].title} ({why})")
    return f" Not counted: {', '.join(told)}." if told else ""


def _named(row: Compared, asked: Sequence[Compared]) -> str:
    """A control, with its layer where it was looked at at several."""
    several = any(one.method == row.method and one.layer != row.layer for one in asked)
    return f"{row.method} at {layer_named(row.layer)}" if several else row.method


def is_clear(row: Compared) -> bool:
    """Whether a difference to the first method is more than chance.

    Its interval excludes zero; of what is yes or no for each image, at least one image differs.
    Where the first hits no image a control that hits one of 200 is ahead in each of a few images,
    so the interval of the difference excludes zero although nothing was seen.
    """
    difference = row.difference
    return difference is not None and difference.clear_of_zero and not _is_below_one_hit(row)


def _is_below_one_hit(row: Compared) -> bool:
    difference = row.difference
    return (
        difference is not None
        and row.metric in _HITS
        and abs(difference.mean) * difference.count < 1 - _ROUNDING
    )


def _is_ahead(row: Compared) -> bool:
    visible = max(_ROUNDING, _VISIBLE * abs(row.value.mean))
    return _gain(row) > visible and not _is_below_one_hit(row)


def _gain(row: Compared) -> float:
    """By how much a row is better than the first; nothing where that is not known."""
    difference = math.nan if row.difference is None else row.difference.mean
    return difference if METRICS[row.metric].better == "higher" else -difference


def _cells(row: Compared) -> list[object]:
    other = row.difference
    star = "" if other is None else "*" if is_clear(row) else "not clear of zero"
    return [
        METRICS[row.metric].title,
        METRICS[row.metric].better,
        row.method,
        row.layer,
        row.value.mean,
        row.value.low,
        row.value.high,
        "" if other is None else other.mean,
        star,
    ]


def _compared(
    metric: str, own: Mapping[str, Result], first: Mapping[str, Result] | None, draws: "_Draws"
) -> tuple[Interval, Interval | None] | None:
    if metric.startswith("se3d_"):
        return _pooled(metric.removeprefix("se3d_"), own, first, draws)
    values = {n: r.figures[metric] for n, r in own.items() if metric in r.figures}
    if not values:
        return None
    difference = None
    if first is not None:
        common = [n for n in values if n in first and metric in first[n].figures]
        if common:
            theirs = [first[n].figures[metric] for n in common]
            difference = paired([values[n] for n in common], theirs, seed=draws.seed)
    return bootstrap(list(values.values()), seed=draws.seed), difference


def _pooled(
    figure: str, own: Mapping[str, Result], first: Mapping[str, Result] | None, draws: "_Draws"
) -> tuple[Interval, Interval | None] | None:
    counts = {n: r.counts for n, r in own.items() if r.counts is not None}
    if not counts:
        return None
    values = draws.of(counts, figure)
    if math.isnan(values[0]):
        return None
    pooled = _interval(values, len(counts))
    theirs = {n: r.counts for n, r in (first or {}).items() if r.counts is not None}
    common = [n for n in counts if n in theirs]
    if not common:
        return pooled, None
    # the same draws of the same images, so the values differ by the method alone
    mine, other = (draws.of({n: side[n] for n in common}, figure) for side in (counts, theirs))
    return pooled, None if math.isnan(other[0]) else _interval(mine - other, len(common))


class _Draws:
    """Pooled figures of resampled images, each set of images resampled once."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.kept: dict[tuple[int, ...], list[Se3d]] = {}

    def of(self, counts: Mapping[str, Se3dCounts], figure: str) -> np.ndarray:
        """The figure of all images, and then of each draw."""
        key = tuple(id(one) for one in counts.values())
        if key not in self.kept:
            count = len(counts)
            generator = np.random.default_rng(self.seed)
            many = _POOLED_RESAMPLES if count >= FEWEST else 0
            drawn = generator.integers(0, count, (many, count)).tolist()
            self.kept[key] = se3d_resampled(list(counts.values()), [range(count), *drawn])
        return np.array([getattr(one, figure) for one in self.kept[key]])


def _interval(values: np.ndarray, count: int) -> Interval:
    if len(values) == 1:
        few = f"{count} images are too few for an interval ({FEWEST} are needed)"
        return Interval(float(values[0]), math.nan, math.nan, count, note=few)
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return Interval(float(values[0]), float(low), float(high), count)
