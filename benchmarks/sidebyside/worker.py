"""One measurement in a process of its own; prints one line of JSON.

``python -m sidebyside.worker time CASE`` times all libraries, interleaved.
``python -m sidebyside.worker memory CASE LIBRARY`` measures the peak memory of one library.
"""

import argparse
import gc
import json
import random
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import torch

from sidebyside import memory
from sidebyside.cases import Case, case_named
from sidebyside.libraries import INFERENCE, LIBRARIES, Library

MIN_ROUNDS, MAX_ROUNDS = 7, 41
WARM_UPS = 2
MEMORY_CALLS = 3


def time_case(case: Case, seconds: float, rounds: int | None) -> dict[str, Any]:
    """Milliseconds of every library, in rounds: each once per round, in an order drawn anew.

    An untimed inference goes before each, so that all start from the same state of caches and
    allocator, whatever the one before has left.
    """
    x = case.volume()
    runners: dict[str, Callable[[], Any]] = {}
    found: dict[str, dict[str, Any]] = {}
    for library in (INFERENCE, *LIBRARIES):
        found[library.name] = entry = {"ms": []}
        try:
            runner = _runner(library, case, x)
            entry["first_ms"] = _milliseconds(runner)
            for _ in range(WARM_UPS - 1):
                runner()
            runners[library.name] = runner
        except Exception as error:  # whatever another library raises is its result
            entry["error"] = _worded(error)
    start, order = time.perf_counter(), random.Random(0)
    inference = runners[INFERENCE.name]
    for done in range(rounds or MAX_ROUNDS):
        if rounds is None and done >= MIN_ROUNDS and time.perf_counter() - start > seconds:
            break
        for name in order.sample(list(runners), len(runners)):
            gc.collect()
            inference()
            found[name]["ms"].append(_milliseconds(runners[name]))
    return found


def memory_case(case: Case, library: Library) -> dict[str, Any]:
    """Peak memory of one call above the size before it, warmed up on a small input.

    Two values: of the first call at this size, and of the calls after it (the median). What a call
    leaves behind (gradients of parameters, say) counts for those too: all are taken above the size
    before the first.
    """
    try:
        small = case.shrunk()
        _runner(library, small, small.volume())()
        x = case.volume()
        runner = _runner(library, case, x)
        memory.settle()
        before = memory.resident()
        peaks, kept, times = [], [], []
        for _ in range(1 + MEMORY_CALLS):
            memory.settle()
            memory.reset_peak()
            times.append(_milliseconds(runner))
            peaks.append((memory.peak() - before) / 2**20)
            memory.settle()
            kept.append((memory.resident() - before) / 2**20)
        return {"first_mib": peaks[0], "mib": peaks[1:], "kept_mib": kept, "first_ms": times[0]}
    except Exception as error:
        return {"error": _worded(error)}


def _runner(library: Library, case: Case, x: torch.Tensor) -> Callable[[], Any]:
    make = library.prepare(case.model(), case.layer, case.goal)
    return lambda: make(x)


def _milliseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    result = call()
    taken = 1000 * (time.perf_counter() - start)
    del result
    return taken


def _worded(error: Exception) -> str:
    traceback.print_exception(error)
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(prog="sidebyside.worker")
    parser.add_argument("what", choices=["time", "memory"])
    parser.add_argument("case")
    parser.add_argument("library", nargs="?", default=INFERENCE.name)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")  # libraries' own; they change no cost
    case = case_named(given.case)
    case = case.shrunk() if given.small else case
    if given.what == "time":
        result = time_case(case, given.seconds, given.rounds)
    else:
        named = {library.name: library for library in (INFERENCE, *LIBRARIES)}
        result = memory_case(case, named[given.library])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
