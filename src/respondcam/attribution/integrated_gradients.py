r"""Integrated gradients on the input, by captum.

M. Sundararajan, A. Taly, Q. Yan: Axiomatic Attribution for Deep Networks. ICML 2017,
arXiv:1703.01365.

.. math::

    L_i = \sum_c (x_{c,i} - x'_{c,i}) \int_0^1 \frac{\partial y}{\partial x_{c,i}}
          \bigl(x' + t\,(x - x')\bigr)\, dt, \qquad \sum_i L_i = y(x) - y(x')

Departure: summed over the input's channels, so that there is one map. Limits: nodes forward and
backward passes through the whole network; the sum holds to quadrature error, which the account
gives. `IntegratedRespondCAM` does the same from a layer on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution.baseline import BaselineSpec, as_baseline, check_nodes
from respondcam.attribution.explainer import Explainer, LayerSpec
from respondcam.attribution.on_input import InputPasses, OneScore, captum_for, only_input
from respondcam.attribution.run import Align


class IntegratedGradients(Explainer):
    """Explain with integrated gradients; the layer is the input, and two more parameters.

    Parameters
    ----------
    nodes
        Points of the path (Gauss-Legendre).
    baseline
        Input where the path starts, as in `as_baseline`; zero unless given.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv3d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 8, 2))
    >>> explanation = IntegratedGradients(model)(torch.rand(1, 2, 4, 4, 4), target=0)
    >>> explanation.maps.shape, bool(explanation.account.gap.abs() < 1e-4)
    (torch.Size([1, 1, 4, 4, 4]), True)
    """

    method = "integrated-gradients"
    differentiable = False

    def __init__(
        self,
        model: nn.Module,
        layer: LayerSpec | Sequence[LayerSpec] | None = None,
        *,
        output: Callable[[Any], Tensor] | None = None,
        relu: bool = False,
        align: Align = "layout",
        nodes: int = 50,
        baseline: BaselineSpec = None,
    ) -> None:
        super().__init__(
            model, only_input(model, layer, self.method), output=output, relu=relu, align=align
        )
        check_nodes(nodes)
        self.nodes = nodes
        self.baseline = as_baseline(baseline)
        captum_for(self.method)
        self.schedule = InputPasses(self._attribute)

    def map(
        self,
        activation: Float[Tensor, "batch channel *grid"],
        gradient: Float[Tensor, "batch channel *#grid"],
    ) -> Float[Tensor, "batch *grid"]:
        """Sum over channels of the attribution, which is in the place of the gradient."""
        return gradient.sum(dim=1)

    def _attribute(self, scored: OneScore, image: Tensor) -> Tensor:
        path = captum_for(self.method).IntegratedGradients(scored)
        start = self.baseline(image)
        at_once = scored.copies * len(image)
        return path.attribute(
            image, baselines=start, n_steps=self.nodes, internal_batch_size=at_once
        ).to(torch.float32 if image.dtype != torch.float64 else torch.float64)
