"""A volume window by window into one OME-Zarr map, in process and on two workers."""

from pathlib import Path

import numpy as np
from shared import command

import respondcam as rc

voxels = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32)
rc.write_volume("a.mrc", rc.Volume(voxels, np.diag([10.0, 10, 10, 1]), "angstrom"))
maps = []
for options in ("--out one", "--out two --workers 2"):
    command(f"explain a.mrc --model demo --window 20 --target 0 {options}")
    (store,) = Path(options.split()[1]).glob("*.ome.zarr")
    maps.append(rc.read_volume(store).voxels)
np.testing.assert_array_equal(*maps)
assert np.abs(maps[0]).max() > 0
