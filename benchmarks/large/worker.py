"""One run in a fresh process: a synthetic volume, a network, and what it took as JSON."""

import argparse
import json
import resource
import shutil
import tempfile
import time
from pathlib import Path

import mrcfile
import numpy as np
import torch
from torch import nn

from respondcam.large import LargeSettings, explain_large
from respondcam.large.cluster import connected
from respondcam.large.engine import Engine, make_engine, open_address, repeatable
from respondcam.large.job import ModelAddress
from respondcam.large.plan import stride_of, window_starts


def cheap() -> nn.Module:
    """Little to compute for each voxel, so that reading, stitching and writing show."""
    torch.manual_seed(0)
    layers = (nn.Conv3d(1, 4, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 2))


NETWORKS = {"cheap": f"{Path(__file__).resolve()}:cheap", "demo": "demo"}


def synthesize(path: Path, shape: tuple[int, int, int]) -> None:
    """Noise with a voxel size, written section by section."""
    rng = np.random.default_rng(0)
    with mrcfile.new_mmap(path, shape=shape, mrc_mode=2) as file:
        file.voxel_size = 10.0
    with path.open("r+b") as raw:
        raw.seek(1024)
        for _ in range(shape[0]):
            raw.write(rng.random(shape[1:], np.float32).tobytes())


def plain_seconds(engine: Engine, shape: tuple[int, int, int], settings: LargeSettings) -> dict:
    """Plain batched inference over as many windows as the volume has, cut out beforehand."""
    stride = stride_of(settings.window, settings.overlap)
    counts = [
        len(window_starts(*axis)) for axis in zip(shape, settings.window, stride, strict=True)
    ]
    windows = int(np.prod(counts))
    batch = torch.rand(settings.batch, 1, *settings.window)
    device = next(engine.module.parameters()).device
    with torch.inference_mode():
        engine.module(batch.to(device))
        wall, cpu = time.perf_counter(), time.process_time()
        for first in range(0, windows, settings.batch):
            engine.module(batch[: min(settings.batch, windows - first)].to(device)).cpu()
    return {
        "windows": windows,
        "plain_wall_s": time.perf_counter() - wall,
        "plain_cpu_s": time.process_time() - cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", type=int, nargs=3, required=True)
    parser.add_argument("--network", choices=NETWORKS, default="cheap")
    parser.add_argument("--layer", required=True)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--overlap", type=float, default=0.25)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--batch", type=int, default=LargeSettings.batch)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--folder")
    asked = parser.parse_args()
    shape = tuple(asked.shape)
    settings = LargeSettings(
        window=(asked.window,) * 3,
        overlap=asked.overlap,
        stitch="sum",
        batch=asked.batch,
        target=1,
        layer=asked.layer,
        threads=1,
    )
    folder = Path(tempfile.mkdtemp(dir=asked.folder))
    try:
        synthesize(folder / "v.mrc", shape)
        print(json.dumps(measure(folder, shape, settings, asked)))
    finally:
        shutil.rmtree(folder)


def measure(
    folder: Path, shape: tuple[int, int, int], settings: LargeSettings, asked: argparse.Namespace
) -> dict:
    address = ModelAddress(NETWORKS[asked.network], device=asked.device)
    found: dict = {"shape": shape, "network": asked.network, "workers": asked.workers}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    if asked.workers:
        with connected(None, asked.workers) as client:
            wall = time.perf_counter()
            outcome = explain_large(folder / "v.mrc", folder, address, settings, client=client)
            found["workers_cpu_s"] = sum(client.run(time.process_time).values())
            peaks = client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
            found["worker_peak_mib"] = max(peaks.values()) / 1024
    else:
        outcome = explain_large(folder / "v.mrc", folder, address, settings)
    found["wall_s"], found["cpu_s"] = time.perf_counter() - wall, time.process_time() - cpu
    found["windows_per_s"] = outcome.windows / outcome.seconds
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found["peak_before_mib"] = before / 1024
    if asked.plain:
        with repeatable(1):
            engine = make_engine(open_address(address), asked.device, settings)
            found |= plain_seconds(engine, shape, settings)
        found["wall_ratio"] = found["plain_wall_s"] / outcome.seconds
    return found


if __name__ == "__main__":
    main()
