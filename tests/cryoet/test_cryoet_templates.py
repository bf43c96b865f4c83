"""Kinds of particles from files, folders, identifiers and phantoms."""

import gzip

import numpy as np
import pytest

from respondcam.cryoet.densities import density_from_file
from respondcam.cryoet.phantoms import PHANTOMS, phantom
from respondcam.cryoet.structures import density_from_structure
from respondcam.cryoet.templates import Banks, load_templates
from respondcam.errors import InputError, RespondCAMWarning, VolumeError
from respondcam.volume import write_volume

ATOMS = "\n".join(
    f"ATOM  {i:>5}  CA  ALA A{i:>4}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 20.00           C"
    for i, (x, y, z) in enumerate([(0, 0, 0), (30, 0, 0), (0, 40, 0), (0, 0, 20)])
)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "kinds"
    place.mkdir()
    write_volume(place / "b-map.mrc", phantom("p97", size=20))
    (place / "a-model.pdb").write_text(ATOMS + "\nEND\n")
    (place / "notes.txt").write_text("not a density")
    (place / ".hidden.mrc").write_text("")
    return place


def test_a_folder_holds_maps_and_structures(folder):
    pytest.importorskip("gemmi")
    found = load_templates([str(folder)], size=24, assembly="deposited")
    assert list(found) == ["a-model", "b-map"]
    model = density_from_structure(folder / "a-model.pdb", size=24, assembly="deposited")
    np.testing.assert_array_equal(found["a-model"].voxels, model.voxels)
    expected = density_from_file(folder / "b-map.mrc", size=24)
    np.testing.assert_array_equal(found["b-map"].voxels, expected.voxels)


def test_names_come_in_the_order_given_and_can_be_chosen(folder):
    pytest.importorskip("gemmi")
    given = ["groel", str(folder / "b-map.mrc"), str(folder / "a-model.pdb")]
    with pytest.warns(RespondCAMWarning, match="no biological assembly"):
        assert list(load_templates(given, size=24)) == ["groel", "b-map", "a-model"]
    assert list(load_templates(given, only=["b-map", "groel"], size=24)) == ["b-map", "groel"]


def test_what_lies_here_under_a_phantoms_name_is_taken_and_said(folder, tmp_path, monkeypatch):
    (folder / "a-model.pdb").unlink()
    folder.rename(tmp_path / "p97")
    monkeypatch.chdir(tmp_path)
    with pytest.warns(RespondCAMWarning, match="'p97' is the name of a phantom, but also"):
        assert list(load_templates(["p97"], size=24)) == ["b-map"]


def test_all_phantoms_are_what_is_simulated_unless_told():
    assert list(load_templates(only=["p97"], size=24)) == ["p97"]
    with pytest.raises(VolumeError, match=", ".join(PHANTOMS)):
        load_templates(only=["ribozyme"])


def test_identifiers_are_fetched(tmp_path):
    pytest.importorskip("gemmi")
    bank, entry = tmp_path / "bank", tmp_path / "bank" / "EMD-3001"
    (entry / "map").mkdir(parents=True)
    (entry / "header").mkdir()
    write_volume(tmp_path / "map.mrc", phantom("groel", size=20))
    (entry / "map" / "emd_3001.map.gz").write_bytes(
        gzip.compress((tmp_path / "map.mrc").read_bytes())
    )
    (entry / "header" / "emd-3001.xml").write_text("<emd><map/></emd>")
    columns = ["group_PDB", "id", "type_symbol", "label_atom_id", "label_alt_id"]
    columns += ["label_comp_id", "label_asym_id", "label_entity_id", "label_seq_id"]
    columns += ["pdbx_PDB_ins_code", "Cartn_x", "Cartn_y", "Cartn_z", "occupancy"]
    columns += ["B_iso_or_equiv", "auth_seq_id", "auth_asym_id", "pdbx_PDB_model_num"]
    cif = "data_1ABC\nloop_\n" + "".join(f"_atom_site.{name}\n" for name in columns)
    cif += (
        "ATOM 1 C CA . ALA A 1 1 ? 0 0 0 1 20 1 A 1\nATOM 2 C CA . ALA A 1 2 ? 30 0 0 1 20 2 A 1\n"
    )
    (bank / "1abc.cif.gz").write_bytes(gzip.compress(cif.encode()))
    banks = Banks(tmp_path / "cache", bank.as_uri(), bank.as_uri())
    found = load_templates(["pdb:1ABC", "emdb:3001"], size=24, assembly="deposited", banks=banks)
    assert list(found) == ["1abc", "EMD-3001"]
    expected = density_from_file(tmp_path / "map.mrc", size=24)
    np.testing.assert_array_equal(found["EMD-3001"].voxels, expected.voxels)


def test_wrong_names_are_errors(folder, tmp_path):
    with pytest.raises(VolumeError, match="no file or folder, no identifier"):
        load_templates(["nothing-like-it"])
    with pytest.raises(VolumeError, match="Two densities are called 'b-map'"):
        load_templates([str(folder), str(folder / "b-map.mrc")])
    (tmp_path / "empty").mkdir()
    with pytest.raises(VolumeError, match="holds no densities"):
        load_templates([str(tmp_path / "empty")])
    with pytest.raises(InputError, match="No density was named"):
        load_templates([])


def test_a_device_is_not_called_missing():
    with pytest.raises(VolumeError, match="'/dev/zero' is a pipe or a device"):
        load_templates(["/dev/zero"])
