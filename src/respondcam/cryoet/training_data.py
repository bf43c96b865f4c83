"""What a network is trained on: a stream of simulated subtomograms, or a folder of volumes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from respondcam.cryoet.imaging import Imaging, noise_for
from respondcam.cryoet.poses import random_poses
from respondcam.cryoet.subtomograms import simulate_subtomograms
from respondcam.errors import InputError

_AT_ONCE = 64
# Half turns about y, x and z as flips of two axes: a tilt series looks the same after them.
_HALF_TURNS = ((), (1, 3), (1, 2), (2, 3))


@dataclass(frozen=True, eq=False)
class Images:
    """Volumes with their classes.

    Parameters
    ----------
    volumes
        In float16, which halves what they take; each has mean 0 and standard deviation 1.
    labels
        Class of each.
    imaging
        How noise is added when a batch is drawn, and which half turns leave the wedge as it is;
        None for images that are used as they are.
    """

    volumes: Float[Tensor, "image z y x"]
    labels: Int[Tensor, "image"]
    imaging: Imaging | None = None

    def batches(
        self,
        size: int,
        *,
        seed: int,
        shuffle: bool = True,
        device: torch.device | str = "cpu",
    ) -> Iterator[tuple[Float[Tensor, "batch 1 z y x"], Int[Tensor, "batch"]]]:
        """Go through all images once, each with fresh noise; the same seed gives the same.

        With `shuffle` in a random order and after a random half turn, where the images are
        simulated, and only in whole batches if there is one. Noise is drawn on `device`, whose
        generator is another on every kind of device.
        """
        generator = torch.Generator().manual_seed(seed)
        noise = torch.Generator(device).manual_seed(seed + 1)
        count = len(self.labels)
        order = torch.randperm(count, generator=generator) if shuffle else torch.arange(count)
        whole = count - count % size if shuffle and count >= size else count
        for chosen in order[:whole].split(size):
            images = self.volumes[chosen].to(device).float()
            if self.imaging is not None:
                images = _imaged(images, self.imaging, noise, turned=shuffle)
            yield images[:, None], self.labels[chosen].to(device)

    def __len__(self) -> int:
        return len(self.labels)


def simulated_images(
    densities: Float[Tensor, "density depth height width"],
    imaging: Imaging,
    *,
    per_class: int,
    size: int,
    max_shift_voxels: float,
    seed: int,
) -> Images:
    """Simulate noise-free subtomograms in random poses, to which batches add noise.

    Placing a density takes much longer than drawing noise. So the poses are drawn once, and every
    batch gets noise of its own.

    Examples
    --------
    >>> density = torch.zeros(2, 16, 16, 16)
    >>> density[0, 6:10, 6:10, 6:10] = density[1, 4:12, 7:9, 7:9] = 1
    >>> images = simulated_images(
    ...     density, Imaging(snr=0.5), per_class=4, size=16, max_shift_voxels=1.0, seed=0)
    >>> len(images), [len(labels) for _, labels in images.batches(6, seed=1)]
    (8, [6])
    """
    if per_class < 1:
        raise InputError(f"per_class={per_class}: give at least one subtomogram of each class.")
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(len(densities)).repeat(per_class)
    clean = replace(imaging, snr=math.inf)
    volumes = torch.empty(len(labels), size, size, size, dtype=torch.float16)
    for some in torch.arange(len(labels)).split(_AT_ONCE):
        poses = random_poses(len(some), max_shift_voxels=max_shift_voxels, generator=generator)
        boxes = simulate_subtomograms(
            densities, labels[some], poses, clean, size=size, generator=generator
        )
        volumes[some] = boxes.volumes[:, 0].half()
    return Images(volumes, labels, imaging)


def _imaged(
    images: Float[Tensor, "batch z y x"],
    imaging: Imaging,
    generator: torch.Generator,
    *,
    turned: bool,
) -> Float[Tensor, "batch z y x"]:
    if turned:
        low, high = imaging.tilt_degrees
        turns = _HALF_TURNS if low == -high else _HALF_TURNS[:2]
        which = torch.randint(
            len(turns), (len(images),), generator=generator, device=generator.device
        )
        images = images.clone()
        for number, axes in enumerate(turns):
            if axes and bool((which == number).any()):
                images[which == number] = images[which == number].flip(axes)
    if not math.isinf(imaging.snr):
        images = images + noise_for(images, imaging, generator)
    return images / images.std(dim=(1, 2, 3), correction=0, keepdim=True)
