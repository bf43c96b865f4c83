"""Many methods on many images: means with intervals, and differences on the same images.

Everything here is a pure function of `Result`s, one per image, method and layer, which a run can
keep in files: nothing is explained again to make the table.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from respondcam.errors import InputError
from respondcam.evidence.bootstrap import FEWEST, Interval, bootstrap, paired
from respondcam.evidence.se3d import Se3dCounts, se3d_figures

_POOLED_RESAMPLES = 300


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
    "open": Metric("open", "lower", "share of the score's change that the map leaves open"),
    "deletion": Metric("deletion", "lower", "area under the score, highest voxels taken away"),
    "insertion": Metric("insertion", "higher", "area under the score, highest voxels put back"),
    "drop": Metric("drop", "lower", "share of the score lost when the map masks the image"),
    "increase": Metric("increase", "higher", "how often the score rises then"),
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
    "randomised": Metric("randomised", "lower", "likeness to the map without learned weights"),
    "noise": Metric("noise", "higher", "likeness to the map of the image with noise"),
    "shift": Metric("shift", "higher", "likeness to the map of the shifted image"),
}
"""Every figure that is compared; those named se3d pool images and are made from counts."""


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


def compare(results: Sequence[Result], *, seed: int = 0) -> list[Compared]:
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
    found = []
    for metric in METRICS:
        for key, by_image in groups.items():
            one = _compared(metric, by_image, None if key == first else groups[first], seed)
            if one is not None:
                found.append(Compared(metric, *key, *one))
    return found


def _compared(
    metric: str, own: Mapping[str, Result], first: Mapping[str, Result] | None, seed: int
) -> tuple[Interval, Interval | None] | None:
    if metric.startswith("se3d_"):
        return _pooled(metric.removeprefix("se3d_"), own, first, seed)
    values = {n: r.figures[metric] for n, r in own.items() if metric in r.figures}
    if not values:
        return None
    difference = None
    if first is not None:
        common = [n for n in values if n in first and metric in first[n].figures]
        if common:
            theirs = [first[n].figures[metric] for n in common]
            difference = paired([values[n] for n in common], theirs, seed=seed)
    return bootstrap(list(values.values()), seed=seed), difference


def _pooled(
    figure: str, own: Mapping[str, Result], first: Mapping[str, Result] | None, seed: int
) -> tuple[Interval, Interval | None] | None:
    counts = {n: r.counts for n, r in own.items() if r.counts is not None}
    if not counts:
        return None
    pooled = _pooled_interval(figure, [list(counts.values())], seed)
    if pooled is None or first is None:
        return None if pooled is None else (pooled, None)
    theirs = {n: r.counts for n, r in first.items() if r.counts is not None and n in counts}
    if not theirs:
        return pooled, None
    pairs = [[counts[n] for n in theirs], list(theirs.values())]
    return pooled, _pooled_interval(figure, pairs, seed)


def _pooled_interval(
    figure: str, samples: Sequence[Sequence[Se3dCounts]], seed: int
) -> Interval | None:
    """Figure of the first sample, minus that of the second if there is one."""

    def value(images: Sequence[int]) -> float:
        parts = [getattr(se3d_figures([s[i] for i in images]), figure) for s in samples]
        return float(parts[0] - parts[1] if len(parts) > 1 else parts[0])

    count = len(samples[0])
    whole = value(range(count))
    if math.isnan(whole):
        return None
    if count < FEWEST:
        few = f"{count} images are too few for an interval ({FEWEST} are needed)"
        return Interval(whole, math.nan, math.nan, count, note=few)
    generator = np.random.default_rng(seed)
    draws = generator.integers(0, count, (_POOLED_RESAMPLES, count))
    low, high = np.quantile([value(draw.tolist()) for draw in draws], (0.025, 0.975))
    return Interval(whole, float(low), float(high), count)
