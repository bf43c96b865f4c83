"""The report in a real browser: what is seen, what can be operated, and that nothing leaves it."""

import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from respondcam.show.caption import AccountLine
from respondcam.show.report.content import Report, ReportMap, Table
from respondcam.show.report.tiles import tiled
from respondcam.show.report.viewer import find_viewer
from respondcam.show.report.writing import entry, write_report, write_summary
from respondcam.show.theme import OPACITY, signed_rgba
from respondcam.volume import Volume

pytestmark = pytest.mark.slow

ARTEFACTS = Path(__file__).parents[1] / "artefacts"
EVIL = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",  # WebGL 2 without a graphics card
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
)
SHAPE = (24, 24, 24)
RAISES, LOWERS, NOTHING = (12, 18, 6), (12, 6, 16), (12, 3, 3)  # z, y, x of the stored array


@dataclass
class Watched:
    """A page, and what went on in it."""

    page: object
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def _unavailable(why: str) -> None:
    if os.environ.get("RESPONDCAM_REQUIRE_BROWSER"):
        pytest.fail(f"{why}, and RESPONDCAM_REQUIRE_BROWSER is set")
    pytest.skip(why)


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _unavailable("playwright is not installed")
    found = next((path for path in CHROMIUM if Path(path).exists()), None)
    if found is None:
        _unavailable("no chromium on this machine: apt-get install chromium")
    if find_viewer() is None:
        _unavailable("no viewer in this checkout: python hatch_build.py")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


def open_page(browser, path: Path, *, width: int = 1280, height: int = 1000, scale: float = 1):
    context = browser.new_context(
        viewport={"width": width, "height": height}, device_scale_factor=scale
    )
    page = context.new_page()
    page.set_default_timeout(60_000)
    watched = Watched(page)
    page.on("console", lambda m: watched.errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: watched.errors.append(str(error)))
    page.on("dialog", lambda dialog: (watched.errors.append("dialog"), dialog.dismiss()))
    context.on("request", lambda request: watched.requests.append(request.url))
    page.goto(path.as_uri())
    if page.query_selector("#data"):
        page.wait_for_selector("body[data-ready]", state="attached")
    return watched


def image() -> Volume:
    """Grey noise in millimetres whose file runs from right to left."""
    voxels = np.random.default_rng(0).uniform(0.3, 0.7, SHAPE)
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = 20, -10, 5
    return Volume(voxels, affine, "mm", source=Path("head.nii.gz"))


def blobs(raises=RAISES, lowers=LOWERS) -> Volume:
    index = np.indices(SHAPE)
    distance = [sum((index[i] - at[i]) ** 2 for i in range(3)) for at in (raises, lowers)]
    values = np.exp(-distance[0] / 8) - 0.8 * np.exp(-distance[1] / 8)
    values[np.abs(values) < 1e-3] = 0
    return image().with_voxels(values * 0.05)


def report() -> Report:
    account = AccountLine(3.0, 0.5, 2.25, 0.25)
    return Report(
        "head.nii.gz",
        image(),
        [
            ReportMap(blobs(), "tumour", "layer4", "respond", 3.0, account),
            ReportMap(blobs(), "tumour", "layer3", "respond", 3.0, account, notes=("early",)),
            ReportMap(blobs(LOWERS, RAISES), "healthy", "layer4", "respond", -1.0, adds_up=False),
        ],
        facts=[("its SHA-256", "0" * 64)],
        tables=[Table("Deletion", ("share deleted", "score"), [(0.1, 2.5), (0.5, -0.25)])],
    )


@pytest.fixture(scope="module")
def shown(browser, tmp_path_factory) -> Iterator[Watched]:
    path = write_report(report(), tmp_path_factory.mktemp("report") / "head.report.html")
    watched = open_page(browser, path)
    yield watched
    watched.page.context.close()


@pytest.fixture
def page(shown):
    """The page as it opens, whatever another test did to it."""
    shown.page.click("#again")
    until(shown.page, "document.body.dataset.ready === 'yes'")
    assert shown.page.is_checked("input[name=target][value='0']")
    return shown.page


def until(page, condition: str) -> None:
    """Wait for a condition; playwright's own way asks for eval, which the page forbids."""
    end = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.05)


def keep(page, name: str) -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


def axial(page) -> np.ndarray:
    """Pixels of the axial plane alone: it fills the canvas, since the volume is a cube."""
    page.select_option("#view", "0")
    for axis in "yx":  # the cross to the border
        page.evaluate(
            f"(() => {{ const one = document.querySelector('#at-{axis}'); one.value = 0;"
            f" one.dispatchEvent(new Event('input')); }})()"
        )
    page.evaluate("for (const one of document.querySelectorAll('.mark, #scale')) one.hidden = true")
    return np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB"))


def pixel_of(pixels: np.ndarray, voxel) -> np.ndarray:
    """Where a voxel of the stored array is seen: y upwards, and x mirrored by the affine."""
    _, y, x = voxel
    row = (1 - (y + 0.5) / SHAPE[1]) * pixels.shape[0]
    column = (1 - (x + 0.5) / SHAPE[2]) * pixels.shape[1]
    return pixels[int(row), int(column)].astype(float)


def expected(voxel, signed: Volume, limit: float = 0.05, opacity: float = OPACITY) -> np.ndarray:
    low, high = np.quantile(image().voxels, [0.001, 0.999])
    grey = np.clip((image().voxels[voxel] - low) / (high - low), 0, 1)
    *colour, alpha = signed_rgba(np.array(signed.voxels[voxel]), limit, opacity=opacity)
    return 255 * (np.array(colour) * alpha + grey * (1 - alpha))


def test_the_map_is_seen_where_it_is_in_its_colours(page):
    keep(page, "report")
    pixels = axial(page)
    for voxel in (RAISES, LOWERS, NOTHING):
        seen = pixel_of(pixels, voxel)
        assert np.abs(seen - expected(voxel, blobs())).max() < 25, voxel
    red, _, blue = pixel_of(pixels, RAISES)
    assert red - blue > 100  # amber
    red, _, blue = pixel_of(pixels, LOWERS)
    assert blue - red > 100
    assert np.ptp(pixel_of(pixels, NOTHING)) < 6  # the image alone is grey


def test_the_strongest_colour_is_at_the_peak_and_no_colour_far_from_it(page):
    pixels = axial(page).astype(float)
    amber = np.argwhere(pixels[..., 0] - pixels[..., 2] > 60)
    centre = (amber.min(axis=0) + amber.max(axis=0)) / 2 / pixels.shape[0]
    _, y, x = RAISES
    there = np.array([1 - (y + 0.5) / SHAPE[1], 1 - (x + 0.5) / SHAPE[2]])
    assert np.abs(centre - there).max() < 0.5 / SHAPE[1]


def test_the_status_line_tells_voxel_world_and_values(page):
    page.click("#peak")
    words = page.inner_text("#where")
    assert words.startswith("Voxel 12, 18, 6 (z, y, x) · x, y, z = 8, 26, 29 mm")
    assert f"image {image().voxels[RAISES]:.3g}" in words
    assert "map 0.05" in words


def test_the_threshold_by_mouse_hides_what_is_weaker(page):
    def coloured() -> int:
        pixels = axial(page).astype(int)
        return int((np.ptp(pixels, axis=-1) > 40).sum())

    before = coloured()
    box = page.locator("#threshold").bounding_box()
    page.mouse.click(box["x"] + 0.9 * box["width"], box["y"] + box["height"] / 2)
    assert float(page.input_value("#threshold")) > 80
    after = coloured()
    assert 0 < after < before / 2
    assert float(page.inner_text("#threshold-value")) == pytest.approx(0.045, abs=0.004)


def test_the_opacity_by_keyboard(page):
    page.focus("#opacity")
    page.keyboard.press("Home")
    assert page.inner_text("#opacity-value") == "0 %"
    pixels = axial(page)
    assert np.ptp(pixel_of(pixels, LOWERS)) < 6  # no colour left
    page.focus("#opacity")
    page.keyboard.press("End")
    seen = pixel_of(axial(page), LOWERS)
    assert np.abs(seen - expected(LOWERS, blobs(), opacity=1.0)).max() < 25


def test_either_sign_alone(page):
    page.uncheck("#negative")
    pixels = axial(page)
    assert np.ptp(pixel_of(pixels, LOWERS)) < 6
    red, _, blue = pixel_of(pixels, RAISES)
    assert red - blue > 100


def test_classes_and_layers_are_chosen_by_mouse_and_keyboard(page):
    page.click("text=healthy >> nth=0")
    until(page, "document.querySelector('#headline').textContent.startsWith('healthy')")
    assert "No account is known" in page.inner_text("#sentence")
    assert page.inner_text("#legend-per") == "respond's own scale"
    red, _, blue = pixel_of(axial(page), RAISES)
    assert blue - red > 80  # this map has the signs the other way round
    page.focus("input[name=target]:checked")
    page.keyboard.press("ArrowUp")
    until(page, "document.querySelector('#headline').textContent.startsWith('tumour')")
    assert page.inner_text("#legend-per") == "score per voxel of the map"
    page.focus("#layer")
    page.select_option("#layer", label="layer3")
    until(page, "document.querySelector('#headline').textContent.includes('layer3')")
    assert page.get_attribute("#accounts tr.shown", "data-map") == "1"


def test_the_cross_moves_by_mouse_slider_and_keys(page):
    axial(page)
    box = page.locator("#canvas").bounding_box()
    # stored voxel y 6, x 16 is seen at: x mirrored, y upwards
    page.mouse.click(
        box["x"] + (1 - 16.5 / 24) * box["width"], box["y"] + (1 - 6.5 / 24) * box["height"]
    )
    until(page, "document.querySelector('#where').textContent.includes('12, 6, 16')")
    page.focus("#canvas")
    page.keyboard.press("ArrowRight")  # towards the patient's right, where the file begins
    assert "Voxel 12, 6, 15 " in page.inner_text("#where")
    page.keyboard.press("PageUp")
    assert "Voxel 13, 6, 15 " in page.inner_text("#where")
    page.focus("#at-y")
    page.keyboard.press("ArrowRight")
    assert "Voxel 13, 7, 15 " in page.inner_text("#where")


def test_both_sides_have_letters_and_the_right_may_be_on_the_left(page):
    def letters() -> list[str]:
        sides = ("left", "right", "top", "bottom")
        return ["".join(page.inner_text(f"#side-{n}-{side}") for side in sides) for n in range(3)]

    assert letters() == ["LRAP", "LRSI", "PASI"]
    stage = page.locator("#stage").bounding_box()
    for mark in page.locator(".mark").all():  # none is cut off
        box = mark.bounding_box()
        assert box["x"] >= stage["x"]
        assert box["x"] + box["width"] <= stage["x"] + stage["width"]
    assert pixel_of(axial(page), RAISES)[0] > 150
    page.check("#radiological")
    keep(page, "report-radiological")
    assert letters()[0] == "RLAP"
    page.evaluate("for (const one of document.querySelectorAll('.mark, #scale')) one.hidden = true")
    shot = Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("RGB")
    pixels = np.asarray(shot)[:, ::-1]  # seen in a mirror it is the other picture
    for voxel in (RAISES, LOWERS, NOTHING):
        assert np.abs(pixel_of(pixels, voxel) - expected(voxel, blobs())).max() < 25, voxel
    page.focus("#canvas")
    before = int(page.input_value("#at-x"))
    page.keyboard.press("ArrowRight")  # towards the patient's left, where the file ends
    assert int(page.input_value("#at-x")) == before + 1


def test_nothing_leaves_the_page_and_nothing_fails(shown, page):
    assert shown.errors == []
    asked = [url for url in shown.requests if not url.startswith(("data:", "blob:"))]
    assert len(asked) == 1
    assert asked[0].startswith("file:")
    blocked = page.evaluate("fetch('https://example.org').then(() => 'fetched', () => 'blocked')")
    assert blocked == "blocked"
    shown.errors.clear()  # that it was blocked is an error, as it should be


def test_the_page_is_accessible(page):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_readable_at_twice_the_size_and_in_the_dark(browser, shown, page):
    path = Path(page.url.removeprefix("file://"))
    small = open_page(browser, path, width=640, height=500, scale=2)
    narrow = small.page
    widths = narrow.evaluate("[document.body.scrollWidth, document.documentElement.clientWidth]")
    assert widths[0] <= widths[1]  # no scrolling sideways
    for name in ("#headline", "#canvas", "#threshold", "#accounts"):
        box = narrow.locator(name).bounding_box()
        assert box["x"] >= 0, name
    keep(narrow, "report-200-percent")
    narrow.emulate_media(color_scheme="dark")
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(narrow)
    keep(narrow, "report-dark")
    narrow.context.close()
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(("width", "column"), [(1400, 948), (800, 760)])
@pytest.mark.parametrize("shape", [(72, 24, 40), (40, 24, 100)], ids=["tall", "wide"])
def test_a_thin_volume_fills_the_column_and_is_seen_whole(
    browser, tmp_path, shape, width, column
) -> None:
    rng = np.random.default_rng(0)
    thin = Volume(rng.random(shape), np.diag([4.0, 4, 4, 1]), "angstrom", source=Path("thin.mrc"))
    one = ReportMap(thin.with_voxels(thin.voxels - 0.5), "tall", "conv", "respond", 1.0)
    path = write_report(Report("thin.mrc", thin, [one]), tmp_path / "thin.html")
    watched = open_page(browser, path, width=width, height=1000)
    page = watched.page
    assert not page.is_visible("#sides-row")  # a particle has no left and right
    assert not page.is_visible("#side-0-left")
    keep(page, f"report-thin-{shape[0]}-{width}")
    stage, line = (page.locator(name).bounding_box() for name in ("#stage", "#where"))
    assert stage["width"] > 0.75 * column
    assert line["y"] + line["height"] <= 1000  # without scrolling
    pixels = np.asarray(Image.open(io.BytesIO(page.locator("#canvas").screenshot())).convert("L"))
    places = dict(tiled(*map(float, shape)).tiles)
    for plane in range(3):
        left, top, _, _ = places[plane]
        mark = page.locator(f"#plane-{plane}").bounding_box()
        assert mark["x"] == pytest.approx(stage["x"] + left * stage["width"] + 6, abs=2)
        assert mark["y"] == pytest.approx(stage["y"] + top * stage["height"] + 4, abs=2)
    left, top, wide, high = places[0]
    scale = page.locator("#scale").bounding_box()
    assert 0 < scale["x"] - stage["x"] - left * stage["width"] < wide * stage["width"]
    assert scale["y"] - stage["y"] - top * stage["height"] > 0
    below = scale["y"] + scale["height"] - stage["y"]  # in the plane, not in the view in 3-D
    assert below < (top + high) * stage["height"]
    left, top, wide, high = places[4]
    rows, columns = pixels.shape
    seen = pixels[
        int(top * rows) : int((top + high) * rows),
        int(left * columns) : int((left + wide) * columns),
    ]
    assert min(seen.shape) > 200  # no thumbnail
    assert (seen > 60).mean() > 0.1  # the background is darker
    assert watched.errors == []
    page.context.close()


def test_in_narrow_planes_no_words_lie_over_each_other(browser, tmp_path):
    path = write_report(report(), tmp_path / "narrow.html")
    page = open_page(browser, path, width=400, height=900).page
    until(page, "document.body.dataset.ready === 'yes'")
    keep(page, "report-narrow")
    shown = [one for one in page.locator(".mark, #scale").all() if one.is_visible()]
    boxes = [(one.inner_text(), one.bounding_box()) for one in shown]
    assert {"S", "P"} <= {text for text, _ in boxes}
    for number, (text, one) in enumerate(boxes):
        for other_text, other in boxes[:number]:
            apart = (
                one["x"] >= other["x"] + other["width"]
                or other["x"] >= one["x"] + one["width"]
                or one["y"] >= other["y"] + other["height"]
                or other["y"] >= one["y"] + one["height"]
            )
            assert apart, (text, other_text)
    page.context.close()


def test_the_ends_of_the_colours_are_those_of_the_method(browser, tmp_path):
    maps = [ReportMap(blobs(), "tumour", "layer4", method, 3.0) for method in ("respond", "eigen")]
    watched = open_page(browser, write_report(Report("x", image(), maps), tmp_path / "ends.html"))
    page = watched.page
    ends = ("#legend-lowers", "#legend-raises", "#show-lowers", "#show-raises")
    told = [page.inner_text(end) for end in ends]
    assert told == ["lowers the score", "raises the score", "lowers", "raises"]
    page.select_option("#method", label="eigen")
    until(page, "document.querySelector('#headline').textContent.includes('eigen')")
    assert [page.inner_text(end) for end in ends] == ["low", "high", "low", "high"]
    page.context.close()


def test_markup_in_names_is_shown_never_executed(browser, tmp_path):
    small = Volume(np.random.default_rng(0).random((6, 6, 6)), source=Path("x"))
    one = ReportMap(small, EVIL, EVIL, EVIL, 1.0, notes=(EVIL,), why_empty=EVIL)
    evil = Report(EVIL, small, [one, one], [(EVIL, EVIL)], [Table(EVIL, (EVIL, "n"), [(EVIL, 1)])])
    path = write_report(evil, tmp_path / "evil.html", summary="report.html")
    watched = open_page(browser, path)
    page = watched.page
    assert watched.errors == []
    assert page.inner_text("h1") == EVIL
    assert EVIL in page.inner_text("#headline")
    assert page.locator("script").count() == 3
    assert page.locator("img[src=x]").count() == 0
    assert "voxel size" in page.inner_text("main").lower()
    page.context.close()
    path = write_summary([entry(evil, path)], tmp_path / "report.html", failed=[(EVIL, EVIL)])
    watched = open_page(browser, path)
    assert (watched.errors, watched.page.locator("script").count()) == ([], 0)
    watched.page.context.close()


def test_the_summary_leads_to_the_pages(browser, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    one = report()
    page = write_report(one, tmp_path / "a 100 %.html", summary="report.html")
    write_summary([entry(one, page), entry(one, page)], tmp_path / "report.html")
    watched = open_page(browser, tmp_path / "report.html")
    keep(watched.page, "summary")
    found = Axe().run(watched.page)
    assert found.violations_count == 0, found.generate_report()
    watched.page.click("tbody a >> nth=0")
    watched.page.wait_for_selector("#accounts")
    watched.page.click("text=All volumes")
    watched.page.wait_for_selector("#volumes")
    assert watched.errors == []
    watched.page.context.close()


def seconds_of(browser) -> float:
    """What all processes of the browser have computed, whoever else uses the machine."""
    import psutil

    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            used = process.cpu_times()
        except psutil.Error:
            continue
        total += used.user + used.system
    return total


MARKS = "Object.fromEntries(performance.getEntriesByType('mark').map(m => [m.name, m.startTime]))"


def test_a_large_page_opens_in_time(browser, tmp_path):
    rng = np.random.default_rng(0)
    large = Volume(rng.normal(size=(128,) * 3), np.diag([10.0, 10, 10, 1]), "angstrom")
    signed = Volume(rng.normal(size=(16,) * 3), np.diag([80.0, 80, 80, 1]), "angstrom")
    maps = [ReportMap(signed, f"class {i}", "conv", "respond", float(i)) for i in range(23)]
    path = write_report(Report("noise", large, maps), tmp_path / "large.html")
    assert path.stat().st_size < 15e6
    least = np.inf
    for _ in range(3):  # others' work on this machine lengthens it, never shortens it
        before, start = seconds_of(browser), time.perf_counter()
        watched = open_page(browser, path)
        wall, computed = time.perf_counter() - start, seconds_of(browser) - before
        marks = watched.page.evaluate(MARKS)
        keep(watched.page, "report-large")
        watched.page.context.close()
        print(f"opened in {wall:.1f} s, of which {computed:.1f} s computing; {marks}")  # noqa: T201
        least = min(least, computed)
        if least < 8:
            break
    # The planes with the map over them are there before the view in three dimensions is begun,
    # which takes about half of the time where every pixel is computed in software.
    assert marks["respondcam-planes"] < marks["respondcam-ready"]
    assert least < 8
