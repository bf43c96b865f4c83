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
_CONVOLUTION = re.compile(r"to conv(?:_transpose)?([12])d\b")
_NUMBERED = re.compile(r"expected ([34])d input \(got")  # of a norm; with batch and channel
_COLOURS = (3, 4)
_WORDS = ("no", "one", "two", "three")
_WINDOW = 32


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
            f"along each axis{_windows(shapes)}."
        )
    if "does not require grad" in said:
        return (
            "It takes gradients in its own forward pass, which runs without autograd up to the "
            "layer: put that part into a block of torch.enable_grad()."
        )
    if any(words in said for words in _OF_ONE_SIZE):
        return (
            f"The network takes images of one size. Crop, pad or resample to it{_windows(shapes)}."
        )
    if flat := _of_fewer_axes(said, shapes):
        return flat
    if any(words in said for words in _OTHER_AXES):
        given = " and ".join(str(tuple(shape)) for shape in shapes)
        return (
            f"The network takes (batch, channel, *spatial), and was given {given}. Give "
            f"x[None, None] of one image x without batch and channel, or respondcam.Volume(array)."
        )
    if (found := _CHANNELS.search(said)) and not _last_axis(shapes):
        return _other_channels(*map(int, found.groups()))
    if "channels" in said and (last := _last_axis(shapes)):
        return (
            f"The last axis has {last} entries, which looks like colours or channels. Channels "
            f"come first: (channel, z, y, x); numpy.moveaxis(array, -1, 0) puts them there."
        )
    return "Give an input of the channels, spatial shape, type and device that it was built for."


def _other_channels(wanted: int, given: int) -> str:
    """What to do about an image with more or fewer channels than a network takes."""
    has = f"The image has {given} channel{'s' * (given != 1)}, and the network takes {wanted}."
    if given > wanted:
        return (
            f"{has} Of a file, a fourth axis counts as channels: where these are times or several "
            f"images, write the one that is meant into a file of its own."
        )
    more = way(
        python="Stack the images on one grid along the channel axis, as the network was trained: "
        "torch.cat([a, b], 1) of tensors, a.with_voxels(numpy.stack([a.voxels, b.voxels])) of "
        "volumes.",
        command_line="Write the images, on one grid and in the order of its training, into one "
        'file as its channels; of two files in Python: a, b = map(respondcam.read_volume, ["A", '
        '"B"]); respondcam.write_volume("AB.nii.gz", a.with_voxels(numpy.stack([a.voxels, '
        "b.voxels]))).",
    )
    return f"{has} {more}"


def _of_fewer_axes(said: str, shapes: Sequence[Sequence[int]]) -> str:
    """What to do about volumes where a network takes slices; empty where it is not that."""
    if found := _CONVOLUTION.search(said):
        takes = int(found[1])
    elif found := _NUMBERED.search(said):
        takes = int(found[1]) - 2
    else:
        return ""
    given = max((len(shape) for shape in shapes), default=0) - 2
    if not takes < given < len(_WORDS):
        return ""
    slices = "slice" if takes == 2 else "line"
    axes = ", ".join(["batch", "channel", *("y", "x")[2 - takes :]])
    inside = (
        f"a network around it that takes the volume apart into {slices}s and puts their scores "
        f"together"
    )
    alone = f"a {slices} alone as a tensor ({axes})"
    return (
        f"The network is {_WORDS[takes]}-dimensional, and the image has {_WORDS[given]} axes. "
        + (
            way(
                python=f"Give {alone}, or explain {inside}.",
                command_line=f"Give a factory of {inside}; {alone} is explained in Python.",
            )
        )
    )


def _windows(shapes: Sequence[Sequence[int]]) -> str:
    """The other remedy, as far as windows fit into the image."""
    spatial = [size for shape in shapes if len(shape) > 3 for size in shape[2:]]
    shortest = min(spatial, default=0)
    fitting = (
        f"such as --window {_WINDOW}"
        if shortest > _WINDOW
        else f"with --window, where that fits into the image, whose shortest axis has {shortest} "
        f"voxels"
    )
    return way(python="", command_line=f", or explain windows of a size that it takes, {fitting}")


def _last_axis(shapes: Sequence[Sequence[int]]) -> int:
    """Length of a last axis that seems to hold channels; 0 if none does."""
    for shape in shapes:
        if len(shape) > 3 and shape[-1] in _COLOURS and min(shape[1:-1]) > max(_COLOURS):
            return shape[-1]
    return 0
