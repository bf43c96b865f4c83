"""Keras models in memory, on Keras's torch backend: branches, shared layers and all.

A Keras layer is a PyTorch module, but a Keras model does not list its layers as submodules, and
takes channels last. `KerasNetwork` does both; files of sequential models are read by
`respondcam.network.keras_files`.
"""

from typing import Any

from torch import Tensor, nn

from respondcam.errors import ModelError


class KerasNetwork(nn.Module):
    """A Keras model as a PyTorch network with the same layers and weights.

    It takes (batch, channel, *spatial), and its layers have the names that they have in Keras.

    Parameters
    ----------
    model
        Sequential, functional or subclassed, made with ``KERAS_BACKEND=torch``. It is used as it
        is, not copied.

    Raises
    ------
    ModelError
        If it is no Keras model, or one of another backend.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if not is_keras(model):
            raise ModelError(f"{type(model).__name__} is no Keras model, but may be used as it is.")
        if not isinstance(model, nn.Module):
            raise ModelError(
                "This Keras model runs on another backend than torch. Save it, set the environment "
                "variable KERAS_BACKEND=torch before keras is imported, and load it again."
            )
        keras: Any = model
        self._model = [keras]  # in a list: as a submodule, it would hide its layers
        self.channels_last = _channels_last(keras)
        for layer in keras._flatten_layers(include_self=False, recursive=True):
            name = layer.name.replace(".", "_")
            if isinstance(layer, nn.Module) and name not in self._modules:
                self.add_module(name, layer)
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        """Scores; an output with spatial axes comes back with channels first, too."""
        if any(x.is_meta for x in inputs):  # Keras would replace them by memory of any content
            raise ModelError("Keras has no forward pass without data.")
        given = [x.movedim(1, -1) if self.channels_last and x.ndim > 2 else x for x in inputs]
        output = self._model[0](given if len(given) > 1 else given[0], training=False)
        if isinstance(output, Tensor) and output.ndim > 2 and self.channels_last:
            return output.movedim(-1, 1)
        return output


def is_keras(model: Any) -> bool:
    """Whether an object is a Keras model; keras is not imported to find out."""
    return any(
        kind.__module__.partition(".")[0] == "keras" and kind.__name__ == "Model"
        for kind in type(model).__mro__
    )


def _channels_last(model: Any) -> bool:
    formats = (getattr(layer, "data_format", None) for layer in model._flatten_layers())
    return next((f for f in formats if f), "channels_last") == "channels_last"
