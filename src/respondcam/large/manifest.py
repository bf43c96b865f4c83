"""What a run belongs to, on disk: a later command continues it only if nothing has changed."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from respondcam._files import read_json, whole_file
from respondcam.errors import InputError

NAME = "manifest.json"
_DIGEST = re.compile("[0-9a-f]{64}")


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a run, or None if there is none.

    Raises
    ------
    InputError
        If it is there and cannot be read.
    """
    path = folder / NAME
    try:
        found = read_json(path)
        if not isinstance(found, dict):
            raise ValueError("it holds no JSON object")
        for part in ("input", "settings", "seen"):
            if not isinstance(found.get(part, {}), dict):
                raise ValueError(f"its {part!r} is no JSON object")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(
            f"The manifest {str(path)!r} cannot be read ({error}), so nobody knows what the run "
            f"belongs to. Start anew with --overwrite."
        ) from error


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write it whole or not at all."""
    with whole_file(folder / NAME) as beside:
        beside.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def refuse_changes(before: Mapping[str, Any], now: Mapping[str, Any], store: Path) -> None:
    """Refuse to continue a run under other settings, and show what differs.

    Raises
    ------
    InputError
        If anything differs.

    Examples
    --------
    >>> refuse_changes({"settings": {"batch": 8}}, {"settings": {"batch": 4}}, Path("a.ome.zarr"))
    Traceback (most recent call last):
    respondcam.errors.InputError: 'a.ome.zarr' was begun ...: settings.batch was 8, is 4. Give ...
    """
    now = json.loads(json.dumps(now))
    changes = list(_differences(before, now, ""))
    if changes:
        raise InputError(
            f"{str(store)!r} was begun by another run: {'; '.join(changes)}. Give the same again "
            f"to continue it, another folder with --out, or begin anew with --overwrite."
        )


def _differences(before: Any, now: Any, where: str) -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}".lstrip("."))
    elif before != now:
        yield f"{where} was {_short(before)}, is {_short(now)}"


def _short(value: Any) -> str:
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:8]}..."
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:60]}..."
