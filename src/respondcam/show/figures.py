"""From an explanation to its figure: the map over the image, named, with the score account."""

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from respondcam.attribution import Explanation
from respondcam.errors import InputError
from respondcam.show.caption import AccountLine, Caption
from respondcam.show.flat import image_overlay, signal_trace
from respondcam.show.marking import Box
from respondcam.show.slices import orthogonal_planes, slice_montage
from respondcam.volume import Volume

_VIEWS = {"planes": orthogonal_planes, "montage": slice_montage}
_ALL_VIEWS = (*_VIEWS, "surface", "classes")
_NO_IMAGE = "no image below the map, since a tensor was explained; give one with image="


def explanation_figure(
    explanation: Explanation,
    *,
    sample: int = 0,
    target: int = 0,
    image: Volume | np.ndarray | None = None,
    view: str = "planes",
    channel: int = 0,
    limit: float | None = None,
    theme: str = "light",
    account: bool = True,
    box: Box | None = None,
) -> Figure:
    """Draw one map over what was explained, with its names, its score and the account.

    The raw map of a volume is drawn on the layer's grid, so that the colours are in units of the
    score per voxel of the layer, interpolated linearly for display. Maps of images (2-D) and
    signals (1-D) are drawn in the voxels of the input.

    Parameters
    ----------
    explanation
        What an explainer gave back.
    sample, target
        Which map.
    image
        What is below the map: a volume, or an array (*spatial) or (channel, *spatial) in the voxels
        of the network's input. None is the volume that was explained.
    view
        Of a volume: ``"planes"`` as in `orthogonal_planes`, ``"montage"`` as in `slice_montage`,
        ``"surface"`` as in `surface_figure` (planes and a note where nothing can draw in 3-D), or
        ``"classes"``: all targets of the sample, as in `class_grid`.
    channel
        Of a volume.
    limit
        Score value of the strongest colours; None for the map's largest absolute value.
    theme
        ``"light"`` or ``"dark"``.
    account
        Compute the account if it was not yet, which runs the network once more; False shows it
        only if it is there already.
    box
        Of a volume in planes: the region that was asked for, as in `orthogonal_planes`.

    Raises
    ------
    InputError
        If there is no such map, the image does not fit, or an option is not one of these.

    Examples
    --------
    >>> import torch
    >>> from respondcam.network.grid import LayerGrid
    >>> grid = LayerGrid((4.0,), (0.0,), (3,), (12,), (0.0,), "layout")
    >>> one = Explanation(torch.ones(1, 1, 3), torch.ones(1, 1), ("beat",), "conv", "grad", grid)
    >>> figure = explanation_figure(one, image=np.sin(np.arange(12.0)))
    >>> [text.get_text() for text in figure.texts][:2]
    ['beat', 'grad · layer conv · score 1.000']
    """
    if view not in _ALL_VIEWS:
        raise InputError(f"view={view!r}: use one of {', '.join(map(repr, _ALL_VIEWS))}.")
    caption = explanation_caption(explanation, sample=sample, target=target, account=account)
    if image is None and explanation.source is None:
        caption = replace(caption, notes=(*caption.notes, _NO_IMAGE), has_image=False)
    axes = len(explanation.grid.input_shape)
    if axes == 3:
        volume = _volume_below(explanation, image)
        if view == "classes":
            from respondcam.show.grids import class_grid

            look: dict[str, Any] = {"channel": channel, "limit": limit, "theme": theme}
            return class_grid(explanation, sample=sample, image=volume, **look)
        raw = explanation.volume(sample, target, "layer")
        options: dict[str, Any] = {"channel": channel, "limit": limit, "theme": theme}
        options["caption"] = caption
        if view == "planes":
            return orthogonal_planes(volume, raw, box=box, **options)
        draw = _surface_or_planes if view == "surface" else _VIEWS[view]
        return draw(volume, raw, **options)
    if isinstance(image, Volume):
        raise InputError(f"The input has {axes} spatial axes: give image= as an array.")
    placed = explanation.place("value")[sample, target].detach().double().cpu().numpy()
    below = np.zeros(placed.shape) if image is None else np.asarray(image, np.float64)
    draw = {1: signal_trace, 2: image_overlay}[axes]
    return draw(below, placed, limit=limit, theme=theme, caption=caption)


def _surface_or_planes(
    volume: Volume,
    map: Volume,
    *,
    channel: int,
    limit: float | None,
    theme: str,
    caption: Caption,
) -> Figure:
    """Draw surfaces, or planes with a note where nothing can draw in 3-D."""
    from respondcam.show.isosurface import RendererError, surface_figure

    options = {"channel": channel, "limit": limit, "theme": theme}
    try:
        return surface_figure(volume, map, caption=caption, **options)
    except RendererError as error:
        noted = replace(caption, notes=(*caption.notes, str(error)))
        return orthogonal_planes(volume, map, caption=noted, **options)


def explanation_caption(
    explanation: Explanation, *, sample: int = 0, target: int = 0, account: bool = True
) -> Caption:
    """Collect the words for one map of an explanation.

    With `account` the account is computed if it was not yet; without it only an account that is
    there already is used.

    Raises
    ------
    InputError
        If there is no such map.

    Examples
    --------
    >>> import torch
    >>> from respondcam.network.grid import LayerGrid
    >>> grid = LayerGrid((4.0,), (0.0,), (3,), (12,), (0.0,), "layout")
    >>> one = Explanation(torch.ones(1, 1, 3), torch.ones(1, 1), ("beat",), "conv", "grad", grid)
    >>> explanation_caption(one).details(80)
    'grad · layer conv · score 1.000'
    """
    samples, targets = explanation.maps.shape[:2]
    if not (-samples <= sample < samples and -targets <= target < targets):
        message = (
            f"There is no map for sample {sample}, target {target}: there are {samples} samples "
            f"and {targets} targets, both counted from 0."
        )
        raise InputError(message)
    at = (sample % samples, target % targets)
    source = explanation.source
    line, note = _account(explanation, at, compute=account)
    name = explanation.label(at[1], at[0])
    return Caption(
        source=source.source.name if source is not None and source.source is not None else "",
        target=name if samples == 1 else f"{name}, sample {at[0]}",
        method=explanation.method,
        layer=explanation.layer,
        score=float(explanation.scores[at]),
        account=line,
        why_empty=explanation.empty.get(at, ""),
        notes=tuple(t for t in (explanation.score_note, explanation.grid.note, note) if t),
        adds_up=not explanation.note,
    )


def _account(
    explanation: Explanation, at: tuple[int, int], *, compute: bool
) -> tuple[AccountLine | None, str]:
    if not compute and "account" not in vars(explanation):
        return None, ""
    if explanation.baseline is None:
        return None, "no account: the explanation was made without its model"
    account = explanation.account
    if explanation.note:  # of a method whose sums have no relation to the score
        return None, explanation.note
    parts = (account.score, account.baseline, account.mapped, account.gap)
    return AccountLine(*(float(part[at]) for part in parts)), account.note


def _volume_below(explanation: Explanation, image: Volume | np.ndarray | None) -> Volume:
    if isinstance(image, Volume):
        return image
    source = explanation.source if explanation.original is None else explanation.original
    if image is None:
        return Volume(np.zeros(explanation.grid.input_shape)) if source is None else source
    return Volume(image) if source is None else source.with_voxels(image)
