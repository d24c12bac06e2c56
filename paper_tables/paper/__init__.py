"""What the paper prints and claims, as data: `tables.json` and `claims.json`."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

__all__ = ["WORK", "Claim", "claims", "paper_columns", "paper_rows", "paper_value", "tables"]


WORK = "arXiv:2412.10146"


@dataclass(frozen=True)
class Claim:
    """A claim of the paper and the scopes in which it is judged."""

    id: str
    where: str  # section, table or figure
    statement: str
    decided_by: str  # what evidence decides it
    scopes: dict[str, str | None]  # scope -> None if it can be judged now, else what is missing


@functools.cache
def tables() -> dict[str, Any]:
    """All printed values; each is a text, because its last digit is part of a verdict."""
    return json.loads(_read("tables.json"))


@functools.cache
def claims() -> tuple[Claim, ...]:
    """All claims to verify, in the order of the paper."""
    return tuple(Claim(**entry) for entry in json.loads(_read("claims.json")))


def paper_value(table: str, row: str, column: str, metric: str) -> str | None:
    """The value that the paper prints in a cell, or None where it prints none.

    >>> paper_value("table2", "lenet", "pretrained/train", "re")
    '5e-4'
    """
    return tables().get(table, {}).get("rows", {}).get(row, {}).get(column, {}).get(metric)


def paper_rows(table: str) -> tuple[str, ...]:
    """The rows of a table in the paper's order.

    >>> paper_rows("table2")[:2]
    ('lenet', 'resnet18')
    """
    return tuple(tables().get(table, {}).get("rows", {}))


def paper_columns(table: str) -> tuple[str, ...]:
    """The columns of a table in the paper's order.

    >>> paper_columns("table2")
    ('random/train', 'pretrained/train', 'random/eval', 'pretrained/eval', 'accuracy')
    """
    rows = tables().get(table, {}).get("rows", {})
    return tuple(dict.fromkeys(column for row in rows.values() for column in row))


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
