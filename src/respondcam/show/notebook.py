"""An interactive viewer inside a notebook: the image, and the map over it, by ipyniivue."""

from typing import Any

import numpy as np
from jaxtyping import Float

from respondcam._extras import require
from respondcam.attribution import Explanation
from respondcam.errors import InputError
from respondcam.show.binning import binned
from respondcam.show.scene import make_scene
from respondcam.show.theme import OPACITY, signed_rgba
from respondcam.volume import Volume
from respondcam.volume.sampling import sample as sampled

_FINEST = 128  # voxels along an axis that are sent to the notebook


def explanation_viewer(
    explanation: Explanation,
    *,
    sample: int = 0,
    target: int = 0,
    image: Volume | None = None,
    channel: int = 0,
    limit: float | None = None,
    threshold: float = 0.2,
    opacity: float = OPACITY,
    height: int = 500,
) -> Any:
    """Show one map over its image in three planes and in 3-D, to turn and scroll.

    Parameters
    ----------
    explanation
        Of a volume.
    sample, target
        Which map.
    image
        What is below it; None is the volume that was explained.
    channel, limit
        As in `orthogonal_planes`.
    threshold
        Share of the limit below which nothing is coloured.
    opacity
        Of the strongest colours.
    height
        In pixels.

    Returns
    -------
    The ipyniivue widget; as the last line of a cell it shows itself.

    Raises
    ------
    MissingExtraError
        If ipyniivue is not installed.
    InputError
        If there is no such map, the input was not three-dimensional, or there is no image.
    """
    require("ipyniivue", extra="notebook", purpose="show an interactive viewer in a notebook")
    from ipyniivue import NiiVue, SliceType

    below = image or explanation.source
    if below is None:
        raise InputError(
            "A viewer needs the image below the map, since a tensor was explained: give it as "
            "image=Volume(array)."
        )
    scene = make_scene(
        below, explanation.volume(sample, target, "layer"), channel=channel, limit=limit
    )
    grey = scene.grey.volume
    small = binned(grey, -(-max(grey.shape) // _FINEST))
    colours = _colours(small, scene.signed, scene.limit, threshold, opacity)
    low, high = scene.window
    viewer = NiiVue(height=height, is_orientation_text_visible=below.unit == "mm")
    viewer.load_volumes(
        [
            {
                "name": "image.nii.gz",
                "data": _nifti(small.voxels, small.affine),
                "cal_min": low,
                "cal_max": high,
            },
            {"name": "map.nii.gz", "data": _nifti(colours, small.affine)},
        ]
    )
    viewer.set_slice_type(SliceType.MULTIPLANAR)
    return viewer


def _colours(
    image: Volume, signed: Volume | None, limit: float, threshold: float, opacity: float
) -> np.ndarray:
    """Colour the map at the image's voxels: (z, y, x) of red, green, blue, opacity in bytes."""
    rgba = np.zeros((*image.shape, 4), np.uint8)
    if signed is not None and limit > 0:
        index = np.moveaxis(np.indices(image.shape), 0, -1)
        values = sampled(signed.voxels, signed.index(image.world(index)))
        rgba = np.rint(255 * signed_rgba(values, limit, opacity=opacity)).astype(np.uint8)
        rgba[np.abs(values) < threshold * limit, 3] = 0
    return rgba.view([(name, "u1") for name in "RGBA"])[..., 0]


def _nifti(voxels: Float[np.ndarray, "z y x"] | np.ndarray, affine: np.ndarray) -> bytes:
    import gzip

    from nibabel.nifti1 import Nifti1Image

    image = Nifti1Image(voxels.T, affine)
    return gzip.compress(image.to_bytes(), 1, mtime=0)
