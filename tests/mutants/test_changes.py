"""The tool itself: which changes it makes, and that they reach the functions that tests call."""

import ast
from pathlib import Path

import torch
from tests.mutants.__main__ import _functions, _noticed, change, written
from tests.mutants.changes import Mutant, mutants

from respondcam.attribution import hires

HIRES = Path(str(hires.__file__)).read_text("utf-8")
SOURCE = '''
LIMIT = 1 + 2  # no function

class Shape:
    sides: int = 3

    def area(self, a: float, b: float = 2.0) -> float:
        """Texts stay: 1 + 2."""
        if not a > 0 and b is None:
            raise ValueError(f"{a + 1} is small")
        return max(-a, b)

def twice(x):
    return [x.sum(dim=1), x.sum(dim=1).abs() if True else 0.5]
'''


def test_every_small_change_once():
    found = [(mutant.line, mutant.what) for mutant in mutants(SOURCE)]
    assert sorted(found, key=lambda one: one[0]) == [
        (9, "not a > 0 and b is None  ->  not a > 0 or b is None"),
        (9, "not a > 0  ->  a > 0"),
        (9, "a > 0  ->  a >= 0"),
        (9, "0  ->  1"),
        (9, "b is None  ->  b is not None"),
        (11, "-a  ->  a"),
        (14, "x.sum(dim=1)  ->  x.mean(dim=1)"),
        (14, "1  ->  2"),
        (14, "x.sum(dim=1).abs() if True else 0.5  ->  0.5 if True else x.sum(dim=1).abs()"),
        (14, "True  ->  False"),
        (14, "x.sum(dim=1).abs()  ->  x.sum(dim=1)"),
        (14, "x.sum(dim=1)  ->  x.mean(dim=1) (2)"),
        (14, "1  ->  2 (2)"),
        (14, "0.5  ->  1.5"),
    ]


def test_functions_and_methods_are_found_behind_what_wraps_them():
    assert written(SOURCE) == {"Shape.area", "twice"}
    names = written(HIRES)
    assert names == {"hires_cam", "HiResCAM.map"}
    assert names <= {path for path, _ in _functions(hires)}


def test_a_change_reaches_the_function_that_others_have_imported():
    imported = hires.hires_cam
    a, g = torch.tensor([[[3.0]]]), torch.tensor([[[2.0]]])
    codes = {path: function.__code__ for path, function in _functions(hires)}
    mutant = next(one for one in mutants(HIRES) if "/" in one.what)
    try:
        change(hires, mutant)
        assert imported(a, g).item() == 1.5
    finally:
        for path, function in _functions(hires):
            function.__code__ = codes[path]
    assert imported(a, g).item() == 6.0


def test_failing_tests_notice_and_what_is_slow_is_noticed(tmp_path):
    (tmp_path / "test_product.py").write_text(
        "import torch\n"
        "from respondcam.attribution.hires import hires_cam\n"
        "def test_it():\n"
        "    one = torch.ones(1, 1, 1)\n"
        "    assert hires_cam(2 * one, 3 * one).item() == 6\n",
        encoding="utf-8",
    )
    tests = (str(tmp_path / "test_product.py"),)
    noticed, seconds = _noticed(hires, Mutant(0, "nothing", ast.parse(HIRES)), tests)
    assert not noticed
    assert seconds > 0
    body = HIRES.index("    return (activation * gradient)")
    endless = f"{HIRES[:body]}    while True:\n        pass\n{HIRES[body:]}"
    for changed in (HIRES.replace("activation * gradient)", "activation / gradient)"), endless):
        assert _noticed(hires, Mutant(0, "one", ast.parse(changed)), tests, 2)[0]
    assert hires.hires_cam(torch.ones(1, 1, 1), torch.ones(1, 1, 1)).item() == 1
