import ast
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import lla
from benchmarks.storage import WholeFiles
from lla import files
from lla.checkpoints import write_checkpoint
from lla.errors import ChecksumError, InputError, WriteError
from lla.files import (
    atomic_open,
    atomic_write,
    check_folder,
    locked,
    sha256_of_bytes,
    sha256_of_file,
    sha256_of_parts,
)
from lla.plotting import write_png
from paper_tables.engine import store
from paper_tables.engine.records import Record, write_records

ROOT = Path(__file__).parents[1]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("content", ["a ± b\n", b"\x00\xff", ""])
def test_a_file_is_written_and_replaced(tmp_path, content):
    path = tmp_path / "deep" / "file"
    atomic_write(path, "first")
    atomic_write(str(path), content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert names(path.parent) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_the_mode_is_that_of_any_new_file(tmp_path):
    (tmp_path / "plain").write_text("a")
    atomic_write(tmp_path / "atomic", "a")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_cut_off_at_any_step_changes_nothing(tmp_path, monkeypatch, step):
    path = tmp_path / "file"
    atomic_write(path, "old")

    def cut_off(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files.os, step, cut_off)
        with pytest.raises(KeyboardInterrupt):
            atomic_write(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_an_error_in_the_block_changes_nothing(tmp_path):
    path = tmp_path / "file"

    def half_way():
        with atomic_open(path) as stream:
            stream.write(b"half")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        half_way()
    assert names(tmp_path) == []
    atomic_write(path, "old")
    with pytest.raises(RuntimeError, match="half way"):
        half_way()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_the_content_and_the_name_are_on_disk(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def watch(descriptor):
        synced.append((os.fstat(descriptor).st_ino, (tmp_path / "file").exists()))
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", watch)
    atomic_write(tmp_path / "file", "a")
    assert synced[0] == ((tmp_path / "file").stat().st_ino, False)
    if os.name == "posix":
        assert synced[1:] == [(tmp_path.stat().st_ino, True)]


@pytest.mark.parametrize("error", [PermissionError(13, "unreadable"), OSError(22, "a network")])
def test_a_folder_that_cannot_be_synced_gets_its_file_all_the_same(tmp_path, monkeypatch, error):
    def refuse(*args):
        raise error

    monkeypatch.setattr(files.os, "open", refuse)
    atomic_write(tmp_path / "file", "a")
    monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "a"
    assert names(tmp_path) == ["file"]


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "file")
    atomic_write(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far" / "file").read_text() == "new"


@pytest.mark.parametrize("path", [os.devnull, "folder"])
def test_what_is_no_file_is_not_replaced(tmp_path, path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is no regular file"):
        atomic_write(tmp_path / path, "a")


def test_writers_at_a_time_each_write_a_whole_file(tmp_path):
    path = tmp_path / "file"
    contents = [bytes([65 + i]) * 100_000 for i in range(4)]
    wrong = []

    def write(content):
        for _ in range(10):
            atomic_write(path, content)
            if path.read_bytes() not in contents:
                wrong.append(content[:1])

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert names(tmp_path) == ["file"]


WRITER = """
import sys
from lla.files import atomic_open

with atomic_open(sys.argv[1]) as stream:
    stream.write(b"half")
    stream.flush()
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.mark.hard_use("What a killed writer leaves beside a file is removed later")
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX")
def test_what_a_killed_writer_leaves_is_removed_later(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, "old")
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"written\n"
        os.kill(writer.pid, signal.SIGKILL)
    assert path.read_text() == "old"
    (left,) = set(names(tmp_path)) - {"file"}
    other = tmp_path / left.replace("file", "other")
    other.write_text("not of this file")

    atomic_write(path, "new")
    assert left in names(tmp_path), "it may be a living writer's"
    for old in (tmp_path / left, other):
        os.utime(old, (time.time() - 4000,) * 2)
    atomic_write(path, "newer")
    assert names(tmp_path) == sorted(["file", other.name])


def test_hashes_are_those_of_hashlib(tmp_path):
    content = np.arange(3_000_000, dtype=np.int8).reshape(3, -1)
    expected = hashlib.sha256(content.tobytes()).hexdigest()
    path = tmp_path / "file"
    path.write_bytes(content.tobytes())
    assert sha256_of_bytes(content.tobytes()) == expected
    assert sha256_of_file(path) == sha256_of_file(str(path)) == expected
    assert sha256_of_parts(row.data for row in content) == expected
    assert sha256_of_bytes("±") == hashlib.sha256("±".encode()).hexdigest()
    assert sha256_of_parts([]) == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("folder", ["deep/down", "there", "there/deep"])
def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path, folder):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").write_text("a")
    check_folder(tmp_path / folder)
    assert [p.name for p in sorted(tmp_path.rglob("*"))] == ["there", "file"]


@pytest.mark.hard_use(
    "A folder of results that is a file, lies below one, has an impossible name, is read-only or "
    "full is refused in one sentence that names it, before the work"
)
@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("file", "is no folder"),
        ("file/below", "cannot be written"),
        ("name" * 100, "cannot be written"),
        ("null\0character", "holds a null character"),
        ("/proc/nothing", "cannot be written"),
        ("/dev/null", "is no folder"),
    ],
    ids=["file", "below a file", "long", "null", "proc", "device"],
)
def test_folders_that_cannot_be_written(tmp_path, monkeypatch, folder, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a")
    for given in (folder, Path(folder)):
        with pytest.raises((WriteError, InputError), match=reason) as refusal:
            check_folder(given)
        assert repr(folder)[1:-1] in str(refusal.value)
        assert "\n" not in str(refusal.value)
    with pytest.raises((WriteError, InputError), match=r"cannot be written|null character"):
        atomic_write(f"{folder}/new", "a")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(28, "full")])
def test_a_folder_of_someone_else_or_on_a_full_disk(tmp_path, monkeypatch, error):
    def refuse(*args, **options):
        raise error

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(WriteError, match=rf"deep cannot be written \({error.strerror}\)"):
        check_folder(tmp_path / "deep")
    assert names(tmp_path) == []


def test_a_full_disk_is_found_and_then_a_read_only_one(small_disk, fill_disk, make_read_only):
    check_folder(small_disk / "results")
    fill_disk(small_disk)
    with pytest.raises(WriteError, match=r"disk/results cannot be written \(No space left"):
        check_folder(small_disk / "results")
    with pytest.raises(WriteError, match=r"disk/file cannot be written \(No space left"):
        atomic_write(small_disk / "file", bytes(5000))
    assert names(small_disk) == ["filler"]
    make_read_only(small_disk)
    for attempt in (
        lambda: check_folder(small_disk),
        lambda: atomic_write(small_disk / "file", "a"),
    ):
        with pytest.raises(WriteError, match=r"cannot be written \(Read-only file system"):
            attempt()


def test_errors_of_the_block_are_not_errors_of_the_file(tmp_path):
    def own():
        with atomic_open(tmp_path / "file"):
            raise ChecksumError("of another file")

    with pytest.raises(ChecksumError, match=r"^of another file$"):
        own()


def test_a_lock_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("a")
    attempt = locked(tmp_path / "file" / ".lock")
    with pytest.raises(WriteError, match=r"file/\.lock cannot be written"), attempt:
        pass
    with locked(tmp_path / "deep" / ".lock"):
        assert names(tmp_path / "deep") == [".lock"]


SPECTRUM = lla.Spectrum(
    np.arange(1000.0)[None], np.random.default_rng(0).dirichlet(np.ones(1000))[None],
    np.array([1000]), size=1000, steps=1000, seed=0, dtype="float32", legacy=False, matvecs=1000,
)  # fmt: skip
RECORDS = [
    Record(table="t", row=f"r{i}", column="c", metric="m", value=i, fidelity="paper")
    for i in range(20)
]


def session(path):
    """A session of benchmarks under a name that pytest-benchmark chooses."""
    storage = WholeFiles(path.parent, types.SimpleNamespace(error=print, info=print), "")
    storage.save({"text": "x" * 20_000}, path.name)
    if storage.unwritten:
        raise WriteError(f"{path} cannot be written (File too large)")


WRITERS = {
    "result": SPECTRUM.save,
    "checkpoint": lambda path: write_checkpoint(path, {"w": torch.zeros(10_000)}),
    "picture": lambda path: write_png(Figure(figsize=(9, 9), facecolor="red"), path, dpi=300),
    "records": lambda path: write_records(path, RECORDS),
    "text": lambda path: atomic_write(path, "x" * 20_000),
    "artifact": lambda path: store.save_result(SPECTRUM, path.name, path.parent),
    "session": session,
}


@pytest.mark.hard_use(
    "A full disk while a result, checkpoint, picture, record, page or session is written leaves "
    "the earlier file as it was, and no other"
)
@pytest.mark.skipif(os.name != "posix", reason="resource limits are POSIX")
@pytest.mark.parametrize("kind", WRITERS)
def test_no_writer_leaves_half_a_file(tmp_path, kind):
    import resource

    path = tmp_path / "deep" / "file"
    path.parent.mkdir()
    WRITERS[kind](path)
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    if kind == "records":
        path.write_bytes(b"")  # else they are found unchanged
        before[path.name] = b""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, hard))
    try:
        with pytest.raises(WriteError, match=r"deep/file cannot be written \(File too large\)"):
            WRITERS[kind](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before


# Calls that write files, and the modules that may make them, with the reason.
WRITES = {"savefig", "savez", "savez_compressed", "save", "write_text", "write_bytes", "to_csv",
          "dump", "open"}  # fmt: skip
MAY_WRITE = {
    "lla/files.py": "it is the writer",
    "lla/storage.py": "into atomic_open",
    "lla/checkpoints.py": "into atomic_open",
    "benchmarks/communication/measurement.py": "into a temporary folder",
    "benchmarks/growth/processes.py": "into a temporary folder",
    "lla/plotting.py": "into memory",
    "lla/data/files.py": "into a folder of its own, which is renamed when it is complete",
    "paper_tables/colleagues.py": "what another process says while it runs",
    "paper_tables/engine/figures.py": "into memory",
    "paper_tables/engine/machine.py": "to the kernel",
    "paper_tables/plugin.py": "to the terminal",
}


def writes(call):
    """Whether a call may write a file by another way than `lla.files`."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    texts = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    if name == "open":
        return any(set(text) & set("wax+") and len(text) < 4 for text in texts)
    if name == "to_csv":  # gives a text where no file is named
        return bool(call.args)
    owner = getattr(getattr(call.func, "value", None), "id", "")
    return name in WRITES and (name != "save" or owner in ("np", "torch", "image"))


@pytest.mark.hard_use("No module writes a file in place: all go through lla/files.py")
def test_every_file_goes_through_the_one_writer():
    found = {
        path.relative_to(ROOT).as_posix()
        for package in ("lla", "paper_tables", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and writes(node)
    }
    assert found == set(MAY_WRITE)


def test_a_missing_folder_is_tried_by_many_at_once(tmp_path):
    def try_often(_):
        for _ in range(200):
            check_folder(tmp_path / "missing" / "below")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(try_often, range(4)))  # raises if one of them does
