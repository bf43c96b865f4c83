"""Read a model's output: where the scores are, which class is predicted, where."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from respondcam._kinds import is_listed, is_mapping
from respondcam._readers import is_typed, way
from respondcam._warnings import warn
from respondcam.errors import TargetError
from respondcam.network.failures import no_tensor
from respondcam.network.trees import is_float, tensors


def score_tensor(output: Any, select: Callable[[Any], Tensor] | None = None) -> Tensor:
    """The tensor of scores in a model's output.

    Parameters
    ----------
    output
        Tensor, or a tuple, dict or dataclass of them.
    select
        Picks the score tensor; needed where the output holds several tensors.

    Raises
    ------
    TargetError
        If there is no single tensor of scores.
    """
    if select is not None:
        picked = select(output)
        if not isinstance(picked, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TargetError(f"output= gave {type(picked).__name__}, not a tensor of scores.")
        return _float(picked)
    if isinstance(output, Tensor):
        return _float(output)
    logits = output.get("logits") if is_mapping(output) else getattr(output, "logits", None)
    found = [t for t in tensors(output) if is_float(t)]
    if isinstance(logits, Tensor):
        if len(found) > 1 and is_typed():
            warn(
                f"the network's output is {describe(output)}, of which 'logits' is explained; "
                f"--output names another part",
            )
        return _float(logits)
    if len(found) == 1:
        return found[0]
    if wrong := no_tensor(output):
        raise TargetError(wrong)
    raise TargetError(
        f"The model's output is {describe(output)}, and which tensor holds the scores is not "
        f"clear. {_pick(output)}"
    )


def score_rows(
    output: Any, select: Callable[[Any], Tensor] | None, image: Tensor, copies: int = 1
) -> Tensor:
    """The `score_tensor` with a row for each sample of an image (in so many copies)."""
    return with_axes(score_tensor(output, select), copies * len(image), image.shape[2:])


def with_axes(output: Tensor, batch: int, spatial: Sequence[int]) -> Tensor:
    """Scores with the axes that they should have: the batch, the classes, voxels if it is dense.

    A network may squeeze what has size one: the batch of a single sample, the class axis of a
    segmentation with one class. And one that ends in a pooling and a convolution gives the scores
    of the whole image as those of its only voxel.

    Parameters
    ----------
    output
        The tensor of scores.
    batch, spatial
        Samples and spatial shape of the input.

    Examples
    --------
    >>> with_axes(torch.zeros(3), 1, (8, 8)).shape, with_axes(torch.zeros(2, 8, 8), 2, (8, 8)).shape
    (torch.Size([1, 3]), torch.Size([2, 1, 8, 8]))
    >>> with_axes(torch.zeros(2, 3, 1, 1), 2, (8, 8)).shape
    torch.Size([2, 3])
    """
    if output.ndim == 2 + len(spatial) and output.shape[2:].numel() == 1:
        return output.flatten(1)
    # of a signal, (batch, n) is n classes, also where the signal has n samples
    dense = len(spatial) > 1 and tuple(output.shape[1:]) == tuple(spatial)
    if batch == 1 and (output.ndim == 0 or ((output.ndim == 1 or dense) and len(output) != 1)):
        return output[None]
    return output[:, None] if dense else output


def output_part(key: str) -> Callable[[Any], Tensor]:
    """Pick one part of a network's output: by key, attribute, or number.

    Examples
    --------
    >>> output_part("1")((torch.zeros(1), torch.ones(1)))
    tensor([1.])
    """

    def pick(output: Any) -> Tensor:
        if is_mapping(output) and key in output:
            return output[key]
        if is_listed(output) and key.isdecimal() and len(key) < 9 and int(key) < len(output):
            return output[int(key)]
        if not isinstance(output, Tensor) and hasattr(output, key):
            return getattr(output, key)
        raise TargetError(
            f"--output {key!r} is no part of the network's output, which is {describe(output)}."
        )

    return pick


def predicted_class(output: Tensor) -> Tensor:
    """Class that is predicted for each sample, (batch,), as `predicted` defines it."""
    flat = batched(output.detach())
    if flat.ndim == 2:
        return (flat[:, 0] > 0).long() if flat.shape[1] == 1 else flat.argmax(dim=1)
    regions = regions_of(flat)
    voxels = torch.stack([(regions == k).flatten(1).sum(1) for k in range(class_count(flat))], 1)
    return voxels[:, 1:].argmax(dim=1) + 1


def class_count(output: Tensor) -> int:
    """Number of classes that the output distinguishes; one logit stands for two."""
    flat = batched(output)
    return max(2, int(flat.shape[1]))


def class_scores(output: Tensor, chosen: Tensor, regions: Tensor | None = None) -> Tensor:
    """Score of one class per sample, (batch,).

    Of a dense output (batch, class, *spatial) it is the sum over the voxels whose entry in
    `regions` (batch, *spatial), by default the predicted class of each voxel, is that class.
    """
    flat = batched(output)
    chosen = chosen.to(flat.device)
    per_class = torch.cat([-flat, flat], dim=1) if flat.shape[1] == 1 else flat
    rows = torch.arange(len(flat), device=flat.device)
    scores = per_class[rows, chosen]
    if scores.ndim == 1:
        return scores
    regions = regions_of(flat.detach()) if regions is None else regions
    inside = regions == chosen.view(-1, *[1] * (flat.ndim - 2))
    return (scores * inside).flatten(1).sum(dim=1)


def regions_of(flat: Tensor) -> Tensor:
    """Predicted class of every voxel of a dense output, (batch, *spatial)."""
    return (flat[:, 0] > 0).long() if flat.shape[1] == 1 else flat.argmax(dim=1)


def warn_of_probabilities(output: Tensor) -> None:
    """Warn if the output is a softmax's, whose gradient vanishes where it is sure."""
    values = batched(output.detach())
    if values.shape[1] < 2 or bool((values < 0).any()) or bool((values > 1).any()):
        return
    if torch.allclose(values.sum(dim=1), torch.ones_like(values[:, 0]), atol=1e-3):
        warn(
            "The model's output looks like probabilities, not scores: the gradient of a softmax "
            "vanishes where it is sure, and the map with it. "
            + way(
                python="Give the scores before the softmax (for example a model without its last "
                "activation, or output=torch.log).",
                command_line="Give a factory of the network without its last activation, for "
                "example with torch.nn.Identity() in its place.",
            ),
        )


def warn_of_one_number(output: Tensor) -> None:
    """Tell somebody at the command line, who named no target, how a single number is read."""
    if is_typed() and batched(output).shape[1:] == (1,):
        warn(ONE_NUMBER)


ONE_NUMBER = (
    "the network gives one number, which is read as yes (class 1) or no (class 0, whose score is "
    "the number's negative); of a regression, respondcam explain --target value explains the "
    "number itself"
)


def check_classes(wanted: Sequence[int], output: Tensor) -> None:
    """Raise TargetError if a class number is out of range."""
    count = class_count(output)
    wrong = [n for n in wanted if not 0 <= n < count]
    if wrong:
        raise TargetError(
            f"target class {wrong[0]} is out of range: the model's output {_shape(output)} has "
            f"{count} classes, 0 to {count - 1}."
        )


def batched(output: Tensor) -> Tensor:
    """(batch, class, ...) from an output that may lack the class axis."""
    if output.ndim == 0:
        raise TargetError("The model's output is a single number; it must keep the batch axis.")
    if output.ndim > 1 and output.shape[1] == 0:
        raise TargetError(f"The model's output {_shape(output)} has no classes, so no scores.")
    return output[:, None] if output.ndim == 1 else output


def _float(scores: Tensor) -> Tensor:
    if scores.is_complex():
        raise TargetError(
            "The model's output is complex, and a score is a real number. Give output= that makes "
            "one of it, such as its magnitude: output=torch.abs."
        )
    if not is_float(scores):
        raise TargetError(
            f"The model's output has type {scores.dtype}, which has no gradient. Give the scores "
            f"before argmax or thresholding."
        )
    return scores


def _shape(output: Tensor) -> str:
    return str(tuple(output.shape))


def describe(output: Any) -> str:
    """What an output is, in words."""
    if isinstance(output, Tensor):
        return f"a tensor {_shape(output)}"
    if is_mapping(output):
        return f"a {type(output).__name__} with keys {', '.join(map(repr, output))}"
    if is_listed(output):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"


def _pick(output: Any) -> str:
    """How to say which part of an output holds the scores, with an example."""
    key: Any = "logits"
    part = "out.logits"
    if is_mapping(output) and output:
        key = next(iter(output))
        part = f"out[{key!r}]"
    elif is_listed(output):
        key, part = 0, "out[0]"
    return way(
        python=f"Pick it with output=, for example output=lambda out: {part}.",
        command_line=f"Pick it with --output, for example --output {key}.",
    )
