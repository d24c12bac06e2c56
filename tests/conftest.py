import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


def _load(file):
    # tests are no package, so what they share is loaded by its path
    name = f"lla_tests_{Path(file).stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / file)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _load_cases():
    return _load("cases.py")


_recording = _load("hard_use/recording.py")
pytest_addoption = _recording.pytest_addoption
pytest_collection_modifyitems = _recording.pytest_collection_modifyitems


def pytest_configure(config):
    """With --reliability, write down what trials of hard use did."""
    # a pytest that a test starts is no worker: pytest-benchmark would measure nothing in one
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST_WORKER")]:
        del os.environ[name]
    folder = config.getoption("--reliability", None)
    if folder is not None and not hasattr(config, "workerinput"):  # no worker of pytest-xdist
        config.pluginmanager.register(_recording.Recorder(folder))


def pytest_generate_tests(metafunc):
    """Every case for a test that asks for `case`, unless it names some itself."""
    named = {
        name.strip()
        for mark in metafunc.definition.iter_markers("parametrize")
        for name in str(mark.args[0]).split(",")
    }
    if "case" in metafunc.fixturenames and "case" not in named:
        metafunc.parametrize("case", list(_load_cases().BY_NAME), indirect=True)


def pytest_collectstart(collector):
    """The same random inputs at the head of a file whichever files were collected before."""
    if isinstance(collector, pytest.Module):
        torch.manual_seed(1)


@pytest.fixture(autouse=True)
def _seeded():
    """The same random weights and inputs whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_open_figures():
    """Figures that a test made through pyplot, if anything has imported it, end with the test."""
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


@pytest.fixture(scope="session")
def cases():
    """The module tests/cases.py."""
    return _load_cases()


@pytest.fixture(scope="session")
def networks():
    """The module tests/layers/networks.py."""
    return _load("layers/networks.py")


@pytest.fixture
def case(request):
    """One of its cases, by name."""
    return _load_cases().BY_NAME[request.param]


@pytest.fixture(params=["cpu", "cuda"])
def device(request):
    """Each device that there is."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device(request.param)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB, mounted below tmp_path; mounting takes the rights of root on Linux."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def fill_disk():
    """A function that fills the disk of a folder."""

    def fill(disk):
        with (disk / "filler").open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError:
                pass

    return fill


@pytest.fixture
def make_read_only():
    """A function that makes a mounted disk read-only."""

    def make(disk):
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

    return make
