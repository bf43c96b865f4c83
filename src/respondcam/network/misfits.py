"""What to do about an input that a network does not take, from what PyTorch said."""

import re
from collections.abc import Sequence

from respondcam._readers import way

_TOO_SMALL = (
    "kernel size can't be greater",
    "output size is too small",
    "smaller than kernel size",
    "padding size should be less than",
    "more than 1 spatial element",
)
_DO_NOT_MEET = ("sizes of tensors must match", "must match the size of tensor")
_OF_ONE_SIZE = ("shapes cannot be multiplied", "must have same reduction dim")
_CHANNELS = re.compile(r"to have (\d+) channels, but got (\d+) channels")
_OTHER_AXES = ("(unbatched) or", "d input (got", "(batch mode) tensor expected")
_COLOURS = (3, 4)


def remedy(said: str, shapes: Sequence[Sequence[int]]) -> str:
    """The sentence that ends a message about an input on which a network does not run.

    Parameters
    ----------
    said
        The network's own error.
    shapes
        Of the tensors that it was given.

    Examples
    --------
    >>> remedy("Output size is too small", [(1, 1, 3, 3, 3)])
    'The image is too small for the network. Give a larger one, or pad the image.'
    """
    said = said.lower()
    if any(words in said for words in _TOO_SMALL):
        image = way(python="image", command_line="image, or the window,")
        return f"The {image} is too small for the network. Give a larger one, or pad the image."
    if any(words in said for words in _DO_NOT_MEET):
        return (
            "The image's size does not suit the network. U-shaped networks take sizes that are "
            "multiples of a number such as 16 or 32, others one size only. Crop or pad the image "
            f"along each axis{_windows()}."
        )
    if "does not require grad" in said:
        return (
            "It takes gradients in its own forward pass, which runs without autograd up to the "
            "layer: put that part into a block of torch.enable_grad()."
        )
    if any(words in said for words in _OF_ONE_SIZE):
        return f"The network takes images of one size. Crop, pad or resample to it{_windows()}."
    if any(words in said for words in _OTHER_AXES):
        given = " and ".join(str(tuple(shape)) for shape in shapes)
        return (
            f"The network takes (batch, channel, *spatial), and was given {given}. Give "
            f"x[None, None] of one image x without batch and channel, or respondcam.Volume(array)."
        )
    if (found := _CHANNELS.search(said)) and not _last_axis(shapes):
        wanted, given = found.groups()
        return (
            f"The image has {given} channels, and the network takes {wanted}. Of a file, a fourth "
            f"axis counts as channels: where these are times or several images, write the one "
            f"that is meant into a file of its own."
        )
    if "channels" in said and (last := _last_axis(shapes)):
        return (
            f"The last axis has {last} entries, which looks like colours or channels. Channels "
            f"come first: (channel, z, y, x); numpy.moveaxis(array, -1, 0) puts them there."
        )
    return "Give an input of the channels, spatial shape, type and device that it was built for."


def _windows() -> str:
    return way(
        python="",
        command_line=", or explain windows of a size that it takes, such as --window 32",
    )


def _last_axis(shapes: Sequence[Sequence[int]]) -> int:
    """Length of a last axis that seems to hold channels; 0 if none does."""
    for shape in shapes:
        if len(shape) > 3 and shape[-1] in _COLOURS and min(shape[1:-1]) > max(_COLOURS):
            return shape[-1]
    return 0
