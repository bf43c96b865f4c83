r"""Nodes and weights for the mean gradient along a path on which the score itself is known.

Nodes: with a zero baseline and small biases the ReLUs of a head switch very near to t = 0, so nodes
crowd there, :math:`t_k = (k/(n-1))^4`.

Weights, first cell by cell: the score's own rise over a cell is known from its ends, and the
gradients of the two ends are mixed so that their slope along the path equals it,

.. math::

    \bar G_k = \alpha_k G(t_k) + (1 - \alpha_k)\, G(t_{k+1}), \quad
    \langle \bar G_k, D\rangle = \frac{y(t_{k+1}) - y(t_k)}{t_{k+1} - t_k}, \quad
    0 \le \alpha_k \le 1 .

For a cell in which one ReLU switches this is exact, the map included: :math:`\alpha_k` is where it
switches. Where several switch in one cell, no such mixture may exist, and a rest :math:`r` of the
whole rise is left over. Of all weights that add up to one and give the whole rise, those are taken
that lie nearest to the cells' weights :math:`w_k` (in the sum of :math:`\delta_k^2 / w_k`):

.. math::

    w'_k = w_k \Bigl(1 + r\, \frac{s_k - \bar s}{\sum_j w_j (s_j - \bar s)^2}\Bigr), \qquad
    s_k = \langle G(t_k), D\rangle, \quad \bar s = \sum_k w_k s_k .

They stay non-negative: where that would not hold the tilt stops short, and what is left is the
account's gap. So the sum of the map is right before each of its voxels is; how far the map itself
is from the integral is of the order of :math:`r`, and shrinks with more nodes.
"""

import torch
from jaxtyping import Float
from torch import Tensor


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


def tilt(
    weights: Float[Tensor, "node *batch"],
    slopes: Float[Tensor, "node *batch"],
    rise: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    """Factor c for which the weights ``w (1 + c (s - mean s))`` give the whole rise.

    Parameters
    ----------
    weights
        Of the nodes, adding up to one.
    slopes
        At the nodes; one that is not a number has no weight.
    rise
        y(1) - y(0).

    Examples
    --------
    Slopes 0 and 2 with equal weights give 1; to give 1.2 the second node needs 0.6.

    >>> w, s = torch.tensor([0.5, 0.5]), torch.tensor([0.0, 2.0])
    >>> c = tilt(w, s, torch.tensor(1.2))
    >>> w * (1 + c * (s - 1))
    tensor([0.4000, 0.6000])
    """
    used = (weights > 0) & slopes.isfinite()
    slopes = torch.where(used, slopes, 0.0)
    mean = (weights * slopes).sum(dim=0)
    apart = torch.where(used, slopes - mean, 0.0)
    spread = (weights * apart**2).sum(dim=0)
    # slopes that differ by rounding alone (a linear head) say nothing about where to lean
    spread = torch.where(spread > (1e-6 * slopes.abs().amax(dim=0)) ** 2, spread, 0.0)
    factor = torch.where(spread > 0, (rise - mean) / torch.where(spread > 0, spread, 1.0), 0.0)
    # a weight must not turn negative: 1 + c * apart >= 0
    highest, lowest = apart.amax(dim=0).clamp(min=0), (-apart.amin(dim=0)).clamp(min=0)
    most = torch.where(lowest > 0, 1 / torch.where(lowest > 0, lowest, 1.0), 0.0)
    least = torch.where(highest > 0, -1 / torch.where(highest > 0, highest, 1.0), 0.0)
    return factor.clamp(least, most)
