"""How far a run is, in lines that read well in a terminal and in a log."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from respondcam._words import percent
from respondcam.large.job import Done, Task


@dataclass
class Progress:
    """Counts what is done and says so now and then.

    Parameters
    ----------
    say
        Takes a line.
    windows, chunks
        How many are to be done now.
    name
        Of the volume, at the start of each line.
    every_seconds
        Between two lines.
    """

    say: Callable[[str], None]
    windows: int
    chunks: int
    name: str = ""
    every_seconds: float = 10.0
    windows_done: int = 0
    chunks_done: int = 0
    gap: float = 0.0
    contributed: float = 0.0
    empty: int = 0
    began: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)

    def add(self, task: Task, done: Done) -> None:
        """Count a task that is done."""
        self.windows_done += done.windows
        self.chunks_done += task.kind == "chunk"
        self.gap += done.gap
        self.contributed += done.contributed
        self.empty += done.empty
        if time.monotonic() - self.said >= self.every_seconds:
            self.said = time.monotonic()
            self.say(self.line())

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.began

    @property
    def windows_per_second(self) -> float:
        """So far."""
        return self.windows_done / max(self.seconds, 1e-9)

    @property
    def relative_gap(self) -> float | None:
        """Mean gap of the windows' accounts in shares of the mean contribution; None: unknown."""
        return self.gap / self.contributed if self.contributed else None

    def line(self) -> str:
        """One line.

        Examples
        --------
        >>> now = time.monotonic()
        >>> Progress(print, 100, 8, "a", windows_done=50, began=now - 10).line()
        'a: 50 of 100 windows, 0 of 8 chunks, 5.0 windows/s, 0:10 left'
        >>> Progress(print, 100, 8, "a", windows_done=100, chunks_done=8).line()
        'a: 100 of 100 windows, 8 of 8 chunks'
        """
        left = (self.windows - self.windows_done) / max(self.windows_per_second, 1e-9)
        parts = [
            f"{self.windows_done} of {self.windows} windows",
            f"{self.chunks_done} of {self.chunks} chunks",
        ]
        left_over = self.windows + self.chunks > self.windows_done + self.chunks_done
        if self.windows_done and left_over:
            parts += [f"{self.windows_per_second:.1f} windows/s", f"{clock(left)} left"]
        if self.relative_gap is not None:
            parts.append(f"gap {percent(self.relative_gap)}")
        return f"{self.name}: {', '.join(parts)}"


def clock(seconds: float) -> str:
    """Write a duration.

    Examples
    --------
    >>> clock(75.0), clock(10862.0)
    ('1:15', '3:01:02')
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
