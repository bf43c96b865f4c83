"""The two networks of the publication, with the layer names of its figures.

CNN-1 is the network called DSRF3D by M. Xu, X. Chai, H. Muthakana, X. Liang, G. Yang,
T. Zeev-Ben-Mordehai and E. P. Xing, "Deep learning-based subdivision approach for large scale
macromolecules structure recovery from electron cryo tomograms", Bioinformatics 33 (2017) i13:
two 3x3x3 convolutions of 32 filters, pooling, two of 64, pooling, two fully connected layers of
512, and one score per class. Departures: the scores come before the softmax, and dropout is off
unless asked for.

CNN-2 is **our own choice** of a second, smaller architecture: no code or layer table of the
publication's CNN-2 could be had, so it may be replaced when one turns up. Only its role is kept:
another network of the same family, with the same name ``maxpool2`` for its last spatial layer.

Layer names
-----------
``input``, ``conv1``, ``conv2``, ``maxpool1``, ... are modules and can be explained by these names.
``conv1`` and its like are a convolution followed by its ReLU, so that explaining ``conv1`` explains
the activation (never negative) that the next layer receives, as a Keras layer with
``activation="relu"`` does. The bare convolution is ``conv1.conv``.
"""

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from respondcam.errors import ModelError


class CNN1(nn.Module):
    """CNN-1 of the publication (DSRF3D): four convolutions, two poolings, three dense layers.

    Parameters
    ----------
    classes
        Number of scores that the network returns.
    in_channels
        Channels of the input.
    size
        Voxels along each of the three axes of the input; the first dense layer is built for it.
    dropout
        Probability of dropping a feature of the two hidden dense layers while training.

    Raises
    ------
    ModelError
        If the sizes given cannot make a network, or (when called) if the input has other sizes.

    Examples
    --------
    >>> import torch
    >>> network = CNN1(classes=3, size=8)
    >>> network(torch.zeros(2, 1, 8, 8, 8)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self, classes: int = 23, in_channels: int = 1, size: int = 40, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check_sizes("CNN-1", classes, in_channels, size, shrinks_by=4)
        self.in_channels, self.size = in_channels, size
        self.input = nn.Identity()
        self.conv1 = _convolution(in_channels, 32)
        self.conv2 = _convolution(32, 32)
        self.maxpool1 = nn.MaxPool3d(2)
        self.conv3 = _convolution(32, 64)
        self.conv4 = _convolution(64, 64)
        self.maxpool2 = nn.MaxPool3d(2)
        self.flatten = nn.Flatten()
        self.fc1 = _dense(64 * (size // 2 // 2) ** 3, 512, dropout)
        self.fc2 = _dense(512, 512, dropout)
        self.fc3 = nn.Linear(512, classes)

    def forward(self, x: Float[Tensor, "batch channel *spatial"]) -> Float[Tensor, "batch classes"]:
        """Scores before the softmax, of volumes (batch, channel, z, y, x)."""
        _check_input("CNN-1", x, self.in_channels, self.size)
        x = self.maxpool1(self.conv2(self.conv1(self.input(x))))
        x = self.maxpool2(self.conv4(self.conv3(x)))
        return self.fc3(self.fc2(self.fc1(self.flatten(x))))


class CNN2(nn.Module):
    """CNN-2: a compact network of two convolutions, chosen here (see the module's text).

    Parameters
    ----------
    classes, in_channels, size, dropout
        As for `CNN1`.

    Raises
    ------
    ModelError
        If the sizes given cannot make a network, or (when called) if the input has other sizes.

    Examples
    --------
    >>> import torch
    >>> network = CNN2(classes=3, size=16)
    >>> network(torch.zeros(2, 1, 16, 16, 16)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self, classes: int = 23, in_channels: int = 1, size: int = 40, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check_sizes("CNN-2", classes, in_channels, size, shrinks_by=8)
        self.in_channels, self.size = in_channels, size
        self.input = nn.Identity()
        self.conv1 = _convolution(in_channels, 32, kernel=5, stride=2)
        self.maxpool1 = nn.MaxPool3d(2)
        self.conv2 = _convolution(32, 64)
        self.maxpool2 = nn.MaxPool3d(2)
        self.flatten = nn.Flatten()
        self.fc1 = _dense(64 * ((size + 1) // 2 // 2 // 2) ** 3, 512, dropout)
        self.fc2 = nn.Linear(512, classes)

    def forward(self, x: Float[Tensor, "batch channel *spatial"]) -> Float[Tensor, "batch classes"]:
        """Scores before the softmax, of volumes (batch, channel, z, y, x)."""
        _check_input("CNN-2", x, self.in_channels, self.size)
        x = self.maxpool1(self.conv1(self.input(x)))
        x = self.maxpool2(self.conv2(x))
        return self.fc2(self.fc1(self.flatten(x)))


def cnn_1(classes: int = 23, size: int = 40) -> CNN1:
    """CNN-1 for one-channel volumes, without dropout: the network ``paper:cnn-1``.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in cnn_1(classes=23, size=40).parameters())
    33237559
    """
    return CNN1(classes, size=size)


def cnn_2(classes: int = 23, size: int = 40) -> CNN2:
    """CNN-2 for one-channel volumes, without dropout: the network ``paper:cnn-2``.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in cnn_2(classes=23, size=40).parameters())
    4167703
    """
    return CNN2(classes, size=size)


def _convolution(channels: int, filters: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Give a convolution with "same" padding for odd kernels, and its ReLU."""
    conv = nn.Conv3d(channels, filters, kernel, stride=stride, padding=kernel // 2)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU()))


def _dense(features: int, units: int, dropout: float) -> nn.Sequential:
    linear = nn.Linear(features, units)
    return nn.Sequential(OrderedDict(linear=linear, relu=nn.ReLU(), dropout=nn.Dropout(dropout)))


def _check_sizes(name: str, classes: int, in_channels: int, size: int, *, shrinks_by: int) -> None:
    if classes < 1 or in_channels < 1:
        message = f"{name} needs at least one class and one channel, not {classes=}, {in_channels=}"
        raise ModelError(message)
    if size < shrinks_by:
        message = (
            f"{name} makes volumes {shrinks_by} times smaller before its dense layers, so that "
            f"{size=} leaves nothing; give a size of at least {shrinks_by} voxels"
        )
        raise ModelError(message)


def _check_input(name: str, x: Tensor, in_channels: int, size: int) -> None:
    expected = (in_channels, size, size, size)
    if tuple(x.shape[1:]) != expected:
        message = (
            f"{name} was built for volumes of shape (batch, {', '.join(map(str, expected))}) and "
            f"received {tuple(x.shape)}: its dense layers fit one size only. Crop or pad the "
            f"volume to {size} voxels per axis, or build the network with another size "
            f"and weights trained for it"
        )
        raise ModelError(message)
