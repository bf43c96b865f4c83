"""Objects to show: one simulated image of each class, with the object in its pose beside it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from respondcam.attribution import Explanation, RespondCAM
from respondcam.cryoet.poses import place_densities, random_poses
from respondcam.cryoet.subtomograms import MASK_LEVEL, simulate_subtomograms
from respondcam.cryoet.templates import stacked
from respondcam.paper.networks import MAX_SHIFT_VOXELS, Laboratory
from respondcam.paper.strips import Panel
from respondcam.show.theme import format_score
from respondcam.volume import Volume

_STREAM = 14  # of poses, beside those of training and tests


@dataclass(frozen=True, eq=False)
class Case:
    """One image and the truth about it.

    Parameters
    ----------
    name, label
        Its class.
    object
        The density in the image's pose.
    level
        Value of the object at its surface.
    image
        What the network sees.
    """

    name: str
    label: int
    object: Volume
    level: float
    image: Volume

    @property
    def voxels_inside(self) -> int:
        """How large the object is."""
        return int((self.object.voxels > self.level).sum())


def make_cases(laboratory: Laboratory, snr: float) -> list[Case]:
    """Simulate one image of each class."""
    plan = laboratory.plan
    densities = stacked(laboratory.templates)
    labels = torch.arange(len(densities))
    generator = torch.Generator().manual_seed(1000 * plan.seed + _STREAM)
    poses = random_poses(len(labels), max_shift_voxels=MAX_SHIFT_VOXELS, generator=generator)
    boxes = simulate_subtomograms(
        densities, labels, poses, laboratory.imaging(snr), size=plan.size, generator=generator
    )
    objects = place_densities(densities, poses, size=plan.size)
    affine = np.diag([plan.voxel_size_angstrom] * 3 + [1.0])
    return [
        Case(
            name=name,
            label=label,
            object=Volume(objects[label].numpy(), affine, "angstrom"),
            level=MASK_LEVEL * float(densities[label].max()),
            image=Volume(boxes.volumes[label, 0].numpy(), affine, "angstrom"),
        )
        for label, name in enumerate(laboratory.templates)
    ]


def choose_cases(cases: Sequence[Case], networks: Sequence[nn.Module], count: int) -> list[Case]:
    """Choose `count` cases of different sizes, of those that all networks recognise if there are.

    The sizes are those at the middle of each of `count` equal parts of the list.
    """
    known = [one for one in cases if all(_recognised(one, network) for network in networks)]
    sized = sorted(known if len(known) >= count else cases, key=lambda one: -one.voxels_inside)
    count = min(count, len(sized))
    return [sized[int((part + 0.5) * len(sized) / count)] for part in range(count)]


def map_panel(title: str, case: Case, explanation: Explanation) -> Panel:
    """Show a map, with its sum and the score that it should have."""
    score, total = float(explanation.scores[0, 0]), float(explanation.maps[0, 0].sum())
    return Panel(
        title,
        (case.object, case.level),
        case.image,
        explanation.volume(resolution="input", keep="value"),
        (f"sum {format_score(total)}", f"score {format_score(score)}"),
    )


def _recognised(case: Case, network: nn.Module) -> bool:
    explanation = RespondCAM(network, layer="maxpool2")(case.image, target="all")
    assert isinstance(explanation, Explanation)
    return int(explanation.scores[0].argmax()) == case.label
