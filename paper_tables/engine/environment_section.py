"""What the records were computed with, on which inputs, and by which commands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from paper_tables.engine.records import Record

__all__ = ["Environment", "commands", "environment"]

AIMS = {"tables": "Regenerate the tables, in a checkout", "tests": "Run the tests"}
README = Path(__file__).resolve().parents[2] / "README.md"


@dataclass(frozen=True)
class Environment:
    """Distinct facts with the number of records that have them."""

    software: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]  # fact, (value, records)
    inputs: tuple[tuple[str, str, str, int], ...]  # kind, name, sha256, records
    measured: int  # records with a value
    cells: int
    seconds: float  # of all cells together


def environment(records: Sequence[Record]) -> Environment:
    """Gather the environment of all measured records."""
    measured = [record for record in records if record.value is not None]
    facts = {
        "code version": [r.code_version for r in measured],
        "torch": [r.torch for r in measured],
        "device": [r.device for r in measured],
        "threads": [None if r.threads is None else str(r.threads) for r in measured],
        "type of numbers": [r.dtype for r in measured],
        "profile": [r.profile for r in measured],
        "allocator": [_allocator(r) for r in measured],
    }
    inputs = Counter(
        (kind, source.name, source.sha256)
        for record in measured
        for kind, source in (("data", record.data), ("weights", record.weights))
        if source is not None
    )
    cells = {(r.table, r.row, r.column, r.config_hash): r.seconds or 0.0 for r in measured}
    return Environment(
        software=tuple((name, _counted(values)) for name, values in facts.items() if any(values)),
        inputs=tuple((*key, inputs[key]) for key in sorted(inputs)),
        measured=len(measured),
        cells=len(cells),
        seconds=sum(cells.values()),
    )


def commands() -> tuple[tuple[str, str], ...]:
    """The commands of the README that make the results and test the code, each with its aim."""
    text = README.read_text(encoding="utf-8")
    found = re.findall(r"<!-- (\w+) command -->\n```sh\n(.+)\n```", text)
    return tuple((AIMS.get(name, name), command) for name, command in found)


def _allocator(record: Record) -> str | None:
    return {True: "tuned", False: "untuned", None: None}[record.allocator_tuned]


def _counted(values: Sequence[str | None]) -> tuple[tuple[str, int], ...]:
    """Most frequent first; equal ones by name."""
    found = Counter(value for value in values if value)
    return tuple(sorted(found.items(), key=lambda item: (-item[1], item[0])))
