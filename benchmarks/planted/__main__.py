"""Measure the parts that are asked for, and write README.md from all that have been measured.

In the folder ``benchmarks``: ``python -m planted`` for all, ``python -m planted places`` for one;
``--quick`` runs a part once on few images and prints it.
"""

import argparse
import json
import platform
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from history import remember

from planted.measuring import placed_or_resized, results, seeded, truth_known
from planted.networks import accuracy, fine, trained
from planted.page import page, places_lines, scene_lines
from planted.scenes import particles, shapes
from respondcam import __version__
from respondcam._files import whole_file
from respondcam.cli._compare_files import compared_cells
from respondcam.cli._printing import to_json
from respondcam.evidence.comparison import compare

HERE = Path(__file__).parent
SCENES = {"shapes": shapes, "particles": particles}
PARTS = (*SCENES, "places")
LEARN = {"shapes": (500, 14), "particles": (300, 8), "places": (500, 8)}  # images, epochs
TEST, TRAININGS = {"shapes": 24, "particles": 24, "places": 60}, 3
QUICK = ((24, 1), 9, 1)  # the same in small


def scene(part: str, seed: int, *, quick: bool) -> tuple[list[str], Any]:
    """Every method and control where one of two objects is asked for."""
    (learn, epochs), test, _ = QUICK if quick else (LEARN[part], TEST[part], 1)
    make, base = SCENES[part], 1000 * seed + 10 * PARTS.index(part)
    model = trained(fine, make(learn, seeded(base), pairs=False), epochs, seed)
    right = accuracy(model, make(test, seeded(base + 1), pairs=False))
    images = make(test, seeded(base + 2), pairs=True)
    print(f"{part}: {100 * right:.0f} % of single objects right", flush=True)
    found, left_out = results(model, images)
    rows = compare(found, seed=seed)
    return scene_lines(part, right, len(images), rows, left_out), compared_cells(rows)


def places(seed: int, *, quick: bool) -> tuple[list[str], Any]:
    """Placed maps beside resized ones: where the truth is known, and in trained networks."""
    (learn, epochs), test, trainings = (
        QUICK if quick else (LEARN["places"], TEST["places"], TRAININGS)
    )
    known = truth_known(2 * test, seed)
    found, looked = placed_or_resized(learn, epochs, test, trainings, seed)
    parts = {"known": known, "trained": found, "looks": looked}
    cells = {name: [asdict(one) for one in rows] for name, rows in parts.items()}
    return places_lines(known, found, looked, trainings), cells


def main() -> None:
    """Read the command line."""
    options = argparse.ArgumentParser(prog="python -m planted")
    options.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    options.add_argument("--quick", action="store_true", help="few images, nothing written")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    for part in asked.parts or PARTS:
        begin = time.process_time()
        measured = (
            places(asked.seed, quick=asked.quick)
            if part == "places"
            else scene(part, asked.seed, quick=asked.quick)
        )
        facts = {
            "respondcam": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "seed": asked.seed,
            "cpu_seconds": round(time.process_time() - begin),
        }
        lines, cells = measured
        if asked.quick:
            print("\n".join(lines))
            continue
        (HERE / "results").mkdir(exist_ok=True)
        document = to_json({"lines": lines, "cells": cells, "facts": facts})
        with whole_file(HERE / "results" / f"{part}.json") as beside:
            beside.write_text(document + "\n", encoding="utf-8")
        plain = json.loads(document)
        remember(f"planted objects: {part}", {"cells": plain["cells"]}, facts=plain["facts"])
        files = [HERE / "results" / f"{name}.json" for name in PARTS]
        known = [json.loads(file.read_text("utf-8")) for file in files if file.exists()]
        with whole_file(HERE / "README.md") as beside:
            beside.write_text(page(known), encoding="utf-8")


if __name__ == "__main__":
    main()
