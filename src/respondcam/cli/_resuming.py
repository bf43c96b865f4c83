"""What ``explain`` finished before it was stopped: found by its records, and not made again."""

import bisect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from respondcam import __version__
from respondcam._files import read_json
from respondcam.cli._explaining import Settings, sha256_of
from respondcam.cli._inputs import Source, channel_files
from respondcam.cli._printing import to_json
from respondcam.cli._writing import Limit, OneMap, settings_record


def record_names(folder: Path) -> list[str]:
    """The JSON files of a folder, in order."""
    return sorted(path.name for path in folder.glob("*.json"))


def names_of(names: Sequence[str], source: Source) -> Sequence[str]:
    """Those of a folder's `record_names` that begin like the maps of a source.

    Examples
    --------
    >>> names_of(["a.x.json", "ab.x.json", "b.x.json"], Source(Path("a.mrc"), "a", ".mrc"))
    ['a.x.json']
    """
    first = bisect.bisect_left(names, f"{source.name}.")
    last = bisect.bisect_left(names, f"{source.name}/", first)  # "/" comes after "."
    return names[first:last]


class Finished:
    """The maps that the very same command left in a folder.

    Parameters
    ----------
    folder
        Of the results.
    each
        The settings of each method.
    model
        What identifies the network.
    limit
        Of the colours.
    channel_files
        How many files a volume of the network can have; of such volumes only the first is recorded.
    """

    def __init__(
        self,
        folder: Path,
        each: Sequence[Settings],
        model: Mapping[str, Any],
        limit: Limit,
        *,
        channel_files: int = 1,
    ) -> None:
        self.folder = folder
        self.names = record_names(folder)
        # as they are read back
        self.model = json.loads(to_json(model))
        self.each = [json.loads(to_json(settings_record(one))) for one in each]
        self.limit, self.channel_files = limit, channel_files
        self.count = 0

    def maps_of(self, source: Source) -> list[OneMap] | None:
        """All maps of a source, or None where one is missing or was made from something else."""
        masks = any(one["target"].strip().startswith("mask:") for one in self.each)
        if masks or len(channel_files(source.path, self.channel_files)) > 1:
            return None  # of these files nothing is recorded but their names
        names = names_of(self.names, source)
        records = {name: record for name in names if (record := self._read(name))}
        if not records or not source.path.exists():
            return None
        wanted = sha256_of(source.path)
        records = {n: one for n, one in records.items() if one["input"]["sha256"] == wanted}
        for record in records.values():
            together = record["together"]
            methods = [one["settings"] for n in together if (one := records.get(n))]
            if all(n in records for n in together) and all(one in methods for one in self.each):
                self.count += 1
                return [OneMap(records[n], self._files(records[n])) for n in together]
        return None

    def note(self) -> list[str]:
        """Say what was kept."""
        if not self.count:
            return []
        what = "1 volume was" if self.count == 1 else f"{self.count} volumes were"
        return [f"{what} explained before by the same command, and not again"]

    def _read(self, name: str) -> dict[str, Any] | None:
        """A record of this very command whose files are there."""
        try:
            record = read_json(self.folder / name)
            asked = record["settings"] in self.each and record["model"] == self.model
            made = (record["respondcam"], record["limit"]) == (__version__, self.limit)
            there = name in record["together"] and isinstance(record["input"]["sha256"], str)
            said = isinstance(record["notes"], list) and all(
                isinstance(note, str) for note in record["notes"]
            )
            files = all(path.is_file() for path in self._files(record).values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return record if asked and made and there and said and files else None

    def _files(self, record: Mapping[str, Any]) -> dict[str, Path]:
        return {what: self.folder / Path(name).name for what, name in record["files"].items()}
