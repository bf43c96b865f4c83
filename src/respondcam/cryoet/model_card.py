"""A card that tells what trained weights are: for people, beside the weights."""

import json
import platform
from collections.abc import Mapping
from typing import Any

import torch

NORMALIZATION = "zscore"
"""What `respondcam.cryoet.training_data.Images` are, by the name that explaining has for it."""


def card(record: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Write the card of a training as Markdown.

    Parameters
    ----------
    record
        Network, classes, schedule and facts, as the manifest of a training holds them.
    result
        Accuracy, seconds, samples per second, precision and history.

    Examples
    --------
    >>> record = {"network": "CNN2", "classes": ["a", "b"], "respondcam": "0.1",
    ...           "schedule": {"epochs": 1}, "facts": {"command": "respondcam train"}}
    >>> result = {"accuracy": 0.5, "seconds": 3.0, "samples_per_second": 9.0,
    ...           "precision": "fp32", "history": []}
    >>> card(record, result).splitlines()[0]
    '# CNN2, 2 classes'
    """
    facts = dict(record["facts"])
    command = facts.pop("command", None)
    lines = [
        f"# {record['network']}, {len(record['classes'])} classes",
        "",
        (
            f"Accuracy on images not learned from: {100 * result['accuracy']:.1f} %. They "
            f"chose the epoch whose weights these are, so fresh images give a little less."
        ),
        "",
        "| | |",
        "| --- | --- |",
        f"| classes, in the order of the scores | {', '.join(map(_cell, record['classes']))} |",
        (
            f"| intensities | each image at mean 0 and standard deviation 1 (--normalize "
            f"{NORMALIZATION}) |"
        ),
        *(f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()),
        *(f"| {name} | {_cell(value)} |" for name, value in record["schedule"].items()),
        f"| computed in | {result['precision']} |",
        f"| time | {result['seconds']:.0f} s, {result['samples_per_second']:.0f} images/s |",
        (
            f"| software | respondcam {record['respondcam']}, torch {torch.__version__}, Python "
            f"{platform.python_version()} |"
        ),
        "",
    ]
    if command:
        lines += ["Made with:", "", "```", str(command), "```", ""]
    lines += ["| epoch | loss | accuracy | seconds |", "| ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {one['number']} | {one['loss']:.3f} | {one['accuracy']:.3f} | {one['seconds']:.0f} |"
        for one in result["history"]
    ]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("|", "\\|").replace("\n", " ")
