"""What a user should know about a map, in words: where to doubt it, and what to do then."""

from collections.abc import Sequence
from math import isfinite, prod

from respondcam.attribution import Explanation
from respondcam.volume import Volume

_MUCH_OPEN = 0.1  # relative gap
_LITTLE = 0.1  # of the baseline
_LARGE = 100.0  # intensities; networks are seldom trained on such
_COARSE = 27  # voxels of a layer that show hardly more than which side of a volume counted


def notes_on(explanation: Explanation, said: Sequence[str] = ()) -> list[str]:
    """All that a user should know about the maps of one layer, each once.

    Parameters
    ----------
    said
        What was said of the volume and of the network meanwhile.
    """
    # what was said of the volume first: it can be the cause of the rest
    return list(dict.fromkeys([*said, *on_map(explanation), *_on_account(explanation)]))


def on_map(explanation: Explanation) -> list[str]:
    """What the explanation itself says about the maps of its first sample."""
    reason = explanation.layer_reason
    notes = [on_choice(explanation.layer, reason)] if reason else []
    notes += [explanation.grid.note, explanation.account.note]
    notes.append(on_grid(explanation.layer, explanation.grid.shape))
    notes += [why for (sample, _), why in explanation.empty.items() if sample == 0]
    return [note for note in dict.fromkeys(notes) if note]


def on_choice(layer: str, reason: str) -> str:
    """Why a layer was chosen."""
    return f"layer {layer} was chosen: {reason}"


def on_grid(layer: str, shape: tuple[int, ...]) -> str:
    """Say that a layer has too few voxels to show a place, if it has.

    Examples
    --------
    >>> print(on_grid("conv5", (2, 2, 2)), on_grid("conv2", (16, 16, 16)))
    layer conv5 has only 2 x 2 x 2 voxels: its map tells one side of the volume from the other and
    no more; `respondcam layers` lists finer ones
    """
    if not 1 < prod(shape) <= _COARSE:
        return ""
    size = " x ".join(map(str, shape))
    return (
        f"layer {layer} has only {size} voxels: its map tells one side of the volume from the "
        f"other and no more; `respondcam layers` lists finer ones"
    )


def _on_account(explanation: Explanation) -> list[str]:
    """What the numbers of the account mean for the map, where they mean something."""
    account = explanation.account
    gaps = [gap for gap in account.relative_gap[0].tolist() if isfinite(gap)]
    method = explanation.method
    notes = []
    nothing = any(sample == 0 for sample, _ in explanation.empty)
    if gaps and not (explanation.note or nothing):  # which say by themselves what the sum means
        notes.append(on_open_part(method, explanation.layer, max(gaps)))
    score, baseline = account.score[0], account.baseline[0]
    little = bool(((score - baseline).abs() < _LITTLE * baseline.abs()).all())
    if little and method in ("respond", "integrated-respond"):
        notes.append(
            f"nearly all of the score is baseline, which the network gives also when layer "
            f"{explanation.layer} is zero: the map explains only the little that the image adds"
        )
    return [note for note in notes if note]


def on_open_part(method: str, layer: str, gap: float) -> str:
    """What to do about a gap of more than a tenth; empty for a smaller one.

    Parameters
    ----------
    gap
        Relative: in shares of what the image adds to the score.
    """
    if gap <= _MUCH_OPEN:
        return ""
    if method not in ("respond", "integrated-respond"):
        return (
            f"the sum of the {method} map misses what the image adds to the score by more than a "
            f"tenth of it: read where the map is high, not how high; --method respond is made to "
            f"add up"
        )
    remedy = (
        "--method integrated-respond closes it"
        if method == "respond"
        else "more nodes close it (--method-arg nodes=128)"
    )
    return (
        f"the map leaves more than a tenth of what the image adds to the score open, since what "
        f"follows layer {layer} is far from linear; {remedy}"
    )


def intensities(volume: Volume) -> tuple[float, float]:
    """The lowest and the highest voxel."""
    return float(volume.voxels.min()), float(volume.voxels.max())


def on_intensities(extremes: tuple[float, float], normalize: str, what: str = "volume") -> str:
    """Say of voxels that nobody expects a map of something from them, if it is so.

    Parameters
    ----------
    extremes
        The lowest and the highest voxel, as they were read.
    what
        Whose.

    Examples
    --------
    >>> print(on_intensities((0.0, 4096.0), "none"))
    intensities from 0 to 4096 went in as they are; give --normalize if the network was trained on
    others
    """
    low, high = extremes
    if low == high:
        return (
            f"the {what} is constant: every voxel is {low:.6g}, so its map shows the network alone"
        )
    if normalize != "none" or max(-low, high) <= _LARGE:
        return ""
    told = f"intensities from {low:.6g} to {high:.6g} went in as they are"
    return f"{told}; give --normalize if the network was trained on others"
