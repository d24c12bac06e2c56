"""Options and fixtures of the benchmark suites, and what a session saves."""

from __future__ import annotations

import platform
from collections.abc import Callable, Generator
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
from benchmarks.storage import WholeFiles
from benchmarks.timing import Ratio
from lla.errors import InputError, WriteError
from lla.files import check_folder
from lla.ranks import launched
from paper_tables.engine import machine
from paper_tables.engine.exhibit import Exhibit
from paper_tables.engine.records import Record

SIZES = ("tiny", "quick", "paper")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the benchmarks."""
    parser.addoption("--size", choices=SIZES, default="quick", help="sizes of networks and batches")
    folder = "folder of results to save to (default: none)"
    parser.addoption("--save", type=Path, metavar="DIR", help=folder)
    parser.addoption("--untuned", action="store_true", help="do not tune the C library's allocator")
    parser.addoption("--whole-plane", action="store_true", help="time all 41 x 41 points, once")


def _option(config: pytest.Config, name: str, default: Any = None) -> Any:
    """An option; its default if pytest found this file too late to parse options."""
    return config.getoption(name, default) or default


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest-benchmark, which is configured later, where to save the session."""
    if _option(config, "shard") or launched() > 1:
        raise pytest.UsageError(
            "benchmarks time one process on a quiet machine: run them without --shard and torchrun"
        )
    folder = _option(config, "save")
    if folder:
        try:
            for inside in (folder, folder / "records", folder / "benchmarks" / history.SESSIONS):
                check_folder(inside)  # before anything is measured
        except (WriteError, InputError) as error:
            raise pytest.UsageError(str(error)) from None
        config.option.benchmark_storage = str(folder / "benchmarks" / history.SESSIONS)
        config.option.benchmark_save = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `case` or `network` on those of its module at this size."""
    for name, cases in (("case", "CASES"), ("network", "NETWORKS")):
        if name in metafunc.fixturenames:
            found = getattr(metafunc.module, cases)[_option(metafunc.config, "size", "quick")]
            metafunc.parametrize(name, found, ids=str)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Set no time limit at the paper's sizes."""
    if _option(config, "size") == "paper":
        for item in items:
            item.add_marker(pytest.mark.timeout(0))


def pytest_benchmark_generate_machine_info() -> dict[str, str]:
    """Record only the version of Python, nothing else about the machine."""
    return {"python_version": platform.python_version()}


def pytest_benchmark_generate_commit_info() -> dict[str, str]:
    """Record nothing about the commit: the tracked `code` also covers uncommitted changes."""
    return {}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Let pytest-benchmark write its file as a whole."""
    plugin = session.config.pluginmanager.get_plugin("pytest-benchmark")
    folder = _option(session.config, "save")
    if folder and plugin is not None:
        storage = plugin.storage
        plugin.storage = WholeFiles(storage.path, storage.logger, storage.default_machine_id)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """End the session in one sentence if the disk is full: no later result could be saved."""
    try:
        return (yield)
    except WriteError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.TESTS_FAILED)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the history, to which pytest-benchmark has just added this session."""
    folder = _option(session.config, "save")
    if not folder:
        return
    plugin = session.config.pluginmanager.get_plugin("pytest-benchmark")
    written = plugin is None or not plugin.storage.unwritten
    try:
        history.write(folder)
    except WriteError as error:
        session.config.get_terminal_writer().line(str(error))
        written = False
    if not written:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def size(pytestconfig: pytest.Config) -> str:
    """The size of networks and batches: one of `SIZES`."""
    return _option(pytestconfig, "size", "quick")


@pytest.fixture(scope="session")
def save(results: Path | None, allocator: bool) -> Callable[..., None]:
    """A function that publishes records if the session saves any; see `publish` for arguments.

    The records of measurements say when the session began and whether the allocator was tuned.
    """
    began = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M")

    def put(exhibit: Exhibit, new: list[Record], *together: Callable[[Record], object]) -> None:
        if results is not None:
            if new[0].value is not None:
                new = [replace(r, session=began, allocator_tuned=allocator) for r in new]
            publish(exhibit, new, results, *together)

    return put


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> Path | None:
    """The folder of results to save to."""
    return _option(pytestconfig, "save")


@pytest.fixture(scope="session", autouse=True)
def allocator(pytestconfig: pytest.Config) -> bool:
    """Tune the allocator, for both sides of every ratio; the value says whether it is tuned."""
    return not _option(pytestconfig, "untuned") and lla.tune_allocator()


@pytest.fixture
def environment(allocator: bool, benchmark: Any) -> dict[str, Any]:
    """What timings depend on besides their own code; saved with every session."""
    facts = machine.environment(device())
    facts |= {"code": facts.pop("code_version"), "allocator_tuned": allocator, "dtype": "float32"}
    benchmark.extra_info |= facts
    return facts


@pytest.fixture
def track(benchmark: Any, environment: dict[str, Any]) -> Callable[..., None]:
    """A function that tracks a benchmark over sessions, with arguments of `history.tracked`."""

    def add(name: str, case: object, ratio: Ratio, **facts: int) -> None:
        benchmark.extra_info |= history.tracked(name, case, ratio, **facts)

    return add


@pytest.fixture(scope="session")
def peak(pytestconfig: pytest.Config) -> Callable[..., Peak[Any]]:
    """A function that calls another one in a process of its own, see `isolated`."""
    return partial(isolated, tuned=not _option(pytestconfig, "untuned"))
