"""Keras files as PyTorch networks: the same layers, names and weights, channels first.

Keras 3 reads the file (with whatever backend it runs on), its layers are built again from PyTorch's
own modules, and both networks are run on the same input: a translation that is not exact is an
error, not a map. So everything that explains a PyTorch network explains a Keras one, and a file
with the publication's layer names gives the same maps as `respondcam.network.paper`.

A layer with an activation is one module, as in Keras: ``conv1`` is the convolution and its ReLU.
A softmax at the end is left out, since class activation maps explain the scores before it.
"""

import math
import os
import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from respondcam._extras import require
from respondcam._files import why_no_file
from respondcam._kinds import is_mapping
from respondcam._words import clipped
from respondcam.errors import ModelError, RespondCAMWarning
from respondcam.network.keras_config import check_config

SUFFIXES = (".keras", ".h5", ".hdf5")
_LARGEST_INPUT = 1 << 26  # numbers: 512 MiB for the two samples that are compared
_ANY_SIZE = 16  # voxels along an axis that the file leaves open
_TOLERANCE = 1e-4  # of the largest score


def load_keras(path: str | os.PathLike[str]) -> nn.Module:
    """Read a Keras model from a ``.keras`` or ``.h5`` file.

    Parameters
    ----------
    path
        A model of layers one behind the other: convolutions, poolings, dense layers, batch
        normalisation, activations, dropout, padding, flattening.

    Returns
    -------
    torch.nn.Module
        In evaluation mode; takes (batch, channel, *spatial), whatever the file's own order is.

    Raises
    ------
    ModelError
        If the file cannot be read, has other layers or branches, or the translation gives other
        scores.
    MissingExtraError
        If keras is not installed.
    """
    file = Path(path)
    _check_file(file)
    # Keras chooses its backend when it is first imported; tensorflow, its default, is not needed
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = require("keras", extra="keras", purpose="read Keras files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_config(keras, file, _LAYERS)
            original = keras.models.load_model(file, compile=False)
        network, softmax = _translated(original, file)
        _compare(original, network.eval(), softmax, file)
    except ModelError:
        raise
    except Exception as error:  # a different one for every kind of damage
        raise ModelError(f"The Keras file {str(file)!r} cannot be read: {_short(error)}") from error
    if softmax:
        warnings.warn(
            f"the softmax at the end of {file.name} is left out: the scores before it are "
            f"explained",
            RespondCAMWarning,
            stacklevel=2,
        )
    return network


class KerasPadding(nn.Module):
    """Padding "same" of Keras: what is left over goes behind, and depends on the input's size."""

    def __init__(
        self, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.dilation = tuple(kernel), tuple(stride), tuple(dilation)
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """Pad the spatial axes."""
        pads: list[int] = []
        each = zip(x.shape[2:], self.kernel, self.stride, self.dilation, strict=True)
        for size, kernel, stride, dilation in each:
            reach = (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1
            total = max(reach - size, 0)
            pads = [total // 2, total - total // 2, *pads]  # F.pad begins with the last axis
        return F.pad(x, pads, value=self.value)


class KerasFlatten(nn.Module):
    """Flatten with the channels last, as the weights of the next layer expect."""

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, channel, *spatial) to (batch, feature)."""
        return x.movedim(1, -1).flatten(1)


class _GlobalPooling(nn.Module):
    def __init__(self, reduce: Callable[..., Tensor]) -> None:
        super().__init__()
        self.reduce = reduce

    def forward(self, x: Tensor) -> Tensor:
        return self.reduce(x.flatten(2), dim=2)


def _translated(original: Any, file: Path) -> tuple[nn.Module, bool]:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    layers = [layer for layer in original.layers if type(layer).__name__ != "InputLayer"]
    if not layers:
        raise ModelError(f"The Keras file {str(file)!r} holds no layers.")
    softmax = False
    for number, layer in enumerate(layers):
        kind, config = type(layer).__name__, layer.get_config()
        translate = _LAYERS.get(kind)
        if translate is None:
            raise ModelError(
                f"The Keras file {str(file)!r} has a layer {clipped(layer.name)!r} of kind {kind}. "
                f"Accepted: {', '.join(sorted(_LAYERS))}."
            )
        weights = [torch.tensor(np.asarray(one)) for one in layer.get_weights()]
        parts = translate(config, weights)
        activation = config.get("activation", "linear") if kind != "Activation" else "linear"
        parts += _activation(activation, layer.name, file)
        if number == len(layers) - 1 and parts and isinstance(parts[-1][1], nn.Softmax):
            softmax = True
            parts = parts[:-1]
        if parts:
            name = layer.name.replace(".", "_")
            modules[name] = parts[0][1] if len(parts) == 1 else nn.Sequential(OrderedDict(parts))
    return nn.Sequential(modules), softmax


_Parts = list[tuple[str, nn.Module]]
_Makers = Sequence[Callable[..., nn.Module]]  # for one, two and three spatial axes
_CONVOLUTIONS: _Makers = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _activation(name: Any, layer: str, file: Path) -> _Parts:
    if is_mapping(name):  # an object with settings of its own
        name = name.get("class_name", "?")
    if name in (None, "linear"):
        return []
    if name not in _ACTIVATIONS:
        raise ModelError(
            f"The Keras file {str(file)!r} has an activation {name!r} in layer {layer!r}. "
            f"Accepted: linear, {', '.join(_ACTIVATIONS)}."
        )
    return [("softmax" if name == "softmax" else "activation", _ACTIVATIONS[name]())]


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
    "softsign": nn.Softsign,
    "tanh": nn.Tanh,
    "softmax": lambda: nn.Softmax(dim=1),
}


def _convolution(config: dict[str, Any], weights: list[Tensor]) -> _Parts:
    kernel = weights[0].movedim((-1, -2), (0, 1)).contiguous()  # Keras: *kernel, in, out
    axes = kernel.ndim - 2
    stride, dilation = _tuple(config["strides"], axes), _tuple(config["dilation_rate"], axes)
    make = _CONVOLUTIONS[axes - 1]
    groups = config.get("groups", 1)
    size = tuple(kernel.shape[2:])
    parts, padding = _padding(config, size, stride, dilation, value=0.0)
    conv = make(
        kernel.shape[1] * groups,
        kernel.shape[0],
        size,
        stride,
        padding,
        dilation,
        groups,
        bias=len(weights) > 1,
    )
    _fill(conv, kernel, *weights[1:])
    return [*parts, ("conv", conv)]


def _pooling(kind: str) -> Callable[[dict[str, Any], list[Tensor]], _Parts]:
    def translate(config: dict[str, Any], weights: list[Tensor]) -> _Parts:
        del weights
        size = _tuple(config["pool_size"])
        stride = _tuple(config["strides"] or size, len(size))
        largest = kind == "max"
        parts, padding = _padding(
            config, size, stride, (1,) * len(size), value=-math.inf if largest else math.nan
        )
        if any(padding) or parts:
            if not largest:
                raise ModelError("Average pooling with padding 'same' is not supported.")
            # PyTorch pads a maximum with minus infinity, too, but evenly only
            padding = (0,) * len(size) if parts else padding
        makes = _MAX_POOLS if largest else _AVERAGE_POOLS
        return [*parts, ("pool", makes[len(size) - 1](size, stride, padding))]

    return translate


_MAX_POOLS: _Makers = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE_POOLS: _Makers = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)


def _padding(
    config: dict[str, Any],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    *,
    value: float,
) -> tuple[_Parts, tuple[int, ...]]:
    """A module for what PyTorch's own padding cannot do, or the numbers for that."""
    none = (0,) * len(kernel)
    if config["padding"] == "valid":
        return [], none
    if config["padding"] != "same":
        raise ModelError(f"Padding {config['padding']!r} is not supported: valid and same are.")
    even = all(
        s == 1 and (k - 1) * d % 2 == 0 for k, s, d in zip(kernel, stride, dilation, strict=True)
    )
    if even:
        return [], tuple((k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True))
    return [("padding", KerasPadding(kernel, stride, dilation, value))], none


def _dense(config: dict[str, Any], weights: list[Tensor]) -> _Parts:
    del config
    linear = nn.Linear(*weights[0].shape, bias=len(weights) > 1)
    _fill(linear, weights[0].T.contiguous(), *weights[1:])
    return [("linear", linear)]


def _normalization(config: dict[str, Any], weights: list[Tensor]) -> _Parts:
    scale, center = config["scale"], config["center"]
    left = list(weights)
    gamma = left.pop(0) if scale else torch.ones_like(weights[-1])
    beta = left.pop(0) if center else torch.zeros_like(weights[-1])
    mean, variance = left
    norm = _AnyBatchNorm(len(mean), eps=config["epsilon"])
    _fill(norm, gamma, beta)
    norm.running_mean, norm.running_var = mean.clone(), variance.clone()
    return [("norm", norm)]


class _AnyBatchNorm(nn.BatchNorm1d):
    """Batch normalisation for any number of spatial axes."""

    def _check_input_dim(self, input: Tensor) -> None:
        del input


def _zero_padding(config: dict[str, Any], weights: list[Tensor]) -> _Parts:
    del weights
    padding = config["padding"]
    pairs = [padding] if isinstance(padding[0], int) else list(padding)
    flat = [int(one) for pair in reversed(pairs) for one in pair]
    return [("padding", _Pad(flat))]


class _Pad(nn.Module):
    def __init__(self, pads: Sequence[int]) -> None:
        super().__init__()
        self.pads = list(pads)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.pads)


def _flatten(config: dict[str, Any], weights: list[Tensor]) -> _Parts:
    del weights
    first = config.get("data_format") == "channels_first"
    return [("flatten", nn.Flatten() if first else KerasFlatten())]


def _fill(module: nn.Module, *values: Tensor) -> None:
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), values, strict=True):
            parameter.copy_(value)


def _tuple(value: Any, axes: int | None = None) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * (axes or 1)
    return tuple(int(one) for one in value)


def _relu(config: dict[str, Any], weights: list[Tensor]) -> _Parts:
    """Cut off at 0 and perhaps above; both options are rarely seen on random inputs."""
    slope, most = config.get("negative_slope") or 0.0, config.get("max_value")
    if config.get("threshold") or (slope and most is not None):
        raise ModelError(
            "A ReLU layer with a threshold, or a slope and a maximum, is not supported."
        )
    if most is not None:
        return [("activation", nn.Hardtanh(0.0, float(most)))]
    return [("activation", nn.LeakyReLU(slope) if slope else nn.ReLU())]


_Translate = Callable[[dict[str, Any], list[Tensor]], _Parts]
_NOTHING: _Translate = lambda config, weights: []  # noqa: E731
_LAYERS: dict[str, _Translate] = {
    **{f"Conv{n}D": _convolution for n in (1, 2, 3)},
    **{f"MaxPooling{n}D": _pooling("max") for n in (1, 2, 3)},
    **{f"AveragePooling{n}D": _pooling("average") for n in (1, 2, 3)},
    **{
        f"GlobalAveragePooling{n}D": lambda config, weights: [("pool", _GlobalPooling(torch.mean))]
        for n in (1, 2, 3)
    },
    **{
        f"GlobalMaxPooling{n}D": lambda config, weights: [("pool", _GlobalPooling(torch.amax))]
        for n in (1, 2, 3)
    },
    **{f"ZeroPadding{n}D": _zero_padding for n in (1, 2, 3)},
    **{f"SpatialDropout{n}D": _NOTHING for n in (1, 2, 3)},
    "Activation": lambda config, weights: _activation(config["activation"], "?", Path("file")),
    "BatchNormalization": _normalization,
    "Dense": _dense,
    "Dropout": _NOTHING,
    "ELU": lambda config, weights: [("activation", nn.ELU(config["alpha"]))],
    "Flatten": _flatten,
    "GaussianDropout": _NOTHING,
    "GaussianNoise": _NOTHING,
    "LeakyReLU": lambda config, weights: [("activation", nn.LeakyReLU(config["negative_slope"]))],
    "ReLU": _relu,
    "Softmax": lambda config, weights: [("softmax", nn.Softmax(dim=1))],
}


def _compare(original: Any, network: nn.Module, softmax: bool, file: Path) -> None:
    """Run both networks on the same input."""
    shape = original.input_shape
    if isinstance(shape, list) or isinstance(original.output_shape, list):
        raise ModelError(
            f"The Keras file {str(file)!r} has several inputs or outputs; one of each is accepted."
        )
    sizes = [_ANY_SIZE if one is None else int(one) for one in shape[1:]]
    if math.prod(sizes) > _LARGEST_INPUT:
        raise ModelError(
            f"The Keras file {str(file)!r} fixes an input of shape {tuple(sizes)}, larger than any "
            f"that it can be tried on: it is damaged, or made to fill the memory. Save the network "
            f"with None for the lengths of the image."
        )
    drawn = np.random.default_rng(0).standard_normal((2, *sizes), dtype=np.float32)
    expected = np.asarray(_as_numpy(original(drawn, training=False)))
    first = any(
        layer.get_config().get("data_format") == "channels_first" for layer in original.layers
    )
    volumes = torch.tensor(drawn if first else np.moveaxis(drawn, -1, 1).copy())
    try:
        with torch.inference_mode():
            scores = network(volumes)
    except RuntimeError as error:
        raise _different(file, _short(error)) from error
    scores = torch.softmax(scores, dim=1) if softmax else scores
    found = scores.numpy() if first or scores.ndim < 3 else scores.movedim(1, -1).numpy()
    if found.shape != expected.shape:
        raise _different(file, f"scores of shape {found.shape}, not {expected.shape}")
    worst = float(np.abs(found - expected).max() / (np.abs(expected).max() + 1e-12))
    if not worst < _TOLERANCE:
        raise _different(file, f"scores that differ by {worst:.1e} of the largest")


def _different(file: Path, how: str) -> ModelError:
    return ModelError(
        f"The Keras file {str(file)!r} cannot be translated exactly ({how}): its layers are not "
        f"one behind the other, or have options that are not supported. Build the network in "
        f"PyTorch and copy the weights."
    )


def _as_numpy(tensor: Any) -> Any:
    return tensor.detach().cpu().numpy() if isinstance(tensor, Tensor) else tensor


def _check_file(file: Path) -> None:
    accepted = f"Accepted: a file that model.save() wrote, {', '.join(SUFFIXES)}."
    if what := why_no_file(file):
        raise ModelError(f"The Keras file {str(file)!r} {what}. {accepted}")
    if file.suffix.lower() not in SUFFIXES:
        raise ModelError(f"{str(file)!r} is no Keras file. {accepted}")


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]}..."
