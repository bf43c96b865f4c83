"""Every method on every scene, and placed maps beside resized ones."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from planted.known import KNOWN, balls
from planted.looking import Looks, looks, mean
from planted.networks import CONTROLLED, STRIDED, last_block, trained
from planted.peers import peers
from planted.scenes import Images, specks
from respondcam import METHODS
from respondcam.attribution.placing import interpolate, place
from respondcam.errors import InputError
from respondcam.evidence.comparison import Result
from respondcam.evidence.controls import CONTROLS, ChannelSum
from respondcam.evidence.faithfulness import Changing
from respondcam.evidence.intervals import Interval, bootstrap
from respondcam.evidence.measuring import Method, Wanted, measure
from respondcam.evidence.pointing import centroid_distance, centroids, peaks
from respondcam.evidence.scoring import Scorer

WANTED = Wanted(
    ("account", "deletion", "insertion", "location", "boxes", "classes"),
    Changing(fill="mean", steps=5, at_once=16),
)
ON_INPUT: dict[str, dict[str, int]] = {
    "integrated-gradients": {"nodes": 8},
    "occlusion": {"window": 8},
    "guided-backprop": {},
}


def results(model: nn.Module, images: Images) -> tuple[list[Result], dict[str, str]]:
    """All figures of all methods, other libraries and controls; and what failed, with why."""
    layer = str(int(last_block(model)) - 1)  # type: ignore[arg-type]
    explainers = {name: _made(name, layer) for name in METHODS}
    own = {name: make(model) for name, make in explainers.items()}
    own["channel-sum"] = ChannelSum(model, layer)
    others = peers(model, layer)
    found: list[Result] = []
    left_out: dict[str, str] = {}
    for n in range(len(images)):
        volume, mask = images.volumes[n : n + 1], images.masks[n : n + 1]
        label = int(images.labels[n])
        scorer = Scorer(model, volume, label)

        def add(
            name: str,
            maps: Tensor,
            mask: Tensor = mask,
            scorer: Scorer = scorer,
            n: int = n,
            **more: Any,
        ) -> None:
            one = measure(scorer, maps, WANTED, mask=mask, **more)
            found.append(Result(str(n), name, layer, one.figures, one.counts))

        for name, explain in own.items():
            if name in left_out:
                continue
            try:
                explanation: Any = explain(volume, label)
            except InputError as error:
                left_out[name] = str(error)
                continue
            more: dict[str, Any] = {}
            if name not in CONTROLS:
                method = Method(explainers[name], model, label)
                more = {"explanation": explanation, "method": method}
            top = explanation.place("value").detach()
            add(name, explanation.place().detach(), heights=top, **more)
        for name, run in others.items():
            if name in left_out:
                continue
            try:
                maps = run(volume, label)
            except Exception as error:  # whatever another library makes of a volume
                left_out[name] = f"{type(error).__name__}: {str(error)[:120]}"
                continue
            add(name, maps)
        for name in ("uniform", "centre"):
            add(name, CONTROLS[name](mask)[:, None].float())
    return found, left_out


def _made(name: str, layer: str) -> Callable[[nn.Module], Callable[..., Any]]:
    """Network -> explainer of one method: of one layer, of it and the one below, of the input."""
    if name in ON_INPUT:
        return lambda model: METHODS[name](model, **ON_INPUT[name])
    layers: Any = [str(int(layer) - 1), layer] if name == "refine" else layer
    return lambda model: METHODS[name](model, layers)


@dataclass(frozen=True)
class Places:
    """Voxels from map to object in one network, over images and trainings.

    Parameters
    ----------
    network
        Its name.
    found
        Share of the images in which the object was found; only these count.
    apart
        Figure -> way -> distances, image by image.
    ratios
        Figure -> resized over placed: the ratio of the means, with its interval over images.
    by_training
        The ratios of each training alone.
    worst
        Way -> the largest distance of a peak along an axis, in strides of the layer; empty where
        the network is trained and need not answer at its cells' centres.
    """

    network: str
    found: float
    apart: dict[str, dict[str, Interval]]
    ratios: dict[str, Interval]
    by_training: dict[str, list[float]]
    worst: dict[str, float]


def truth_known(tests: int, seed: int) -> list[Places]:
    """How far maps of networks made by hand point from the object."""
    rows = []
    for name, known in KNOWN.items():
        model = known.make()
        test = balls(tests, known.size, known.stride + 2, seeded(1000 * seed + 60))
        apart = _distances(model, test)
        worst = {
            way: max(apart["worst", way]) / known.stride for what, way in apart if what == "worst"
        }
        pointed = {key: values for key, values in apart.items() if key[0] != "worst"}
        rows.append(_summary(name, [pointed], tests, worst))
    return rows


def placed_or_resized(
    count: int, epochs: int, tests: int, trainings: int, seed: int
) -> tuple[list[Places], list[Looks]]:
    """How far maps of trained networks point from the object, and what their peaks look at."""
    rows: dict[str, list[dict[tuple[str, str], list[float]]]] = {name: [] for name in STRIDED}
    looked: dict[str, list[Looks]] = {}
    for training in range(trainings):
        base = 1000 * (seed + training) + 50
        learn = specks(count, seeded(base), pairs=True)
        test = specks(tests, seeded(base + 1), pairs=False)
        for name, make in STRIDED.items():
            model = trained(make, learn, epochs, seed + training)
            apart = _distances(model, test)
            rows[name].append({key: v for key, v in apart.items() if key[0] != "worst"})
            looked.setdefault(name, []).append(looks(name, model, test))
        for name, (make, size) in CONTROLLED.items():
            images = specks(count, seeded(base), pairs=True, size=size)
            model = trained(make, images, epochs, seed + training)
            test = specks(tests, seeded(base + 1), pairs=False, size=size)
            looked.setdefault(name, []).append(looks(name, model, test))
    places = [_summary(name, runs, tests * trainings, {}) for name, runs in rows.items()]
    return places, [mean(found) for found in looked.values()]


def _distances(model: nn.Module, test: Images) -> dict[tuple[str, str], list[float]]:
    explain = METHODS["respond"](model, last_block(model))  # type: ignore[arg-type]
    apart: dict[tuple[str, str], list[float]] = {}
    for n in range(len(test)):
        volume, label, mask = test.volumes[n : n + 1], int(test.labels[n]), test.masks[n : n + 1]
        with torch.inference_mode():
            if float(model(volume)[0, label]) <= 0:
                continue
        for way, (maps, shares) in _ways(explain(volume, label)).items():
            at = centroids(peaks(maps, shares).double()) - centroids(mask.double())
            found = {
                "centroid": centroid_distance(maps, mask),
                "peak": at.norm(dim=1),
                "worst": at.abs().amax(dim=1),
            }
            for what, value in found.items():
                apart.setdefault((what, way), []).append(float(value))
    return apart


def _ways(explanation: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Way -> the map in the input's voxels, and the shares that say where in a plateau it is."""
    grid = explanation.grid
    stride = tuple(i / n for i, n in zip(grid.input_shape, grid.shape, strict=True))
    # what other libraries do: the grid is stretched over the input
    even = replace(grid, stride=stride, offset=tuple((s - 1) / 2 for s in stride))
    ways = {
        "placed": (explanation.place(), explanation.place()),
        "placed values": (explanation.place("value"), explanation.place()),
        "resized": (interpolate(explanation.maps, even), place(explanation.maps, even)),
    }
    return {
        way: (maps[:, 0].detach(), shares[:, 0].detach()) for way, (maps, shares) in ways.items()
    }


def _summary(
    name: str,
    runs: list[dict[tuple[str, str], list[float]]],
    count: int,
    worst: dict[str, float],
) -> Places:
    pooled: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        for key, values in run.items():
            pooled.setdefault(key, []).extend(values)
    apart: dict[str, dict[str, Interval]] = {}
    for (what, way), values in pooled.items():
        apart.setdefault(what, {})[way] = bootstrap(values)
    kinds = [(what, way) for what in apart for way in ("placed", "placed values")]
    ratios = {
        f"{what}, {way}": ratio(pooled[what, "resized"], pooled[what, way]) for what, way in kinds
    }
    single = {
        f"{what}, {way}": [ratio(run[what, "resized"], run[what, way]).mean for run in runs]
        for what, way in kinds
    }
    found = len(pooled["peak", "placed"]) / count
    return Places(name, found, apart, ratios, single, worst)


def ratio(upper: list[float], lower: list[float], resamples: int = 2000) -> Interval:
    """Ratio of the means over the same images, with its 95 % interval by bootstrap."""
    values = np.array([upper, lower])
    values = values[:, np.isfinite(values).all(axis=0)]
    drawn = np.random.default_rng(0).integers(0, values.shape[1], (resamples, values.shape[1]))
    means = values[:, drawn].mean(axis=2)
    low, high = np.quantile(means[0] / means[1], (0.025, 0.975))
    mean = float(values[0].mean() / values[1].mean())
    return Interval(mean, float(low), float(high), values.shape[1])


def seeded(seed: int) -> torch.Generator:
    """Random numbers of one scene."""
    return torch.Generator().manual_seed(seed)
