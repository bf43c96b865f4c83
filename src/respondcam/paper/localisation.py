"""Do the maps lie on the particle? With the controls that say how little that may mean.

Two kinds of images without noise: one particle far from the middle, and two particles in one box,
of which one is asked for. The networks are trained on particles that are as far from the middle.
"""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from respondcam._files import whole_file
from respondcam.attribution import Explainer, Explanation, GradCAM, HiResCAM, RespondCAM
from respondcam.cryoet.crowding import crowded_boxes
from respondcam.cryoet.poses import Poses, random_poses
from respondcam.cryoet.subtomograms import density_radius, simulate_subtomograms
from respondcam.cryoet.templates import stacked
from respondcam.errors import InputError
from respondcam.evidence.controls import ChannelSum, centred, uniform
from respondcam.evidence.localisation import (
    LocalisationSummary,
    localise,
    summarise_localisation,
)
from respondcam.paper.networks import Laboratory, Setting
from respondcam.paper.table1 import LAYER

SHARE_OF_SHIFT = 0.2  # of the box's edge: how far particles are from the middle
_PAIR_RADIUS = 0.28  # of the box's edge: larger particles find no place beside another
_STREAM = 15
_AT_ONCE = 16


@dataclass(frozen=True)
class LocalisedRow:
    """One method on one kind of images.

    Parameters
    ----------
    network, images
        Which network, on which kind of images: ``"shifted"`` or ``"pairs"``.
    method
        Name of the method or of the control.
    accuracy
        Share of images whose asked-for class has the highest score; for pairs, either class.
    figures
        Over all images.
    """

    network: str
    images: str
    method: str
    accuracy: float
    figures: LocalisationSummary


@dataclass(frozen=True, eq=False)
class Targets:
    """Images, the class that is asked for in each, all classes in it, and where the object is."""

    volumes: Float[Tensor, "image 1 z y x"]
    asked: Int[Tensor, " image"]
    there: Int[Tensor, "image particle"]
    masks: Bool[Tensor, "image z y x"]


def reproduce_localisation(
    laboratory: Laboratory, networks: Sequence[str], *, per_class: int = 20
) -> list[LocalisedRow]:
    """Measure localisation, and write ``localisation.md`` and ``localisation.csv``.

    Raises
    ------
    InputError
        If the folder holds something else.
    """
    laboratory.claim()
    shift = float(round(SHARE_OF_SHIFT * laboratory.plan.size))
    rows: list[LocalisedRow] = []
    for name in networks:
        network = laboratory.network(Setting(name, math.inf, shift))
        for kind, make in (("shifted", _shifted), ("pairs", _pairs)):
            images = make(laboratory, per_class, shift)
            if images is None:
                laboratory.tell(
                    "No two of these classes fit into one box: there are no pairs to measure on."
                )
                continue
            laboratory.tell(f"{name}: {len(images.asked)} images, {kind}")
            rows += _rows(name, kind, network, images, laboratory.device)
    _write(laboratory, rows)
    return rows


def _shifted(laboratory: Laboratory, per_class: int, shift: float) -> Targets:
    """One particle in each box, anywhere within the shift, but whole."""
    densities = stacked(laboratory.templates)
    generator = _generator(laboratory)
    labels = torch.arange(len(densities)).repeat(per_class)
    poses = random_poses(len(labels), max_shift_voxels=1.0, generator=generator)
    radii = torch.tensor([density_radius(density) for density in densities])
    room = (laboratory.plan.size / 2 - radii[labels]).clamp(min=0, max=shift)
    poses.shifts.mul_(room[:, None])
    boxes = simulate_subtomograms(
        densities,
        labels,
        poses,
        laboratory.imaging(math.inf),
        size=laboratory.plan.size,
        generator=generator,
    )
    return Targets(boxes.volumes, labels, labels[:, None], boxes.masks)


def _pairs(laboratory: Laboratory, per_class: int, shift: float) -> Targets | None:
    """Two particles of different classes in each box; the first one is asked for."""
    del shift  # they lie where there is room
    densities = stacked(laboratory.templates)
    radii = torch.tensor([density_radius(density) for density in densities])
    fitting = (radii <= _PAIR_RADIUS * laboratory.plan.size).nonzero()[:, 0]
    if len(fitting) < 2:
        return None
    generator = _generator(laboratory)
    try:
        found, poses = crowded_boxes(
            radii[fitting],
            2 * per_class * len(fitting),
            2,
            size=laboratory.plan.size,
            generator=generator,
        )
    except InputError:
        return None
    different = (found[:, 0] != found[:, 1]).nonzero()[: per_class * len(fitting), 0]
    labels = fitting[found[different]]
    boxes = simulate_subtomograms(
        densities,
        labels,
        Poses(poses.rotations[different], poses.shifts[different]),
        laboratory.imaging(math.inf),
        size=laboratory.plan.size,
        generator=generator,
    )
    return Targets(boxes.volumes, labels[:, 0], labels, boxes.masks[:, 0])


def _rows(
    network: str, kind: str, model: nn.Module, images: Targets, device: torch.device | str
) -> list[LocalisedRow]:
    explainers = {
        "Respond-CAM": RespondCAM(model, layer=LAYER),
        "Grad-CAM": GradCAM(model, layer=LAYER),
        "HiResCAM": HiResCAM(model, layer=LAYER),
        "control: channel sum": ChannelSum(model, layer=LAYER),
    }
    maps = {name: _maps(explain, images, device) for name, explain in explainers.items()}
    controls: dict[str, Callable[[Tensor], Tensor]] = {
        "control: centred": centred,
        "control: uniform": uniform,
    }
    maps |= {name: control(images.masks) for name, control in controls.items()}
    accuracy = _accuracy(model, images, device)
    return [
        LocalisedRow(
            network, kind, name, accuracy, summarise_localisation(localise(found, images.masks))
        )
        for name, found in maps.items()
    ]


def _maps(
    explain: Explainer, images: Targets, device: torch.device | str
) -> Float[Tensor, "image z y x"]:
    parts = []
    pairs = zip(images.volumes.split(_AT_ONCE), images.asked.split(_AT_ONCE), strict=True)
    for batch, asked in pairs:
        explanation = explain(batch.to(device), target=asked.tolist())
        assert isinstance(explanation, Explanation)
        parts.append(explanation.place()[:, 0].detach().double().cpu())
    return torch.cat(parts)


def _accuracy(model: nn.Module, images: Targets, device: torch.device | str) -> float:
    right = 0
    with torch.inference_mode():
        pairs = zip(images.volumes.split(_AT_ONCE), images.there.split(_AT_ONCE), strict=True)
        for batch, there in pairs:
            best = model(batch.to(device)).argmax(dim=1).cpu()
            right += int((best[:, None] == there).any(dim=1).sum())
    return right / len(images.asked)


def _generator(laboratory: Laboratory) -> torch.Generator:
    return torch.Generator().manual_seed(1000 * laboratory.plan.seed + _STREAM)


def _write(laboratory: Laboratory, rows: Sequence[LocalisedRow]) -> None:
    text = io.StringIO()
    records = [record(row) for row in rows]
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    for name, content in (("csv", text.getvalue()), ("md", markdown(rows))):
        with whole_file(laboratory.folder / f"localisation.{name}") as beside:
            beside.write_text(content, "utf-8")


def record(row: LocalisedRow) -> dict[str, Any]:
    """One flat record, for CSV and JSON."""
    head = {name: getattr(row, name) for name in ("network", "images", "method", "accuracy")}
    figures = asdict(row.figures)
    return {**head, "count": figures.pop("images"), **figures}


def markdown(rows: Sequence[LocalisedRow]) -> str:
    """Write the table."""
    lines = [
        "# Do the maps lie on the particle?",
        "",
        "Share of the positive mass inside the particle's mask (mean ± standard deviation), and",
        "share of maps whose largest value is inside, at layer maxpool2, without noise. In pairs,",
        "one of two particles is asked for. A method that does not beat the controls has found",
        "nothing that the image alone, or the middle of the box, would not have given.",
        "",
        "| network | images | method | accuracy | mass | pointing | no positive value |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.network} | {row.images} | {row.method} | {100 * row.accuracy:.1f} % | "
        f"{row.figures.mass:.3f} ± {row.figures.mass_std:.3f} | "
        f"{100 * row.figures.pointing:.1f} % | "
        f"{row.figures.without_positive} of {row.figures.images} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"
