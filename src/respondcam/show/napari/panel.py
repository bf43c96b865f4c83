"""The panel in napari's window: fields, two buttons, and what became of it.

It holds no knowledge: what the fields mean is in `respondcam.show.napari.work`, what a layer is
made of in `respondcam.show.napari.layers`.
"""

import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, no_type_check

import numpy as np

from respondcam._extras import require
from respondcam._methods import METHOD_SUMMARIES
from respondcam.errors import InputError
from respondcam.show.napari import work
from respondcam.show.napari.layers import OURS, LayerData, image_layers, volume_of
from respondcam.show.napari.saved import saved_layers
from respondcam.show.napari.window import Form, bring_qt
from respondcam.volume import NORMALIZATIONS, read_volume

bring_qt()
from qtpy.QtWidgets import (  # noqa: E402  (what is missing is said first)
    QFileDialog,
    QVBoxLayout,
    QWidget,
)

_CHOSEN = "(chosen for me)"
_RESOLUTIONS = {"voxels of the image": "input", "grid of the layer": "layer"}


class ExplainPanel(QWidget):
    """Choose volume, network, layer, class and method; the map comes as a layer.

    Parameters
    ----------
    napari_viewer
        The viewer that the panel belongs to.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.networks = work.Networks()
        self.worker: Any = None
        self.stop = threading.Event()
        self.form = Form(self)
        self._fields()
        layout = QVBoxLayout(self)
        layout.addWidget(self.form)
        layout.addStretch(1)
        for event in ("inserted", "removed", "renamed"):
            getattr(self.viewer.layers.events, event).connect(self._list_volumes)
        self._list_volumes()
        self._rest()
        self.destroyed.connect(self.stop.set)

    def _fields(self) -> None:
        form = self.form
        form.choice("volume", "Volume", tip="An image layer of three axes.")
        form.button("open", "Open a volume ...", self._open_volume)
        form.text(
            "model",
            "Model",
            "demo",
            tip="As --model of respondcam explain: "
            "package.module:factory, path/to/file.py:factory, a TorchScript or torch.export "
            "file, onnx:FILE, keras:FILE, nnunet:DIR, monai:DIR, paper:cnn-1, demo.",
        )
        form.file(
            "weights", "Weights", tip="safetensors, a state dict or a checkpoint; may be empty."
        )
        form.tick("trust", "Trust: may run code when opened")
        form.text("arguments", "Arguments", "", tip="Of the factory: NAME=VALUE NAME=VALUE")
        form.choice(
            "normalize",
            "Normalize",
            [*NORMALIZATIONS],
            tip="What is done to the intensities first; as the network was trained.",
        )
        form.choice(
            "axes",
            "Axes",
            [*work.AXES],
            tip="Order of the axes that the network was trained on; xyz for MONAI.",
        )
        form.button("look", "List layers and classes", self.look)
        form.choice("layer", "Layer", [_CHOSEN], free=True)
        form.choice(
            "target",
            "Class",
            ["predicted", "all"],
            free=True,
            tip="predicted, all, a number, a name, contrast:3,5, voxel:Z,Y,X@3, ...",
        )
        form.choice("method", "Method", [*METHOD_SUMMARIES], tips=[*METHOD_SUMMARIES.values()])
        form.choice("resolution", "Map in", [*_RESOLUTIONS])
        form.choice("device", "Device", [*work.DEVICES], tip="auto: CUDA if there is one.")
        form.button("explain", "Explain", self.explain)
        form.button("cancel", "Cancel", self.cancel)
        form.busy_bar()
        form.status()

    def asked(self) -> work.Asked:
        """Read the fields.

        Raises
        ------
        InputError
            If one of them means nothing.
        """
        form = self.form
        layer = form.value("layer")
        return work.Asked(
            model=form.value("model"),
            weights=form.value("weights"),
            trust=form.ticked("trust"),
            arguments=work.arguments_of(form.value("arguments")),
            layer="" if layer == _CHOSEN else layer,
            target=form.value("target"),
            method=form.value("method"),
            normalize=form.value("normalize"),
            axes=form.value("axes"),
            resolution=_RESOLUTIONS[form.value("resolution")],
            device=form.value("device"),
        )

    def explain(self) -> None:
        """Make the map in a thread; what the fields say now counts."""
        self._start(work.explain, self._add_maps)

    def look(self) -> None:
        """Fill the lists of layers and classes, in a thread."""
        self._start(work.look, self._offer)

    def cancel(self) -> None:
        """Stop what is running, before the next module of the network."""
        self.stop.set()
        if self.worker is not None:
            self.form.say("stopping ...")
            self.worker.quit()

    def _start(self, what: Any, then: Any) -> None:
        from napari.qt.threading import create_worker

        if self.worker is not None:
            return
        try:
            asked, volume = self.asked(), volume_of(self._chosen_layer())
        except InputError as error:
            self._fail(work.Failure(str(error)))
            return
        self.stop = stop = threading.Event()

        @no_type_check  # what is wrapped is no generator function any more
        def run() -> Generator[str, None, Any]:
            return (yield from work.in_words(what(asked, volume, self.networks, stop)))

        def done(result: Any) -> None:
            if isinstance(result, work.Failure):
                self._fail(result)
            elif result is not None:
                then(result)

        self.form.busy(True)
        self.worker = create_worker(
            run, _start_thread=False, _progress={"total": work.STEPS, "desc": "respondcam"}
        )
        self.worker.yielded.connect(lambda text: self.form.say(f"{text} ..."))
        self.worker.returned.connect(done)
        self.worker.finished.connect(self._rest)
        self.worker.start()

    def _rest(self) -> None:
        """Nothing is running (any more)."""
        if self.worker is not None and self.stop.is_set():
            self.form.say("Cancelled.")
        self.worker = None
        self.form.busy(False)

    def _add_maps(self, layers: Sequence[LayerData]) -> None:
        added = add_layers(self.viewer, layers)
        shown = added[-1]  # of the highest score
        _go_to_peak(self.viewer, shown)
        record = shown.metadata[OURS]
        reason = f"Layer chosen: {record['layer_reason']}." if record["layer_reason"] else ""
        lines = [shown.name, record["account_in_words"], reason, record["why_empty"]]
        self.form.say("\n".join(line for line in [*lines, *record["notes"]] if line))

    def _offer(self, choices: work.Choices) -> None:
        names = choices.layer_names
        tips = [f"explained if none is named: {choices.layers.reason}", *_tips(choices)]
        self.form.offer("layer", [_CHOSEN, *names], tips)
        self.form.offer("target", ["predicted", "all", *choices.class_names])
        chosen = choices.layers.chosen or "none"
        self.form.say(f"{len(names)} layers can be explained; chosen if none is named: {chosen}.")

    def _fail(self, failure: work.Failure) -> None:
        from napari.utils.notifications import notification_manager, show_error

        self.form.say(failure.message)
        if failure.fault is None:
            show_error(failure.message)
        else:  # ours: the traceback is of use
            fault = failure.fault
            notification_manager.receive_error(type(fault), fault, fault.__traceback__)

    def _images(self) -> list[Any]:
        """Image layers that are no maps."""
        layers = [one for one in self.viewer.layers if type(one).__name__ == "Image"]
        return [one for one in layers if "target" not in one.metadata.get(OURS, {})]

    def _list_volumes(self, event: Any = None) -> None:
        self.form.offer("volume", [layer.name for layer in self._images()], last=True)

    def _chosen_layer(self) -> Any:
        name = self.form.value("volume")
        found = [layer for layer in self._images() if layer.name == name]
        if not found:
            raise InputError("There is no volume. Open one, or add an image layer.")
        return found[0]

    def _open_volume(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a volume with respondcam")
        if not path:
            return
        try:
            add_layers(self.viewer, image_layers(read_volume(Path(path))))
        except InputError as error:
            self._fail(work.Failure(str(error)))


def open_maps() -> None:
    """Ask for a folder that ``respondcam explain`` wrote to, and show what is in it."""
    napari = require("napari", extra="napari", purpose="show layers in its viewer")
    from napari.utils.notifications import show_error

    viewer = napari.current_viewer()
    folder = QFileDialog.getExistingDirectory(None, "Folder that respondcam explain wrote to")
    if not folder or viewer is None:
        return
    try:
        add_layers(viewer, saved_layers([folder]))
    except InputError as error:
        show_error(str(error))


def add_layers(viewer: Any, layers: Sequence[LayerData]) -> list[Any]:
    """Add layers to a viewer of napari and give them."""
    from napari.layers import Layer

    return [viewer.add_layer(Layer.create(*layer)) for layer in layers]


def _go_to_peak(viewer: Any, layer: Any) -> None:
    """Cut through the strongest voxel of a map."""
    peak = np.unravel_index(int(np.argmax(np.abs(layer.data))), layer.data.shape)
    for axis, place in enumerate(layer.data_to_world([float(i) for i in peak])):
        viewer.dims.set_point(axis, place)


def _tips(choices: work.Choices) -> list[str]:
    titles, cells = choices.layers.cells()
    texts = {
        row[0]: ", ".join(f"{t} {c}" for t, c in zip(titles[1:], row[1:], strict=True) if c)
        for row in cells
    }
    return [texts[name] for name in choices.layer_names]
