"""What the largest cell of a trained network's map looks at: changed images say it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from planted.networks import last_block
from planted.scenes import Images, ball
from respondcam import METHODS
from respondcam.attribution.occlusion import Occlusion
from respondcam.evidence.pointing import centroids, peak_distance

IMAGES, OCCLUDED = 20, 2  # of each training
NAMES = ("apart", "pull", "nearest", "cells", "without_object", "without_there")


@dataclass(frozen=True)
class Looks:
    """Means over images and trainings; distances in voxels.

    Parameters
    ----------
    network
        Its name.
    apart
        From the object to the centre of the map's largest cell.
    pull
        The same along all axes, with its sign: below zero, cells lie towards low indices.
    nearest
        Value of the cell nearest to the object, as a share of the largest.
    cells
        How many have more than half of the largest value.
    without_object
        Share of the largest cell's value that is lost when the object is replaced by zeros.
    without_there
        The same for a ball of the object's size at that cell's centre.
    occlusion
        From the object to the peak of an occlusion map of the whole network, windows of 4 voxels.
    """

    network: str
    apart: float
    pull: float
    nearest: float
    cells: float
    without_object: float
    without_there: float
    occlusion: float


def looks(network: str, model: Any, test: Images) -> Looks:
    """Take the largest cell of each map, and change the image at the object and at that cell."""
    explain: Any = METHODS["respond"](model, last_block(model))
    occlude: Any = Occlusion(model, window=4)
    rows: list[list[float]] = []
    occluded: list[float] = []
    for n in range(min(IMAGES, len(test))):
        volume, label, mask = test.volumes[n : n + 1], int(test.labels[n]), test.masks[n : n + 1]
        explanation = explain(volume, label)
        found, grid = explanation.maps[0, 0].detach(), explanation.grid
        stride, offset = torch.tensor(grid.stride), torch.tensor(grid.offset)
        top = np.unravel_index(int(found.argmax()), found.shape)
        highest = found[top]
        centre, object_at = offset + stride * torch.tensor(top), centroids(mask.double())[0]
        last = torch.tensor(grid.shape) - 1
        near = ((object_at - offset) / stride).round().long().clamp(min=0).minimum(last)
        there = ball(centre, 5, volume.shape[-1])
        lost = [
            float(1 - explain(volume * ~hidden, label).maps[0, 0].detach()[top] / highest)
            for hidden in (mask[:, None], there)
        ]
        away = centre - object_at
        nearest, cells = found[tuple(near.tolist())] / highest, (found > highest / 2).sum()
        rows.append([float(x) for x in (away.norm(), away.mean(), nearest, cells)] + lost)
        if n < OCCLUDED:
            occluded.append(float(peak_distance(occlude(volume, label).maps[:, 0].detach(), mask)))
    means = dict(zip(NAMES, np.mean(rows, axis=0).tolist(), strict=True))
    return Looks(network, occlusion=float(np.mean(occluded)), **means)


def mean(found: Sequence[Looks]) -> Looks:
    """Over the trainings of one network."""
    columns = [asdict(one) for one in found]
    means = {name: float(np.mean([c[name] for c in columns])) for name in (*NAMES, "occlusion")}
    return Looks(found[0].network, **means)
