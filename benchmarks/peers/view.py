"""The table of libraries at equal work, from records alone."""

from __future__ import annotations

from benchmarks import view
from benchmarks.peers.judgement import Judgement
from benchmarks.reference import TOP
from benchmarks.view import number
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.exhibit import Exhibit, Records
from paper_tables.engine.records import Record

COLUMNS = ("version", "seconds", "passes a product", "products", "peak MiB", "of it added",
           f"error of the top {TOP}", "error of the moments", "correct")  # fmt: skip

Library = dict[str, Record]  # by metric


def library(record: Record) -> tuple[str, ...]:
    """What the records of one library on one case share: they are measured one by one."""
    return *view.case(record), record.column


def tables(records: Records) -> list[Table]:
    """A table a case; libraries that were measured together are a group."""
    return [_table(case) for case in view.grouped(records, view.case).values()]


def _table(records: Records) -> Table:
    work = records[0].config
    together = view.grouped(records, _session)
    not_run = together.pop(None, [])
    groups = [_group(session) for session in together.values()]
    groups += [Group("—", "", tuple(map(_absence, not_run)))] if not_run else []
    probes = f"{work['probes']} probe{'s' * (work['probes'] > 1)}"
    legend = f"{work['steps']} Lanczos steps, {probes}. {_lead(list(together.values()))}".strip()
    return Table(
        f"peers-{records[0].row}", records[0].row, legend, COLUMNS, tuple(groups),
        heads=("code", "library"),
    )  # fmt: skip


def _session(record: Record) -> tuple[object, ...] | None:
    """What records share whose seconds may be compared; None if nothing was measured."""
    if record.value is None:
        return None
    return record.code_version, record.torch, record.device, record.threads, record.allocator_tuned


def _libraries(session: Records) -> dict[str, Library]:
    groups = view.grouped(session, lambda record: record.column)
    return {name: view.metrics(found) for name, found in groups.items()}


def _group(session: Records) -> Group:
    first = session[0]
    lines = tuple(_line(name, found) for name, found in _libraries(session).items())
    return Group(str(first.code_version), f"torch {first.torch}, {view.machine(first)}", lines)


def _line(name: str, found: Library) -> Line:
    passes, judged = found["passes"], _judged(found)
    assert passes.peak_memory is not None
    spread = f" ± {passes.stderr:.2f}" if passes.stderr is not None else ""
    return view.line(
        name,
        str(passes.note),
        f"{passes.seconds:.3g}",
        f"{passes.value:.2f}{spread}",
        str(passes.matvecs),
        f"{passes.peak_memory / 2**20:.0f}",
        f"{number(found['added_memory']) / 2**20:.0f}",
        f"{judged.eigenvalue_error:.1e}",
        f"{judged.moment_error:.1e}",
        "yes" if judged.correct else f"no: {judged.reason}",
    )


def _absence(record: Record) -> Line:
    reason = Entry("not run", reason=record.reason or "")
    return Line(record.column, (*[None] * (len(COLUMNS) - 1), reason))


def _judged(found: Library) -> Judgement:
    return Judgement(
        number(found["eigenvalue_error"]),
        int(number(found["copies"])),
        number(found["moment_error"]),
    )


def _lead(sessions: list[list[Record]]) -> str:
    """How this library stands against the fastest other that is correct, measured with it."""
    ours = next((found for s in sessions if "lla" in (found := _libraries(s))), {})
    right = {name: found["passes"] for name, found in ours.items() if _judged(found).correct}
    own = right.pop("lla", None)
    if own is None:
        return ""
    if not right:
        return "No other library that ran with it is correct here."
    name, other = min(right.items(), key=lambda item: number(item[1]))
    return (
        f"The fastest other that is correct, {name}, takes {other.seconds:.3g} s where lla takes "
        f"{own.seconds:.3g} s; in passes, {number(other) / number(own):.2f} times as many."
    )


EXHIBIT = Exhibit("peers", "benchmarks", tables=tables)
