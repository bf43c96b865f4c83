"""Does the map depend on what it should depend on? Three checks that need no truth.

- `randomised`: on the network's weights. The map of a network whose weights are lost layer by
  layer from the top should not stay as it was (Adebayo et al., Sanity checks for saliency maps,
  NeurIPS 2018, cascading randomisation).
- `class_sensitivity`: on the class. Maps of different classes should not be one map.
- `stability`: not on noise and shifts that do not change what is seen.

Each result has a `verdict` in words with the threshold at which to worry. A map that passes is not
proven right; one that fails shows something else than it claims.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution import Explanation
from respondcam.attribution.inputs import as_tensors
from respondcam.errors import EmptyMapWarning, InputError
from respondcam.evidence.curves import correlation
from respondcam.evidence.randomising import randomised_from_the_top
from respondcam.evidence.similarity import rank_correlation
from respondcam.network.trees import map_tensors, spatial_tensor

STILL_ALIKE = 0.5  # rank correlation after all weights are lost: the map did not need them
ONE_MAP = 0.9  # correlation of the maps of two classes: they show the layer, not the class
UNSTABLE = 0.8  # correlation with the map of a barely changed image

Make = Callable[[nn.Module], Callable[..., Any]]


@dataclass(frozen=True)
class Randomised:
    """How alike the map stays while weights are lost.

    Parameters
    ----------
    layers
        In the order in which they were randomised.
    similarity
        After each, Spearman's correlation with the original map, mean over samples and targets;
        NaN where the map vanished, which counts as not alike.
    """

    layers: tuple[str, ...]
    similarity: tuple[float, ...]

    @property
    def worry(self) -> bool:
        """Whether the map of the wholly random network is still like the original."""
        return abs(_or_zero(self.similarity[-1])) > STILL_ALIKE

    @property
    def verdict(self) -> str:
        """What it means, in plain words."""
        last = _or_zero(self.similarity[-1])
        told = f"rank correlation {last:.2f} after all weights were lost, worry above {STILL_ALIKE}"
        if self.worry:
            return f"The map hardly depends on what the network has learned ({told})."
        return f"The map depends on what the network has learned ({told})."


@dataclass(frozen=True)
class ClassSensitivity:
    """How alike the maps of different classes are.

    Parameters
    ----------
    mean
        Correlation of the maps of two classes, mean over pairs and samples.
    largest, pair
        The most alike pair, mean over samples.
    """

    mean: float
    largest: float
    pair: tuple[str, str]

    @property
    def worry(self) -> bool:
        """Whether the maps are nearly one map."""
        return self.mean > ONE_MAP

    @property
    def verdict(self) -> str:
        """What it means, in plain words."""
        told = (
            f"mean correlation {self.mean:.2f}, worry above {ONE_MAP}; most alike: "
            f"{self.pair[0]} and {self.pair[1]}, {self.largest:.2f}"
        )
        if self.worry:
            return (
                f"The maps of all classes are nearly one map: they show what the layer sees, not "
                f"what speaks for a class ({told})."
            )
        return f"The maps of different classes differ ({told})."


@dataclass(frozen=True)
class Stability:
    """How alike the map stays when the image barely changes; correlations with the original.

    Parameters
    ----------
    noise, noise_worst
        With added noise: mean and worst over draws, samples and targets.
    shift, shift_worst
        After a shift, with the map shifted back, along each axis and way, inside the border.
    """

    noise: float
    noise_worst: float
    shift: float
    shift_worst: float

    @property
    def worry(self) -> bool:
        """Whether either changes the map much."""
        return not (self.noise >= UNSTABLE and self.shift >= UNSTABLE)

    @property
    def verdict(self) -> str:
        """What it means, in plain words."""
        told = (
            f"correlation {self.noise:.2f} with noise, worst {self.noise_worst:.2f}; "
            f"{self.shift:.2f} with shifts, worst {self.shift_worst:.2f}; worry below {UNSTABLE}"
        )
        if self.worry:
            return f"The map changes though the image hardly does ({told})."
        return f"The map hardly changes where the image hardly does ({told})."


def randomised(
    model: nn.Module, make: Make, inputs: Any, target: Any = "predicted", *, seed: int = 0
) -> Randomised:
    """Explain a copy of the network while it loses its weights, layer by layer from the top.

    Parameters
    ----------
    model
        Not touched.
    make
        Network -> explainer, such as ``lambda net: rc.RespondCAM(net, layer="conv5")``. Name the
        layer, so that the same one is explained each time.
    inputs, target
        As for an explainer; the predicted class is the original network's.

    Raises
    ------
    InputError
        If the network cannot be copied or explained.

    Examples
    --------
    >>> from respondcam import RespondCAM
    >>> net = nn.Sequential(
    ...     nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    ... )
    >>> found = randomised(net, lambda n: RespondCAM(n, "1"), torch.rand(1, 1, 6, 6, 6))
    >>> found.layers
    ('4', '0')
    """
    tensors = as_tensors(inputs, model)
    first = _one(make(model)(tensors, target))
    fixed = fixed_target(first, target)
    layers, alike = [], []
    for name, lost in randomised_from_the_top(model, tensors, seed=seed):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EmptyMapWarning)
            again = _one(make(lost)(tensors, fixed))
        layers.append(name)
        alike.append(_mean(rank_correlation(again.maps, first.maps.to(again.maps))))
    return Randomised(tuple(layers), tuple(alike))


def class_sensitivity(
    maps: Float[Tensor, "batch target *grid"], labels: Sequence[str]
) -> ClassSensitivity:
    """Compare the maps of different classes: ``explanation.maps`` of the target ``"all"``.

    Raises
    ------
    InputError
        If there is one class only, or no two maps can be compared.

    Examples
    --------
    >>> maps = torch.tensor([[[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 1.0, 0.0]]])
    >>> found = class_sensitivity(maps, ["a", "b", "c"])
    >>> found.pair, found.largest, found.worry
    (('a', 'b'), 1.0, False)
    """
    if maps.shape[1] < 2 or len(labels) != maps.shape[1]:
        raise InputError(
            f"There are maps of {maps.shape[1]} classes and {len(labels)} labels: to compare "
            f"classes give at least two, such as target='all'."
        )
    alike = {
        (labels[a], labels[b]): _mean(correlation(maps[:, a, None], maps[:, b, None]))
        for a, b in combinations(range(maps.shape[1]), 2)
    }
    known = {pair: value for pair, value in alike.items() if not math.isnan(value)}
    if not known:
        raise InputError("All maps but one are constant, so no two classes can be compared.")
    pair = max(known, key=known.__getitem__)
    return ClassSensitivity(math.fsum(known.values()) / len(known), known[pair], pair)


def stability(
    explain: Callable[..., Any],
    inputs: Any,
    target: Any = "predicted",
    *,
    noise: float = 0.05,
    draws: int = 4,
    shift_voxels: int = 1,
    seed: int = 0,
) -> Stability:
    """Explain images that barely differ.

    Parameters
    ----------
    explain
        An explainer.
    inputs, target
        As for it; the predicted class is the original image's.
    noise
        Its deviation, as a share of each image's own.
    draws
        Of the noise.
    shift_voxels
        To either side, along each axis; the border voxels are repeated.

    Raises
    ------
    InputError
        If an option is out of range, or the inputs cannot be explained.
    """
    tensors = as_tensors(inputs, explain.model) if hasattr(explain, "model") else inputs  # type: ignore[attr-defined]
    image = spatial_tensor(tensors)
    if image is None or draws < 1 or noise < 0 or not 1 <= shift_voxels < min(image.shape[2:]) / 4:
        raise InputError(
            f"draws={draws}, noise={noise}, shift_voxels={shift_voxels}: give at least one draw, "
            f"no negative noise, and a shift from 1 to less than a quarter of the image."
        )
    first = _one(explain(tensors, target))
    fixed = fixed_target(first, target)
    placed = first.place()

    def again(changed: Tensor) -> Tensor:
        swapped = map_tensors(lambda t: changed if t is image else t, tensors)
        return _one(explain(swapped, fixed)).place()

    grid = tuple(range(2, image.ndim))
    generator = torch.Generator().manual_seed(seed)
    spread = noise * image.std(dim=grid, keepdim=True)
    noisy = [
        correlation(again(image + spread * _like(image, generator)), placed) for _ in range(draws)
    ]
    shifted = [
        correlation(
            _inside(_shift(again(_shift(image, by, axis)), -by, axis), shift_voxels),
            _inside(placed, shift_voxels),
        )
        for axis in grid
        for by in (-shift_voxels, shift_voxels)
    ]
    noisy_all, shifted_all = torch.stack(noisy), torch.stack(shifted)
    return Stability(_mean(noisy_all), _least(noisy_all), _mean(shifted_all), _least(shifted_all))


def fixed_target(explanation: Explanation, target: Any) -> Any:
    """The classes that were predicted instead of ``"predicted"``; other targets as they are.

    For a segmentation its predicted class; where that is predicted is found anew.
    """
    if target != "predicted" or explanation.classes is None:
        return target
    return explanation.classes[:, 0].tolist()


def _shift(images: Tensor, by: int, axis: int) -> Tensor:
    edge = images.shape[axis]
    places = (torch.arange(edge, device=images.device) - by).clamp(0, edge - 1)
    return images.index_select(axis, places)


def _inside(maps: Tensor, margin: int) -> Tensor:
    for axis in range(2, maps.ndim):
        maps = maps.narrow(axis, margin, maps.shape[axis] - 2 * margin)
    return maps


def _like(image: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(image.shape, generator=generator).to(image)


def _one(found: Any) -> Explanation:
    if not isinstance(found, Explanation):
        raise InputError("A sanity check looks at one layer: give the explainer one, not a list.")
    return found


def _mean(values: Tensor) -> float:
    finite = values[torch.isfinite(values)]
    return float(finite.mean()) if finite.numel() else math.nan


def _least(values: Tensor) -> float:
    finite = values[torch.isfinite(values)]
    return float(finite.min()) if finite.numel() else math.nan


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value
