"""A run over one volume from its files to its store: prepared, continued, finished."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from respondcam._files import expanded, make_folder, slug
from respondcam._version import __version__
from respondcam.errors import InputError
from respondcam.large.cluster import run_on
from respondcam.large.engine import Engine, Probe, make_engine, open_address, probe, repeatable
from respondcam.large.estimate import Estimate, estimate
from respondcam.large.export import Export, check_export, export
from respondcam.large.inputs import digest, signature
from respondcam.large.job import Done, Job, LargeSettings, ModelAddress, Task
from respondcam.large.local import run_local
from respondcam.large.lock import locked
from respondcam.large.manifest import read_manifest, refuse_changes, write_manifest
from respondcam.large.plan import Plan, blocks_for, check_window, stride_of
from respondcam.large.progress import Progress
from respondcam.large.store import Store, create_store, remove_leftovers
from respondcam.large.tasks import TileKeeper, schedule
from respondcam.network.sources import LoadedModel
from respondcam.network.weights import state_sha256
from respondcam.volume import stem
from respondcam.volume.lazy import LazyVolume, open_volume

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run has made.

    Parameters
    ----------
    store
        The OME-Zarr image.
    layer, layer_reason, labels
        The explained layer, why it was chosen (empty if it was given), and the image's channels.
    grid
        Voxels of the layer in a window.
    intensities
        Lowest and highest voxel of the window in the middle, before normalisation.
    windows
        In the volume.
    explained
        Of these, in this run: the others were there from an earlier one.
    seconds, windows_per_second
        Of this run.
    relative_gap
        Of the score accounts that are known, over all windows; None if none is.
    repaired
        Damaged chunks that were found and done again.
    exported
        Files that were written from the store.
    notes
        What a user should know.
    """

    store: Path
    layer: str
    layer_reason: str
    labels: tuple[str, ...]
    grid: tuple[int, ...]
    intensities: tuple[float, float]
    windows: int
    explained: int
    seconds: float
    windows_per_second: float
    relative_gap: float | None
    repaired: tuple[str, ...] = ()
    exported: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Prepared:
    """A run that is ready to start: everything was checked.

    Parameters
    ----------
    job
        What is to be done.
    engine
        Of this process.
    volume
        The input, opened.
    manifest
        What the run belongs to.
    seen
        What the window in the middle told.
    """

    job: Job
    engine: Engine
    volume: LazyVolume
    manifest: dict[str, Any]
    seen: Probe

    def estimate(self) -> Estimate:
        """What the run will take."""
        with repeatable(self.job.settings.threads):
            return estimate(self.job, self.engine, self.volume)


def explain_large(
    source: str | Path,
    folder: str | Path,
    model: nn.Module | LoadedModel | ModelAddress,
    settings: LargeSettings,
    *,
    name: str | None = None,
    client: Any = None,
    verify: bool = False,
    overwrite: bool = False,
    export_to: Export | None = None,
    say: Say | None = None,
) -> Outcome:
    """Explain a volume window by window, on disk, and continue where an earlier run stopped.

    Parameters
    ----------
    source
        The volume: see `respondcam.volume.lazy.open_volume`.
    folder
        Where the store goes: ``NAME.METHOD.LAYER.TARGET.ome.zarr``.
    model
        A network, or its address, which a cluster needs.
    settings
        What decides on the maps.
    name
        Of the store's name; None: the volume's.
    client
        A `dask.distributed.Client`; None: the work is done in this process.
    verify
        Read every chunk that is there, and do damaged ones again.
    overwrite
        Begin anew whatever is there.
    export_to
        Also write MRC or NIfTI files.
    say
        Takes lines about the progress.

    Raises
    ------
    InputError
        If something that was given cannot be used, or the output belongs to another run.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from respondcam import Volume, write_volume
    >>> folder = tempfile.mkdtemp()
    >>> write_volume(f"{folder}/tomo.mrc", Volume(np.random.rand(24, 24, 24)))
    >>> net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Softplus(), nn.Flatten(), nn.Linear(2 * 6**3, 2))
    >>> settings = LargeSettings(window=(8, 8, 8), target=1, layer="1", chunk=16)
    >>> explain_large(f"{folder}/tomo.mrc", folder, net, settings).windows
    125
    """
    say = say or (lambda line: None)
    with prepared(source, folder, model, settings, name=name, overwrite=overwrite) as run:
        if export_to is not None:
            check_export(export_to, run.volume.space)
        if client is not None and run.job.model is None:
            raise InputError(
                "A cluster loads the network from its address. Give a ModelAddress instead of "
                "the network itself."
            )
        return _carry_out(run, client, verify=verify, export_to=export_to, say=say)


@contextlib.contextmanager
def prepared(
    source: str | Path,
    folder: str | Path,
    model: nn.Module | LoadedModel | ModelAddress,
    settings: LargeSettings,
    *,
    name: str | None = None,
    overwrite: bool = False,
    dry: bool = False,
) -> Generator[Prepared, None, None]:
    """Check everything, hold the output's lock, and make what the run writes to.

    Parameters
    ----------
    source, folder, model, settings, name, overwrite
        As for `explain_large`.
    dry
        Write nothing.
    """
    source, folder = Path(source).resolve(), Path(folder).resolve()
    stride = stride_of(settings.window, settings.overlap)
    if settings.batch < 1 or settings.chunk < 8:
        raise InputError("Accepted: a batch of at least 1 window, chunks of at least 8 voxels.")
    name = stem(source) if name is None else name
    loaded, address = _load(model)
    new = not folder.exists()
    make_folder(folder)
    scratch = folder / f"{name}.{_short_digest(settings, address)}.unpacked"
    make_folder(scratch)
    try:
        volume = open_volume(source, scratch)
        check_window(volume.space.shape, settings.window, repr(source.name))
        device = address.device if address else str(_device_of(loaded.module))
        engine = make_engine(loaded, device, settings)
        with repeatable(settings.threads):
            seen = _probe(engine, volume, settings)
        job = _job(source, folder, name, scratch, loaded, address, settings, volume, seen, stride)
        before = {} if overwrite else read_manifest(job.run) or {}
        manifest = _manifest(job, loaded, volume, settings.threads, before)
        job = replace(job, settings=replace(job.settings, threads=manifest["settings"]["threads"]))
        engine.settings = job.settings
        ready = Prepared(job, engine, volume, manifest, seen)
        if dry:
            yield ready
            return
        _refuse_links(job)
        make_folder(job.run)
        with locked(job.run):
            _make_outputs(ready, overwrite=overwrite)
            yield ready
    finally:
        _tidy(folder, scratch, new=new, dry=dry)


def _load(
    model: nn.Module | LoadedModel | ModelAddress,
) -> tuple[LoadedModel, ModelAddress | None]:
    if isinstance(model, ModelAddress):
        return open_address(model), model
    if isinstance(model, LoadedModel):
        return model, None
    if not isinstance(model, nn.Module):
        raise InputError(f"The model must be a torch.nn.Module, not {type(model).__name__}.")
    return LoadedModel(model, type(model).__name__), None


def _device_of(module: nn.Module) -> torch.device:
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def _short_digest(settings: LargeSettings, address: ModelAddress | None) -> str:
    record = {key: value for key, value in settings.record().items() if key != "threads"}
    text = json.dumps([record, address and address.spec], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _probe(engine: Engine, volume: LazyVolume, settings: LargeSettings) -> Probe:
    """Explain the window in the middle, where there is something to see."""
    from respondcam.large.engine import finite_region

    shape = volume.space.shape
    start = [(n - w) // 2 for n, w in zip(shape, settings.window, strict=True)]
    stop = [a + w for a, w in zip(start, settings.window, strict=True)]
    window = volume.read(start, stop)
    return probe(engine, finite_region(window, settings, volume.space.source))


def _job(
    source: Path,
    folder: Path,
    name: str,
    scratch: Path,
    loaded: LoadedModel,
    address: ModelAddress | None,
    settings: LargeSettings,
    volume: LazyVolume,
    seen: Probe,
    stride: tuple[int, int, int],
) -> Job:
    target = str(settings.target) if settings.target_name is None else settings.target_name
    parts = (name, settings.method, slug(seen.layer), slug(target))
    stem_of = ".".join(parts)
    shape, window = volume.space.shape, settings.window
    chunk = tuple(min(settings.chunk, n) for n in shape)
    plan = Plan(shape, window, stride, (1, 1, 1), chunk)  # type: ignore[arg-type]
    cells = 1
    for count in seen.grid.shape:
        cells *= count
    block = blocks_for(
        plan.windows,
        window,
        stride,
        bytes_per_voxel=4 * volume.space.channels,
        bytes_per_window=4 * cells * len(seen.labels),
    )
    return Job(
        model=address,
        layer=seen.layer,
        state_sha256=state_sha256(loaded.module),
        settings=replace(settings, layer=seen.layer) if seen.layer_reason else settings,
        plan=replace(plan, block=block),
        grid=seen.grid,
        labels=seen.labels,
        baselines=seen.baselines,
        source=source,
        signature=signature(source),
        store=folder / f"{stem_of}.ome.zarr",
        run=folder / f"{stem_of}.run",
        scratch=scratch,
    )


def _manifest(
    job: Job,
    loaded: LoadedModel,
    volume: LazyVolume,
    threads: int | None,
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """What the run belongs to; ``seen`` is not compared."""
    seen = before.get("seen", {})
    same_look = (seen.get("path"), seen.get("signature")) == (str(job.source), job.signature)
    known = before.get("input", {}).get("sha256") if same_look else None
    if threads is None:
        threads = before.get("settings", {}).get("threads") or torch.get_num_threads()
    settings = replace(job.settings, threads=threads)
    return {
        "versions": {"respondcam": __version__, "torch": torch.__version__},
        "input": {
            "sha256": known or digest(job.source),
            "shape_zyx": list(volume.space.shape),
            "channels": volume.space.channels,
        },
        "model": {
            "spec": _spec_record(loaded.spec),
            "arguments": dict(loaded.arguments),
            "weights_sha256": loaded.weights.sha256 if loaded.weights else None,
            "state_sha256": job.state_sha256,
            "code_sha256": _code_digest(loaded.spec),
            "device": _device_of(loaded.module).type,
        },
        "settings": {**settings.record(), "layer": job.layer},
        "plan": {key: list(getattr(job.plan, key)) for key in ("stride", "block", "chunk")},
        "grid": {"stride": list(job.grid.stride), "offset": list(job.grid.offset)},
        "targets": list(job.labels),
        "seen": {"path": str(job.source), "signature": job.signature},
    }


def _spec_record(spec: str) -> str:
    """The address of a network; of one in a file the file's name: its digest says which it is."""
    file, colon, factory = spec.rpartition(":")
    return f"{Path(file).name}:{factory}" if colon and file.endswith(".py") else spec


def _code_digest(spec: str) -> str | None:
    """Of a network that is written in a file of Python: parameters do not show what it computes."""
    file = expanded(spec.rpartition(":")[0])
    return digest(file) if file.suffix == ".py" and file.is_file() else None


def _make_outputs(ready: Prepared, *, overwrite: bool) -> None:
    """Manifest and store: those of the run that is continued, or new ones."""
    job = ready.job
    before = None if overwrite else read_manifest(job.run)
    if overwrite:
        _remove_store(job)
    elif before is None and job.store.exists():
        raise InputError(
            f"{str(job.store)!r} exists and is no result of a run of this kind (there is no "
            f"manifest in {str(job.run)!r}). Give another folder with --out, or replace it with "
            f"--overwrite."
        )
    compared = {key: value for key, value in ready.manifest.items() if key != "seen"}
    if before is not None:
        refuse_changes({k: v for k, v in before.items() if k != "seen"}, compared, job.store)
    write_manifest(job.run, ready.manifest)
    remove_leftovers([job.store, job.run])
    if not job.store.exists():
        create_store(job, ready.volume.space, {"manifest": compared})


def _refuse_links(job: Job) -> None:
    """Refuse to write through links: they lead out of the folder that was given."""
    for path in (job.store, job.run):
        if path.is_symlink():
            raise InputError(
                f"{str(path)!r} is a link, and results are not written through links. Remove it, "
                f"or give another folder with --out."
            )


def _remove_store(job: Job) -> None:
    if job.store.is_file():
        raise InputError(f"{str(job.store)!r} is a file. Move it, or give another --out.")
    shutil.rmtree(job.store, ignore_errors=True)
    for path in job.run.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name == "manifest.json":
            path.unlink()


def _carry_out(
    run: Prepared, client: Any, *, verify: bool, export_to: Export | None, say: Say
) -> Outcome:
    job = run.job
    store = Store(job)
    name = job.source.name
    repaired = tuple(store.damaged()) if verify else ()
    for one in repaired:
        say(f"{name}: {one} is damaged and done again")
    tasks = list(schedule(store))
    if not tasks:
        say(f"{name}: everything is there already")
    keeper = TileKeeper(store)
    progress = _progress(store, tasks, say)
    if tasks and progress.windows < job.plan.window_count:
        say(f"{name}: continued, {job.plan.window_count - progress.windows} windows are done")

    def report(task: Task, done: Done) -> None:
        if task.kind == "chunk":
            keeper.chunk_done(task.index)
        progress.add(task, done)

    if client is None:
        with repeatable(job.settings.threads):
            run_local(store, run.engine, run.volume, tasks, report)
    else:
        run_on(client, ((job, task) for task in tasks), lambda _, task, done: report(task, done))
    seconds, rate = progress.seconds, progress.windows_per_second
    store.drop_tiles()
    shutil.rmtree(job.scratch, ignore_errors=True)
    if tasks:
        say(progress.line())
    stem_of = job.store.with_name(job.store.name.removesuffix(".ome.zarr"))
    files = (
        export(store.levels, job.labels, run.volume.space, stem_of, export_to) if export_to else []
    )
    notes = list(run.seen.notes)
    if progress.empty:
        notes.append(f"{progress.empty} of the windows' maps are zero everywhere")
    return Outcome(
        store=job.store,
        layer=job.layer,
        layer_reason=run.seen.layer_reason,
        labels=job.labels,
        grid=tuple(job.grid.shape),
        intensities=run.seen.intensities,
        windows=job.plan.window_count,
        explained=progress.windows_done,
        seconds=seconds,
        windows_per_second=rate,
        relative_gap=store.relative_gap(),
        repaired=repaired,
        exported=tuple(files),
        notes=tuple(notes),
    )


def _progress(store: Store, tasks: list[Task], say: Say) -> Progress:
    windows = 0
    for task in tasks:
        if task.kind == "tile":
            z, y, x = (last - first for first, last in store.job.plan.tile_windows(task.index))
            windows += z * y * x
    chunks = sum(task.kind == "chunk" for task in tasks)
    return Progress(say, windows, chunks, store.job.source.name)


def _tidy(folder: Path, scratch: Path, *, new: bool, dry: bool) -> None:
    """Remove what is of no use any more: empty folders, and unpacked copies of a dry run."""
    if dry:
        shutil.rmtree(scratch, ignore_errors=True)
    for path in (scratch, *([folder] if new else [])):
        with contextlib.suppress(OSError):
            path.rmdir()
