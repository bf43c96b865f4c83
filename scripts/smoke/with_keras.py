"""A Keras file, read without TensorFlow, gives maps that add up."""

import os

os.environ["KERAS_BACKEND"] = "torch"
import keras
import torch

import respondcam as rc
from respondcam.network.sources import load_model

L = keras.layers
layers = [L.Conv3D(4, 3, activation="relu", name="conv"), L.GlobalAveragePooling3D(), L.Dense(2)]
keras.Sequential([keras.Input((8, 8, 8, 1)), *layers]).save("net.keras")
model = load_model("keras:net.keras").module
explanation = rc.RespondCAM(model, layer="conv")(torch.rand(1, 1, 8, 8, 8), target=1)
assert explanation.account.gap.abs().max() < 1e-5
