"""Volumes and maps as napari's layers: voxels, options, and the kind of layer.

napari's world is z, y, x. Voxels whose axes run along it get ``scale`` and ``translate``; flips and
oblique grids get a full ``affine``, and nothing is resampled. Only where a file stores its axes in
another order than the world's is the array turned (a view): napari cannot cut planes otherwise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from nibabel.orientations import io_orientation

from respondcam.errors import InputError
from respondcam.show.caption import Caption
from respondcam.show.theme import OPACITY, grey_window, signed_rgba
from respondcam.volume import Unit, Volume
from respondcam.volume.geometry import LENGTH_UNITS

if TYPE_CHECKING:
    from respondcam.attribution import Explanation
    from respondcam.attribution.explanation import Resolution

LayerData = tuple[np.ndarray, dict[str, Any], str]
"""What napari takes from a reader: the array, the options, and the kind of layer."""

OURS = "respondcam"
"""Key of a layer's metadata under which ours is."""

UNITS = {"angstrom": "angstrom", "mm": "millimeter", "voxel": "pixel"}
_COLOURS = 257


@dataclass(frozen=True)
class Placement:
    """Where an array is in napari's world.

    Parameters
    ----------
    axes
        Of the array (z, y, x), in the order in which the layer has them.
    options
        ``scale`` and ``translate``, or ``affine``; and ``units``.
    """

    axes: tuple[int, int, int]
    options: Mapping[str, Any]


def placement(volume: Volume) -> Placement:
    """Say how napari puts the voxels of a volume into the world.

    Examples
    --------
    >>> place = placement(Volume(np.zeros((2, 3, 4)), np.diag([2.0, 3.0, 4.0, 1.0]), "mm"))
    >>> place.options["scale"], place.options["units"][0]
    ([4.0, 3.0, 2.0], 'millimeter')
    >>> flipped = placement(Volume(np.zeros((2, 3, 4)), np.diag([-2.0, 3.0, 4.0, 1.0]), "mm"))
    >>> flipped.options["affine"][2].tolist()
    [0.0, 0.0, -2.0, 0.0]
    """
    world = io_orientation(volume.affine)[:, 0].astype(int).tolist()  # of the axes x, y, z
    z, y, x = (2 - world.index(2 - axis) for axis in range(3))
    axes = (z, y, x)
    linear = volume.affine[:3, :3][::-1, ::-1][:, axes]
    offset = volume.affine[:3, 3][::-1]
    units = {"units": [UNITS[volume.unit]] * 3}
    sizes = np.diag(linear)
    if (sizes > 0).all() and np.abs(linear - np.diag(sizes)).max() <= 1e-9 * sizes.max():
        return Placement(axes, {"scale": sizes.tolist(), "translate": offset.tolist(), **units})
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = linear, offset
    return Placement(axes, {"affine": affine, **units})


def image_layers(volume: Volume, name: str = "") -> list[LayerData]:
    """Make a grey layer of each channel.

    Parameters
    ----------
    volume
        Kept with the layers, so that a network sees all channels and the file's own order of axes.
    name
        Of the layer; that of the file if empty.

    Examples
    --------
    >>> (data, options, kind), = image_layers(Volume(np.zeros((2, 3, 4))), "ball")
    >>> data.shape, options["name"], options["scale"], kind
    ((2, 3, 4), 'ball', [1.0, 1.0, 1.0], 'image')
    """
    name = name or (volume.source.name if volume.source else "volume")
    place = placement(volume)
    layers: list[LayerData] = []
    for number, channel in enumerate(volume.voxels.reshape(-1, *volume.shape)):
        options = {
            "name": name if volume.channels == 1 else f"{name}, channel {number}",
            "colormap": "gray",
            "contrast_limits": grey_window(channel),
            "visible": number == 0,
            "metadata": {OURS: {"volume": volume, "axes": place.axes}},
            **place.options,
        }
        layers.append((channel.transpose(place.axes), options, "image"))
    return layers


def map_layer(
    map: Volume, caption: Caption, *, about: Mapping[str, Any] | None = None, visible: bool = True
) -> LayerData:
    """Make a layer of one signed map: amber raises the score, blue lowers it, zero is not seen.

    Parameters
    ----------
    map
        On its own grid, in the world of the image.
    caption
        What it is a map of.
    about
        More for the layer's metadata.
    visible
        Whether it is shown at first.

    Examples
    --------
    >>> map = Volume(np.array([[[-1.0, 0.0, 3.0]]]))
    >>> _, options, _ = map_layer(map, Caption(target="cat", layer="conv", method="respond"))
    >>> options["name"], options["contrast_limits"]
    ('cat · conv · respond', (-3.0, 3.0))
    """
    place = placement(map)
    limit = float(np.abs(map.voxels).max()) or 1.0
    account = caption.account
    record = {
        "target": caption.target,
        "layer": caption.layer,
        "method": caption.method,
        "score": caption.score,
        "account": vars(account) if account else None,
        "account_in_words": account.sentence() if account else "",
        "sum": float(map.voxels.sum(dtype=np.float64)),
        "why_empty": caption.why_empty,
        "notes": list(caption.notes),
        **(about or {}),
    }
    options = {
        "name": " · ".join((caption.target, caption.layer, caption.method)),
        "colormap": signed_colormap(),
        "contrast_limits": (-limit, limit),
        "opacity": OPACITY,
        "blending": "translucent_no_depth",
        "rendering": "translucent",
        "interpolation2d": "linear",
        "visible": visible,
        "metadata": {OURS: record},
        **place.options,
    }
    return map.voxels.transpose(place.axes), options, "image"


def signed_colormap() -> dict[str, Any]:
    """The signed colours as napari takes them; opacity grows with the absolute value.

    Examples
    --------
    >>> signed_colormap()["colors"][[0, 128, 256], 3].tolist()
    [1.0, 0.0, 1.0]
    """
    colours = signed_rgba(np.linspace(-1, 1, _COLOURS), 1.0, opacity=1.0)
    return {"name": "respondcam signed", "colors": colours, "interpolation": "linear"}


def explanation_layers(
    explanation: "Explanation",
    *,
    sample: int = 0,
    resolution: "Resolution" = "input",
    turned: bool = False,
    about: Mapping[str, Any] | None = None,
) -> list[LayerData]:
    """Make a layer of each map of a sample, by rising scores; only the last is shown at first.

    Parameters
    ----------
    explanation
        Of a volume.
    sample
        Of the batch.
    resolution
        ``"input"``: its values in the voxels of the image; ``"layer"``: the raw map on voxels as
        large as the layer's stride.
    turned
        Whether the network saw the image's axes in the order x, y, z.
    about
        More for the layers' metadata.

    Raises
    ------
    InputError
        If the input was not three-dimensional.
    """
    from respondcam.show.figures import explanation_caption  # needs torch

    order = explanation.scores[sample].detach().argsort(stable=True).tolist()
    layers = []
    for target in order:
        map = explanation.volume(sample, target, resolution, keep="value")
        caption = explanation_caption(explanation, sample=sample, target=target)
        total = explanation.maps[sample, target].double().sum()  # of the raw map, as in the account
        more = {"resolution": resolution, "sum": float(total), **(about or {})}
        map = map.transposed() if turned else map
        layers.append(map_layer(map, caption, about=more, visible=target == order[-1]))
    return layers


def volume_of(layer: Any) -> Volume:
    """Give the volume that a layer of napari shows, where it is shown.

    Of a layer that respondcam read all channels, in the file's order of axes; of any other image
    layer its voxels. The place is the layer's own in both cases, so that one that was moved in
    napari stays where it was moved to.

    Raises
    ------
    InputError
        If the layer is no volume of real numbers.
    """
    data, held = _voxels(layer), layer.metadata.get(OURS, {})
    whole, axes = held.get("volume"), held.get("axes", (0, 1, 2))
    if not (
        isinstance(whole, Volume)
        and np.shares_memory(data, whole.voxels)
        and data.shape == tuple(whole.shape[axis] for axis in axes)
    ):  # another image by now, such as one that was cropped
        return Volume(data, *_place(layer, (0, 1, 2)))
    affine, unit = _place(layer, axes)
    near = np.allclose(affine, whole.affine, rtol=1e-6, atol=1e-6 * min(whole.voxel_size))
    return whole if near and unit == whole.unit else replace(whole, affine=affine, unit=unit)


def _voxels(layer: Any) -> np.ndarray:
    what = f"The layer {layer.name!r}"
    if type(layer).__name__ != "Image" or layer.rgb:
        raise InputError(f"{what} is no image of one number per voxel. Choose an image layer.")
    data = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    if data.ndim != 3:
        raise InputError(
            f"{what} has {data.ndim} axes; a volume has three: z, y, x. Split channels or times "
            f"into layers first (Layers > Data > Split Stack)."
        )
    return data


def _place(layer: Any, axes: Sequence[int]) -> tuple[np.ndarray, Unit]:
    """From the voxels, in the order that `axes` undoes, to the world in x, y, z; and its unit."""
    found = [LENGTH_UNITS.get(str(unit).lower(), ("voxel", 1.0)) for unit in layer.units]
    unit = found[0][0] if len({one[0] for one in found}) == 1 else "voxel"
    factors = [one[1] if unit != "voxel" else 1.0 for one in found]
    corner = np.array(layer.data_to_world((0, 0, 0)))
    steps = np.stack([np.array(layer.data_to_world(step)) - corner for step in np.eye(3)], axis=1)
    linear = np.empty((3, 3))
    linear[:, list(axes)] = steps * np.array(factors)[:, None]
    affine = np.eye(4)
    affine[:3, :3] = linear[::-1, ::-1]
    affine[:3, 3] = (corner * factors)[::-1]
    return affine, unit
