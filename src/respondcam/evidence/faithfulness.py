"""Does the score follow the map? The image is changed as the map says, and the network run again.

See `respondcam.evidence.curves` for what the figures are, `respondcam.evidence.fills` for what
stands in for voxels that are taken away. All changed images of a curve go through the network in
batches on its device. A curve of 50 steps costs 51 inferences.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from respondcam.errors import InputError
from respondcam.evidence.checks import check_scores
from respondcam.evidence.curves import (
    area_under,
    increased,
    relative_drop,
    road_combined,
)
from respondcam.evidence.fills import fill_like
from respondcam.evidence.imputing import impute
from respondcam.evidence.ranking import ranks
from respondcam.evidence.scoring import Scorer, copies_of, joined

ROAD_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
Maps = Float[Tensor, "batch target *spatial"]
Background = Bool[Tensor, "image *outside"]


@dataclass(frozen=True, eq=False)
class Curve:
    """Scores while ever more of the image is taken away or put back.

    Parameters
    ----------
    fractions
        Of the voxels, (step,), from 0 to 1.
    scores
        (batch, target, step).
    forwards
        How many images went through the network for it.
    """

    fractions: Float[Tensor, " step"]
    scores: Float[Tensor, "batch target step"]
    forwards: int

    @property
    def area(self) -> Float[Tensor, "batch target"]:
        """Area under the curve."""
        return area_under(self.fractions, self.scores)


@dataclass(frozen=True)
class Changing:
    """How images are changed; the same for all methods that are compared.

    Parameters
    ----------
    fill
        One of `respondcam.evidence.fills.FILLS`.
    steps
        Of a curve.
    at_once
        Images per inference.
    seed
        Of the noise and of the order of equal values.
    """

    fill: str = "mean"
    steps: int = 50
    at_once: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.at_once < 1:
            raise InputError(
                f"steps={self.steps}, at_once={self.at_once}: both must be at least 1."
            )


def deletion(
    scorer: Scorer, maps: Maps, how: Changing | None = None, background: Background | None = None
) -> Curve:
    """Take the highest voxels away first: the sooner the score falls, the better the map.

    Parameters
    ----------
    scorer
        The network, its input and the target: see `Scorer`.
    maps
        Placed: ``explanation.place()``, one per target of the scorer.
    how
        As by default unless given.
    background
        True where voxels are neither ranked nor changed.

    Raises
    ------
    InputError
        If the maps do not fit the image and the targets, or scores are not finite.

    Examples
    --------
    >>> from torch import nn
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    >>> with torch.no_grad():
    ...     _ = model[1].weight.copy_(torch.tensor([[0.0] * 4, [4.0, 0.0, 0.0, 0.0]]))
    >>> scorer = Scorer(model, torch.ones(1, 1, 4), 1, measure="score")
    >>> curve = deletion(scorer, torch.eye(4)[:1, None], Changing(fill="zero", steps=4))
    >>> curve.scores.tolist(), curve.area.item()
    ([[[4.0, 0.0, 0.0, 0.0, 0.0]]], 0.5)
    """
    return _curve(scorer, maps, how or Changing(), background, keep=False)


def insertion(
    scorer: Scorer, maps: Maps, how: Changing | None = None, background: Background | None = None
) -> Curve:
    """Put the highest voxels back first: the sooner the score rises, the better the map.

    Parameters and errors as `deletion`.
    """
    return _curve(scorer, maps, how or Changing(), background, keep=True)


def road(
    scorer: Scorer,
    maps: Maps,
    how: Changing | None = None,
    background: Background | None = None,
    *,
    shares: tuple[float, ...] = ROAD_SHARES,
    noise: float = 0.01,
) -> Float[Tensor, "batch target"]:
    """ROAD, combined: see `respondcam.evidence.curves.road_combined`.

    Parameters
    ----------
    shares
        Of the voxels that are taken away.
    noise
        As in `respondcam.evidence.imputing.impute`.

    Raises
    ------
    InputError
        As `deletion`, or if a share is not between 0 and 1.
    """
    how = how or Changing()
    if not shares or not all(0 < share < 1 for share in shares):
        raise InputError(f"shares={shares}: give shares between 0 and 1, both left out.")

    def imputed(gone: Tensor) -> Tensor:
        images = copies_of(scorer.image, len(gone))
        return impute(images, gone.flatten(0, 1), noise=noise, seed=how.seed)

    least, most = (
        _scores(scorer, sign * maps, shares, how, background, imputed) for sign in (-1, 1)
    )
    return road_combined(least, most)


@dataclass(frozen=True, eq=False)
class Masked:
    """What is left of the score when only what the map shows is kept, each (batch, target).

    Parameters
    ----------
    drop
        Share of the score that is lost; NaN where the score is not positive.
    increase
        1 where it rises.
    """

    drop: Float[Tensor, "batch target"]
    increase: Float[Tensor, "batch target"]


def masked_scores(
    scorer: Scorer, maps: Maps, how: Changing | None = None, background: Background | None = None
) -> Masked:
    """Average drop and increase: the image times the map, scaled to 0 to 1, is scored.

    Parameters and errors as `deletion`; the publication's fill is ``"zero"``.
    """
    how = how or Changing(fill="zero")
    _check(scorer, maps)
    shown = shown_by(maps)
    rest = fill_like(scorer.image, how.fill, seed=how.seed)
    kept = []
    for target in range(maps.shape[1]):
        share = shown[:, target, None].to(scorer.image)
        if background is not None:
            share = share.masked_fill(background[:, None].to(share.device), 1.0)
        image = share * scorer.image + (1 - share) * rest
        kept.append(scorer(image)[0, :, target])
    scores = torch.stack(kept, dim=1)
    _finite(scores, how)
    return Masked(relative_drop(scorer.full, scores), increased(scorer.full, scores))


def shown_by(maps: Maps) -> Maps:
    """A map's positive part over its maximum; zero where nothing is positive.

    Examples
    --------
    >>> shown_by(torch.tensor([[[-1.0, 2.0, 4.0]]])).tolist()
    [[[0.0, 0.5, 1.0]]]
    """
    positive = maps.detach().clamp(min=0)
    top = positive.flatten(2).amax(dim=2).view(*maps.shape[:2], *[1] * (maps.ndim - 2))
    return torch.where(top > 0, positive / torch.where(top > 0, top, 1), 0)


def _curve(
    scorer: Scorer, maps: Maps, how: Changing, background: Background | None, *, keep: bool
) -> Curve:
    before = scorer.forwards
    fractions = torch.linspace(0, 1, how.steps + 1, dtype=torch.float64)
    rest = fill_like(scorer.image, how.fill, seed=how.seed)
    if background is not None:
        _check_background(scorer, background)
        rest = torch.where(background[:, None].to(rest.device), scorer.image, rest)
    first, then = (rest, scorer.image) if keep else (scorer.image, rest)

    def changed(reached: Tensor) -> Tensor:
        return joined(torch.where(reached[:, :, None], then, first))

    # the original needs no run of its own; of an insertion it is the last step
    wanted = tuple(fractions[:-1].tolist() if keep else fractions[1:].tolist())
    found = _scores(scorer, maps, wanted, how, background, changed)
    known = scorer.full[None]
    scores = torch.cat([found, known] if keep else [known, found])
    return Curve(fractions, scores.movedim(0, -1).cpu(), scorer.forwards - before)


def _scores(
    scorer: Scorer,
    maps: Maps,
    fractions: tuple[float, ...],
    how: Changing,
    background: Background | None,
    change: Callable[[Tensor], Tensor],
) -> Float[Tensor, "step batch target"]:
    """Scores with the highest `fractions` of each target's map changed.

    ``change(reached)`` makes the images (copies * batch, channel, *spatial) from where the order
    has come to, (copies, batch, *spatial).
    """
    _check(scorer, maps)
    columns = []
    for target in range(maps.shape[1]):
        places, count = ranks(maps[:, target].to(scorer.image.device), background, seed=how.seed)
        pieces = []
        for some in _pieces(fractions, max(1, how.at_once // scorer.batch)):
            # rounded, so that a fraction such as 0.1 + 0.2 takes what 0.3 takes
            edges = (torch.tensor(some)[:, None].to(count.device) * count).round()
            shape = (len(some), scorer.batch, *[1] * (places.ndim - 1))
            pieces.append(scorer(change(places[None] < edges.view(shape)))[..., target])
        columns.append(torch.cat(pieces))
    scores = torch.stack(columns, dim=2)
    _finite(scores, how)
    return scores


def _pieces(items: tuple[float, ...], size: int) -> Iterator[tuple[float, ...]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]


def _check(scorer: Scorer, maps: Maps) -> None:
    expected = (*scorer.full.shape, *scorer.image.shape[2:])
    if tuple(maps.shape) != expected:
        raise InputError(
            f"Maps of shape {tuple(maps.shape)} do not fit an input of shape "
            f"{tuple(scorer.image.shape)} with {scorer.full.shape[1]} targets; expected "
            f"{expected}. Give explanation.place() of the same input and target."
        )


def _check_background(scorer: Scorer, background: Background) -> None:
    expected = (scorer.batch, *scorer.image.shape[2:])
    if tuple(background.shape) != expected:
        raise InputError(
            f"The background has shape {tuple(background.shape)}; expected {expected}, one per "
            f"image, in the input's voxels."
        )


def _finite(scores: Tensor, how: Changing) -> None:
    check_scores(f"With the fill {how.fill!r}, score", scores.flatten().tolist())
