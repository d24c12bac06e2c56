"""Tables of criteria: Tables 2 and 4, and others with one number in each cell.

Each network with its settings is a group, the most faithful first; each criterion is a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import bars, measured_entry
from paper_tables.evidence.selection import best_rank
from paper_tables.paper import paper_columns, paper_rows, paper_value, tables
from paper_tables.paper.names import display

# Tables whose columns are data sets, so that the cells of one line are on different data.
DATA_IN_COLUMNS = ("table4",)
# Shown although the paper does not print it: the reading of K_H05 that converges.
ADDED = ("kh05_density",)

LEGEND = (
    "K_H05 depends on the number of Lanczos steps m and is judged at the paper's m = 100 only; "
    "K_H05 (density) is the reading that converges, which the paper does not print. Plain: the "
    "criterion as defined; legacy: an imitation of the authors' public code."
)
NO_RECORDS = "no record yet: run the command for the tables"


@dataclass
class _Block:
    """The records of one network at one choice of settings, by metric and column."""

    cells: dict[tuple[str, str], Record] = field(default_factory=dict)
    inputs: dict[str, tuple[object, ...]] = field(default_factory=dict)  # of each column

    @property
    def first(self) -> Record:
        return next(iter(self.cells.values()))


def table(records: Sequence[Record], name: str, legend: str = "", title: str = "") -> Table:
    """The view of one table.

    Args:
        records: all published records.
        name: of the table; one that is not in the paper shows all measured metrics.
        legend: what is special about it.
        title: of a table that is not in the paper.
    """
    mine = [record for record in records if record.table == name]
    columns = paper_columns(name) or tuple(dict.fromkeys(record.column for record in mine))
    metrics = _metrics(mine, name)
    blocks = _blocks([r for r in mine if r.column in columns and r.metric in metrics], name)
    rows = {row: i for i, row in enumerate(paper_rows(name))}
    blocks.sort(key=lambda block: (rows.get(block.first.row, len(rows)), *_rank(block)))
    blocks = _with_absent(blocks)
    there = {block.first.row for block in blocks}
    groups = {row: [_absent(row, name, columns, metrics)] for row in rows if row not in there}
    for block in blocks:
        groups.setdefault(block.first.row, []).append(_group(block, columns, metrics))
    order = [*rows, *(row for row in groups if row not in rows)]
    entry = tables().get(name, {})
    return Table(
        id=name,
        title=f"{entry['where']}: {entry['title']}" if entry else title,
        legend=f"{LEGEND} {legend}".strip() if entry else legend,
        columns=tuple(display(METRIC_NAMES.get(column, column)) for column in columns),
        groups=tuple(group for row in order for group in groups[row]),
        heads=("network", "criterion" if entry else "metric"),
        folded=not entry,
        files=tuple(f"{name}.{kind}" for kind in ("md", "csv", "tex")) if mine and entry else (),
    )


def other(records: Sequence[Record], name: str, title: str) -> list[Table]:
    """A table that the paper does not have, if there are records of it."""
    there = any(record.table == name for record in records)
    return [table(records, name, title=title)] if there else []


def _metrics(records: Iterable[Record], name: str) -> tuple[str, ...]:
    printed = {
        metric
        for columns in tables().get(name, {}).get("rows", {}).values()
        for cell in columns.values()
        for metric in cell
    }
    if not printed:
        measured = dict.fromkeys(record.metric for record in records)
        return tuple(sorted(measured, key=_place))
    accuracy_last = [*(printed & {"kh1", "kh05", "re"}), *ADDED, *(printed & {"accuracy"})]
    return tuple(sorted(accuracy_last, key=lambda m: (m == "accuracy", _place(m))))


def _place(metric: str) -> int:
    return [*METRIC_NAMES, metric].index(metric)


def _blocks(records: Sequence[Record], name: str) -> list[_Block]:
    """Sort records into blocks; an accuracy, which has no m, joins the blocks on its inputs."""
    families: dict[tuple[object, ...], list[_Block]] = {}
    loose = []
    for record in records:
        if record.metric == "accuracy" and record.value is not None and record.m is None:
            loose.append(record)
        else:
            _put(record, families.setdefault(_family(record, name), []))
    blocks = [block for family in families.values() for block in family]
    for record in loose:
        hosts = [b for b in blocks if not b.first.legacy and _takes(b, record, name)]
        for block in hosts:
            block.cells.setdefault((record.metric, record.column), record)
        if not hosts:
            blocks.append(_Block({(record.metric, record.column): record}))
    return blocks


def _with_absent(blocks: Sequence[_Block]) -> list[_Block]:
    """Move the cells that were not run into the network's first block with values, if any."""
    measured: dict[str, _Block] = {}
    for block in blocks:
        if any(record.value is not None for record in block.cells.values()):
            measured.setdefault(block.first.row, block)
    found = []
    for block in blocks:
        host = measured.get(block.first.row)
        if host is None or any(record.value is not None for record in block.cells.values()):
            found.append(block)
            continue
        there = {column for _, column in host.cells}
        host.cells |= {key: r for key, r in block.cells.items() if key[1] not in there}
    return found


def _put(record: Record, family: list[_Block]) -> None:
    """Put a record into the first block with the same inputs in its column, else into a new one."""
    inputs = _inputs(record)
    for block in family:
        if block.inputs.setdefault(record.column, inputs) == inputs:
            block.cells[record.metric, record.column] = record
            return
    family.append(_Block({(record.metric, record.column): record}, {record.column: inputs}))


def _family(record: Record, name: str) -> tuple[object, ...]:
    r = record
    settings = (r.row, r.m, r.probes, r.seed, r.dtype, r.legacy, r.config.get("init"),
                r.config.get("side"), r.batch_size)  # fmt: skip
    return settings if name in DATA_IN_COLUMNS else (*settings, *_inputs(record))


def _inputs(record: Record) -> tuple[object, ...]:
    data = record.data.name if record.data else None
    return (data, record.config.get("side"), record.batches, record.batch_size)


def _takes(block: _Block, record: Record, name: str) -> bool:
    """Whether an accuracy is of a block's network on that block's images."""
    trained = [r for (_, c), r in block.cells.items() if not c.startswith("random")]
    return any(_place_of(r, name) == _place_of(record, name) for r in trained)


def _place_of(record: Record, name: str) -> tuple[object, ...]:
    if name in DATA_IN_COLUMNS:
        return (record.row, record.column, record.data)
    return (record.row, record.seed, _inputs(record))


def _rank(block: _Block) -> tuple[object, ...]:
    """The order of blocks: the most faithful first, then most images, plain before legacy."""
    found = list(block.cells.values())
    first = block.first
    return (
        first.data is None,
        any(r.fidelity == "substitute" for r in found),
        -(first.batch_size or 0),
        -(first.batches or 0) * (first.probes or 0),
        best_rank(found),
        bool(first.legacy),
        str(first.config.get("init")),
        str(_family(first, "")),
    )


def _group(block: _Block, columns: Sequence[str], metrics: Sequence[str]) -> Group:
    lines = []
    for metric in metrics:
        found = [block.cells.get((metric, column)) for column in columns]
        if any(found):
            entries = [
                None if record is None else measured_entry(record, bar)
                for record, bar in zip(found, bars(found), strict=True)
            ]
            lines.append(Line(METRIC_NAMES.get(metric, metric), tuple(entries)))
    return Group(
        display(block.first.row), _settings(block), tuple(lines), kind=_variant(block.first)
    )


def _variant(record: Record) -> str:
    """Which criterion from which initialisation, in words."""
    init = record.config.get("init")
    kind = {True: "legacy", False: "plain", None: ""}[record.legacy]
    return ", ".join(part for part in (kind, f"{init} init" if init else "") if part)


def _number(record: Record) -> str:
    """How many images: batches of how many, or their number where there is one batch."""
    return f"{record.batches} x {record.batch_size}" if record.batches else str(record.batch_size)


def _settings(block: _Block) -> str:
    """What the values have in common; empty for a network that was not run."""
    values = [r for r in block.cells.values() if r.value is not None]
    if not values:
        return ""
    first = next((r for r in values if r.m is not None), values[0])
    side = f" at {first.config['side']} px" if "side" in first.config else ""
    data = dict.fromkeys(
        f"{display(r.data.name)} {_number(r)} images{side}" for r in values if r.data
    )
    parts = [
        str(first.config.get("model", "")) if side else "",  # may be a stand-in
        " and ".join(data),
        f"m {first.m}" if first.m else "",
        f"{first.probes} probes" if first.probes else "",
        "" if first.seed is None else f"seed {first.seed}",
        first.dtype or "",
        _variant(first),
    ]
    return ", ".join(part for part in parts if part)


def _absent(row: str, name: str, columns: Sequence[str], metrics: Sequence[str]) -> Group:
    """The group of a network without any record: the paper's values, each marked as not run."""
    lines = []
    for metric in metrics:
        printed: Mapping[str, str | None] = {c: paper_value(name, row, c, metric) for c in columns}
        if any(printed.values()):
            entries = [
                Entry("not run", p, "not_run", reason=NO_RECORDS) if p else None
                for p in printed.values()
            ]
            lines.append(Line(METRIC_NAMES[metric], tuple(entries)))
    return Group(display(row), "", tuple(lines))
