"""What the measurement ran on, and whether others used the machine meanwhile."""

import os
import platform
import re
import resource
import subprocess
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any


def describe() -> dict[str, Any]:
    """Processor, memory, system and interpreter."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": platform.python_version(),
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def versions(packages: list[str]) -> dict[str, str]:
    """Installed versions."""
    return {name: version(name) for name in packages}


def commit() -> str:
    """The commit of this library that is measured, where it is known."""
    found = _git("rev-parse", "--short", "HEAD")
    changed = found and _git("status", "--porcelain", "--", "../src")
    return f"{found}, with local changes" if changed else found


def _git(*arguments: str) -> str:
    try:
        run = subprocess.run(("git", *arguments), capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def slug(cpu: str, cores: int) -> str:
    """A name for files.

    >>> slug("AMD EPYC 7763 64-Core Processor", 2)
    'amd-epyc-7763-64-core-processor-2-cores'
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{cpu} {cores} cores".lower()).strip("-")


@dataclass
class Neighbours:
    """Cores that other processes kept busy since this object was made.

    The load average counts our own threads too and lags by a minute; this counts neither.
    """

    start: float = field(default_factory=time.monotonic)
    all_busy: float = field(default_factory=lambda: _all_busy())
    own: float = field(default_factory=lambda: _own_busy())

    def cores(self) -> float:
        """Mean number of busy cores."""
        elapsed = time.monotonic() - self.start
        others = (_all_busy() - self.all_busy) - (_own_busy() - self.own)
        return max(0.0, others / elapsed)


def _all_busy() -> float:
    """Seconds of processor time that all processes took, and that the host took away."""
    fields = Path("/proc/stat").read_text("utf-8").splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    ticks = user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


def _own_busy() -> float:
    """The same of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def wait_until_quiet(deadline: float, *, busy_cores: float) -> None:
    """Wait until others keep fewer than `busy_cores` busy, or until `deadline` (time.monotonic)."""
    while time.monotonic() < deadline:
        neighbours = Neighbours()
        time.sleep(20)
        if neighbours.cores() < busy_cores:
            return
        print(f"  waiting: others keep {neighbours.cores():.1f} cores busy", flush=True)
