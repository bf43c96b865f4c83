"""An explanation in napari, from Python."""

from dataclasses import replace
from typing import Any

from respondcam._extras import require
from respondcam.attribution import Explanation
from respondcam.attribution.explanation import Resolution
from respondcam.errors import InputError
from respondcam.show.napari.layers import explanation_layers, image_layers
from respondcam.volume import Volume


def show_explanation(
    explanation: Explanation,
    *,
    viewer: Any = None,
    sample: int = 0,
    image: Volume | None = None,
    resolution: Resolution = "input",
) -> Any:
    """Show the maps of a sample over its image in napari.

    Parameters
    ----------
    explanation
        Of a volume.
    viewer
        Of napari; None opens a new window.
    sample
        Of the batch.
    image
        What is below the maps; None is the volume that was explained.
    resolution
        As for `explanation_layers`.

    Returns
    -------
    The viewer.

    Raises
    ------
    MissingExtraError
        If napari is not installed.
    InputError
        If the input was not three-dimensional, or there is no image.
    """
    below = image or explanation.source
    if below is None:
        raise InputError(
            "There is no image below the maps, since a tensor was explained: give it as "
            "image=Volume(array)."
        )
    explanation = explanation if explanation.source else replace(explanation, source=below)
    layers = [
        *image_layers(below),
        *explanation_layers(explanation, sample=sample, resolution=resolution),
    ]
    napari = require("napari", extra="napari", purpose="show layers in its viewer")
    from napari.layers import Layer

    viewer = viewer or napari.Viewer()
    for layer in layers:
        viewer.add_layer(Layer.create(*layer))
    return viewer
