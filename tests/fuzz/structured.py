"""Hostile files that are still well-formed: other values in JSON, other members in archives.

A bit flipped in JSON or in a checksummed archive seldom gets past the parser. What is changed here
arrives at the code that uses the values.
"""

import copy
import io
import json
import random
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

from tests.fuzz.mutate import mutated

_VALUES: Sequence[Any] = (
    None, True, False, 0, 1, -1, 0.5, -0.0, 3, 1e308, float("nan"), float("-inf"), 10**9, 2**31,
    2**63, -(2**63), 10**30, "", "x", "x" * 999, "../../x", "\x00", "\ud800", "1e999", "os.system",
    "$__import__('os').system('true')", [], {}, [[]], [None], [0], [1, 2, 3, 4, 5], [1e308] * 3,
    {"": ""}, {"x": None}, {"_target_": "os.system"}, {"class_name": "Lambda", "config": {}},
)  # fmt: skip


def hostile(good: bytes, random_: random.Random, header: int) -> bytes:
    """Change bytes, or what they mean where that can be told."""
    if good.startswith(b"PK\x03\x04") and random_.random() < 0.7:
        return _rezipped(good, random_)
    if good.lstrip()[:1] in (b"{", b"[") and random_.random() < 0.8:
        return _rewritten(good, random_)
    return mutated(good, random_, header)


def _rewritten(good: bytes, random_: random.Random) -> bytes:
    try:
        document = [json.loads(good)]  # in a list: then it can be replaced itself
    except ValueError:
        return mutated(good, random_)
    if random_.random() < 0.005:
        return b"[" * 100_000
    for _ in range(random_.randint(1, 3)):
        places = list(_places(document))
        if not places:
            break
        holder, key = random_.choice(places)
        random_.choice(_EDITS)(holder, key, random_)
        if not document:
            break
    return json.dumps(document[0] if document else None).encode("utf-8", "surrogatepass")


def _places(value: Any) -> Any:
    """Every (container, key) in a document."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _replace(holder: Any, key: Any, random_: random.Random) -> None:
    holder[key] = copy.deepcopy(random_.choice(_VALUES))  # or they would be changed themselves


def _near(holder: Any, key: Any, random_: random.Random) -> None:
    """Another value of the same kind."""
    old = holder[key]
    if isinstance(old, bool) or old is None:
        holder[key] = not old
    elif isinstance(old, int | float):
        holder[key] = random_.choice((old + 1, old - 1, -old, old * 1000, old * 2**20, old / 3))
    elif isinstance(old, str):
        holder[key] = mutated(old.encode("utf-8", "replace"), random_).decode("utf-8", "replace")
    elif isinstance(old, list):
        holder[key] = random_.choice((old[:-1], old + old, old[::-1], [old], old[:1]))
    else:
        holder[key] = [old]


def _delete(holder: Any, key: Any, random_: random.Random) -> None:
    del holder[key]


def _exchange(holder: Any, key: Any, random_: random.Random) -> None:
    other = random_.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    first, second = copy.deepcopy(holder[key]), copy.deepcopy(holder[other])
    holder[key], holder[other] = second, first


def _rename(holder: Any, key: Any, random_: random.Random) -> None:
    if isinstance(holder, dict):
        holder[f"{key}{random_.choice('x0_ ')}"] = holder.pop(key)


_EDITS: Sequence[Callable[[Any, Any, random.Random], None]] = (
    _replace, _replace, _replace, _near, _near, _near, _delete, _exchange, _rename,
)  # fmt: skip


def _rezipped(good: bytes, random_: random.Random) -> bytes:
    """The archive with one member changed, removed, renamed or written twice; checksums fit."""
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
    chosen = random_.randrange(len(members))
    info, data = members[chosen]
    turn = random_.random()
    if turn < 0.88:
        members[chosen] = (info, hostile(data, random_, max(1, len(data))))
    elif turn < 0.92:
        del members[chosen]
    elif turn < 0.96:
        members[chosen] = (
            zipfile.ZipInfo(random_.choice(("../x", "x", f"{info.filename}x"))),
            data,
        )
    else:
        members.append((zipfile.ZipInfo(f"twice/{info.filename}"), data[: len(data) // 2]))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for one, content in members:
            kept = zipfile.ZipInfo(one.filename)
            kept.compress_type = one.compress_type
            archive.writestr(kept, content)
    return out.getvalue()
