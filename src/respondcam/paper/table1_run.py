"""Table 1 from nothing: train the networks, explain the test images, write the table.

Every row is kept as it is finished, so a run that was stopped goes on where it was.
"""

import csv
import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields, replace
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from respondcam._files import whole_file
from respondcam.errors import InputError
from respondcam.evidence.audit import AuditSummary, Spread
from respondcam.evidence.intervals import Interval
from respondcam.paper.networks import SNRS, TEST, Laboratory, Setting, quiet
from respondcam.paper.table1 import Row, Sums, columns, measure
from respondcam.paper.table1_page import figure, markdown
from respondcam.show import save_figure


def reproduce_table1(
    laboratory: Laboratory, networks: Sequence[str], *, per_class: int = 20
) -> list[Row]:
    """Make Table 1, or what is missing of it.

    Writes ``table1.csv``, ``table1.md`` and ``table1.png``, the scores and the sums of all maps
    under ``table1/`` and the trained networks under ``networks/``. On a CPU with several cores two
    rows are made side by side, with one thread each.

    Parameters
    ----------
    laboratory
        Classes, plan and folder.
    networks
        Names among `respondcam.paper.networks.NETWORKS`.
    per_class
        Test images of each class.

    Raises
    ------
    InputError
        If a number is impossible, or the folder holds something else.
    """
    if per_class < 1:
        raise InputError(f"per_class={per_class}: give at least one image of each class.")
    laboratory.claim()
    (laboratory.folder / "table1").mkdir(exist_ok=True)
    settings = [Setting(network, snr) for network in networks for snr in SNRS]
    missing = [one for one in settings if not _there(laboratory, one, per_class)]
    workers = min(len(missing), os.cpu_count() or 1, 2)
    if torch.device(laboratory.device).type == "cpu" and workers > 1:
        _side_by_side(missing, laboratory, per_class, workers)
    else:
        for one in missing:
            _make(one, laboratory, per_class)
    rows = [_read_row(_row_file(laboratory, one, per_class)) for one in settings]
    _write_results(laboratory, rows, [_read_sums(laboratory, one, per_class) for one in settings])
    return rows


def _side_by_side(
    settings: Sequence[Setting], laboratory: Laboratory, per_class: int, workers: int
) -> None:
    context = get_context("spawn")  # a forked process may hang in libraries that have threads
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        # what prints stays in this process; the others print by themselves
        tell = quiet if laboratory.tell is quiet else _print_error
        theirs = replace(laboratory, tell=tell)
        started = [pool.submit(_in_process, one, theirs, per_class) for one in settings]
        for one in started:
            one.result()


def _in_process(setting: Setting, laboratory: Laboratory, per_class: int) -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()
    _make(setting, laboratory, per_class)


def _end_with_parent() -> None:
    """Leave no orphan at work where the command was killed; files appear whole or not at all."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _print_error(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def _make(setting: Setting, laboratory: Laboratory, per_class: int) -> None:
    """Train a network, explain its test images, and keep the row."""
    model = laboratory.network(setting)
    laboratory.tell(f"{setting.name}: explaining {per_class} images of each class")
    row, sums = measure(
        model,
        laboratory.images(setting, per_class, TEST),
        network=setting.network,
        snr=setting.snr,
        seed=laboratory.plan.seed,
        device=laboratory.device,
        on_progress=lambda done, total: laboratory.tell(
            f"{setting.name}: {done} of {total} images explained"
        ),
    )
    with whole_file(_sums_file(laboratory, setting, per_class)) as beside:
        save_file({one.name: getattr(sums, one.name).contiguous() for one in fields(sums)}, beside)
    with whole_file(_row_file(laboratory, setting, per_class)) as beside:
        beside.write_text(json.dumps(asdict(row)), "utf-8")
    laboratory.tell(f"{setting.name}: done, {100 * row.accuracy:.1f} % of the test images right")


def _row_file(laboratory: Laboratory, setting: Setting, per_class: int) -> Path:
    return laboratory.folder / "table1" / f"{setting.name}-{per_class}.json"


def _sums_file(laboratory: Laboratory, setting: Setting, per_class: int) -> Path:
    return _row_file(laboratory, setting, per_class).with_suffix(".safetensors")


def _there(laboratory: Laboratory, setting: Setting, per_class: int) -> bool:
    return _row_file(laboratory, setting, per_class).is_file()


def _read_sums(laboratory: Laboratory, setting: Setting, per_class: int) -> Sums:
    return Sums(**load_file(_sums_file(laboratory, setting, per_class)))


def _read_row(path: Path) -> Row:
    """A row from its file; JSON's Infinity and NaN are Python's."""
    found = json.loads(path.read_text("utf-8"))

    def summary(record: Mapping[str, Any]) -> AuditSummary:
        intervals = record.get("intervals", {})  # rows of earlier versions have none
        return AuditSummary(
            record["images"],
            Spread(**record["l1"]),
            Spread(**record["tau"]),
            Spread(**record["relative_gap"]),
            {name: Interval(**values) for name, values in intervals.items()},
            record.get("much_open", 0),
        )

    for name in ("grad", "respond", "zero", "rescaled", "integrated"):
        found[name] = summary(found[name])
    found["bias"] = tuple((factor, summary(record)) for factor, record in found["bias"])
    return Row(**found)


def _write_results(laboratory: Laboratory, rows: Sequence[Row], sums: Sequence[Sums]) -> None:
    records = columns(rows)
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    for name, content in (("table1.csv", text.getvalue()), ("table1.md", markdown(rows))):
        with whole_file(laboratory.folder / name) as beside:
            beside.write_text(content, "utf-8")
    save_figure(figure(rows, sums), laboratory.folder / "table1.png")
