"""Train the demo's network on phantoms: ``python -m respondcam.cryoet.demo_training --seed 0``.

Each box holds one, two or three phantoms at random places and in random orientations, imaged with
fresh noise of a random strength. The network learns to say of each kind whether the box holds one
(binary cross-entropy of the raw scores): with a softmax, a box with two kinds would have no right
answer, and evidence for one kind could hide as evidence against another.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from respondcam._files import whole_file
from respondcam.cryoet.crowding import crowded_boxes
from respondcam.cryoet.demo import IMAGING, SIZE, demo_densities
from respondcam.cryoet.subtomograms import simulate_subtomograms
from respondcam.network.demo import DemoNetwork

SNR_RANGE = (0.2, 1.0)
PARTICLES = (1, 2, 3)
BATCH = 36


def training_boxes(generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Give batches of images (batch, 1, z, y, x) and presence (batch, kind), without end.

    Every batch holds all numbers of particles and several strengths of noise, because the batch
    normalisation must see in training what it will meet afterwards.

    Examples
    --------
    >>> images, presence = next(training_boxes(torch.Generator().manual_seed(0)))
    >>> images.shape, presence.shape
    (torch.Size([36, 1, 40, 40, 40]), torch.Size([36, 10]))
    """
    low, high = (math.log(snr) for snr in SNR_RANGE)
    while True:
        parts = []
        for particles in 2 * PARTICLES:
            snr = math.exp(low + (high - low) * float(torch.rand((), generator=generator)))
            parts.append(_boxes(BATCH // (2 * len(PARTICLES)), particles, snr, generator))
        images, presence = zip(*parts, strict=True)
        yield torch.cat(images), torch.cat(presence)


def train(steps: int, *, seed: int, report_every: int = 50) -> DemoNetwork:
    """Train a network on a stream of simulated boxes, telling its progress on standard error."""
    torch.manual_seed(seed)
    names, _, _ = demo_densities()
    network = DemoNetwork(len(names))
    last = torch.channels_last_3d  # twice as fast on CPUs
    nn.utils.convert_conv3d_weight_memory_format(network, last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    stream = training_boxes(torch.Generator().manual_seed(seed))
    started = time.monotonic()
    for step in range(1, steps + 1):
        images, presence = next(stream)
        scores = network(images.to(memory_format=last))
        loss = nn.functional.binary_cross_entropy_with_logits(scores, presence)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % report_every == 0 or step == steps:
            seconds = time.monotonic() - started
            print(f"step {step}/{steps}, loss {loss.item():.3f}, {seconds:.0f} s", file=sys.stderr)  # noqa: T201
    return network.eval()


@torch.inference_mode()
def accuracy(network: nn.Module, particles: int, *, boxes: int, seed: int) -> float:
    """Share of fresh boxes of different kinds in which just these have the highest scores."""
    generator = torch.Generator().manual_seed(seed)
    right, seen = 0, 0
    while seen < boxes:
        images, presence = _boxes(BATCH, particles, IMAGING.snr, generator)
        differ = presence.sum(dim=1) == particles
        best = network(images).topk(particles, dim=1).indices
        right += int((presence.gather(1, best).all(dim=1) & differ).sum())
        seen += int(differ.sum())
    return right / seen


def main(arguments: list[str] | None = None) -> None:
    """Train, measure on held-out boxes, and write the weights with what is known about them."""
    parser = argparse.ArgumentParser(description="Train the demo's network on phantoms.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--boxes", type=int, default=300, help="held-out boxes per measurement")
    parser.add_argument("--out", type=Path, default=Path("demo.safetensors"))
    options = parser.parse_args(arguments)
    names, _, _ = demo_densities()
    started = time.monotonic()
    network = train(options.steps, seed=options.seed)
    seconds = time.monotonic() - started
    held_out = {
        str(particles): accuracy(network, particles, boxes=options.boxes, seed=10**6 + particles)
        for particles in (1, 2)
    }
    facts = {
        "command": f"python -m respondcam.cryoet.demo_training --seed {options.seed}",
        "seed": str(options.seed),
        "steps": str(options.steps),
        "seconds": f"{seconds:.0f}",
        "classes": json.dumps(names),
        "held_out_accuracy_by_particles": json.dumps(held_out),
        "held_out_boxes": str(options.boxes),
        "snr": str(IMAGING.snr),
        "torch": torch.__version__,
    }
    with whole_file(options.out) as beside:
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        save_file(state, beside, facts)
    print(json.dumps(facts, indent=1))  # noqa: T201


def _boxes(
    count: int, particles: int, snr: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images (count, 1, z, y, x) of boxes with that many particles, and presence (count, kind)."""
    _, densities, radii = demo_densities()
    labels, poses = crowded_boxes(radii, count, particles, size=SIZE, generator=generator)
    boxes = simulate_subtomograms(
        densities, labels, poses, replace(IMAGING, snr=snr), size=SIZE, generator=generator
    )
    return boxes.volumes, torch.zeros(count, len(densities)).scatter(1, labels, 1.0)


if __name__ == "__main__":
    main()
