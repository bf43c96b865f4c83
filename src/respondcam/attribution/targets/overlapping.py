"""Targets of networks whose classes may overlap: each channel of the output is a yes or no.

Networks with a sigmoid per class (nnU-Net's regions, many MONAI bundles) predict a class wherever
its own score is positive, whatever the other scores are. So each class is explained as the binary
output that it is.
"""

from typing import Any

import torch
from torch import Tensor

from respondcam._kinds import is_sequence
from respondcam.attribution.outputs import batched, check_classes, regions_of
from respondcam.attribution.targets.basic import Scores, Target, class_score, evaluate
from respondcam.errors import TargetError


def alone(number: int, target: Target | None = None) -> Target:
    """One class of several that may overlap.

    Parameters
    ----------
    number
        The class.
    target
        What is explained of its single score, as of a binary network: class 1 unless given, or
        for example ``component(1)``.

    Examples
    --------
    >>> output = torch.tensor([[[3.0, 1.0, -1.0], [4.0, -2.0, -1.0]]])
    >>> alone(0)(output).values  # 3 + 1, although class 1 is stronger at the first voxel
    tensor([[4.]])
    """
    inner = class_score(1) if target is None else target

    def cut(output: Tensor) -> Tensor:
        return batched(output)[:, number : number + 1]

    def score(output: Tensor) -> Scores:
        check_classes([number], output)
        found = evaluate(inner, cut(output))
        again = found.again
        notes = {at: f"class {number} is predicted nowhere in sample {at[0]}" for at in found.notes}
        return Scores(
            found.values,
            tuple(label.replace("class 1", f"class {number}", 1) for label in found.labels),
            torch.full((len(output), 1), number),
            notes,
            None if again is None else (lambda other: again(cut(other))),
            note=found.note,
        )

    return score


def overlapping(wanted: Any = "predicted") -> Target:
    """Classes that may overlap.

    Parameters
    ----------
    wanted
        ``"predicted"``: the class with the most voxels, or of whole outputs with the highest
        score; ``"all"``; or class numbers.

    Raises
    ------
    TargetError
        For anything else.

    Examples
    --------
    >>> output = torch.tensor([[[3.0, 1.0, -1.0], [4.0, -2.0, -1.0]]])
    >>> overlapping()(output).labels, overlapping("all")(output).values
    (('class 0 (predicted)',), tensor([[4., 4.]]))
    """
    if isinstance(wanted, str) and wanted not in ("predicted", "all"):
        raise TargetError(f"overlapping({wanted!r}): give 'predicted', 'all' or class numbers.")

    def score(output: Tensor) -> Scores:
        numbers = _numbers(batched(output.detach()), wanted)
        parts = [evaluate(alone(number), output) for number in numbers]
        labels = tuple(part.labels[0] for part in parts)
        if wanted == "predicted" and len(output) == 1:
            labels = (f"{labels[0]} (predicted)",)

        def again(other: Tensor) -> Tensor:
            return torch.cat([part.again(other) for part in parts if part.again], dim=1)

        return Scores(
            torch.cat([part.values for part in parts], dim=1),
            labels,
            torch.tensor(numbers).repeat(len(output), 1),
            {(at[0], k): why for k, part in enumerate(parts) for at, why in part.notes.items()},
            again,
            note=parts[0].note,
        )

    return score


def _numbers(output: Tensor, wanted: Any) -> list[int]:
    count = int(output.shape[1])
    if wanted == "all":
        return list(range(count))
    if wanted == "predicted":
        if output.ndim == 2:
            return [int(output.sum(dim=0).argmax())]
        sizes = [int(regions_of(output[:, k : k + 1]).sum()) for k in range(count)]
        return [max(range(count), key=sizes.__getitem__)]
    return [int(n) for n in (wanted if is_sequence(wanted) else [wanted])]
