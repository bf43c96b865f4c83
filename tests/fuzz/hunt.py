"""Feed a reader hostile files and keep what breaks it: a crash, a hang, or memory without bound.

``python -m tests.fuzz.hunt mrc --inputs 100000`` from the root of the repository. The work is done
in a child process under limits, so that a crash of compiled code is found too; the file that
was being read is kept.
"""

import argparse
import contextlib
import gc
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.readers import READERS
from tests.fuzz.structured import hostile

from respondcam.errors import InputError

SECONDS = 5  # of work; where others work too, it may take longer
PATIENCE = 60  # until what does not work either has hung
BYTES = 2**30


@dataclass(frozen=True)
class Finding:
    """One hostile file and what it did."""

    what: str
    data: bytes
    suffix: str


class _Hang(BaseException):
    pass


def hunt(
    name: str, inputs: int, seed: int = 0, *, folder: Path
) -> tuple[Counter[str], list[Finding]]:
    """Read `inputs` hostile files; how each ended, and the ones that no worded error stopped."""
    reader = READERS[name]
    seeds = sorted(reader.seeds(folder).items())
    random_ = random.Random(seed)
    outcomes: Counter[str] = Counter()
    findings: list[Finding] = []
    expected = "read" if reader.opens else "worded"
    for name_, good in seeds:  # also brings the imports, outside the limits
        path = reader.store(folder, name_, good)
        if (what := outcome(reader.read, path, limited=False)) != expected:
            raise ValueError(f"the good {name_} file of {name!r} is not {expected}: {what}")
    gc.collect()
    gc.freeze()  # half a million objects of the libraries need not be gone through each time
    with reader.during(), limits():
        for _ in range(inputs):
            name_, good = random_.choice(seeds)
            data = hostile(good, random_, reader.header)
            what = outcome(reader.read, reader.store(folder, name_, data))
            if reader.folder:  # only one of its files is hostile
                reader.store(folder, name_, good)
            outcomes[what.split(":")[0]] += 1
            if what not in ("read", "worded"):
                findings.append(Finding(what, data, name_.replace("/", "-")))
    return outcomes, findings


def outcome(read: object, path: Path, *, limited: bool = True) -> str:
    """How reading a file ended: "read", "worded", or what went wrong."""
    assert callable(read)
    _set_clocks(SECONDS * limited, PATIENCE * limited)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read(path)
    except InputError as error:
        if cause := _out_of_memory(error):
            return f"memory: {cause}"
        return "worded" if str(error).strip() else "wordless: an empty message"
    except _Hang:
        return f"hang: more than {SECONDS} s"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"crash: {type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
    finally:
        with contextlib.suppress(_Hang):  # a clock may strike in this very moment
            _set_clocks(0, 0)
        _set_clocks(0, 0)
    return "read"


def _set_clocks(work: float, patience: float) -> None:
    signal.setitimer(signal.ITIMER_PROF, work)
    signal.setitimer(signal.ITIMER_REAL, patience)


def _out_of_memory(error: BaseException | None) -> str:
    """What wanted more memory than the limit, behind an error that has words."""
    while error is not None:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            where = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        error = error.__cause__ or error.__context__
    return ""


def _hung(*_: object) -> None:
    raise _Hang


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Allow no allocation beyond a gibibyte more than there is, and end what takes too long."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, before[1]))
    handlers = {one: signal.signal(one, _hung) for one in (signal.SIGALRM, signal.SIGPROF)}
    try:
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


def _child(name: str, inputs: int, seed: int, keep: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as one:
        sys.stdout.write(f"folder {one}\n")
        sys.stdout.flush()
        outcomes, findings = hunt(name, inputs, seed, folder=Path(one))
    for number, finding in enumerate(findings):
        (keep / f"{name}-{seed}-{number}{finding.suffix}").write_bytes(finding.data)
    kinds = Counter(finding.what for finding in findings)
    sys.stdout.write(f"{name}: {dict(outcomes)}\n")
    for what, count in kinds.most_common():
        sys.stdout.write(f"  {count} x {what}\n")


def main() -> int:
    """Hunt in child processes of some thousand files each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"{', '.join(READERS)}")
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := set(given.readers) - set(READERS):
        parser.error(f"no such reader: {', '.join(sorted(unknown))}")
    given.keep.mkdir(parents=True, exist_ok=True)
    if given.child:
        _child(given.readers[0], given.inputs, given.seed, given.keep)
        return 0
    failed = 0
    for name in given.readers or READERS:
        started = time.perf_counter()
        failed += sum(
            _in_child(name, min(10_000, given.inputs - start), given.seed + start, given.keep)
            for start in range(0, given.inputs, 10_000)
        )
        sys.stdout.write(f"{name}: {given.inputs} files, {time.perf_counter() - started:.0f} s\n")
    return 1 if failed else 0


def _in_child(name: str, inputs: int, seed: int, keep: Path) -> int:
    command = [sys.executable, "-m", "tests.fuzz.hunt", name, "--child"]
    command += ["--inputs", str(inputs), "--seed", str(seed), "--keep", str(keep)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = run.stdout.splitlines()
    sys.stdout.write("\n".join(lines[1:]) + "\n")
    if run.returncode == 0:
        return sum(line.startswith("  ") for line in lines)
    sys.stdout.write(f"{name}, seed {seed}: the process ended with {run.returncode}\n")
    sys.stdout.write(run.stderr[-2000:])
    return 1


if __name__ == "__main__":
    sys.exit(main())
