"""Particles are simulated, a network is trained on them, and maps are averaged."""

from pathlib import Path

import numpy as np
from shared import command

from respondcam import Volume
from respondcam.evidence.boxes import box_overlaps
from respondcam.show.surfaces import isosurface

particles = "--data groel --data p97 --size 24"
command(f"simulate {particles} --per-class 1 --snr 0.5 --out particles")
command(f"simulate {particles} --per-class 1 --route projection --tilt-step 10 --out tilts")
command(f"train {particles} --per-class 4 --epochs 1 --snr 0.5 --out training")
network = "--model paper:cnn-2 --model-arg size=24 --weights training/model.safetensors"
command(f"average particles/particles.star --class p97 {network} --out average")
assert any(Path("average").glob("*.mrc"))
index = np.indices((12, 12, 12)) - 5.5
ball = np.exp(-(index**2).sum(axis=0) / 9)
vertices, _ = isosurface(Volume(ball), 0.5)
assert len(vertices)
assert len(box_overlaps(ball, ball > 0.5))
