"""A session of the suites: computes the cells that are not finished, stores, renders, reports."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from lla.errors import WriteError, first_line
from lla.files import check_folder
from lla.report.text import measured, plain_table
from paper_tables.engine import machine, publish, store
from paper_tables.engine.cells import METRIC_NAMES, Cell, Settings
from paper_tables.engine.claims import Judgement
from paper_tables.engine.exhibit import Exhibit
from paper_tables.engine.leases import Leases
from paper_tables.engine.progress import Progress
from paper_tables.engine.records import Record, names_a_place
from paper_tables.engine.shard import Shard

Pages = Literal["as records come", "at the end", "never"]
RENDERING = 20.0  # least time between two renderings, in units of the time that one takes


class CellError(AssertionError):
    """A cell whose records are incomplete, or contradict the published ones."""


class Suite:
    """What the tests of one session share.

    Args:
        exhibits: whose pages are rendered.
        settings: what was asked for.
        progress: shows what is computed, and what came of it.
        allocator_tuned: recorded with every cell.
        shard: which worker this session is, where several share the folders.
        pages: when they are written.
    """

    def __init__(
        self,
        exhibits: Sequence[Exhibit],
        settings: Settings,
        progress: Progress | None = None,
        allocator_tuned: bool = False,
        shard: Shard | None = None,
        pages: Pages = "as records come",
    ) -> None:
        self.exhibits = exhibits
        self.settings = settings
        self.progress = progress or Progress()
        self.allocator_tuned = allocator_tuned
        self.shard = shard
        self.pages = pages
        self.leads = False  # whether it has started the other workers, and answers for them
        self.leases = Leases(settings.results)
        self.planned = 0  # cells that can run in this session, see `plan`
        self.started = 0
        self.prepared: set[str] = set()  # names of shared steps
        self.done: dict[tuple[str, ...], list[Record]] = {}  # cell -> its records
        self.absent: list[Record] = []  # one of each cell that did not run
        self.judgements: list[Judgement] = []  # on the claims, from the last rendering
        self._render_next = 0.0  # earliest next rendering, by time.monotonic
        self._stale = False  # whether records were published since the last rendering
        self.unwritten: str | None = None  # what could not be written, in a sentence

    def check_folders(self) -> None:
        """Find out, before anything is computed, whether the session can store and publish.

        Raises:
            WriteError: nothing can be written into the work folder or the folder of results.
            InputError: a file of records there is broken.
        """
        for folder in (self.settings.results, self.settings.work):
            for inside in (folder, folder / "records"):
                check_folder(inside)
            store.published(folder)

    def waiting(self, cells: Sequence[Cell]) -> list[Cell]:
        """The cells to compute: all that can run with `recompute`, else those not finished."""
        again, work = self.settings.recompute, self.settings.work
        return [
            cell
            for cell in cells
            if cell.compute is not None and (again or store.finished(cell, work) is None)
        ]

    def plan(self, cells: Sequence[Cell]) -> None:
        """Say which cells this session is to run, for its progress."""
        waiting = self.waiting(cells)
        shared = {cell.shared.name: cell.shared.seconds for cell in waiting if cell.shared}
        self.planned = sum(cell.compute is not None for cell in cells)
        seconds = sum(cell.seconds for cell in waiting) + sum(shared.values())
        self.progress.plan(seconds / (self.shard.count if self.shard else 1))

    def run(self, cell: Cell) -> list[Record]:
        """Finish one cell: compute it if it is not finished yet, publish, render.

        A cell whose computation raises an error gets a record that says so, unless a value of it
        is published. Workers that share the folders do not try it again.

        Returns:
            Its records; those of a cell that cannot run say why.

        Raises:
            CellError: its records are incomplete, disagree with the published ones, or (if asked
                to be strict) with the paper.
            BrokenConsequenceError: a value contradicts the definitions; nothing is stored.
            WriteError: the disk is full, or similar; what was finished before is kept.
        """
        with self._unwritten_noted():
            return self._run(cell)

    def _run(self, cell: Cell) -> list[Record]:
        settings = self.settings
        if cell.compute is None:
            new = cell.not_run()
            self.absent.append(new[0])
            store.publish(new, settings.work, settings.results)
            self._render_at_times()
            return new
        self.started += 1
        found = self._finished(cell)
        if found is None:
            failure = self.shard and self.leases.failure(cell.label, self.shard)
            if failure:
                reason = f"another worker has tried it: {failure}"
                self._stale = True
                if self.leads:
                    raise CellError(reason)
                new = cell.absent(reason).not_run()
                self.absent.append(new[0])
                return new
            self._prepare(cell)
        label = f"cell {self.started}/{self.planned} {cell.name}"
        with self.progress.step(label, cell.seconds if found is None else 0.0) as step:
            begin = time.perf_counter()
            with self._failure_recorded(cell):
                new = self._compute(cell) if found is None else found
            how = f"done in {time.perf_counter() - begin:.1f} s"
            if found is not None:
                how, step.computed = "finished before", False
                if any(record.code_version != machine.code_version() for record in new):
                    how += " by other code (--recompute computes it again)"
            outcome = store.publish(new, settings.work, settings.results)
            self._render_at_times()
            if outcome.retrained:
                how += " (another training than the published one: not compared with it)"
            if outcome.conflicts:
                raise CellError("; ".join(outcome.conflicts))
            differing = [r.metric for r in new if r.verdict == "differs"]
            if settings.strict_paper and differing:
                raise CellError(f"{cell.name} differs from the paper in {', '.join(differing)}")
            step.outcome = f"{how}: {_summary(new)}"
        if new[0].value is None:
            self.absent.append(new[0])
        return new

    def render(self) -> None:
        """Write tables, figures and claims from the published records."""
        begin = time.monotonic()
        self.judgements = publish.write_all(self.exhibits, self.settings.results)
        end = time.monotonic()
        # Many cells are quick: rendering after each would take longer than computing them.
        self._render_next = end + RENDERING * (end - begin)
        self._stale = False

    def finish(self) -> None:
        """Render what was published since the last rendering; called at the end of a session.

        Raises:
            WriteError: the disk is full, or similar; the records are kept.
        """
        try:
            if self._stale and self.pages != "never":
                with (
                    self._unwritten_noted(),
                    self._alone("pages"),
                    self.progress.step("tables, figures, claims and report", 0.0) as step,
                ):
                    place = f"{self.settings.results.name}/"
                    if self.shard and publish.is_current(self.settings.results):
                        step.outcome = f"written to {place} by another worker"
                        return
                    self.render()
                    step.outcome = f"written to {place}"
        finally:
            self.progress.close()

    @contextmanager
    def _unwritten_noted(self) -> Iterator[None]:
        try:
            yield
        except WriteError as error:
            self.unwritten = str(error)
            raise

    def _render_at_times(self) -> None:
        self._stale = True
        if self.pages == "as records come" and time.monotonic() >= self._render_next:
            self.render()

    def records(self) -> list[Record]:
        """The records of all cells that this session has finished."""
        return [record for new in self.done.values() for record in new]

    def _finished(self, cell: Cell) -> list[Record] | None:
        key = cell.place
        if key in self.done:  # done before in this session
            return self.done[key]
        found = None if self.settings.recompute else store.finished(cell, self.settings.work)
        if found is not None:
            if cell.judge is not None:
                found = cell.judge(cell, found)
            else:
                found = [_judged_anew(cell, record) for record in found]
            self.done[key] = found
        return found

    def _prepare(self, cell: Cell) -> None:
        """Run the step that the cell shares with others; the cell's time does not include it."""
        if cell.shared is None or cell.shared.name in self.prepared:
            return
        with (
            self._alone(f"step-{cell.shared.slug}"),
            self.progress.step(cell.shared.name, cell.shared.seconds) as step,
        ):
            step.computed = False  # most often it finds what an earlier session made
            begin = time.perf_counter()
            outcome = cell.shared.run(self.settings)
            step.outcome = f"done in {time.perf_counter() - begin:.1f} s: {outcome}"
        self.prepared.add(cell.shared.name)

    @contextmanager
    def _alone(self, what: str) -> Iterator[None]:
        """Do a block while no other worker does it."""
        if self.shard is None:
            yield
            return
        with self.leases.held(what, wait=True):
            yield

    @contextmanager
    def _failure_recorded(self, cell: Cell) -> Iterator[None]:
        try:
            yield
        except WriteError:
            raise  # not the cell's: no other one could be stored either
        except Exception as error:
            reason = failed_with(error)
            store.publish(cell.absent(reason).not_run(), self.settings.work, self.settings.results)
            self._stale = True
            if self.shard:
                self.leases.note_failure(cell.label, reason)
            raise

    def _compute(self, cell: Cell) -> list[Record]:
        settings = self.settings
        assert cell.compute is not None
        machine.reset_peak_memory(settings.device)
        begin = time.perf_counter()
        computed = cell.compute(cell, settings)
        facts = {
            **machine.environment(settings.device),
            "seconds": round(time.perf_counter() - begin, 3),
            "peak_memory": machine.peak_memory(settings.device),
            "allocator_tuned": self.allocator_tuned,
            "profile": settings.profile.name,
        }
        new = [dataclasses.replace(record, **facts) for record in computed]
        if [record.metric for record in new] != list(cell.metrics):
            raise CellError(
                f"{cell.name} gave records of {[r.metric for r in new]}, not of "
                f"{list(cell.metrics)}: nothing was stored"
            )
        store.finish(new, settings.work)
        self.done[cell.place] = new
        return new


def listing(cells: Sequence[Cell], settings: Settings) -> str:
    """Every cell with its input, fidelity, estimated time and memory, without computing any."""
    unique = list({cell.place: cell for cell in cells}.values())
    shared = {cell.shared.name: cell.shared.seconds for cell in unique if cell.shared}
    rows = [
        (
            cell.table,
            cell.name,
            cell.fidelity or "not_run",
            f"{cell.seconds:.0f} s" if cell.compute else "",
            f"{cell.memory / 2**20:.0f} MiB" if cell.compute else "",
            cell.inputs if cell.compute else f"not run: {cell.reason}",
        )
        for cell in unique
    ]
    rows += [("", name, "", f"{seconds:.0f} s", "", "shared") for name, seconds in shared.items()]
    total = sum(cell.seconds for cell in unique if cell.compute) + sum(shared.values())
    runnable = sum(cell.compute is not None for cell in unique)
    headers = ("table", "cell", "fidelity", "time", "memory", "input")
    return (
        plain_table(rows, headers)
        + f"\n\nprofile {settings.profile.name}: {len(unique)} cells, {runnable} of them run; "
        f"about {total / 60:.0f} min on 2 CPU cores. Nothing was computed."
    )


def failed_with(error: Exception) -> str:
    """The reason of a cell that failed, without the places of this machine."""
    kind, text = type(error).__name__, first_line(error)[:200]
    known = kind if names_a_place(text) or text == kind else f"{kind}, {text!r}"
    return f"it failed with {known}: mend that and run it again"


def _judged_anew(cell: Cell, record: Record) -> Record:
    """A finished record, judged again by the present rule and fidelity."""
    fresh = cell.record(record.metric, record.value or 0.0, record.stderr)
    names = ("paper_value", "verdict", "fidelity")
    return dataclasses.replace(record, **{name: getattr(fresh, name) for name in names})


def _summary(new: Sequence[Record]) -> str:
    shown = [r for r in new if r.paper_value is not None] or list(new[:3])
    return ", ".join(
        f"{METRIC_NAMES.get(r.metric, r.metric)} {measured(r.value, r.stderr)}" for r in shown
    )


def checkout() -> Path:
    """The root of the checkout that this package lies in."""
    return Path(__file__).resolve().parents[2]
