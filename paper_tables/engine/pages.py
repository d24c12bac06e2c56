"""The pages of an exhibit: its tables as Markdown and LaTeX, the records behind them as CSV."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lla.report import pages
from lla.report.view import Table
from paper_tables.engine.records import Record, Source, atomic_write

__all__ = ["FIDELITY", "LEGEND", "VERDICT", "frame", "overview", "write_csv", "write_pages"]

# What the marks of an entry mean.
VERDICT = {
    "reproduced": "within 2 standard errors and half a unit of the paper's last digit",
    "close": "within the paper's own scatter (15 % for K_H1, 30 % for K_H05, a factor of 3 for "
    "r_e, one standard deviation of a share of 64 images for an accuracy)",
    "differs": "else",
}
FIDELITY = {
    "paper": "the same model, data and settings",
    "reduced": "less of them",
    "substitute": "a stand-in, which is never judged",
}


def _listed(meanings: dict[str, str]) -> str:
    return "; ".join(f"*{word}*, {meaning}" for word, meaning in meanings.items())


LEGEND = (
    "An entry: measured ± standard error (the paper's value), verdict, [fidelity]. Verdict: "
    f"{_listed(VERDICT)}. Fidelity: {_listed(FIDELITY)}."
)


def write_pages(
    name: str, tables: Sequence[Table], records: Sequence[Record], results: Path
) -> None:
    """Write `<name>.md`, `.tex` and `.csv`.

    Args:
        name: of the files.
        tables: of the page, the one that it is named after first.
        records: that they are made of.
        results: the folder of results.
    """
    atomic_write(results / f"{name}.md", pages.markdown(tables, LEGEND))
    atomic_write(results / f"{name}.tex", pages.latex(tables, LEGEND))
    write_csv(name, records, results)


def write_csv(name: str, records: Sequence[Record], results: Path) -> None:
    """Write `<name>.csv`, one line a record."""
    atomic_write(results / f"{name}.csv", frame(records).to_csv(index=False))


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


def overview(tables: Sequence[Table]) -> str:
    """What was measured, for the terminal."""
    return pages.terminal(tables)
