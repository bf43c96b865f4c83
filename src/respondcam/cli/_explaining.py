"""From one source to its explanations: read, normalise, run, and collect what was said about it."""

import hashlib
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch

from respondcam.attribution import (
    METHODS,
    ChannelContributions,
    Explainer,
    Explanation,
    channel_contributions,
)
from respondcam.attribution.explanation import Resolution
from respondcam.attribution.methods import make
from respondcam.attribution.naming import check_names, with_names
from respondcam.attribution.outputs import ONE_NUMBER, output_part
from respondcam.attribution.prepared import explain_prepared
from respondcam.attribution.targets.words import parse_target
from respondcam.cli._inputs import Source, channel_files
from respondcam.cli._options import choice, parse_arguments, pick_device
from respondcam.cli._remarks import intensities, on_intensities
from respondcam.errors import InputError
from respondcam.network.calibration import AXIS_ORDER
from respondcam.network.failures import refuse_without_values
from respondcam.network.preparation import Preparation, Prepared
from respondcam.network.sources import LoadedModel, builds, load_model
from respondcam.network.weights import file_sha256
from respondcam.volume import NORMALIZATIONS, Volume, read_volume
from respondcam.volume.io import NonFinite
from respondcam.volume.regrid import Keep

AXES = ("zyx", "xyz")
ALIGN = ("layout", "measured")
KEEPS = get_args(Keep)


@dataclass(frozen=True)
class Settings:
    """What decides on a map, besides the volume and the network.

    Parameters
    ----------
    method
        Name of the method.
    layers
        Names of the layers; empty lets the library choose.
    target
        As it was typed.
    normalize, axes, align, output, nonfinite, precision, channels, channel_names, channel_baseline
        As the options of the same names.
    keep
        What the map in the volume's voxels keeps, its values or its sum.
    method_arguments
        Options of the method, as they were typed.
    classes
        Names of the classes that were typed, which count instead of the network's own.
    """

    method: str = "respond"
    layers: tuple[str, ...] = ()
    target: str = "predicted"
    normalize: str = "none"
    axes: str = "zyx"
    align: str = "layout"
    output: str | None = None
    nonfinite: str = "error"
    precision: str = "fp32"
    channels: bool = False
    channel_names: tuple[str, ...] = ()
    channel_baseline: str = "zero"
    method_arguments: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    keep: str = "value"

    def __post_init__(self) -> None:
        choice(self.method, tuple(METHODS), "--method")
        choice(self.normalize, tuple(NORMALIZATIONS), "--normalize")
        choice(self.axes, AXES, "--axes")
        choice(self.align, ALIGN, "--align")
        choice(self.nonfinite, ("error", "zero"), "--nonfinite")
        choice(self.precision, ("fp32", "bf16"), "--precision")
        choice(self.keep, KEEPS, "--keep")
        choice(self.channel_baseline, ("zero", "mean"), "--channel-baseline")


@dataclass(frozen=True)
class Explained:
    """One source and its explanations, one for each layer.

    Parameters
    ----------
    source
        Where it came from.
    volume
        As it was read, before normalisation.
    explanations
        One per layer, for a batch of one.
    turned
        Whether the axes were reversed for the network, and the maps' have to be reversed back.
    notes
        What the library warned of.
    channels
        What comes through each input channel, if that was asked for.
    """

    source: Source
    volume: Volume
    explanations: tuple[Explanation, ...]
    turned: bool = False
    notes: tuple[str, ...] = field(default=())
    channels: ChannelContributions | None = None

    def said_of_network(self, notes: Sequence[str]) -> "Explained":
        """With what is to be known of the network: a page may be all that a reader sees."""
        return replace(self, notes=(*notes, *self.notes))

    def map_volume(
        self, explanation: Explanation, target: int, resolution: Resolution, keep: Keep
    ) -> Volume:
        """One map in the source's world and axis order."""
        volume = explanation.volume(sample=0, target=target, resolution=resolution, keep=keep)
        return volume.transposed() if self.turned else volume


def open_model(
    spec: str,
    weights: str | None,
    arguments: Sequence[str] | None,
    device: str,
    *,
    trust: bool,
    classes: Sequence[str] = (),
) -> tuple[LoadedModel, list[str]]:
    """Load the network that the options name and put it on its device.

    Parameters
    ----------
    classes
        Names that count instead of the network's own, if there are any.

    Returns
    -------
    tuple
        The network, and notes about it for the user.
    """
    where = pick_device(device)
    torch.manual_seed(0)  # a network without weights is at least the same one next time
    with noted() as notes:
        loaded = load_model(
            spec, weights=weights, trust=trust, arguments=parse_arguments(arguments)
        )
    loaded = loaded.with_names(classes)
    for network in (loaded.module, *loaded.others):
        refuse_without_values(network)
        network.to(where)
    if loaded.weights and loaded.weights.note:
        notes.append(loaded.weights.note)
    if spec.startswith("paper:") and not weights:
        notes.append(f"{spec} has no weights of its own and is untrained here; give --weights")
    elif not weights and builds(spec):
        notes.append(
            f"no --weights were given: {spec} is explained with the weights that it builds itself "
            f"with, which are random unless it loads some"
        )
    return loaded, notes


def refuse_preparation(loaded: LoadedModel, what: str) -> None:
    """Refuse a network that comes with its own preprocessing where that is not run.

    Parameters
    ----------
    what
        The command or option that does not run it.

    Raises
    ------
    InputError
        If the network has one: it would be given a volume as it never saw any.
    """
    if loaded.preparation is not None:
        raise InputError(
            f"{loaded.spec} comes with its own preprocessing, which {what} does not run. Switch "
            f"it off with --model-arg preprocess=false, and give volumes that are preprocessed."
        )


def class_list(text: str | None) -> tuple[str, ...]:
    """Names of classes that were typed.

    Examples
    --------
    >>> class_list("liver, spleen")
    ('liver', 'spleen')
    """
    names = tuple(name.strip() for name in text.split(",")) if text is not None else ()
    if not all(names) or len(set(names)) < len(names):
        raise InputError(
            f"--classes is {text!r}. Accepted: the names of all classes in the order of the "
            f"network's scores, each once, such as background,liver,lesion."
        )
    return names


def advice(loaded: LoadedModel, settings: Settings) -> list[str]:
    """Notes on settings that do not go with the network."""
    if loaded.spec == "demo" and settings.normalize == "none":
        return ["demo was trained on images of mean 0 and deviation 1; see --normalize zscore"]
    return []


def make_explainer(loaded: LoadedModel, settings: Settings) -> Callable[..., Any]:
    """Set up the method; mistakes in the layers show here, before any work."""
    layer = list(settings.layers) if len(settings.layers) > 1 else next(iter(settings.layers), None)
    given = parse_arguments(settings.method_arguments, "--method-arg", "nodes=32")
    for name in given:
        if name in ("output", "align", "precision"):
            raise InputError(f"--method-arg is {name}=...; that is an option by itself: --{name}.")
    own = {
        "output": None if settings.output is None else output_part(settings.output),
        "align": settings.align,
    }
    if settings.precision != "fp32":  # a method that cannot says so
        own["precision"] = settings.precision
    explainers = [
        make(settings.method, network, layer, options=given | own)
        for network in (loaded.module, *loaded.others)
    ]
    if loaded.preparation is None:
        return explainers[0]
    for option, value, plain in (
        ("--normalize", settings.normalize, "none"),
        ("--axes", settings.axes, "zyx"),
    ):
        if value != plain:
            raise InputError(
                f"{option} is {value!r}, but {loaded.spec} comes with its own preprocessing, which "
                f"decides that. Leave {option} out, or switch its preprocessing off with "
                f"--model-arg preprocess=false."
            )
    if settings.channels:
        raise InputError(
            f"--channels does not go with the preprocessing of {loaded.spec}. Leave it out, or "
            f"switch the preprocessing off with --model-arg preprocess=false."
        )
    return PreparedExplainer(explainers, loaded.preparation)


@dataclass(frozen=True)
class PreparedExplainer:
    """Explainers of networks that come with their own preprocessing."""

    explainers: list[Explainer]
    preparation: Preparation

    @property
    def channel_files(self) -> int:
        """How many files of one channel each make one volume."""
        return self.preparation.channel_files

    def __call__(
        self, inputs: Prepared, target: Any = "predicted"
    ) -> Explanation | tuple[Explanation, ...]:
        """Explain a volume that was prepared."""
        return explain_prepared(self.explainers, inputs, target)


def explain_source(
    source: Source,
    explainer: Callable[..., Any],
    settings: Settings,
    class_names: Sequence[str] = (),
    *,
    overlapping: bool = False,
) -> Explained:
    """Read one source and explain it.

    Raises
    ------
    InputError
        If it cannot be read, or the network cannot be explained on it.
    """
    with noted() as notes:
        count = getattr(explainer, "channel_files", 1)
        volume = read_channels(source.path, count, cast(NonFinite, settings.nonfinite))
        turned = settings.axes == "xyz"
        prepared: Prepared | None = None
        inputs: Any
        if isinstance(explainer, PreparedExplainer):
            prepared = explainer.preparation.prepare(volume)
            inputs = prepared
            notes.append(prepared.note)
            notes.append(on_intensities(intensities(volume), "by the network"))
        else:
            inputs = _normalized(volume, settings.normalize, turned=turned)
            notes.append(on_intensities(intensities(volume), settings.normalize))
        goal = parse_target(
            settings.target,
            class_names,
            image=volume,
            turned=turned,
            prepared=prepared,
            overlapping=overlapping,
        )
        found = explainer(inputs, target=goal)
        found = found if isinstance(found, tuple) else (found,)
        if turned:
            found = tuple(map(_said_of_turned, found))
        check_names(settings.classes, found[0].score_count)
        explanations = tuple(explanation.named(class_names) for explanation in found)
        for explanation in explanations:
            _ = explanation.account  # it runs the network again, which may warn
        channels = _channels(explainer, inputs, goal, settings)
    if source.note:
        notes.append(source.note)
    if class_names:  # of yes and no
        notes = [note for note in notes if note != ONE_NUMBER]
    notes = [with_names(note, class_names) for note in notes if note]
    return Explained(source, volume, explanations, turned, tuple(notes), channels)


def _said_of_turned(explanation: Explanation) -> Explanation:
    """What is said of an explanation's axes, in the order in which the network has them."""
    note = explanation.grid.note.replace(AXIS_ORDER, "(x, y, z)")
    return replace(explanation, grid=replace(explanation.grid, note=note))


def _channels(
    explainer: Callable[..., Any], inputs: Any, goal: Any, settings: Settings
) -> ChannelContributions | None:
    if not settings.channels:
        return None
    return channel_contributions(
        cast(Explainer, explainer),
        inputs,
        goal,
        baseline=settings.channel_baseline,
        names=settings.channel_names or None,
    )


def read_channels(path: Path, count: int, nonfinite: NonFinite = "error") -> Volume:
    """Read a volume, or the volumes of one channel each that make it."""
    volumes = [read_volume(file, nonfinite=nonfinite) for file in channel_files(path, count)]
    if len({(one.shape, one.channels) for one in volumes}) > 1:
        raise InputError(
            f"{path.name} and the files of its other channels differ in shape: "
            f"{', '.join(str(one.shape) for one in volumes)}. Resample them to one grid."
        )
    if len(volumes) == 1:
        return volumes[0]
    return volumes[0].with_voxels(np.stack([one.voxels for one in volumes]))


def _normalized(volume: Volume, name: str, *, turned: bool) -> Volume:
    voxels = volume.voxels.reshape(volume.channels, *volume.shape)
    normalized = volume.with_voxels(NORMALIZATIONS[name](voxels))
    return normalized.transposed() if turned else normalized


def read_inputs(source: Source, settings: Settings) -> tuple[Volume, Volume]:
    """Read a volume, and prepare it for the network: normalised, and turned if need be."""
    volume = read_volume(source.path, nonfinite=cast(NonFinite, settings.nonfinite))
    return volume, _normalized(volume, settings.normalize, turned=settings.axes == "xyz")


@contextmanager
def noted() -> Generator[list[str], None, None]:
    """Collect warnings meant for users, each once, instead of printing them in Python's way."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield notes
    for warning in caught:
        developers = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning)
        text = " ".join(str(warning.message).split())
        if not issubclass(warning.category, (*developers, ResourceWarning)) and text not in notes:
            notes.append(text)


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes, or of all files of a folder in the order of their names."""
    if path.is_file():
        return file_sha256(path)
    digest = hashlib.sha256()
    for file in sorted(item for item in path.iterdir() if item.is_file()):
        digest.update(f"{file.name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()
