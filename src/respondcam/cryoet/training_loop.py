"""The training loop in Lightning's hands: checkpoints, early stopping, going on."""

import logging
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from respondcam._files import whole_file
from respondcam.cryoet.training_data import Images
from respondcam.errors import InputError

if TYPE_CHECKING:
    from respondcam.cryoet.training import OnEpoch, Schedule

_ACCURACY = "accuracy"


class Fitting(L.LightningModule):
    """A network that learns, and what is known of how it went.

    Parameters
    ----------
    network
        Trained in place.
    learning, held_out
        What it learns from, and what it is measured on.
    schedule
        How long and how fast.
    on_epoch
        Told of every epoch.
    """

    def __init__(
        self,
        network: nn.Module,
        learning: Images,
        held_out: Images,
        schedule: "Schedule",
        on_epoch: "OnEpoch | None",
    ) -> None:
        super().__init__()
        self.network = network
        self.learning, self.held_out = learning, held_out
        self.schedule, self.on_epoch = schedule, on_epoch
        self.history: list[Any] = []
        self.best: dict[str, Tensor] | None = None
        self.samples, self.busy = 0, 0.0
        self._right, self._seen = 0, 0
        self._losses: list[Tensor] = []
        self._begin = self._step = time.perf_counter()

    def forward(self, x: Tensor) -> Tensor:
        """Scores, from volumes in the memory format that convolutions are fastest in."""
        if x.ndim == 5:
            x = x.contiguous(memory_format=torch.channels_last_3d)
        return self.network(x)

    def training_step(self, batch: Sequence[Tensor], _: int) -> Tensor:
        """Cross-entropy."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self(images).float(), labels)
        self._losses.append(loss.detach())
        self.samples += len(labels)
        return loss

    def on_train_epoch_start(self) -> None:
        """Start the clock."""
        self._begin, self._losses = time.perf_counter(), []

    def on_validation_epoch_start(self) -> None:
        """Training pauses here."""
        self.busy += time.perf_counter() - self._begin
        self._right = self._seen = 0

    def validation_step(self, batch: Sequence[Tensor], _: int) -> None:
        """Count the right answers."""
        images, labels = batch
        self._right += int((self(images).argmax(dim=1) == labels).sum())
        self._seen += len(labels)

    def on_validation_epoch_end(self) -> None:
        """Note the epoch, and keep its weights if they are the best."""
        from respondcam.cryoet.training import Epoch

        share = self._right / max(self._seen, 1)
        self.log(_ACCURACY, share)
        if not self.history or share >= max(one.accuracy for one in self.history):
            self.best = {k: v.detach().cpu().clone() for k, v in self.network.state_dict().items()}
        epoch = Epoch(
            number=len(self.history) + 1,
            of=self.schedule.epochs,
            loss=float(torch.stack(self._losses).mean()) if self._losses else 0.0,
            accuracy=share,
            seconds=time.perf_counter() - self._begin,
        )
        self.history.append(epoch)
        if self.on_epoch is not None:
            self.on_epoch(epoch)

    def configure_optimizers(self) -> Any:
        """Nesterov's momentum and a cosine over all steps."""
        optimizer = torch.optim.SGD(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=self.schedule.learning_rate,
            momentum=0.9,
            nesterov=True,
        )
        steps = self.schedule.epochs * max(1, len(_Epochs(self, training=True)))
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": cosine, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put what is known so far into the checkpoint."""
        checkpoint["respondcam"] = {
            "history": [vars(epoch) for epoch in self.history],
            "best": self.best,
            "samples": self.samples,
            "busy": self.busy,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it from there."""
        from respondcam.cryoet.training import Epoch

        known = checkpoint["respondcam"]
        self.history = [Epoch(**epoch) for epoch in known["history"]]
        self.best = known["best"]
        self.samples, self.busy = known["samples"], known["busy"]


class _Epochs(IterableDataset[tuple[Tensor, Tensor]]):
    """Batches of one epoch; the noise of each epoch is its own, also after going on."""

    def __init__(self, fitting: Fitting, *, training: bool) -> None:
        self.fitting, self.training = fitting, training

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        fitting, schedule = self.fitting, self.fitting.schedule
        if not self.training:
            return fitting.held_out.batches(
                schedule.batch, seed=schedule.seed, shuffle=False, device=fitting.device
            )
        # Far apart, so that two seeds have no epoch in common. Lightning's own count of epochs is
        # one behind here just after it has read a checkpoint.
        seed = 1_000_003 * (schedule.seed + 1) + len(fitting.history)
        return fitting.learning.batches(schedule.batch, seed=seed, device=fitting.device)

    def __len__(self) -> int:
        count = len(self.fitting.learning if self.training else self.fitting.held_out)
        size = self.fitting.schedule.batch
        if self.training and count >= size:
            return count // size
        return -(-count // size)


def fit(fitting: Fitting, checkpoints: Path, precision: str, device: torch.device) -> None:
    """Train to the end of the schedule, from the last checkpoint if there is one."""
    last = checkpoints / "last.ckpt"
    callbacks: list[Callback] = [_Keep(last)]
    if fitting.schedule.patience is not None:
        callbacks.append(EarlyStopping(_ACCURACY, mode="max", patience=fitting.schedule.patience))
    with _quiet():
        trainer = L.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=[device.index or 0] if device.type == "cuda" else 1,
            max_epochs=fitting.schedule.epochs,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=checkpoints,
        )
        handler = signal.getsignal(signal.SIGINT)
        try:
            trainer.fit(
                fitting,
                DataLoader(_Epochs(fitting, training=True), batch_size=None),
                DataLoader(_Epochs(fitting, training=False), batch_size=None),
                ckpt_path=_readable(last),
                weights_only=True,
            )
        except SystemExit as leaving:
            # Lightning ends the program after an interruption, and has its signal ignored
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from leaving


class _Keep(Callback):
    """Keep the last whole epoch; unlike Lightning's own, never half a file."""

    def __init__(self, last: Path) -> None:
        self.last = last

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write beside the last checkpoint, and put the new one in its place."""
        try:
            self.last.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(self.last) as beside:
                trainer.save_checkpoint(beside)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"The checkpoint {str(self.last)!r} could not be written: {error}. Free space "
                f"there, then run the same command again: it goes on from the epoch before."
            ) from error


def _readable(last: Path) -> Path | None:
    if not last.is_file():
        return None
    try:
        torch.load(last, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"The checkpoint {str(last)!r} cannot be read ({type(error).__name__}). Delete it to "
            f"start again."
        ) from error
    return last


class _quiet:  # noqa: N801  (a context manager that reads as a word)
    """Lightning's banners and advice are for its own users."""

    def __enter__(self) -> None:
        self._levels = {}
        for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
            logger = logging.getLogger(name)
            self._levels[name] = logger.level
            logger.setLevel(logging.ERROR)
        self._caught = warnings.catch_warnings()
        self._caught.__enter__()
        warnings.filterwarnings("ignore", module="lightning.*")
        warnings.filterwarnings("ignore", module="pytorch_lightning.*")

    def __exit__(self, *_: object) -> None:
        self._caught.__exit__(None, None, None)
        for name, level in self._levels.items():
            logging.getLogger(name).setLevel(level)
