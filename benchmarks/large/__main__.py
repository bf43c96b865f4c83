"""``python -m benchmarks.large``: the table of README.md, each row from a fresh process."""

import argparse
import json
import subprocess
import sys

from benchmarks.history import remember

CHEAP = [(64, 128, 128), (64, 256, 256), (128, 512, 512), (512, 512, 512), (512, 1024, 1024)]


def row(*options: str) -> dict:
    command = [sys.executable, "-m", "benchmarks.large.worker", *options]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=len(CHEAP), help="Of the table, smallest first")
    parser.add_argument("--folder", default=".", help="For volumes and results, gigabytes")
    asked = parser.parse_args()
    print("shape z y x | workers | Mvoxel | wall s | CPU s | CPU s/Mvoxel | peak MiB")
    figures: dict[str, float] = {}
    for shape in CHEAP[: asked.rows]:
        for workers in (0, 1, 2):
            options = ["--shape", *map(str, shape), "--layer", "1", "--folder", asked.folder]
            one = row(*options, "--workers", str(workers))
            voxels = shape[0] * shape[1] * shape[2] / 1e6
            cpu = one.get("workers_cpu_s", 0) + one["cpu_s"]
            peak = max(one["peak_mib"], one.get("worker_peak_mib", 0))
            case = f"{'x'.join(map(str, shape))}, {workers or 'no'} workers"
            figures[f"{case}: CPU s/Mvoxel"] = round(cpu / voxels, 5)
            figures[f"{case}: peak MiB"] = round(peak, 1)
            print(
                f"{shape} | {workers or 'in process'} | {voxels:.0f} | {one['wall_s']:.1f} | "
                f"{cpu:.1f} | {cpu / voxels:.3f} | {peak:.0f}",
                flush=True,
            )
    options = "--shape 160 160 160 --network demo --layer conv5 --window 40 --overlap 0.5 --plain"
    demo = row(*options.split(), "--folder", asked.folder)
    print(
        f"demo network, windows of 40: {demo['windows']} windows, plain inference "
        f"{demo['plain_cpu_s']:.1f} s CPU, all of the run {demo['cpu_s']:.1f} s CPU; "
        f"windows/s {demo['wall_ratio']:.3f} of plain inference"
    )
    figures["demo network: windows/s of plain inference"] = round(demo["wall_ratio"], 4)
    remember("large volumes", figures)


if __name__ == "__main__":
    main()
