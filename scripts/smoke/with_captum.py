"""Methods on the input."""

import torch

import respondcam as rc
from respondcam.cryoet import demo_network

model, _ = demo_network()
image = torch.rand(1, 1, 16, 16, 16)
for method in ("integrated-gradients", "guided-backprop", "occlusion"):
    explanation = rc.METHODS[method](model)(image, target=0)
    assert explanation.maps.abs().max() > 0
