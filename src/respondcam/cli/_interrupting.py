"""What to say when a command was interrupted: what there is now, and how to go on."""

from pathlib import Path
from types import FrameType

_GOES_ON = "The same command goes on from there."
# command -> what its folder holds then; each file is whole or not there at all
_KEPT = {
    "explain": (
        "The maps of the volumes that were finished are kept in {out}, and nothing of the one in "
        "turn. The same command makes all of them again."
    ),
    "demo": "What was finished is kept in {out}. The same command makes all of it again.",
    "compare": "The volumes that were measured are kept in {out}. " + _GOES_ON,
    "simulate": (
        "The images that were finished are kept in {out}; the list of their particles comes when "
        "all are there. " + _GOES_ON
    ),
    "train": (
        "The epochs that were finished are kept in {out}, not yet as weights to explain with. "
        + _GOES_ON
    ),
    "average": "What was written whole is kept in {out}. The same command makes all of it again.",
    "report": "Pages that were finished are kept.",
    "reproduce": "Networks and results that were finished are kept in {out}. " + _GOES_ON,
}


class Stopped(KeyboardInterrupt):
    """Asked to end by the system, as batch queues do at the end of a job's time (SIGTERM)."""


def on_sigterm(number: int, frame: FrameType | None) -> None:
    """End as after CTRL-C: locks and unfinished files go."""
    raise Stopped


def exit_code_of(stop: BaseException) -> int:
    """128 and the signal's number, as shells give it.

    Examples
    --------
    >>> exit_code_of(KeyboardInterrupt()), exit_code_of(Stopped())
    (130, 143)
    """
    return 143 if isinstance(stop, Stopped) or isinstance(stop.__cause__, Stopped) else 130


class Interrupted(KeyboardInterrupt):
    """An interruption that knows what was kept; its text says so."""


def left_behind(command: str, out: Path | None) -> str:
    """What an interrupted command left behind, and how to go on.

    Parameters
    ----------
    command
        Its name.
    out
        The folder of its results, if it has one.

    Examples
    --------
    >>> left_behind("audit", None)
    'Nothing was written.'
    >>> left_behind("train", Path("no/such/folder"))
    'Nothing was written.'
    """
    kept = _KEPT.get(command, "Nothing was written.")
    if out is not None and not out.exists():
        return "Nothing was written."
    return kept.format(out=repr(str(out)))
