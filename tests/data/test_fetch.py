"""Downloads, from a server on this machine."""

import functools
import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from dataclasses import replace

import pytest
import torch

from lla import data
from lla.data import DataSet, Download, File, Form, files, registry
from lla.errors import ChecksumError, InputError, MissingDataError


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        self.server.requests.append(self.path)

    def do_GET(self):
        if self.path != "/interrupted":
            return super().do_GET()
        self.send_response(200)
        self.send_header("Content-Length", "7")
        self.end_headers()
        self.wfile.write(b"cont")  # and no more
        return None


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        serving.requests = []
        serving.folder = folder
        serving.url = f"http://127.0.0.1:{serving.server_address[1]}"
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def md5(content):
    return f"md5:{hashlib.md5(content).hexdigest()}"


def tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_plain_file_from_the_second_address(server, tmp_path):
    (server.folder / "b").write_bytes(b"content")
    urls = (f"{server.url}/missing", f"{server.url}/b")
    target = tmp_path / "new" / "b"
    files.download(urls, md5(b"content"), target)
    assert target.read_bytes() == b"content"
    assert sorted(path.name for path in target.parent.iterdir()) == [".lla.lock", "b"]


@pytest.mark.hard_use("A truncated data file is fetched again")
def test_gz_replaces_a_truncated_file(server, tmp_path):
    packed = gzip.compress(b"content")
    (server.folder / "b.gz").write_bytes(packed)
    (tmp_path / "b").write_bytes(b"cont")
    files.download((f"{server.url}/b.gz",), md5(packed), tmp_path / "b", "gz")
    assert (tmp_path / "b").read_bytes() == b"content"


@pytest.mark.parametrize("inside", ["", "set/"])
def test_tar_becomes_the_folder_with_or_without_its_name_inside(server, tmp_path, inside):
    packed = tar({f"{inside}train/a.png": b"a", f"{inside}test/b.png": b"b"})
    (server.folder / "set.tar.gz").write_bytes(packed)
    target = tmp_path / "set"
    files.download((f"{server.url}/set.tar.gz",), md5(packed), target, "tar")
    assert (target / "train" / "a.png").read_bytes() == b"a"
    assert (target / "test" / "b.png").read_bytes() == b"b"
    with pytest.raises(InputError, match="delete it"):
        files.download((f"{server.url}/set.tar.gz",), md5(packed), target, "tar")


@pytest.mark.hard_use("An archive with paths outside of its folder is refused")
def test_tar_that_reaches_outside_is_refused(server, tmp_path):
    packed = tar({"../evil": b"a"})
    (server.folder / "set.tar.gz").write_bytes(packed)
    with pytest.raises(InputError, match="leads outside"):
        files.download((f"{server.url}/set.tar.gz",), md5(packed), tmp_path / "x" / "set", "tar")
    assert not any(path.name == "evil" for path in tmp_path.rglob("*"))


def test_other_content_and_no_answer(server, tmp_path):
    (server.folder / "b").write_bytes(b"an error page")
    with pytest.raises(ChecksumError, match=md5(b"content")):
        files.download((f"{server.url}/b",), md5(b"content"), tmp_path / "b")
    with pytest.raises(MissingDataError, match="/missing"):
        files.download((f"{server.url}/missing",), md5(b"content"), tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.hard_use("An interrupted download leaves what was there")
def test_an_interrupted_download_leaves_what_was_there(server, tmp_path):
    target = tmp_path / "b"
    target.write_bytes(b"old")
    url = f"{server.url}/interrupted"
    with pytest.raises((MissingDataError, ChecksumError), match=url):
        files.download((url,), md5(b"content"), target)
    assert target.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lla.lock", "b", "served"]
    (server.folder / "b").write_bytes(b"content")
    files.download((url, f"{server.url}/b"), md5(b"content"), target)
    assert target.read_bytes() == b"content"


@pytest.fixture
def made(server, monkeypatch):
    """A data set whose file `made/a` can be downloaded."""

    def read(folder, files, split):
        value = len((folder / files[0].path).read_bytes())
        return torch.full((1, 1, 1, 1), value, dtype=torch.uint8), torch.tensor([0])

    (server.folder / "a").write_bytes(b"12345")
    best = Form("paper", "Best.", read, {"train": (File("a", md5(b"12345")),)}, folders=("made",))
    less = Form("reduced", "Less.", read, {"train": (File("less"),)})
    downloads = {"train": (Download((f"{server.url}/a",), md5(b"12345"), "made/a"),)}
    entry = DataSet("made", 1, (best, less), downloads)
    monkeypatch.setitem(registry.SETS, "made", entry)
    return entry


def test_load_downloads_into_the_cache_and_finds_it_there(tmp_path, cache, made, server):
    root = tmp_path / "root"
    root.mkdir()
    (root / "less").write_bytes(b"1")
    assert data.load("made", root=root).fidelity == "reduced"
    first = data.load("made", root=root, download=True)
    assert (first.source, first.fidelity, first.images.item()) == ("download", "paper", 5)
    assert (cache / "made" / "a").is_file()
    assert data.load("made", root=root, download=True).source == "cache"
    assert data.load("made", root=root).source == "cache"
    assert len(server.requests) == 1
    assert [path.name for path in root.iterdir()] == ["less"]  # a data root is only read


def test_fetch_leaves_right_files_alone_and_repairs_wrong_ones(tmp_path, made, server):
    assert data.fetch("made", tmp_path / "new") == tmp_path / "new"
    path = tmp_path / "new" / "made" / "a"
    data.fetch("made", tmp_path / "new")
    assert len(server.requests) == 1
    path.write_bytes(b"123")
    assert data.verify("made", tmp_path / "new")[0].state == "wrong"
    data.fetch("made", tmp_path / "new")
    assert path.read_bytes() == b"12345"


def test_fetch_that_cannot_says_where_to_put_the_files(tmp_path, made, monkeypatch, server):
    (server.folder / "a").unlink()
    with pytest.raises(MissingDataError, match=r"put a into made/ of a data root"):
        data.fetch("made", tmp_path)
    monkeypatch.setitem(registry.SETS, "made", replace(made, downloads={}))
    with pytest.raises(MissingDataError, match="cannot be downloaded: put a into made/"):
        data.fetch("made", tmp_path)
    assert data.fetch("digits", tmp_path) == tmp_path  # bundled: nothing to do
