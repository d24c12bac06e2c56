"""Where the time of a product goes, and how far that is from the machine's limit, from records."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks import view
from benchmarks.operations.counts import KINDS
from benchmarks.operations.measurement import MACHINE, PASS, PRODUCT, TABLE
from lla.report.text import measured
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Exhibit, Records
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of

PRODUCTS = {
    "matrices, GFLOP/s": "{flops_per_second}",
    "copy, GB/s": "{bytes_per_second}",
    "pass, ms": "{step}",
    "product, ms": "{seconds}",
    "in passes": "{passes}",
    "limit, ms": "{limit:.3g}",
    "of the limit": "{reached:.1%}",
}
OPERATIONS = {
    "ms": "{seconds}",
    "of the product": "{share:.1%}",
    "GFLOP/s": "{flops_per_second:.3g} ({of_matrices:.0%})",
    "GB/s": "{bytes_per_second:.3g} ({of_copy:.0%})",
    "times the limit": "{times:.2f}",
    "operations": "{operations:.0f}",
}
BETWEEN = "between operations"

Cells = Mapping[str, Mapping[str, Record]]  # of one network, by column, then by metric


def tables(records: Records) -> list[Table]:
    """The machine's limit and whole products, a line a network; then a group a network."""
    cases = [(case[0], view.columns(case)) for case in view.cases(records)]
    groups = tuple(
        Group(first.row, view.machine(first), (view.line(PRODUCT, PRODUCTS, _whole(cells)),))
        for first, cells in cases
    )
    by_kind = tuple(
        Group(first.row, view.machine(first), tuple(_lines(cells))) for first, cells in cases
    )
    notes = "\n".join(_note(first.row, cells) for first, cells in cases)
    return [
        Table("operations_limit", "Products and the machine's limit", notes, tuple(PRODUCTS),
              groups, heads=("network", "")),
        Table("operations", "Kinds of operations", "", tuple(OPERATIONS), by_kind,
              heads=("network", "kind")),
    ]  # fmt: skip


def _whole(cells: Cells) -> dict[str, object]:
    product, machine = cells[PRODUCT], cells[MACHINE]
    return {
        **{name: _scaled(record, 1e-9) for name, record in machine.items()},
        "step": _scaled(cells[PASS]["seconds"], 1e3),
        "seconds": _scaled(product["seconds"], 1e3),
        "passes": _scaled(product["passes"], 1.0),
        "limit": value_of(product["limit"]) * 1e3,
        "reached": value_of(product["limit"]) / value_of(product["seconds"]),
    }


def _lines(cells: Cells) -> list[Line]:
    """The kinds, those that take longest first, and what is left of the product."""
    whole = value_of(cells[PRODUCT]["seconds"])
    left = whole - value_of(cells[PRODUCT]["within"])
    known = {"seconds": f"{left * 1e3:.3g}", "share": left / whole}
    kinds = sorted(_kinds(cells), key=lambda kind: -value_of(cells[kind]["seconds"]))
    lines = [view.line(kind, OPERATIONS, _kind(cells, kind)) for kind in kinds]
    return [*lines, view.line(BETWEEN, OPERATIONS, known)]


def _kind(cells: Cells, kind: str) -> dict[str, object]:
    """What is known of a kind; nothing on FLOPs where it has none, and likewise on bytes."""
    found = cells[kind]
    seconds = value_of(found["seconds"])
    known: dict[str, object] = {
        "seconds": _scaled(found["seconds"], 1e3),
        "share": seconds / value_of(cells[PRODUCT]["seconds"]),
        "operations": value_of(found["operations"]),
    }
    for unit, rate, share in (
        ("flops", "flops_per_second", "of_matrices"),
        ("bytes", "bytes_per_second", "of_copy"),
    ):
        if value_of(found[unit]):
            reached = value_of(found[unit]) / seconds
            known |= {rate: reached / 1e9, share: reached / value_of(cells[MACHINE][rate])}
    if value_of(found["limit"]):
        known["times"] = seconds / value_of(found["limit"])
    return known


def _kinds(cells: Cells) -> list[str]:
    """The kinds that take time; on a GPU views take none."""
    return [kind for kind in KINDS if kind in cells and value_of(cells[kind]["seconds"])]


def _note(name: str, cells: Cells) -> str:
    """What takes a network's time, and where most is above the limit."""
    seconds = {kind: value_of(cells[kind]["seconds"]) for kind in _kinds(cells)}
    above = {kind: seconds[kind] - value_of(cells[kind]["limit"]) for kind in seconds}
    whole, limit = (value_of(cells[PRODUCT][metric]) for metric in ("seconds", "limit"))
    above[BETWEEN] = whole - value_of(cells[PRODUCT]["within"])
    most, worst = max(seconds, key=seconds.__getitem__), max(above, key=above.__getitem__)
    return view.said(
        "operations_case", name=name, most=most, share=seconds[most] / whole,
        times=seconds[most] / value_of(cells[most]["limit"]), reached=limit / whole,
        worst=worst if worst == BETWEEN else f"in {worst}", above=above[worst] / whole,
    )  # fmt: skip


def _scaled(record: Record, factor: float) -> str:
    """A record's value and standard error in another unit."""
    stderr = None if record.stderr is None else record.stderr * factor
    return measured(value_of(record) * factor, stderr)


EXHIBIT = Exhibit(TABLE, "benchmarks", tables=tables)
