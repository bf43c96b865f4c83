"""What an explainer gives back: the maps, what they stand for, and where they are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from jaxtyping import Float
from torch import Tensor

from respondcam._files import whole_file
from respondcam._warnings import warn
from respondcam.attribution.account import PrecisionError, ScoreAccount
from respondcam.attribution.naming import with_names, wrong_count
from respondcam.attribution.placing import interpolate, place
from respondcam.errors import InputError
from respondcam.network.grid import LayerGrid
from respondcam.volume import Volume, write_volume
from respondcam.volume.regrid import Keep, put_back

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Resolution = Literal["layer", "input"]
_KEEPS = get_args(Keep)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Signed maps of one layer, for every sample and target.

    Parameters
    ----------
    maps
        (batch, target, *grid), raw and signed: positive speaks for the target. Units of the score.
    scores
        (batch, target), pre-softmax.
    targets
        Labels, one per target.
    layer
        Name of the explained layer.
    method
        Name of the method, as in `respondcam.METHODS`.
    grid
        Where the map's voxels are in the input.
    classes
        (batch, target) class numbers, or None where targets are no classes.
    layer_reason
        Why this layer was chosen, empty when the user chose it.
    empty
        (sample, target) -> why this map is zero everywhere.
    source
        The volume that was explained, if one was given.
    bypassed
        Whether part of the score reaches the output around the layer.
    bag
        Whether all samples share one score, as the instances of a bag do; the account is then that
        of the whole bag.
    original
        The volume that `source` was prepared from, if it was: maps in the input's resolution are
        put into its grid.
    precision
        What a trunk in bfloat16 cost on the first input; None for float32.
    note
        What the method's maps do not stand for, empty when there is nothing to say.
    score_count
        How many scores the network gives for a sample (or a voxel of it); None where that is
        unknown.
    score_note
        What the scores are, where that is not plain to see.
    predicted
        (batch,) the class that the network predicts; None where a single target was explained or
        targets are no classes.
    """

    maps: Float[Tensor, "batch target *grid"]
    scores: Float[Tensor, "batch target"]
    targets: tuple[str, ...]
    layer: str
    method: str
    grid: LayerGrid
    classes: Tensor | None = None
    layer_reason: str = ""
    empty: Mapping[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])
    source: Volume | None = None
    bypassed: bool = False
    bag: bool = False
    precision: PrecisionError | None = None
    note: str = ""
    baseline: Callable[[], Tensor] | None = field(default=None, repr=False)
    original: Volume | None = None
    score_count: int | None = None
    score_note: str = ""
    predicted: Tensor | None = None

    @cached_property
    def account(self) -> ScoreAccount:
        """How much of the score the maps explain.

        The first use runs the network once more with the layer's output replaced by zero, on the
        inputs that were explained; use it before the model is changed.
        """
        if self.baseline is None:
            raise InputError("This explanation was made without its model, so it has no account.")
        around = (
            "part of the score reaches the output around this layer; the baseline contains that "
            "part and depends on the image"
        )
        notes = [around] if self.bypassed else []
        notes += [self.precision.note] if self.precision else []
        notes += [self.note] if self.note else []
        scores = self.scores.detach().double()
        mapped = self.maps.detach().double().flatten(2).sum(dim=2)
        if self.bag:
            mapped = mapped.sum(dim=0, keepdim=True).expand_as(scores)
        return ScoreAccount(
            score=scores,
            baseline=self.baseline().detach().double().expand_as(scores),
            mapped=mapped,
            note="; ".join(notes),
        )

    def place(self, keep: Keep = "sum") -> Float[Tensor, "batch target *spatial"]:
        """The maps in the voxels of the network's input.

        Parameters
        ----------
        keep
            ``"sum"``: each voxel has its share, so that every map keeps its sum. Where padding lets
            the outermost layer voxels stand at the border, each has fewer input voxels to share its
            value out to, so a flat map is denser there. ``"value"``: the map's values, interpolated
            between the layer's voxels, for questions of where it is highest; a flat map stays flat,
            and the sum has no meaning.

        Raises
        ------
        InputError
            If `keep` is neither.
        """
        if keep not in _KEEPS:
            raise InputError(_no_keep(keep))
        return place(self.maps, self.grid) if keep == "sum" else interpolate(self.maps, self.grid)

    def volume(
        self,
        sample: int = 0,
        target: int = 0,
        resolution: Resolution = "input",
        *,
        keep: Keep = "sum",
    ) -> Volume:
        """One map as a volume in the source's world.

        Parameters
        ----------
        sample, target
            Which map.
        resolution
            ``"input"``: in the input's voxels, or those of the original volume if what the network
            saw was prepared from one. ``"layer"``: the raw map, on voxels as large as the layer's
            stride.
        keep
            As in `place`; of the raw map nothing changes. ``"sum"`` for how much of the score lies
            where, ``"value"`` for looking at.

        Raises
        ------
        InputError
            If there is no such map, or the input was not three-dimensional.
        """
        self._check(sample, target)
        if keep not in _KEEPS:
            raise InputError(_no_keep(keep))
        if len(self.grid.shape) != 3:
            raise InputError(
                f"A map of a {len(self.grid.shape)}-D input is no volume. Use .maps or .place()."
            )
        chosen = self.maps[sample, target][None, None]
        if resolution == "input":
            move = place if keep == "sum" else interpolate
            voxels, affine = move(chosen, self.grid), np.eye(4)
        elif resolution == "layer":
            voxels, affine = chosen, grid_affine(self.grid)
        else:
            raise InputError(f"resolution={resolution!r} is neither 'layer' nor 'input'.")
        array = voxels[0, 0].detach().float().cpu().numpy()
        title = {"title": f"{self.method}, layer {self.layer}, {self.targets[target]}"}
        if self.source is None:
            return Volume(array, affine, "voxel", header=title)
        volume = Volume(
            array,
            self.source.affine @ affine,
            self.source.unit,
            source=self.source.source,
            header={**(self.source.header or {}), **title},
        )
        if self.original is None or resolution == "layer":
            return volume
        whole = put_back(volume, self.original, keep=keep)
        return replace(whole, header={**(whole.header or {}), **title})

    def save(
        self,
        path: str | PathLike[str],
        *,
        sample: int = 0,
        target: int = 0,
        resolution: Resolution = "input",
        keep: Keep = "sum",
    ) -> Path:
        """Write one map as a volume; the format follows the suffix, as in `write_volume`.

        An ``.npz`` file also holds all raw maps, the scores and the account.

        Parameters
        ----------
        path
            Where; a file that is there is replaced.
        sample, target, resolution, keep
            As in `volume`.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        InputError
            If the suffix is unknown or the file cannot be written; nothing is left behind then.
        """
        volume = self.volume(sample, target, resolution, keep=keep)
        path = Path(path)
        if path.suffix.lower() == ".npz":
            self._save_npz(path, volume)
        else:
            write_volume(path, volume)
        return path

    def named(self, class_names: Sequence[str]) -> "Explanation":
        """Give the same maps with targets called by their classes' names, in figures and files.

        Parameters
        ----------
        class_names
            In the order of the network's scores, one for each; a warning says so where their
            number is another. Classes beyond the end keep their numbers.

        Examples
        --------
        >>> import torch
        >>> from respondcam.attribution import RespondCAM
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        >>> RespondCAM(model, "0")(torch.rand(1, 1, 9), target=1).named(["up", "down"]).targets
        ('down',)
        """
        if wrong := wrong_count(class_names, self.score_count):
            warn(
                f"{wrong}; names may stand at the wrong classes. Give one for each score, in the "
                f"order of the scores.",
            )
        return replace(
            self,
            targets=tuple(with_names(label, class_names) for label in self.targets),
            empty={at: with_names(why, class_names) for at, why in self.empty.items()},
        )

    def class_of(self, target: int) -> int | None:
        """Number of the class that a target of the first sample is; None if it is no class."""
        return None if self.classes is None else int(self.classes[0, target])

    def label(self, target: int, sample: int = 0) -> str:
        """The name of a target; among several the class that the network predicts is marked.

        Examples
        --------
        >>> import torch
        >>> from respondcam.attribution import RespondCAM
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
        >>> found = RespondCAM(model, "0")(torch.ones(1, 1, 9), target="all")
        >>> sorted(found.label(target).endswith("(predicted)") for target in range(2))
        [False, True]
        """
        name = self.targets[target]
        if self.classes is None or self.predicted is None:
            return name
        marked = int(self.classes[sample, target]) == int(self.predicted[sample])
        return f"{name} (predicted)" if marked else name

    def plot(self, *, sample: int = 0, target: int | str = 0, **options: Any) -> "Figure":
        """Slices of the input with the map over them.

        Parameters
        ----------
        sample, target
            Which map; a target by its number or its name.
        options
            Of `respondcam.show.explanation_figure`: ``view`` (``"planes"``, ``"montage"``,
            ``"surface"``, ``"classes"``), ``limit`` (value of the strongest colours), ``theme``
            (``"light"``, ``"dark"``), ``image``, ``channel``, ``box``, ``account``.

        Returns
        -------
        matplotlib.figure.Figure
            To be shown in a notebook, or written with its ``savefig``.

        Raises
        ------
        InputError
            If there is no such map, or an option is not one of these.
        """
        from respondcam.show import explanation_figure

        number = self._number_of(target)
        self._check(sample, number)
        return explanation_figure(self, sample=sample, target=number, **options)

    def view(self, *, sample: int = 0, target: int | str = 0, **options: Any) -> Any:
        """Interactive viewer in a notebook, with the extra ``notebook``.

        Parameters
        ----------
        sample, target
            Which map; a target by its number or its name.
        options
            Of `respondcam.show.explanation_viewer`: ``image``, ``channel``, ``limit``.

        Raises
        ------
        MissingExtraError
            If ipyniivue is not installed.
        InputError
            If there is no such map, or no image to show it over.
        """
        from respondcam.show import explanation_viewer

        number = self._number_of(target)
        self._check(sample, number)
        return explanation_viewer(self, sample=sample, target=number, **options)

    def report(self, path: str | PathLike[str], **options: Any) -> Path:
        """Write a web page with an interactive viewer and all maps of a sample.

        Parameters
        ----------
        path
            Ends with ``.html``.
        options
            Of `respondcam.show.explanation_report`: ``sample``, ``image``, ``channel``, ``tables``.

        Returns
        -------
        pathlib.Path
            The page.

        Raises
        ------
        InputError
            If there is no image below the maps, or the page cannot be written.
        """
        from respondcam.show import explanation_report

        return explanation_report(self, path, **options)

    def _repr_html_(self) -> str:
        from respondcam.show import explanation_html

        return explanation_html(self)

    def __repr__(self) -> str:
        grid = "x".join(map(str, self.grid.shape))
        lines = [
            (
                f"Explanation(method={self.method!r}, layer={self.layer!r}, grid={grid}, "
                f"samples={len(self.maps)}, targets={list(self.targets)!r})"
            )
        ]
        if self.layer_reason:
            lines.append(f"  layer chosen: {self.layer_reason}")
        lines += [f"  sample {s}, {self.targets[t]}: {why}" for (s, t), why in self.empty.items()]
        return "\n".join(lines)

    def _number_of(self, target: int | str) -> int:
        """The place of a target among the maps, which may be named as in `targets`."""
        if not isinstance(target, str):
            return target
        names = [name.removesuffix(" (predicted)") for name in self.targets]
        if target in self.targets or target in names:
            return (self.targets if target in self.targets else names).index(target)
        raise InputError(
            f"There is no map of target {target!r}. There are: {', '.join(self.targets)}."
        )

    def _check(self, sample: int, target: int) -> None:
        samples, targets = self.maps.shape[:2]
        if not -samples <= sample < samples or not -targets <= target < targets:
            raise InputError(
                f"There is no map for sample {sample}, target {target}: this explanation has "
                f"{samples} samples and {targets} targets, both counted from 0."
            )

    def _save_npz(self, path: Path, volume: Volume) -> None:
        """The volume, readable by `read_volume`, and beside it everything that is known."""
        account = self.account
        with whole_file(path) as beside:
            np.savez_compressed(
                beside,
                voxels=volume.voxels,
                affine=volume.affine,
                unit=np.array(volume.unit),
                maps=_array(self.maps),
                scores=_array(self.scores),
                baseline=_array(account.baseline),
                mapped=_array(account.mapped),
                gap=_array(account.gap),
                targets=np.array(self.targets),
                layer=np.array(self.layer),
                method=np.array(self.method),
                grid_stride=np.array(self.grid.stride),
                grid_offset=np.array(self.grid.offset),
            )


def _no_keep(keep: object) -> str:
    return f"keep={keep!r} is neither 'sum' nor 'value'."


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def grid_affine(grid: LayerGrid) -> np.ndarray:
    """4x4 matrix from voxels of the layer's grid to voxels of the input, in x, y, z order.

    Examples
    --------
    >>> z = (0.0, 0.0, 0.0)
    >>> grid = LayerGrid((4.0, 2.0, 1.0), (1.5, 0.5, 0.0), (2, 2, 2), (8, 4, 2), z, "layout")
    >>> grid_affine(grid)[0].tolist(), grid_affine(grid)[2].tolist()
    ([1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 4.0, 1.5])
    """
    affine = np.diag([*grid.stride[::-1], 1.0])
    affine[:3, 3] = grid.offset[::-1]
    return affine
