"""How pytest runs the suites: options, cells as parameters, progress, and the report at the end.

A test that takes the argument `cell` runs once for each cell of each exhibit. Sessions without
pytest do not need this module: see `paper_tables.engine.suite`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import lla
from lla.errors import InputError, WriteError
from paper_tables import colleagues, workers
from paper_tables.colleagues import Colleagues
from paper_tables.engine import publish
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.ending import ending
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.progress import Bar, Lines, Progress
from paper_tables.engine.records import LARGEST
from paper_tables.engine.shard import Shard
from paper_tables.engine.suite import Pages, Suite, checkout, listing
from paper_tables.exhibits import find

__all__ = [
    "pytest_addoption",
    "pytest_collection_finish",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_generate_tests",
    "pytest_report_teststatus",
    "pytest_runtest_call",
    "pytest_runtestloop",
    "pytest_sessionfinish",
    "pytest_terminal_summary",
    "suite",
]

_SUITE = pytest.StashKey[Suite]()
_CELLS = pytest.StashKey[set[str]]()  # node ids


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
        "--seed", type=partial(_number, 0), metavar="N",
        help="seed of batches and probes of criteria (default: 0)",
    )  # fmt: skip
    group.addoption("--results", metavar="DIR", help="folder to publish in (default: results)")
    group.addoption("--work-dir", metavar="DIR", help="weights and journal (default: .lla)")
    group.addoption(
        "--shard", metavar="I/N",
        help="be worker I of N that share the folders of results and of work, on any machines",
    )  # fmt: skip
    group.addoption(
        "--workers", type=_workers, default="1", metavar="N",
        help="share the cells among N processes of this machine; auto: as many as CPUs and memory "
        "allow (default: 1)",
    )  # fmt: skip
    group.addoption("--parent", type=int, help="set by `--workers`; not for use by hand")
    group.addoption(
        "--submission", metavar="NAME", help="set by `lla tables --submit`; not for use by hand"
    )
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
        group.addoption(
            f"--{name}", type=partial(_number, 1), metavar="N", help=f"{what} (of the profile)"
        )


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
        download=profile.download and not option("list_cells", False),
    )

    try:
        shard = Shard.of(option("shard")) if option("shard") else None
    except InputError as error:
        raise pytest.UsageError(str(error)) from None
    if shard and settings.recompute:
        raise pytest.UsageError(
            "with --recompute each worker would compute all cells: leave it or --shard out, or "
            "name a new --work-dir"
        )
    pages: Pages = "as records come" if shard is None else "at the end"
    if option("parent"):
        pages = "never"  # the session that started this worker writes them
        colleagues.end_with(option("parent"))
    asked, why = option("workers", "1"), _alone(config)
    if why and asked not in ("1", colleagues.AUTO):
        raise pytest.UsageError(f"--workers {asked} cannot be: {why}")
    tuned = lla.tune_allocator()
    config.stash[_SUITE] = Suite(find(), settings, _progress(config), tuned, shard, pages)


def _progress(config: pytest.Config) -> Progress:
    """A bar on a terminal, else lines; with -v pytest writes lines of its own, so lines too."""
    unfinished = False

    def write(text: str) -> None:
        nonlocal unfinished
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:  # in a worker of pytest-xdist
            return
        with _uncaptured(config):
            writer = config.get_terminal_writer()
            if writer.width_of_current_line and not unfinished:
                reporter.ensure_newline()
                if writer.width_of_current_line:
                    writer.line()
            reporter.write(text, flush=True)
            unfinished = not text.endswith("\n")

    with _uncaptured(config):
        if not sys.stderr.isatty() or config.get_verbosity() > 0:
            return Lines(write)
        # of its own, because pytest catches what goes to standard error while a cell runs
        terminal = open(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding)  # noqa: SIM115
    config.add_cleanup(terminal.close)
    return Bar(terminal, write)


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
    """Remember which tests are cells."""
    cells = {item.nodeid for item in session.items if _cell(item) is not None}
    session.config.stash[_CELLS] = cells
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if cells and reporter is not None and session.config.get_verbosity() == 0:
        reporter.showfspath = False  # the name of the file, again before every cell


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """Leave the terminal to the progress: no dots, and no list of skips, which the end groups."""
    words = config.get_verbosity() > 0
    if report.skipped and report.nodeid in config.stash.get(_CELLS, ()):
        return "not run", "", "NOT RUN" if words else ""
    if words or report.when != "call" or hasattr(report, "wasxfail"):
        return None
    return report.outcome, "", ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """With --list-cells, show the cells; before they run, see whether they can be stored."""
    this = session.config.stash[_SUITE]
    cells = [cell for item in session.items if (cell := _cell(item)) is not None]
    if session.config.getoption("list_cells", False):
        with _uncaptured(session.config):
            session.config.get_terminal_writer().line(listing(cells, this.settings))
        return True
    options = session.config.option
    if not cells or options.collectonly:
        return None
    if session.testsfailed and not options.continue_on_collection_errors:
        return None  # pytest's own loop says so
    try:
        this.check_folders()
        submission = session.config.getoption("submission", None)
        workers.check(this, submission)
        count = _count(session.config, this, cells)
        if count > 1:
            this.shard, this.leads = Shard(1, count), True
        this.plan(cells)
        if this.shard is None:
            return None
        with this.leases.worker(this.shard), _others(session, count) as others:
            workers.run(session, this, _cell, others.failed)
        for sentence in others.sentences:
            this.progress.say(sentence)
        if others.failed() and not session.testsfailed:
            session.testsfailed = 1  # not a cell's: those have failed here too
        return True
    except (WriteError, InputError) as error:
        raise pytest.UsageError(str(error)) from None


def _alone(config: pytest.Config) -> str | None:
    """Why a session cannot start workers; None if it can."""
    if config.getoption("shard", None):
        return "--shard names one worker: leave it or --workers out"
    if config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        return "-n starts workers too: leave it or --workers out"
    if config.getoption("recompute", False):
        return "with --recompute each worker would compute all cells: name a new --work-dir"
    if config.getoption("lf", False) or config.getoption("stepwise", False):
        return "with --lf and --stepwise each worker would choose cells of its own"
    return None


def _count(config: pytest.Config, this: Suite, cells: list[Cell]) -> int:
    """How many workers a session has, itself included."""
    asked = config.getoption("workers", "1")
    if asked == "1" or _alone(config):
        return 1
    return colleagues.number(asked, this.waiting(cells), torch.device(this.settings.device))


def _others(session: pytest.Session, count: int) -> AbstractContextManager[Colleagues]:
    """The other workers of a session that has so many; see `colleagues.beside`."""
    if count == 1:
        return nullcontext(Colleagues())
    this, given = session.config.stash[_SUITE], session.config.invocation_params
    this.progress.say(f"{count} workers; the output of others: {this.settings.work}/workers")
    cached = session.config.pluginmanager.has_plugin("cacheprovider")
    arguments = [str(argument) for argument in given.args]
    return colleagues.beside(count, arguments, given.dir, this.settings, cached)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """End the session in one sentence if the disk is full: no later cell could be stored."""
    try:
        return (yield)
    except WriteError as error:
        pytest.exit(str(error), returncode=pytest.ExitCode.TESTS_FAILED)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Bring tables, figures and claims up to date."""
    this = session.config.stash[_SUITE]
    if this.unwritten is not None:  # the session has ended because of that
        this.progress.close()
        return
    try:
        this.finish()
    except WriteError:  # the progress has said so
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print a short table of this session's cells, the claims, and what did not run."""
    this = config.stash[_SUITE]
    records = this.records()
    if records or this.absent:
        terminalreporter.section("paper tables")
    if records:
        terminalreporter.write_line(publish.overview(this.exhibits, records) + "\n")
    judgements = this.judgements if this.unwritten is None else []  # they stand in no file
    last = ending(judgements, this.absent, this.settings.results)
    if last:
        terminalreporter.write_line(last)
    if this.shard is not None and this.started and config.getoption("shard", None):
        terminalreporter.write(workers.missing(this, this.shard))


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


def _workers(text: str) -> str:
    """The value of `--workers`."""
    return text if text == colleagues.AUTO else str(_number(1, text))


def _number(least: int, text: str) -> int:
    """The value of an option: a whole number that a record can hold."""
    if not re.fullmatch(r"\d{1,19}", text) or not least <= int(text) <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text}: give a whole number from {least} to {LARGEST}")
    return int(text)
