"""A folder that nnU-Net's own trainer wrote, with its own preprocessing."""

from pathlib import Path

import numpy as np
from shared import command, part_of_tests

import respondcam as rc

making = part_of_tests("bundles/conftest.py")
rc.write_volume("a.nii.gz", rc.Volume(np.random.default_rng(0).random((16, 18, 20)), unit="mm"))
making.train_nnunet(Path("trained/model").absolute())
command("explain a.nii.gz --model nnunet:trained/model --trust --target 1 --out maps")
assert any(Path("maps").glob("*.nii.gz"))
