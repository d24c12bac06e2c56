"""Options and fixtures of the benchmark suites, and what a session saves."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import lla
from benchmarks import history
from benchmarks.isolate import Peak, isolated
from benchmarks.problems import device
from benchmarks.publish import publish
from benchmarks.timing import Ratio
from paper_tables.engine import machine
from paper_tables.engine.exhibit import Exhibit
from paper_tables.engine.records import Record

SIZES = ("tiny", "quick", "paper")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options: how much to measure, where to save it, and without the tuned allocator."""
    parser.addoption("--size", choices=SIZES, default="quick", help="how much is measured")
    folder = "folder of results to save to (default: none)"
    parser.addoption("--save", type=Path, metavar="DIR", help=folder)
    parser.addoption("--untuned", action="store_true", help="do not tune the C library's allocator")
    parser.addoption("--whole-plane", action="store_true", help="time all 41 x 41 points, once")


def _option(config: pytest.Config, name: str, default: Any = None) -> Any:
    """An option; its default where this file was found too late for options to be parsed."""
    return config.getoption(name, default) or default


def pytest_configure(config: pytest.Config) -> None:
    """Begin a session: pytest-benchmark, which is configured last, saves it where it belongs."""
    folder = _option(config, "save")
    if folder:
        config.option.benchmark_storage = str(folder / "benchmarks" / history.SESSIONS)
        config.option.benchmark_save = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that asks for a `case` or `network` those of its module at the session's size."""
    for name, cases in (("case", "CASES"), ("network", "NETWORKS")):
        if name in metafunc.fixturenames:
            found = getattr(metafunc.module, cases)[_option(metafunc.config, "size", "quick")]
            metafunc.parametrize(name, found, ids=str)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let what the paper's sizes need take as long as it takes."""
    if _option(config, "size") == "paper":
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


def pytest_benchmark_generate_machine_info() -> dict[str, str]:
    """Say nothing of the machine, its name least of all, but the version of Python."""
    return {"python_version": platform.python_version()}


def pytest_benchmark_generate_commit_info() -> dict[str, str]:
    """Leave out the checkout: `code`, in what is tracked, also tells uncommitted changes."""
    return {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the history, to which pytest-benchmark has just added this session."""
    folder = _option(session.config, "save")
    if folder:
        history.write(folder)


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> str:
    """How much is measured: one of `SIZES`."""
    return _option(pytestconfig, "size", "quick")


@pytest.fixture(scope="session")
def save(results: Path | None, allocator: bool) -> Callable[..., None]:
    """Publishes records where the session saves any; takes an exhibit, the records, see `publish`.

    What was measured says whether the allocator was tuned.
    """

    def put(exhibit: Exhibit, new: list[Record], *together: Callable[[Record], object]) -> None:
        if results is not None:
            if new[0].value is not None:
                new = [replace(record, allocator_tuned=allocator) for record in new]
            publish(exhibit, new, results, *together)

    return put


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> Path | None:
    """The folder of results to save to."""
    return _option(pytestconfig, "save")


@pytest.fixture(scope="session", autouse=True)
def allocator(pytestconfig: pytest.Config) -> bool:
    """Tune the allocator, for both sides of every ratio; whether it is."""
    return not _option(pytestconfig, "untuned") and lla.tune_allocator()


@pytest.fixture
def environment(allocator: bool, benchmark: Any) -> dict[str, Any]:
    """What a timing depends on besides its own code; goes into every session."""
    facts = machine.environment(device())
    facts |= {"code": facts.pop("code_version"), "allocator_tuned": allocator, "dtype": "float32"}
    benchmark.extra_info |= facts
    return facts


@pytest.fixture
def track(benchmark: Any, environment: dict[str, Any]) -> Callable[..., None]:
    """Tracks a benchmark over sessions; takes what `history.tracked` does."""

    def add(name: str, case: object, ratio: Ratio, **facts: int) -> None:
        benchmark.extra_info |= history.tracked(name, case, ratio, **facts)

    return add


@pytest.fixture(scope="session")
def peak(pytestconfig: pytest.Config) -> Callable[..., Peak[Any]]:
    """Calls a function in a process of its own, see `isolated`."""
    return partial(isolated, tuned=not _option(pytestconfig, "untuned"))
