"""Tables from records alone: Markdown and LaTeX to read, CSV to compute with."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lla.report.text import LATEX_NEEDS, latex_float, markdown_table, measured, plain_table
from paper_tables.engine import claims, findings, report, store
from paper_tables.engine.cells import METRIC_NAMES, settings_key
from paper_tables.engine.records import FIDELITIES, VERDICTS, Record, Source, atomic_write
from paper_tables.exhibits.generalization import cells as generalization
from paper_tables.exhibits.generalization import figures as figures_generalization
from paper_tables.exhibits.generalization import prediction, shift_planes
from paper_tables.exhibits.generalization import shift_figures as figures_shift
from paper_tables.exhibits.normalization import page as render_normalization
from paper_tables.exhibits.table1 import figures as figures_landscape
from paper_tables.exhibits.table1 import text_table as render_table1
from paper_tables.exhibits.table1.planes import TABLE
from paper_tables.exhibits.table2 import figures
from paper_tables.exhibits.table3 import text_table as render_table3
from paper_tables.exhibits.table4 import text_table as render_table4
from paper_tables.paper import paper_columns, paper_rows, tables
from paper_tables.paper.names import display

__all__ = ["overview", "write_all", "write_table"]

# Table -> the metrics that have a line of their own, in order.
LINES = {"table2": ("kh1", "kh05", "re", "kh05_density")}

LEGEND = {
    "table2": (
        "Each cell: measured ± standard error (the paper's value), verdict, [fidelity]. Verdicts:"
        " *reproduced* within 2 standard errors and half a unit of the paper's last digit; "
        "*close* within the paper's own scatter (15 % for K_H1, 30 % for K_H05, a factor of 3 for"
        " r_e); else *differs*. Fidelity: *paper* same model, data, batch, probes and steps; "
        "*reduced* less of it (a network trained for fewer epochs than the paper's 1000 is "
        "reduced); *substitute* stand-in data, never judged. The paper does not state the random "
        "initialisation, so PyTorch's default and a uniform one are both shown (for LeNet they "
        "are the same law, so two draws of it); networks are trained from the default. *plain* is"
        " the criterion as defined, *legacy* imitates the authors' public code. K_H05 depends on "
        "the number of Lanczos steps m and is judged at the paper's m = 100 only; K_H05 (density) "
        "is the reading that converges, which the "
        "paper does not print. Accuracy: of the trained network on the batches of the spectra, "
        "mean of the two modes."
    )
}


def write_all(results: Path) -> None:
    """Render tables, claims, figures and the report from the published records.

    Args:
        results: the folder of results, with `records/*.jsonl`.

    Raises:
        InputError: a file of records is broken.
    """
    records = store.published(results)
    for table in LINES:
        write_table(records, table, results)
    planes = [record for record in records if record.table == TABLE]
    render_table1.write(records, results, frame(planes).to_csv(index=False))
    sizes = [record for record in records if record.table == render_table3.TABLE]
    render_table3.write(records, results, frame(sizes).to_csv(index=False))
    new_images = [record for record in records if record.table == render_table4.TABLE]
    render_table4.write(records, results, frame(new_images).to_csv(index=False))
    for table in (generalization.TABLE, shift_planes.TABLE):
        found = [record for record in records if record.table == table]
        if found:
            atomic_write(results / f"{table}.csv", frame(found).to_csv(index=False))
    render_normalization.write(records, results)
    claims.write(records, results)
    figures.write(records, results)
    figures_landscape.write(records, results)
    figures_generalization.write(records, results)
    figures_shift.write(records, results)
    prediction.write(records, results)
    paragraphs = [(found.title, found.text) for found in findings.findings(records)]
    report.write(records, results, paragraphs)  # last: it holds the figures


def write_table(records: Sequence[Record], table: str, results: Path) -> None:
    """Write one table as `.md`, `.csv` and `.tex`."""
    mine = [record for record in records if record.table == table]
    title = tables()[table]["title"]
    where = tables()[table]["where"]
    rows, headers, notes = layout(mine, table)
    summary = f"Values by verdict: {_counts(mine)}."

    markdown = [f"# {where}: {title}", LEGEND[table], summary, markdown_table(rows, headers)]
    markdown += ["\n".join(f"{i}. {note}" for i, note in enumerate(notes, start=1))]
    text = "\n\n".join(part for part in markdown if part) + "\n"
    atomic_write(results / f"{table}.md", text)

    caption = f"{where}: {title}. {LEGEND[table]} {summary}".replace("*", "")
    latex = [LATEX_NEEDS, latex_float(caption, rows, headers, notes)]
    atomic_write(results / f"{table}.tex", "\n".join(latex) + "\n")
    atomic_write(results / f"{table}.csv", frame(mine).to_csv(index=False))


def _counts(records: Sequence[Record]) -> str:
    """How many values have which verdict, the variants apart."""
    groups: dict[str, Counter[str]] = {}
    for record in records:
        if record.verdict and record.metric != "accuracy":
            group = "not run" if record.value is None else _variant(record)
            groups.setdefault(group, Counter())[record.verdict] += 1
    missing = groups.pop("not run", Counter()).total()
    parts = [
        f"{name}: {', '.join(f'{counts[v]} {v}' for v in VERDICTS if counts[v])}"
        for name, counts in groups.items()
    ]
    return "; ".join([*parts, f"{missing} not run"])


def frame(records: Sequence[Record]) -> pd.DataFrame:
    """The records as a table with one line each, sources and config flattened."""
    columns = [field.name for field in dataclasses.fields(Record)]
    rows = []
    for record in records:
        row = {name: getattr(record, name) for name in columns}
        for name, value in list(row.items()):
            if isinstance(value, Source):
                row[name] = f"{value.name} sha256:{value.sha256}"
        row["config"] = json.dumps(record.config, sort_keys=True)
        rows.append(row)
    return pd.DataFrame(rows, columns=columns)


def layout(records: Sequence[Record], table: str) -> tuple[list[list[str]], list[str], list[str]]:
    """Arrange a table's records as in the paper.

    One block a network, its settings and its variant, the most faithful first; one line a metric.

    Args:
        records: of this table.
        table: its name.

    Returns:
        Rows of text, headers, and the numbered notes that they refer to.
    """
    columns = [c for c in paper_columns(table) if c != "accuracy"]
    blocks: dict[tuple[object, ...], list[Record]] = {}
    accuracies: dict[tuple[object, ...], Record] = {}
    for record in records:
        if record.column == record.metric == "accuracy":
            accuracies[_inputs(record)] = record
        elif record.column in columns:
            blocks.setdefault(_block(record), []).append(record)

    notes: list[str] = []
    rows: list[list[str]] = []
    order = {name: i for i, name in enumerate(paper_rows(table))}
    for block in sorted(blocks.values(), key=lambda b: (order.get(b[0].row, 99), *_rank(b))):
        found = {(record.metric, record.column): record for record in block}
        trained = any(column.startswith("pretrained") for _, column in found)
        first = block[0]
        for i, metric in enumerate(LINES[table]):
            if not any((metric, column) in found for column in columns):
                continue
            accuracy = accuracies.get(_inputs(first)) if i == 0 and trained else None
            rows.append(
                [
                    display(first.row) if i == 0 else "",
                    _settings(first) if i == 0 else "",
                    METRIC_NAMES[metric],
                    *(cell_text(found.get((metric, column)), notes) for column in columns),
                    cell_text(accuracy, notes) if i == 0 else "",
                ]
            )
    return (
        rows,
        ["network", "input and settings", "criterion", *columns, METRIC_NAMES["accuracy"]],
        notes,
    )


def cell_text(record: Record | None, notes: list[str]) -> str:
    """One cell; the reason for not running goes to the notes, each reason once."""
    if record is None:
        return "—"
    paper = f" ({record.paper_value})" if record.paper_value is not None else ""
    if record.value is None:
        reason = record.reason or ""
        if reason not in notes:
            notes.append(reason)
        return f"not run, note {notes.index(reason) + 1}{paper}"
    verdict = f" {record.verdict}" if record.verdict else ""
    return f"{measured(record.value, record.stderr)}{paper}{verdict} [{record.fidelity}]"


def overview(records: Sequence[Record]) -> str:
    """Short tables for the terminal: one line a cell, the paper's values in brackets."""
    planes = [record for record in records if record.table == TABLE]
    sizes = [record for record in records if record.table == render_table3.TABLE]
    others = [r for r in records if r.table not in (TABLE, render_table3.TABLE)]
    parts = [
        write(mine)
        for write, mine in (
            (_overview, others),
            (render_table1.overview, planes),
            (render_table3.overview, sizes),
        )
        if mine
    ]
    return "\n\n".join(parts)


def _overview(records: Sequence[Record]) -> str:
    sign = {"reproduced": "=", "close": "~", "differs": "x"}
    metrics = ("kh1", "kh05", "re", "accuracy")
    lines: dict[tuple[object, ...], dict[str, Record]] = {}
    for record in records:
        line = lines.setdefault((*_block(record), record.column), {})
        line[record.metric] = record
    rows = []
    for line in lines.values():
        first = next(iter(line.values()))
        texts = []
        for metric in metrics:
            if metric not in line:
                texts.append("")
                continue
            record = line[metric]
            paper = f" [{record.paper_value}]" if record.paper_value else ""
            mark = f" {sign[record.verdict]}" if record.verdict in sign else ""
            texts.append(f"{measured(record.value, record.stderr)}{paper}{mark}")
        name = f"{display(first.row)} {first.column}"
        rows.append([name, _variant(first), first.fidelity or "", *texts])
    headers = ["cell", "variant", "fidelity", *(METRIC_NAMES[metric] for metric in metrics)]
    return (
        plain_table(rows, headers)
        + "\n[paper's value]  = reproduced  ~ close  x differs from the paper"
    )


def _block(record: Record) -> tuple[object, ...]:
    """What the records of one block share."""
    return (record.row, *settings_key(record), record.legacy, record.config.get("init"))


def _inputs(record: Record) -> tuple[object, ...]:
    """What an accuracy shares with the criteria on the same batches."""
    data = record.data.name if record.data else None
    side = record.config.get("side")
    return (record.row, data, side, record.batches, record.batch_size, record.seed)


def _rank(block: Sequence[Record]) -> tuple[object, ...]:
    """Sort key of a network's blocks: the most faithful first, plain before legacy."""
    first = block[0]
    fidelity = min(FIDELITIES.index(r.fidelity) if r.fidelity else 9 for r in block)
    amount = (first.batches or 0) * (first.probes or 0)
    return (
        first.data is None,
        first.fidelity == "substitute",
        -(first.batch_size or 0),
        -amount,
        fidelity,
        bool(first.legacy),
        str(first.config.get("init")),
        str(settings_key(first)),
    )


def _settings(record: Record) -> str:
    if record.data is None:
        return ""
    side = record.config.get("side")
    network = record.config.get("model") if side else None  # may be a stand-in, ViT's say
    parts = [
        *([str(network)] if network else []),
        display(record.data.name),
        f"{record.batches} x {record.batch_size} images" + (f" at {side} px" if side else ""),
        f"m {record.m}",
        f"{record.probes} probes",
        f"seed {record.seed}",
        str(record.dtype),
        _variant(record),
    ]
    return ", ".join(parts)


def _variant(record: Record) -> str:
    if record.legacy is None:
        return ""
    kind = "legacy" if record.legacy else "plain"
    init = record.config.get("init")
    return f"{kind}, {init} init" if init else kind
