"""A run over one volume, from its files to its store: carried out, or continued."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from respondcam._words import counted
from respondcam.attribution.naming import with_names
from respondcam.errors import InputError
from respondcam.large.cluster import run_on
from respondcam.large.engine import repeatable
from respondcam.large.export import Export, check_export, export
from respondcam.large.job import Done, Job, LargeSettings, ModelAddress, Task
from respondcam.large.local import run_local
from respondcam.large.preparing import Prepared, prepared
from respondcam.large.progress import Progress
from respondcam.large.store import Store
from respondcam.large.tasks import TileKeeper, schedule
from respondcam.network.sources import LoadedModel
from respondcam.volume.lazy import LazyVolume

Say = Callable[[str], None]
Draw = Callable[[Job, Sequence[Any], LazyVolume, Sequence[int]], list[Path]]
"""Makes pictures of a run's maps: its job, the levels of the image, what was explained, and the
channels in the order of their highest score."""


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
    highest
        Of each channel, the highest score of a window and the voxel (z, y, x) of its middle;
        None where it is not known.
    highest_class
        Of each channel whose windows have a class of their own each, the class of that window;
        empty for others.
    relative_gap
        Of the score accounts that are known, over all windows; None if none is.
    repaired
        Damaged chunks that were found and done again.
    exported
        Files that were written from the store.
    figures
        Pictures of it.
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
    highest: tuple[tuple[float, tuple[int, int, int]] | None, ...]
    relative_gap: float | None
    highest_class: tuple[str, ...] = ()
    repaired: tuple[str, ...] = ()
    exported: tuple[Path, ...] = ()
    figures: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


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
    export_to: Export | Sequence[Export] | None = None,
    draw: Draw | None = None,
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
        Also write MRC or NIfTI files, or both.
    draw
        Makes pictures when the image is there.
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
    kinds = (export_to,) if isinstance(export_to, str) else tuple(dict.fromkeys(export_to or ()))
    with prepared(source, folder, model, settings, name=name, overwrite=overwrite) as run:
        for kind in kinds:
            check_export(kind, run.volume.space)
        if client is not None and run.job.model is None:
            raise InputError(
                "A cluster loads the network from its address. Give a ModelAddress instead of "
                "the network itself."
            )
        return _carry_out(run, client, verify=verify, export_to=kinds, draw=draw, say=say)


def _carry_out(
    run: Prepared,
    client: Any,
    *,
    verify: bool,
    export_to: Sequence[Export],
    draw: Draw | None,
    say: Say,
) -> Outcome:
    job = run.job
    store = Store(job)
    name = job.source.name
    repaired = tuple(store.damaged()) if verify else ()
    for one in repaired:
        say(f"{name}: {one} is damaged and done again")
    if verify and not repaired:
        say(f"{name}: what is there was read back, and nothing of it is damaged")
    tasks = list(schedule(store))
    if not tasks:
        say(f"{name}: everything is there already")
    keeper = TileKeeper(store)
    progress = _progress(store, tasks, say)
    if tasks and progress.windows < job.plan.window_count:
        there = job.plan.window_count - progress.windows
        say(f"{name}: continued, {there} of {counted(job.plan.window_count, 'window')} are done")

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
    highest = [store.highest(channel) for channel in range(len(job.labels))]
    known = [-math.inf if found is None else found[0] for found in highest]
    order = sorted(range(len(known)), key=lambda channel: -known[channel])
    # while unpacked input is there
    figures = draw(job, store.levels, run.volume, order) if draw else []
    shutil.rmtree(job.scratch, ignore_errors=True)
    if tasks:
        say(progress.line())
    stem_of = job.store.with_name(job.store.name.removesuffix(".ome.zarr"))
    title = f"{job.settings.method}, layer {job.layer}"
    files: list[Path] = []
    for kind in export_to:
        files += export(store.levels, job.labels, run.volume.space, stem_of, kind, title=title)
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
        highest=tuple(found and found[:2] for found in highest),
        highest_class=tuple(
            with_names(f"class {found[2]}", run.engine.class_names)
            if found and found[2] >= 0 and label == "predicted"
            else ""
            for label, found in zip(job.labels, highest, strict=True)
        ),
        relative_gap=store.relative_gap(),
        repaired=repaired,
        exported=tuple(files),
        figures=tuple(figures),
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
