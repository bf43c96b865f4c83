"""A volume as a trained nnU-Net sees it: its own preprocessing, padding and windows.

The order is nnU-Net's: turned to RAS if its reader does that, axes transposed, cropped to what is
not zero, normalised, resampled to the target spacing, padded to the patch size. The arrays come
from its own preprocessor; this module follows where the voxels go. Its resampling keeps the
outer faces of the grid: voxel i of the new grid is at ``(i + 1/2) old/new - 1/2`` of the old one.
"""

from collections.abc import Sequence
from itertools import combinations
from math import prod
from typing import Any, cast

import numpy as np
import torch
from nibabel import orientations

from respondcam.errors import ModelError, VolumeError
from respondcam.network.nnunet_folders import NNUNetFolder, NNUNetOptions, quietly
from respondcam.network.nnunet_plans import MOST_VOXELS
from respondcam.network.preparation import Prepared, Tiles, Window
from respondcam.volume import Volume

_turns: Any = orientations  # nibabel has no types
_TIMES = 4  # as many voxels as a large scan has may be made of it


class NNUNetPreparation:
    """The preprocessing of one trained model folder; see `Preparation`.

    Parameters
    ----------
    folder
        As it was opened.
    options
        How windows move, and whether they are mirrored.
    """

    def __init__(self, folder: NNUNetFolder, options: NNUNetOptions) -> None:
        self.folder, self.options = folder, options
        self.channels = dict(folder.dataset.get("channel_names") or folder.dataset["modality"])
        self.channel_files = len(self.channels)

    def prepare(self, volume: Volume) -> Prepared:
        """Prepare one volume.

        Raises
        ------
        InputError
            If the volume has not the network's channels, is zero everywhere, or would become
            absurdly large by the plans.
        """
        self._check(volume)
        turned = self._turned(volume)
        self._check_size(turned)
        data, properties = self._preprocessed(turned)
        affine = self._affine(turned.affine, data.shape[1:], properties)
        padded, inside = self._padded(data)
        start = [part.start for part in inside]
        seen = Volume(
            padded, _moved(affine, [-n for n in start]), volume.unit, volume.source, volume.header
        )
        tiles = self._tiles(seen.shape)
        return Prepared(seen, volume, inside, tiles, self._note(data.shape[1:], affine, tiles))

    def _check(self, volume: Volume) -> None:
        if volume.channels != len(self.channels):
            names = ", ".join(str(name) for name in self.channels.values())
            raise VolumeError(
                f"The network takes {len(self.channels)} channel(s) ({names}), but the volume has "
                f"{volume.channels}. Give one file with the channels stacked in this order, or "
                f"NAME_0000 beside NAME_0001 and so on, as nnU-Net names its files."
            )
        if not volume.voxels.any():
            raise VolumeError("The volume is zero everywhere: nnU-Net crops zeros away.")

    def _check_size(self, turned: Volume) -> None:
        """Refuse a grid that no machine holds, before memory is taken for it."""
        order = [int(axis) for axis in self.folder.plans.transpose_forward]
        filled = turned.voxels.reshape(turned.channels, *turned.shape) != 0
        cropped: list[int] = []
        for axis in order:
            others = tuple({0, 1, 2, 3} - {axis + 1})
            along = np.flatnonzero(np.any(filled, axis=others))
            cropped.append(int(along[-1] - along[0]) + 1)
        lengths = [float(turned.voxel_size[axis]) for axis in order]
        plan = self.folder.configuration
        spacing = [*lengths[: 3 - len(plan.spacing)], *map(float, plan.spacing)]
        sizes = [old * size / new for old, new, size in zip(lengths, spacing, cropped, strict=True)]
        patch = [1] * (3 - len(plan.patch_size)) + list(plan.patch_size)
        padded = [max(size, n) for size, n in zip(sizes, patch, strict=True)]
        file = str(self.folder.weights.path.parent.parent / "plans.json")
        what = f"of {' x '.join(map(str, cropped))} voxels would become one of"
        if min(sizes) < 0.5 or prod(sizes) > max(MOST_VOXELS, _TIMES * prod(turned.shape)):
            raise ModelError(
                f"By the spacing in {file!r}, {_by(spacing)} mm, the scan {what} {_by(sizes)}. "
                f"Accepted: at least one voxel along each axis, and at most {MOST_VOXELS} voxels, "
                f"or {_TIMES} times as many as the scan has. Is the scan's voxel size right?"
            )
        if prod(padded) > max(MOST_VOXELS, _TIMES * prod(turned.shape)):
            raise ModelError(
                f"By the patch_size in {file!r}, {_by(patch)}, the scan {what} {_by(padded)}, "
                f"padded. Accepted: at most {MOST_VOXELS} voxels, or {_TIMES} times as many as the "
                f"scan has."
            )

    def _turned(self, volume: Volume) -> Volume:
        if "Reorient" not in str(self.folder.plans.plans["image_reader_writer"]):
            return volume
        turn = _turns.io_orientation(volume.affine)
        channels = volume.voxels.reshape(volume.channels, *volume.shape)
        turned = np.stack([_turns.apply_orientation(one.T, turn).T for one in channels])
        affine = volume.affine @ _turns.inv_ornt_aff(turn, volume.shape[::-1])
        return volume.with_voxels(turned, affine)

    def _preprocessed(self, volume: Volume) -> tuple[np.ndarray, dict[str, Any]]:
        folder = self.folder
        properties: dict[str, Any] = {"spacing": list(volume.voxel_size)}
        voxels = volume.voxels.reshape(volume.channels, *volume.shape)
        with quietly():
            preprocessor = folder.configuration.preprocessor_class(verbose=False)
            data, _, properties = preprocessor.run_case_npy(
                voxels,
                None,
                properties,
                folder.plans,
                folder.configuration,
                dict(folder.dataset),
            )
        return np.asarray(data, np.float32), properties

    def _affine(
        self, affine: np.ndarray, shape: tuple[int, ...], properties: dict[str, Any]
    ) -> np.ndarray:
        """Affine of the resampled part, by the steps that led to it."""
        out = np.eye(4)
        order = list(self.folder.plans.transpose_forward)
        axes = affine[:3, 2::-1][:, order]  # a column per array axis
        low = np.array([pair[0] for pair in properties["bbox_used_for_cropping"]])
        old = np.array(properties["shape_after_cropping_and_before_resampling"])
        scale = old / np.array(shape)
        out[:3, 3] = affine[:3, 3] + axes @ (low + (scale - 1) / 2)
        out[:3, :3] = (axes * scale)[:, ::-1]
        return out

    def _padded(self, data: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice, slice]]:
        from acvl_utils.cropping_and_padding import (  # pyright: ignore[reportMissingTypeStubs]
            padding,
        )

        patch = self.folder.configuration.patch_size
        padded, inside = cast("Any", padding).pad_nd_image(
            data, patch, "constant", {"constant_values": 0}, return_slicer=True
        )
        z, y, x = (slice(int(part.start), int(part.stop)) for part in inside[-3:])
        return padded, (z, y, x)

    def _tiles(self, shape: tuple[int, int, int]) -> Tiles:
        from nnunetv2.inference.sliding_window_prediction import (  # pyright: ignore[reportMissingTypeStubs]
            compute_gaussian,
            compute_steps_for_sliding_window,
        )

        patch = tuple(int(n) for n in self.folder.configuration.patch_size)
        size = shape[3 - len(patch) :]
        starts = compute_steps_for_sliding_window(size, patch, self.options.step)
        parts: list[list[slice | int]] = [
            [slice(start, start + n) for start in along]
            for along, n in zip(starts, patch, strict=True)
        ]
        if len(patch) == 2:  # the network sees slices
            parts.insert(0, list(range(shape[0])))
        windows: list[Window] = [(z, y, x) for z in parts[0] for y in parts[1] for x in parts[2]]
        # in half precision, as nnU-Net blends: what is too small for it counts more there
        importance = compute_gaussian(
            patch, sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu")
        )
        return Tiles(tuple(windows), importance.float(), self._flips(len(patch)))

    def _flips(self, axes: int) -> tuple[tuple[int, ...], ...]:
        if not self.options.mirror:
            return ((),)
        allowed = self.folder.mirror_axes
        if not allowed:
            raise ModelError(
                "This network was trained without mirroring, so there is nothing to average over. "
                "Leave mirror=true out."
            )
        assert max(allowed) < axes
        return tuple(c for count in range(len(allowed) + 1) for c in combinations(allowed, count))

    def _note(self, shape: tuple[int, ...], affine: np.ndarray, tiles: Tiles) -> str:
        size = " x ".join(map(str, shape))
        lengths = np.linalg.norm(affine[:3, :3], axis=0)[::-1]
        spacing = " x ".join(f"{length:.3g}" for length in lengths)
        folds = ", ".join(self.folder.folds)
        several = "folds" if len(self.folder.folds) > 1 else "fold"
        count = len(tiles.windows)
        windows = "1 window" if count == 1 else f"{count} windows"
        mirrored = f"{len(tiles.flips)} mirrorings" if len(tiles.flips) > 1 else "not mirrored"
        return (
            f"prepared as nnU-Net does: {size} voxels of {spacing} seen in {windows}, {several} "
            f"{folds}, {mirrored}"
        )


def _by(numbers: Sequence[float | int]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)


def _moved(affine: np.ndarray, steps_zyx: list[int]) -> np.ndarray:
    out = affine.copy()
    out[:3, 3] += affine[:3, :3] @ np.array(steps_zyx[::-1], float)
    return out
