"""Does Integrated Respond-CAM add up, and at what cost? ``python benchmarks/integrated.py``.

The relative gap of Respond-CAM and of Integrated Respond-CAM with 32 nodes, for heads that are
linear and heads that are not, on networks with random weights; and the CPU time of one map against
an inference and against Respond-CAM's map, in turn in one process. Needs the extra `monai`.
"""

import argparse
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets import DenseNet121, SwinUNETR, resnet18
from torch import Tensor, nn

import respondcam as rc
from respondcam.network.paper import cnn_1, cnn_2

RESULTS = Path(__file__).parent / "results" / "integrated.json"


def _resnet() -> nn.Module:
    return resnet18(spatial_dims=3, n_input_channels=1, num_classes=5, conv1_t_stride=2)


def _densenet() -> nn.Module:
    return DenseNet121(spatial_dims=3, in_channels=1, out_channels=5)


def _swin() -> nn.Module:
    return SwinUNETR(in_channels=1, out_channels=3, feature_size=12, spatial_dims=3)


CASES: dict[str, tuple[Callable[[], nn.Module], int, tuple[str, ...]]] = {
    "CNN-1": (lambda: cnn_1(classes=23, size=40), 40, ("maxpool2",)),
    "CNN-2": (lambda: cnn_2(classes=23, size=40), 40, ("maxpool2",)),
    "ResNet-18": (_resnet, 96, ("layer4", "layer3")),
    "DenseNet-121": (_densenet, 64, ("class_layers.relu",)),
    "SwinUNETR": (_swin, 64, ("decoder1", "decoder2")),
}


def measure(name: str, layer: str, nodes: int, rounds: int) -> dict[str, Any]:
    """Gaps and CPU seconds at one layer."""
    make, size, _ = CASES[name]
    torch.manual_seed(0)
    model = make().eval()
    x = torch.randn(1, 1, size, size, size, generator=torch.Generator().manual_seed(5))
    plain = rc.RespondCAM(model, layer=layer)
    whole = rc.IntegratedRespondCAM(model, layer=layer, nodes=nodes)

    def inference() -> Tensor:
        with torch.inference_mode():
            return model(x)

    work: dict[str, Callable[[], Any]] = {
        "inference": inference,
        "respond": lambda: plain(x),
        "integrated": lambda: whole(x),
    }
    gaps = {key: float(work[key]().account.relative_gap) for key in ("respond", "integrated")}
    times: dict[str, list[float]] = {key: [] for key in work}
    for _ in range(rounds):
        for key, one in work.items():
            begin = time.process_time()
            one()
            times[key].append(time.process_time() - begin)
    cpu = {key: statistics.median(values) for key, values in times.items()}
    ratio = cpu["integrated"] / cpu["respond"] if rounds > 0 else None
    return {"network": name, "layer": layer, "gaps": gaps, "cpu_seconds": cpu, "ratio": ratio}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(CASES))
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in options.networks or CASES:
        for layer in CASES[name][2]:
            row = measure(name, layer, options.nodes, options.rounds)
            rows.append(row)
            print(
                f"{name}, {layer}: open {row['gaps']['respond']:.1e} with respond, "
                f"{row['gaps']['integrated']:.1e} with {options.nodes} nodes; CPU time "
                f"{row['ratio']:.2f} times respond's ({row['cpu_seconds']})",
                flush=True,
            )
    if not options.networks:
        facts = {"torch": torch.__version__, "python": platform.python_version()}
        facts |= {"nodes": str(options.nodes), "threads": str(torch.get_num_threads())}
        RESULTS.write_text(json.dumps({"facts": facts, "rows": rows}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
