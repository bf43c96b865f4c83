"""What a trunk in bfloat16 saves and what it costs: ``python benchmarks/precision.py``.

Per case and round, in turn: inference in float32, the map in float32, the map in bfloat16. Minimum
and median of CPU time (other processes on the machine do not count; not with ``--device cuda``) and
of wall time. Networks have
random weights, with the statistics of their normalisations taken on random volumes first, as
training leaves them. Needs the extra `monai`.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import clock
import torch
from history import remember
from monai.networks.nets import DenseNet121, resnet18
from torch import Tensor, nn

import respondcam as rc


def resnet() -> nn.Module:
    return resnet18(spatial_dims=3, n_input_channels=1, num_classes=5, conv1_t_stride=2)


def densenet() -> nn.Module:
    return DenseNet121(spatial_dims=3, in_channels=1, out_channels=5)


CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "ResNet-18": (resnet, "layer4"),
    "DenseNet-121": (densenet, "class_layers.relu"),
}


def settled(make: Callable[[], nn.Module], size: int) -> nn.Module:
    """A network whose normalisations know the activations of volumes of this kind."""
    torch.manual_seed(0)
    model = make().train()
    with torch.no_grad():
        for _ in range(15):
            model(volume(min(size, 64), batch=2))
    return model.eval()


def volume(size: int, batch: int = 1) -> Tensor:
    """Noise with structure at several scales, mean 0 and deviation 1."""
    found = torch.zeros(batch, 1, size, size, size)
    for coarse in (4, 16, size):
        noise = torch.randn(batch, 1, coarse, coarse, coarse)
        found += nn.functional.interpolate(noise, (size,) * 3, mode="trilinear")
    return (found - found.mean()) / found.std()


def timed(work: Callable[[], object], device: str) -> tuple[float, float]:
    processor, wall = clock.now(device), time.perf_counter()
    work()
    return clock.now(device) - processor, time.perf_counter() - wall


def measure(name: str, size: int, rounds: int, device: str) -> None:
    make, layer = CASES[name]
    model, x = clock.on(device, settled(make, size)), clock.on(device, volume(size))
    full = rc.RespondCAM(model, layer=layer)
    half = rc.RespondCAM(model, layer=layer, precision="bf16")

    def inference() -> None:
        with torch.inference_mode():
            model(x)

    work = {"inference": inference, "fp32 map": lambda: full(x), "bf16 map": lambda: half(x)}
    error = half(x, target="all").precision
    assert error is not None
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in work}
    for kind in work:
        work[kind]()
    for _ in range(rounds):
        for kind in work:
            times[kind].append(timed(work[kind], device))
    report(f"{name}, {size}^3, {clock.name(device)}", times, error.note)


def report(case: str, times: dict[str, list[tuple[float, float]]], note: str) -> None:
    print(f"{case}: {note}")
    middle = {kind: statistics.median(cpu for cpu, _ in pairs) for kind, pairs in times.items()}
    remember("precision", {f"{case}: {kind}: s": round(t, 5) for kind, t in middle.items()})
    for number, kind_of in enumerate(("CPU ", "wall")):
        base = [pair[number] for pair in times["inference"]]
        for kind, pairs in times.items():
            each = [pair[number] for pair in pairs]
            print(
                f"  {kind_of} {kind:9}  min {min(each):.3f} s, "
                f"median {statistics.median(each):.3f} s; "
                f"faster than inference: x{min(base) / min(each):.2f} (min), "
                f"x{statistics.median(base) / statistics.median(each):.2f} (median)",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    print(f"torch {torch.__version__}, {options.threads} threads")
    for name in CASES:
        measure(name, options.size, options.rounds, options.device)


if __name__ == "__main__":
    main()
