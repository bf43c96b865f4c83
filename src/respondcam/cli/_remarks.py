"""What a user should know about a map, in words: where to doubt it, and what to do then."""

from collections.abc import Mapping, Sequence
from math import isfinite, prod

from respondcam.attribution import Explanation
from respondcam.volume import Volume

_MUCH_OPEN = 0.1  # relative gap
_LITTLE = 0.1  # of the baseline
_LARGE = 100.0  # intensities; networks are seldom trained on such
_MOST_NAMED = 3  # classes or maps that a note is about
_COARSE = 27  # voxels of a layer that show hardly more than which side of a volume counted


def notes_on(
    explanation: Explanation, said: Sequence[str] = (), target: int | None = None
) -> list[str]:
    """All that a user should know about the maps of one layer, each once.

    Parameters
    ----------
    said
        What was said of the volume and of the network meanwhile.
    target
        Of one map; None for all, and what holds for some of them names these.
    """
    if target is None:
        each = {
            explanation.targets[number]: [
                *on_map(explanation, number),
                *_on_account(explanation, number),
            ]
            for number in range(len(explanation.targets))
        }
        own = with_owners(each, "class")
    else:
        own = [*on_map(explanation, target), *_on_account(explanation, target)]
    # what was said of the volume first: it can be the cause of the rest
    return list(dict.fromkeys([*said, *own]))


def with_owners(notes: Mapping[str, Sequence[str]], what: str) -> list[str]:
    """Each note once; one that does not hold for all names those it holds for, or their number.

    A note that has the name in it needs none before it.

    Parameters
    ----------
    notes
        By the name of what they are about.
    what
        These are called.

    Examples
    --------
    >>> with_owners({"a": ["x", "y"], "b": ["x"], "c": ["x", "y"]}, "class")
    ['x', 'a, c: y']
    """
    holders: dict[str, list[str]] = {}
    for name, own in notes.items():
        for note in dict.fromkeys(own):
            holders.setdefault(note, []).append(name)
    return [
        note
        if len(names) == len(notes) or all(f"{name} " in note for name in names)
        else f"{owners(names, len(notes), what)}: {note}"
        for note, names in holders.items()
    ]


def owners(names: Sequence[str], total: int, what: str) -> str:
    """Names of what a note is about, or how many of them where these are too many to name."""
    if len(names) <= _MOST_NAMED:
        return ", ".join(names)
    plural = f"{what}es" if what.endswith("s") else f"{what}s"
    return f"{len(names)} of {total} {plural}"


def on_map(explanation: Explanation, target: int = 0) -> list[str]:
    """What the explanation itself says about one map of its first sample."""
    reason = explanation.layer_reason
    notes = [on_choice(explanation.layer, reason)] if reason else []
    notes += [explanation.score_note, explanation.grid.note, explanation.account.note]
    notes.append(on_grid(explanation.layer, explanation.grid.shape))
    notes.append(explanation.empty.get((0, target), ""))
    return [note for note in dict.fromkeys(notes) if note]


def on_choice(layer: str, reason: str) -> str:
    """Why a layer was chosen."""
    return f"layer {layer} was chosen: {reason}"


def on_grid(layer: str, shape: tuple[int, ...], what: str = "volume") -> str:
    """Say that a layer has too few voxels to show a place, if it has.

    Parameters
    ----------
    what
        Is laid out in these voxels: the volume, or each window of it.

    Examples
    --------
    >>> print(on_grid("conv5", (2, 2, 2)), on_grid("conv2", (16, 16, 16)))
    layer conv5 has only 2 x 2 x 2 voxels: its map tells one side of the volume from the other and
    no more; `respondcam layers` lists finer ones
    >>> print(on_grid("pool", (1, 1, 1)))
    layer pool has a single voxel: its map tells no place at all; `respondcam layers` lists finer
    ones
    """
    if prod(shape) > _COARSE:
        return ""
    each = "" if what == "volume" else f" for each {what}"
    if prod(shape) == 1:
        return (
            f"layer {layer} has a single voxel{each}: its map tells no place at all; `respondcam "
            f"layers` lists finer ones"
        )
    size = " x ".join(map(str, shape))
    return (
        f"layer {layer} has only {size} voxels{each}: its map tells one side of the {what} from "
        f"the other and no more; `respondcam layers` lists finer ones"
    )


def _on_account(explanation: Explanation, target: int) -> list[str]:
    """What the numbers of the account mean for one map, where they mean something."""
    account = explanation.account
    gap = float(account.relative_gap[0, target])
    method = explanation.method
    notes = []
    nothing = (0, target) in explanation.empty
    if isfinite(gap) and not (explanation.note or nothing):  # which say what the sum means
        notes.append(on_open_part(method, explanation.layer, gap))
    score, baseline = float(account.score[0, target]), float(account.baseline[0, target])
    little = abs(score - baseline) < _LITTLE * abs(baseline)
    if little and method in ("respond", "integrated-respond"):
        # what comes around the layer is of the image too, and in the baseline
        rest = "comes through the layer" if explanation.bypassed else "the image adds"
        notes.append(
            f"nearly all of the score is baseline, which the network gives also when layer "
            f"{explanation.layer} is zero: the map explains only the little that {rest}"
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
    >>> print(on_intensities((0.0, 4096.0), "none", "middle of the volume"))
    intensities from 0 to 4096 (in the middle of the volume) went in as they are; give --normalize
    if the network was trained on others
    """
    low, high = extremes
    if low == high:
        return (
            f"the {what} is constant: every voxel is {low:.6g}, so its map shows the network alone"
        )
    if normalize != "none" or max(-low, high) <= _LARGE:
        return ""
    whose = "" if what == "volume" else f" (in the {what})"
    told = f"intensities from {low:.6g} to {high:.6g}{whose} went in as they are"
    return f"{told}; give --normalize if the network was trained on others"
