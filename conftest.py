"""Shapes and types are checked, as `tests/watching.py` says, while the tests run, and only then."""

import builtins
import importlib.util
import os
import random
import sys
from pathlib import Path
from types import ModuleType

# Before torch looks for them: what is compared digit by digit here must not depend on the machine.
if not os.environ.get("RESPONDCAM_TEST_GPU"):
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch
from tests.watching import watch_package

watch_package("respondcam")

# Another seed shows which tests lean on a lucky draw: none may.
SEED = int(os.environ.get("RESPONDCAM_TEST_SEED", "0"))
torch.manual_seed(SEED)  # what test files draw while they are read


_import = builtins.__import__


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test and docstring example draws the same random numbers, whatever ran before it."""
    torch.manual_seed(SEED)


@pytest.fixture
def plain_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own import: torch.compile trips over PySide6's, where that was loaded before."""
    monkeypatch.setattr(builtins, "__import__", _import)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With RESPONDCAM_TEST_ORDER, a number: files, and the tests in each, in an order drawn by it.

    A test that needs another one to run before it fails then.
    """
    seed = os.environ.get("RESPONDCAM_TEST_ORDER")
    if seed is None:
        return
    drawn = random.Random(int(seed))
    by_file: dict[Path, list[pytest.Item]] = {}
    for item in items:
        by_file.setdefault(item.path, []).append(item)
    files = list(by_file.values())
    drawn.shuffle(files)
    for tests in files:
        drawn.shuffle(tests)
    items[:] = [item for tests in files for item in tests]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real densities, structures and volumes; tests that need them say when they are absent."""
    folder = Path(os.environ.get("RESPONDCAM_DATA", Path(__file__).parents[1] / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("RESPONDCAM_REQUIRE_DATA"):
            pytest.fail(f"no real data at {folder}, and RESPONDCAM_REQUIRE_DATA is set")
        pytest.skip(f"no real data at {folder}; set RESPONDCAM_DATA to the folder that holds it")
    return folder


@pytest.fixture
def torchvision_or_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let onnx2torch be imported where torchvision is not: it needs it for two detection operators.

    Torchvision's usual wheels cannot be loaded beside a CPU build of torch, so the tests run
    without; one that is installed is used.
    """
    if importlib.util.find_spec("torchvision"):
        return
    for name in ("torchvision", "torchvision.ops"):
        module = ModuleType(name, "stands in for torchvision in the tests")
        module.roi_align = None  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, name, module)
