import importlib.util
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


@pytest.fixture(autouse=True)
def _seeded():
    """The same random weights and inputs whichever tests ran before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def cases():
    """The module tests/cases.py."""
    return _load_cases()


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
