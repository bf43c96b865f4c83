"""The folder of a training: whose it is, and what it holds at the end."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from respondcam._files import make_folder, read_json, whole_file
from respondcam._version import __version__
from respondcam.cryoet.model_card import card
from respondcam.errors import InputError
from respondcam.network.weights import load_weights

MANIFEST, WEIGHTS, CLASSES, CARD = "training.json", "model.safetensors", "classes.json", "card.md"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave."""

    number: int
    of: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainingResult:
    """What a training left behind.

    Parameters
    ----------
    weights
        The safetensors file.
    accuracy
        On the validation images, of the weights that were kept: those of the best epoch.
    seconds, samples_per_second
        Of all epochs, those of interrupted runs included; without validation for the rate.
    precision
        What "auto" came to.
    history
        One entry per epoch.
    """

    weights: Path
    accuracy: float
    seconds: float
    samples_per_second: float
    precision: str
    history: tuple[Epoch, ...]


def training_record(
    model: nn.Module, classes: Sequence[str], schedule: Any, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """What makes two trainings the same, and what the card tells of it."""
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    record = {
        "respondcam": __version__,
        "network": type(model).__name__,
        "shapes": shapes,
        "classes": list(classes),
        "schedule": dataclasses.asdict(schedule),
        "facts": dict(facts),
    }
    return json.loads(json.dumps(record, default=str))


def claim_folder(folder: Path, record: Mapping[str, Any]) -> None:
    """Take a folder for this training: it is new, or holds the very same one."""
    manifest = folder / MANIFEST
    if manifest.is_file():
        try:
            there = read_json(manifest)["record"]
            there = there if isinstance(there, dict) else {}
        except (ValueError, KeyError, TypeError):
            there = {}
        there, now = _comparable(there), _comparable(record)
        different = [name for name in now if there.get(name) != now[name]]
        if different:
            name = different[0]
            raise InputError(
                f"{str(folder)!r} holds another training: {name} is "
                f"{_short(there.get(name), now[name])} there and "
                f"{_short(now[name], there.get(name))} now. Give another folder, or delete this "
                f"one if it is no longer needed."
            )
        return
    taken = [name for name in (WEIGHTS, CLASSES, CARD) if (folder / name).exists()]
    if taken:
        raise InputError(
            f"{str(folder)!r} holds {taken[0]!r} already, from no training that is known. Give "
            f"another folder."
        )
    make_folder(folder, "Give a folder that you may write to.")
    _write_manifest(folder, {"record": record})


def _comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """All but what may differ in ways that do not matter: the command's wording, the version."""
    facts = record.get("facts")
    facts = facts if isinstance(facts, Mapping) else {}
    facts = {name: value for name, value in facts.items() if name != "command"}
    kept = {name: value for name, value in record.items() if name != "respondcam"}
    return {**kept, "facts": facts}


def _short(value: Any, other: Any) -> str:
    """Only the entries in which a mapping differs from another."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        value = {k: v for k, v in value.items() if k not in other or other[k] != v}
    text = json.dumps(value)
    return text if len(text) < 120 else f"{text[:117]}..."


def _write_manifest(folder: Path, document: Mapping[str, Any]) -> None:
    with whole_file(folder / MANIFEST) as beside:
        beside.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")


def finished(folder: Path, model: nn.Module) -> TrainingResult | None:
    """What a training that was finished in this folder gave."""
    document = read_json(folder / MANIFEST)
    if "result" not in document or not (folder / WEIGHTS).is_file():
        return None
    load_weights(model, folder / WEIGHTS)
    model.eval()
    try:
        result = dict(document["result"])
        history = tuple(Epoch(**epoch) for epoch in result.pop("history"))
        return TrainingResult(weights=folder / WEIGHTS, history=history, **result)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{str(folder / MANIFEST)!r} is damaged: {error!r}. Delete it to train anew, or give "
            f"another folder."
        ) from error


def write_training(
    folder: Path,
    model: nn.Module,
    classes: Sequence[str],
    record: Mapping[str, Any],
    result: TrainingResult,
) -> None:
    """Write everything; the manifest last, since it says that the rest is whole."""
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with whole_file(folder / WEIGHTS) as beside:
        save_file(state, beside, metadata={"classes": json.dumps(list(classes))})
    with whole_file(folder / CLASSES) as beside:
        beside.write_text(json.dumps(list(classes), indent=2) + "\n", "utf-8")
    summary = {**dataclasses.asdict(result)}
    summary.pop("weights")
    with whole_file(folder / CARD) as beside:
        beside.write_text(card(record, summary), "utf-8")
    _write_manifest(folder, {"record": record, "result": summary})
