"""What the benchmarks do where nothing can be saved."""

import importlib.util
import types
from pathlib import Path

import pytest

from lla.errors import WriteError

CONFTEST = Path(__file__).parents[2] / "benchmarks" / "conftest.py"


@pytest.fixture(scope="module")
def conftest():
    spec = importlib.util.spec_from_file_location("benchmarks_conftest", CONFTEST)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_of(folder, unwritten=False, **options):
    """As much of pytest's configuration as is asked for."""
    lines = []
    storage = types.SimpleNamespace(unwritten=unwritten)
    options["save"] = folder
    return types.SimpleNamespace(
        getoption=lambda name, default: options.get(name, default),
        option=types.SimpleNamespace(),
        pluginmanager=types.SimpleNamespace(
            get_plugin=lambda name: types.SimpleNamespace(storage=storage)
        ),
        get_terminal_writer=lambda: types.SimpleNamespace(line=lines.append),
        lines=lines,
    )


@pytest.mark.hard_use("pytest benchmarks --save where nothing can be written ends before the work")
@pytest.mark.parametrize("below", ["", "records", "benchmarks/sessions"])
def test_a_folder_that_cannot_be_saved_to_is_found_first(conftest, tmp_path, below):
    folder = tmp_path / "results"
    (folder / below).parent.mkdir(parents=True, exist_ok=True)
    (folder / below).write_text("a file")
    with pytest.raises(pytest.UsageError, match=f"results/?{below} (is no|cannot be)"):
        conftest.pytest_configure(config_of(folder))


def test_a_folder_that_can_be_saved_to_is_not_made(conftest, tmp_path):
    config = config_of(tmp_path / "results")
    conftest.pytest_configure(config)
    assert config.option.benchmark_save
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_session_in_one_sentence(conftest):
    hook = conftest.pytest_runtest_call()
    next(hook)
    with pytest.raises(pytest.exit.Exception, match=r"^a\.md cannot be written$") as end:
        hook.throw(WriteError("a.md cannot be written"))
    assert end.value.returncode == 1


@pytest.mark.parametrize("unwritten", [True, False])
def test_a_session_that_is_not_written_fails(conftest, tmp_path, monkeypatch, unwritten):
    def full(folder):
        if not unwritten:
            raise WriteError("history.md cannot be written")

    monkeypatch.setattr(conftest.history, "write", full)
    config = config_of(tmp_path, unwritten)
    session = types.SimpleNamespace(config=config, exitstatus=0)
    conftest.pytest_sessionfinish(session)
    assert session.exitstatus == 1
    assert config.lines == ([] if unwritten else ["history.md cannot be written"])


def test_one_of_several_workers_times_nothing(conftest, monkeypatch):
    with pytest.raises(pytest.UsageError, match="run them without --shard and torchrun"):
        conftest.pytest_configure(config_of(None, shard="1/2"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(pytest.UsageError, match="on a quiet machine"):
        conftest.pytest_configure(config_of(None))
