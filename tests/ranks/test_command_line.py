"""`lla` under torchrun does the work once and writes once."""

import json
import os
import shutil
import subprocess
import sys

import pytest

NETWORK = """
import torch
def make():
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
def data():
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 4, generator=g), torch.randint(3, (n,), generator=g)) for n in (5, 3)]
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
LLA = ["-m", "lla"]


@pytest.fixture
def run(tmp_path):
    """Run a command in a folder with a network, in one process or two."""
    (tmp_path / "net.py").write_text(NETWORK)
    paths = os.pathsep.join([str(tmp_path), *sys.path])

    def started(*words, processes):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        begin = [sys.executable] if processes == 1 else TORCHRUN
        command = [*begin, *LLA, *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=200, cwd=tmp_path, env=environment
        )

    return started


@pytest.mark.parametrize("command", ["criteria --pooled --probes 2", "flatness"])
def test_two_processes_print_what_one_prints(run, tmp_path, command):
    words = (*command.split(), "net:make", "--data", "net:data", "--json", "--out", "found")
    one = run(*words, processes=1)
    first = json.loads(one.stdout)
    written = {path.name for path in (tmp_path / "found").iterdir()}
    shutil.rmtree(tmp_path / "found")
    two = run(*words, processes=2)
    second = json.loads(two.stdout)
    assert first.keys() == second.keys()
    assert second["command"] == first["command"]
    assert {path.name for path in (tmp_path / "found").iterdir()} == written
    for name in ("re", "kh1", "kh05"):
        if name in first:
            assert second[name]["value"] == pytest.approx(first[name]["value"], rel=1e-5)


def test_an_error_is_one_object(run):
    found = run("criteria", "net:make", "--data", "net:nothing", "--json", processes=2)
    assert "nothing" in json.loads(found.stdout)["error"]
    assert found.returncode != 0


@pytest.mark.parametrize(
    ("device", "sentence"),
    [("cpu", "the processes cannot be joined (Error initializing torch.distributed"),
     ("cuda", "process 7 of this machine has no CUDA device with NCCL")],
)  # fmt: skip
def test_processes_that_cannot_be_joined(run, monkeypatch, device, sentence):
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "7"}.items():
        monkeypatch.setenv(name, value)
    found = run("criteria", "net:make", "--data", "net:data", "--device", device, processes=1)
    assert found.returncode == 2
    assert found.stderr.startswith("Error: ")
    assert sentence in found.stderr
