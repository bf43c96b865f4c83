"""The demo's network, ready to use, and scenes to show it: two phantoms in one noisy box."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import torch
from jaxtyping import Bool
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from respondcam.cryoet.imaging import CTF, Imaging
from respondcam.cryoet.phantoms import PHANTOMS, phantom
from respondcam.cryoet.poses import Poses, uniform_rotations
from respondcam.cryoet.subtomograms import density_radius, simulate_subtomograms
from respondcam.network.demo import DemoNetwork
from respondcam.volume import Volume

SIZE = 40  # voxels of a box along each axis
WEIGHTS = resources.files("respondcam.cryoet") / "weights" / "demo.safetensors"
# noisy, and yet a person can see the particles too
IMAGING = Imaging(
    voxel_size_angstrom=10.0, resolution_angstrom=30.0, ctf=CTF(defocus_um=4.0), snr=0.3
)


@dataclass(frozen=True, eq=False)
class DemoScene:
    """Two particles in one box, and the truth about them.

    Parameters
    ----------
    volume
        The image.
    classes
        Names of the left (small x) and the right particle.
    masks
        Voxels of each particle.
    poses
        Rotation and place of each particle.
    """

    volume: Volume
    classes: tuple[str, str]
    masks: Bool[Tensor, "2 z y x"]
    poses: Poses


def demo_network() -> tuple[DemoNetwork, tuple[str, ...]]:
    """Load the network in the package that recognises phantoms, and the names of its classes.

    It was trained by ``python -m respondcam.cryoet.demo_training`` to say of each kind of phantom
    whether a box of 40 voxels of 10 Å holds one; `demo_facts` tells how well it does. Images are
    given standardised (mean 0, standard deviation 1).

    Returns
    -------
    network, class_names
        In evaluation mode; a positive score says that the kind is in the box.

    Examples
    --------
    >>> network, class_names = demo_network()
    >>> class_names[:2]
    ('groel', 'proteasome-20s')
    """
    names = tuple(json.loads(demo_facts()["classes"]))
    network = DemoNetwork(len(names))
    with resources.as_file(WEIGHTS) as path:
        network.load_state_dict(load_file(path))
    return network.eval(), names


def demo_facts() -> dict[str, str]:
    """What the weights file says about itself: command, seed, classes, accuracy on held-out boxes.

    Examples
    --------
    >>> demo_facts()["command"]
    'python -m respondcam.cryoet.demo_training --seed 0'
    """
    with resources.as_file(WEIGHTS) as path, safe_open(path, framework="pt") as weights:
        return dict(weights.metadata())


def demo_scene(seed: int = 0) -> DemoScene:
    """Simulate a box with two different phantoms side by side along x.

    Examples
    --------
    >>> scene = demo_scene(seed=0)
    >>> scene.volume
    Volume(z, y, x = 40, 40, 40; voxel 10 x 10 x 10 angstrom)
    >>> len(set(scene.classes))
    2
    """
    generator = torch.Generator().manual_seed(seed)
    names, densities, radii = demo_densities()
    while True:
        labels = torch.randperm(len(names), generator=generator)[:2]
        left, right = radii[labels].tolist()
        spare = SIZE - 2 * (left + right)
        if spare >= 0:
            break
    # the room that is left over is shared by both borders and the gap between the particles
    middle = SIZE / 2
    x = torch.tensor([spare / 3 + left - middle, middle - spare / 3 - right])
    shifts = torch.stack([x, torch.zeros(2), torch.zeros(2)], dim=1)
    poses = Poses(uniform_rotations(2, generator=generator)[None], shifts[None])
    boxes = simulate_subtomograms(
        densities, labels[None], poses, IMAGING, size=SIZE, generator=generator
    )
    affine = torch.diag(torch.tensor([IMAGING.voxel_size_angstrom] * 3 + [1.0])).numpy()
    return DemoScene(
        volume=Volume(boxes.volumes[0, 0].numpy(), affine, "angstrom"),
        classes=(names[labels[0]], names[labels[1]]),
        masks=boxes.masks[0],
        poses=Poses(poses.rotations[0], poses.shifts[0]),
    )


def demo_volume(seed: int = 0) -> Volume:
    """Give the image alone of `demo_scene`.

    Examples
    --------
    >>> demo_volume(seed=1).unit
    'angstrom'
    """
    return demo_scene(seed).volume


@cache
def demo_densities() -> tuple[tuple[str, ...], Tensor, Tensor]:
    """Names, densities (kind, z, y, x) and radii in voxels of all phantoms, in the demo's boxes.

    Examples
    --------
    >>> names, densities, radii = demo_densities()
    >>> len(names) == len(densities) == len(radii)
    True
    """
    names = tuple(PHANTOMS)
    volumes = [
        phantom(name, size=SIZE, voxel_size_angstrom=IMAGING.voxel_size_angstrom) for name in names
    ]
    densities = torch.stack([torch.tensor(volume.voxels) for volume in volumes])
    radii = torch.tensor([density_radius(density) for density in densities])
    return names, densities, radii
