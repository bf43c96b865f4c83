"""The network's part of a run: from a region of the input to the maps of its windows.

A pure function of the region, the network and the settings. That includes which windows run
through the network together, and with how many threads: both can change the last bits of what
PyTorch computes, so both are settings, and neither depends on how many processes are at work.
"""

import contextlib
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from respondcam.attribution import Explanation
from respondcam.attribution.methods import make
from respondcam.attribution.naming import check_names
from respondcam.attribution.outputs import output_part
from respondcam.errors import InputError, ModelError, TargetError, VolumeError
from respondcam.large.job import Done, Job, LargeSettings, ModelAddress
from respondcam.large.plan import Index
from respondcam.network.grid import LayerGrid
from respondcam.network.sources import LoadedModel, load_model
from respondcam.network.weights import state_sha256
from respondcam.volume import NORMALIZATIONS

_SAMPLED = 16  # of so many tiles, one has the account of its first batch worked out


@dataclass(frozen=True)
class TileMaps:
    """What is known of a tile's windows.

    Parameters
    ----------
    maps
        (window z, y, x, target, *grid), raw.
    scores, mapped, baselines
        (target, window z, y, x), float64; a baseline that is not known is NaN.
    classes
        (target, window z, y, x); -1 where a target is no class.
    empty
        Maps that are zero everywhere.
    """

    maps: Float[np.ndarray, "kz ky kx target *grid"]
    scores: Float[np.ndarray, "target kz ky kx"]
    mapped: Float[np.ndarray, "target kz ky kx"]
    baselines: Float[np.ndarray, "target kz ky kx"]
    classes: np.ndarray
    empty: int

    def done(self) -> Done:
        """In sums, for the progress."""
        gap, contributed = open_part(self.scores, self.mapped, self.baselines)
        return Done(self.scores[0].size, gap, contributed, self.empty)


def open_part(scores: np.ndarray, mapped: np.ndarray, baselines: np.ndarray) -> tuple[float, float]:
    """Sums over the accounts whose baseline is known: of their gaps, and of what images add.

    Examples
    --------
    >>> open_part(np.array([3.0, 5.0]), np.array([1.5, 9.0]), np.array([1.0, np.nan]))
    (0.5, 2.0)
    """
    known = np.isfinite(baselines)
    part = (scores - baselines)[known]
    return float(np.abs(part - mapped[known]).sum()), float(np.abs(part).sum())


@dataclass(eq=False)
class Engine:
    """A network that is ready to explain windows.

    Parameters
    ----------
    module
        The network, on its device.
    explainer
        Of the method and layer.
    settings
        Of the run.
    class_names
        Of the network.
    typed_names
        Whether a user gave these, so that a wrong number of them is a mistake.
    """

    module: nn.Module
    explainer: Callable[..., Any]
    settings: LargeSettings
    class_names: tuple[str, ...] = ()
    typed_names: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def batches(self, region: np.ndarray, corners: list[Index]) -> Iterator[Tensor]:
        """The windows at these corners of a region, as the network takes them."""
        size = self.settings.batch
        for first in range(0, len(corners), size):
            windows = [self._window(region, corner) for corner in corners[first : first + size]]
            yield self._tensor(np.stack(windows))

    def explain(self, windows: Tensor) -> Explanation:
        """Maps of a batch of windows."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said once, of the first window
            return self.explainer(windows, target=self.settings.target)

    def _window(self, region: np.ndarray, corner: Index) -> np.ndarray:
        z, y, x = (slice(a, a + n) for a, n in zip(corner, self.settings.window, strict=True))
        return NORMALIZATIONS[self.settings.normalize](region[:, z, y, x])

    def _tensor(self, windows: np.ndarray) -> Tensor:
        if self.settings.axes == "xyz":
            windows = windows.transpose(0, 1, 4, 3, 2)
        tensor = torch.from_numpy(np.ascontiguousarray(windows))
        parameter = next(self.module.parameters(), None)
        return tensor if parameter is None else tensor.to(parameter.device, parameter.dtype)


def make_engine(loaded: LoadedModel, device: str, settings: LargeSettings) -> Engine:
    """Set up the method on a network.

    Raises
    ------
    InputError
        If the method, an option of it, or the layer is unknown.
    """
    loaded.module.to(device)
    output = None if settings.output is None else output_part(settings.output)
    options = {**settings.options, "output": output}
    explainer = make(settings.method, loaded.module, settings.layer, options=options)
    names = tuple(loaded.class_names)
    return Engine(loaded.module, explainer, settings, names, loaded.typed_names)


def open_address(address: ModelAddress) -> LoadedModel:
    """Load a network; without weights, at least the same one everywhere."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        loaded = load_model(
            address.spec,
            weights=address.weights,
            trust=address.trust,
            arguments=address.arguments,
        )
    return loaded.with_names(address.class_names)


_engines: dict[Any, Engine] = {}
_loading = threading.Lock()


def engine_of(job: Job) -> Engine:
    """The engine of this process for a job; the network is loaded once.

    Raises
    ------
    ModelError
        If the network is another one here than where the run was started.
    """
    assert job.model is not None
    key = (repr(job.model), job.state_sha256, repr(job.settings.record()))
    with _loading:
        if key not in _engines:
            torch.set_num_threads(job.settings.threads or torch.get_num_threads())
            loaded = open_address(job.model)
            if state_sha256(loaded.module) != job.state_sha256:
                raise ModelError(
                    f"{job.model.spec!r} gives other parameters on this worker than where the run "
                    f"was started. Give its weights with --weights, in a file that all see."
                )
            _engines[key] = make_engine(loaded, job.model.device, job.settings)
        return _engines[key]


@contextlib.contextmanager
def repeatable(threads: int | None) -> Generator[int, None, None]:
    """A fixed number of threads, and algorithms of cuDNN that repeat their results."""
    before = torch.get_num_threads()
    cudnn = torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    torch.set_num_threads(threads or before)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield threads or before
    finally:
        torch.set_num_threads(before)
        cudnn.deterministic, cudnn.benchmark = flags


def finite_region(region: np.ndarray, settings: LargeSettings, source: Any) -> np.ndarray:
    """The same region with no NaN or infinite voxel.

    Raises
    ------
    VolumeError
        If there is one, and the settings do not say that it counts as zero.
    """
    finite = np.isfinite(region)
    if finite.all():
        return region
    if settings.nonfinite == "error":
        raise VolumeError(
            f"{str(source)!r} has voxels that are NaN or infinite. Pass nonfinite='zero' "
            f"(--nonfinite zero) to read them as zero"
        )
    return np.where(finite, region, np.float32(0))


def explain_tile(job: Job, engine: Engine, tile: Index, region: np.ndarray) -> TileMaps:
    """Explain all windows of a tile.

    Parameters
    ----------
    region
        Voxels (channel, z, y, x) of `Plan.tile_region`.
    """
    settings, plan = job.settings, job.plan
    spans = plan.tile_windows(tile)
    counts = tuple(last - first for first, last in spans)
    origin = [start for start, _ in plan.tile_region(tile)]
    axes = [
        [plan.starts[axis][k] - origin[axis] for k in range(*span)]
        for axis, span in enumerate(spans)
    ]
    corners: list[Any] = list(product(*axes))
    sampled = job.baselines is None and number_of(plan.tiles, tile) % _SAMPLED == 0
    rows = []
    with engine.lock:
        for number, windows in enumerate(engine.batches(region, corners)):
            rows.append(_read_off(job, engine.explain(windows), account=sampled and number == 0))
    joined = [np.concatenate(column) for column in zip(*rows, strict=True)]
    maps, scores, mapped, baselines, classes = joined
    grid = maps.shape[2:] if settings.axes == "zyx" else maps.shape[:1:-1]
    if settings.axes == "xyz":
        maps = maps.transpose(0, 1, 4, 3, 2)
    return TileMaps(
        np.ascontiguousarray(maps).reshape(*counts, maps.shape[1], *grid),
        *(column.T.reshape(-1, *counts) for column in (scores, mapped, baselines, classes)),
        empty=int((~maps.any(axis=(2, 3, 4))).sum()),
    )


def number_of(counts: Index, index: Index) -> int:
    """Number of a tile or chunk in their order."""
    return int(np.ravel_multi_index(index, counts))


def _read_off(job: Job, found: Explanation, *, account: bool) -> tuple[np.ndarray, ...]:
    """Maps, scores, sums, baselines and classes of a batch, (window, target, ...)."""
    _check_grid(job, found)
    scores = found.scores.detach().double().cpu().numpy()
    mapped = found.maps.detach().double().flatten(2).sum(dim=2).cpu().numpy()
    baselines = np.full(scores.shape, np.nan)
    classes = np.full(scores.shape, -1, np.int32)
    if found.classes is not None:
        classes = found.classes.cpu().numpy().astype(np.int32)
        if job.baselines is not None:
            baselines = np.array(job.baselines)[classes]
    if account:
        baselines = found.account.baseline.cpu().numpy()
    return found.maps.detach().float().cpu().numpy(), scores, mapped, baselines, classes


def _check_grid(job: Job, found: Explanation) -> None:
    """Raise ModelError where the layer's voxels are not where those of the first window were."""
    grid = _turned(found.grid) if job.settings.axes == "xyz" else found.grid
    known = job.grid
    if grid.origin != "layout" or known.origin != "layout":
        return
    if (grid.stride, grid.offset, grid.shape) != (known.stride, known.offset, known.shape):
        raise ModelError(
            f"The network takes another way for other values: layer {found.layer!r} has its voxels "
            f"at {grid.offset} + n x {grid.stride} in this window, and at {known.offset} + n x "
            f"{known.stride} in the first. Windows are put together on one grid; explain "
            f"them one by one, as volumes of their own."
        )


@dataclass(frozen=True)
class Probe:
    """What the first window tells of the run.

    Parameters
    ----------
    layer, layer_reason
        The explained layer, and why it was chosen (empty if it was given).
    grid
        Of the layer, axes z, y, x.
    labels
        One per target.
    baselines
        As in `Job`.
    intensities
        Its lowest and its highest voxel, before normalisation.
    notes
        What the library warned of.
    """

    layer: str
    layer_reason: str
    grid: LayerGrid
    labels: tuple[str, ...]
    baselines: tuple[float, ...] | None
    intensities: tuple[float, float]
    notes: tuple[str, ...]


def probe(engine: Engine, window: Float[np.ndarray, "channel z y x"]) -> Probe:
    """Explain one window before the run: mistakes show here.

    Raises
    ------
    InputError
        If the network does not take such windows, or the layer or target cannot be used.
    """
    (batch,) = engine.batches(window, [(0, 0, 0)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = engine.explainer(batch, target=engine.settings.target)
        if isinstance(found, tuple):
            raise InputError("Windows are explained at one layer. Give --layer once.")
        if engine.typed_names:
            check_names(engine.class_names, found.score_count)
        found = found.named(engine.class_names)
    if len(found.grid.shape) != 3:
        raise InputError(f"Layer {found.layer!r} has no grid of three axes. Choose another one.")
    notes = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
    notes += [found.grid.note] if found.grid.note else []
    notes += [found.precision.note] if found.precision is not None else []
    return Probe(
        found.layer,
        found.layer_reason,
        _turned(found.grid) if engine.settings.axes == "xyz" else found.grid,
        _labels(found, engine),
        _baselines(found, engine, batch),
        (float(window.min()), float(window.max())),
        tuple(dict.fromkeys(notes)),
    )


def _labels(found: Explanation, engine: Engine) -> tuple[str, ...]:
    """Names of the channels; a target that each window has its own of is called "predicted"."""
    if engine.settings.target == "predicted":
        return ("predicted",)
    return found.targets


def _baselines(found: Explanation, engine: Engine, batch: Tensor) -> tuple[float, ...] | None:
    """Scores of all classes with nothing at the layer, where no window changes them."""
    if found.classes is None or found.bypassed:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            every = engine.explainer(batch, target="all")
        except TargetError:
            return None
        first = every.account.baseline
        other = engine.explainer(batch + 1, target="all").account.baseline
    # the regions of a dense output's classes depend on the image
    if every.classes is None or not torch.equal(first, other):
        return None
    return tuple(first[0].tolist())


def _turned(grid: LayerGrid) -> LayerGrid:
    return LayerGrid(
        grid.stride[::-1],
        grid.offset[::-1],
        grid.shape[::-1],
        grid.input_shape[::-1],
        grid.uncertainty[::-1],
        grid.origin,
        grid.note,
    )
