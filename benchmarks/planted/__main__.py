"""Run everything, write README.md and results.json beside this file.

In the folder ``benchmarks``: ``python -m planted``; ``--small`` runs everything once on few images
and prints the page.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch

from planted.measuring import placed_or_resized, results, seeded
from planted.networks import accuracy, fine, trained
from planted.page import page
from planted.scenes import particles, shapes
from respondcam import __version__
from respondcam.cli._common import to_json
from respondcam.cli._compare_files import compared_cells
from respondcam.evidence.comparison import compare

HERE = Path(__file__).parent
SCENES = {"planted shapes": shapes, "two-particle subtomograms": particles}


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m planted")
    options.add_argument("--small", action="store_true", help="few images, nothing written")
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    learn, test, epochs = (24, 9, 1) if asked.small else (300, 40, 8)
    begin = time.process_time()
    tables, facts = [], {}
    for number, (name, make) in enumerate(SCENES.items()):
        base = 1000 * asked.seed + 10 * number
        model = trained(fine, make(learn, seeded(base), pairs=False), epochs, asked.seed)
        single = accuracy(model, make(test, seeded(base + 1), pairs=False))
        images = make(test, seeded(base + 2), pairs=True)
        print(f"{name}: accuracy {single:.3f} on single objects", flush=True)
        rows = compare(results(model, images), seed=asked.seed)
        tables.append((name, single, len(images), rows))
    shape_learn = shapes(learn, seeded(1000 * asked.seed + 50), pairs=False)
    shape_test = shapes(test, seeded(1000 * asked.seed + 51), pairs=False)
    places = placed_or_resized(shape_learn, shape_test, epochs, asked.seed)
    facts = {
        "respondcam": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "seed": asked.seed,
        "cpu_seconds": round(time.process_time() - begin),
    }
    text = page(tables, places, facts)
    if asked.small:
        print(text)
        return
    (HERE / "README.md").write_text(text, encoding="utf-8")
    document = {
        "facts": facts,
        "scenes": {name: compared_cells(rows) for name, _, _, rows in tables},
        "placed_or_resized": [
            {"network": name, "accuracy": right, **{k: [vars(i) for i in v] for k, v in f.items()}}
            for name, right, f in places
        ],
    }
    (HERE / "results.json").write_text(
        to_json(json.loads(to_json(document))) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
