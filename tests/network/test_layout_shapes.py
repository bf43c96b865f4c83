"""Shapes found without torch are torch's own, and a map is made without importing the compiler."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from respondcam.network.layout.rules import named
from respondcam.network.layout.shapes import result_of
from respondcam.network.trees import tensors

aten = torch.ops.aten


def x(*sizes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(sizes, dtype=dtype, device="meta")


def last(*sizes: int) -> Tensor:
    kind = torch.channels_last_3d if len(sizes) == 5 else torch.channels_last
    return x(*sizes).contiguous(memory_format=kind)


BOX, ROW = (2, 4, 6, 7, 8), (2, 4, 1, 1, 1)
FOUND = [
    (aten.relu.default, [x(*BOX)]),
    (aten.relu_.default, [x(*BOX)]),
    (aten.leaky_relu.default, [last(*BOX), 0.1]),
    (aten.gelu.default, [x(3, 5, dtype=torch.bfloat16)]),
    (aten.hardtanh_.default, [last(2, 4, 6, 7), 0.0, 6.0]),
    (aten.elu.default, [x(2, 3)]),
    (aten.add.Tensor, [x(*BOX), x(*BOX)]),
    (aten.add.Tensor, [last(*BOX), last(*BOX)]),
    (aten.add_.Tensor, [x(*BOX), x(*ROW)]),
    (aten.add.Scalar, [x(*BOX), 2]),
    (aten.mul.Tensor, [x(*ROW), x(*BOX)]),
    (aten.mul.Tensor, [x(6, 7, 8), x(*BOX)]),
    (aten.sub.Tensor, [x(), x(*BOX)]),
    (aten.rsub.Scalar, [x(*BOX), 1.0]),
    (aten.pow.Tensor_Scalar, [x(*BOX), 2]),
    (aten.clamp.default, [x(*BOX), 0.0]),
    (aten.cat.default, [[x(*BOX), x(2, 9, 6, 7, 8)], 1]),
    (aten.cat.default, [[x(3, 4), x(3, 4)], -1]),
    (aten.mean.dim, [x(*BOX), [2, 3, 4]]),
    (aten.mean.dim, [x(*BOX), [-1, 2], True]),
    (aten.mean.default, [x(*BOX)]),
    (aten.sum.dim_IntList, [x(*BOX), [1]]),
    (aten.sum.dim_IntList, [x(*BOX), None]),
    (aten.sum.default, [x(3, 4)]),
    (aten.addmm.default, [x(5), x(2, 3), x(3, 5)]),
    (aten.mm.default, [x(2, 3), x(5, 3).t()]),
    (aten.bmm.default, [x(4, 2, 3), x(4, 3, 5)]),
    (aten.max_pool3d_with_indices.default, [x(*BOX), [2, 2, 2]]),
    (aten.max_pool3d_with_indices.default, [x(*BOX), [3, 3, 3], [2, 1, 2], [1, 0, 1], [1, 2, 1]]),
    (aten.max_pool2d_with_indices.default, [x(2, 4, 9, 7), [3, 3], [2, 2], [1, 1]]),
    (aten.avg_pool3d.default, [x(*BOX), [2, 3, 2], [2, 1, 2], [1, 1, 0]]),
    (aten.avg_pool2d.default, [x(2, 4, 9, 7), [2, 2]]),
    (aten._adaptive_avg_pool3d.default, [x(*BOX), [1, 2, 3]]),
    (aten._adaptive_avg_pool2d.default, [x(2, 4, 9, 7), [3, 3]]),
    (aten.upsample_trilinear3d.default, [x(*BOX), [12, 14, 16], False, 2.0, 2.0, 2.0]),
    (aten.upsample_nearest3d.default, [x(*BOX), [12, 14, 16]]),
    (aten.upsample_bilinear2d.default, [x(2, 4, 9, 7), [3, 30], True]),
    (aten.upsample_nearest2d.default, [x(2, 4, 9, 7), [18, 14]]),
]
LEFT_TO_TORCH = [
    (aten.add.Tensor, [x(*BOX), x(*BOX, dtype=torch.float64)]),
    (aten.add.Tensor, [x(3, dtype=torch.int64), x(3)]),
    (aten.add.Tensor, [x(*BOX), last(*BOX)]),
    (aten.add.Tensor, [x(2, 3), x(2, 4)]),
    (aten.add_.Tensor, [x(*ROW), x(*BOX)]),
    (aten.div.Tensor, [x(2, 1, 3), x(2, 3, 1)]),
    (aten.mul.Scalar, [x(3), 2j]),
    (aten.relu.default, [x(4, 3, 5).transpose(0, 2)]),
    (aten.cat.default, [[x(2, 3), x(0)], 0]),
    (aten.cat.default, [[x(2, 3), x(3, 3)], 1]),
    (aten.cat.default, [[x(2, 3), x(2, 3)], 5]),
    (aten.mean.dim, [x(*BOX), [7]]),
    (aten.mean.dim, [last(*BOX), [1]]),
    (aten.sum.default, [x(3, dtype=torch.int64)]),
    (aten.addmm.default, [x(4), x(2, 3), x(3, 5)]),
    (aten.mm.default, [x(2, 3), x(4, 5)]),
    (aten.max_pool3d_with_indices.default, [x(*BOX), [2, 2, 2], [2, 2, 2], [0], [1], True]),
    (aten.max_pool3d_with_indices.default, [x(*BOX), [9, 9, 9]]),
    (aten.max_pool3d_with_indices.default, [x(*BOX[1:]), [2, 2, 2]]),
    (aten.max_pool2d_with_indices.default, [x(4, 9, 7), [2]]),  # of both axes, and no batch
    (aten.avg_pool2d.default, [x(4, 9, 7), [2]]),
    (aten.avg_pool3d.default, [x(*BOX), [2, 2, 2], [1, 1, 1], [2, 2, 2]]),
    (aten.atan.default, [x(*BOX)]),
]  # fmt: skip


def plainly(value: Any) -> list[tuple[Any, ...]]:
    return [
        (t.shape, t.dtype, t.device, [s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1])
        for t in tensors(value)
    ]


@pytest.mark.parametrize(("func", "args"), FOUND, ids=lambda one: str(one)[:40])
def test_what_is_found_is_what_torch_says(func: Any, args: list[Any]) -> None:
    found = result_of(func, named(func, args, {}))
    assert found is not None
    expected = func(*args)
    assert plainly(found) == plainly(expected)
    assert (found is args[0]) == (expected is args[0])


@pytest.mark.parametrize(("func", "args"), LEFT_TO_TORCH, ids=lambda one: str(one)[:40])
def test_the_rest_is_left_to_torch(func: Any, args: list[Any]) -> None:
    assert result_of(func, named(func, args, {})) is None


NETWORK = """
import sys, torch
from torch import nn
from respondcam import RespondCAM
head = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2)]
body = [nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(2), nn.Conv3d(4, 4, 3)]
network = nn.Sequential(*body, nn.LeakyReLU(), *head).eval()
RespondCAM(network, layer="4")(torch.zeros(1, 1, 16, 16, 16), target=0)
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.slow
def test_a_map_does_not_import_the_compiler() -> None:
    run = subprocess.run(
        [sys.executable, "-c", NETWORK], capture_output=True, text=True, check=False
    )
    assert run.stdout == "False\n", run.stderr
