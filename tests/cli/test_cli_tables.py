"""Tables on a terminal of 80 columns, without colour."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from respondcam.cli import _tables


@pytest.mark.parametrize("same", [True, False])
def test_accounts_fit_into_80_columns(monkeypatch, same):
    written = io.StringIO()
    screen = Console(file=written, width=80, no_color=True, highlight=False)
    monkeypatch.setattr(_tables, "console", lambda **_: screen)
    account = {"score": -2.739, "baseline": -0.009913, "mapped": 0.8912, "gap": 2.056e-07}
    account["relative_gap"] = 1e-9
    names = ["beta-galactosidase", "fatty-acid-synthase", "groel"]
    done = []
    for number, name in enumerate(names):
        layer = "encoder.layer4" if same else f"encoder.layer{number}"
        record = {"layer": layer, "target": {"name": name}, "account": account}
        done.append((SimpleNamespace(path=SimpleNamespace(name="phantoms-0.mrc")), record))
    one = [(done[0][0], [SimpleNamespace(record=record) for _, record in done])]
    _tables.explain_table(one, [], outputs=False)
    lines = written.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in written.getvalue()
    text = written.getvalue()
    assert lines[0].startswith("file: phantoms-0.mrc")
    assert ("layer: encoder.layer4" in lines[0]) == same
    if same:
        assert all(name in text for name in names)  # none is folded
        assert len(lines) == len(names) + 3
