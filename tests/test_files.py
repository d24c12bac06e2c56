import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from lla import files
from lla.errors import InputError
from lla.files import (
    atomic_open,
    atomic_write,
    sha256_of_bytes,
    sha256_of_file,
    sha256_of_parts,
)


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
