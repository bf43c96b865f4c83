"""What differs between two records of settings, in words."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_DIGEST = re.compile("[0-9a-f]{64}")
_LONGEST = 80  # characters of a value


def differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Name each entry that changed, with its old and its new value.

    Examples
    --------
    >>> list(differences({"of": {"batch": 8, "seed": 1}}, {"of": {"batch": 4, "seed": 1}}))
    ['of.batch was 8, is 4']
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}):
            yield from differences(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    elif before != now:
        yield f"{where} was {_short(before)}, is {_short(now)}"


def _short(value: Any) -> str:
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:8]}..."
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 20]}..."
