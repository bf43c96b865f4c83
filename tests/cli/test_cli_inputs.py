"""From what was typed to volumes: patterns, folders, series, and names that never clash."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.series import write_series

from respondcam.cli._inputs import find_sources, left_out, output_names, slug
from respondcam.errors import InputError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_patterns_are_expanded_here_too_and_each_file_counts_once(tmp_path):
    touch(tmp_path, "b.mrc", "a.mrc", "c.txt")
    pattern = str(tmp_path / "*.mrc")
    sources = find_sources([pattern, str(tmp_path / "a.mrc"), f"{tmp_path}/./b.mrc"])
    assert [source.name for source in sources] == ["a", "b"]
    assert [source.suffix for source in sources] == [".mrc", ".mrc"]


def test_a_file_whose_name_looks_like_a_pattern_is_taken_as_it_is(tmp_path):
    touch(tmp_path, "run[1].mrc")
    assert find_sources([str(tmp_path / "run[1].mrc")])[0].name == "run[1]"


def test_a_folder_stands_for_its_volumes(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.MRC", "notes.txt", ".hidden.mrc", "pair.hdr", "pair.img")
    sources = find_sources([str(tmp_path)])
    assert [source.path.name for source in sources] == ["a.MRC", "b.nii.gz", "pair.hdr"]
    assert [source.suffix for source in sources] == [".MRC", ".nii.gz", ".nii.gz"]


def test_a_folder_with_a_series_is_one_volume_written_as_nifti(tmp_path):
    series = tmp_path / "CT.1"
    series.mkdir()
    (series / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(10))
    (source,) = find_sources([str(series)])
    assert (source.path, source.name, source.suffix) == (series, "CT.1", ".nii.gz")
    assert "written as NIfTI" in source.note


def test_what_holds_nothing_is_said(tmp_path):
    touch(tmp_path, "notes.txt")
    with pytest.raises(InputError, match=r"No file matches the pattern .*\.mrc"):
        find_sources([str(tmp_path / "*.mrc")])
    with pytest.raises(InputError, match="holds no volume and no DICOM series"):
        find_sources([str(tmp_path)])
    with pytest.raises(InputError, match="No file was given"):
        find_sources([])


def test_a_missing_file_is_left_for_the_reader_to_report(tmp_path):
    assert find_sources([str(tmp_path / "none.mrc")])[0].name == "none"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x.mrc"], ["x"]),
        (["a/x.mrc", "b/x.mrc"], ["a_x", "b_x"]),
        (["a/x.mrc", "a/x.nii.gz"], ["x_mrc", "x_nii.gz"]),
        (["a/X.mrc", "b/x.mrc"], ["a_X", "b_x"]),
        (["p/a/x.mrc", "q/a/x.mrc"], ["p_a_x", "q_a_x"]),
        (["a/x.mrc", "b/x.mrc", "c/a_x.mrc"], ["a_x_mrc", "b_x", "c_a_x"]),
    ],
)
def test_names(paths, names):
    found = output_names([Path(path) for path in paths])
    assert len(set(found)) == len(paths)
    if len(paths) < 3:
        assert found == names


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "a/b", "a_b", "A", ""]),
            st.sampled_from(["x", "X", "a_x", "b_x", "x_mrc", "a_b_x"]),
            st.sampled_from([".mrc", ".nii.gz", ".map"]),
        ),
        max_size=12,
        unique=True,
    )
)
def test_no_two_inputs_ever_share_a_name(parts):
    paths = [Path("/data", folder, stem + suffix) for folder, stem, suffix in parts]
    names = [name.casefold() for name in output_names(paths)]
    assert len(set(names)) == len(paths)
    assert all(name and os.sep not in name for name in names)


def test_slugs():
    assert slug("class 3") == "class-3"
    assert slug("encoder/block.1#2") == "encoder-block.1#2"
    assert slug("../..") == "unnamed"


def test_files_of_one_name_are_told_apart_on_the_screen(tmp_path):
    touch(tmp_path, "s1/a.mrc", "s2/a.mrc", "s2/b.mrc")
    files = [str(tmp_path / name) for name in ("s1/a.mrc", "s2/a.mrc", "s2/b.mrc")]
    assert [source.label for source in find_sources(files)] == ["s1/a.mrc", "s2/a.mrc", "b.mrc"]
    (alone,) = find_sources(files[:1])
    assert alone.label == "a.mrc"
    touch(tmp_path, "x/1/a.mrc", "y/1/a.mrc")
    deep = [str(tmp_path / name) for name in ("x/1/a.mrc", "y/1/a.mrc")]
    assert [source.label for source in find_sources(deep)] == ["x/1/a.mrc", "y/1/a.mrc"]


def test_sub_folders_that_are_left_out_are_counted_with_a_pattern_that_works(tmp_path):
    touch(tmp_path, "a.nii.gz", "one/b.nii.gz", "two/deep/a.nii.gz", "notes/c.txt", ".x/d.mrc")
    touch(tmp_path, "store.zarr/zarr.json", "store.zarr/e.mrc")
    (note,) = left_out([str(tmp_path)])
    assert note.startswith(f"2 sub-folders of {str(tmp_path)!r} with volumes were not looked into")
    pattern = note.split("; ")[1].split("'")[1]
    assert [s.path.name for s in find_sources([pattern])] == ["a.nii.gz", "b.nii.gz", "a.nii.gz"]
    assert left_out([str(tmp_path / "one"), str(tmp_path / "a.nii.gz"), pattern]) == []


def test_a_folder_with_volumes_further_down_only_says_so(tmp_path):
    touch(tmp_path, "one/b.mrc")
    with pytest.raises(InputError, match=r"1 sub-folder of .*\*\*/\*.mrc.*Known suffixes"):
        find_sources([str(tmp_path)])


def test_files_of_a_series_are_one_volume(tmp_path):
    voxels = np.ones((3, 4, 5))
    for series in ("1.2.3.6", "1.2.3.7"):
        write_series(tmp_path, voxels, series=series)
    touch(tmp_path, "im999", "a.mrc")
    files = [str(tmp_path / "*")]
    sources = find_sources(files)
    assert [source.name for source in sources] == ["a", "im600", "im700", "im999"]
    (note,) = left_out(files, sources)
    assert note.startswith("6 of the files are slices of 2 DICOM series; each series is one volume")
    assert note.endswith("called by its first file: im600, im700")
    (alone,) = find_sources([str(tmp_path / "im601")])
    assert left_out([str(tmp_path / "im601")], [alone]) == []


def test_dicom_files_beside_other_volumes_are_said_to_be_passed_over(tmp_path):
    write_series(tmp_path, np.ones((3, 4, 5)))
    assert left_out([str(tmp_path)], find_sources([str(tmp_path)])) == []
    touch(tmp_path, "a.nii.gz", "DICOMDIR")
    assert [source.name for source in find_sources([str(tmp_path)])] == ["a"]
    (note,) = left_out([str(tmp_path)])
    assert note.startswith(f"3 DICOM files of {str(tmp_path)!r} beside its other volumes were not")
    assert f"such as {str(tmp_path / 'im600')!r}, stands for all of it" in note


@pytest.mark.parametrize("suffix", ["", ".dcm", ".IMA"])
def test_folders_of_patients_are_counted_with_a_pattern_that_works(tmp_path, suffix):
    for patient in ("p1", "p2"):
        write_series(tmp_path / patient / "CT", np.ones((3, 4, 5)))
        for path in (tmp_path / patient / "CT").iterdir():
            path.rename(f"{path}{suffix}")
    with pytest.raises(InputError, match=r"2 sub-folders of .* with DICOM series were") as refused:
        find_sources([str(tmp_path)])
    pattern = str(refused.value).split("such as ")[1].split("'")[1]
    assert [source.path for source in find_sources([pattern])] == [
        tmp_path / "p1" / "CT",
        tmp_path / "p2" / "CT",
    ]


def test_a_folder_that_may_not_be_read_is_named_itself(tmp_path, monkeypatch):
    touch(tmp_path, "locked/a.mrc")
    denied = PermissionError(13, "Permission denied")

    def refuse(path, *rest):
        if "locked" in str(path):
            raise denied
        return []

    monkeypatch.setattr(Path, "is_file", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(InputError, match=r"'.*locked' cannot be read: Permission denied. Give one"):
        find_sources([str(tmp_path / "locked")])
