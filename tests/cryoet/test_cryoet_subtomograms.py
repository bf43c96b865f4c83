"""Simulated subtomograms: truth and image agree, all is seeded, wrong requests are errors."""

import math

import numpy as np
import pytest
import torch

from respondcam.cryoet.crowding import crowded_boxes
from respondcam.cryoet.imaging import Imaging, image_boxes
from respondcam.cryoet.phantoms import phantom
from respondcam.cryoet.poses import Poses, place_densities, random_poses
from respondcam.cryoet.subtomograms import density_radius, simulate_subtomograms
from respondcam.errors import InputError

NAMES = ["groel", "apoferritin", "p97"]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def densities():
    return torch.stack([torch.tensor(phantom(name, size=20).voxels) for name in NAMES])


def test_one_particle_per_box_is_the_placed_density_imaged(densities):
    labels = torch.tensor([2, 0, 1, 1])
    poses = random_poses(4, max_shift_voxels=2.0, generator=seeded())
    imaging = Imaging(snr=0.5)
    boxes = simulate_subtomograms(densities, labels, poses, imaging, size=24, generator=seeded(5))
    placed = place_densities(densities[labels], poses, size=24)
    torch.testing.assert_close(
        boxes.volumes[:, 0], image_boxes(placed, imaging, generator=seeded(5))
    )
    assert boxes.volumes.shape == (4, 1, 24, 24, 24)
    assert torch.equal(boxes.labels, labels)
    assert torch.equal(boxes.poses.rotations, poses.rotations)
    maxima = densities[labels].amax(dim=(1, 2, 3), keepdim=True)
    assert torch.equal(boxes.masks, placed > 0.25 * maxima)


def test_masks_follow_the_shifts(densities):
    shifts = torch.tensor([[3.0, 0.0, 0.0], [0.0, -2.0, 1.0]])
    poses = Poses(random_poses(2, generator=seeded()).rotations, shifts)
    masks = simulate_subtomograms(
        densities, torch.tensor([0, 1]), poses, Imaging(), size=25, generator=seeded()
    ).masks
    for mask, shift in zip(masks, shifts, strict=True):
        centre = mask.nonzero().double().mean(dim=0) - 12
        np.testing.assert_allclose(centre.flip(0), shift, atol=0.3)


def test_several_particles_share_a_box(densities):
    radii = torch.tensor([density_radius(density) for density in densities])
    labels, poses = crowded_boxes(radii, 3, 2, size=40, generator=seeded())
    both = simulate_subtomograms(densities, labels, poses, Imaging(), size=40, generator=seeded())
    assert both.masks.shape == (3, 2, 40, 40, 40)
    assert both.volumes.shape == (3, 1, 40, 40, 40)
    assert not (both.masks[:, 0] & both.masks[:, 1]).any()
    assert both.masks.flatten(2).any(dim=2).all()
    # the image of the sum is the sum of the images, as nothing but the scale is not linear
    flat = Poses(poses.rotations.flatten(0, 1), poses.shifts.flatten(0, 1))
    placed = place_densities(densities[labels.flatten()], flat, size=40)
    total = placed.reshape(3, 2, 40, 40, 40).sum(dim=1)
    torch.testing.assert_close(
        both.volumes[:, 0], image_boxes(total, Imaging(), generator=seeded())
    )


def test_images_show_their_particles(densities):
    """Bright where the mask is, on average, although the noise is stronger than the signal."""
    labels = torch.arange(30) % 3
    poses = random_poses(30, generator=seeded())
    boxes = simulate_subtomograms(
        densities, labels, poses, Imaging(snr=0.3), size=24, generator=seeded()
    )
    images = boxes.volumes[:, 0]
    inside = torch.stack(
        [image[mask].mean() for image, mask in zip(images, boxes.masks, strict=True)]
    )
    outside = torch.stack(
        [image[~mask].mean() for image, mask in zip(images, boxes.masks, strict=True)]
    )
    assert (inside > outside + 0.1).all()


def test_the_same_seed_gives_the_same_and_another_one_not(densities):
    labels = torch.tensor([0, 1])
    poses = random_poses(2, generator=seeded())

    def images(seed):
        imaging = Imaging(snr=0.2)
        return simulate_subtomograms(
            densities, labels, poses, imaging, size=24, generator=seeded(seed)
        ).volumes

    assert torch.equal(images(1), images(1))
    assert not torch.allclose(images(1), images(2), atol=0.5)


def test_finer_densities_give_the_same_images(densities):
    fine = torch.tensor(
        phantom("groel", size=50, voxel_size_angstrom=4.0, resolution_angstrom=20.0).voxels
    )
    poses = random_poses(1, generator=seeded())
    images = [
        simulate_subtomograms(
            density[None],
            torch.tensor([0]),
            poses,
            Imaging(),
            size=24,
            density_voxel_size_angstrom=voxel,
            generator=seeded(),
        ).volumes.flatten()
        for density, voxel in [(densities[0], None), (fine, 4.0)]
    ]
    assert torch.corrcoef(torch.stack(images))[0, 1] > 0.98


def test_radius_is_that_of_the_voxels_above_a_quarter():
    z, y, x = torch.meshgrid(*[torch.arange(31) - 15.0] * 3, indexing="ij")
    distance = (z**2 + y**2 + x**2).sqrt()
    ball = (1 - distance / 12).clamp(min=0)  # falls to a quarter at 9 voxels
    assert density_radius(ball) == pytest.approx(9, abs=0.6)


@pytest.mark.parametrize(
    ("labels", "count", "size", "says"),
    [
        ([0, 3], 2, 24, "labels from 0 to 3"),
        ([-1, 0], 2, 24, "labels from -1 to 0"),
        ([0, 1], 3, 24, "random_poses"),
        ([0, 1], 2, 12, "density 0 is larger than the box: 1\\d.\\d of its voxels"),
    ],
)
def test_requests_that_do_not_fit_are_errors(densities, labels, count, size, says):
    poses = random_poses(count, generator=seeded())
    with pytest.raises(InputError, match=says):
        simulate_subtomograms(
            densities, torch.tensor(labels), poses, Imaging(), size=size, generator=seeded()
        )


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_density_that_is_none_is_an_error(value):
    poses = random_poses(1, generator=seeded())
    with pytest.raises(InputError, match="density 0 has no positive voxel"):
        simulate_subtomograms(
            torch.full((1, 8, 8, 8), value),
            torch.tensor([0]),
            poses,
            Imaging(),
            size=8,
            generator=seeded(),
        )
