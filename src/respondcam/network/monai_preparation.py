"""A volume as a MONAI bundle's network sees it: its transforms, and the windows of its inferer.

MONAI's spatial transforms keep the affine of a MetaTensor true, so what they did together is known
from the affine in the end: nothing is inverted step by step. Arrays are in nibabel's axis order,
x first, as MONAI reads them.
"""

import warnings
from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch

from respondcam._kinds import is_listed, is_mapping
from respondcam.errors import InputError, ModelError, VolumeError
from respondcam.network.preparation import Prepared, Tiles, Window, whole
from respondcam.network.typed import from_array
from respondcam.volume import Volume

# What reading a volume has done already.
_READING = {
    "LoadImage",
    "LoadImaged",
    "EnsureChannelFirst",
    "EnsureChannelFirstd",
    "AsChannelFirst",
    "AsChannelFirstd",
    "AddChannel",
    "AddChanneld",
}
_NO_IMAGES = ("label", "mask", "seg")


class BundlePreparation:
    """The preprocessing and the windows of one bundle; see `Preparation`.

    Parameters
    ----------
    preprocessing
        The bundle's transforms, or None.
    inferer
        Its inferer, or None.
    channels
        Number of channels that the network takes and their names, where the bundle says so.
    where
        The bundle, for messages.
    """

    channel_files = 0

    def __init__(
        self,
        preprocessing: Any,
        inferer: Any,
        *,
        channels: tuple[int, tuple[str, ...]] | None = None,
        where: str = "",
    ) -> None:
        self.steps = list(_flattened(preprocessing))
        self.lazy = getattr(preprocessing, "lazy", False)
        self.inferer, self.channels, self.where = inferer, channels, where

    def prepare(self, volume: Volume) -> Prepared:
        """Prepare one volume.

        Raises
        ------
        InputError
            If the volume has not the network's channels, a transform fails on it, or what comes out
            has lost its place.
        """
        tensor = self._transformed(volume)
        if self.channels is not None and tensor.shape[0] != self.channels[0]:
            count, names = self.channels
            named = f" ({', '.join(names)})" if names else ""
            raise VolumeError(
                f"The network takes {count} channel(s){named}, but the volume has "
                f"{volume.channels}. Give one file with the channels stacked in this order."
            )
        affine = tensor.affine.cpu().double().numpy()[:, [2, 1, 0, 3]]
        voxels = tensor.as_tensor().detach().cpu().float()
        voxels, tiles, low = self._tiled(voxels)
        moved = affine.copy()
        moved[:3, 3] -= affine[:3, :3] @ np.array(low[::-1], float)
        seen = Volume(voxels.numpy(), moved, volume.unit, volume.source, volume.header)
        size = tensor.shape[1:]
        z, y, x = (slice(a, a + int(n)) for a, n in zip(low, size, strict=True))
        return Prepared(seen, volume, (z, y, x), tiles, self._note(seen, size, tiles))

    def _transformed(self, volume: Volume) -> Any:
        from monai.data.meta_tensor import MetaTensor
        from monai.transforms.compose import Compose

        voxels = np.array(volume.voxels.reshape(volume.channels, *volume.shape))
        image = MetaTensor(
            from_array(voxels.transpose(0, 3, 2, 1).copy()),
            affine=from_array(np.array(volume.affine)),
            meta={"filename_or_obj": str(volume.source or ""), "original_channel_dim": 0},
        )
        steps = [step for step in self.steps if type(step).__name__ not in _READING]
        keys = self._keys()
        given = image if keys is None else _by_key(image, keys)
        try:
            with warnings.catch_warnings():
                for category in (DeprecationWarning, FutureWarning):
                    warnings.simplefilter("ignore", category)
                found = Compose(steps, lazy=self.lazy)(given)
        except InputError:
            raise
        except Exception as error:
            cause = error.__cause__ or error
            text = " ".join(str(cause).split())[:300]
            raise VolumeError(
                f"The preprocessing of {self.where!r} fails on this volume "
                f"({type(cause).__name__}: {text}). If the volume is prepared already, switch it "
                f"off with --model-arg preprocess=false."
            ) from error
        return self._checked(_image(found, keys), volume)

    def _keys(self) -> list[str] | None:
        """Names of the images in a pipeline of dictionaries; None for one of arrays."""
        keyed = [step for step in self.steps if getattr(step, "keys", None)]
        if not keyed:
            return None
        for step in keyed:
            step.allow_missing_keys = True  # labels, which only training and validation have
        loading = [step for step in keyed if type(step).__name__ == "LoadImaged"]
        keys = [str(key) for key in (loading or keyed)[0].keys]
        return [key for key in keys if key.lower() not in _NO_IMAGES] or keys[:1]

    def _checked(self, found: Any, volume: Volume) -> Any:
        from monai.data.meta_tensor import MetaTensor

        if not isinstance(found, MetaTensor):
            raise ModelError(
                f"The preprocessing of {self.where!r} drops the affine (track_meta=False, or a "
                f"transform to plain tensors), so nobody knows where its voxels are. Remove that "
                f"transform, or switch it off with --model-arg preprocess=false."
            )
        if found.ndim != 4:
            raise ModelError(
                f"The preprocessing of {self.where!r} makes {tuple(found.shape)} of a volume of "
                f"{volume.shape} voxels; a network of volumes takes (channel, x, y, z)."
            )
        return found

    def _tiled(self, voxels: torch.Tensor) -> tuple[torch.Tensor, Tiles, list[int]]:
        """Pad as MONAI's sliding window does; give the windows and the padding before the image."""
        from monai.data.utils import compute_importance_map, dense_patch_slices
        from monai.inferers.inferer import SliceInferer, SlidingWindowInferer
        from monai.utils.misc import (
            ensure_tuple_rep,
            fall_back_tuple,  # pyright: ignore[reportUnknownVariableType]
        )

        inferer, size = self.inferer, tuple(voxels.shape[1:])
        if not isinstance(inferer, SlidingWindowInferer):
            return voxels, whole(size), [0, 0, 0]
        sliced = inferer.spatial_dim if isinstance(inferer, SliceInferer) else None
        roi: Any = cast("Any", inferer).roi_size
        if sliced is not None and len(roi) == 2:
            roi = [*roi[:sliced], 1, *roi[sliced:]]
        roi = fall_back_tuple(roi, size)
        pads = [max(n - have, 0) for n, have in zip(roi, size, strict=True)]
        low = [pad // 2 for pad in pads]
        if any(pads):
            ends = [(a, pad - a) for a, pad in zip(low, pads, strict=True)]
            flat = [n for pair in reversed(ends) for n in pair]
            mode = str(getattr(inferer.padding_mode, "value", inferer.padding_mode))
            fill = inferer.cval if mode == "constant" else None
            voxels = torch.nn.functional.pad(voxels[None], flat, mode=mode, value=fill)[0]
        overlap = ensure_tuple_rep(inferer.overlap, 3)
        steps = tuple(
            n if n == have else max(1, int(n * (1 - share)))
            for n, have, share in zip(roi, voxels.shape[1:], overlap, strict=True)
        )
        windows = dense_patch_slices(tuple(voxels.shape[1:]), roi, steps)
        importance = compute_importance_map(
            tuple(roi), mode=inferer.mode, sigma_scale=inferer.sigma_scale, dtype=torch.float32
        )
        return voxels, _as_tiles(windows, importance, sliced), low

    def _note(self, seen: Volume, size: Any, tiles: Tiles) -> str:
        spacing = " x ".join(f"{length:.3g}" for length in seen.voxel_size)
        count = len(tiles.windows)
        windows = "1 window" if count == 1 else f"{count} windows"
        return (
            f"prepared as the bundle does: {' x '.join(str(int(n)) for n in size)} voxels of "
            f"{spacing} seen in {windows}"
        )


def _flattened(transform: Any) -> Iterator[Any]:
    """The steps of nested Composes, in order."""
    if transform is None:
        return
    if type(transform).__name__ == "Compose" or is_listed(transform):
        for step in getattr(transform, "transforms", transform):
            yield from _flattened(step)
    else:
        yield transform


def _by_key(image: Any, keys: list[str]) -> dict[str, Any]:
    if len(keys) == 1:
        return {keys[0]: image}
    if image.shape[0] != len(keys):
        raise VolumeError(
            f"The network takes {len(keys)} images ({', '.join(keys)}), but the volume has "
            f"{image.shape[0]} channel(s). Give one file with the channels stacked in this order."
        )
    return {key: image[number : number + 1] for number, key in enumerate(keys)}


def _image(found: Any, keys: list[str] | None) -> Any:
    if is_listed(found) and len(found) == 1:
        found = found[0]
    if keys is not None and is_mapping(found):
        return found["image"] if "image" in found else found[keys[0]]
    return found


def _as_tiles(windows: Any, importance: torch.Tensor, sliced: int | None) -> Tiles:
    """Windows of slices where the network sees volumes, else with the slice's number."""
    kept: list[Window] = []
    for window in windows:
        parts: list[slice | int] = [slice(int(p.start), int(p.stop)) for p in window]
        if sliced is not None:
            parts[sliced] = int(window[sliced].start)
        kept.append(tuple(parts))
    return Tiles(tuple(kept), importance if sliced is None else importance.select(sliced, 0))
