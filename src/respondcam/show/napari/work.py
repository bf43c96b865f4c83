"""What the panel's button does, apart from the panel: from a volume and settings to layers.

The work is a generator that says what it is about to do, so that whoever runs it, in a thread or
not, can show that and stop in between. In between is also before every module of the network.
"""

import contextlib
import json
import shlex
import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from respondcam.errors import InputError, is_out_of_memory
from respondcam.show.napari.layers import LayerData, explanation_layers
from respondcam.volume import NORMALIZATIONS, Volume

if TYPE_CHECKING:
    from respondcam.attribution import Explanation
    from respondcam.network.inspection import LayerTable
    from respondcam.network.sources import LoadedModel

AXES = ("zyx", "xyz")
DEVICES = ("auto", "cpu", "cuda")
STEPS = 4
"""How often `explain` says something."""


@dataclass(frozen=True)
class Asked:
    """What the panel's fields say.

    Parameters
    ----------
    model, weights, trust, arguments
        The network, as for ``respondcam explain``; arguments by name.
    layer
        Its name; empty for the one that the library chooses.
    target
        As typed: predicted, all, a class, ...
    method
        A name of `respondcam.METHODS`.
    normalize
        A name of `NORMALIZATIONS`.
    axes
        Order in which the network takes the spatial axes: zyx or xyz.
    resolution
        ``"input"`` or ``"layer"``, as for `explanation_layers`.
    device
        Where the network runs: auto is a CUDA device if there is one.
    """

    model: str
    weights: str = ""
    trust: bool = False
    arguments: tuple[tuple[str, Any], ...] = ()
    layer: str = ""
    target: str = "predicted"
    method: str = "respond"
    normalize: str = "none"
    axes: str = "zyx"
    resolution: str = "input"
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise InputError("No model is named. Give one, such as demo or mynet.py:build.")
        for name, value, accepted in (
            ("normalize", self.normalize, tuple(NORMALIZATIONS)),
            ("axes", self.axes, AXES),
            ("resolution", self.resolution, ("input", "layer")),
            ("device", self.device, DEVICES),
        ):
            if value not in accepted:
                raise InputError(f"{name} is {value!r}. Accepted: {', '.join(accepted)}.")

    @property
    def network(self) -> tuple[Any, ...]:
        """What decides on the network alone."""
        return self.model, self.weights, self.trust, repr(self.arguments), self.device


class Cancelled(BaseException):  # not an Exception: nothing on the way may take it for a failure
    """The work was stopped; network and process are as before."""


@dataclass
class Networks:
    """The network that was loaded last, so that the next map does not load it again."""

    key: tuple[Any, ...] = ()
    loaded: "LoadedModel | None" = None

    def get(self, asked: Asked) -> "LoadedModel":
        """Load the network that is asked for, unless it is there.

        Raises
        ------
        InputError
            If it cannot be loaded.
        """
        import torch

        from respondcam.network.sources import load_model

        if self.loaded is None or self.key != asked.network:
            where = _device(asked.device)
            self.loaded = None  # two would take the memory of two
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # without weights it is at least the same one next time
                loaded = load_model(
                    asked.model.strip(),
                    weights=asked.weights.strip() or None,
                    trust=asked.trust,
                    arguments=dict(asked.arguments),
                )
            for network in (loaded.module, *loaded.others):
                network.to(where)
            self.loaded, self.key = loaded, asked.network
        return self.loaded


def _device(name: str) -> str:
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device is 'cuda', but PyTorch finds none here. Choose auto or cpu.")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Choices:
    """What the panel offers once the network is known.

    Parameters
    ----------
    layers
        The preflight table.
    class_names
        Of the network, if it has any.
    """

    layers: "LayerTable"
    class_names: tuple[str, ...]

    @property
    def layer_names(self) -> list[str]:
        """Layers that have a map: those with a grid that the score depends on."""
        return [row.name for row in self.layers if row.grid is not None and row.reached]


@dataclass(frozen=True)
class Failure:
    """What went wrong, in words; and the error if it is no mistake that a user can mend."""

    message: str
    fault: Exception | None = None


def in_words(work: Generator[str, None, Any]) -> Generator[str, None, Any]:
    """Run other work of this module; it ends with a `Failure` where that raises.

    None is its result if it was cancelled. Nothing is raised, since what a thread raises is
    shown with a traceback, or not at all.
    """
    try:
        return (yield from work)
    except Cancelled:
        return None
    except InputError as error:
        return Failure(str(error))
    except OSError as error:
        where = f"{error.filename!r}: " if error.filename else ""
        return Failure(f"{where}{error.strerror or error}.")
    except Exception as error:
        if is_out_of_memory(error):
            return Failure("There is not enough memory. Crop the volume and try again.")
        text = " ".join(str(error).split())[:300]
        message = f"Something went wrong inside respondcam ({type(error).__name__}: {text})."
        return Failure(message, error)


def look(
    asked: Asked, volume: Volume, networks: Networks, stop: threading.Event | None = None
) -> Generator[str, None, Choices]:
    """Find the layers of the network that could be explained on this volume.

    Parameters
    ----------
    asked, volume
        The network, and an image that it takes.
    networks
        Holds the network from one time to the next.
    stop
        Once it is set, the work ends before the next module of the network.

    Raises
    ------
    InputError
        If the network cannot be loaded, or does not run on the volume.
    Cancelled
        If it was stopped.
    """
    from respondcam.network.inspection import inspect

    yield "loading the network"
    loaded = networks.get(asked)
    yield "running it on the volume"
    if loaded.preparation is not None:
        example = loaded.preparation.prepare(volume).window()
    else:
        example = _as_network_sees(asked, volume).tensor()
    with _stoppable(stop):
        where = next(loaded.module.parameters(), example).device
        return Choices(inspect(loaded.module, example.to(where)), loaded.class_names)


def explain(
    asked: Asked, volume: Volume, networks: Networks, stop: threading.Event | None = None
) -> Generator[str, None, list[LayerData]]:
    """Make the maps of a volume, as layers of napari.

    Parameters
    ----------
    asked, volume, networks, stop
        As for `look`.

    Raises
    ------
    InputError
        If anything that was asked for cannot be done; the message says what to change.
    Cancelled
        If it was stopped.
    """
    yield "loading the network"
    loaded = networks.get(asked)
    yield "running it on the volume"
    with _stoppable(stop):
        found = _explanation(asked, volume, loaded)
    yield "adding up the account"
    with _stoppable(stop):
        _ = found.account
    yield "placing the map"
    about = {
        "model": asked.model,
        "weights": asked.weights,
        "normalize": asked.normalize,
        "volume": str(volume.source or ""),
        "layer_reason": found.layer_reason,
    }
    return explanation_layers(
        found,
        resolution=asked.resolution,  # type: ignore[arg-type]
        turned=asked.axes == "xyz",
        about=about,
    )


def arguments_of(text: str) -> tuple[tuple[str, Any], ...]:
    """Read arguments of a factory: NAME=VALUE with values as JSON or text, spaces in between.

    Examples
    --------
    >>> arguments_of('classes=5 norm=batch spatial="[8, 8]"')
    (('classes', 5), ('norm', 'batch'), ('spatial', [8, 8]))
    """
    found = []
    try:
        pairs = shlex.split(text)
    except ValueError as error:
        raise InputError(f"The arguments are {text!r}: {error}.") from error
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(
                f"The arguments hold {pair!r}. Accepted: NAME=VALUE, such as classes=5, with "
                f"spaces in between."
            )
        try:
            found.append((name, json.loads(value)))
        except json.JSONDecodeError:
            found.append((name, value))
    return tuple(found)


def drain(work: Generator[str, None, Any], say: Callable[[str], None] = lambda _: None) -> Any:
    """Run a generator of this module to its end and give what it returns.

    Examples
    --------
    >>> from respondcam.show.napari.sample import phantoms
    >>> volume = phantoms()[0][1]["metadata"]["respondcam"]["volume"]
    >>> layers = drain(explain(Asked("demo", normalize="zscore"), volume, Networks()))
    >>> layers[0][1]["name"]
    'proteasome-20s (predicted) · conv5 · respond'
    """
    while True:
        try:
            say(next(work))
        except StopIteration as end:
            return end.value


def _explanation(asked: Asked, volume: Volume, loaded: "LoadedModel") -> "Explanation":
    from respondcam.attribution.methods import make
    from respondcam.attribution.prepared import explain_prepared
    from respondcam.attribution.targets.words import parse_target

    explainers = [
        make(asked.method, network, asked.layer.strip() or None)
        for network in (loaded.module, *loaded.others)
    ]
    prepared = None
    if loaded.preparation is not None:
        _no_preparation_of_ours(asked)
        prepared = loaded.preparation.prepare(volume)
    goal = parse_target(
        asked.target.strip(),
        loaded.class_names,
        image=volume,
        turned=asked.axes == "xyz",
        prepared=prepared,
        overlapping=loaded.overlapping,
        option="the target",
    )
    if prepared is not None:
        found = explain_prepared(explainers, prepared, goal)
    else:
        found = explainers[0](_as_network_sees(asked, volume), goal)
    one: Explanation = found[0] if isinstance(found, tuple) else found
    return one.named(loaded.class_names)


def _as_network_sees(asked: Asked, volume: Volume) -> Volume:
    voxels = volume.voxels.reshape(volume.channels, *volume.shape)
    normalized = volume.with_voxels(NORMALIZATIONS[asked.normalize](voxels))
    return normalized.transposed() if asked.axes == "xyz" else normalized


def _no_preparation_of_ours(asked: Asked) -> None:
    if (asked.normalize, asked.axes) != ("none", "zyx"):
        raise InputError(
            f"normalize is {asked.normalize!r} and axes {asked.axes!r}, but {asked.model} comes "
            f"with its own preprocessing, which decides that. Choose none and zyx."
        )


@contextlib.contextmanager
def _stoppable(stop: threading.Event | None) -> Generator[None, None, None]:
    """Raise `Cancelled` before the next module that this thread runs, once `stop` is set."""
    if stop is None:
        yield
        return
    from torch.nn.modules.module import register_module_forward_pre_hook

    mine = threading.get_ident()

    def check(module: Any, inputs: Sequence[Any]) -> None:
        if stop.is_set() and threading.get_ident() == mine:
            raise Cancelled

    hook = register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        hook.remove()
