"""Tables on a terminal of 80 columns, without colour."""

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from respondcam.cli import _fitting, _tables
from respondcam.cli._inputs import Source


@pytest.mark.parametrize("same", [True, False])
def test_accounts_fit_into_80_columns(monkeypatch, same):
    written = io.StringIO()
    screen = Console(file=written, width=80, no_color=True, highlight=False)
    monkeypatch.setattr(_fitting, "console", lambda **_: screen)
    account = {"score": -2.739, "baseline": -0.009913, "mapped": 0.8912, "gap": 2.056e-07}
    account["relative_gap"] = 1e-9
    names = ["beta-galactosidase", "fatty-acid-synthase", "groel"]
    done = []
    for number, name in enumerate(names):
        layer = "encoder.layer4" if same else f"encoder.layer{number}"
        record = {"layer": layer, "target": {"name": name}, "account": account}
        record["settings"] = {"method": "respond"}
        done.append((Source(Path("phantoms-0.mrc"), "phantoms-0", ".mrc"), record))
    one = [(done[0][0], [SimpleNamespace(record=record) for _, record in done])]
    _tables.explain_table(one, [], outputs=False)
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in written.getvalue()
    text = written.getvalue()
    assert lines[0].startswith("file: phantoms-0.mrc")
    assert ("layer: encoder.layer4" in lines[0]) == same
    assert all(name in text for name in names)  # none is folded
    assert len(lines) == len(names) + (3 if same else 3 + len(names))


def test_what_still_does_not_fit_is_left_out_and_that_is_said(monkeypatch):
    written = io.StringIO()
    screen = Console(file=written, width=40, no_color=True, highlight=False)
    monkeypatch.setattr(_fitting, "console", lambda **_: screen)
    rows = [["a.mrc", "[b]cat[/b]", "1.234", "0.1", "9"], ["b.mrc", "dog" * 6, "1.234", "0.1", "8"]]
    titles = ("file", "class", "score", "baseline", "open")
    _fitting.print_fitting(titles, rows, left=2, spare=("baseline", "score"))
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    assert lines == [
        "class                score   open",
        "─────────────────────────────────",
        "a.mrc",
        "[b]cat[/b]           1.234      9",
        "b.mrc",
        "dogdogdogdogdogdog   1.234      8",
        "(baseline: in a wider terminal, or with --json)",
    ]


def test_no_column_is_cut_off_without_a_word(monkeypatch):
    written = io.StringIO()
    screen = Console(file=written, width=80, no_color=True, highlight=False)
    monkeypatch.setattr(_fitting, "console", lambda **_: screen)
    names = [f"features.denseblock{n}.denselayer24.layers.conv2" for n in range(2)]
    rows = [[name, f"1x2x{n}", f"{n}", f"same as {name}"] for n, name in enumerate(names)]
    titles = ("layer", "output", "stride", "note")
    _fitting.print_fitting(titles, rows, left=4, spare=("stride",), grouped=False)
    text = written.getvalue()
    assert "(stride, note: in a wider terminal, or with --json)" in text
    assert "same as" not in text
    assert all(name in text for name in names)
