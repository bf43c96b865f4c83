"""What only a GPU can show. Without one these tests say that they are skipped."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _gpu_in_full_precision() -> Iterator[None]:
    """A GPU, with convolutions in full float32: TF32 keeps ten bits of the mantissa."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU that PyTorch can use, or not asked for: `make gpu`")
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
