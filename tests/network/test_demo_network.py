"""The demo's network: its grid, and the arithmetic that makes its maps easy to check."""

import pytest
import torch
import torch.nn.functional as F

from respondcam.network.demo import DemoNetwork


def network():
    torch.manual_seed(0)
    made = DemoNetwork(4).double()
    with torch.no_grad():  # running statistics that are not the ones of a fresh layer
        for _ in range(3):
            made(torch.randn(4, 1, 16, 16, 16, dtype=torch.float64) * 3 + 1)
    return made.eval()


@pytest.mark.parametrize(("size", "cells"), [(40, 10), (32, 8), (41, 11)])
def test_last_grid_has_a_cell_every_four_voxels(size, cells):
    made = DemoNetwork(3).eval()
    activation = made.conv5(made.features(torch.zeros(1, 1, size, size, size)))
    assert activation.shape == (1, 64, cells, cells, cells)


def test_cells_are_centred_on_every_fourth_voxel():
    """With weights that only look straight ahead, cell i sees voxel 4 i and nothing else."""
    made = DemoNetwork(1).eval()
    for block in (made.conv1, made.conv2, made.conv3, made.conv4, made.conv5):
        middle = block.conv.kernel_size[0] // 2
        torch.nn.init.zeros_(block.conv.weight)
        with torch.no_grad():
            block.conv.weight[:, :, middle, middle, middle] = 1
    x = torch.zeros(1, 1, 40, 40, 40)
    x[0, 0, 12, 20, 36] = 1
    seen = made.conv5(made.features(x)).sum(dim=1)[0].nonzero()
    assert seen.tolist() == [[3, 5, 9]]


def test_score_is_the_bias_and_the_weighted_means_of_the_last_layer():
    made = network()
    x = torch.randn(2, 1, 24, 20, 16, dtype=torch.float64)
    h = x
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        block = made.get_submodule(name)
        h = F.conv3d(h, block.conv.weight, None, block.conv.stride, block.conv.padding)
        n = block.norm
        scale = (n.weight / (n.running_var + n.eps).sqrt())[:, None, None, None]
        h = ((h - n.running_mean[:, None, None, None]) * scale + n.bias[:, None, None, None]).clamp(
            min=0
        )
    scores = torch.einsum("bl...,cl->bc", h, made.head.weight) / h[0, 0].numel() + made.head.bias
    torch.testing.assert_close(made(x), scores)
