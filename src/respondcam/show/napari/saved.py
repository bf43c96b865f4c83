"""Maps that ``respondcam explain`` wrote, as layers over their images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from respondcam._files import read_json
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


def saved_maps(path: Path) -> list[LayerData]:
    """Make layers of what turns out to be maps; none if it is another image.

    A file is known by the record beside it, an image that ``explain --window`` made by what it
    holds about itself: each target is a layer then.
    """
    if path.is_dir():
        return _window_maps(path)
    record = _record_beside(path)
    if record is None:
        return []
    from respondcam.show.report.records import read_map

    found = read_map(record, read_json(record), "voxel")
    map = read_volume(path)
    return [map_layer(map, found.caption(path.name), about={"record": str(record)})]


def _window_maps(path: Path) -> list[LayerData]:
    try:
        ours = read_json(path / "zarr.json")["attributes"]["respondcam"]
        names, settings = ours["channels"], ours["manifest"]["settings"]
        method, layer, stitch = (str(settings[key]) for key in ("method", "layer", "stitch"))
    except (OSError, ValueError, KeyError, TypeError):
        return []
    whole = read_volume(path)
    maps = whole.voxels.reshape(-1, *whole.shape)
    return [
        map_layer(
            whole.with_voxels(map),
            Caption(target=str(name), layer=layer, method=method),
            about={"store": str(path), "stitch": stitch},
            visible=number == 0,
        )
        for number, (name, map) in enumerate(zip(names, maps, strict=True))
    ]


def _record_beside(path: Path) -> Path | None:
    """The record of a map NAME.input.mrc or NAME.layer.mrc is NAME.json, and names the file."""
    for resolution in _RESOLUTIONS:
        stem, dot, _ = path.name.rpartition(f".{resolution}.")
        record = path.with_name(f"{stem}.json")
        if not dot or not record.is_file():
            continue
        try:
            files = read_json(record)["files"]
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
        from respondcam.show.report.records import map_file

        map = read_volume(map_file(record, read_json(record), "input"))
        map = Volume(map.voxels, map.affine, image.unit) if map.unit == "voxel" else map
    about: dict[str, Any] = {"record": str(record), "resolution": resolution}
    return map_layer(
        map, one.caption(image.source.name if image.source else ""), about=about, visible=visible
    )


def _shown(layer: LayerData, visible: bool) -> LayerData:
    data, options, kind = layer
    return data, {**options, "visible": visible and options["visible"]}, kind
