"""A network that PyTorch exported to ONNX gives maps that add up."""

import warnings

import torch
from torch import nn

import respondcam as rc
from respondcam.network.sources import load_model

pool = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten())
net = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), pool, nn.Linear(4, 2)).eval()
image = torch.rand(1, 1, 8, 8, 8)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about the age of this exporter; the other needs onnxscript
    torch.onnx.export(net, (image,), "net.onnx", dynamo=False, opset_version=17)
explanation = rc.RespondCAM(load_model("onnx:net.onnx").module)(image, target=1)
torch.testing.assert_close(explanation.scores[0, 0], net(image)[0, 1].detach())
assert explanation.account.gap.abs().max() < 1e-5
