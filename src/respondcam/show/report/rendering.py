"""A report as one HTML file: no network, nothing executed but the page's own two scripts."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from string import Template
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from respondcam import __version__
from respondcam.errors import InputError
from respondcam.show.canvas import png_bytes
from respondcam.show.report import words
from respondcam.show.report.content import Report, ReportMap
from respondcam.show.report.encoding import MAP_BYTES, VOLUME_BYTES, Packed, pack
from respondcam.show.report.tiles import tiled
from respondcam.show.report.viewer import MISSING, Viewer, asset, find_viewer
from respondcam.show.scene import Scene, make_scene
from respondcam.show.slices import orthogonal_planes
from respondcam.show.theme import THEMES, signed_colours
from respondcam.volume import Volume

_FIGURES = 12  # at most, where there is no viewer
_DPI = 110
_PLANES = ("axial", "coronal", "sagittal")


def report_html(report: Report, *, summary: str = "") -> str:
    """Write a page with a viewer, the accounts, and what is needed to repeat it.

    Where the package was built without the viewer the page shows figures and says so.

    Parameters
    ----------
    report
        At least one map.
    summary
        Address of the page that lists all volumes, for a link; empty for none.

    Raises
    ------
    InputError
        If there is no map, a voxel is not finite, or image and map have no place in common.

    Examples
    --------
    >>> image = Volume(np.ones((4, 4, 4)))
    >>> page = report_html(Report("<b>", image, [ReportMap(image, "cat", "conv", "respond")]))
    >>> page.startswith("<!doctype html>"), "<b>" in page
    (True, False)
    """
    if not report.maps:
        raise InputError(f"There is no map of {report.name} to report. Explain it first.")
    scenes = [
        make_scene(report.volume, one.volume, channel=report.channel, limit=one.limit)
        for one in report.maps
    ]
    viewer = find_viewer()
    image, maps = _packed(report, scenes) if viewer else (None, [])
    shown = report.maps[: 1 if viewer else _FIGURES]
    rows = [words.row(one) for one in report.maps]
    first = report.maps[0]
    style = page_style()
    return _template("report.html").render(
        version=__version__,
        report=report,
        policy=policy(style, viewer),
        style=Markup(style),
        summary=summary,
        first=_map_words(first),
        viewer=_embedded(viewer),
        data=Markup(_data(report, scenes, image, maps)) if image else "",
        views=_view_names(report.volume),
        directions=_directions(report.volume),
        figures=[_figure(report, one) for one in shown],
        missing="" if viewer else MISSING,
        rows=rows,
        any_bar=any(one.bar for one in rows),
        notes=words.all_notes(report.maps, _notes(report, image, maps)),
        facts=_facts(report),
    )


def page_style() -> str:
    """Give the style sheet with the colours of the theme."""
    colours = {
        f"{name}_{part}": getattr(theme, part)
        for name, theme in THEMES.items()
        for part in ("page", "ink", "muted", "line", "positive", "negative")
    }
    return Template(asset("report.css")).substitute(colours)


def policy(style: str, viewer: Viewer | None) -> str:
    """Forbid a page everything but its own style, scripts and embedded images."""
    scripts = [_digest(text) for text in (viewer.library, viewer.script)] if viewer else ["'none'"]
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {' '.join(scripts)}",
            f"style-src {_digest(style)}",
            "img-src data: blob:",
            "connect-src data:",  # how the viewer opens the font that it carries
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def safe_json(document: Any) -> str:
    r"""Write JSON that can stand inside a script element: nothing in it ends the element.

    Examples
    --------
    >>> safe_json({"name": "</script>"})
    '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))  # ASCII only
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def picture(figure: Figure, *, dpi: int = _DPI) -> str:
    """Give the address of a figure that is part of the page itself."""
    return f"data:image/png;base64,{base64.b64encode(png_bytes(figure, dpi=dpi)).decode('ascii')}"


@lru_cache(maxsize=2)
def _template(name: str) -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    return environment.from_string(asset(name))


def template(name: str) -> Any:
    """Compile a page's template; everything put into it is escaped unless it is `Markup`."""
    return _template(name)


def _embedded(viewer: Viewer | None) -> dict[str, Any] | None:
    if viewer is None:
        return None
    scripts = {"library": Markup(viewer.library), "script": Markup(viewer.script)}
    return {**vars(viewer), **scripts}


def _packed(report: Report, scenes: Sequence[Scene]) -> tuple[Packed, list[Packed]]:
    volume = report.volume
    channel = Volume(scenes[0].grey.stored.voxels.reshape(-1, *volume.shape)[report.channel])
    image = Volume(channel.voxels, volume.affine, volume.unit)
    share = MAP_BYTES // len(report.maps)
    return pack(image, VOLUME_BYTES), [pack(one.volume, share, margin=True) for one in report.maps]


def _data(report: Report, scenes: Sequence[Scene], image: Packed, maps: Sequence[Packed]) -> str:
    volume, scene = report.volume, scenes[0]
    dz, dy, dx = scene.grey.volume.voxel_size
    stage = tiled(*scene.grey.extent)
    colours = signed_colours()(np.linspace(0, 1, 257))[:, :3]
    return safe_json(
        {
            "volume": image.text,
            "window": scene.window,
            "shape": volume.shape,
            "unit": {"voxel": "", "angstrom": "Å"}.get(volume.unit, volume.unit),
            "letters": volume.unit == "mm",
            "world_of_index": volume.affine.tolist(),
            "index_of_world": np.linalg.inv(volume.affine).tolist(),
            "grid": image.shape[::-1],
            "image_of_world": np.linalg.inv(image.affine).tolist(),
            "step_xyz": (dx, dy, dz),
            "aspect": round(stage.aspect, 4),
            "tiles": [
                {"sliceType": shown, "position": [round(share, 5) for share in place]}
                for shown, place in stage.tiles
            ],
            "planes": [f"{name}," for name in _PLANES] if volume.unit == "mm" else ["z", "y", "x"],
            "across": [_stored_axis(scene, axis) for axis in range(3)],
            "colours": np.rint(255 * colours).astype(int).tolist(),
            "maps": [
                {
                    **_map_words(one),
                    "target": one.target,
                    "layer": one.layer,
                    "method": one.method,
                    "score": words.row(one).numbers[0],
                    "limit": its.limit,
                    "peak": its.grey.stored_index(its.place(None)),
                    "from_image": (np.linalg.inv(packed.affine) @ image.affine).tolist(),
                    "packed": packed.text,
                }
                for one, its, packed in zip(report.maps, scenes, maps, strict=True)
            ],
        }
    )


def _stored_axis(scene: Scene, axis: int) -> int:
    """Tell which axis of the stored array runs along an axis of the world (0, 1, 2: z, y, x)."""
    return [scene.grey.axis_of_stored(stored) for stored in range(3)].index(axis)


def _map_words(one: ReportMap) -> dict[str, str]:
    caption = one.caption("")
    return {
        "headline": words.headline(one),
        "sentence": words.sentence(one),
        "alert": words.alert(one),
        "scale": caption.scale(),
        "low": caption.ends()[0],
        "high": caption.ends()[1],
    }


def _figure(report: Report, one: ReportMap) -> dict[str, str]:
    figure = map_figure(report, one)
    text = f"Three planes through the peak of the map of {one.target}, layer {one.layer}"
    return {"source": picture(figure), "text": text}


def map_figure(report: Report, one: ReportMap) -> Figure:
    """Draw one map of a report over the image."""
    caption = replace(one.caption(report.name), notes=())  # the page has them below
    return orthogonal_planes(
        report.volume, one.volume, channel=report.channel, limit=one.limit, caption=caption
    )


def _view_names(volume: Volume) -> list[str]:
    """Name the planes in the viewer's order: across z, y, x."""
    names = ("across z", "across y", "across x")
    return [*_PLANES] if volume.unit == "mm" else [f"plane {name}" for name in names]


def _directions(volume: Volume) -> str:
    if volume.unit == "mm":
        return (
            "Letters name the patient's sides: left and right, posterior and anterior, inferior "
            "and superior. The left is on the left of the picture unless that is switched."
        )
    return (
        "In the plane across z, x grows to the right and y upwards; across y, x to the right and z "
        "upwards; across x, y to the right and z upwards."
    )


def _notes(report: Report, image: Packed | None, maps: Sequence[Packed]) -> list[str]:
    volume = report.volume
    notes = list(report.notes)
    if volume.unit == "voxel":
        notes.append("The voxel size of this volume is not known: lengths are in voxels.")
    if volume.channels > 1:
        notes.append(f"Channel {report.channel} of {volume.channels} is shown, counted from 0.")
    if image and image.binned > 1:
        notes.append(
            f"The image is shown binned: each voxel on this page is the mean of "
            f"{image.binned} × {image.binned} × {image.binned} voxels of the file. "
            f"The map was made from the full volume."
        )
    most = max((one.binned for one in maps), default=1)
    if most > 1:
        notes.append(
            f"Maps are shown binned, by up to {most} × {most} × {most} voxels, to keep the "
            f"page small; the accounts are those of the full maps."
        )
    if not image and len(report.maps) > _FIGURES:
        notes.append(f"Figures of the first {_FIGURES} of {len(report.maps)} maps are shown.")
    return notes


def _facts(report: Report) -> list[tuple[str, str]]:
    volume = report.volume
    size = " × ".join(f"{length:.4g}" for length in volume.voxel_size)
    unit = {"angstrom": "Å"}.get(volume.unit, volume.unit)
    known = f"{size} {unit}" if volume.unit != "voxel" else "not known"
    shape = " × ".join(map(str, volume.shape))
    return [
        ("voxels (z, y, x)", shape),
        ("voxel size (z, y, x)", known),
        *([("orientation", volume.orientation)] if volume.orientation else []),
        *report.facts,
        ("respondcam", __version__),
    ]
