"""What all experiments share: the images, the two networks trained on them, and their folder.

The networks are trained once per folder: Table 1 and the figures that go to the same folder take
what is there, and what was interrupted is continued.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from respondcam._files import make_folder, read_json, whole_file
from respondcam._version import __version__
from respondcam.cryoet.imaging import Imaging
from respondcam.cryoet.simulation_files import density_digests
from respondcam.cryoet.templates import stacked
from respondcam.cryoet.training import Epoch, Schedule, train_classifier
from respondcam.cryoet.training_data import Images, simulated_images
from respondcam.errors import InputError
from respondcam.network.paper import cnn_1, cnn_2
from respondcam.volume import Volume

Budget = Literal["quick", "full"]
Tell = Callable[[str], None]
SNRS = (math.inf, 0.1)
NETWORKS = {"CNN-1": cnn_1, "CNN-2": cnn_2}
MAX_SHIFT_VOXELS = 2.0
# streams of poses that no two purposes share
LEARN, VALIDATE, TEST = 11, 12, 13
_MANIFEST = "reproduction.json"


@dataclass(frozen=True)
class Effort:
    """How long one network is trained.

    Parameters
    ----------
    poses
        Images of each class.
    epochs
        Times that it sees each, in the order of `SNRS`.
    """

    poses: int
    epochs: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """What the experiments are made of.

    Parameters
    ----------
    efforts
        By name of the network.
    size, voxel_size_angstrom
        Of the boxes.
    seed
        Of everything.
    """

    efforts: Mapping[str, Effort]
    size: int = 40
    voxel_size_angstrom: float = 10.0
    batch: int = 64
    seed: int = 0


# CNN-1 takes about fifteen times as long as CNN-2 for one image, and sees fewer.
EFFORTS: dict[Budget, dict[str, Effort]] = {
    "quick": {"CNN-1": Effort(150, (5, 10)), "CNN-2": Effort(200, (10, 10))},
    "full": {"CNN-1": Effort(300, (10, 20)), "CNN-2": Effort(300, (20, 30))},
}


@dataclass(frozen=True)
class Setting:
    """A network on images of one kind.

    Parameters
    ----------
    network
        A name in `NETWORKS`.
    snr
        Of the images.
    max_shift_voxels
        How far from the middle the particles are, along each axis.

    Examples
    --------
    >>> Setting("CNN-2", 0.1).name, Setting("CNN-1", math.inf, 8.0).name
    ('cnn-2-snr-0.1', 'cnn-1-no-noise-shift-8')
    """

    network: str
    snr: float
    max_shift_voxels: float = MAX_SHIFT_VOXELS

    @property
    def name(self) -> str:
        """For the names of files."""
        noise = "no-noise" if math.isinf(self.snr) else f"snr-{self.snr:g}"
        far = self.max_shift_voxels
        shift = "" if far == MAX_SHIFT_VOXELS else f"-shift-{far:g}"
        return f"{self.network.lower()}-{noise}{shift}"

    @property
    def snr_in_words(self) -> str:
        """For people."""
        return snr_in_words(self.snr)


def snr_in_words(snr: float) -> str:
    """A signal-to-noise ratio for people.

    Examples
    --------
    >>> snr_in_words(math.inf), snr_in_words(0.1)
    ('infinity', '0.1')
    """
    return "infinity" if math.isinf(snr) else f"{snr:g}"


def quiet(line: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True, eq=False)
class Laboratory:
    """Classes, plan and folder of a reproduction.

    Parameters
    ----------
    templates
        The classes, by name.
    plan
        How much of it.
    folder
        Where everything goes. Taken by `claim`.
    device
        Where the networks run.
    tell
        Told a line of text at a time.
    """

    templates: Mapping[str, Volume]
    plan: Plan
    folder: Path
    device: torch.device | str = "cpu"
    tell: Tell = quiet

    def claim(self) -> None:
        """Take the folder: it is new, or holds results of the same plan and classes.

        Raises
        ------
        InputError
            If there are fewer than two classes, or the folder holds another reproduction.
        """
        if len(self.templates) < 2:
            raise InputError(
                "The experiments compare classes, and there are fewer than two of them. Give more "
                "densities, or leave them out for the phantoms."
            )
        record = self._record()
        manifest = self.folder / _MANIFEST
        if manifest.is_file():
            try:
                there = read_json(manifest)
            except ValueError:
                there = {}
            _check_same(there if isinstance(there, dict) else {}, record, self.folder)
            return
        make_folder(self.folder)
        with whole_file(manifest) as beside:
            beside.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def images(self, setting: Setting, per_class: int, stream: int) -> Images:
        """Simulate images of all classes in random poses; class after class in turn."""
        return simulated_images(
            stacked(self.templates),
            self.imaging(setting.snr),
            per_class=per_class,
            size=self.plan.size,
            max_shift_voxels=setting.max_shift_voxels,
            seed=1000 * self.plan.seed + stream,
        )

    def imaging(self, snr: float) -> Imaging:
        """How the images are made."""
        return Imaging(voxel_size_angstrom=self.plan.voxel_size_angstrom, snr=snr)

    def network(self, setting: Setting) -> nn.Module:
        """Give the trained network, in evaluation mode on the device; train it if need be."""
        effort, plan = self.plan.efforts[setting.network], self.plan
        imaging = self.imaging(setting.snr)
        torch.manual_seed(plan.seed)
        model = NETWORKS[setting.network](len(self.templates), plan.size)
        train_classifier(
            model,
            lambda: self.images(setting, effort.poses, LEARN),
            lambda: self.images(setting, 10, VALIDATE),
            classes=list(self.templates),
            folder=self.folder / "networks" / setting.name,
            schedule=Schedule(
                epochs=effort.epochs[SNRS.index(setting.snr)], batch=plan.batch, seed=plan.seed
            ),
            facts={
                "imaging": {**asdict(imaging), "snr": str(imaging.snr)},
                "poses of each class": effort.poses,
                "largest shift (voxels)": setting.max_shift_voxels,
                "densities (sha256)": self._digest(),
            },
            device=self.device,
            on_epoch=self._epoch(setting),
        )
        return model.to(self.device).eval()

    def _epoch(self, setting: Setting) -> Callable[[Epoch], None]:
        def tell(one: Epoch) -> None:
            self.tell(
                f"{setting.name}: epoch {one.number}/{one.of}, {100 * one.accuracy:.1f} % right, "
                f"{one.seconds:.0f} s"
            )

        return tell

    def _digest(self) -> str:
        digests = density_digests(self.templates).values()
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def _record(self) -> dict[str, Any]:
        record = {
            "respondcam": __version__,
            "plan": asdict(self.plan),
            "classes": list(self.templates),  # their order decides on the labels
            "densities": density_digests(self.templates),
        }
        return json.loads(json.dumps(record))


def _check_same(there: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    for name in now:
        if there.get(name) != now[name]:
            raise InputError(
                f"{str(folder)!r} holds another reproduction: its {name} is "
                f"{_short(there.get(name))}, and now {_short(now[name])}. Give another folder with "
                f"--out, or delete this one if it is no longer needed."
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 200 else f"{text[:197]}..."
