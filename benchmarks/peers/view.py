"""The table of libraries at equal work, from records alone."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import view
from benchmarks.peers.judgement import Judgement
from benchmarks.reference import TOP
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.exhibit import Exhibit, Records
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of
from paper_tables.evidence.selection import grouped

COLUMNS = {
    "version": "{passes.note}",
    "seconds": "{passes.seconds:.3g}",
    "passes a product": "{passes.value:.2f}{spread}",
    "products": "{passes.matvecs}",
    "peak MiB": "{peak:.0f}",
    "of it added": "{added:.0f}",
    f"error of the top {TOP}": "{eigenvalue_error.value:.1e}",
    "error of the moments": "{moment_error.value:.1e}",
    "correct": "{correct}",
}

UNKNOWN = "not recorded"  # the session

Library = dict[str, Record]  # by metric


def library(record: Record) -> tuple[str, ...]:
    """What the records of one measurement share: the case and the library."""
    return *view.case(record), record.column


def tables(records: Records) -> list[Table]:
    """One table for each case; libraries that were measured together form a group."""
    return [_table(case) for case in view.cases(records)]


def _table(records: Records) -> Table:
    row, work = records[0].row, records[0].config
    together = grouped(records, _session)
    not_run = together.pop(None, [])
    groups = [_group(session) for session in together.values()]
    groups += [Group("—", "", tuple(map(_absence, not_run)))] if not_run else []
    legend = view.said(
        "peers_case", steps=work["steps"], probes=work["probes"], **_fastest(together.values())
    )
    heads = ("session", "library")
    return Table(f"peers-{row}", row, legend, tuple(COLUMNS), tuple(groups), heads=heads)


def _session(record: Record) -> tuple[object, ...] | None:
    """What records must share so that seconds can be compared; None for not-run ones."""
    if record.value is None:
        return None
    return (
        _began(record), record.code_version, record.torch, record.device, record.cpu,
        record.threads, record.allocator_tuned,
    )  # fmt: skip


def _began(record: Record) -> str:
    """When the session began; "" for records of before sessions had a name."""
    return record.session or ""


def _group(session: Records) -> Group:
    first = session[0]
    lines = tuple(_line(name, found) for name, found in view.columns(session).items())
    settings = f"code {first.code_version}, torch {first.torch}, {view.machine(first)}"
    return Group(_began(first) or UNKNOWN, settings, lines)


def _line(name: str, found: Library) -> Line:
    passes, judged = found["passes"], _judged(found)
    known = found | {
        "spread": "" if passes.stderr is None else f" ± {passes.stderr:.2f}",
        "peak": (passes.peak_memory or 0) / view.MIB,
        "added": value_of(found["added_memory"]) / view.MIB,
        "correct": "yes" if judged.correct else f"no: {judged.reason}",
    }
    return view.line(name, COLUMNS, known)


def _absence(record: Record) -> Line:
    reason = Entry("not run", reason=record.reason or "")
    return Line(record.column, (*[None] * (len(COLUMNS) - 1), reason))


def _judged(found: Library) -> Judgement:
    names = ("eigenvalue_error", "copies", "moment_error")
    error, copies, moments = (value_of(found[name]) for name in names)
    return Judgement(error, int(copies), moments)


def _fastest(sessions: Iterable[Records]) -> dict[str, Record | None]:
    """This library and the fastest other that is correct, in one session; None for neither."""
    known = (view.columns(session) for session in sessions if _began(session[0]))
    libraries = next((found for found in known if "lla" in found), {})
    right = {name: found["passes"] for name, found in libraries.items() if _judged(found).correct}
    return {
        "own": right.pop("lla", None),
        "fastest": min(right.values(), key=value_of, default=None),
    }


EXHIBIT = Exhibit("peers", "benchmarks", tables=tables)
