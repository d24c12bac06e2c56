"""What the records were computed with, on which inputs, and by which commands."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lla.report.contents import Environment
from paper_tables.engine.records import Record, seconds_of

AIMS = {"tables": "Regenerate the tables, in a checkout", "tests": "Run the tests"}
README = Path(__file__).resolve().parents[2] / "README.md"


def environment(records: Sequence[Record]) -> Environment:
    """Gather the environment of all measured records."""
    measured = [record for record in records if record.value is not None]
    facts = {
        "code version": [r.code_version for r in measured],
        "torch": [r.torch for r in measured],
        "device": [r.device for r in measured],
        "processor": [r.cpu for r in measured],
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
    cells = seconds_of(measured)
    hours = sum(cells.values()) / 3600
    return Environment(
        lead=f"{len(measured)} records with a value, of {len(cells)} cells that took {hours:.1f} "
        "hours together.",
        facts=tuple((name, _counted(values)) for name, values in facts.items() if any(values)),
        inputs=tuple((*key, inputs[key]) for key in sorted(inputs)),
    )


def commands() -> tuple[tuple[str, str], ...]:
    """The commands of the README that make the results and test the code, each with its aim."""
    text = README.read_text(encoding="utf-8")
    found = re.findall(r"<!-- (\w+) command -->\n```sh\n(.+)\n```", text)
    return tuple((AIMS.get(name, name), command) for name, command in found)


def _allocator(record: Record) -> str | None:
    return {True: "tuned", False: "untuned", None: None}[record.allocator_tuned]


def _counted(values: Sequence[str | None]) -> tuple[tuple[str, int], ...]:
    """The values with their counts, the most frequent first, ties by name."""
    found = Counter(value for value in values if value)
    return tuple(sorted(found.items(), key=lambda item: (-item[1], item[0])))
