r"""How much of the score comes through each input channel (each MR sequence, each dye).

A map says where; the sum over an input channel says through what. With :math:`x` the input,
:math:`x_0` a baseline, :math:`D = x - x_0`, and :math:`v(S)` the score where the channels in S are
as they are and the others at their baseline, three accounts of :math:`y(x) - y(x_0)`:

**Shapley value.** What a channel adds to the channels before it, on average over all orders (L. S.
Shapley, 1953),

.. math::

    S_k = \sum_{S \not\ni k} \frac{|S|!\,(C - |S| - 1)!}{C!}\,
    \bigl(v(S \cup k) - v(S)\bigr), \qquad \sum_k S_k = y(x) - y(x_0),

exactly, for every network: its gap is rounding. It takes a forward pass for each of the 2^C sets,
so it is left out above 6 channels.

**Flow.** What flows through channel k along the straight path from the baseline to the input,

.. math::

    F_k = \sum_i D_{k,i} \int_0^1 \frac{\partial y}{\partial x_{k,i}}(x_0 + t D)\, dt, \qquad
    \sum_k F_k = y(x) - y(x_0),

by the fundamental theorem of calculus (integrated gradients summed over a channel: M. Sundararajan,
A. Taly, Q. Yan, ICML 2017, arXiv:1703.01365). The integral is taken as in Integrated Respond-CAM,
with evenly spaced nodes, since the many ReLUs of a whole network switch all along the path; what
the quadrature leaves over is `flow_gap`, and in deep networks it can be large: more nodes help.
With one node the gradient is taken at the input alone,
:math:`F_k = \sum_i D_{k,i} \partial y/\partial x_{k,i}`: one pass, and a gap wherever the network
is not linear.

**Drop.** What the score loses when channel k alone is replaced by its baseline, one pass for each
channel. Drops need not add up: what several channels say together is lost with each of them, and
what one can stand in for is lost with none. `drop_gap` says how much that is.

Limits: all are relative to the baseline. Zero means zero in the voxels that the network receives,
after normalisation. An input with a channel replaced is none that the network was trained on.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import comb
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from respondcam.attribution.channel_inputs import ChannelInputs, Start, channel_inputs
from respondcam.attribution.explainer import Explainer
from respondcam.attribution.inputs import Inputs, as_tensors
from respondcam.attribution.integrated import node_weights
from respondcam.attribution.outputs import score_rows
from respondcam.attribution.targets import Scores, as_target, evaluate
from respondcam.errors import InputError, ModelError
from respondcam.network.calling import call_model, refuse_unhookable, unwrap
from respondcam.network.gradients import gradients_of
from respondcam.network.state import undisturbed
from respondcam.network.taps import GradModeShim, set_grad
from respondcam.network.trees import image_tensor
from respondcam.network.typed import numbers

_MOST_SHAPLEY = 6  # channels: 64 forward passes


@dataclass(frozen=True, eq=False)
class ChannelContributions:
    """What each input channel contributes to the score; all tensors are float64.

    Parameters
    ----------
    names
        Of the channels.
    targets
        Labels, one per target.
    score, baseline
        (batch, target): y(x), and y(x0) with every channel at its baseline.
    flow
        (batch, target, channel): what flows through each channel along the path from x0 to x.
    drop
        (batch, target, channel): what the score loses when this channel alone is at its baseline.
    shapley
        (batch, target, channel): what each channel adds on average over all orders; the sum is
        score - baseline exactly. None above 6 channels.
    """

    names: tuple[str, ...]
    targets: tuple[str, ...]
    score: Float[Tensor, "batch target"]
    baseline: Float[Tensor, "batch target"]
    flow: Float[Tensor, "batch target channel"]
    drop: Float[Tensor, "batch target channel"]
    shapley: Float[Tensor, "batch target channel"] | None = None

    @property
    def flow_gap(self) -> Float[Tensor, "batch target"]:
        """Score - baseline - sum of the flows: what the quadrature left over."""
        return self.score - self.baseline - self.flow.sum(dim=2)

    @property
    def drop_gap(self) -> Float[Tensor, "batch target"]:
        """Score - baseline - sum of the drops: what channels do together, or for each other."""
        return self.score - self.baseline - self.drop.sum(dim=2)

    def lines(self, sample: int = 0, target: int = 0) -> str:
        """A table for people.

        Examples
        --------
        >>> one, two = torch.ones(1, 1).double(), torch.tensor([[[1.5, 0.5]]]).double()
        >>> found = ChannelContributions(("T1", "T2"), ("class 0",), 3 * one, one, two, two, two)
        >>> print(found.lines())
        score 3.000 = baseline 1.000 + 2.000 through the channels
        channel  Shapley     flow     drop
        T1         1.500    1.500    1.500
        T2         0.500    0.500    0.500
        gap        0.000    0.000    0.000
        """
        score, baseline = float(self.score[sample, target]), float(self.baseline[sample, target])
        columns = self.columns(sample, target)
        width = max(7, *(len(name) for name in self.names))
        titles = "".join(f" {title:>8}" for title in columns)
        body: list[str] = []
        for row, name in enumerate((*self.names, "gap")):
            cells = "".join(f" {_zero(values[row]):8.3f}" for values in columns.values())
            body.append(f"{name:{width}}{cells}")
        through = score - baseline
        head = (
            f"score {score:z.3f} = baseline {baseline:z.3f} + {through:z.3f} through the channels"
        )
        return "\n".join([head, f"{'channel':{width}}{titles}", *body])

    def columns(self, sample: int = 0, target: int = 0) -> dict[str, list[float]]:
        """Each account of one score: a number for each channel, and the gap last."""
        known = {"Shapley": self.shapley, "flow": self.flow, "drop": self.drop}
        through = self.score[sample, target] - self.baseline[sample, target]
        return {
            title: [*numbers(each[sample, target]), float(through - each[sample, target].sum())]
            for title, each in known.items()
            if each is not None
        }


def channel_contributions(
    explainer: Explainer,
    inputs: Inputs,
    target: Any = "predicted",
    *,
    baseline: Start = "zero",
    nodes: int = 16,
    names: Sequence[str] | None = None,
) -> ChannelContributions:
    """How much of the score comes through each input channel.

    It takes `nodes` passes forward and backward through the whole network (in memory what a
    training step takes, without its optimizer), and for C channels 2^C forward passes, or C above
    6 channels; all in float32. The model is left exactly as it was.

    Parameters
    ----------
    explainer
        Any one: its model and `output` count, its layer does not.
    inputs, target
        As for the explainer's call. Every floating-point tensor (batch, channel, ...) of a tuple
        or dict counts.
    baseline
        What a channel is compared with: ``"zero"``, ``"mean"`` (each channel's own over its voxels;
        inputs without voxels: zero), or a callable from an input tensor to one that broadcasts to
        it.
    nodes
        Points of the path at which the gradient is taken; 1 takes it at the input alone.
    names
        Of the channels of all inputs, in order.

    Raises
    ------
    InputError
        If the target, baseline or names cannot be used, or the model cannot run.

    Examples
    --------
    >>> from torch import nn
    >>> from respondcam import RespondCAM
    >>> model = nn.Sequential(
    ...     nn.Conv3d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)
    ... )
    >>> found = channel_contributions(
    ...     RespondCAM(model), torch.rand(1, 2, 6, 6, 6), target=0, names=("T1", "T2")
    ... )
    >>> found.flow.shape, bool(found.flow_gap.abs() < 0.01)
    (torch.Size([1, 1, 2]), True)
    """
    if not isinstance(nodes, int) or nodes < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InputError(f"nodes={nodes!r}: give a whole number of at least 1.")
    goal = as_target(target)
    apart = channel_inputs(as_tensors(inputs, explainer.model), baseline, names)
    model = unwrap(explainer.model)
    refuse_unhookable(model)
    with undisturbed(model):
        scored = _Scored(model, goal, explainer.output, apart)
        count = len(apart.channels)
        score = scored.at(range(count))
        drop = torch.stack([score - scored.at(set(range(count)) - {k}) for k in range(count)], 2)
        shapley = shapley_values(scored.at, count) if count <= _MOST_SHAPLEY else None
        points = torch.ones(1) if nodes == 1 else torch.linspace(0, 1, nodes)
        flow = _flow(scored, points.double())
        start = scored.at(())
    assert scored.first is not None
    return ChannelContributions(
        names=tuple(channel.name for channel in apart.channels),
        targets=scored.first.labels,
        score=score,
        baseline=start,
        flow=flow,
        drop=drop,
        shapley=shapley,
    )


def shapley_values(value: Callable[[Collection[int]], Tensor], count: int) -> Tensor:
    """Shapley values of `count` players along a new last axis, from the value of every set.

    Examples
    --------
    Two that are worth something only together share it:

    >>> shapley_values(lambda players: torch.tensor([6.0 * (len(players) == 2)]), 2)
    tensor([[3., 3.]])
    """
    found = [torch.zeros_like(value(range(count))) for _ in range(count)]
    for size in range(count):
        weight = 1 / (count * comb(count - 1, size))
        for before in combinations(range(count), size):
            for k in set(range(count)) - set(before):
                found[k] = found[k] + weight * (value({*before, k}) - value(before))
    return torch.stack(found, dim=-1)


@dataclass
class _Scored:
    """The targets' scores for changed inputs; what the first ones decide (the class) is kept."""

    model: torch.nn.Module
    goal: Any
    output: Any
    apart: ChannelInputs
    first: Scores | None = None
    known: dict[frozenset[int], Tensor] = field(default_factory=dict[frozenset[int], Tensor])

    def at(self, present: Collection[int]) -> Float[Tensor, "batch target"]:
        """Scores with only these channels as they are, each set computed once."""
        key = frozenset(present)
        if key not in self.known:
            absent = [c for k, c in enumerate(self.apart.channels) if k not in key]
            self.known[key] = self.values(self.apart.replaced(absent)).detach().double()
        return self.known[key]

    def values(self, inputs: Any) -> Float[Tensor, "batch target"]:
        image = cast("Tensor", image_tensor(inputs))
        tensor = score_rows(call_model(self.model, inputs), self.output, image)
        if self.first is None:
            self.first = evaluate(self.goal, tensor)
            return self.first.values
        if self.first.again is not None:
            return self.first.again(tensor)
        return evaluate(self.goal, tensor).values


def _flow(scored: _Scored, points: Float[Tensor, "node"]) -> Float[Tensor, "batch target channel"]:
    """The path integral, channel by channel."""
    found = [_slopes(scored, float(t)) for t in points]
    scores = torch.stack([values for values, _ in found])
    slopes = torch.stack([each for _, each in found])
    total = slopes.sum(dim=3)
    weights = node_weights(points.to(total), scores.flatten(1), total.flatten(1)).view_as(total)
    return torch.where(weights[..., None] == 0, 0.0, weights[..., None] * slopes).sum(dim=0)


def _slopes(
    scored: _Scored, t: float
) -> tuple[Float[Tensor, "batch target"], Float[Tensor, "batch target channel"]]:
    """Scores at one point of the path, and how they rise along it through each channel."""
    pairs = list(zip(scored.apart.counted, scored.apart.start, strict=True))
    leaves = [torch.lerp(start, x, t).requires_grad_(True) for x, start in pairs]
    try:
        set_grad(True)
        with GradModeShim():  # a model's own no_grad blocks hide part of the slope
            values = scored.values(scored.apart.with_values(leaves))
    finally:
        set_grad(False)
    if not values.requires_grad:
        raise ModelError(
            "No gradient leads from the score to the input (.detach(), .data or an operation "
            "without a gradient), so nothing can be said to flow through its channels."
        )
    rises = [
        torch.cat([_per_channel(g * (x - x0)) for g, (x, x0) in zip(row, pairs, strict=True)], 1)
        for row in gradients_of(values, leaves, create_graph=False)
    ]
    return values.detach().double(), torch.stack(rises, dim=1)


def _per_channel(products: Tensor) -> Float[Tensor, "batch channel"]:
    return products.double().flatten(2).sum(dim=2) if products.ndim > 2 else products.double()


def _zero(value: float) -> float:
    """No minus sign before a zero."""
    return 0.0 if abs(value) < 5e-4 else value
