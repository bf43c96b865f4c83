"""A volume's surface with the map's contours, drawn off screen."""

import numpy as np

import respondcam as rc
from respondcam.show.isosurface import surface_figure

index = np.indices((24, 24, 24)) - 11.5
ball = rc.Volume(np.exp(-(index**2).sum(axis=0) / 30), np.diag([10.0, 10, 10, 1]), "angstrom")
surface_figure(ball, ball).savefig("surface.png")
