"""What pages share: the legend of their marks, and records as a table."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import pandas as pd

from lla.report.view import Table
from paper_tables.engine.records import Record, Source

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
    "replication": "the same question on other networks or data of the same kind",
    "substitute": "a stand-in, which is never judged",
}


def _listed(meanings: dict[str, str]) -> str:
    return "; ".join(f"*{word}*, {meaning}" for word, meaning in meanings.items())


LEGEND = (
    "An entry: measured ± standard error (the paper's value), verdict, [fidelity]. Verdict: "
    f"{_listed(VERDICT)}. Fidelity: {_listed(FIDELITY)}."
)

PLAIN_LEGEND = f"An entry: measured ± standard error, [fidelity]. Fidelity: {_listed(FIDELITY)}."


def legend(tables: Sequence[Table]) -> str:
    """The legend of a page: of all marks where printed values stand beside the measured ones.

    Args:
        tables: of the page.
    """
    found = [(group, entry) for table in tables for group, entry in table.entries]
    if any(entry.paper is not None or entry.verdict in VERDICT for _, entry in found):
        return LEGEND
    marked = any(group.fidelity or entry.fidelity for group, entry in found)
    lines = (line for table in tables for group in table.groups for line in group.lines)
    return PLAIN_LEGEND if marked or any(line.fidelity for line in lines) else ""


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
