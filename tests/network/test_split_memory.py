"""Memory comes back to its level after every explanation."""

import subprocess
import sys

import pytest

PROCESS = """
import ctypes, gc, resource, warnings
import torch
from torch import nn
import respondcam as rc

def resident():
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024

def alive():
    gc.collect()
    return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(
    nn.Conv3d(1, 8, 3, 2), nn.ReLU(True), nn.Conv3d(8, 8, 3), nn.ReLU(True),
    nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3),
)
plain, path = rc.RespondCAM(model, "3"), rc.IntegratedRespondCAM(model, "3", nodes=4)

def explain(times):
    for n in range(times):
        explainer = path if n % 10 == 0 else plain
        explanation = explainer(torch.randn(1, 1, 16, 16, 16), target="all")
        explanation.account, explanation.place()

explain(40)
memory, tensors = resident(), alive()
explain(200)
print(resident() - memory, alive() - tensors)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_hundred_explanations_leave_nothing_behind() -> None:
    run = [sys.executable, "-c", PROCESS]
    told = subprocess.run(run, capture_output=True, text=True, encoding="utf-8", check=True)
    grown, tensors = map(int, told.stdout.split())
    assert tensors == 0
    assert grown <= 2**20
