"""Peak resident size of a call, as the Linux kernel counts it: what the machine has to have free.

Counters of torch's own allocations miss the scratch space of its kernels; the resident size misses
nothing.
"""

import contextlib
import ctypes
import gc
from pathlib import Path

_SELF = Path("/proc/self")


def settle() -> None:
    """Give freed memory back to the system, so that the next call cannot reuse it unseen."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not the GNU C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def resident() -> int:
    """Bytes that are resident now."""
    return _kibibytes("smaps_rollup", "Rss") * 1024


def reset_peak() -> None:
    """Start a new peak at the present size."""
    (_SELF / "clear_refs").write_text("5")


def peak() -> int:
    """Bytes that were resident at most since `reset_peak`."""
    return _kibibytes("status", "VmHWM") * 1024


def _kibibytes(file: str, field: str) -> int:
    for line in (_SELF / file).read_text("utf-8").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise OSError(f"/proc/self/{file} has no field {field}")
