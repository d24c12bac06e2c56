"""Tables of layer-wise Hessians: layers of MLPs and of known networks, shares off the blocks."""

from __future__ import annotations

from collections.abc import Collection

from lla.report.text import measured
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.exhibit import Records
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of
from paper_tables.evidence.entries import measured_entry, trace
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.layerwise import blocks, fixed, mlps
from paper_tables.exhibits.layerwise.measured import OVERLAP, RANDOM
from paper_tables.exhibits.layerwise.names import network_name
from paper_tables.exhibits.layerwise.selection import Cell, layers_in
from paper_tables.paper.names import display

COLUMNS = {
    OVERLAP: "overlap", "times": "times random", "rank_one": "first singular value",
    "mean_cosine": "cosine with E[x]", "kronecker_overlap": "Kronecker overlap",
    "frobenius_error": "||H - K|| / ||H||", "outliers": "outliers of E[M]",
    "top_share": "C - 1 largest of E[M]", "xx_ratio": "lambda_1 / ||E[x]||^2",
}  # fmt: skip
ROWS = {
    "mlps": tuple(family.row for family in mlps.FAMILIES),
    "networks": tuple(case.row for case in fixed.CASES),
}


def tables(records: Records) -> list[Table]:
    """All tables."""
    return [
        _layers(records, "layerwise-mlps", "Layers of MLPs from different seeds", ROWS["mlps"]),
        _layers(records, "layerwise-networks", "Layers of known networks", ROWS["networks"]),
        _blocks(records),
    ]


def _layers(records: Records, id: str, title: str, rows: Collection[str]) -> Table:
    """One group a network and variant, one line a layer."""
    groups = tuple(
        _group(row, column, cell)
        for (row, column, _), cell in by_cell(records, mlps.TABLE).items()
        if row in rows
    )
    text = legend(__file__, id, batches=fixed.BATCHES) + " " + legend(__file__, "columns")
    return Table(
        id, title, text, tuple(COLUMNS.values()), groups, ("network", "layer"),
        folded=id == "layerwise-networks",
    )  # fmt: skip


def _group(row: str, column: str, cell: Cell) -> Group:
    first = next(iter(cell.values()))
    config = first.config
    lines = tuple(
        Line(layer, tuple(_entry(cell, name, layer, first.fidelity) for name in COLUMNS))
        for layer in layers_in(cell, OVERLAP)
    )
    amount = f"{config['images']} images of {display(_data(first))}, k = {config['k']}"
    weights = first.weights.name if first.weights else ""
    settings = "; ".join(part for part in (weights, first.note or "", amount) if part)
    name = network_name(row) if column == fixed.COLUMN else f"{network_name(row)}, {column}"
    return Group(name, settings, lines, first.fidelity)


def _entry(cell: Cell, name: str, layer: str, common: str | None) -> Entry | None:
    if name != "times":
        found = cell.get(f"{name} {layer}")
        return None if found is None else measured_entry(found, common=common)
    record, base = cell[f"{OVERLAP} {layer}"], value_of(cell[f"{RANDOM} {layer}"])
    error = None if record.stderr is None else record.stderr / base
    return Entry(measured(value_of(record) / base, error), traces=(trace(record),))


def _data(record: Record) -> str:
    return record.data.name if record.data else ""


def _blocks(records: Records) -> Table:
    lines = []
    for (row, column, _), cell in by_cell(records, blocks.TABLE).items():
        (record,) = cell.values()
        share = value_of(record)
        error = None if record.stderr is None else 2 * share * record.stderr
        amount = f"{record.config['images']} images of {display(_data(record))}, over {record.n} "
        entries = (
            measured_entry(record, common=record.fidelity),
            Entry(measured(share**2, error), traces=(trace(record),)),
        )
        name = f"{network_name(row)}, {column}"
        lines.append(Line(name, entries, f"{amount}{record.stderr_kind}", record.fidelity))
    groups = (Group("", "", tuple(lines)),) if lines else ()
    return Table(
        "layerwise-blocks", "The share of the Hessian off the blocks of its layers",
        legend(__file__, "layerwise-blocks"), ("of ||H||_F", "of ||H||_F^2"), groups,
        ("", "network"),
    )  # fmt: skip
