"""The demo: its network recognises phantoms, and its maps show who spoke for which class."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from respondcam.cryoet.demo import (
    IMAGING,
    WEIGHTS,
    demo_densities,
    demo_facts,
    demo_network,
    demo_scene,
    demo_volume,
)
from respondcam.cryoet.demo_training import accuracy, main, training_boxes
from respondcam.cryoet.phantoms import PHANTOMS


def test_weights_are_small_and_say_where_they_come_from():
    assert WEIGHTS.is_file()
    assert len(WEIGHTS.read_bytes()) < 2 * 2**20
    facts = demo_facts()
    assert facts["command"].startswith("python -m respondcam.cryoet.demo_training --seed")
    assert json.loads(facts["classes"]) == list(PHANTOMS)
    assert json.loads(facts["held_out_accuracy_by_particles"])["1"] >= 0.95
    assert float(facts["snr"]) == IMAGING.snr


@pytest.mark.slow
def test_the_network_is_as_accurate_as_its_file_says():
    network, _ = demo_network()
    stated = json.loads(demo_facts()["held_out_accuracy_by_particles"])
    for particles in (1, 2):
        measured = accuracy(network, particles, boxes=320, seed=5 + particles)
        spread = 4 * np.sqrt(stated[str(particles)] * (1 - stated[str(particles)]) / 320) + 0.01
        assert measured == pytest.approx(stated[str(particles)], abs=spread)
    assert accuracy(network, 1, boxes=320, seed=9) >= 0.95


def test_the_network_is_ready_to_run():
    network, names = demo_network()
    assert not network.training
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())
    scores = network(torch.tensor(demo_volume(0).voxels)[None, None])
    assert scores.shape == (1, len(names))


def test_scenes_hold_two_different_particles_side_by_side():
    names, densities, _ = demo_densities()
    for seed in range(12):
        scene = demo_scene(seed)
        assert len(set(scene.classes) & set(names)) == 2
        assert not (scene.masks[0] & scene.masks[1]).any()
        centres = [mask.nonzero().double().mean(dim=0) for mask in scene.masks]
        assert centres[0][2] + 8 < centres[1][2]
        for name, mask in zip(scene.classes, scene.masks, strict=True):
            density = densities[names.index(name)]
            whole = (density > 0.25 * density.max()).sum().item()
            assert mask.sum().item() == pytest.approx(whole, rel=0.15)
        voxels = scene.volume.voxels
        assert scene.volume.unit == "angstrom"
        assert scene.volume.voxel_size == (10, 10, 10)
        assert voxels.std() == pytest.approx(1, abs=1e-3)


def test_scenes_are_the_same_for_one_seed_and_differ_between_seeds():
    one, again, other = demo_scene(4), demo_scene(4), demo_scene(5)
    np.testing.assert_array_equal(one.volume.voxels, again.volume.voxels)
    assert one.classes == again.classes
    assert not np.allclose(one.volume.voxels, other.volume.voxels, atol=0.5)
    np.testing.assert_array_equal(demo_volume(4).voxels, one.volume.voxels)


def maps_of(scene):
    """Respond-CAM at conv5 for both classes of a scene, written out; and the scores."""
    network, names = demo_network()
    network.double()
    x = torch.tensor(scene.volume.voxels, dtype=torch.float64)[None, None]
    with torch.no_grad():
        activation = network.conv5(network.features(x))
    activation.requires_grad_()
    scores = network.head(activation.mean(dim=(2, 3, 4)))[0]
    found = []
    for name in scene.classes:
        score = scores[names.index(name)]
        (gradient,) = torch.autograd.grad(score, activation, retain_graph=True)
        weights = (activation * gradient).sum(dim=(2, 3, 4)) / (
            activation.sum(dim=(2, 3, 4)) + 1e-12
        )
        found.append((weights[..., None, None, None] * activation).sum(dim=1)[0].detach())
    return torch.stack(found), scores.detach(), network, names


def test_sum_of_the_map_is_the_score_less_the_bias():
    scene = demo_scene(0)
    maps, scores, network, names = maps_of(scene)
    for name, found in zip(scene.classes, maps, strict=True):
        index = names.index(name)
        explained = scores[index] - network.head.bias[index]
        torch.testing.assert_close(found.sum(), explained.detach(), rtol=1e-6, atol=1e-9)


def test_maps_show_the_particle_of_their_class_and_not_its_neighbour():
    own, other, by_chance = [], [], []
    for seed in range(20):
        scene = demo_scene(seed)
        maps, _, _, _ = maps_of(scene)
        # cell i of the layer's grid is centred on voxel 4 i
        masks = torch.nn.functional.max_pool3d(scene.masks.double(), 9, 1, 4)[:, ::4, ::4, ::4]
        positive = maps.clamp(min=0)
        share = (
            torch.einsum("czyx,mzyx->cm", positive, masks) / positive.sum(dim=(1, 2, 3))[:, None]
        )
        own += share.diagonal().tolist()
        other += share.fliplr().diagonal().tolist()
        by_chance += masks.mean(dim=(1, 2, 3)).tolist()
    assert np.mean(own) > 0.6
    assert np.mean(own) > 4 * np.mean(other)
    assert np.mean(own) > 3 * np.mean(by_chance)
    assert np.mean(np.array(own) > np.array(other)) > 0.9


def test_training_boxes_say_which_kinds_they_hold_and_are_seeded():
    stream = training_boxes(torch.Generator().manual_seed(3))
    counts = set()
    for _ in range(6):
        images, presence = next(stream)
        assert images.shape == (36, 1, 40, 40, 40)
        assert set(presence.unique().tolist()) == {0, 1}
        counts |= set(presence.sum(dim=1).tolist())
    assert counts >= {1, 2}
    first, _ = next(training_boxes(torch.Generator().manual_seed(3)))
    again, _ = next(training_boxes(torch.Generator().manual_seed(3)))
    assert torch.equal(first, again)


@pytest.mark.slow
def test_the_command_writes_weights_that_load(tmp_path, capsys):
    out = tmp_path / "short.safetensors"
    main(["--steps", "2", "--boxes", "32", "--seed", "1", "--out", str(out)])
    assert json.loads(capsys.readouterr().out)["seed"] == "1"
    with safe_open(out, framework="pt") as weights:
        assert set(weights.keys()) == set(demo_network()[0].state_dict())
        assert weights.metadata()["steps"] == "2"
