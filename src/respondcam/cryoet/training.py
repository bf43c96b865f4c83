"""Train a classifier on simulated subtomograms or on a folder, so that it can be interrupted.

The recipe (stochastic gradient descent with Nesterov's momentum, a cosine from 0.01 to nothing,
batches of 64) is plain on purpose: the point of these networks is what maps say of them.
"""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from respondcam._extras import require
from respondcam.cryoet.training_data import Images
from respondcam.cryoet.training_files import (
    CHECKPOINTS,
    WEIGHTS,
    Epoch,
    TrainingResult,
    claim_folder,
    finished,
    training_record,
    write_training,
)
from respondcam.errors import InputError

Precision = Literal["auto", "fp32", "bf16"]
OnEpoch = Callable[[Epoch], None]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a network learns.

    Parameters
    ----------
    epochs
        Times that it sees each image, with other noise each time.
    batch
        Images per step.
    learning_rate
        At the start; it falls along a cosine to zero.
    patience
        Epochs without a better validation accuracy after which it stops; None to see all epochs.
    precision
        "bf16" computes convolutions and products in bfloat16, "auto" where the machine gains.
    seed
        Of the order, the noise and the half turns.
    """

    epochs: int = 12
    batch: int = 64
    learning_rate: float = 0.01
    patience: int | None = None
    precision: Precision = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, low in (("epochs", 1), ("batch", 1)):
            if getattr(self, name) < low:
                raise InputError(f"{name}={getattr(self, name)}: give a whole number above zero.")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise InputError(f"learning_rate={self.learning_rate} must be positive, such as 0.01.")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"patience={self.patience}: give at least one epoch, or none.")
        if self.precision not in ("auto", "fp32", "bf16"):
            raise InputError(f"precision={self.precision!r}. Accepted: auto, fp32, bf16.")


def train_classifier(
    model: nn.Module,
    images: Callable[[], Images],
    validation: Callable[[], Images],
    *,
    classes: Sequence[str],
    folder: Path,
    schedule: Schedule | None = None,
    facts: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
    on_epoch: OnEpoch | None = None,
) -> TrainingResult:
    """Train `model`, or go on where an interrupted training stopped.

    Parameters
    ----------
    model
        Volumes (batch, 1, z, y, x) to scores (batch, class) before the softmax; trained in place.
    images, validation
        Make what it learns from and is measured on; called only where there is something to do.
    classes
        Names, in the order of the scores.
    folder
        Gets the weights, the names of the classes, a card, and checkpoints until it is done. A
        finished training of the same settings is read and returned.
    schedule
        How long and how fast.
    facts
        What else makes two trainings the same (data, imaging, seed of the images, the command); it
        goes into the card. The entry "command" is for the card alone.
    device
        Where it runs.
    on_epoch
        Told of every epoch.

    Raises
    ------
    InputError
        If the folder holds another training or cannot be written, or the model's scores do not
        match the classes.
    MissingExtraError
        If lightning is not installed.
    """
    require("lightning", extra="cryoet", purpose="train networks")
    schedule = schedule or Schedule()
    record = training_record(model, classes, schedule, facts or {})
    claim_folder(folder, record)
    done = finished(folder, model)
    if done is not None:
        return done
    torch.manual_seed(schedule.seed)
    learning, held_out = images(), validation()
    _check_scores(model, held_out, classes)
    precision = _precision(schedule.precision, model, held_out, torch.device(device))
    kept, history, rate = _fit(
        model, learning, held_out, schedule, precision, folder, torch.device(device), on_epoch
    )
    result = TrainingResult(
        weights=folder / WEIGHTS,
        accuracy=max(epoch.accuracy for epoch in history),
        seconds=sum(epoch.seconds for epoch in history),
        samples_per_second=rate,
        precision=precision,
        history=tuple(history),
    )
    model.load_state_dict(kept)
    model.eval()
    write_training(folder, model, classes, record, result)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return result


def accuracy(
    model: nn.Module, images: Images, *, seed: int = 0, device: torch.device | str = "cpu"
) -> float:
    """Share of images whose own class has the highest score."""
    model.eval()
    right = 0
    with torch.inference_mode():
        for batch, labels in images.batches(64, seed=seed, shuffle=False):
            right += int((model(batch.to(device)).argmax(dim=1).cpu() == labels).sum())
    return right / len(images)


def _fit(
    model: nn.Module,
    learning: Images,
    held_out: Images,
    schedule: Schedule,
    precision: str,
    folder: Path,
    device: torch.device,
    on_epoch: OnEpoch | None,
) -> tuple[dict[str, Tensor], list[Epoch], float]:
    """Weights of the best epoch, all epochs, and samples per second."""
    from respondcam.cryoet.training_loop import Fitting, fit

    if any(p.ndim == 5 for p in model.parameters()):
        nn.utils.convert_conv3d_weight_memory_format(model, torch.channels_last_3d)
    fitting = Fitting(model, learning, held_out, schedule, on_epoch)
    fit(fitting, folder / CHECKPOINTS, precision, device)
    assert fitting.best is not None
    # as a network that is built anew and loads the weights: the same sums in the same order
    nn.utils.convert_conv3d_weight_memory_format(model, torch.contiguous_format)
    return fitting.best, fitting.history, fitting.samples / max(fitting.busy, 1e-9)


def _check_scores(model: nn.Module, images: Images, classes: Sequence[str]) -> None:
    batch, _ = next(images.batches(1, seed=0, shuffle=False))
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError(f"The network {type(model).__name__} has no parameters to train.")
    model.eval()
    try:
        with torch.inference_mode():
            scores = model(batch.to(next(model.parameters()).device))
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"The network does not run on an image of shape {tuple(batch.shape)}: {first}"
        ) from error
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if shape != (1, len(classes)):
        raise InputError(
            f"The network gives {shape} for one image, and there are {len(classes)} classes: it "
            f"must give (1, {len(classes)}). Build it for {len(classes)} classes, for example with "
            f"--model-arg classes={len(classes)}."
        )


def _precision(wanted: str, model: nn.Module, images: Images, device: torch.device) -> str:
    """Try both where "auto" asks: bfloat16 is slower on processors that only emulate it."""
    if wanted != "auto":
        return wanted
    batch, labels = next(images.batches(min(16, len(images)), seed=0, shuffle=False))
    model, batch, labels = model.to(device), batch.to(device), labels.to(device)
    times = {"fp32": math.inf, "bf16": math.inf}
    for _ in range(3):
        for name in times:
            begin = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=name == "bf16"):
                loss = nn.functional.cross_entropy(model(batch).float(), labels)
            torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times[name] = min(times[name], time.perf_counter() - begin)
    return min(times, key=lambda name: times[name])
