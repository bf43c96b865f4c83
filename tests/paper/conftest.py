"""A reproduction that takes seconds: three phantoms in small boxes, an epoch or two of training."""

from pathlib import Path

import pytest

from respondcam.cryoet.templates import load_templates
from respondcam.paper.networks import Effort, Laboratory, Plan
from respondcam.volume import Volume

SIZE = 16
TINY = {"CNN-1": Effort(4, (1, 1)), "CNN-2": Effort(8, (2, 1))}


@pytest.fixture(scope="session")
def templates() -> dict[str, Volume]:
    return load_templates(["groel", "p97", "apoferritin"], size=SIZE, voxel_size_angstrom=20.0)


@pytest.fixture
def laboratory(tmp_path: Path, templates: dict[str, Volume]) -> Laboratory:
    plan = Plan(TINY, size=SIZE, voxel_size_angstrom=20.0, batch=4)
    return Laboratory(templates, plan, tmp_path / "run")
