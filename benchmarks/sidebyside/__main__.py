"""Measure every case and write the results file and the table.

Cases run one after the other, each measurement in a process of its own.
"""

import argparse
import datetime
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from history import remember, side_by_side_figures

from sidebyside import machine, table
from sidebyside.cases import CASES, Case, case_named
from sidebyside.libraries import INFERENCE, LIBRARIES

HERE = Path(__file__).parents[1]
BUSY_CORES = 0.25
"""Others that keep more cores busy than this disturb a measurement."""
ATTEMPTS = 4

# Freed memory goes back to the system at once, so that a peak is what is alive, not what the
# allocator keeps in reserve, which varies from run to run. Costs time, so not while timing.
_EXACT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def measure(case: Case, given: argparse.Namespace, deadline: float) -> dict[str, Any]:
    """Memory and time of all libraries on one case."""
    return {
        "case": case.name,
        "network": case.network,
        "layer": case.layer,
        "size": (case.shrunk() if given.small else case).size,
        "goal": case.goal,
        "memory": _memory(case, given),
        **_time(case, given, deadline),
    }


def _memory(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    taken = {}
    for library in (INFERENCE, *LIBRARIES):
        print(f"memory: {case.name}, {library.name}", flush=True)
        taken[library.name] = _worker(["memory", case.name, library.name], given, _EXACT_MEMORY)
    return taken


def _time(case: Case, given: argparse.Namespace, deadline: float) -> dict[str, Any]:
    """Times of one case: the quietest of a few attempts, and how busy others were then."""
    command = ["time", case.name, "--seconds", str(given.seconds)]
    command += ["--rounds", str(given.rounds)] if given.rounds else []
    attempts = []
    for _ in range(ATTEMPTS if given.wait else 1):
        machine.wait_until_quiet(deadline, busy_cores=BUSY_CORES)
        print(f"time: {case.name}", flush=True)
        neighbours = machine.Neighbours()
        timed = _worker(command, given, {})
        cores = round(neighbours.cores(), 2)
        attempts.append({"others_busy_cores": cores, "commit": machine.commit(), "time": timed})
        if cores < BUSY_CORES:
            break
        print(f"  others kept {cores:.1f} cores busy meanwhile", flush=True)
    return min(attempts, key=lambda attempt: attempt["others_busy_cores"])


def _worker(
    command: list[str], given: argparse.Namespace, environment: dict[str, str]
) -> dict[str, Any]:
    threads = str(given.threads)
    run = subprocess.run(
        [
            *(sys.executable, "-m", "sidebyside.worker", *command, "--threads", threads),
            *(["--small"] if given.small else []),
        ],
        cwd=HERE,
        env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode != 0:
        raise SystemExit(f"{shlex.join(run.args)} ended with {run.returncode}:\n{run.stderr}")
    return json.loads(run.stdout.splitlines()[-1])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sidebyside", description=__doc__)
    parser.add_argument(
        "--cases", nargs="+", metavar="CASE", help="only these, in this order; the table says so"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, help="default: at least 7, for --seconds")
    parser.add_argument("--seconds", type=float, default=20, help="per case, for short rounds")
    parser.add_argument(
        "--small", action="store_true", help="tiny inputs: a trial of the machinery"
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="MINUTES",
        help="wait up to so long for a quiet machine, and time a case again that was disturbed",
    )
    parser.add_argument("--render", type=Path, metavar="FILE", help="only write the table again")
    return parser.parse_args()


def main() -> None:
    """Run all cases, or those named."""
    given = _arguments()
    if given.render:
        table.write(HERE / "README.md", json.loads(given.render.read_text("utf-8")))
        return
    cases = [case_named(name) for name in given.cases] if given.cases else CASES
    about = machine.describe()
    packages = ["torch", *dict.fromkeys(library.package for library in LIBRARIES)]
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "command": _command(given),
        "options": {"threads": given.threads, "rounds": given.rounds, "seconds": given.seconds},
        "machine": about,
        "versions": machine.versions(packages),
        "cases": [],
    }
    path = HERE / "results" / f"{results['date']}-{machine.slug(about['cpu'], about['cores'])}.json"
    deadline = time.monotonic() + 60 * given.wait
    for case in cases:
        results["cases"].append(measure(case, given, deadline))
        if not given.small:  # after every case, so that a run that is stopped leaves what it has
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
            table.write(HERE / "README.md", results)
    if given.small:
        print(table.render(results))
    else:
        remember(
            "side by side",
            side_by_side_figures(results),
            packages=packages,
            command=results["command"],
            options=results["options"],
        )
        print(f"wrote {path} and the table in {HERE / 'README.md'}")


def _command(given: argparse.Namespace) -> str:
    options = [f"--seconds {given.seconds:g}"] if given.seconds != 20 else []
    options += [f"--cases {' '.join(given.cases)}"] if given.cases else []
    return f"make bench ARGS='{' '.join(options)}'" if options else "make bench"


if __name__ == "__main__":
    main()
