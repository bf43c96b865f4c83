"""Maps that ``respondcam explain`` wrote, as layers over their images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from respondcam.errors import InputError
from respondcam.show.caption import Caption
from respondcam.show.napari.layers import LayerData, image_layers, map_layer
from respondcam.volume import Volume, read_volume

if TYPE_CHECKING:
    from respondcam.show.report.content import ReportMap

_RESOLUTIONS = ("input", "layer")


def saved_layers(given: Sequence[str | Path], *, resolution: str = "input") -> list[LayerData]:
    """Make layers of everything in folders that ``explain`` wrote to, or of single records.

    Parameters
    ----------
    given
        Folders, or the .json files beside the maps.
    resolution
        ``"input"``: the maps in the voxels of the image; ``"layer"``: as they came from the layer.

    Returns
    -------
    list
        For each volume its image and then its maps by rising scores; of these the last is shown at
        first, and of several volumes the first.

    Raises
    ------
    InputError
        If there is no record, a file is not there any more, or a volume has changed since.
    """
    from respondcam.show.report.records import find_records, read_report

    if resolution not in _RESOLUTIONS:
        raise InputError(f"resolution={resolution!r} is neither 'input' nor 'layer'.")
    layers: list[LayerData] = []
    for number, found in enumerate(find_records(given)):
        report = read_report(found)
        image = image_layers(report.volume, found.name)
        first = 0 if number else 1
        maps = [*zip(found.records, report.maps, strict=True)]
        layers += [_shown(layer, index < first) for index, layer in enumerate(image)]
        layers += [
            _map(path, one, resolution, report.volume, visible=index < first)
            for index, (path, one) in reversed([*enumerate(maps)])
        ]
    return layers


def saved_map(path: Path) -> LayerData | None:
    """Make a layer of a map's file by the record beside it; None if it is no such file."""
    record = _record_beside(path)
    if record is None:
        return None
    from respondcam.show.report.records import read_map

    found = read_map(record, json.loads(record.read_text("utf-8")), "voxel")
    map = read_volume(path)
    return map_layer(map, _caption(found, path.name), about={"record": str(record)})


def _record_beside(path: Path) -> Path | None:
    """The record of a map NAME.input.mrc or NAME.layer.mrc is NAME.json, and names the file."""
    for resolution in _RESOLUTIONS:
        stem, dot, _ = path.name.rpartition(f".{resolution}.")
        record = path.with_name(f"{stem}.json")
        if not dot or not record.is_file():
            continue
        try:
            files = json.loads(record.read_text("utf-8"))["files"]
            if files[resolution] == path.name:
                return record
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _map(
    record: Path, one: "ReportMap", resolution: str, image: Volume, *, visible: bool
) -> LayerData:
    map = one.volume
    if resolution == "input":
        name = json.loads(record.read_text("utf-8"))["files"].get("input", "")
        map = read_volume(record.parent / name)
        map = Volume(map.voxels, map.affine, image.unit) if map.unit == "voxel" else map
    about: dict[str, Any] = {"record": str(record), "resolution": resolution}
    return map_layer(
        map, _caption(one, image.source.name if image.source else ""), about=about, visible=visible
    )


def _caption(one: "ReportMap", source: str) -> Caption:
    return Caption(
        source=source,
        target=one.target,
        method=one.method,
        layer=one.layer,
        score=one.score,
        account=one.account,
        why_empty=one.why_empty,
        notes=one.notes,
    )


def _shown(layer: LayerData, visible: bool) -> LayerData:
    data, options, kind = layer
    return data, {**options, "visible": visible and options["visible"]}, kind
