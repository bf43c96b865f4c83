"""Seeing it: figures of volumes and maps, and what a notebook shows.

Loaded on first use, so that showing a volume does not load torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from respondcam.show.account import account_bar
    from respondcam.show.canvas import png_bytes, save_figure
    from respondcam.show.caption import AccountLine, Caption
    from respondcam.show.comparison import comparison_figure
    from respondcam.show.figures import explanation_caption, explanation_figure
    from respondcam.show.flat import image_overlay, signal_trace
    from respondcam.show.grids import class_grid, layer_progression, map_grid
    from respondcam.show.html import explanation_html, table_html, volume_html
    from respondcam.show.isosurface import surface_figure
    from respondcam.show.notebook import explanation_viewer
    from respondcam.show.report.explained import explanation_report
    from respondcam.show.slices import orthogonal_planes, slice_montage
    from respondcam.show.theme import format_score, signed_colours, signed_rgba

# exported name -> module that defines it
_HOME = {
    "AccountLine": "caption",
    "Caption": "caption",
    "account_bar": "account",
    "class_grid": "grids",
    "comparison_figure": "comparison",
    "explanation_caption": "figures",
    "explanation_figure": "figures",
    "explanation_html": "html",
    "explanation_report": "report.explained",
    "explanation_viewer": "notebook",
    "format_score": "theme",
    "image_overlay": "flat",
    "layer_progression": "grids",
    "map_grid": "grids",
    "orthogonal_planes": "slices",
    "png_bytes": "canvas",
    "save_figure": "canvas",
    "signal_trace": "flat",
    "signed_colours": "theme",
    "signed_rgba": "theme",
    "slice_montage": "slices",
    "surface_figure": "isosurface",
    "table_html": "html",
    "volume_html": "html",
}

__all__ = [
    "AccountLine",
    "Caption",
    "account_bar",
    "class_grid",
    "comparison_figure",
    "explanation_caption",
    "explanation_figure",
    "explanation_html",
    "explanation_report",
    "explanation_viewer",
    "format_score",
    "image_overlay",
    "layer_progression",
    "map_grid",
    "orthogonal_planes",
    "png_bytes",
    "save_figure",
    "signal_trace",
    "signed_colours",
    "signed_rgba",
    "slice_montage",
    "surface_figure",
    "table_html",
    "volume_html",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"respondcam.show.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'respondcam.show' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
