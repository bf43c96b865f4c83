"""A run before its first window: everything checked, the output locked, the store made."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from respondcam._files import make_folder, slug
from respondcam.errors import InputError
from respondcam.large.engine import (
    Engine,
    Probe,
    finite_region,
    make_engine,
    open_address,
    probe,
    repeatable,
)
from respondcam.large.estimate import Estimate, estimate
from respondcam.large.inputs import signature
from respondcam.large.job import Job, LargeSettings, ModelAddress
from respondcam.large.lock import locked
from respondcam.large.manifest import (
    describe,
    device_of,
    read_manifest,
    refuse_changes,
    write_manifest,
)
from respondcam.large.plan import Plan, blocks_for, check_window, stride_of
from respondcam.large.store import create_store, remove_leftovers
from respondcam.network.sources import LoadedModel
from respondcam.network.weights import state_sha256
from respondcam.volume import stem
from respondcam.volume.lazy import LazyVolume, open_volume


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
    if loaded.preparation is not None:
        raise InputError(
            f"{loaded.spec} comes with its own preprocessing, which is not run window by window. "
            f"Load it with preprocess=False, and give volumes that are preprocessed."
        )
    new = not folder.exists()
    make_folder(folder)
    scratch = folder / f"{name}.{_short_digest(settings, address)}.unpacked"
    try:
        scratch.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {str(folder)!r} cannot be written to: {error.strerror or error}. Give "
            f"another one with --out."
        ) from error
    try:
        volume = open_volume(source, scratch)
        check_window(volume.space.shape, settings.window, repr(source.name))
        device = address.device if address else str(device_of(loaded.module))
        engine = make_engine(loaded, device, settings)
        with repeatable(settings.threads):
            seen = _probe(engine, volume, settings)
        job = _job(source, folder, name, scratch, loaded, address, settings, volume, seen, stride)
        before = {} if overwrite else read_manifest(job.run) or {}
        manifest = describe(job, loaded, volume, settings.threads, before)
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


def _short_digest(settings: LargeSettings, address: ModelAddress | None) -> str:
    record = {key: value for key, value in settings.record().items() if key != "threads"}
    text = json.dumps([record, address and address.spec], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _probe(engine: Engine, volume: LazyVolume, settings: LargeSettings) -> Probe:
    """Explain the window in the middle, where there is something to see."""
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


def _tidy(folder: Path, scratch: Path, *, new: bool, dry: bool) -> None:
    """Remove what is of no use any more: empty folders, and unpacked copies of a dry run."""
    if dry:
        shutil.rmtree(scratch, ignore_errors=True)
    for path in (scratch, *([folder] if new else [])):
        with contextlib.suppress(OSError):
            path.rmdir()
