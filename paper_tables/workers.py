"""How pytest runs the cells of one of several workers: in turns, each cell at one worker only."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from lla.errors import InputError
from paper_tables.engine.cells import Cell
from paper_tables.engine.leases import POLL
from paper_tables.engine.shard import Shard
from paper_tables.engine.suite import Suite

CellOf = Callable[[pytest.Item], Cell | None]


def check(suite: Suite, submission: str | None) -> None:
    """Find out whether this session may compute cells in its folders.

    Args:
        suite: of the session.
        submission: the name of a mark that whoever started the workers left in both folders.

    Raises:
        InputError: other workers are there and this session is none; or the mark is missing.
    """
    # workers do not look: for that moment they would hold the lease of one that is beginning
    at_work = suite.leases.at_work() if suite.shard is None else []
    if at_work:
        raise InputError(
            f"{at_work[0]} computes cells in {suite.settings.results}: join it with --shard, name "
            "other folders, or wait until it ends"
        )
    if submission and not suite.leases.is_marked(submission, suite.settings.work):
        raise InputError(
            f"{suite.settings.results} and {suite.settings.work} are not the folders of whoever "
            "started this worker: both must be shared by all machines"
        )


def run(
    session: pytest.Session, suite: Suite, cell_of: CellOf, others_failed: Callable[[], bool]
) -> None:
    """Run the cells of all workers, this one's first, but for those that another one has in hand.

    These are waited for: if their worker dies, this one takes them over. Other tests are left to
    the first worker.

    Args:
        session: with its items.
        suite: with the worker.
        cell_of: the cell of a test, if it is one.
        others_failed: whether a worker that this one has started failed: with `-x` or
            `--maxfail` the session ends then.
    """
    assert suite.shard is not None
    cells = [(item, cell) for item in session.items if (cell := cell_of(item)) is not None]
    left = suite.shard.ordered(cells, lambda pair: _seconds(pair[1]))
    waited = False
    while left:
        waiting = []
        for pair in left:
            if session.config.option.maxfail and others_failed():
                session.shouldfail = "another worker has failed"
                raise session.Failed(session.shouldfail)
            if not _run(session, suite, *pair):
                waiting.append(pair)
        if waiting and not waited:
            waited = True
            suite.progress.say(f"waiting for {len(waiting)} cells that other workers have in hand")
        if len(waiting) == len(left):
            time.sleep(POLL)
        left = waiting
    for item in session.items if suite.shard.index == 1 else ():
        if cell_of(item) is None:
            _protocol(session, item)


def missing(suite: Suite, shard: Shard) -> str:
    """A line on the workers that have not begun in the folders of this one; nothing if all have."""
    numbers = [str(other.index) for other in suite.leases.unseen(shard.count)]
    if not numbers:
        return ""
    return (
        f"workers that have not begun in {suite.settings.results}: {', '.join(numbers)} of "
        f"{shard.count}. One that has run has another folder\n"
    )


def _seconds(cell: Cell) -> float:
    return cell.seconds if cell.compute is not None else 0.0


def _run(session: pytest.Session, suite: Suite, item: pytest.Item, cell: Cell) -> bool:
    """Run a test; whether it could be, because no other worker has its cell."""
    with suite.leases.held(cell.label) as mine:
        if mine:
            _protocol(session, item)
    return mine


def _protocol(session: pytest.Session, item: pytest.Item) -> None:
    """What pytest's own loop does with a test."""
    item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
    if session.shouldfail:
        raise session.Failed(session.shouldfail)
    if session.shouldstop:
        raise session.Interrupted(session.shouldstop)
