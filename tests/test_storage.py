import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import lla
from lla.storage import load_result, save_result


@dataclasses.dataclass(frozen=True)
class Result:
    values: np.ndarray
    vectors: np.ndarray
    name: str
    steps: int
    done: bool
    ratio: float | None


@dataclasses.dataclass(frozen=True)
class Other:
    name: str


RESULT = Result(
    np.linspace(0, 1, 5), np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32),
    "digits ±", 3, True, None,
)  # fmt: skip


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "result.npz"
    save_result(RESULT, path)
    return path


def test_round_trip(path):
    again = load_result(Result, path)
    for field in dataclasses.fields(Result):
        a, b = getattr(RESULT, field.name), getattr(again, field.name)
        assert type(a) is type(b)
        assert np.array_equal(a, b)
    assert again.vectors.dtype == np.float32


def test_the_file_is_exactly_where_it_was_asked_for(tmp_path):
    save_result(RESULT, str(tmp_path / "plain"))
    assert [p.name for p in tmp_path.iterdir()] == ["plain"]


LARGER = dataclasses.replace(RESULT, vectors=np.random.default_rng(1).normal(size=(500, 400)))


@pytest.mark.hard_use("A full disk while a result is saved leaves the earlier file")
@pytest.mark.skipif(os.name != "posix", reason="resource limits are POSIX")
def test_a_full_disk_leaves_the_earlier_file(path):
    import resource

    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_result(LARGER, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    save_result(LARGER, path)
    assert np.array_equal(load_result(Result, path).vectors, LARGER.vectors)


# Forks of one loaded process: each line from the test starts one, which saves until it is killed.
WRITERS = """
import dataclasses, os, signal, sys
import numpy as np
from lla.storage import save_result

@dataclasses.dataclass
class Result:
    values: np.ndarray
    number: int

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
parent = os.getpid()
while sys.stdin.readline():
    pid = os.fork()
    if pid == 0:
        i = 0
        while os.getppid() == parent:  # a test that fails leaves no writer behind
            save_result(Result(np.full(20_000, float(i)), i), sys.argv[1])
            i += 1
        os._exit(0)
    print(pid, flush=True)
"""


@dataclasses.dataclass(frozen=True)
class Numbered:
    values: np.ndarray
    number: int


Numbered.__name__ = "Result"  # as the writers call it


@pytest.mark.hard_use("Writers of a result are killed at random moments: the file can be read")
@pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL are POSIX")
def test_a_killed_writer_leaves_a_readable_file(tmp_path):
    path = tmp_path / "result.npz"
    save_result(Numbered(np.zeros(20_000), 0), path)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    seen = set()
    with subprocess.Popen([sys.executable, "-c", WRITERS, str(path)], **pipes) as parent:
        for i in range(20):
            parent.stdin.write("\n")
            parent.stdin.flush()
            pid = int(parent.stdout.readline())
            assert pid > 1
            time.sleep(0.02 + 0.003 * i)
            os.kill(pid, signal.SIGKILL)
            found = load_result(Numbered, path)  # raises if anything is broken
            assert np.all(found.values == found.number)
            seen.add(found.number)
        parent.stdin.close()
    assert len(seen) > 1, "the writers were killed before they wrote"


def test_file_holds_no_pickle(path):
    with np.load(path, allow_pickle=False) as file:
        assert set(file.files) == {"header", "values", "vectors"}
        assert json.loads(str(file["header"]))["type"] == "Result"


@pytest.mark.hard_use("A truncated file of a result is refused")
@pytest.mark.parametrize("keep", [0, 1, 10, 100, -1000, -100, -1])
def test_truncated_file(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(lla.ChecksumError, match=r"result\.npz cannot be read .*write it again"):
        load_result(Result, path)


def test_altered_file(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 8] = bytes(b ^ 0xFF for b in content[middle : middle + 8])
    path.write_bytes(content)
    with pytest.raises(lla.ChecksumError, match="cannot be read"):
        load_result(Result, path)


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04", b"\x93NUMPY", b"{}"])
def test_another_kind_of_file(path, content):
    path.write_bytes(content)
    with pytest.raises(lla.ChecksumError, match="cannot be read"):
        load_result(Result, path)


def test_npz_file_of_someone_else(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    np.savez(tmp_path / "b.npz", header=np.array("[1, 2]"))
    np.savez(tmp_path / "c.npz", header=np.array('{"type": "Result", "plain": {}}'))
    with (tmp_path / "d.npz").open("wb") as file:
        np.save(file, np.ones(3))
    for name in "abc":
        with pytest.raises(lla.InputError, match=rf"{name}\.npz holds no Result that this library"):
            load_result(Result, tmp_path / f"{name}.npz")
    with pytest.raises(lla.ChecksumError, match=r"d\.npz cannot be read"):
        load_result(Result, tmp_path / "d.npz")


@pytest.mark.hard_use("A pickle in a file of a result is refused, not run")
def test_pickled_content_is_refused(tmp_path):
    header = json.dumps({"type": "Result", "plain": {}})
    np.savez(tmp_path / "evil.npz", header=np.array(header), values=np.array([{}], dtype=object))
    with pytest.raises(lla.ChecksumError, match="cannot be read"):
        load_result(Result, tmp_path / "evil.npz")


def test_another_result(path):
    with pytest.raises(lla.InputError, match="holds Result, not Other: name another file"):
        load_result(Other, path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_result(Result, tmp_path / "none.npz")
