"""Several methods in one call of ``respondcam explain``: what each one needs to know."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from respondcam._methods import ON_INPUT
from respondcam.attribution import METHODS
from respondcam.cli._compare_options import check_precision, options_of
from respondcam.cli._explaining import Settings
from respondcam.cli._options import choice
from respondcam.cli._remarks import owners


def settings_of(common: Settings, methods: Sequence[str]) -> list[Settings]:
    """The settings of each method, each once; what explains the input takes no layer.

    Raises
    ------
    InputError
        If a method is unknown, or an option is for none of them.
    """
    names = list(dict.fromkeys(methods)) or [common.method]
    for name in names:
        choice(name, tuple(METHODS), "--method")
    if len(names) == 1:
        own = tuple(pair.removeprefix(f"{names[0]}.") for pair in common.method_arguments)
        return [replace(common, method=names[0], method_arguments=own)]
    check_precision(names, common.precision)
    options = options_of(names, common.method_arguments)
    at_layers = not set(names) <= set(ON_INPUT)
    return [
        replace(
            common,
            method=name,
            layers=() if name in ON_INPUT and at_layers else common.layers,
            method_arguments=options[name],
        )
        for name in names
    ]


def notes_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """The notes on the maps of one volume; what holds for some of them only says for which.

    It is told by methods, layers or classes where it holds for all their maps, else map by map.
    """
    holders: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        for note in dict.fromkeys(record["notes"]):
            holders.setdefault(note, []).append(number)
    return [_with_owner(note, found, records) for note, found in holders.items()]


def _with_owner(note: str, found: Sequence[int], records: Sequence[Mapping[str, Any]]) -> str:
    if len(found) == len(records):
        return note
    if all(f"layer {record['layer']} " in note for record in (records[n] for n in found)):
        named = [n for n, one in enumerate(records) if f"layer {one['layer']} " in note]
        if len(named) == len(found):
            return note
    chosen: list[str] = []
    for keys in _names_of(records):
        chosen = list(dict.fromkeys(keys[number] for number in found))
        if sum(key in chosen for key in keys) == len(found):
            break
    return f"{owners(chosen, len(records), 'map')}: {note}"


def _names_of(records: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """How maps are told apart: by method, by layer, by class, and by all of these."""
    methods = [str(record["settings"]["method"]) for record in records]
    layers = [f"layer {record['layer']}" for record in records]
    targets = [str(r["target"]["name"]).removesuffix(" (predicted)") for r in records]
    if len(set(methods)) > 1:
        layers = [", ".join(pair) for pair in zip(methods, layers, strict=True)]
    whole = [f"{target} ({layer})" for target, layer in zip(targets, layers, strict=True)]
    return [methods, layers, targets, whole]
