"""Options and fixtures of the benchmark suites, and what a session saves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import lla
from benchmarks import history
from benchmarks.history import Row, Session
from benchmarks.isolate import Peak, isolated

SIZES = ("tiny", "quick", "paper")

_SESSION = pytest.StashKey[Session]()
_ROWS = pytest.StashKey[list[Row]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options: how much to measure, where to save it, and without the tuned allocator."""
    parser.addoption("--size", choices=SIZES, default="quick", help="how much is measured")
    parser.addoption("--save", metavar="DIR", help="folder of results to save to (default: none)")
    parser.addoption("--untuned", action="store_true", help="do not tune the C library's allocator")
    parser.addoption("--whole-plane", action="store_true", help="time all 41 x 41 points, once")


def _option(config: pytest.Config, name: str, default: Any = None) -> Any:
    """An option; its default where this file was found too late for options to be parsed."""
    return config.getoption(name, default) or default


def pytest_configure(config: pytest.Config) -> None:
    """Begin a session."""
    tuned = not _option(config, "untuned") and lla.tune_allocator()
    config.stash[_SESSION] = Session.now(tuned)
    config.stash[_ROWS] = []


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for `case` those of its module at the session's size."""
    if "case" in metafunc.fixturenames:
        cases = metafunc.module.CASES[_option(metafunc.config, "size", "quick")]
        metafunc.parametrize("case", cases, ids=str)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let what the paper's sizes need take as long as it takes."""
    if _option(config, "size") == "paper":
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Take the name of the machine out of what pytest-benchmark may save."""
    machine_info.pop("node", None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Save what was measured, where that was asked for."""
    rows, folder = session.config.stash[_ROWS], _option(session.config, "save")
    if folder and rows:
        history.write(rows, Path(folder) / "benchmarks")


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> str:
    """How much is measured: one of `SIZES`."""
    return _option(pytestconfig, "size", "quick")


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> Path | None:
    """The folder of results to save to."""
    folder = _option(pytestconfig, "save")
    return Path(folder) if folder else None


@pytest.fixture(scope="session")
def allocator(pytestconfig: pytest.Config) -> bool:
    """Whether the allocator is tuned, for both sides of every ratio."""
    return pytestconfig.stash[_SESSION].allocator_tuned


@pytest.fixture(scope="session")
def track(pytestconfig: pytest.Config) -> Callable[..., None]:
    """Adds a row to the session; takes what `Session.row` does."""

    def add(*arguments: Any, **facts: Any) -> None:
        row = pytestconfig.stash[_SESSION].row(*arguments, **facts)
        pytestconfig.stash[_ROWS].append(row)

    return add


@pytest.fixture(scope="session")
def peak(pytestconfig: pytest.Config) -> Callable[..., Peak[Any]]:
    """Calls a function in a process of its own, see `isolated`."""

    def call(function: Callable[..., Any], *arguments: Any) -> Peak[Any]:
        return isolated(function, *arguments, tuned=not _option(pytestconfig, "untuned"))

    return call


@pytest.fixture
def environment(allocator: bool) -> dict[str, object]:
    """What a timing depends on besides the code; goes into every benchmark's record."""
    return {
        "allocator_tuned": allocator,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "lla": lla.__version__,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
