"""Trained model folders of nnU-Net v2: ``nnunet:DIR``.

A folder holds ``plans.json``, ``dataset.json`` and one ``fold_N/checkpoint_final.pth`` per fold.
The network is built by nnU-Net's own code (F. Isensee, P. F. Jaeger, S. A. A. Kohl, J. Petersen,
K. H. Maier-Hein, Nature Methods 18:203, 2021), without deep supervision, as it is for prediction;
what happens to a volume before it is in `respondcam.network.nnunet_preparation`.

The checkpoints are pickles that hold more than weights: numbers of NumPy, the plans, the device.
They are read with ``weights_only=True`` and exactly these kinds allowed, so nothing in them can
run. A checkpoint that names anything else, and plans that name classes outside nnU-Net's own
packages, need ``trust``.
"""

import contextlib
import inspect
import io
import re
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from respondcam._extras import require
from respondcam._files import read_json
from respondcam._kinds import is_listed, is_mapping
from respondcam.errors import InputError, ModelError
from respondcam.network.nnunet_architecture import check_architecture
from respondcam.network.nnunet_plans import check_plans
from respondcam.network.weights import (
    LoadedWeights,
    copy_weights,
    file_sha256,
    read_checkpoint,
)

_SPARE = 1 << 20  # weights by which plans and checkpoint may differ: then copying says how


@dataclass(frozen=True)
class NNUNetOptions:
    """What can be chosen, as ``--model-arg NAME=VALUE``.

    Parameters
    ----------
    fold
        A fold's number or ``"all"``, or several of them, whose mean is the prediction; the first
        that there is unless given.
    checkpoint
        Name of the file in the fold.
    mirror
        Average over all mirrorings that the network was trained with, as ``nnUNetv2_predict``
        does; takes eight times as long for three axes.
    step
        How far windows move, in their own size.
    preprocess
        Whether volumes are prepared as nnU-Net does; otherwise they must be already.
    """

    fold: Any = None
    checkpoint: Any = "checkpoint_final.pth"
    mirror: Any = False
    step: Any = 0.5
    preprocess: Any = True

    def __post_init__(self) -> None:
        for name in ("mirror", "preprocess"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} is {getattr(self, name)!r}. Accepted: true, false.")
        if not isinstance(self.checkpoint, str) or "/" in self.checkpoint:
            raise InputError(
                f"checkpoint is {self.checkpoint!r}. Accepted: a file's name in the folder of the "
                f"fold, such as checkpoint_best.pth."
            )
        if not isinstance(self.step, float | int) or not 0 < self.step <= 1:
            raise InputError(f"step is {self.step!r}. Accepted: more than 0, at most 1.")


@dataclass(frozen=True, eq=False)
class NNUNetFolder:
    """A trained model folder that was opened.

    Parameters
    ----------
    networks
        One per chosen fold.
    class_names
        In the order of the network's scores.
    overlapping
        Whether classes are regions that may overlap, each with a sigmoid of its own.
    weights
        The first fold's checkpoint.
    folds
        The chosen ones.
    plans, configuration, dataset
        nnU-Net's managers of plans and configuration, and the content of ``dataset.json``.
    mirror_axes
        Along which the network was trained with mirroring.
    """

    networks: tuple[nn.Module, ...]
    class_names: tuple[str, ...]
    overlapping: bool
    weights: LoadedWeights
    folds: tuple[str, ...]
    plans: Any
    configuration: Any
    dataset: Mapping[str, Any]
    mirror_axes: tuple[int, ...]


def open_nnunet(folder: Path, options: NNUNetOptions, *, trust: bool = False) -> NNUNetFolder:
    """Build the networks of a trained model folder.

    Raises
    ------
    MissingExtraError
        If nnU-Net is not installed.
    ModelError
        If a file or fold is missing or damaged, needs `trust`, or does not fit the others.
    """
    plans_content, dataset = _read_json(folder, "plans.json"), _read_json(folder, "dataset.json")
    folds = _chosen_folds(folder, options)
    files = [folder / f"fold_{fold}" / options.checkpoint for fold in folds]
    with quietly():
        require("nnunetv2", extra="nnunet", purpose="open trained nnU-Net folders")
        from nnunetv2.utilities.plans_handling.plans_handler import (  # pyright: ignore[reportMissingTypeStubs]
            PlansManager,
        )

        checkpoints = [_checkpoint(file, trust=trust) for file in files]
        with _worded(folder):
            plans = PlansManager(plans_content)
            name = checkpoints[0]["init_args"]["configuration"]
            configuration = plans.get_configuration(name)
            labels = cast("Any", plans).get_label_manager(dataset)
            _check_configuration(folder, name, configuration, trust=trust)
            named = dataset.get("channel_names", dataset.get("modality"))
            if not is_mapping(named):
                raise ModelError(f"{str(folder / 'dataset.json')!r} names no channels.")
            chosen: Any = cast("Any", configuration).configuration
            check_plans(folder / "plans.json", plans_content, chosen, channels=len(named))
            for one in checkpoints:
                _check_size(folder, one, plans, configuration, dataset)
            networks = tuple(_network(one, plans, configuration, dataset) for one in checkpoints)
    for network, checkpoint, file in zip(networks, checkpoints, files, strict=True):
        copy_weights(network, checkpoint["network_weights"], file)
    return NNUNetFolder(
        networks=networks,
        class_names=_class_names(dataset["labels"], overlapping=labels.has_regions),
        overlapping=labels.has_regions,
        weights=LoadedWeights(files[0], file_sha256(files[0])),
        folds=folds,
        plans=plans,
        configuration=configuration,
        dataset=dataset,
        mirror_axes=tuple(checkpoints[0].get("inference_allowed_mirroring_axes") or ()),
    )


@contextlib.contextmanager
def quietly() -> Generator[None, None, None]:
    """Keep what nnU-Net prints, and what its dependencies warn developers of, off the terminal."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ModelError(f"The nnU-Net model folder {str(folder)!r} {what}. {_LAYOUT}")
    path = folder / name
    if not path.is_file():
        inner = sorted(found.parent for found in folder.glob("*/plans.json"))
        hint = f"Did you mean nnunet:{inner[0]}? " if inner else ""
        raise ModelError(f"{str(folder)!r} has no {name}. {hint}{_LAYOUT}")
    try:
        content = read_json(path)
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is no JSON: {error}. Copy it again.") from error
    if not isinstance(content, dict):
        raise ModelError(f"{str(path)!r} holds no JSON object. Copy it again.")
    return cast("dict[str, Any]", content)


_LAYOUT = (
    "A trained nnU-Net v2 model is a folder such as nnUNetTrainer__nnUNetPlans__3d_fullres, with "
    "plans.json, dataset.json and fold_0/checkpoint_final.pth in it."
)


def _chosen_folds(folder: Path, options: NNUNetOptions) -> tuple[str, ...]:
    found = [path.parent for path in folder.glob(f"fold_*/{options.checkpoint}")]
    names = [place.name.removeprefix("fold_") for place in found]
    names = sorted(names, key=lambda name: (not name.isdecimal(), name.zfill(6)))
    if not names:
        others = sorted({path.name for path in folder.glob("fold_*/*.pth")})
        hint = f" There is {', '.join(others)}: choose with checkpoint=NAME." if others else ""
        raise ModelError(
            f"{str(folder)!r} has no fold with {options.checkpoint!r}.{hint or ' ' + _LAYOUT}"
        )
    if options.fold is None:
        return (names[0],)
    given = options.fold if is_listed(options.fold) else [options.fold]
    wanted = [part.strip() for one in given for part in str(one).split(",")]
    missing = [name for name in wanted if name not in names]
    if missing or not wanted:
        several = f", or several as fold={','.join(names)}" if len(names) > 1 else ""
        raise ModelError(
            f"{str(folder)!r} has no fold {', '.join(missing) or 'of that name'}. There is "
            f"{', '.join(names)}: fold={names[0]}{several}."
        )
    return tuple(dict.fromkeys(wanted))


def _checkpoint(file: Path, *, trust: bool) -> Mapping[str, Any]:
    with torch.serialization.safe_globals(_harmless()):
        content = read_checkpoint(file, trust=trust)
    needed = ("network_weights", "init_args", "trainer_name")
    missing = [name for name in needed if not is_mapping(content) or name not in content]
    if missing:
        raise ModelError(
            f"{str(file)!r} is no checkpoint of nnU-Net v2: it has no {', '.join(missing)}. "
            f"{_LAYOUT}"
        )
    return content


def _harmless() -> list[Any]:
    """What nnU-Net's checkpoints hold besides tensors: numbers of NumPy, and their types."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    both = [(scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    return [*both, np.dtype, *kinds]


@contextlib.contextmanager
def _worded(folder: Path) -> Generator[None, None, None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split()).rstrip(".:")[:300]
        raise ModelError(
            f"nnU-Net cannot build the network in {str(folder)!r} ({type(error).__name__}: {text})."
            f" Its plans.json, dataset.json and checkpoints must belong together, and come from "
            f"nnU-Net v2."
        ) from error


def _check_configuration(folder: Path, name: str, configuration: Any, *, trust: bool) -> None:
    if configuration.previous_stage_name is not None:
        raise ModelError(
            f"{str(folder)!r} is the second stage of a cascade, which takes the segmentation of "
            f"{configuration.previous_stage_name!r} as further channels. Explain the model folder "
            f"of {configuration.previous_stage_name!r} or of 3d_fullres."
        )
    architecture = configuration.configuration["architecture"]
    check_architecture(architecture, f"The plans of {str(folder)!r} ({name})", trust=trust)


def _check_size(
    folder: Path, checkpoint: Mapping[str, Any], plans: Any, configuration: Any, dataset: Any
) -> None:
    """Build the network without memory: plans can describe one that no machine holds."""
    with torch.device("meta"):
        planned = _network(checkpoint, plans, configuration, dataset)
    wanted = sum(value.numel() for value in planned.state_dict().values())
    stored = checkpoint["network_weights"].values()
    held = sum(value.numel() for value in stored if isinstance(value, torch.Tensor))
    if wanted > 2 * held + _SPARE:
        raise ModelError(
            f"The plans of {str(folder)!r} describe a network of {wanted} weights, and its "
            f"checkpoint holds {held}: they do not belong together, or are damaged."
        )


def _network(
    checkpoint: Mapping[str, Any], plans: Any, configuration: Any, dataset: Mapping[str, Any]
) -> nn.Module:
    from nnunetv2.utilities.find_objects import (  # pyright: ignore[reportMissingTypeStubs]
        recursive_find_trainer_class_by_name,
    )
    from nnunetv2.utilities.label_handling.label_handling import (  # pyright: ignore[reportMissingTypeStubs]
        determine_num_input_channels,  # pyright: ignore[reportUnknownVariableType]
    )

    trainer = recursive_find_trainer_class_by_name(checkpoint["trainer_name"])
    build: Any = trainer.build_network_architecture  # of two signatures
    channels = determine_num_input_channels(plans, configuration, dict(dataset))
    scores = plans.get_label_manager(dict(dataset)).num_segmentation_heads
    if "plans_manager" in inspect.signature(build).parameters:
        described = (plans, configuration)
    else:  # trainers written for nnU-Net before 2.6
        described = (
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
        )
    return build(*described, channels, scores, enable_deep_supervision=False).eval()


def _class_names(labels: Mapping[str, Any], *, overlapping: bool) -> tuple[str, ...]:
    """Names in the order of the scores: of labels by their number, of regions as they stand."""
    kept = {name: value for name, value in labels.items() if name != "ignore"}
    if overlapping:
        return tuple(
            name
            for name, value in kept.items()
            if set(value if is_listed(value) else [value]) != {0}
        )
    by_number = {int(np.ravel(value)[0]): name for name, value in kept.items()}
    return tuple(re.sub(r"\s+", " ", by_number[number]) for number in sorted(by_number))
