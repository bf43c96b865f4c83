"""Hunt with coverage as the guide: a file that reaches new lines of a reader is changed further.

``python -m tests.fuzz.guided mrc --inputs 100000`` from the root of the repository. The readers are
Python, and so are most of the libraries behind them; atheris watches their branches. Half of the
changes are those of `tests.fuzz.hunt`, which know archives, JSON and headers, half are atheris'
own. Limits and outcomes are the hunt's.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

WATCHED = ["respondcam", "mrcfile", "nibabel", "starfile", "tifffile", "zarr", "onnx2torch"]


def main() -> None:
    """Hunt in this process; it ends with 0 if nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as one:
        _guided(given.reader, given.inputs, given.seed, given.keep, Path(one))


def _guided(name: str, inputs: int, seed: int, keep: Path, folder: Path) -> None:
    import atheris  # for Linux alone

    with atheris.instrument_imports(include=WATCHED):
        from tests.fuzz.hunt import limits, outcome
        from tests.fuzz.mutate import mutated
        from tests.fuzz.readers import READERS
        from tests.fuzz.structured import hostile

        reader = READERS[name]
        seeds = sorted(reader.seeds(folder).items())
        for place, good in seeds:  # brings the imports that readers make when they are called
            outcome(reader.read, reader.store(folder, place, good), limited=False)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, (_, good) in enumerate(seeds):  # the first byte says which file it is
        (corpus / str(number)).write_bytes(bytes([number]) + good)
    outcomes: Counter[str] = Counter()
    found: Counter[str] = Counter()

    def one(data: bytes) -> None:
        place, good = seeds[data[0] % len(seeds) if data else 0]
        what = outcome(reader.read, reader.store(folder, place, data[1:]))
        if reader.folder:  # only one of its files is hostile
            reader.store(folder, place, good)
        outcomes[what.split(":")[0]] += 1
        if what not in ("read", "worded"):
            found[what] += 1
            if found[what] <= 3:
                number = outcomes.total()
                (keep / f"guided-{name}-{number}{place.replace('/', '-')}").write_bytes(data[1:])
        if outcomes.total() == inputs:
            _say(name, outcomes, found)
            sys.stdout.flush()
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(1 if found else 0)  # libFuzzer's own end takes every exit for a fault

    def change(data: bytes, most: int, chance: int) -> bytes:
        random_ = random.Random(chance)
        if random_.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        head, rest = (data[:1], data[1:]) if data else (b"\0", b"")
        try:
            return (head + hostile(rest, random_, reader.header))[:most]
        except Exception:  # an archive no more; raised here, it would lock the process up
            return (head + mutated(rest, random_, reader.header))[:most]

    longest = 4 * max(len(good) for _, good in seeds) + 1
    options = [f"-max_len={longest}", f"-seed={seed}", "-rss_limit_mb=0"]
    options += ["-len_control=0", "-verbosity=0", f"-artifact_prefix={keep}/"]
    with reader.during(), limits():
        atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=change)
        atheris.Fuzz()


def _say(name: str, outcomes: Counter[str], found: Counter[str]) -> None:
    sys.stdout.write(f"{name}: {dict(outcomes)}\n")
    for what, count in found.most_common():
        sys.stdout.write(f"  {count} x {what}\n")


if __name__ == "__main__":
    main()
