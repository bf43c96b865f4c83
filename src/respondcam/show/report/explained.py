"""A report straight from an explanation, without files in between."""

import os
from collections.abc import Sequence
from pathlib import Path

from respondcam.attribution import Explanation
from respondcam.errors import InputError
from respondcam.show.figures import explanation_caption
from respondcam.show.report.content import Report, ReportMap, Table
from respondcam.show.report.writing import write_report
from respondcam.volume import Volume


def explanation_report(
    explanations: Explanation | Sequence[Explanation],
    path: str | os.PathLike[str],
    *,
    sample: int = 0,
    image: Volume | None = None,
    channel: int = 0,
    tables: Sequence[Table] = (),
) -> Path:
    """Write a page with all maps of one sample: every target, and every layer or method given.

    Parameters
    ----------
    explanations
        One, or several of the same image, such as those of several layers.
    path
        Ends with .html.
    sample
        Of the batch.
    image
        What is below the maps; None is the volume that was explained.
    channel
        Of the image.
    tables
        Evidence to show.

    Raises
    ------
    InputError
        If there is no image, the input was not three-dimensional, or the file cannot be written.

    Examples
    --------
    >>> import tempfile, torch
    >>> from respondcam.network.grid import LayerGrid
    >>> grid = LayerGrid((2.0,) * 3, (0.5,) * 3, (4,) * 3, (8,) * 3, (0.0,) * 3, "layout")
    >>> maps, scores = torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1)
    >>> one = Explanation(maps, scores, ("cat",), "conv", "grad", grid)
    >>> image = Volume(torch.rand(8, 8, 8).numpy())
    >>> explanation_report(one, f"{tempfile.mkdtemp()}/cat.html", image=image).name
    'cat.html'
    """
    several = (explanations,) if isinstance(explanations, Explanation) else tuple(explanations)
    if not several:
        raise InputError("There is no explanation to report.")
    below = image or several[0].source
    if below is None:
        raise InputError(
            "A report needs the image below the maps, since a tensor was explained: give it as "
            "image=Volume(array), or explain a Volume."
        )
    maps = [
        _map(one, sample, target, below) for one in several for target in range(len(one.targets))
    ]
    name = below.source.name if below.source else "a volume"
    facts = [("volume", str(below.source))] if below.source else []
    return write_report(Report(name, below, maps, facts, tables, channel), path)


def _map(explanation: Explanation, sample: int, target: int, below: Volume) -> ReportMap:
    caption = explanation_caption(explanation, sample=sample, target=target)
    volume = explanation.volume(sample, target, "layer")
    if explanation.source is None:  # the map is in voxels of the input, which is the image's grid
        affine = below.affine @ volume.affine
        volume = Volume(volume.voxels, affine, below.unit)
    return ReportMap(
        volume,
        target=caption.target,
        layer=caption.layer,
        method=caption.method,
        score=caption.score,
        account=caption.account,
        why_empty=caption.why_empty,
        notes=caption.notes,
        adds_up=caption.adds_up,
    )
