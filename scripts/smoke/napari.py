"""The viewer's package is there, and a map goes into its kind of layer."""

import sys
from pathlib import Path

sys.path.remove(str(Path(__file__).parent))  # this file has napari's name
import numpy as np
from napari.layers import Image

assert Image(np.zeros((4, 4, 4))).ndim == 3
