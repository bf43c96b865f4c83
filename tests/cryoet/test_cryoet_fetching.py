"""Fetching: from a local server and folder, once, whole, and with messages that help."""

import gzip
import hashlib
import http.server
import threading
from functools import partial

import pytest

from respondcam.cryoet.fetching import cache_folder, fetch_map, fetch_structure
from respondcam.errors import InputError, RespondCAMWarning

STRUCTURE = gzip.compress(b"data_1BXN\n" * 200, mtime=0)
HEADER = (
    b"<emd><map><contour_list><contour><level>9</level></contour>"
    b"<contour primary='true'><level>0.25</level></contour></contour_list></map></emd>"
)


class Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012  (shared on purpose, emptied by the fixture)

    def do_GET(self):
        self.asked.append(self.path)
        if self.path.startswith("/short/"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(STRUCTURE)))
            self.end_headers()
            self.wfile.write(STRUCTURE[:20])
            self.close_connection = True
            return
        if self.path.startswith("/broken/"):
            self.send_error(500)
            return
        super().do_GET()

    def log_message(self, format, *args):
        pass


@pytest.fixture
def bank(tmp_path):
    """A data bank on this machine: its address and what it was asked for."""
    pytest.importorskip("platformdirs")
    folder = tmp_path / "bank"
    (folder / "EMD-3001" / "map").mkdir(parents=True)
    (folder / "EMD-3001" / "header").mkdir()
    (folder / "1bxn.cif.gz").write_bytes(STRUCTURE)
    (folder / "9zzz.cif.gz").write_bytes(b"<html>down for maintenance</html>")
    (folder / "8zzz.cif.gz").write_bytes(STRUCTURE[:-9])
    (folder / "EMD-3001" / "map" / "emd_3001.map.gz").write_bytes(gzip.compress(b"voxels"))
    (folder / "EMD-3001" / "header" / "emd-3001.xml").write_bytes(HEADER)
    Handler.asked.clear()
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_structure_is_fetched_once(bank, tmp_path):
    path = fetch_structure("1BXN", folder=tmp_path / "cache", url=bank)
    assert path.read_bytes() == STRUCTURE
    assert path == tmp_path / "cache" / "pdb" / "1bxn.cif.gz"
    note = path.with_name("1bxn.cif.gz.sha256").read_text("utf-8")
    assert note == f"{hashlib.sha256(STRUCTURE).hexdigest()}  1bxn.cif.gz\n"
    assert fetch_structure("pdb:1bxn", folder=tmp_path / "cache", url=bank) == path
    assert Handler.asked == ["/1bxn.cif.gz"]


def test_cached_files_need_no_network(bank, tmp_path):
    fetch_structure("1bxn", folder=tmp_path, url=bank)
    assert fetch_structure("1bxn", folder=tmp_path, url="http://127.0.0.1:9").is_file()


def test_a_file_that_changed_is_fetched_again(bank, tmp_path):
    path = fetch_structure("1bxn", folder=tmp_path, url=bank)
    path.write_bytes(b"spoilt")
    with pytest.warns(RespondCAMWarning, match="has changed since it was fetched"):
        assert fetch_structure("1bxn", folder=tmp_path, url=bank).read_bytes() == STRUCTURE


def test_a_map_comes_with_its_level(bank, tmp_path):
    found = fetch_map("EMD-3001", folder=tmp_path, url=bank)
    assert gzip.decompress(found.path.read_bytes()) == b"voxels"
    assert found.level == 0.25
    assert fetch_map("emdb:3001", folder=tmp_path, url=bank) == found


@pytest.mark.parametrize(
    ("name", "under", "message"),
    [
        ("7abc", "", "There is no entry '7abc' of the PDB"),
        ("9zzz", "", "is no gzip file"),
        ("8zzz", "", "ends too early"),
        ("1bxn", "/short", "broke off after 20 of"),
        ("1bxn", "/broken", "error 500"),
    ],
)
def test_what_is_not_whole_is_not_kept(bank, tmp_path, name, under, message):
    with pytest.raises(InputError) as caught:
        fetch_structure(name, folder=tmp_path / "cache", url=bank + under)
    assert message in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_offline_says_what_to_do(tmp_path):
    with pytest.raises(InputError, match="Is this machine offline") as caught:
        fetch_structure("1bxn", folder=tmp_path, url="http://127.0.0.1:9/files")
    assert "http://127.0.0.1:9/files/1bxn.cif.gz" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["rubisco", "12", "", "1bxn/../../x"])
def test_other_texts_are_no_identifiers(name):
    with pytest.raises(InputError, match="is no PDB identifier"):
        fetch_structure(name)
    with pytest.raises(InputError, match="is no EMDB identifier"):
        fetch_map(name)


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    pytest.importorskip("platformdirs")
    monkeypatch.setenv("RESPONDCAM_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("RESPONDCAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "respondcam" in str(cache_folder())


def test_a_cache_that_cannot_be_made(bank, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="RESPONDCAM_CACHE"):
        fetch_structure("1bxn", folder=tmp_path / "file", url=bank)
