"""What one run over one volume is made of, in a form that travels to other processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from respondcam.large.plan import Index, Plan
from respondcam.large.stitching import Stitch
from respondcam.network.grid import LayerGrid


@dataclass(frozen=True)
class ModelAddress:
    """A network by its address, as `respondcam.network.sources.load_model` takes it.

    Parameters
    ----------
    spec, weights, trust, arguments
        As for `load_model`.
    device
        Where it runs, a name that PyTorch knows.
    class_names
        That count instead of the network's own, if there are any.
    """

    spec: str
    weights: str | None = None
    trust: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class LargeSettings:
    """What decides on the maps of a volume, besides the volume and the network.

    Parameters
    ----------
    window
        Voxels along z, y, x.
    overlap
        Share of a window that the next one covers too, from 0 to below 1.
    stitch
        ``"mean"`` or ``"sum"``, see `respondcam.large.stitching`.
    method, layer
        As for an explainer; the layer is chosen, and said, if it is None.
    target
        As for an explainer's call; places in a dense output count in the window's voxels.
    target_name
        How the target is written in the manifest; None takes the target itself.
    normalize
        What is done to the intensities of each window, as if it were a volume of its own.
    axes
        Order of the spatial axes that the network takes, ``"zyx"`` or ``"xyz"``.
    nonfinite
        What to do about voxels that are NaN or infinite: ``"error"`` or ``"zero"``.
    output
        Which part of the network's output holds the scores: a key, an attribute, or a number.
    batch
        Windows that run through the network together.
    threads
        Of PyTorch, in each process that computes; None: those that PyTorch has.
    chunk
        Voxels of the output's chunks along each axis.
    options
        Of the method, by name.
    """

    window: Index
    overlap: float = 0.5
    stitch: Stitch = "mean"
    method: str = "respond"
    layer: str | None = None
    target: Any = "predicted"
    target_name: str | None = None
    normalize: str = "none"
    axes: Literal["zyx", "xyz"] = "zyx"
    nonfinite: Literal["error", "zero"] = "error"
    output: str | None = None
    batch: int = 8
    threads: int | None = None
    chunk: int = 128
    options: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For the manifest: everything that changes the numbers.

        Not `nonfinite`: what was explained before a voxel stopped the run stays as it is.
        """
        left_out = ("target_name", "nonfinite")
        found = {key: value for key, value in vars(self).items() if key not in left_out}
        found["target"] = str(self.target) if self.target_name is None else self.target_name
        found["window"] = list(self.window)
        found["options"] = dict(self.options)
        return found


@dataclass(frozen=True)
class Job:
    """One volume: where it is, how it is cut, how its windows are explained, where the maps go.

    Parameters
    ----------
    model
        The network; None if it lives in this process only.
    layer
        The explained layer.
    state_sha256
        Digest of its parameters, which every process compares with its own.
    settings
        With the layer and the number of threads filled in.
    plan
        How the volume is cut.
    grid
        Where the layer's voxels are in a window, axes z, y, x.
    labels
        One per target.
    baselines
        Of each class, where the baseline does not depend on the image; else None.
    source
        The volume.
    signature
        What the volume's files looked like at the start, see `respondcam.large.inputs`.
    store, run
        The OME-Zarr image that is written, and the folder of the run beside it.
    scratch
        Folder for an unpacked copy of the volume, where that is needed.
    """

    model: ModelAddress | None
    layer: str
    state_sha256: str
    settings: LargeSettings
    plan: Plan
    grid: LayerGrid
    labels: tuple[str, ...]
    baselines: tuple[float, ...] | None
    source: Path
    signature: str
    store: Path
    run: Path
    scratch: Path


@dataclass(frozen=True)
class Task:
    """One piece of work whose result is written once.

    Parameters
    ----------
    kind
        ``"tile"``: maps of a block of windows; ``"chunk"``: a box of the output, stitched;
        ``"level"``: a box of a coarser level.
    index
        Of the tile or chunk.
    level
        Of the pyramid.
    after
        The tasks that must be done before, as far as they are not done already.
    """

    kind: Literal["tile", "chunk", "level"]
    index: Index
    level: int = 0
    after: tuple["Task", ...] = field(default=(), compare=False, repr=False)


@dataclass(frozen=True)
class Done:
    """What is told about a task that is done.

    Parameters
    ----------
    windows
        Explained by it.
    gap, contributed
        Sums over the windows whose account is known: of the gaps' magnitudes, and of the
        magnitudes of what the image contributed to the scores.
    empty
        Maps that are zero everywhere.
    """

    windows: int = 0
    gap: float = 0.0
    contributed: float = 0.0
    empty: int = 0
