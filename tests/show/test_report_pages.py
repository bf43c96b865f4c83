"""The report as a file: what is in it, what cannot get out of it, and what is worded."""

import base64
import gzip
import hashlib
import json
import re
from itertools import combinations
from pathlib import Path

import nibabel
import numpy as np
import pytest

from respondcam.errors import InputError
from respondcam.show.caption import AccountLine
from respondcam.show.report import rendering, words
from respondcam.show.report.content import Report, ReportMap, Table
from respondcam.show.report.encoding import pack
from respondcam.show.report.rendering import report_html
from respondcam.show.report.tiles import tiled
from respondcam.show.report.viewer import Viewer
from respondcam.show.report.writing import entry, write_report, write_summary
from respondcam.volume import Volume
from respondcam.volume.sampling import sample

EVIL = '</script><script>alert(1)</script><!-- <img src=x onerror="alert(2)">'
VIEWER = Viewer("var niivue = {};", "'use strict';", "0.0", "BSD")


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A viewer of a few letters: here only the page around it counts."""
    monkeypatch.setattr(rendering, "find_viewer", lambda: VIEWER)


def volume(unit="angstrom", shape=(8, 10, 12), **changes) -> Volume:
    voxels = np.random.default_rng(0).random(shape)
    affine = np.array([[-2.0, 0, 0, 30], [0, 2, 0, -5], [0, 0, 3, 7], [0, 0, 0, 1]])
    return Volume(voxels, affine if unit != "voxel" else np.eye(4), unit, **changes)


def one_map(**changes) -> ReportMap:
    coarse = np.random.default_rng(1).normal(size=(2, 3, 3))
    affine = volume().affine @ np.array([[4, 0, 0, 1.5], [0, 4, 0, 1], [0, 0, 4, 2], [0, 0, 0, 1]])
    parts = {
        "volume": Volume(coarse, affine, "angstrom"),
        "target": "ribosome",
        "layer": "conv",
        "method": "respond",
        "score": 3.0,
        "account": AccountLine(3.0, 0.5, 2.25, 0.25),
    }
    return ReportMap(**{**parts, **changes})


def data_of(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.S).group(1))


def unpacked(text: str) -> nibabel.Nifti1Image:
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_the_image_is_in_the_page_with_its_place():
    page = data_of(report_html(Report("x.mrc", volume(), [one_map()])))
    image = unpacked(page["volume"])
    assert np.abs(image.get_fdata().T - volume().voxels).max() < 1e-4
    assert np.allclose(image.affine, volume().affine)
    assert page["unit"] == "Å"


def test_the_map_in_the_page_is_that_of_the_figures_at_every_voxel():
    """As the page's script does it: linear interpolation inside the margin of zeros."""
    one = one_map()
    page = data_of(report_html(Report("x.mrc", volume(), [one])))
    image, packed = unpacked(page["volume"]), page["maps"][0]
    steps = unpacked(packed["packed"]).get_fdata().T
    to_map = np.array(packed["from_image"])
    index = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), -1)  # x, y, z
    at = index @ to_map[:3, :3].T + to_map[:3, 3]
    inside = ((at >= 0) & (at <= np.array(steps.shape[::-1]) - 1)).all(-1)
    drawn = np.where(inside, sample(steps, at[..., ::-1]), 0.0)
    world = index @ image.affine[:3, :3].T + image.affine[:3, 3]
    wanted = sample(one.volume.voxels, one.volume.index(world))
    assert np.abs(drawn - wanted).max() < 1e-3 * np.abs(wanted).max()
    assert page["maps"][0]["limit"] == pytest.approx(np.abs(one.volume.voxels).max())


def test_the_policy_allows_the_pages_own_scripts_and_nothing_else():
    page = report_html(Report("x.mrc", volume(), [one_map()]))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page).group(1)
    allowed = set(re.findall(r"&#39;(sha256-[^&]*)&#39;|'(sha256-[^']*)'", policy))
    allowed = {one or other for one, other in allowed}
    run = re.findall(r"<script>(.*?)</script>", page, re.S)
    run += re.findall(r"<style>(.*?)</style>", page, re.S)
    digests = {
        "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in run
    }
    assert len(run) == 3
    assert digests == allowed
    assert "default-src" in policy
    assert "http" not in policy
    assert not re.search(r"""(src|href)=["']https?:""", page)
    assert not re.search(r" on\w+=", page)
    assert "style=" not in page  # the policy would drop it


def test_markup_in_every_name_is_text():
    table = Table(EVIL, (EVIL, "n"), [(EVIL, 1.5)])
    evil = one_map(target=EVIL, layer=EVIL, method=EVIL, notes=(EVIL,), why_empty=EVIL)
    page = report_html(Report(EVIL, volume(), [evil], [(EVIL, EVIL)], [words.cells(table)]))
    assert page.count("<script") == page.count("</script>") == 3
    assert "<img src=x" not in page
    assert data_of(page)["maps"][0]["target"] == EVIL


def test_where_the_viewer_is_missing_figures_show_and_a_word_how_to_get_it(monkeypatch):
    monkeypatch.setattr(rendering, "find_viewer", lambda: None)
    maps = [one_map(target=f"class {i}") for i in range(14)]
    page = report_html(Report("x.mrc", volume(), maps))
    assert page.count('src="data:image/png') == 12
    assert "python hatch_build.py" in page
    assert "first 12 of 14 maps" in page
    assert "<script" not in page
    assert "script-src &#39;none&#39;" in page


def test_accounts_evidence_settings_and_notes_are_told():
    table = Table("Deletion", ("share", "score"), [(0.5, -1.25)])
    maps = [one_map(), one_map(target="other", score=None, account=None, notes=("odd",))]
    page = report_html(
        Report("x.mrc", volume(), maps, [("its SHA-256", "ab" * 32)], [words.cells(table)])
    )
    for text in ("Score 3.000 = baseline 0.500 + mapped 2.250 + gap 0.250", "10 %", "Deletion"):
        assert text in page
    assert "−1.250" in page
    assert "ab" * 32 in page
    assert "odd (other, conv)" in page


def test_an_empty_map_says_why():
    empty = one_map(
        volume=one_map().volume.with_voxels(np.zeros((2, 3, 3))), why_empty="no gradient reached it"
    )
    page = report_html(Report("x.mrc", volume(), [empty]))
    assert "The map is zero everywhere: no gradient reached it" in page
    assert data_of(page)["maps"][0]["limit"] == 0


def test_a_volume_without_a_unit_is_in_voxels_and_says_so():
    small = volume("voxel")
    page = report_html(Report("x.npy", small, [one_map(volume=small)]))
    assert "voxel size of this volume is not known" in page
    assert data_of(page)["unit"] == ""


def test_a_large_image_is_binned_and_the_page_says_so(monkeypatch):
    monkeypatch.setattr(rendering, "VOLUME_BYTES", 1200)
    page = report_html(Report("x.mrc", volume(), [one_map()]))
    assert "mean of 2 × 2 × 2 voxels" in page
    data = data_of(page)
    assert data["grid"] == [6, 5, 4]
    assert data["shape"] == [8, 10, 12]  # places are told in voxels of the file
    middle = unpacked(data["volume"]).affine @ [0, 0, 0, 1]
    assert np.allclose(middle[:3], volume().world((0.5, 0.5, 0.5)))


def test_many_maps_share_what_room_there_is():
    fine = [Volume(np.random.default_rng(i).normal(size=(32,) * 3)) for i in range(3)]
    packed = [pack(one, 40_000, margin=True) for one in fine]
    assert all(len(one.text) <= 40_000 for one in packed)
    assert {one.binned for one in packed} == {2}


def test_several_channels_show_one_and_say_so():
    many = Volume(np.random.default_rng(0).random((2, 4, 4, 4)))
    signed = Volume(np.ones((4, 4, 4)))
    page = report_html(Report("x", many, [one_map(volume=signed)], channel=1))
    assert "Channel 1 of 2" in page
    image = unpacked(data_of(page)["volume"]).get_fdata().T
    assert np.abs(image - many.voxels[1]).max() < 1e-4


def test_without_a_map_or_a_web_page_s_name_it_is_refused(tmp_path):
    with pytest.raises(InputError, match="no map of"):
        report_html(Report("x.mrc", volume(), []))
    with pytest.raises(InputError, match=r"must end with \.html"):
        write_report(Report("x.mrc", volume(), [one_map()]), tmp_path / "x.pdf")
    assert list(tmp_path.iterdir()) == []


def test_the_summary_links_and_counts(tmp_path: Path):
    report = Report("x #1.mrc", volume(), [one_map(target=f"class {i}") for i in range(7)])
    page = write_report(report, tmp_path / "x #1.mrc.html", summary="report.html")
    assert 'href="report.html"' in page.read_text("utf-8")
    summary = write_summary(
        [entry(report, page)],
        tmp_path / "report.html",
        tables=[Table("audit.csv", ("volume", "L1"), [("x", 0.25)])],
        failed=[("bad.mrc", "is no volume")],
    ).read_text("utf-8")
    assert 'href="x%20%231.mrc.html"' in summary
    assert "1 of 2 volumes" in summary
    assert "2 more maps" in summary
    assert "bad.mrc: is no volume" in summary
    assert "0.2500" in summary
    assert summary.count('src="data:image/png') == 1


@pytest.mark.parametrize(
    ("account", "bars"),
    [
        (AccountLine(3.0, 0.5, 2.25, 0.25), ["baseline", "up", "gap"]),
        (AccountLine(-3.0, 0.5, -3.5, 0.0), ["baseline", "down"]),
        (AccountLine(0.0, 0.0, 0.0, 0.0), []),
    ],
)
def test_the_account_as_a_bar(account, bars):
    assert re.findall(r'<rect class="(\w+)"', words.account_svg(account)) == bars


def test_a_record_s_channels_and_evidence_become_tables():
    from respondcam.show.report.records import _tables

    record = {
        "target": {"name": "tumour"},
        "layer": "conv",
        "evidence": {"Deletion": {"area": 0.5}},
        "channels": {"names": ["T1", "T2"], "flow": {"channels": [1.0, -0.5], "gap": 0.25}},
    }
    deletion, channels = _tables(record)
    assert (deletion.title, deletion.rows) == ("Deletion: tumour, layer conv", [("area", 0.5)])
    assert channels.columns == ("channel", "flow")
    assert channels.rows == [["T1", 1.0], ["T2", -0.5], ["gap", 0.25]]


EXTENTS = [(1, 1, 1), (73, 25, 43), (30, 100, 100), (25, 25, 100), (300, 4, 4), (4, 300, 2)]


@pytest.mark.parametrize("extent", EXTENTS)
def test_tiles_share_one_scale_lie_apart_and_leave_room_for_three_dimensions(extent) -> None:
    tall, deep, wide = map(float, extent)
    stage = tiled(tall, deep, wide)
    boxes = {shown: np.array(box) for shown, box in stage.tiles}
    sizes = {0: (wide, deep), 1: (wide, tall), 2: (deep, tall)}
    scales = [
        (boxes[plane][2] * stage.aspect / across, boxes[plane][3] / upwards)
        for plane, (across, upwards) in sizes.items()
    ]
    assert np.ptp(scales) < 1e-9
    for box in boxes.values():
        assert np.all(box >= 0)
        assert np.all(box[:2] + box[2:] <= 1 + 1e-9)
    for one, other in combinations(boxes.values(), 2):
        low, high = (
            np.maximum(one[:2], other[:2]),
            np.minimum(one[:2] + one[2:], other[:2] + other[2:]),
        )
        assert np.any(high <= low)
    # in units of the volume: its longest side fits into the view, or nearly
    view = boxes[4][2:] * (stage.aspect, 1) / scales[0][0]
    assert max(view) >= 0.6 * max(extent)
