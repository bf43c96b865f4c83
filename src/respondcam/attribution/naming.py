"""Names of classes in the place of their numbers, and whether there are enough of them."""

import re
from collections.abc import Sequence

from respondcam._readers import way
from respondcam.errors import InputError

_CLASS = re.compile(r"\bclass (\d+)\b")


def with_names(text: str, names: Sequence[str]) -> str:
    """A label or a note with the classes called by their names; numbers beyond the end stay.

    Examples
    --------
    >>> with_names("class 0, not class 2", ["cat", "dog", "fox"])
    'cat, not fox'
    """

    def name(found: re.Match[str]) -> str:
        number = int(found[1])
        return names[number] if number < len(names) else found[0]

    return _CLASS.sub(name, text)


def wrong_count(names: Sequence[str], scores: int | None) -> str:
    """Say that there are more or fewer names than classes; empty where they go together.

    Parameters
    ----------
    names
        Of the classes; none at all are always right.
    scores
        How many the network gives, None where that is unknown. A single one may be a class that
        has a name of its own, or stand for two.

    Examples
    --------
    >>> wrong_count(["cat", "dog"], 3)
    'there are 2 names of classes (cat, dog), but the network gives 3 scores'
    >>> wrong_count(["no", "yes"], 1)
    ''
    """
    if not names or scores is None or len(names) in ({1, 2} if scores == 1 else {scores}):
        return ""
    listed = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    one = "is 1 name of a class" if len(names) == 1 else f"are {len(names)} names of classes"
    gives = "1 score" if scores == 1 else f"{scores} scores"
    return f"there {one} ({listed}), but the network gives {gives}"


def check_names(typed: Sequence[str], scores: int | None) -> None:
    """Raise InputError if names were typed, but not one for each score.

    Parameters
    ----------
    typed, scores
        As for `wrong_count`.
    """
    if wrong := wrong_count(typed, scores):
        raise InputError(
            f"{way(python='class_names', command_line='--classes')} does not suit the network: "
            f"{wrong}. Give one name for each score, in their order."
        )
