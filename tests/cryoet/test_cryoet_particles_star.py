"""Lists of particles: angles against scipy, files as RELION reads them, wrong files named."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from respondcam.cryoet.angles import relion_angles, relion_rotations
from respondcam.cryoet.imaging import CTF
from respondcam.cryoet.particles_star import (
    ParticleList,
    particle_files,
    read_particles,
    write_particles,
)
from respondcam.cryoet.poses import uniform_rotations
from respondcam.errors import InputError

starfile = pytest.importorskip("starfile")


def rotations(count=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return uniform_rotations(count, generator=generator).double().numpy()


def some(box_size=None):
    rng = np.random.default_rng(0)
    return ParticleList(
        files=("a.mrc", "b.mrc", "b.mrc"),
        classes=("ribosome", "groel", "ribosome"),
        positions=rng.uniform(3, 30, (3, 3)),
        rotations=rotations(3),
        voxel_size_angstrom=7.5,
        box_size=box_size,
    )


def test_angles_are_those_of_scipy_turned_back():
    """Reference onto particle is the inverse of the intrinsic ZYZ rotation."""
    matrices = rotations()
    expected = Rotation.from_matrix(matrices).inv().as_euler("ZYZ", degrees=True)
    np.testing.assert_allclose(relion_angles(matrices), expected, atol=1e-6)
    angles = np.random.default_rng(1).uniform([-180, 0, -180], [180, 180, 180], (50, 3))
    expected = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()
    np.testing.assert_allclose(relion_rotations(angles), expected, atol=1e-12)


def test_written_out_rotation_matrix():
    """The matrix that is printed in descriptions of the convention, element by element."""
    rot, tilt, psi = np.radians([20.0, 50.0, -70.0])
    (ca, cb, cg), (sa, sb, sg) = np.cos([rot, tilt, psi]), np.sin([rot, tilt, psi])
    expected = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    np.testing.assert_allclose(
        relion_rotations(np.array([20.0, 50.0, -70.0])), expected, atol=1e-12
    )


@pytest.mark.parametrize("tilt", [0.0, 180.0])
def test_poles_keep_the_rotation(tilt):
    angles = np.array([[30.0, tilt, 45.0], [-170.0, tilt, 80.0]])
    matrices = relion_rotations(angles)
    np.testing.assert_allclose(relion_rotations(relion_angles(matrices)), matrices, atol=1e-9)
    np.testing.assert_array_equal(relion_angles(matrices)[:, 2], 0)


@pytest.mark.parametrize("box_size", [None, 40, 41])
def test_round_trip(tmp_path, box_size):
    path = tmp_path / "particles.star"
    write_particles(path, some(box_size), ctf=CTF())
    back, given = read_particles(path), some(box_size)
    assert (back.files, back.classes, back.box_size) == (given.files, given.classes, box_size)
    assert back.voxel_size_angstrom == 7.5
    np.testing.assert_allclose(back.positions, given.positions, atol=1e-6)
    np.testing.assert_allclose(back.rotations, given.rotations, atol=1e-7)


def test_tables_are_relions(tmp_path):
    path = tmp_path / "particles.star"
    write_particles(path, some(), ctf=CTF())
    tables = starfile.read(path, always_dict=True)
    assert list(tables) == ["optics", "particles", "model_classes"]
    rows = tables["particles"]
    assert list(rows["rlnClassNumber"]) == [2, 1, 2]
    np.testing.assert_allclose(rows["rlnCoordinateX"], some().positions[:, 0], atol=1e-6)
    write_particles(path, some(40))
    rows = starfile.read(path, always_dict=True)["particles"]
    expected = (20 - some().positions[:, 2]) * 7.5
    np.testing.assert_allclose(rows["rlnOriginZAngst"], expected, atol=1e-5)


def test_same_list_same_bytes(tmp_path):
    for name in ("a.star", "b.star"):
        write_particles(tmp_path / name, some())
    assert (tmp_path / "a.star").read_bytes() == (tmp_path / "b.star").read_bytes()


def test_coordinates_and_origins_of_a_refinement_are_put_together(tmp_path):
    path = tmp_path / "run_data.star"
    path.write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnImagePixelSize #2\n1 5.0\n\n"
        "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\n"
        "_rlnCoordinateZ #4\n_rlnOriginXAngst #5\n_rlnOriginYAngst #6\n_rlnOriginZAngst #7\n"
        "_rlnAngleRot #8\n_rlnAngleTilt #9\n_rlnAnglePsi #10\n"
        "tomogram.mrc 100 200 50 5.0 -10.0 0.0 10 20 30\n"
    )
    found = read_particles(path)
    np.testing.assert_allclose(found.positions, [[99, 202, 50]])
    assert found.files == ("tomogram.mrc",)
    assert found.classes == ("1",)


HEAD = "data_\n\nloop_\n_rlnImageName #1\n_rlnAngleRot #2\n_rlnAngleTilt #3\n_rlnAnglePsi #4\n"


CLASSES = f"{HEAD}_rlnPixelSize #5\n_rlnImageSize #6\n_rlnClassNumber #7\n"
MODEL = """
data_model_classes

loop_
_rlnReferenceImage #1
_rlnClassNumber #2
groel {}
ribosome 2
"""


def test_class_numbers_may_be_written_as_fractions(tmp_path):
    path = tmp_path / "a.star"
    path.write_text(f"{CLASSES}a.mrc 1 2 3 4 8 3.0\nb.mrc 1 2 3 4 8 2.0\n{MODEL.format(1)}")
    assert read_particles(path).classes == ("3", "ribosome")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data_\n\nloop_\n_rlnImageName #1\na.mrc\nb.mrc\n", "has no poses"),
        (HEAD + "a.mrc 1 2 3\nb.mrc 1 2 3\n", "has none of the columns rlnImagePixelSize"),
        (
            HEAD + "_rlnPixelSize #5\n_rlnImageSize #6\na.mrc 1 x 3 4 8\nb.mrc 1 2 3 4 8\n",
            "numbers",
        ),
        (
            HEAD + "_rlnPixelSize #5\n_rlnImageSize #6\na.mrc 1 2 3 4 8.5\n",
            "gives 8.5 for rlnImageSize",
        ),
        (
            HEAD + "_rlnPixelSize #5\n_rlnImageSize #6\na.mrc 1 2 3 4 1e300\n",
            "whole numbers of voxels up to 65536",
        ),
        (
            HEAD + "_rlnPixelSize #5\n_rlnImageSize #6\na.mrc 1 2 3 4 8\nb.mrc 1 2 3 5 8\n",
            "2 values",
        ),
        (
            HEAD.replace("rlnImageName", "rlnTomoName")
            + "_rlnPixelSize #5\na.mrc 1 2 3 4\nb.mrc 1 2 3 4\n",
            "has no positions",
        ),
        (
            HEAD.replace("rlnImageName", "rlnGroupName")
            + "_rlnPixelSize #5\na.mrc 1 2 3 4\nb.mrc 1 2 3 4\n",
            "which files",
        ),
        *(
            (
                f"{CLASSES}a.mrc 1 2 3 4 8 {number}\nb.mrc 1 2 3 4 8 2\n{names}",
                message,
            )
            for number, names, message in (
                ("groel", "", "numbers in rlnClassNumber"),
                ("nan", "", "rows without a value in rlnClassNumber"),
                ("1.5", "", "no whole numbers in rlnClassNumber"),
                ("1", MODEL.format("x"), "numbers in rlnClassNumber"),
            )
        ),
        ("", "lists no particles"),
        ("no star file at all", "particles"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, message):
    path = tmp_path / "wrong.star"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_particles(path)
    assert message in str(caught.value)
    assert "wrong.star" in str(caught.value)


FULL = f"{HEAD}_rlnPixelSize #5\n_rlnImageSize #6\n"
ROW = "a.mrc 1 2 3 4 8"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{FULL}_rlnAngleRot #7\n{ROW} 99\n", "rlnAngleRot stands in line 5 and again in line 10"),
        (f"{FULL}_rlnX #7\n_rlnX #8\n{ROW} 1 2\n", "label rlnX stands in line 10 and again"),
        (f"{FULL}{ROW}\n{ROW} 9\n", "line 11 holds 7 value(s), and its table has 6 label(s)"),
        (f"{FULL}{ROW}\n\nb.mrc 1 2\n", "line 12 holds 3 value(s)"),
        (f"{FULL}b.mrc 1 2\n{ROW}\n", "line 10 holds 3 value(s)"),
        (f"{FULL}'a b.mrc' 1 2 3 4\n", "line 10 holds 5 value(s)"),
        (f"data_general\n_a 1\n_a 2\n\n{FULL}{ROW}\n", "label a stands in line 2 and again"),
        (f"data_general\n_a 1 2\n\n{FULL}{ROW}\n", "line 2 holds 3 words"),
    ],
)
def test_labels_and_rows_that_do_not_fit_are_named_by_their_line(tmp_path, text, message):
    path = tmp_path / "wrong.star"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_particles(path)
    assert message in str(caught.value)
    assert "Accepted" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_comments_quotes_and_blank_lines_are_no_ragged_rows(tmp_path):
    path = tmp_path / "right.star"
    rows = f"{ROW} # a comment\n\n# another\n'b c.mrc' 1 2 3 4 8\n\"#d e.mrc\" 1 2 3 4 8\n\n"
    path.write_text(f"data_general\n_made 'by hand'\n\n{FULL}{rows}data_more\n_made 1\n")
    with path.open("a") as more:
        more.write("data_again\nloop_\n_made #1\n3\n4\n")
    assert read_particles(path).files == ("a.mrc", "b c.mrc", "#d e.mrc")


def test_absent_file(tmp_path):
    with pytest.raises(InputError, match="There is no file"):
        read_particles(tmp_path / "absent.star")


def test_rows_without_a_file_are_named(tmp_path, monkeypatch):
    (tmp_path / "a.mrc").write_text("")
    with pytest.raises(InputError, match=r"not there: b\.mrc\. "):
        particle_files(some(), tmp_path / "particles.star")
    project = tmp_path / "project"
    project.mkdir()
    (project / "b.mrc").write_text("")
    monkeypatch.chdir(project)
    found = particle_files(some(), tmp_path / "particles.star")
    assert [path.name for path in found] == ["a.mrc", "b.mrc", "b.mrc"]
    (tmp_path / "stack.star").write_text("")
    stacked = ParticleList(("1@s.mrcs",), ("x",), np.zeros((1, 3)), np.eye(3)[None], 1.0)
    with pytest.raises(InputError, match="one image of a stack"):
        particle_files(stacked, tmp_path / "stack.star")


def star(path, columns, rows, optics):
    """A list with one row of optics (pairs of label and value), written by hand."""
    labels = "".join(f"_{name}\n" for name, _ in optics)
    values = " ".join(str(value) for _, value in optics)
    columns = "".join(f"_{name}\n" for name in columns.split())
    particles = f"data_particles\n\nloop_\n{columns}" + "".join(f"{row}\n" for row in rows)
    path.write_text(f"data_optics\n\nloop_\n{labels}{values}\n\n{particles}")
    return path


ANGLES = "rlnAngleRot rlnAngleTilt rlnAnglePsi"
COORDINATES = "rlnCoordinateX rlnCoordinateY rlnCoordinateZ"
SUBTOMOGRAM = "rlnTomoSubtomogramRot rlnTomoSubtomogramTilt rlnTomoSubtomogramPsi"
SIZE = [("rlnImagePixelSize", 10), ("rlnImageSize", 40)]


def test_origins_of_relion_3_0_are_in_pixels(tmp_path):
    origins = "rlnOriginX rlnOriginY rlnOriginZ"
    row = "t.mrc 100 200 300 0 0 0 5 6 7"
    path = star(tmp_path / "a.star", f"rlnTomoName {COORDINATES} {ANGLES} {origins}", [row], SIZE)
    np.testing.assert_allclose(read_particles(path).positions, [[95, 194, 293]])
    path = star(
        tmp_path / "b.star", f"rlnImageName {ANGLES} {origins}", ["b.mrc 0 0 0 5 6 7"], SIZE
    )
    np.testing.assert_allclose(read_particles(path).positions, [[15, 14, 13]])


def test_an_origin_that_is_not_given_is_zero(tmp_path):
    columns = f"rlnTomoName {COORDINATES} {ANGLES} rlnOriginXAngst rlnOriginYAngst"
    path = star(tmp_path / "a.star", columns, ["t.mrc 100 200 300 0 0 0 50 60"], SIZE)
    np.testing.assert_allclose(read_particles(path).positions, [[95, 194, 300]])


def test_a_particle_lies_in_its_subtomogram_and_that_in_the_tomogram(tmp_path):
    """A = A_subtomogram A_particle; the origin is told in the subtomogram (scipy for each)."""
    columns = f"rlnTomoName {COORDINATES} {SUBTOMOGRAM} {ANGLES} rlnOriginXAngst"
    outer, inner = [30.0, 50.0, -70.0], [10.0, 80.0, 120.0]
    row = " ".join(map(str, ["t.mrc", 100, 200, 300, *outer, *inner, 40.0]))
    found = read_particles(star(tmp_path / "a.star", columns, [row], SIZE))
    a, b = (Rotation.from_euler("ZYZ", n, degrees=True).inv().as_matrix() for n in (outer, inner))
    np.testing.assert_allclose(found.rotations[0], a @ b, atol=1e-12)
    np.testing.assert_allclose(found.positions[0], [100, 200, 300] - a @ [4.0, 0, 0], atol=1e-12)
    row = " ".join(map(str, ["b.mrc", 100, 200, 300, *outer, *inner, 40.0]))
    boxed = columns.replace("rlnTomoName", "rlnImageName")
    found = read_particles(star(tmp_path / "b.star", boxed, [row], SIZE))
    np.testing.assert_allclose(found.rotations[0], b, atol=1e-12)  # the box is turned already
    np.testing.assert_allclose(found.positions[0], [16, 20, 20])


def test_half_a_subtomograms_orientation_is_refused(tmp_path):
    columns = f"rlnTomoName {COORDINATES} {ANGLES} rlnTomoSubtomogramRot"
    path = star(tmp_path / "a.star", columns, ["t.mrc 1 2 3 0 0 0 90"], SIZE)
    with pytest.raises(InputError, match=r"rlnTomoSubtomogramRot of the columns .* or none"):
        read_particles(path)


def test_coordinates_in_unbinned_voxels_are_not_taken_for_binned_ones(tmp_path):
    optics = [("rlnTomoTiltSeriesPixelSize", 1.35), *SIZE]
    columns = f"rlnTomoName {COORDINATES} {ANGLES}"
    path = star(tmp_path / "a.star", columns, ["t.mrc 1 2 3 0 0 0"], optics)
    with pytest.raises(InputError, match=r"rlnImagePixelSize 10, rlnTomoTiltSeriesPixelSize 1\.35"):
        read_particles(path)
    path = star(tmp_path / "b.star", f"rlnImageName {ANGLES}", ["b.mrc 0 0 0"], optics)
    assert read_particles(path).voxel_size_angstrom == 10
    optics[0] = ("rlnTomoTiltSeriesPixelSize", 10.0)
    path = star(tmp_path / "c.star", columns, ["t.mrc 1 2 3 0 0 0"], optics)
    assert read_particles(path).voxel_size_angstrom == 10


@pytest.mark.parametrize("box_size", [None, 40])
def test_names_that_look_like_numbers_stay_as_they_are(tmp_path, box_size):
    names = ("1e10", "007", "1e10")  # a column of numbers alone is taken for one
    given = ParticleList(names, names, some().positions, some().rotations, 7.5, box_size)
    write_particles(tmp_path / "a.star", given)
    back = read_particles(tmp_path / "a.star")
    assert (back.files, back.classes) == (names, names)


def test_names_that_stand_for_nothing_are_refused(tmp_path):
    columns = f"rlnTomoName {COORDINATES} {ANGLES}"
    path = star(tmp_path / "a.star", columns, ["t.mrc 1 2 3 0 0 0", "NaN 1 2 3 0 0 0"], SIZE)
    with pytest.raises(InputError, match="without a name in rlnTomoName"):
        read_particles(path)


def test_a_table_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.star"
    write_particles(path, some())
    once = path.read_text()
    path.write_text(once + once[once.index("data_particles") :])
    with pytest.raises(InputError, match=r"data_particles begins in line \d+ and again in line"):
        read_particles(path)


def test_a_byte_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "latin.star"
    path.write_bytes(f"{FULL}{ROW}\n\xe9.mrc 1 2 3 4 8\n".encode("latin-1"))
    with pytest.raises(InputError, match="line 11 holds the byte 0xe9, which is no UTF-8 text"):
        read_particles(path)
    path.write_text(f"{FULL}{ROW}\n\xe9.mrc 1 2 3 4 8\n", encoding="utf-8")
    assert read_particles(path).files == ("a.mrc", "\xe9.mrc")


def test_a_device_is_not_called_missing(tmp_path):
    for path in ("/dev/zero", tmp_path):
        with pytest.raises(InputError, match="is no regular file"):
            read_particles(path)
