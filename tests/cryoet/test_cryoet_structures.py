"""Densities of atomic models against a direct sum of Gaussians, and real ones against templates."""

import gzip
import math
import warnings

import numpy as np
import pytest

from respondcam.cryoet.densities import density_from_file
from respondcam.cryoet.structures import density_from_structure
from respondcam.errors import RespondCAMWarning, VolumeError

gemmi = pytest.importorskip("gemmi")

ATOMS = [
    ("N", "N", 0.0, 0.0, 0.0),
    ("CA", "C", 14.0, 3.0, -2.0),
    ("O", "O", -6.0, 11.0, 5.0),
    ("SD", "S", 2.0, -7.0, 9.5),
]


def pdb_line(serial, name, element, x, y, z, *, residue="MET", record="ATOM", chain="A"):
    return (
        f"{record:<6}{serial:>5} {name:^4} {residue:<3} {chain}{1:>4}    "
        f"{x:8.3f}{y:8.3f}{z:8.3f}{1.0:6.2f}{33.0:6.2f}          {element:>2}"
    )


def write_pdb(path, lines):
    path.write_text("\n".join([*lines, "END"]) + "\n")
    return path


@pytest.fixture
def small(tmp_path):
    return write_pdb(tmp_path / "small.pdb", [pdb_line(i, *atom) for i, atom in enumerate(ATOMS)])


def direct_sum(atoms, size, voxel, resolution):
    """Each atom's five Gaussians, one by one, in float64."""
    weights = np.array([gemmi.Element(element).weight for _, element, *_ in atoms])
    places = np.array([place for _, _, *place in atoms])
    places = places - weights @ places / weights.sum()
    axis = (np.arange(size) - (size - 1) / 2) * voxel
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    density = np.zeros((size, size, size))
    for (_, element, *_), (px, py, pz) in zip(atoms, places, strict=True):
        square = (x - px) ** 2 + (y - py) ** 2 + (z - pz) ** 2
        factors = gemmi.Element(element).c4322
        for a, b in zip(factors.a, factors.b, strict=True):
            width = b + 20.0 + 4 * resolution**2
            density += a * (4 * math.pi / width) ** 1.5 * np.exp(-4 * math.pi**2 * square / width)
    return density / density.max()


@pytest.mark.parametrize(("voxel", "resolution"), [(4.0, None), (4.0, 12.0), (3.0, 6.0)])
def test_density_is_the_sum_over_atoms(small, voxel, resolution):
    volume = density_from_structure(
        small,
        size=16,
        voxel_size_angstrom=voxel,
        resolution_angstrom=resolution,
        assembly="deposited",
    )
    expected = direct_sum(ATOMS, 16, voxel, resolution or 2 * voxel)
    np.testing.assert_allclose(volume.voxels, expected, atol=2e-4)
    assert volume.voxel_size == (voxel,) * 3
    assert volume.unit == "angstrom"


def test_nothing_comes_in_at_the_other_border(tmp_path):
    atoms = [("C1", "C", -14.5, 0.0, 0.0), ("C2", "C", 14.5, 0.0, 0.0)]
    path = write_pdb(tmp_path / "wide.pdb", [pdb_line(i, *atom) for i, atom in enumerate(atoms)])
    volume = density_from_structure(
        path, size=15, voxel_size_angstrom=2.0, resolution_angstrom=8.0, assembly="deposited"
    )
    np.testing.assert_allclose(volume.voxels, direct_sum(atoms, 15, 2.0, 8.0), atol=2e-4)


def test_waters_and_hydrogens_do_not_count(tmp_path, small):
    more = [pdb_line(i, *atom) for i, atom in enumerate(ATOMS)]
    more.append(pdb_line(8, "H1", "H", 12.0, 12.0, 12.0))
    more.append(pdb_line(9, "O", "O", -12.0, 12.0, 9.0, residue="HOH", record="HETATM", chain="W"))
    wet = write_pdb(tmp_path / "wet.pdb", more)
    options = {"size": 16, "voxel_size_angstrom": 4.0, "assembly": "deposited"}
    np.testing.assert_array_equal(
        density_from_structure(wet, **options).voxels,
        density_from_structure(small, **options).voxels,
    )


def test_formats_and_compression_agree(tmp_path, small):
    structure = gemmi.read_structure(str(small))
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(tmp_path / "small.cif"))
    (tmp_path / "small.pdb.gz").write_bytes(gzip.compress(small.read_bytes()))
    options = {"size": 16, "voxel_size_angstrom": 4.0, "assembly": "deposited"}
    expected = density_from_structure(small, **options).voxels
    for name in ("small.cif", "small.pdb.gz"):
        np.testing.assert_array_equal(
            density_from_structure(tmp_path / name, **options).voxels, expected
        )


def biological(lines, second="-1.0", chains="A"):
    """REMARK 350 of a dimer with a two-fold axis along z, moved by 30 Å along x."""
    return [
        "REMARK 350",
        "REMARK 350 BIOMOLECULE: 1",
        f"REMARK 350 APPLY THE FOLLOWING TO CHAINS: {chains}",
        "REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000",
        "REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000",
        "REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000",
        f"REMARK 350   BIOMT1   2 {float(second):9.6f}  0.000000  0.000000       30.00000",
        f"REMARK 350   BIOMT2   2  0.000000 {float(second):9.6f}  0.000000        0.00000",
        "REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000",
        *lines,
    ]


def test_biological_assembly_is_built(tmp_path):
    lines = [pdb_line(i, *atom) for i, atom in enumerate(ATOMS)]
    path = write_pdb(tmp_path / "dimer.pdb", biological(lines))
    other = [(name, element, 30 - x, -y, z) for name, element, x, y, z in ATOMS]
    volume = density_from_structure(path, size=20, voxel_size_angstrom=4.0)
    np.testing.assert_allclose(volume.voxels, direct_sum(ATOMS + other, 20, 4.0, 8.0), atol=2e-4)


def test_a_file_without_assembly_is_taken_as_it_is_and_said(small):
    with pytest.warns(RespondCAMWarning, match="lists no biological assembly"):
        volume = density_from_structure(small, size=16, voxel_size_angstrom=4.0)
    expected = density_from_structure(small, size=16, voxel_size_angstrom=4.0, assembly="deposited")
    np.testing.assert_array_equal(volume.voxels, expected.voxels)


@pytest.mark.parametrize(
    ("name", "lines", "options", "message"),
    [
        ("none.pdb", ["HEADER    NOTHING"], {}, "holds no atoms"),
        (
            "wet.pdb",
            [pdb_line(1, "O", "O", 0, 0, 0, residue="HOH", record="HETATM")],
            {"assembly": "deposited"},
            "other than hydrogens and waters",
        ),
        (
            "odd.pdb",
            [pdb_line(1, "Q9", "X", 0, 0, 0, residue="UNX")],
            {"assembly": "deposited"},
            "unknown elements, the first is UNX 1 Q9 of chain A",
        ),
        (
            "wide.pdb",
            [pdb_line(1, "C", "C", -90, 0, 0), pdb_line(2, "C", "C", 90, 0, 0)],
            {"assembly": "deposited", "size": 16},
            "reaches 90 Å from its centre of mass, and the box of 160 Å only 80 Å",
        ),
        (
            "dimer.pdb",
            biological([pdb_line(1, "C", "C", 0, 0, 0)]),
            {"assembly": "7"},
            "lists no assembly '7'. Listed: '1'",
        ),
        (
            "part.pdb",
            biological([pdb_line(1, "C", "C", 0, 0, 0)], chains="A, B"),
            {},
            "chains that the file does not hold: B",
        ),
        ("fine.pdb", [pdb_line(1, "C", "C", 0, 0, 0)], {"resolution_angstrom": 5.0}, "finer than"),
        ("fine.pdb", [pdb_line(1, "C", "C", 0, 0, 0)], {"size": 0}, "impossible"),
        ("atoms.txt", ["x"], {}, "no atomic structure by its name"),
        ("broken.cif", ["data_x", "loop_", "_atom_site.id", "_atom"], {}, "broken.cif"),
    ],
)
def test_mistakes_are_named(tmp_path, name, lines, options, message):
    path = write_pdb(tmp_path / name, lines)
    with pytest.raises(VolumeError, match=r".*") as caught:
        density_from_structure(path, **options)
    assert message in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(VolumeError, match="There is no file"):
        density_from_structure(tmp_path / "absent.pdb")


@pytest.mark.parametrize(
    ("name", "assembly", "least"),
    # the template of 1bxn is of the asymmetric unit, half of the biological assembly
    [("1s3x", None, 0.90), ("3j9i", None, 0.92), ("1bxn", "deposited", 0.96)],
)
def test_real_structures_look_like_their_templates(shared_data, name, assembly, least):
    volume = density_from_structure(shared_data / "structures" / f"{name}.pdb", assembly=assembly)
    again = density_from_structure(shared_data / "structures" / f"{name}.pdb", assembly=assembly)
    assert volume.voxels.tobytes() == again.voxels.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RespondCAMWarning)
        template = density_from_file(shared_data / "densities" / f"{name}.mrc")
    assert np.corrcoef(volume.voxels.ravel(), template.voxels.ravel())[0, 1] > least


def test_rubisco_is_whole(shared_data):
    path = shared_data / "structures" / "1bxn.pdb"
    whole, half = (
        density_from_structure(path, assembly=name).voxels for name in ("1", "deposited")
    )
    assert whole.sum() / half.sum() == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_a_packed_file_that_unpacks_to_far_more_than_coordinates_do_is_refused(tmp_path, kind):
    line = pdb_line(1, "CA", "C", 0.0, 0.0, 0.0) + "\n"
    path = tmp_path / f"bomb.{kind}.gz"
    with gzip.open(path, "wb") as file:
        file.writelines([line.encode() * 10_000] * 40)
    with pytest.raises(
        VolumeError, match=rf"bomb\.{kind}\.gz.*unpacks to more than 16777216 bytes"
    ):
        density_from_structure(path)


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_a_damaged_packed_file_is_named(tmp_path, small, kind):
    path = tmp_path / f"cut.{kind}.gz"
    path.write_bytes(gzip.compress(small.read_bytes())[:-20])
    with pytest.raises(VolumeError, match=rf"cut\.{kind}\.gz' is truncated or damaged"):
        density_from_structure(path)


def test_a_device_is_not_called_missing(tmp_path):
    (tmp_path / "zero.pdb").symlink_to("/dev/zero")
    with pytest.raises(VolumeError, match=r"zero\.pdb' is no regular file"):
        density_from_structure(tmp_path / "zero.pdb")
