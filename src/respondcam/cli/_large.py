"""``respondcam explain --window``: volumes larger than a window, on disk."""

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from respondcam._files import expanded
from respondcam._words import counted
from respondcam.attribution.targets.words import parse_target
from respondcam.cli._batch import Batch, run_batch
from respondcam.cli._explaining import AXES, noted, open_model, refuse_preparation
from respondcam.cli._inputs import Source, left_out
from respondcam.cli._interrupting import Interrupted
from respondcam.cli._large_figures import draw_sections
from respondcam.cli._options import choice, parse_arguments, pick_device, three_numbers
from respondcam.cli._printing import console, number, percent, print_json, say, say_when
from respondcam.cli._remarks import on_choice, on_grid, on_intensities, on_open_part
from respondcam.cli._tables import print_notes
from respondcam.errors import InputError
from respondcam.large.cluster import connected
from respondcam.large.estimate import Estimate
from respondcam.large.job import LargeSettings, ModelAddress
from respondcam.large.preparing import prepared
from respondcam.large.run import Outcome, explain_large
from respondcam.network.sources import LoadedModel

_MOST = 6  # classes whose highest window is told; the store has all scores


@dataclass(frozen=True)
class Asked:
    """What was typed.

    Parameters
    ----------
    window, overlap, stitch, batch, workers, threads, scheduler, dry_run, verify, export
        The options of the same names.
    """

    window: str | None = None
    overlap: float | None = None
    stitch: str | None = None
    batch: int | None = None
    workers: int | None = None
    threads: int | None = None
    scheduler: str | None = None
    dry_run: bool = False
    verify: bool = False
    export: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.window is not None:
            return
        for name, value in vars(self).items():
            if value not in (None, False, ()):
                option = name.replace("_", "-")
                raise InputError(
                    f"--{option} goes with --window, which explains a volume window by window. "
                    f"Give, for example, --window 40."
                )


@dataclass(frozen=True)
class Network:
    """How the network was named.

    Parameters
    ----------
    spec, weights, arguments, device, trust, classes
        As the options of these names.
    """

    spec: str
    weights: str | None
    arguments: Sequence[str] | None
    device: str
    trust: bool
    classes: tuple[str, ...] = ()

    def address(self) -> ModelAddress:
        """For processes that may have another working folder."""
        spec = self.spec
        file, colon, factory = spec.rpartition(":")
        if colon and Path(file).suffix == ".py" and Path(file).is_file():
            spec = f"{Path(file).resolve()}:{factory}"
        weights = None if self.weights is None else str(expanded(self.weights).resolve())
        arguments = parse_arguments(self.arguments)
        device = str(pick_device(self.device))
        return ModelAddress(spec, weights, self.trust, arguments, device, self.classes)


def explain_windows(
    files: Sequence[str],
    sources: Sequence[Source],
    network: Network,
    asked: Asked,
    common: dict[str, Any],
    out: Path,
    *,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """What ``respondcam explain`` does when a window is given.

    Parameters
    ----------
    files, sources
        As they were typed, and the volumes that they stand for.
    common
        The options that explaining whole volumes has too.
    """
    layers = tuple(common["layers"])
    if len(layers) > 1:
        raise InputError("Windows are explained at one layer. Give --layer once.")
    for kind in asked.export:
        choice(kind, ("mrc", "nii.gz"), "--export")
    if common["align"] != "layout":
        raise InputError("--align measured differs from window to window. Use --align layout.")
    if common["channels"]:
        raise InputError("--channels is for volumes that are explained whole, without --window.")
    if asked.workers is not None and asked.scheduler is not None:
        raise InputError("--workers makes a cluster, --scheduler uses one. Give one of them.")
    loaded, notes = open_model(
        network.spec,
        network.weights,
        network.arguments,
        network.device,
        trust=network.trust,
        classes=network.classes,
    )
    refuse_preparation(loaded, "--window")
    notes += left_out(files, sources)
    settings = _settings(asked, common, layers, loaded)
    if asked.dry_run:
        batch = run_batch(sources, lambda one: _estimate(one, out, loaded, settings))
        mixed = [_MIXED] if settings.target == "predicted" and batch.done else []
        _report_estimates(batch, [*notes, *mixed], as_json=as_json)
        batch.leave()
        return
    done = _run(sources, network, loaded, asked, settings, out, overwrite=overwrite, quiet=quiet)
    if not quiet or as_json:
        _report(done, notes, settings, out, as_json=as_json)
    done.leave()


def _settings(
    asked: Asked, common: dict[str, Any], layers: tuple[str, ...], loaded: LoadedModel
) -> LargeSettings:
    target = common["target"]
    if target.startswith("mask:") and target not in loaded.class_names:
        raise InputError(
            f"--target is {target!r}, a mask of the whole volume. With --window give a class, or a "
            f"place within each window such as box:Z,Y,X-Z,Y,X@3."
        )
    for option in ("batch", "workers", "threads"):
        given = getattr(asked, option)
        if given is not None and given < 1:
            raise InputError(f"--{option} is {given}. Accepted: numbers from 1 on.")
    threads = asked.threads
    if threads is None and asked.workers:
        threads = max(1, _cores() // asked.workers)
    return LargeSettings(
        window=_window(str(asked.window)),
        overlap=0.5 if asked.overlap is None else asked.overlap,
        stitch=cast(Any, choice(asked.stitch or "mean", ("mean", "sum"), "--stitch")),
        method=common["method"],
        layer=layers[0] if layers else None,
        target=parse_target(target, loaded.class_names, turned=common["axes"] == "xyz"),
        target_name=target,
        normalize=common["normalize"],
        axes=cast(Any, choice(common["axes"], AXES, "--axes")),
        nonfinite=common["nonfinite"],
        output=common["output"],
        batch=asked.batch or 8,
        threads=threads,
        options=_method_options(common),
    )


def _method_options(common: dict[str, Any]) -> dict[str, Any]:
    given = parse_arguments(common["method_arguments"], "--method-arg", "nodes=32")
    for name in given:
        if name in ("output", "align", "precision"):
            raise InputError(f"--method-arg is {name}=...; that is an option by itself: --{name}.")
    # a method that cannot says so
    return given if common["precision"] == "fp32" else {**given, "precision": common["precision"]}


def _window(text: str) -> tuple[int, int, int]:
    found = three_numbers(f"{text},{text},{text}" if text.strip().isdecimal() else text)
    if found is None or min(found) < 1:
        raise InputError(
            f"--window is {text!r}. Accepted: voxels of a cube such as 40, or along z, y, x such "
            f"as 32,64,64 or 32x64x64."
        )
    return found


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(
    sources: Sequence[Source],
    network: Network,
    loaded: LoadedModel,
    asked: Asked,
    settings: LargeSettings,
    out: Path,
    *,
    overwrite: bool,
    quiet: bool,
) -> Batch[Outcome]:
    with _client(asked) as client:

        def work(source: Source) -> Outcome:
            return explain_large(
                source.path,
                out,
                loaded if client is None else network.address(),
                settings,
                name=source.name,
                client=client,
                verify=asked.verify,
                overwrite=overwrite,
                export_to=cast(Any, asked.export),
                draw=draw_sections,
                say=(lambda line: None) if quiet else say_when,
            )

        try:
            return run_batch(sources, work)
        except KeyboardInterrupt as stop:
            raise Interrupted(
                f"The windows that were finished are kept in {str(out)!r}. The same command goes "
                f"on from there."
                if out.exists()
                else "Nothing was written."
            ) from stop


@contextlib.contextmanager
def _client(asked: Asked) -> Generator[Any, None, None]:
    if asked.scheduler is None and asked.workers is None:
        yield None
        return
    with connected(asked.scheduler, asked.workers) as client:
        yield client


def _estimate(source: Source, out: Path, loaded: LoadedModel, settings: LargeSettings) -> Estimate:
    with noted(), prepared(source.path, out, loaded, settings, name=source.name, dry=True) as run:
        return run.estimate()


def _report_estimates(batch: Batch[Estimate], notes: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "estimates": [{"path": str(s.path), **vars(one)} for s, one in batch.done],
                "failed": _failed(batch),
                "notes": notes,
            }
        )
        return
    for source, one in batch.done:
        say(one.line(source.label))
    print_notes(list(dict.fromkeys(notes)), {})


_MIXED = (
    "each window explains the class that it predicts itself, so the map can mix classes; --target "
    "names one"
)


def _notes_on(one: Outcome, settings: LargeSettings) -> list[str]:
    """What `explain` says of whole volumes, as far as it holds for windows."""
    gap = one.relative_gap
    notes = [
        on_choice(one.layer, one.layer_reason) if one.layer_reason else "",
        *one.notes,
        on_grid(one.layer, one.grid, "window"),
        "" if gap is None else on_open_part(settings.method, one.layer, gap),
        on_intensities(one.intensities, settings.normalize, "window in the middle"),
        _MIXED if settings.target == "predicted" else "",
    ]
    return [note for note in notes if note]


def _report(
    batch: Batch[Outcome], notes: list[str], settings: LargeSettings, out: Path, *, as_json: bool
) -> None:
    said = {source.label: _notes_on(one, settings) for source, one in batch.done}
    if as_json:
        print_json(
            {
                "volumes": [
                    {"path": str(s.path), **vars(one), "notes": said[s.label]}
                    for s, one in batch.done
                ],
                "failed": _failed(batch),
                "notes": notes,
            }
        )
        return
    screen = console()
    for source, one in batch.done:
        gap = "unknown" if one.relative_gap is None else percent(one.relative_gap)
        rate = f", {one.windows_per_second:.1f} windows/s" if one.explained else ""
        screen.print(
            f"{source.label}: {counted(one.windows, 'window')} at layer {one.layer}, "
            f"{one.explained} explained now{rate}; mean gap of their accounts {gap}",
            markup=False,
        )
        for line in _highest(one):
            screen.print(f"  {line}", markup=False)
        for path in (one.store, *one.exported, *one.figures):
            screen.print(f"  {out / path.name}", markup=False, soft_wrap=True)
        if not one.exported:
            screen.print(
                "  The image opens in napari; for other programs give --export mrc or nii.gz."
            )
    print_notes(notes, said)


def _highest(one: Outcome) -> list[str]:
    """Where each class has its highest score, the highest first."""
    found = [
        (score, label, which, ", ".join(map(str, middle)))
        for label, which, (score, middle) in (
            (label, which, highest)
            for label, which, highest in zip(
                one.labels, one.highest_class, one.highest, strict=True
            )
            if highest is not None
        )
    ]
    found.sort(key=lambda each: -each[0])
    lines = [
        f"{label}: highest score {number(score)}{f' of {which}' if which else ''}, in the window "
        f"around voxel {place} (z, y, x)"
        for score, label, which, place in found[:_MOST]
    ]
    more = len(found) - _MOST
    return lines + [
        f"and {more} more {'class' if more == 1 else 'classes'} with lower scores, in the OME-Zarr"
    ] * (more > 0)


def _failed(batch: Batch[Any]) -> list[dict[str, str]]:
    return [{"path": str(source.path), "error": message} for source, message in batch.failed]
