"""How pytest runs the suites: options, cells as parameters, progress, and the report at the end.

A test that takes the argument `cell` runs once for each cell of each exhibit. Sessions without
pytest do not need this module: see `paper_tables.engine.suite`.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import lla
from lla.errors import InputError, WriteError
from paper_tables.engine import publish
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.suite import Suite, checkout, listing
from paper_tables.exhibits import find

__all__ = [
    "pytest_addoption",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_runtest_call",
    "pytest_runtestloop",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "suite",
]

_SUITE = pytest.StashKey[Suite]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the suites."""
    group = parser.getgroup("paper tables")
    group.addoption("--profile", choices=sorted(PROFILES), default="quick", help="how much to run")
    group.addoption("--data-root", metavar="DIR", help="folder of data sets (default: LLA_DATA)")
    group.addoption("--recompute", action="store_true", help="compute finished cells again")
    group.addoption(
        "--strict-paper", action="store_true", help="fail where a value differs from the paper"
    )
    group.addoption(
        "--list-cells", action="store_true", help="show every cell and its cost, compute nothing"
    )
    group.addoption(
        "--every-plane", action="store_true", help="also compute planes that the profile leaves out"
    )
    group.addoption(
        "--variants", action="store_true",
        help="also compute criteria from a uniform initialisation, and by imitated public code",
    )  # fmt: skip
    group.addoption(
        "--real-data", action="store_true",
        help="run the trainings of section 4 on the data sets that are found; hours on a CPU",
    )  # fmt: skip
    group.addoption(
        "--study", action="store_true", help="also run the studies; normalizations take 40 minutes"
    )
    group.addoption(
        "--seed", type=int, metavar="N", help="seed of batches and probes of criteria (default: 0)"
    )
    group.addoption("--results", metavar="DIR", help="folder to publish in (default: results)")
    group.addoption("--work-dir", metavar="DIR", help="weights and journal (default: .lla)")
    group.addoption("--device", help="cpu, cuda, ... (default: cuda if there is one)")
    for name, what in (
        ("probes", "random vectors for each batch"),
        ("steps", "Lanczos steps for each probe"),
        ("batches", "batches that criteria are averaged over"),
        ("batch-size", "images in each batch of LeNet"),
        ("epochs", "exact number of epochs of training"),
        ("measured", "number of epochs of a training run at which criteria are measured"),
        ("images", "photographs in each batch"),
        ("side", "pixels along a side of photographs"),
        ("points", "points of a loss plane per direction: 3, 5, 9, 21 or 41"),
        ("planes", "number of planes with random directions, of seeds 0, 1, ..."),
    ):
        group.addoption(f"--{name}", type=_positive, metavar="N", help=f"{what} (of the profile)")


def pytest_configure(config: pytest.Config) -> None:
    """Make the session's suite."""
    # a result, not an error: the cell of a network whose loss is nearly zero is computed all the
    # same, and the session ends with the warning
    config.addinivalue_line("filterwarnings", "default:rounding makes:UserWarning")

    def option(name: str, default: Any = None) -> Any:
        # If pytest finds the conftest late, options are not parsed: take the defaults.
        return config.getoption(name, default) or default

    changes = (
        "probes", "steps", "batches", "batch_size", "epochs", "measured", "images", "side",
        "points", "planes",
    )  # fmt: skip
    root = option("data_root")
    with _uncaptured(config):
        terminal = sys.stderr.isatty()
    profile = adjusted(
        PROFILES[option("profile", "quick")],
        every_plane=option("every_plane", None),
        variants=option("variants", None),
        study=option("study", None),
        real=option("real_data", None),
        seed=option("seed"),
        **{name: option(name) for name in changes},
    )
    settings = Settings(
        profile=profile,
        results=Path(option("results", checkout() / "results")),
        work=Path(option("work_dir", checkout() / ".lla")),
        data_root=Path(root) if root else None,
        device=option("device", "cuda" if torch.cuda.is_available() else "cpu"),
        recompute=option("recompute", False),
        strict_paper=option("strict_paper", False),
        progress=terminal,
        download=profile.download and not option("list_cells", False),
    )

    def say(line: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:  # none in a worker of pytest-xdist
            with _uncaptured(config):
                if config.get_terminal_writer().width_of_current_line:
                    reporter.write_line("")
                reporter.write_line(line)

    config.stash[_SUITE] = Suite(
        find(), settings, say, lambda: _uncaptured(config), allocator_tuned=lla.tune_allocator()
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for `cell` on the cells of all exhibits."""
    if "cell" not in metafunc.fixturenames:
        return
    this = metafunc.config.stash[_SUITE]
    cells = {  # a cell that two exhibits share is computed once
        cell.place: pytest.param(cell, id=f"{exhibit.name}-{cell.name}")
        for exhibit in this.exhibits
        for cell in exhibit.cells(this.settings)
    }
    metafunc.parametrize("cell", list(cells.values()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order cells by stage, so that a first table is shown before a network is trained."""
    last = 99  # doctests come after the cells
    items.sort(key=lambda item: last if (cell := _cell(item)) is None else cell.stage)
    for item in items:
        if _cell(item) is not None:
            item.add_marker(pytest.mark.timeout(0))  # a cell may take hours


def pytest_collection_finish(session: pytest.Session) -> None:
    """Count what will run, for the progress."""
    cells = filter(None, map(_cell, session.items))
    session.config.stash[_SUITE].planned = sum(cell.compute is not None for cell in cells)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With --list-cells, show the cells; before they run, see whether they can be stored."""
    this = session.config.stash[_SUITE]
    cells = [cell for item in session.items if (cell := _cell(item)) is not None]
    if session.config.getoption("list_cells", False):
        this.say(listing(cells, this.settings))
        return True
    if cells and not session.config.option.collectonly:
        try:
            this.check_folders()
        except (WriteError, InputError) as error:
            raise pytest.UsageError(str(error)) from None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """End the session in one sentence where the disk is full: no later cell could be stored."""
    try:
        return (yield)
    except WriteError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.TESTS_FAILED)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Bring tables, figures and claims up to date."""
    this = session.config.stash[_SUITE]
    if this.unwritten is None:  # else the session has ended because of that
        try:
            this.finish()
        except WriteError as error:
            this.say(str(error))
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print a short table of the cells of this session."""
    this = config.stash[_SUITE]
    records = this.records()
    if records:
        terminalreporter.section("paper tables")
        terminalreporter.write_line(publish.overview(this.exhibits, records))
        if this.unwritten is None:
            terminalreporter.write_line(
                f"written to {this.settings.results.name}/: tables, figures, claims.md, records"
            )


@pytest.fixture(scope="session")
def suite(pytestconfig: pytest.Config) -> Suite:
    """The suite of this session."""
    return pytestconfig.stash[_SUITE]


def _cell(item: pytest.Item) -> Cell | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get("cell") if callspec else None


def _uncaptured(config: pytest.Config) -> AbstractContextManager[object]:
    capture = config.pluginmanager.get_plugin("capturemanager")
    return capture.global_and_fixture_disabled() if capture else nullcontext()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(f"{text} is not at least 1")
    return value
