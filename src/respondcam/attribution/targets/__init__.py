"""What is explained: from a model's output to one scalar per sample and target.

A target is any callable ``output -> (batch,)`` or ``(batch, target)``. This package has the common
ones, and turns what a user writes (``"predicted"``, ``"all"``, a class, one per sample) into one.
Scores are pre-softmax.
"""

from respondcam.attribution.targets.basic import (
    Scores,
    Target,
    all_classes,
    as_target,
    class_per_sample,
    class_score,
    classes,
    evaluate,
    predicted,
    takes_output,
    value,
)
from respondcam.attribution.targets.boxes import detection
from respondcam.attribution.targets.compare import (
    contrast,
    log_probability,
    probability,
    similarity,
)
from respondcam.attribution.targets.regions import box, component, mask, voxel

__all__ = [
    "Scores",
    "Target",
    "all_classes",
    "as_target",
    "box",
    "class_per_sample",
    "class_score",
    "classes",
    "component",
    "contrast",
    "detection",
    "evaluate",
    "log_probability",
    "mask",
    "predicted",
    "probability",
    "similarity",
    "takes_output",
    "value",
    "voxel",
]
