"""What a computation takes: processor time on a processor, the wall clock on a GPU.

Other programs on a machine do not count in processor time. A GPU computes while the processor goes
on, so there it is waited for, and the wall clock read.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def now(device: str) -> float:
    """Seconds, when everything that was asked of the device is done."""
    if torch.device(device).type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def peak_mib(device: str, work: Callable[[], object]) -> float:
    """Memory of a GPU that is taken while the work is done, beyond what was held before."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def on(device: str, value: Any) -> Any:
    """A network, a tensor or a tuple of these on a device."""
    if isinstance(value, tuple):
        return tuple(on(device, one) for one in value)
    return value.to(device) if isinstance(value, torch.Tensor | nn.Module) else value


def name(device: str) -> str:
    """Of the GPU, or cpu."""
    on_gpu = torch.device(device).type == "cuda"
    return torch.cuda.get_device_name(device) if on_gpu else device
