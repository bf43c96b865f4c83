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

Quadrature: see `respondcam.attribution.quadrature`. The gradient's mean is a mixture of gradients
at n points of the path that gives the score's own rise; what no such mixture can give is the
account's gap.

Limits: the head runs on n copies of the batch; where a path leads around the layer the whole
network does, and y(A_0) depends on the image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.baseline import BaselineSpec, as_baseline, check_nodes
from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.mixing import copies_mix, repeat
from respondcam.attribution.quadrature import node_weights, path_nodes, tilt
from respondcam.attribution.rerun import decided
from respondcam.attribution.respond import respond_cam
from respondcam.attribution.run import Align, Kept, Run, by_layer
from respondcam.attribution.targets import evaluate, takes_output
from respondcam.errors import LayerError, ModelError, TargetError
from respondcam.network.layers import Layer
from respondcam.network.layout import to_grid
from respondcam.network.precision import Precision
from respondcam.network.split import Expansion, Reduce, split_pass
from respondcam.network.survey import cached_survey
from respondcam.network.trees import spatial_batch

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
        Activation A0 where the path starts: ``"zero"`` (default), ``"mean"`` (each channel's mean),
        a number, a tensor that broadcasts to the layer's output (`activation_of` gives that of a
        baseline input), or a callable from the layer's output.

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
        baseline: BaselineSpec = None,
    ) -> None:
        super().__init__(model, layer, output=output, relu=relu, align=align, precision=precision)
        check_nodes(nodes)
        self.baseline = as_baseline(baseline)
        self.schedule = PathPasses(nodes)

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """`respond_cam` of the difference to the baseline and the mean gradient."""
        return respond_cam(activation, gradient)


@dataclass(frozen=True)
class PathPasses:
    """The passes of the integrated form: a layer at a time, the nodes in chunks that fit memory."""

    nodes: int

    def __call__(self, run: Run, layers: Sequence[Layer]) -> Kept:
        """The maps, as `Schedule` asks."""
        return by_layer(run, layers, lambda layer: self._maps(run, layer))

    def _maps(self, run: Run, layer: Layer) -> Tensor:
        call, calls = run.call(layer), run.calls(layer.name)
        if layer.call is None and calls > 1:
            raise LayerError(
                f"Layer {layer.name!r} is called {calls} times in one forward pass. Name the call "
                f"that the path runs through: '{layer.name}#0' to '{layer.name}#{calls - 1}'."
            )
        if takes_output(run.goal):
            raise TargetError(
                "The boxes of a detector come and go along the path of integrated-respond. Explain "
                "them with respond."
            )
        points, mix = path_nodes(self.nodes), run.only is not None or copies_mix(run, layer, call)
        size = self._chunk(run, layer)
        # a chunk begins with the node that the one before it ends with: cells have both ends
        starts = range(0, max(1, self.nodes - 1), size - 1)
        chunks = [_Chunk(run, layer, call, points[n : n + size], mix) for n in starts]
        activation, plain, tilted = chunks[0].gradients()
        for chunk in chunks[1:]:
            _, more, more_tilted = chunk.gradients()
            plain, tilted = plain + more, tilted + more_tilted
        sample, ones = chunks[0].sample_of_row(), [1] * (plain.ndim - 2)
        factor, mean = (
            torch.unflatten(each.to(plain)[:, sample], 1, (-1, *ones)) for each in _tilt_of(chunks)
        )
        total = plain + factor * (tilted - mean * plain)
        difference = activation - run.start(layer.name, call, activation)
        return torch.stack([run.reduce(layer.name, call, difference, g) for g in total])

    def _chunk(self, run: Run, layer: Layer) -> int:
        known = cached_survey(run.setting.model, run.inputs).layers
        kept = [one.head_bytes for one in known if one.name == layer.name]
        each = (kept or [max(one.head_bytes for one in known)])[0] * spatial_batch(run.inputs)
        return max(2, min(self.nodes, _HEAD_BYTES // max(1, each)))


@dataclass
class _Chunk:
    """Some nodes of the path in one pass: the batch itself first, then one copy for each node.

    Where copies that run together influence each other (`mix`) each has a pass of its own.
    """

    run: Run
    layer: Layer
    call: int
    points: Tensor
    mix: bool
    values: Tensor | None = None  # (node, batch, target), once the pass has been made
    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list[tuple[Tensor, Tensor]])
    """For each target the weights and slopes, (node, batch)."""

    def gradients(self) -> tuple[Tensor, Tensor, Tensor]:
        """Activation (rows, ...), and two sums of its gradients, (target, rows, ...).

        The first is weighted by the cells' weights, the second by these times the slopes: any tilt
        can be made from the two. Rows are the samples, unless the network folds places into them.
        """
        return self._one_by_one() if self.mix else self._together()

    def _one_by_one(self) -> tuple[Tensor, Tensor, Tensor]:
        """A pass for each node, in a batch of the network's own size."""
        own = self._alone()
        scores: list[Tensor] = []
        gradients: list[Tensor] = []

        def score(output: Any) -> Tensor:
            scores.append(decided(self.run, output))
            return self.run.counting(scores[-1])

        def gradient_of(name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
            return gradient

        for point in self.points:
            path = Expansion(self.layer.name, self.call, lambda own, t=point: self._at(own, t))
            gradients.append(self._split(score, gradient_of, path)[self.call])
        values = torch.stack(scores)
        self.values = (values if self.run.create_graph else values.detach()).double()
        self.seen = []
        found = [self._summed(own, torch.stack(parts)) for parts in zip(*gradients, strict=True)]
        sums = torch.stack(found)
        return own, sums[:, 0], sums[:, 1]

    def _alone(self) -> Tensor:
        """The activation of the batch itself, whose scores the run then knows."""
        seen: list[Tensor] = []

        def keep(name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
            if call == self.call:
                seen[:] = [activation]
            return activation.new_zeros(())

        self._split(self.run.score, keep)
        return seen[0]

    def _split(
        self,
        score: Callable[[Any], Tensor],
        reduce: Reduce,
        expand: Expansion | None = None,
        inputs: Any = None,
    ) -> tuple[Tensor, ...]:
        """What is kept of each call of the layer in one split pass."""
        return split_pass(
            self.run.setting.model,
            {self.layer.name: self.layer.module},
            self.run.inputs if inputs is None else inputs,
            score,
            reduce,
            expand=expand,
            create_graph=self.run.create_graph,
        ).kept[self.layer.name]

    def _together(self) -> tuple[Tensor, Tensor, Tensor]:
        if not self.run.traces[self.layer.name].bypassed:
            try:
                return self._pass(self.run.inputs)
            except ModelError:
                pass  # a head that is built for this batch size, or reads the input again
        return self._pass(repeat(self.run.inputs, 1 + len(self.points)))

    def _pass(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        expand = Expansion(self.layer.name, self.call, self._copies)
        kept = self._split(self._score, self._reduce, expand, inputs)[self.call]
        return kept[0, 0], kept[:, 1], kept[:, 2]

    def _copies(self, activation: Tensor) -> Tensor:
        own = activation[: self._rows]
        return torch.cat([own, *(self._at(own, t) for t in self.points)])

    def _at(self, own: Tensor, point: Tensor) -> Tensor:
        """The activation at one place of the path."""
        start = self.run.start(self.layer.name, self.call, own)
        place = start + point.to(own) * (own - start)
        return self.run.own_changed(self.layer.name, self.call, own, place)

    def _score(self, output: Any) -> Tensor:
        tensor = self.run.score_rows(output, copies=1 + len(self.points))
        own, *copies = torch.split(tensor, self._batch)
        if len(copies) != len(self.points):
            raise ModelError("The head gave another number of samples than it was handed.")
        self.run.scores = evaluate(self.run.goal, own)
        values = torch.stack([self.run.score_again(t) for t in copies])
        self.values = (values if self.run.create_graph else values.detach()).double()
        self.seen = []
        # copies do not influence each other: the gradient keeps them apart
        return values.sum(dim=0)

    def _reduce(self, name: str, call: int, activation: Tensor, gradient: Tensor) -> Tensor:
        if call != self.call:
            return activation.new_zeros(())
        own = activation[: self._rows]
        parts = torch.unflatten(gradient[self._rows :], 0, (len(self.points), self._rows))
        return torch.cat([own[None], self._summed(own, parts)])

    def _summed(self, own: Tensor, parts: Tensor) -> Tensor:
        """Both sums over the nodes of one target's gradients, (2, rows, ...)."""
        assert self.values is not None
        scores = self.values[..., len(self.seen)]
        difference = own - self.run.start(self.layer.name, self.call, own)
        sample = self.sample_of_row()
        each = (parts * difference).flatten(2).double().sum(dim=2)
        slopes = each.new_zeros(scores.shape).index_add(1, sample, each)
        weights = node_weights(self.points.to(slopes), scores, slopes)
        self.seen.append((weights, slopes))
        ones = [1] * (parts.ndim - 2)
        shares = torch.unflatten(weights.to(parts)[:, sample], 1, (-1, *ones)) * parts
        shares = torch.where(shares.isnan(), 0.0, shares)
        steep = torch.where(slopes.isfinite(), slopes, 0.0).to(parts)[:, sample]
        tilted = (torch.unflatten(steep, 1, (-1, *ones)) * shares).sum(dim=0)
        return torch.stack([shares.sum(dim=0), tilted])

    def sample_of_row(self) -> Tensor:
        """For each row of the layer's output the sample it belongs to: slices may be folded in."""
        rows, traced = self._rows, self.run.traced(self.layer.name, self.call)
        device = self.points.device if self.values is None else self.values.device
        if rows == self._batch or traced.axes is None:
            return torch.arange(rows, device=device)
        numbers = torch.arange(rows, device=device).reshape(-1, *[1] * (len(traced.shape) - 1))
        found = to_grid(numbers.expand(traced.shape), traced.axes).flatten(1)
        owner = torch.zeros(rows, dtype=torch.long, device=device)
        for sample, row in enumerate(found):
            owner[row] = sample
        return owner

    @property
    def _rows(self) -> int:
        return self.run.traced(self.layer.name, self.call).shape[0]

    @property
    def _batch(self) -> int:
        return spatial_batch(self.run.inputs)


def _tilt_of(chunks: Sequence[_Chunk]) -> tuple[Tensor, Tensor]:
    """The tilt of the whole path, and the mean slope that it turns around: both (target, batch)."""
    pairs = [[torch.stack(each) for each in zip(*chunk.seen, strict=True)] for chunk in chunks]
    weights, slopes = (torch.cat(each, dim=1).movedim(1, 0) for each in zip(*pairs, strict=True))
    first, last = chunks[0].values, chunks[-1].values
    assert first is not None
    assert last is not None
    mean = torch.where(weights > 0, weights * slopes, 0.0).nansum(dim=0)
    if len(weights) == 1:  # one node: Respond-CAM itself
        return torch.zeros_like(mean), mean
    return tilt(weights, slopes, (last[-1] - first[0]).T.contiguous()), mean
