"""``respondcam report``: pages from what explain left behind, one volume or many."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest


def explained(cli, nets, *files, **options):
    result = cli(
        "explain", *files, "--model", f"{nets}:named", "--target", "all", "--device", "cpu",
        *[word for name, value in options.items() for word in (f"--{name}", value)],
    )  # fmt: skip
    assert result.code == 0, result.err
    return Path("respondcam-maps")


def test_one_volume_gives_one_page_beside_its_maps(cli, nets, mrc):
    out = explained(cli, nets, mrc)
    result = cli("report", out)
    assert result.code == 0, result.err
    page = out / "ribo.mrc.report.html"
    assert f"Open in a browser: {page}" in result.out
    assert list(out.glob("*.html")) == [page]
    text = page.read_text("utf-8")
    record = json.loads(next(out.glob("*.json")).read_text("utf-8"))
    for word in ("[red]ribosome", "ferritin", record["input"]["sha256"], "10 × 12", "13.68"):
        assert word in text
    assert record["model"]["state_sha256"] in text


def test_explain_writes_the_page_at_once(cli, nets, mrc):
    result = cli("explain", mrc, "--model", f"{nets}:net", "--report", "--json")
    assert result.code == 0, result.err
    (page,) = json.loads(result.out)["pages"]
    assert Path(page).read_text("utf-8").startswith("<!doctype html>")


def test_quiet_prints_nothing(cli, nets, mrc):
    result = cli("explain", mrc, "--model", f"{nets}:net", "--report", "--quiet")
    assert (result.code, result.out, result.err) == (0, "", "")
    result = cli("report", "respondcam-maps", "-q")
    assert (result.code, result.out, result.err) == (0, "", "")
    result = cli("explain", "missing.mrc", "--model", f"{nets}:net", "--quiet")
    assert result.code == 2
    assert "missing.mrc" in result.err


def test_many_volumes_get_a_summary_and_a_table(cli, nets, mrc, nifti, tmp_path):
    out = explained(cli, nets, mrc, nifti)
    (tmp_path / "audit.csv").write_text("volume,L1\nribo.mrc,0.125\n")
    result = cli("report", out, "--table", "audit.csv", "--out", "pages", "--json")
    assert result.code == 0, result.err
    pages = json.loads(result.out)["pages"]
    assert pages[0] == "pages/report.html"
    assert len(pages) == 3
    summary = Path(pages[0]).read_text("utf-8")
    for word in ('href="ribo.mrc.report.html"', 'href="brain.nii.gz.report.html"', "audit.csv"):
        assert word in summary
    assert 'href="report.html"' in Path(pages[1]).read_text("utf-8")


def test_a_later_run_into_the_same_folder_lists_the_volumes_of_both(cli, nets, mrc, nifti, make):
    def run(file, *more):
        result = cli("explain", file, "--model", f"{nets}:named", "--report", "--json", *more)
        assert result.code == 0, result.err
        return [Path(page) for page in json.loads(result.out)["pages"]]

    (first,) = run(mrc, "--target", 0)
    assert 'href="report.html"' not in first.read_text("utf-8")  # there is none yet
    summary, second = run(nifti, "--target", 0)
    assert second.name == "brain.nii.gz.report.html"
    for page in (first, second):
        assert f'href="{page.name}"' in summary.read_text("utf-8")
        assert 'href="report.html"' in page.read_text("utf-8")
    run(mrc, "--target", 1)  # the page of a volume has the maps of both runs
    assert first.read_text("utf-8").count("<tr data-map=") == 2
    assert f'href="{second.name}"' in summary.read_text("utf-8")
    nifti.unlink()
    summary, _ = run(mrc, "--target", 2)  # what is lost of an earlier run is no fault of this one
    text = summary.read_text("utf-8")
    assert f'href="{second.name}"' not in text
    assert "is not there any more" in text


def test_settings_that_differ_between_maps_are_told_map_by_map(cli, nets, mrc):
    one = ("explain", mrc, "--model", f"{nets}:named", "--layer", "second")
    assert cli(*one, "--target", "0,1").code == 0
    assert cli("report", "respondcam-maps").code == 0
    page = Path("respondcam-maps/ribo.mrc.report.html")
    assert "different settings" not in page.read_text("utf-8")
    assert cli(*one, "--target", 2, "--normalize", "zscore", "--report").code == 0
    text = page.read_text("utf-8")
    assert "maps of this page were made with different settings: normalize<" in text
    rows = re.findall(r"settings: normalize</th><td>(\w+) \(of (.*?)\)</td>", text)
    assert {value: set(maps.split("; ")) for value, maps in rows} == {
        "none": {"[red]ribosome, second", "20S proteasome, second"},
        "zscore": {"ferritin, second"},
    }
    assert "different networks" not in text


def test_a_volume_that_changed_or_went_is_told_and_stops_no_other(cli, nets, mrc, nifti, make):
    out = explained(cli, nets, mrc, nifti)
    make.mrc(mrc, make.blob((8, 10, 12), seed=5))
    result = cli("report", out)
    assert result.code == 2
    assert "has changed since it was explained" in result.err
    assert "1 of 2 volumes" in (out / "report.html").read_text("utf-8")
    assert (out / "brain.nii.gz.report.html").exists()
    mrc.unlink()
    result = cli("report", out)
    assert result.code == 2
    assert "is not there any more" in result.err


def test_a_folder_that_moved_with_its_volume_still_works(cli, nets, mrc):
    out = explained(cli, nets, mrc)
    Path("elsewhere").mkdir()
    shutil.move(out, "elsewhere/maps")
    shutil.move(mrc, "elsewhere/ribo.mrc")
    result = cli("report", "elsewhere/maps")
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "does not exist"),
        (["."], "no maps to report"),
        (["other.json"], "no record of a map"),
        (["other.json", "--table", "none.csv"], "cannot be read"),
        (["other.json", "--table", "uneven.csv"], "equally many"),
        (["other.json", "--table", "pipe.csv"], "no regular file but a pipe"),
        (["other.json", "--table", "/dev/zero"], "no regular file but a device"),
        (["other.json", "--table", "."], "is a folder"),
        (["other.json", "--table", "large.csv"], "bytes long"),
    ],
)
def test_bad_input_is_worded(cli, tmp_path, arguments, words):
    (tmp_path / "other.json").write_text('{"input": 3}')
    (tmp_path / "uneven.csv").write_text("a,b\n1\n")
    os.mkfifo(tmp_path / "pipe.csv")
    with (tmp_path / "large.csv").open("wb") as file:
        file.truncate(1 << 27)
    result = cli("report", *arguments)
    assert result.code == 2
    assert words in result.err
    assert not list(tmp_path.glob("*.html"))


def changed(out: Path, section: str, name: str, value) -> Path:
    """The record of the first class with another value, the only one in its folder."""
    first, *others = sorted(out.glob("*.json"))
    for other in others:
        other.unlink()
    record = json.loads(first.read_text("utf-8"))
    record[section][name] = value
    first.write_text(json.dumps(record), encoding="utf-8")
    return first


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("account", "score", 10**400),
        ("account", "gap", float("inf")),
        ("target", "name", "\ud800"),
    ],
)
def test_records_with_what_no_page_can_hold_are_none(cli, nets, mrc, section, name, value):
    record = changed(explained(cli, nets, mrc), section, name, value)
    for given, words in ((record, "no record of a map"), (record.parent, "no maps to report")):
        result = cli("report", given)
        assert result.code == 2
        assert words in result.err


@pytest.mark.parametrize("name", ["{folder}/secret.mrc", "../secret.mrc"])
def test_a_record_shows_no_volume_outside_its_folder(cli, nets, mrc, make, tmp_path, name):
    """A record that somebody sent could have any volume of this machine put into a page."""
    make.mrc(tmp_path / "secret.mrc", make.blob((8, 10, 12), seed=7))
    record = changed(explained(cli, nets, mrc), "files", "layer", name.format(folder=tmp_path))
    result = cli("report", record)
    assert result.code == 2
    assert "outside its own folder" in result.err
    assert not list(record.parent.glob("*.html"))


@pytest.mark.parametrize("path", ["/proc/kmsg", "/proc", "/sys/kernel"])
def test_files_of_the_system_are_no_volumes(cli, nets, mrc, path):
    """Some of them block, or never end."""
    result = cli("report", changed(explained(cli, nets, mrc), "input", "path", path))
    assert result.code == 2
    assert "is not there any more" in result.err


@pytest.mark.parametrize(
    ("path", "words"),
    [("a\0b.mrc", "no maps to report"), ("x" * 5000, "is not there any more")],
)
def test_paths_that_no_file_can_have(cli, nets, mrc, path, words):
    result = cli("report", changed(explained(cli, nets, mrc), "input", "path", path).parent)
    assert result.code == 2
    assert words in result.err


def test_cells_of_a_table_stay_what_they_are(cli, nets, mrc):
    out = explained(cli, nets, mrc)
    rows = "particle,size,share\n007,1_000,0.25\n٣,+5,nan\n8,1e400,1.5e-1\n"
    Path("table.csv").write_text(rows, encoding="utf-8")
    result = cli("report", out, "--table", "table.csv")
    assert result.code == 0, result.err
    page = (out / "report.html").read_text("utf-8")
    for cell in ("007", "1_000", "٣", "+5", "1e400"):
        assert f"<td>{cell}</td>" in page
    for cell in ("0.2500", "–", "8", "0.1500"):
        assert re.search(rf"<td [^>]*>{cell}</td>", page)
