"""The napari plugin: volumes and maps as layers, and a panel that makes maps.

napari finds it by ``napari.yaml``. What a layer is made of is worked out here without Qt and
without napari; only `respondcam.show.napari.panel` needs them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from respondcam.show.napari.layers import explanation_layers, image_layers
    from respondcam.show.napari.saved import saved_layers
    from respondcam.show.napari.showing import show_explanation

_HOME = {
    "explanation_layers": "layers",
    "image_layers": "layers",
    "saved_layers": "saved",
    "show_explanation": "showing",
}

__all__ = ["explanation_layers", "image_layers", "saved_layers", "show_explanation"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"respondcam.show.napari.{_HOME[name]}"), name)
    raise AttributeError(f"module 'respondcam.show.napari' has no attribute {name!r}")
