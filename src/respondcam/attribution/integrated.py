r"""Integrated Respond-CAM: Respond-CAM along a straight path from a baseline activation.

Respond-CAM's sum follows the score exactly where the head is linear in the layer's output. For any
other head the gradient is replaced by its mean along the path from a baseline :math:`A_0` to
:math:`A`, and the activation by the difference :math:`D = A - A_0`:

.. math::

    \bar G = \int_0^1 \frac{\partial y}{\partial A}\bigl(A_0 + t\, D\bigr)\, dt, \qquad
    L = \sum_l \Bigl(\sum_i D_{l,i} \bar G_{l,i}\Bigr) \frac{|D_l|}{\sum_i |D_{l,i}|}

so that, by the fundamental theorem of calculus along the path (as for integrated gradients,
M. Sundararajan, A. Taly, Q. Yan, ICML 2017, arXiv:1703.01365, here from a layer on),

.. math::

    \sum_i L_i = y(A) - y(A_0) .

Quadrature: with a zero baseline and small biases the ReLUs of a head switch very near to t = 0, so
nodes crowd there: :math:`t_k = (k/(n-1))^4`. Over each cell the score's own rise is known from its
ends, and the gradients of the two ends are mixed so that their slope along the path equals it:

.. math::

    \bar G_k = \alpha_k G(t_k) + (1 - \alpha_k)\, G(t_{k+1}), \quad
    \langle \bar G_k, D\rangle = \frac{y(t_{k+1}) - y(t_k)}{t_{k+1} - t_k}, \quad
    0 \le \alpha_k \le 1 .

For a cell in which one ReLU switches this is exact, the map included: :math:`\alpha_k` is where it
switches. What several switches in one cell leave over is the account's gap.

Limits: the head runs on n copies of the batch; where a path leads around the layer the whole
network does, and y(A_0) depends on the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.outputs import score_tensor
from respondcam.attribution.respond import respond_cam
from respondcam.attribution.run import Align, Baseline, Run
from respondcam.attribution.targets import evaluate
from respondcam.errors import InputError, LayerError, ModelError
from respondcam.network.layers import Layer
from respondcam.network.precision import Precision
from respondcam.network.split import Expansion, split_pass
from respondcam.network.survey import cached_survey
from respondcam.network.trees import map_tensors, spatial_batch

# What autograd may keep for the copies that run at once.
_HEAD_BYTES = 256 * 2**20


class IntegratedRespondCAM(Explainer):
    """Explain with Integrated Respond-CAM; parameters as for every `Explainer`, and two more.

    Parameters
    ----------
    nodes
        Points of the path at which the gradient is taken, both ends among them; with 1 it is taken
        at the activation alone, as in Respond-CAM.
    baseline
        Activation A0 where the path starts: a tensor that broadcasts to the layer's output, or a
        callable from the layer's output to it; zero unless given.

    Examples
    --------
    >>> head = [nn.Flatten(), nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 2)]
    >>> model = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), *head)
    >>> explanation = IntegratedRespondCAM(model, layer="1", nodes=64)(torch.rand(1, 1, 4, 4, 4))
    >>> bool(explanation.account.relative_gap < 0.01)
    True
    """

    method = "integrated-respond"

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
        precision: Precision = "fp32",
        nodes: int = 16,
        baseline: Tensor | Baseline | None = None,
    ) -> None:
        super().__init__(model, layer, output=output, relu=relu, align=align, precision=precision)
        if not isinstance(nodes, int) or nodes < 1:
            raise InputError(f"nodes={nodes!r}: give a whole number of at least 1.")
        self.baseline = _as_baseline(baseline)
        self.schedule = PathPasses(nodes)

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`respond_cam` of the difference to the baseline and the mean gradient."""
        return respond_cam(activation, gradient)


def path_nodes(count: int) -> Float[Tensor, "node"]:
    """Nodes t_k = (k/(n-1))^4 from 0 to 1; a single one is at 1.

    Examples
    --------
    >>> path_nodes(3).tolist(), path_nodes(1).tolist()
    ([0.0, 0.0625, 1.0], [1.0])
    """
    if count == 1:
        return torch.ones(1, dtype=torch.float64)
    return (torch.arange(count, dtype=torch.float64) / (count - 1)) ** 4


def node_weights(
    points: Float[Tensor, "node"],
    scores: Float[Tensor, "node batch"],
    slopes: Float[Tensor, "node batch"],
) -> Float[Tensor, "node batch"]:
    """Weights of the nodes' gradients, so that each cell's slope is the score's own rise over it.

    They are not negative, and add up to the length of the path. Where no mixture of the two ends
    gives the rise, the nearer end has all the weight.

    Parameters
    ----------
    points
        Where on the path the nodes are, rising.
    scores
        The score at each node.
    slopes
        Gradient of the score at each node times the difference D. One that is not a number (a root
        or a norm at zero) gets no weight.

    Examples
    --------
    A ReLU that switches at t = 1/4: the slope is 0 before it and 2 after.

    >>> t = torch.tensor([0.0, 1.0])
    >>> node_weights(t, torch.tensor([[0.0], [1.5]]), torch.tensor([[0.0], [2.0]])).flatten()
    tensor([0.2500, 0.7500])
    """
    if len(points) == 1:
        return torch.ones_like(scores)
    lengths = points.diff().to(scores)[:, None]
    before, after = slopes[:-1], slopes[1:]
    apart = before - after
    # equal slopes leave 0/0: then every mixture is right
    share = (scores.diff(dim=0) / lengths - after) / torch.where(apart == 0, 1, apart)
    share = torch.where(apart == 0, 0.5, share).clamp(0.0, 1.0)
    share = torch.where(after.isfinite(), torch.where(before.isfinite(), share, 0.0), 1.0)
    weights = torch.zeros_like(scores)
    weights[:-1] += lengths * share
    weights[1:] += lengths * (1 - share)
    return weights


@dataclass(frozen=True)
class PathPasses:
    """The passes of the integrated form: a layer at a time, the nodes in chunks that fit memory."""

    nodes: int

    def __call__(self, run: Run, layers: Sequence[Layer]) -> dict[str, tuple[Tensor, ...]]:
        """For each layer the maps (target, batch, *grid), as `Schedule` asks."""
        return {layer.name: self._maps(run, layer) for layer in layers}

    def _maps(self, run: Run, layer: Layer) -> tuple[Tensor, ...]:
        points = path_nodes(self.nodes)
        size = self._chunk(run, layer)
        activation, total = None, None
        # a chunk begins with the node that the one before it ends with: cells have both ends
        for start in range(0, max(1, self.nodes - 1), size - 1):
            activation, part = _Chunk(run, layer, points[start : start + size]).gradients()
            total = part if total is None else total + part
        assert activation is not None
        assert total is not None
        difference = activation - run.setting.baseline(activation)
        call = layer.call or 0
        maps = torch.stack([run.reduce(layer.name, call, difference, g) for g in total])
        return (maps,) * (call + 1)

    def _chunk(self, run: Run, layer: Layer) -> int:
        known = cached_survey(run.setting.model, run.inputs).layers
        kept = [one.head_bytes for one in known if one.name == layer.name]
        each = (kept or [max(one.head_bytes for one in known)])[0] * spatial_batch(run.inputs)
        return max(2, min(self.nodes, _HEAD_BYTES // max(1, each)))


@dataclass
class _Chunk:
    """Some nodes of the path in one pass: the batch itself first, then one copy for each node."""

    run: Run
    layer: Layer
    points: Tensor
    values: Tensor | None = None  # (node, batch, target), once the pass has been made
    done: int = 0  # targets

    def gradients(self) -> tuple[Tensor, Tensor]:
        """Activation (batch, ...) and its weighted gradients (target, batch, ...)."""
        if not self.run.traces[self.layer.name].bypassed:
            try:
                return self._pass(self.run.inputs)
            except ModelError:
                pass  # a head that is built for this batch size, or reads the input again
        copies = 1 + len(self.points)
        batch = spatial_batch(self.run.inputs)
        return self._pass(
            map_tensors(
                lambda t: torch.cat([t] * copies) if t.ndim and len(t) == batch else t,
                self.run.inputs,
            )
        )

    def _pass(self, inputs: Any) -> tuple[Tensor, Tensor]:
        name, call = self.layer.name, self.layer.call or 0
        kept = split_pass(
            self.run.setting.model,
            {name: self.layer.module},
            inputs,
            self._score,
            self._reduce,
            expand=Expansion(name, call, self._copies),
            create_graph=self.run.create_graph,
        ).kept[name]
        if self.layer.call is None and len(kept) > 1:
            raise LayerError(
                f"Layer {name!r} is called {len(kept)} times in one forward pass. Name the call "
                f"that the path runs through: '{name}#0' to '{name}#{len(kept) - 1}'."
            )
        if call >= len(kept):
            raise LayerError(
                f"Layer {name!r} is called {len(kept)} times; there is no call {call}."
            )
        return kept[call][0, 0], kept[call][:, 1]

    def _copies(self, activation: Tensor) -> Tensor:
        own = activation[: self._batch]
        start = self.run.setting.baseline(own)
        steps = self.points.to(own)
        return torch.cat([own, *(start + t * (own - start) for t in steps)])

    def _score(self, output: Any) -> Tensor:
        tensor = score_tensor(output, self.run.setting.output)
        own, *copies = tensor.split(self._batch)
        if len(copies) != len(self.points):
            raise ModelError("The head gave another number of samples than it was handed.")
        scores = evaluate(self.run.goal, own)
        self.run.scores = scores
        again = scores.again or (lambda t: evaluate(self.run.goal, t).values)
        values = torch.stack([again(t) for t in copies])
        self.values, self.done = values if self.run.create_graph else values.detach(), 0
        return values.sum(
            dim=0
        )  # copies do not influence each other: the gradient keeps them apart

    def _reduce(self, name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
        if call != (self.layer.call or 0):
            return activation.new_zeros(())
        assert self.values is not None
        scores = self.values[..., self.done]
        self.done += 1
        own = activation[: self._batch]
        difference = own - self.run.setting.baseline(own)
        parts = gradient[self._batch :].unflatten(0, (len(self.points), self._batch))
        slopes = (parts * difference).flatten(2).double().sum(dim=2)
        weights = node_weights(self.points.to(slopes), scores.to(slopes), slopes).to(parts)
        shares = weights.reshape(*weights.shape, *[1] * (parts.ndim - 2)) * parts
        mean = torch.where(shares.isnan(), 0.0, shares).sum(dim=0)
        return torch.stack([own, mean])

    @property
    def _batch(self) -> int:
        return spatial_batch(self.run.inputs)


def _as_baseline(baseline: Tensor | Baseline | None) -> Baseline:
    if baseline is None:
        return torch.zeros_like
    if isinstance(baseline, Tensor):
        fixed = baseline.detach()

        def constant(activation: Tensor) -> Tensor:
            try:
                return fixed.to(activation).expand_as(activation)
            except RuntimeError:
                raise InputError(
                    f"baseline has shape {tuple(fixed.shape)}, the layer's output "
                    f"{tuple(activation.shape)}. Give a tensor that broadcasts to it."
                ) from None

        return constant
    if not callable(baseline):
        raise InputError(f"baseline={baseline!r} is neither a tensor nor a callable.")
    return baseline
