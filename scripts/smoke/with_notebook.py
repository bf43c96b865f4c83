"""The interactive viewer of a notebook."""

import numpy as np

import respondcam as rc
from respondcam.cryoet import demo_network

index = np.indices((24, 24, 24)) - 11.5
ball = rc.Volume(np.exp(-(index**2).sum(axis=0) / 30), np.diag([10.0, 10, 10, 1]), "angstrom")
viewer = rc.RespondCAM(demo_network()[0])(ball).view()
assert len(viewer.volumes) == 2
