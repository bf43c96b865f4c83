"""The small network of the demo: convolutions, a mean over the grid, and one linear layer.

A network of this form is the case in which a map is easiest to check by eye and by arithmetic.
The score of class c is ``bias_c + sum_l w_cl mean_i A_li``, with A the output of the last layer
``conv5``. Its gradient is the same everywhere in the grid, so that at ``conv5`` Respond-CAM,
Grad-CAM and CAM are one map, whose sum is the score less the bias, exactly.
"""

from collections import OrderedDict

from einops import reduce  # pyright: ignore[reportUnknownVariableType]
from jaxtyping import Float
from torch import Tensor, nn


class DemoNetwork(nn.Module):
    """Five convolutions and a linear layer on the mean of the last one's activations.

    Each ``convN`` is a convolution, a batch normalisation and a ReLU. At 40 voxels the last grid
    has 10 cells per axis, 4 voxels apart, each of which sees 33 voxels. Any input size works.

    Parameters
    ----------
    classes
        Number of scores.

    Examples
    --------
    >>> import torch
    >>> network = DemoNetwork(classes=3).eval()
    >>> network.conv5(network.features(torch.zeros(1, 1, 40, 40, 40))).shape
    torch.Size([1, 64, 10, 10, 10])
    >>> network(torch.zeros(2, 1, 20, 24, 28)).shape
    torch.Size([2, 3])
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = _block(1, 16, kernel=5, stride=2)
        self.conv2 = _block(16, 16)
        self.conv3 = _block(16, 48, stride=2)
        self.conv4 = _block(48, 48)
        self.conv5 = _block(48, 64)
        self.head = nn.Linear(64, classes)

    def features(self, x: Float[Tensor, "batch 1 z y x"]) -> Float[Tensor, "batch 48 *grid"]:
        """What ``conv5`` receives."""
        return self.conv4(self.conv3(self.conv2(self.conv1(x))))

    def forward(self, x: Float[Tensor, "batch 1 z y x"]) -> Float[Tensor, "batch classes"]:
        """One score per class, before any sigmoid or softmax."""
        x = self.conv5(self.features(x))
        return self.head(reduce(x, "batch channel z y x -> batch channel", "mean"))


def _block(channels: int, filters: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv3d(channels, filters, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm3d(filters), relu=nn.ReLU()))
