"""What a map of each family costs, beside inference and the backward pass of its head.

``python -m families`` from the benchmarks folder prints one line for each family. Each round times,
in an order drawn anew and in processor time: the plain network; the same network with autograd from
the explained layer on and one gradient there, written out by hand (the least that any gradient
method needs); and the map. The first map of a network, which also traces it, is left out. Printed
is the lower quartile of each, since other programs on the machine only ever add to a time. With
``--device cuda`` the wall clock is read, when the GPU is done, and what it holds at most.

The inputs of the catalogue are small, so that its tests are quick; ``--times 3`` makes each spatial
axis three times as long where the network takes that.
"""

import argparse
import importlib.util
import random
import statistics
import warnings
from collections.abc import Callable
from typing import Any

import clock
import torch
from history import remember
from torch import Tensor, nn

from families.catalogue import FAMILIES, Family


def weighted(output: Tensor) -> Tensor:
    """One score per sample."""
    column = output[:, min(1, output.shape[1] - 1)]
    return column if column.ndim == 1 else column.flatten(1).mean(dim=1)


def by_hand(family: Family, model: nn.Module, inputs: Any) -> Callable[[], Any]:
    """Inference up to the layer, autograd from there on, one gradient."""
    name, _, number = family.layer.partition("#")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    given = inputs if isinstance(inputs, tuple) else (inputs,)

    def run() -> Tensor:
        leaves: list[Tensor] = []

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            chosen = output[0] if isinstance(output, tuple) else output
            leaf = chosen.detach().requires_grad_(True)
            leaves.append(leaf)
            torch.set_grad_enabled(True)
            return (leaf.clone(), *output[1:]) if isinstance(output, tuple) else leaf.clone()

        handle = model.get_submodule(name).register_forward_hook(hook)
        with torch.no_grad():
            out = model(*given)
            torch.set_grad_enabled(True)
            out = out if family.output is None else family.output(out)
            out = out[None] if out.ndim == 1 and len(given[0]) == 1 else out
            (gradient,) = torch.autograd.grad(
                weighted(out).sum(), leaves[int(number) if number else -1]
            )
        handle.remove()
        return gradient

    return run


def enlarged(family: Family, times: int) -> Any:
    """Inputs with spatial axes that many times as long, or as they are if the network refuses."""
    inputs = family.inputs()
    if times == 1:
        return inputs

    def longer(tensor: Tensor) -> Tensor:
        if tensor.ndim < 3:
            return tensor
        return tensor.repeat(1, 1, *(times for _ in tensor.shape[2:]))

    larger = tuple(map(longer, inputs)) if isinstance(inputs, tuple) else longer(inputs)
    try:
        with torch.inference_mode():
            family.network()(*(larger if isinstance(larger, tuple) else (larger,)))
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return inputs
    return larger


def runners(family: Family, times: int = 1, device: str = "cpu") -> dict[str, Callable[[], Any]]:
    """What is timed, by name."""
    import respondcam as rc

    model, inputs = clock.on(device, family.network()), clock.on(device, enlarged(family, times))
    network = clock.on(device, family.network())
    explainer = rc.RespondCAM(network, family.layer, output=family.output)
    given = inputs if isinstance(inputs, tuple) else (inputs,)

    def inference() -> Any:
        with torch.inference_mode():
            return model(*given)

    return {
        "inference": inference,
        "by hand": by_hand(family, clock.on(device, family.network()), inputs),
        "map": lambda: explainer(inputs, target=weighted),
    }


def milliseconds(
    timed: dict[str, Callable[[], Any]], seconds: float, device: str
) -> dict[str, list[float]]:
    """Time of each runner, interleaved."""
    for run in timed.values():
        run()
        run()
    order, found = random.Random(0), {name: [] for name in timed}
    start = clock.now(device)
    while clock.now(device) - start < seconds or len(found["map"]) < 5:
        for name in order.sample(list(timed), len(timed)):
            before = clock.now(device)
            timed[name]()
            found[name].append(1e3 * (clock.now(device) - before))
    return found


def main() -> None:
    """Print the table."""
    given = argparse.ArgumentParser(description=__doc__)
    given.add_argument("families", nargs="*", help="names; all of them unless given")
    given.add_argument("--seconds", type=float, default=4.0, help="time for each family")
    given.add_argument("--device", default="cpu")
    given.add_argument("--times", type=int, default=1, help="how much longer the input's axes are")
    asked = given.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'family':34s} {'inference':>10s} {'by hand':>9s} {'map':>9s}  map / by hand")
    figures: dict[str, float] = {}
    for name in asked.families or FAMILIES:
        family = FAMILIES[name]
        if not importlib.util.find_spec(family.needs):
            print(f"{name:34s} {family.needs} is not installed")
            continue
        timed = runners(family, asked.times, asked.device)
        found = milliseconds(timed, asked.seconds, asked.device)
        low = {what: statistics.quantiles(times)[0] for what, times in found.items()}
        figures[f"{name}: map / by hand"] = round(low["map"] / low["by hand"], 4)
        figures[f"{name}: map / inference"] = round(low["map"] / low["inference"], 4)
        memory = ""
        if torch.device(asked.device).type == "cuda":
            peak = {what: clock.peak_mib(asked.device, run) for what, run in timed.items()}
            ratio = peak["map"] / peak["inference"]
            figures[f"{name}: peak memory, map / inference"] = round(ratio, 4)
            memory = f"  peak {peak['inference']:.1f} MiB, map / inference {ratio:.2f}"
        print(
            f"{name:34s} {low['inference']:7.1f} ms {low['by hand']:6.1f} ms "
            f"{low['map']:6.1f} ms  {low['map'] / low['by hand']:.3f}{memory}",
            flush=True,
        )
    if figures:
        given_as = {"seconds": asked.seconds, "times": asked.times}
        remember("families of networks", figures, device=clock.name(asked.device), **given_as)


if __name__ == "__main__":
    main()
