"""Does Integrated Respond-CAM add up, and at what cost? ``python benchmarks/integrated.py``.

The relative gap of Respond-CAM and of Integrated Respond-CAM with 32 nodes, for heads that are
linear and heads that are not, on networks with random weights; and the CPU time of one map against
an inference and against Respond-CAM's map, in turn in one process; with ``--device cuda`` the wall
time. Needs the extra `monai`.
"""

import argparse
import json
import platform
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clock
import torch
from history import remember
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
    "SwinUNETR": (_swin, 64, ("decoder1", "decoder2", "decoder3", "decoder4", "decoder5")),
}


def measure(name: str, layer: str, nodes: int, rounds: int, device: str) -> dict[str, Any]:
    """Gaps and seconds at one layer."""
    make, size, _ = CASES[name]
    torch.manual_seed(0)
    model = clock.on(device, make().eval())
    chance = torch.Generator().manual_seed(5)
    x = clock.on(device, torch.randn(1, 1, size, size, size, generator=chance))
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
            begin = clock.now(device)
            one()
            times[key].append(clock.now(device) - begin)
    took = {key: statistics.median(values) for key, values in times.items()}
    ratio = took["integrated"] / took["respond"] if rounds > 0 else None
    return {"network": name, "layer": layer, "gaps": gaps, "seconds": took, "ratio": ratio}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(CASES))
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for name in options.networks or CASES:
        for layer in CASES[name][2]:
            row = measure(name, layer, options.nodes, options.rounds, options.device)
            rows.append(row)
            print(
                f"{name}, {layer}: open {row['gaps']['respond']:.1e} with respond, "
                f"{row['gaps']['integrated']:.1e} with {options.nodes} nodes; time "
                f"{row['ratio']:.2f} times respond's ({row['seconds']})",
                flush=True,
            )
    figures = {
        f"{row['network']}, {row['layer']}: {what}": value
        for row in rows
        for what, value in {**row["gaps"], "time of respond's": row["ratio"]}.items()
    }
    if figures:
        remember("integrated", figures, nodes=options.nodes, device=clock.name(options.device))
    if not options.networks and options.device == "cpu":
        facts = {"torch": torch.__version__, "python": platform.python_version()}
        facts |= {"nodes": str(options.nodes), "threads": str(torch.get_num_threads())}
        RESULTS.write_text(json.dumps({"facts": facts, "rows": rows}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
