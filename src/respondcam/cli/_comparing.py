"""The work of ``respondcam compare``: what is asked, and the figures of one volume."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from respondcam._methods import ON_INPUT
from respondcam.attribution import METHODS, Explanation
from respondcam.attribution.methods import make as make_method
from respondcam.attribution.naming import check_names
from respondcam.attribution.targets.words import parse_target
from respondcam.cli._batch import stage
from respondcam.cli._compare_files import Folder, to_record
from respondcam.cli._compare_masks import find_masks, read_mask
from respondcam.cli._compare_options import check_precision, options_of
from respondcam.cli._explaining import (
    Settings,
    advice,
    make_explainer,
    noted,
    open_model,
    output_part,
    read_inputs,
    refuse_preparation,
    sha256_of,
)
from respondcam.cli._inputs import Source
from respondcam.cli._options import choice, parse_arguments
from respondcam.cli._remarks import intensities, on_intensities, on_map, with_owners
from respondcam.cli._writing import model_record
from respondcam.errors import InputError
from respondcam.evidence.comparison import Result
from respondcam.evidence.controls import CONTROLS, ChannelSum
from respondcam.evidence.faithfulness import Changing
from respondcam.evidence.fills import FILLS
from respondcam.evidence.measuring import GROUPS, NEED_MASK, Method, Wanted, measure
from respondcam.evidence.sanity import fixed_target
from respondcam.evidence.scoring import Scorer
from respondcam.network.sources import LoadedModel

NO_LAYER = "-"


_OF_CHANGED_IMAGES = ("deletion", "insertion", "drop", "road", "arcc")  # groups of measures


@dataclass(frozen=True)
class Asked:
    """The options of the command that decide on the figures."""

    methods: tuple[str, ...]
    layers: tuple[str, ...]
    metrics: tuple[str, ...]
    target: str
    masks: str | None
    mask_label: int | None
    background: str | None
    fill: str
    steps: int
    controls: bool
    batch: int
    seed: int
    normalize: str
    axes: str
    output: str | None
    method_arguments: tuple[str, ...] = ()
    precision: str = "fp32"
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.methods:
            choice(name, (*METHODS, "all"), "--method")
        for name in self.metrics:
            choice(name, (*GROUPS, "all"), "--metric")
        choice(self.fill, FILLS, "--fill")
        check_precision(self.names(), self.precision)
        if not self.masks and (named := [m for m in self.metrics if m in NEED_MASK]):
            raise InputError(
                f"--metric {named[0]} needs to know where the object is: give --masks."
            )

    def names(self) -> tuple[str, ...]:
        """The methods, each once; "all" stands for those that are not named."""
        found = [name for name in self.methods if name != "all"]
        return tuple(dict.fromkeys([*found, *(METHODS if "all" in self.methods else ())]))

    def wanted(self) -> Wanted:
        """What is measured of each map."""
        how = Changing(self.fill, self.steps, self.batch, self.seed)
        groups: tuple[str, ...] = self.metrics or ("account", "deletion", "insertion", "drop")
        if "all" in groups:
            groups = tuple(name for name in GROUPS if self.masks or name not in NEED_MASK)
        elif self.masks and not self.metrics:
            groups = (*groups, "location")
        return Wanted(tuple(dict.fromkeys(groups)), how)

    def settings(self, method: str) -> Settings:
        """What the explainer of a method needs to know."""
        # the layers are for the methods that have one, if there are any
        on_input = method in ON_INPUT and not set(self.names()) <= set(ON_INPUT)
        return Settings(
            method,
            () if on_input else self.layers,
            self.target,
            self.normalize,
            self.axes,
            output=self.output,
            precision=self.precision,
            method_arguments=options_of(self.names(), self.method_arguments)[method],
        )

    def options(self, method: str) -> dict[str, Any]:
        """What a method is made with, besides the network and the layer."""
        given = parse_arguments(self.settings(method).method_arguments)
        output = {} if self.output is None else {"output": output_part(self.output)}
        precision = {} if self.precision == "fp32" else {"precision": self.precision}
        return given | output | precision


@dataclass
class Comparison:
    """Everything that is needed to measure one volume after the other."""

    asked: Asked
    wanted: Wanted
    loaded: LoadedModel
    explainers: Mapping[str, Callable[..., Any]]
    masks: Mapping[str, Path]
    backgrounds: Mapping[str, Path]
    folder: Folder
    notes: list[str] = field(default_factory=list)
    resumed: int = 0

    def measure(self, source: Source) -> dict[str, Any]:
        """The record of one volume: kept from before, or measured and kept."""
        paths = {
            "mask": self.masks.get(source.name),
            "background": self.backgrounds.get(source.name),
        }
        identity = {
            "path": str(source.path),
            "sha256": sha256_of(source.path),
            **{what: path and sha256_of(path) for what, path in paths.items()},
        }
        record = self.folder.done(source.name, identity)
        if record is not None:
            self.resumed += 1
            return record
        with noted() as notes:
            results, own, measure = _results(self, source)
        return self.folder.keep(
            source.name,
            {
                "identity": identity,
                "measure": measure,
                "results": [to_record(r) for r in results],
                "notes": own + notes,
            },
        )


def open_comparison(
    asked: Asked,
    sources: Sequence[Source],
    out: Path,
    network: tuple[str, str | None, list[str] | None, str, bool],
    *,
    overwrite: bool,
) -> Comparison:
    """Check everything that can be checked before the work, and load the network.

    Raises
    ------
    InputError
        If an option is wrong, or the folder holds a comparison with other settings.
    """
    wanted = asked.wanted()
    settings = {name: asked.settings(name) for name in asked.names()}
    masks = find_masks(asked.masks, sources, "--masks")
    backgrounds = find_masks(asked.background, sources, "--background")
    spec, weights, arguments, device, trust = network
    loaded, notes = open_model(spec, weights, arguments, device, trust=trust, classes=asked.classes)
    refuse_preparation(loaded, "compare")
    explainers = {name: make_explainer(loaded, one) for name, one in settings.items()}
    if asked.controls:
        explainers["channel-sum"] = _channel_sum(loaded, asked)
    notes += advice(loaded, next(iter(settings.values())))
    decides = {**vars(asked), "methods": asked.names(), "metrics": wanted.groups}
    # names of classes are those of the network's record
    decides = {key: value for key, value in decides.items() if key not in ("batch", "classes")}
    folder = Folder(out, {"settings": decides, "model": model_record(loaded)}, overwrite=overwrite)
    return Comparison(asked, wanted, loaded, explainers, masks, backgrounds, folder, notes)


def _results(comparison: Comparison, source: Source) -> tuple[list[Result], list[str], str]:
    """The figures, what there is to know, and what was followed in changed images."""
    asked, module = comparison.asked, comparison.loaded.module
    volume, inputs = read_inputs(source, asked.settings(next(iter(asked.names()))))
    turned = asked.axes == "xyz"
    goal = parse_target(asked.target, comparison.loaded.class_names, image=volume, turned=turned)
    parts: dict[str, Tensor | None] = {"mask": None, "background": None}
    for what, paths in (("mask", comparison.masks), ("background", comparison.backgrounds)):
        if source.name in paths:
            label = asked.mask_label if what == "mask" else None
            option = "--masks" if what == "mask" else "--background"
            inside = read_mask(paths[source.name], volume, label, option)
            parts[what] = torch.from_numpy(inside.T.copy() if turned else inside)[None]
    output = None if asked.output is None else output_part(asked.output)
    scorer = Scorer(module, inputs, goal, output=output)
    if scorer.full.shape[1] != 1:
        raise InputError(
            f"--target {asked.target!r} stands for {scorer.full.shape[1]} targets; compare looks "
            f"at one for each volume, such as predicted or a class."
        )
    told = on_intensities(intensities(volume), asked.normalize)
    notes = [told] if told else []
    changing = [name for name in comparison.wanted.groups if name in _OF_CHANGED_IMAGES]
    if changing and scorer.measure == "probability":
        notes.append(
            f"{', '.join(changing)} {'follow' if len(changing) > 1 else 'follows'} the probability "
            f"of the class, which other classes move too, not its score"
        )
    if parts["mask"] is None and asked.masks:
        notes.append("no mask has its name")
    results: list[Result] = []
    refused: dict[str, list[str]] = {}
    for name, explainer in comparison.explainers.items():
        stage(name)
        try:
            found, told = _of_method(comparison, name, explainer, inputs, goal, scorer, parts)
        except InputError as error:
            refused.setdefault(str(error), []).append(name)
            continue
        results += [Result(source.name, *one) for one in found]
        notes += told
    left_out = [_left_out(names, why) for why, names in refused.items()]
    if not any(one.method in METHODS for one in results):
        raise InputError(f"No method could be measured: {'; '.join(left_out)}")
    notes += left_out
    if asked.controls:
        results += _blind(comparison, scorer, parts, source.name)
    return results, list(dict.fromkeys(notes)), scorer.measure


def _left_out(names: Sequence[str], why: str) -> str:
    """Say once why several methods could not be measured."""
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} left out: {why}"


def _of_method(
    comparison: Comparison,
    name: str,
    explainer: Callable[..., Any],
    inputs: Any,
    goal: Any,
    scorer: Scorer,
    parts: Mapping[str, Tensor | None],
) -> tuple[list[tuple[Any, ...]], list[str]]:
    """Method, layer, figures and counts of one method at all layers, and what there is to know."""
    explanations = explainer(inputs, target=goal)
    found: list[tuple[Any, ...]] = []
    notes: list[str] = []
    of_layers: dict[str, list[str]] = {}
    for one in explanations if isinstance(explanations, tuple) else (explanations,):
        check_names(comparison.asked.classes, one.score_count)
        is_method = name not in CONTROLS
        measured = measure(
            scorer,
            one.place().detach(),
            comparison.wanted,
            heights=one.place("value").detach(),
            mask=parts["mask"],
            background=parts["background"],
            explanation=one if is_method else None,
            method=_again(comparison, name, one, goal) if is_method else None,
        )
        found.append((name, one.layer, measured.figures, measured.counts))
        notes += [f"{name}: {note}" for note in measured.notes]
        if is_method:
            of_layers[f"layer {one.layer}"] = on_map(one)
    return found, [*notes, *with_owners(of_layers, "layer")]


def _blind(
    comparison: Comparison, scorer: Scorer, parts: Mapping[str, Tensor | None], image: str
) -> list[Result]:
    """The controls that look at nothing."""
    somewhere = torch.zeros((1, *scorer.image.shape[2:]), dtype=torch.bool)
    found = []
    for name in ("uniform", "centre"):
        maps = CONTROLS[name](somewhere)[:, None].to(scorer.image)
        measured = measure(
            scorer, maps, comparison.wanted, mask=parts["mask"], background=parts["background"]
        )
        found.append(Result(image, name, NO_LAYER, measured.figures, measured.counts))
    return found


def _again(comparison: Comparison, name: str, explanation: Explanation, goal: Any) -> Method:
    """How the same method explains the same layer once more, of any network of this kind."""
    asked, options = comparison.asked, comparison.asked.options(name)

    def make(module: nn.Module) -> Callable[..., Any]:
        try:
            explainer = make_method(name, module, explanation.layer, options=options)
        except InputError:  # a method that joins layers gives them one name
            layers: Any = list(asked.layers) or None
            explainer = make_method(name, module, layers, options=options)

        def quiet(*given: Any, **options: Any) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of changed images and networks nobody asked
                return explainer(*given, **options)

        return quiet

    return Method(make, comparison.loaded.module, fixed_target(explanation, goal))


def _channel_sum(loaded: LoadedModel, asked: Asked) -> Callable[..., Any]:
    layers: Any = list(asked.layers) if len(asked.layers) > 1 else next(iter(asked.layers), None)
    output = None if asked.output is None else output_part(asked.output)
    precision: Any = asked.precision
    return ChannelSum(loaded.module, layer=layers, output=output, precision=precision)
