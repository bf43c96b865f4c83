"""Every method on every scene, and placed maps beside resized ones."""

from typing import Any

import torch
from torch import Tensor, nn

from planted.networks import STRIDED, accuracy, last_block, trained
from planted.scenes import Images
from respondcam import METHODS
from respondcam.errors import InputError
from respondcam.evidence.comparison import Result
from respondcam.evidence.controls import CONTROLS, ChannelSum
from respondcam.evidence.faithfulness import Changing
from respondcam.evidence.intervals import Interval, bootstrap, paired
from respondcam.evidence.measuring import Wanted, measure
from respondcam.evidence.pointing import centroid_distance, centroids, peak_distance
from respondcam.evidence.scoring import Scorer

WANTED = Wanted(
    ("account", "deletion", "insertion", "location"),
    Changing(fill="mean", steps=5, at_once=16),
)


def results(model: nn.Module, images: Images) -> list[Result]:
    """All figures of all methods and controls for the asked class of each image."""
    layer = str(int(last_block(model)) - 1)  # type: ignore[arg-type]
    explainers = {name: make(model, layer) for name, make in METHODS.items()}
    explainers["channel-sum"] = ChannelSum(model, layer)
    found, broken = [], set()
    for n in range(len(images)):
        volume, mask = images.volumes[n : n + 1], images.masks[n : n + 1]
        label = int(images.labels[n])
        scorer = Scorer(model, volume, label)
        for name, explain in explainers.items():
            if name in broken:
                continue
            try:
                explanation = explain(volume, label)
            except InputError as error:
                print(f"  {name} is left out: {error}")
                broken.add(name)
                continue
            own = None if name in CONTROLS else explanation
            maps = explanation.place().detach()
            one = measure(scorer, maps, WANTED, mask=mask, explanation=own)
            found.append(Result(str(n), name, layer, one.figures, one.counts))
        for name in ("uniform", "centre"):
            maps = CONTROLS[name](mask)[:, None].float()
            one = measure(scorer, maps, WANTED, mask=mask)
            found.append(Result(str(n), name, "-", one.figures, one.counts))
    return found


def placed_or_resized(
    learn: Images, test: Images, epochs: int, seed: int
) -> list[tuple[str, float, dict[str, tuple[Interval, Interval, Interval]]]]:
    """Voxels from map to object for both ways, on the images that the network gets right.

    ``grid peak`` looks at the geometry alone: the largest voxel of the raw map, put where the grid
    has it, or where an evenly spread grid would.
    """
    rows = []
    for name, make in STRIDED.items():
        model = trained(make, learn, epochs, seed)
        explain = METHODS["respond"](model, last_block(model))  # type: ignore[arg-type]
        apart: dict[str, list[list[float]]] = {
            "grid peak": [[], []],
            "peak": [[], []],
            "centroid": [[], []],
        }
        for n in range(len(test)):
            volume, label = test.volumes[n : n + 1], int(test.labels[n])
            with torch.inference_mode():
                if int(model(volume).argmax()) != label:
                    continue
            explanation = explain(volume, label)
            for way, distance in enumerate(_grid_peak(explanation, test.masks[n : n + 1])):
                apart["grid peak"][way].append(distance)
            ways = (explanation.place().detach(), _resized(explanation.maps, volume))
            for way, maps in enumerate(ways):
                for what, measured in (("peak", peak_distance), ("centroid", centroid_distance)):
                    distance = float(measured(maps[:, 0], test.masks[n : n + 1]))
                    apart[what][way].append(distance)
        figures = {
            what: (bootstrap(placed), bootstrap(resized), paired(resized, placed))
            for what, (placed, resized) in apart.items()
        }
        rows.append((name, accuracy(model, test), figures))
    return rows


def _grid_peak(explanation: Any, mask: Tensor) -> tuple[float, float]:
    """From the largest raw voxel to the object, by the grid and by even spacing."""
    grid, raw = explanation.grid, explanation.maps[0, 0]
    at = torch.unravel_index(raw.argmax(), raw.shape)
    middle = centroids(mask.double())[0]
    found = []
    for even in (False, True):
        places = []
        for axis, index in enumerate(at):
            step = grid.input_shape[axis] / grid.shape[axis]
            stride, offset = (
                (step, step / 2 - 0.5) if even else (grid.stride[axis], grid.offset[axis])
            )
            places.append(offset + stride * int(index))
        found.append(float((torch.tensor(places, dtype=torch.float64) - middle).norm()))
    return found[0], found[1]


def _resized(maps: Tensor, volume: Tensor) -> Tensor:
    """What other libraries do: the grid is stretched over the input."""
    return nn.functional.interpolate(
        maps.detach(), size=volume.shape[2:], mode="trilinear", align_corners=False
    )


def seeded(seed: int) -> torch.Generator:
    """Random numbers of one scene."""
    return torch.Generator().manual_seed(seed)
