"""All figures of one map: what ``respondcam compare`` asks of each method on each image."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor, nn

from respondcam.attribution import Explanation
from respondcam.errors import InputError
from respondcam.evidence.combined import composite
from respondcam.evidence.faithfulness import (
    Changing,
    deletion,
    insertion,
    masked_scores,
    road,
)
from respondcam.evidence.locating import locate, pooled_counts
from respondcam.evidence.sanity import class_sensitivity, randomised, stability
from respondcam.evidence.scoring import Scorer
from respondcam.evidence.se3d import Se3dCounts
from respondcam.network.trees import map_tensors, spatial_tensor

GROUPS: dict[str, str] = {
    "account": "how much of the score the map leaves open",
    "deletion": "deletion curve",
    "insertion": "insertion curve",
    "drop": "average drop and increase",
    "road": "ROAD",
    "arcc": "ARCC and its parts; runs the method once more",
    "location": "mass, pointing, VxAP and MaxF1 inside a mask, image by image and pooled",
    "boxes": "SE3D's box accuracies; needs a mask and scipy",
    "classes": "likeness of the maps of all classes; runs the method once more, for all of them",
    "stability": "noise and shifts; runs the method 10 times",
    "randomised": "cascading randomisation; runs the method once per layer with weights",
}
"""What can be measured, by the name that a user gives."""
NEED_MASK = ("location", "boxes")


@dataclass(frozen=True)
class Wanted:
    """What is measured, and how.

    Parameters
    ----------
    groups
        Names of `GROUPS`.
    how
        How images are changed.
    """

    groups: tuple[str, ...] = ("account", "deletion", "insertion", "drop", "location")
    how: Changing = field(default_factory=Changing)

    def __post_init__(self) -> None:
        unknown = [name for name in self.groups if name not in GROUPS]
        if unknown or not self.groups:
            raise InputError(
                f"What to measure is {', '.join(unknown) or 'nothing'}. Accepted: "
                f"{', '.join(GROUPS)}."
            )


@dataclass(frozen=True, eq=False)
class Measured:
    """The figures of one map, by names of `respondcam.evidence.comparison.METRICS`."""

    figures: Mapping[str, float]
    counts: Se3dCounts | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Method:
    """A method on its layer, as the checks that explain again need it.

    Parameters
    ----------
    make
        Network -> explainer of this one layer.
    model
        The network.
    target
        What was explained, with the predicted class in place of ``"predicted"``.
    """

    make: Callable[[nn.Module], Callable[..., Any]]
    model: nn.Module
    target: Any


def measure(
    scorer: Scorer,
    maps: Float[Tensor, "1 1 *spatial"],
    wanted: Wanted,
    *,
    heights: Float[Tensor, "1 1 *spatial"] | None = None,
    mask: Bool[Tensor, "1 *inside"] | None = None,
    background: Bool[Tensor, "1 *outside"] | None = None,
    explanation: Explanation | None = None,
    method: Method | None = None,
) -> Measured:
    """Measure one placed map of one image and target.

    Parameters
    ----------
    scorer
        Of the image and the target.
    maps
        Placed.
    heights
        The map's values in the same voxels, as `locate` takes them.
    mask
        What it should lie on; without one, figures of localisation are left out.
    background
        Where nothing is changed, and nothing counts.
    explanation, method
        Of a method; a control has none, and figures that need them are left out.

    Raises
    ------
    InputError
        If something does not fit, or a figure cannot be measured; the message says why.
    """
    groups = set(wanted.groups)
    figures: dict[str, float] = {}
    notes: list[str] = []
    figures |= _changed(scorer, maps, wanted.how, groups, background)
    counts = None
    if mask is not None and groups & set(NEED_MASK):
        top = maps if heights is None else heights
        (found,) = locate(maps[:, 0], mask, heights=top[:, 0], background=background)
        figures |= found.figures() if "location" in groups else {}
        notes += [found.note] if found.note else []
        (counts,) = pooled_counts(top[:, 0], mask, boxes="boxes" in groups)
    if explanation is not None and "account" in groups:
        # a sum that has no relation to the score leaves nothing open that could be compared
        related = not explanation.note
        figures["open"] = float(explanation.account.relative_gap[0, 0]) if related else math.nan
    if method is not None:
        figures |= _again(scorer, maps, wanted.how, groups, background, method)
        if "classes" in groups:
            figures["classes"], told = _classes(scorer, method)
            notes += told
    return Measured(figures, counts, tuple(notes))


def _changed(
    scorer: Scorer, maps: Tensor, how: Changing, groups: set[str], background: Tensor | None
) -> dict[str, float]:
    found: dict[str, float] = {}
    if "deletion" in groups:
        found["deletion"] = float(deletion(scorer, maps, how, background).area)
    if "insertion" in groups:
        found["insertion"] = float(insertion(scorer, maps, how, background).area)
    if "drop" in groups:
        kept = masked_scores(scorer, maps, how, background)
        found |= {"drop": float(kept.drop), "increase": float(kept.increase)}
    if "road" in groups:
        found["road"] = float(road(scorer, maps, how, background))
    return found


def _again(
    scorer: Scorer,
    maps: Tensor,
    how: Changing,
    groups: set[str],
    background: Tensor | None,
    method: Method,
) -> dict[str, float]:
    """Figures for which the method explains other images, or another network."""
    found: dict[str, float] = {}
    explainer = method.make(method.model)
    if "arcc" in groups:
        original = spatial_tensor(scorer.inputs)

        def explain(image: Tensor) -> Tensor:
            swapped = map_tensors(lambda t: image if t is original else t, scorer.inputs)
            return explainer(swapped, method.target).place()

        parts = composite(scorer, maps, explain, how, background)
        names = ("arcc", "coherency", "complexity")
        found |= {name: float(getattr(parts, name)) for name in names}
    if "stability" in groups:
        steady = stability(explainer, scorer.inputs, method.target, seed=how.seed)
        found |= {"noise": steady.noise, "shift": steady.shift}
    if "randomised" in groups:
        lost = randomised(method.model, method.make, scorer.inputs, method.target, seed=how.seed)
        found["randomised"] = lost.similarity[-1]
    return found


def _classes(scorer: Scorer, method: Method) -> tuple[float, list[str]]:
    """Likeness of the maps of all classes; NaN, and why, where there are no two to compare."""
    every = method.make(method.model)(scorer.inputs, "all")
    try:
        return class_sensitivity(every.maps, every.targets).mean, []
    except InputError as error:
        return math.nan, [f"likeness of classes is undefined: {error}"]
