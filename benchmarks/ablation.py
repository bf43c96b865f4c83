"""Ablation-CAM beside pytorch-grad-cam's: ``python benchmarks/ablation.py``.

The same map, 512 channels, on a deep trunk (MONAI's ResNet-18, layer4): pytorch-grad-cam runs the
whole network for each batch of channels, respondcam the head. Both are timed in turn by CPU time
(other processes on the machine do not count) and by the wall clock, and the maps are compared after
the same scaling: negative values cut off, then 0 to 1. Networks have random weights, with the
statistics of their normalisations taken on random images first, as training leaves them.

In 2-D pytorch-grad-cam runs as it is. On volumes it fails: two calls of ``repeat`` are written for
images. `OnVolumes` and `_with_channel` repeat along one axis more and change nothing else. Needs
`grad-cam` and `monai`, as in requirements.txt.
"""

import argparse
import contextlib
import io
import json
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import resnet18
from sidebyside.torchvision_stand_in import stand_in
from torch import Tensor, nn

import respondcam as rc

LAYER = "layer4"
RESULTS = Path(__file__).parent / "results" / "ablation.json"


def network(rank: int, classes: int = 23) -> nn.Module:
    """ResNet-18 with a first stride of 2 along every axis, its normalisations settled."""
    torch.manual_seed(0)
    model = resnet18(
        spatial_dims=rank, n_input_channels=1, num_classes=classes, conv1_t_stride=2
    ).train()
    with torch.no_grad():
        for seed in range(10):
            model(images(rank, 48, batch=4, seed=seed))
    return model.eval()


def images(rank: int, size: int, batch: int = 1, seed: int = 100) -> Tensor:
    """Noise with structure at two scales."""
    generator = torch.Generator().manual_seed(seed)
    mode = {2: "bilinear", 3: "trilinear"}[rank]
    found = torch.randn(batch, 1, *[size] * rank, generator=generator)
    coarse = torch.randn(batch, 1, *[6] * rank, generator=generator)
    return found + 2 * nn.functional.interpolate(coarse, (size,) * rank, mode=mode)


def theirs(model: nn.Module, target: int, rank: int) -> Callable[[Tensor], np.ndarray]:
    """pytorch-grad-cam's raw map on the layer's grid; all of its own work is done, too."""
    stand_in()
    from pytorch_grad_cam import AblationCAM
    from pytorch_grad_cam.ablation_layer import AblationLayer
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class OnVolumes(AblationLayer):
        def set_next_batch(
            self, input_batch_index: int, activations: Tensor, num_channels_to_ablate: int
        ) -> None:
            one = activations[input_batch_index].clone().unsqueeze(0)
            self.activations = one.repeat(num_channels_to_ablate, *[1] * (one.ndim - 1))

    class Keeping(AblationCAM):
        raw: np.ndarray

        def get_cam_image(self, *given: Any, **options: Any) -> np.ndarray:
            self.raw = super().get_cam_image(*given, **options)
            return self.raw

    layers = [model.get_submodule(LAYER)]
    ablation = OnVolumes() if rank == 3 else AblationLayer()
    if rank == 3:
        model.register_forward_pre_hook(_with_channel)
    cam = Keeping(model, layers, ablation_layer=ablation, batch_size=32)

    def run(x: Tensor) -> np.ndarray:
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
            cam(input_tensor=x, targets=[ClassifierOutputTarget(target)])
        return cam.raw[0]

    return run


def _with_channel(module: nn.Module, given: tuple[Tensor]) -> tuple[Tensor]:
    """Repeated as an image, a volume of one channel has lost its axis of channels."""
    return (given[0].unsqueeze(1),) if given[0].ndim == 4 else given


def scaled(one: np.ndarray) -> np.ndarray:
    """As pytorch-grad-cam scales maps."""
    positive = np.maximum(one, 0)
    positive = positive - positive.min()
    return positive / (1e-7 + positive.max())


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """CPU seconds, wall seconds, result."""
    processor, wall = time.process_time(), time.perf_counter()
    found = work()
    return time.process_time() - processor, time.perf_counter() - wall, found


def measure(rank: int, size: int, rounds: int) -> dict[str, Any]:
    """One network and size; each round theirs, ours and an inference in turn."""
    model, x = network(rank), images(rank, size)
    peer = network(rank)  # of the same weights, since hooks stay on it
    with torch.inference_mode():
        target = int(model(x).argmax())
    explain, cam = rc.AblationCAM(model, layer=LAYER), theirs(peer, target, rank)

    def inference() -> Tensor:
        with torch.inference_mode():
            return model(x)

    work: dict[str, Callable[[], Any]] = {
        "inference": inference,
        "pytorch-grad-cam": lambda: cam(x),
        "respondcam": lambda: explain(x, target=target).maps[0, 0].numpy(),
    }
    work["respondcam"]()  # follows positions through the network once
    work["inference"]()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in work}
    found: dict[str, Any] = {}
    for _ in range(rounds):
        for name, one in work.items():
            *spent, found[name] = timed(one)
            times[name].append((spent[0], spent[1]))
    own, other = scaled(found["respondcam"]), scaled(found["pytorch-grad-cam"])
    cpu, wall = (
        {name: statistics.median(pair[clock] for pair in pairs) for name, pairs in times.items()}
        for clock in (0, 1)
    )
    return {
        "network": f"ResNet-18 in {rank}-D",
        "size": size,
        "grid": list(own.shape),
        "channels": 512,
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "ratio_cpu": cpu["pytorch-grad-cam"] / cpu["respondcam"],
        "ratio_wall": wall["pytorch-grad-cam"] / wall["respondcam"],
        "largest_difference": float(np.abs(own - other).max()),
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="small images, nothing written")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    cases = [(2, 96), (3, 48)] if options.quick else [(2, 224), (3, 64)]
    rows = []
    for rank, size in cases:
        row = measure(rank, size, 1 if options.quick else options.rounds)
        rows.append(row)
        cpu = row["cpu_seconds"]
        print(
            f"{row['network']}, {size} voxels, grid {row['grid']}: pytorch-grad-cam "
            f"{cpu['pytorch-grad-cam']:.2f} CPU-s, respondcam {cpu['respondcam']:.3f} CPU-s, "
            f"inference {cpu['inference']:.3f}: {row['ratio_cpu']:.0f} times faster by CPU time, "
            f"{row['ratio_wall']:.0f} by the clock; maps differ by at most "
            f"{row['largest_difference']:.1g} of 1",
            flush=True,
        )
    if not options.quick:
        facts = {"torch": torch.__version__, "python": platform.python_version()}
        facts |= {"threads": str(torch.get_num_threads()), "machine": platform.machine()}
        RESULTS.write_text(json.dumps({"facts": facts, "rows": rows}, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
