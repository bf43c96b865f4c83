"""The plugin in the real napari, without a screen: manifest, panel, threads."""

import importlib
import os
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import respondcam as rc
from respondcam.errors import InputError, MissingExtraError
from respondcam.show.napari import work
from respondcam.show.napari.layers import OURS, image_layers

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("napari")
pytest.importorskip("PySide6")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

ROOT = Path(__file__).parents[2]
MANIFEST = Path(rc.__file__).parent / "show" / "napari" / "napari.yaml"

NETWORK = '''
import torch
from torch import nn


class Bright(nn.Module):
    """Scores how much brightness there is, in cubes of two voxels."""

    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool3d(2)

    def forward(self, x):
        seen = self.pool(x)
        return torch.stack([seen.mean((1, 2, 3, 4)), seen.amax((1, 2, 3, 4))], 1)


def build(scale=1):
    return Bright(), ["spot", "[b]peak[/b]"]


class Waits(nn.Module):
    """Says that it is running, and waits until it was told to go on."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, 1)

    def forward(self, x):
        x = self.first(x)
        import test_napari_signals as signals

        signals.running.set()
        signals.go_on.wait(20)
        return self.second(x).flatten(1)


def waits():
    return Waits()


def broken():
    class Broken(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError("inside the network")

    return Broken()
'''


@pytest.fixture
def network(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NETWORK, "utf-8")
    return str(tmp_path / "net.py")


@pytest.fixture
def spot() -> rc.Volume:
    voxels = np.zeros((8, 10, 12))
    voxels[2:4, 6:8, 10:12] = 1.0
    affine = np.diag([-2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = (10, 20, 30)
    return rc.Volume(voxels, affine, "mm")


# --- the manifest -----------------------------------------------------------------------------


def test_the_manifest_is_valid_and_everything_in_it_is_there() -> None:
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    commands = {command.id for command in manifest.contributions.commands or ()}
    assert commands == {
        "respondcam.read",
        "respondcam.explain",
        "respondcam.open_maps",
        "respondcam.phantoms",
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    where = project["entry-points"]["napari.manifest"]["respondcam"]
    assert where == "respondcam.show.napari:napari.yaml"


def test_formats_that_napari_or_others_read_are_left_to_them() -> None:
    from npe2 import PluginManifest

    readers = PluginManifest.from_file(MANIFEST).contributions.readers or []
    patterns = {pattern for reader in readers for pattern in reader.filename_patterns}
    assert (
        patterns & {"*", "*.tif", "*.tiff", "*.npy", "*.zarr", "*.png", "*.json", "*.img"} == set()
    )
    assert [reader.accepts_directories for reader in readers] == [False, True]


def test_napari_reads_through_the_manifest(tmp_path: Path, spot: rc.Volume) -> None:
    from npe2 import PluginManager, PluginManifest
    from npe2.io_utils import _read

    manager = PluginManager()
    manager.register(PluginManifest.from_file(MANIFEST))
    manager.activate("respondcam")
    path = tmp_path / "spot.nii.gz"
    rc.write_volume(path, spot)
    ((data, options, kind),) = _read([str(path)], stack=False, _pm=manager)  # type: ignore[misc]
    assert (data.shape, options["name"], kind) == ((8, 10, 12), "spot.nii.gz", "image")
    ((_, sample, _),) = manager.commands.execute("respondcam.phantoms")
    assert sample["scale"] == [10.0] * 3


# --- the work, without Qt ---------------------------------------------------------------------


def test_settings_that_mean_nothing_are_told_before_any_work() -> None:
    for wrong, match in (
        ({"model": " "}, "No model is named"),
        ({"model": "demo", "normalize": "z"}, "normalize is 'z'. Accepted: none"),
        ({"model": "demo", "axes": "xzy"}, "axes is 'xzy'"),
        ({"model": "demo", "device": "gpu"}, "device is 'gpu'. Accepted: auto, cpu, cuda"),
    ):
        with pytest.raises(InputError, match=match):
            work.Asked(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="The arguments hold 'classes'"):
        work.arguments_of("classes")


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"model": "no.such:thing"}, "no.such"),
        ({"layer": "pol"}, "Did you mean|has no layer|There is no layer"),
        ({"target": "cat"}, "the target is 'cat'. Accepted: the name of a class"),
        ({"method": "gradcam"}, "method='gradcam' is unknown"),
        ({"weights": "nowhere.pt"}, "nowhere.pt"),
    ],
)
def test_mistakes_end_in_words(
    network: str, spot: rc.Volume, asked: dict[str, Any], match: str
) -> None:
    import re

    given = work.Asked(**{"model": f"{network}:build", **asked})
    failure = work.drain(work.in_words(work.explain(given, spot, work.Networks())))
    assert isinstance(failure, work.Failure)
    assert failure.fault is None
    assert re.search(match, failure.message), failure.message


def test_a_device_that_is_not_there_is_told(
    network: str, spot: rc.Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    asked = work.Asked(f"{network}:build", device="cuda")
    failure = work.drain(work.in_words(work.explain(asked, spot, work.Networks())))
    assert failure == work.Failure(
        "device is 'cuda', but PyTorch finds none here. Choose auto or cpu."
    )


def test_a_fault_in_the_network_is_said_in_words_too(network: str, spot: rc.Volume) -> None:
    asked = work.Asked(f"{network}:broken")
    failure = work.drain(work.in_words(work.look(asked, spot, work.Networks())))
    assert isinstance(failure, work.Failure)
    assert "inside the network" in failure.message


def test_a_network_is_loaded_once_for_all_maps(network: str) -> None:
    networks = work.Networks()
    first = networks.get(work.Asked(f"{network}:build"))
    assert networks.get(work.Asked(f"{network}:build", layer="pool", target="all")) is first
    assert networks.get(work.Asked(f"{network}:build", arguments=(("scale", 2),))) is not first


def test_what_is_stopped_ends_before_the_next_module_and_leaves_nothing(spot: rc.Volume) -> None:
    stop = threading.Event()
    calls: list[int] = []  # not in the network, whose attributes are put back

    class Stops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv3d(1, 1, 1), nn.Conv3d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.first(x)
            calls.append(1)
            stop.set()
            return self.second(x).flatten(1)

    from torch.nn.modules.module import _global_forward_pre_hooks

    from respondcam.network.sources import LoadedModel

    model = Stops().train()
    asked = work.Asked("stops")
    networks = work.Networks(asked.network, LoadedModel(model, "stops"))
    for doing in (work.explain, work.look):
        stop.clear()
        calls.clear()
        with pytest.raises(work.Cancelled):
            work.drain(doing(asked, spot, networks, stop))
        assert calls
        assert model.training
        assert all(p.requires_grad for p in model.parameters())
        assert not any(module._forward_hooks for module in model.modules())
        assert not _global_forward_pre_hooks
    stop.clear()
    assert work.drain(work.in_words(work.explain(asked, spot, networks, stop))) is None


# --- the panel --------------------------------------------------------------------------------


@pytest.fixture
def panel(network: str, spot: rc.Volume) -> Iterator[Any]:
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication

    application = QApplication.instance() or QApplication([])
    from respondcam.show.napari.panel import ExplainPanel, add_layers

    viewer = ViewerModel()
    add_layers(viewer, image_layers(spot, "spot"))
    found = ExplainPanel(viewer)
    found.form.set("model", f"{network}:build")
    yield found
    found.cancel()
    wait(found)
    found.deleteLater()
    application.processEvents()


def wait(panel: Any, until: Any = None, seconds: float = 30.0) -> None:
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not (until() if until else panel.worker is None):
        assert time.monotonic() < end, panel.form.said
        QApplication.processEvents()
        time.sleep(0.005)


def test_the_button_gives_a_map_at_the_place_of_what_was_seen(panel: Any, spot: rc.Volume) -> None:
    panel.form.set("layer", "pool")
    panel.form.set("target", "all")
    panel.explain()
    assert not panel.form.fields["explain"].isEnabled()
    wait(panel)
    image, other, top = panel.viewer.layers
    assert (other.visible, top.visible) == (False, True)
    assert top.name == "[b]peak[/b] (predicted) · pool · respond"
    assert top.metadata[OURS]["model"].endswith("net.py:build")
    peak = np.unravel_index(int(np.argmax(top.data)), top.data.shape)
    world = np.array(top.data_to_world([float(i) for i in peak]))[::-1]
    assert np.abs(spot.index(world) - (2.5, 6.5, 10.5)).max() <= 0.5 + 1e-6
    np.testing.assert_allclose(panel.viewer.dims.point, world[::-1])  # the peak is what is shown
    assert "score 1.000 = baseline 0.000 + mapped 1.000 + gap 0.000" in panel.form.said
    assert panel.form.fields["explain"].isEnabled()
    assert panel.form.value("volume") == "spot"  # maps are not offered as volumes
    np.testing.assert_array_equal(image.data, spot.voxels)


def test_layers_and_classes_are_listed(panel: Any) -> None:
    panel.look()
    wait(panel)
    layers, targets = panel.form.fields["layer"], panel.form.fields["target"]
    assert [layers.itemText(i) for i in range(layers.count())] == ["(chosen for me)", "pool"]
    assert [targets.itemText(i) for i in range(targets.count())] == [
        "predicted",
        "all",
        "spot",
        "[b]peak[/b]",
    ]
    assert "chosen if none is named: pool" in panel.form.said


@pytest.mark.parametrize(
    ("field", "text", "match"),
    [
        ("model", "nowhere.py:build", "nowhere.py"),
        ("model", "", "No model is named"),
        ("arguments", "classes", "The arguments hold 'classes'"),
        ("target", "cat", "the target is 'cat'"),
    ],
)
def test_a_mistake_is_said_in_the_panel_and_as_a_notification(
    panel: Any, field: str, text: str, match: str
) -> None:
    from napari.utils.notifications import notification_manager

    notification_manager.records.clear()
    panel.form.set(field, text)
    panel.explain()
    wait(panel)
    assert match in panel.form.said
    assert "Traceback" not in panel.form.said
    assert [type(one).__name__ for one in notification_manager.records] == ["Notification"]
    assert len(panel.viewer.layers) == 1
    assert panel.form.fields["explain"].isEnabled()


def test_a_volume_that_is_renamed_stays_chosen_by_its_new_name(panel: Any) -> None:
    panel.viewer.layers[0].name = "tomogram"
    assert panel.form.value("volume") == "tomogram"


def test_no_volume_no_work(panel: Any) -> None:
    panel.viewer.layers.clear()
    panel.explain()
    assert panel.form.said.startswith("There is no volume.")


def test_cancel_ends_the_work_and_leaves_nothing(
    panel: Any, network: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import ModuleType

    signals = ModuleType("test_napari_signals")
    signals.running, signals.go_on = threading.Event(), threading.Event()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "test_napari_signals", signals)
    panel.form.set("model", f"{network}:waits")
    panel.explain()
    wait(panel, signals.running.is_set)  # type: ignore[attr-defined]
    panel.cancel()
    assert panel.form.said == "stopping ..."
    signals.go_on.set()  # type: ignore[attr-defined]
    wait(panel)
    assert panel.form.said == "Cancelled."
    assert len(panel.viewer.layers) == 1
    panel.form.set("model", f"{network}:build")  # and it can be used again
    panel.explain()
    wait(panel)
    assert len(panel.viewer.layers) == 2


def test_maps_of_a_folder_are_opened_by_the_menu(
    tmp_path: Path, panel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import napari

    from respondcam.show.napari import panel as module

    said: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_error", said.append)
    monkeypatch.setattr(napari, "current_viewer", lambda: panel.viewer)
    monkeypatch.setattr(
        module.QFileDialog, "getExistingDirectory", staticmethod(lambda *_: str(tmp_path))
    )
    module.open_maps()
    assert len(said) == 1
    assert "There are no maps to report" in said[0]
    monkeypatch.setattr(
        module, "saved_layers", lambda folders: image_layers(rc.Volume(np.ones((1, 1, 1))))
    )
    module.open_maps()
    assert len(panel.viewer.layers) == 2


def test_without_qt_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from respondcam.show.napari.window import bring_qt

    monkeypatch.setitem(sys.modules, "qtpy.QtWidgets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'napari\[pyqt6\]'"):
        bring_qt()
    real = importlib.import_module

    def without(name: str, *rest: Any) -> Any:
        if name == "napari":
            raise ModuleNotFoundError("No module named 'napari'", name="napari")
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'respondcam\[napari\]'"):
        bring_qt()
