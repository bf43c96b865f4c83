"""A network of MONAI by its address, and a bundle with its own preprocessing."""

from pathlib import Path

import numpy as np
from shared import command, part_of_tests

import respondcam as rc

making = part_of_tests("bundles/conftest.py")
rc.write_volume("a.nii.gz", rc.Volume(np.random.default_rng(0).random((16, 18, 20)), unit="mm"))
making.make_bundle(Path("bundle").absolute())
command("explain a.nii.gz --model monai:bundle --trust --target component:largest@1 --out maps")
assert any(Path("maps").glob("*.nii.gz"))
