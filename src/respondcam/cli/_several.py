"""Several methods in one call of ``respondcam explain``: what each one needs to know."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from respondcam._methods import ON_INPUT
from respondcam.attribution import METHODS
from respondcam.cli._compare_options import check_precision, options_of
from respondcam.cli._explaining import Settings
from respondcam.cli._options import choice


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
    """The notes on the maps of one volume; what holds for some methods only names them."""
    holders: dict[str, list[str]] = {}
    methods = list(dict.fromkeys(record["settings"]["method"] for record in records))
    for record in records:
        for note in record["notes"]:
            known = holders.setdefault(note, [])
            if record["settings"]["method"] not in known:
                known.append(record["settings"]["method"])
    return [
        note if len(found) == len(methods) else f"{', '.join(found)}: {note}"
        for note, found in holders.items()
    ]
