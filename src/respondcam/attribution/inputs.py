"""What may be explained: tensors and volumes, alone or in a tuple or dict."""

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch.utils._pytree as pytree
from torch import Tensor, nn

from respondcam._kinds import is_mapping
from respondcam.errors import InputError
from respondcam.network.calling import scattered
from respondcam.network.failures import refuse_without_values
from respondcam.network.trees import image_tensor, plain, tensors
from respondcam.network.unbatched import refuse_unbatched
from respondcam.volume import Volume

Inputs = Any  # Tensor (batch, channel, *spatial), Volume, or a tuple or dict of these


def as_tensors(inputs: Inputs, model: nn.Module) -> Any:
    """Inputs as the model takes them; volumes go to its device and type.

    Tensors go to its device if it is a parallel wrapper, which moves them itself.

    Raises
    ------
    InputError
        For anything that is neither a tensor nor a volume, for an empty batch, and for none.
    """
    parameter = next(model.parameters(), None)

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Volume):
            tensor = leaf.tensor()
            return tensor if parameter is None else tensor.to(parameter.device, parameter.dtype)
        if isinstance(leaf, np.ndarray):
            array = cast("np.ndarray", leaf)
            raise InputError(
                f"The input is a numpy array {array.shape}. Give respondcam.Volume(array) for one "
                f"volume (z, y, x), or a tensor (batch, channel, *spatial)."
            )
        # MONAI's MetaTensor copies itself without its history, and others lose gradients in hooks
        return plain(leaf) if isinstance(leaf, Tensor) and _is_annotated(leaf) else leaf

    found = pytree.tree_map(one, inputs, is_leaf=lambda leaf: isinstance(leaf, Volume))
    shapes = [tuple(tensor.shape) for tensor in tensors(found)]
    if not shapes:
        file = isinstance(inputs, (str, os.PathLike))
        raise InputError(
            f"There is no tensor and no volume in the input, which is a {type(inputs).__name__}. "
            + (
                f"Read a file first: respondcam.read_volume({os.fspath(inputs)!r})."
                if file
                else "Give a tensor (batch, channel, *spatial) or a respondcam.Volume."
            )
        )
    image = image_tensor(found)
    if image is None or image.ndim < 3 or 0 in image.shape:
        raise InputError(
            f"The input has shape {', '.join(map(str, shapes))}; expected (batch, channel, "
            f"*spatial) with at least one spatial axis and no empty one."
        )
    refuse_without_values(model)
    found = scattered(model, found)
    refuse_unbatched(model, found)
    return found


def _is_annotated(tensor: Tensor) -> bool:
    """Whether a subclass only adds facts to a tensor; others hold the numbers elsewhere."""
    kinds = (type(tensor), Tensor)
    own, plain_one = (getattr(kind, "__torch_dispatch__", None) for kind in kinds)
    return own is plain_one


def check_trainable(model: nn.Module, given: Any) -> None:
    """Raise InputError if nothing could receive the gradient of a differentiable map."""
    if not any(t.requires_grad for t in (*model.parameters(), *tensors(given))):
        raise InputError(
            "create_graph=True, but no parameter of the model and no input requires a gradient, "
            "so a loss on the map would change nothing. Unfreeze some parameters "
            "(parameter.requires_grad_(True)), or leave create_graph out."
        )


def first_volume(inputs: Inputs) -> Volume | None:
    """The first volume among the inputs, or tensor that knows its place: maps are put there."""
    leaves = pytree.tree_leaves(inputs, is_leaf=lambda leaf: isinstance(leaf, Volume))
    volumes = (leaf if isinstance(leaf, Volume) else _of_meta_tensor(leaf) for leaf in leaves)
    return next((one for one in volumes if one is not None), None)


def _of_meta_tensor(leaf: Any) -> Volume | None:
    """One scan in MONAI's MetaTensor (1, channel, i, j, k), whose affine takes i, j, k to mm."""
    affine: Any = getattr(leaf, "affine", None)
    if not (isinstance(leaf, Tensor) and leaf.ndim == 5 and len(leaf) == 1):
        return None
    if not isinstance(affine, Tensor) or affine.numel() != 16:
        return None
    matrix = plain(affine).detach().cpu().double().numpy().reshape(4, 4)
    known = np.isfinite(matrix).all() and not np.array_equal(matrix, np.eye(4))
    if not known or np.linalg.matrix_rank(matrix[:3, :3]) < 3:
        return None  # one that nobody gave is the unit matrix
    meta: Any = getattr(leaf, "meta", {})
    name = meta.get("filename_or_obj") if is_mapping(meta) else None
    source = Path(name) if isinstance(name, str) and name else None
    # the columns in the order of a volume's axes: the last axis of the array first
    voxels = plain(leaf)[0].detach().float().cpu().numpy()
    return Volume(voxels, matrix[:, [2, 1, 0, 3]], "mm", source)
