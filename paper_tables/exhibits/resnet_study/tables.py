"""The variants of ResNet18 in train mode, one line a variant and metric."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Table
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria_table
from paper_tables.exhibits.resnet_study.cells import TABLE


def tables(records: Sequence[Record]) -> list[Table]:
    """The study, if there are records of it."""
    return criteria_table.other(
        records, TABLE, "ResNet18 at random initialisation: what was tried for r_e"
    )
