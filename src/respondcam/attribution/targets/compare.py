"""Targets that compare: a class with others, its probability, one embedding with another."""

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam._warnings import warn
from respondcam.attribution.outputs import (
    batched,
    check_classes,
    class_scores,
    regions_of,
)
from respondcam.attribution.targets.basic import Scores, Target
from respondcam.errors import TargetError
from respondcam.network.typed import norms, numbers

_SURE = 0.999  # a probability beyond which its gradient is next to nothing


def contrast(number: int, other: int | None = None) -> Target:
    """Why this class and not that one: the difference of their scores.

    Parameters
    ----------
    number
        The class.
    other
        The class that it is set against; None is the strongest of the others, each sample its own.
        For a dense output both scores are summed where `number` is predicted.

    Raises
    ------
    TargetError
        If the output has no such class.

    Examples
    --------
    >>> contrast(0, 2)(torch.tensor([[1.0, 5.0, 3.0]])).values
    tensor([[-2.]])
    >>> contrast(0)(torch.tensor([[1.0, 5.0, 3.0]])).labels
    ('class 0, not class 1',)
    """
    if number == other:
        raise TargetError(f"contrast({number}, {other}): give two different classes.")

    def score(output: Tensor) -> Scores:
        check_classes([number] if other is None else [number, other], output)
        flat = batched(output)
        regions = None
        if flat.ndim > 2:
            regions = torch.where(regions_of(flat.detach()) == number, 0, -1)
        if other is None:
            against = _rivals(flat.detach(), number, regions)
        else:
            against = torch.full((len(flat),), other)
        own = torch.full((len(flat),), number)

        def again(tensor: Tensor) -> Tensor:
            return (_summed(tensor, own, regions) - _summed(tensor, against, regions))[:, None]

        name = f"class {int(against[0])}" if len(set(numbers(against))) == 1 else "the next class"
        return Scores(again(output), (f"class {number}, not {name}",), again=again)

    return score


def probability(number: int) -> Target:
    """The class's probability, after softmax (after a sigmoid for a single logit).

    Its gradient vanishes where the network is sure: the map shows what would change the decision,
    and fades where nothing would. A warning says so; scores, or `log_probability`, do not fade.

    Parameters
    ----------
    number
        The class; of a single logit 1 or 0.

    Raises
    ------
    TargetError
        If the output has no such class.

    Examples
    --------
    >>> probability(1)(torch.tensor([[0.0, 0.0]])).values
    tensor([[0.5000]])
    """
    return _probability(number, logarithm=False)


def log_probability(number: int) -> Target:
    """Logarithm of the class's probability; does not fade where the network is wrongly sure.

    Parameters
    ----------
    number
        The class; of a single logit 1 or 0.

    Raises
    ------
    TargetError
        If the output has no such class.

    Examples
    --------
    >>> log_probability(0)(torch.tensor([[0.0, 0.0]])).values
    tensor([[-0.6931]])
    """
    return _probability(number, logarithm=True)


def similarity(reference: Float[Tensor, " feature"] | Float[Tensor, "batch feature"]) -> Target:
    """Cosine of the angle between the output, an embedding, and a reference.

    Why is this image near that one? For networks that give features instead of scores.

    Parameters
    ----------
    reference
        The other image's embedding, one for all samples or one for each.

    Raises
    ------
    TargetError
        If the output is no embedding of the reference's size.

    Examples
    --------
    >>> similarity(torch.tensor([1.0, 0.0]))(torch.tensor([[3.0, 4.0]])).values
    tensor([[0.6000]])
    """

    def score(output: Tensor) -> Scores:
        flat = batched(output).flatten(1)
        other = reference.to(flat).reshape(-1, reference.shape[-1])
        if other.shape[1] != flat.shape[1] or len(other) not in (1, len(flat)):
            raise TargetError(
                f"The reference of shape {tuple(reference.shape)} does not fit an output of shape "
                f"{tuple(output.shape)}: give one embedding of {flat.shape[1]} numbers, or one for "
                f"each sample."
            )
        if not bool((norms(other, dim=1) > 0).all()):
            raise TargetError("The reference embedding is zero: it has no direction.")
        cosine = torch.nn.functional.cosine_similarity(flat, other, dim=1)
        return Scores(cosine[:, None], ("similarity",))

    return score


def _probability(number: int, *, logarithm: bool) -> Target:
    def score(output: Tensor) -> Scores:
        check_classes([number], output)
        flat = batched(output)
        if flat.ndim > 2:
            raise TargetError(
                f"A probability is explained for one decision per sample, but the output is "
                f"{tuple(output.shape)}. Give a callable that picks the voxels that matter."
            )
        both = torch.cat([torch.zeros_like(flat), flat], 1) if flat.shape[1] == 1 else flat
        logs = torch.log_softmax(both, dim=1)[:, number : number + 1]
        chances = logs.detach().exp()
        if not logarithm and bool((chances > _SURE).any() | (chances < 1 - _SURE).any()):
            warn(
                f"The probability of class {number} is close to 0 or 1, where its gradient "
                f"vanishes and the map with it. Explain the score, the contrast of two classes, or "
                f"the log-probability.",
            )
        name = "log-probability" if logarithm else "probability"
        return Scores(logs if logarithm else logs.exp(), (f"{name} of class {number}",))

    return score


def _rivals(flat: Tensor, number: int, regions: Tensor | None) -> Tensor:
    """The strongest other class of each sample."""
    count = max(2, flat.shape[1])
    every = [torch.full((len(flat),), k) for k in range(count)]
    scores = torch.stack([_summed(flat, one, regions) for one in every], dim=1)
    scores[:, number] = -torch.inf
    return scores.argmax(dim=1).cpu()


def _summed(output: Tensor, chosen: Tensor, regions: Tensor | None) -> Tensor:
    """Score of a class per sample; of a dense output its sum where `regions` is 0."""
    flat = batched(output)
    if regions is None or flat.ndim == 2:
        return class_scores(output, chosen)
    marked = torch.where(regions == 0, chosen.to(regions).view(-1, *[1] * (flat.ndim - 2)), -1)
    return class_scores(output, chosen, marked)
