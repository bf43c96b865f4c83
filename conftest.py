"""Shapes and types of every public function are checked while the tests run, and only then."""

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

_hook = install_import_hook("respondcam", "beartype.beartype")

# Another seed shows which tests lean on a lucky draw: none may.
SEED = int(os.environ.get("RESPONDCAM_TEST_SEED", "0"))
torch.manual_seed(SEED)  # what test files draw while they are read


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test and docstring example draws the same random numbers, whatever ran before it."""
    torch.manual_seed(SEED)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real densities, structures and volumes; tests that need them say when they are absent."""
    folder = Path(os.environ.get("RESPONDCAM_DATA", Path(__file__).parents[1] / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("RESPONDCAM_REQUIRE_DATA"):
            pytest.fail(f"no real data at {folder}, and RESPONDCAM_REQUIRE_DATA is set")
        pytest.skip(f"no real data at {folder}; set RESPONDCAM_DATA to the folder that holds it")
    return folder
