"""Explanations whose targets are called by the names of their classes."""

from collections.abc import Sequence
from dataclasses import replace

from respondcam.attribution.explanation import Explanation


def with_class_names(explanation: Explanation, class_names: Sequence[str]) -> Explanation:
    """Call targets by the names of their classes where these are known.

    Examples
    --------
    >>> import torch
    >>> from respondcam.network.grid import LayerGrid
    >>> grid = LayerGrid((4.0,), (0.0,), (3,), (12,), (0.0,), "layout")
    >>> maps, scores, one = torch.ones(1, 1, 3), torch.ones(1, 1), torch.tensor([[1]])
    >>> found = Explanation(maps, scores, ("class 1",), "conv", "grad", grid, classes=one)
    >>> with_class_names(found, ["ribosome", "ferritin"]).targets
    ('ferritin',)
    """
    labels = list(explanation.targets)
    for target, label in enumerate(labels):
        number = class_of(explanation, target)
        if number is not None and number < len(class_names):
            labels[target] = label.replace(f"class {number}", class_names[number], 1)
    return replace(explanation, targets=tuple(labels))


def class_of(explanation: Explanation, target: int) -> int | None:
    """Number of the class that a target of the first sample stands for; None if it is no class."""
    classes = explanation.classes
    return None if classes is None else int(classes[0, target])
