"""Figures without a screen, without globals, without leaks; files whole or not at all."""

import gc
import io
import subprocess
import sys
import weakref
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from respondcam.errors import InputError
from respondcam.show import (
    AccountLine,
    Caption,
    orthogonal_planes,
    png_bytes,
    save_figure,
    slice_montage,
)
from respondcam.show.canvas import fitted, new_figure, text_width
from respondcam.show.theme import theme_named
from respondcam.volume import Volume

EVIL = '--><script>alert("1")</script>'


def a_figure(seed: int = 0):
    rng = np.random.default_rng(seed)
    volume = Volume(rng.random((6, 7, 8)))
    account = AccountLine(score=1.0, baseline=0.25, mapped=0.5, gap=0.25)
    caption = Caption(EVIL, EVIL, account=account)
    return orthogonal_planes(
        volume, volume.with_voxels(rng.normal(size=(6, 7, 8))), caption=caption
    )


def test_png_has_the_size_asked_for(tmp_path):
    figure = new_figure(3.0, 2.0, theme_named("dark"))
    path = save_figure(figure, tmp_path / "page.PNG", dpi=120)
    with Image.open(path) as image:
        assert image.size == (360, 240)
        assert image.convert("RGB").getpixel((5, 5)) == (0x16, 0x18, 0x1C)
    assert Image.open(io.BytesIO(png_bytes(figure, dpi=50))).size == (150, 100)


def test_pdf_and_svg_have_the_size_asked_for(tmp_path):
    figure = new_figure(3.0, 2.0, theme_named("light"))
    pdf = save_figure(figure, tmp_path / "page.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/MediaBox [ 0 0 216 144 ]" in pdf
    root = ET.parse(save_figure(figure, tmp_path / "page.svg")).getroot()
    assert (root.get("width"), root.get("height")) == ("216pt", "144pt")


def test_saving_twice_gives_the_same_picture(tmp_path):
    figure = a_figure()
    first = save_figure(figure, tmp_path / "a.png").read_bytes()
    assert save_figure(figure, tmp_path / "b.png").read_bytes() == first
    assert save_figure(a_figure(), tmp_path / "c.png").read_bytes() == first


@pytest.mark.parametrize("name", ["page.jpg", "page", "page.svgz", ".png"])
def test_other_suffixes_are_refused_and_nothing_is_written(tmp_path, name):
    with pytest.raises(InputError, match=r"\.png, \.svg, \.pdf"):
        save_figure(a_figure(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dpi", [0, 5, 100_000])
def test_resolution_is_bounded(tmp_path, dpi):
    with pytest.raises(InputError, match=f"dpi={dpi}"):
        save_figure(a_figure(), tmp_path / "page.png", dpi=dpi)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(InputError, match="no-such"):
        save_figure(a_figure(), tmp_path / "no-such" / "page.png")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "page.png"
    path.write_bytes(b"old")
    figure = a_figure()

    def fail(target, **_):
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["page.png"]


def test_markup_in_names_stays_text_in_svg(tmp_path):
    root = ET.parse(save_figure(a_figure(), tmp_path / "page.svg")).getroot()
    assert not [node for node in root.iter() if "script" in str(node.tag).lower()]


def test_formulas_and_odd_names_are_drawn_as_they_are(tmp_path):
    for name in (r"$\frac{1}$.mrc", "a_b^c$.mrc", "\\", "細胞 🧠.nii", "{}%s"):
        volume = Volume(np.zeros((3, 3, 3)))
        save_figure(slice_montage(volume, caption=Caption(name)), tmp_path / "page.pdf")


def test_a_users_matplotlibrc_does_not_change_the_look():
    expected = png_bytes(a_figure())
    strange = {
        "savefig.bbox": "tight",
        "savefig.transparent": True,
        "savefig.facecolor": "red",
        "figure.constrained_layout.use": True,
        "text.usetex": True,
        "text.color": "red",
        "axes.grid": True,
        "axes.facecolor": "red",
        "axes.linewidth": 5,
        "image.cmap": "jet",
        "image.origin": "lower",
        "image.interpolation": "bicubic",
        "lines.linestyle": "--",
        "font.size": 30,
        "font.family": "serif",
        "font.style": "italic",
        "patch.force_edgecolor": True,
    }
    with mpl.rc_context(strange):
        assert png_bytes(a_figure()) == expected


def test_no_setting_of_matplotlib_is_changed():
    before = dict(mpl.rcParams)
    png_bytes(a_figure())
    assert dict(mpl.rcParams) == before


def test_threads_draw_the_same_pictures_as_one():
    alone = [png_bytes(a_figure(seed)) for seed in range(3)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda seed: png_bytes(a_figure(seed)), range(3)))
    assert together == alone


def test_figures_are_freed():
    figure = a_figure()
    png_bytes(figure)
    alive = weakref.ref(figure)
    del figure
    gc.collect()
    assert alive() is None


def test_neither_pyplot_nor_torch_is_loaded_for_a_volume():
    code = (
        "import sys, numpy as np, respondcam.show\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from respondcam.show import volume_html\n"
        "from respondcam.volume import Volume\n"
        "assert 'data:image/png' in volume_html(Volume(np.zeros((3, 4, 5))))\n"
        "print([name for name in ('matplotlib.pyplot', 'torch') if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={"DISPLAY": ""},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_text_is_measured_as_it_is_drawn():
    figure = new_figure(4.0, 1.0, theme_named("light"))
    drawn = figure.text(0.1, 0.5, "Respond-CAM", fontsize=9, fontfamily="DejaVu Sans")
    box = drawn.get_window_extent()
    assert text_width("Respond-CAM", 9.0) == pytest.approx(box.width / figure.dpi, rel=0.04)


def test_fitting_uses_the_room_there_is():
    (line,) = fitted(lambda most: ["x" * most], 2.0, 8.0)
    assert text_width(line, 8.0) <= 2.0 < text_width(line + "x", 8.0)
