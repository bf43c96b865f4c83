"""The viewer's package is there, and a map goes into its kind of layer."""

import numpy as np
from napari.layers import Image

assert Image(np.zeros((4, 4, 4))).ndim == 3
