"""The table of what each verdict cost to compute."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.answer import cost
from paper_tables.engine.claims import Judgement

COLUMNS = ("minutes", "MiB", "data", "on")
LEGEND = (
    "Time and memory of the cells that a verdict rests on, as they were computed; cells that "
    "several verdicts share count in each. Claims without computed cells are left out. `lla claims "
    "verify` computes one again, with the settings of the quick profile, so its time may differ."
)


def costs(judgements: Sequence[Judgement]) -> Table:
    """One line for each claim and scope that was computed, a group for each work."""
    groups: dict[str, list[Line]] = {}
    for judgement in judgements:
        found = cost(judgement.records)
        if found is None:
            continue
        entries = (
            Entry(f"{found.minutes:.1f}"), Entry(f"{found.memory_mib:.0f}"),
            Entry(", ".join(found.data)), Entry("; ".join(found.hardware)),
        )  # fmt: skip
        groups.setdefault(judgement.work, []).append(Line(judgement.slug, entries))
    made = tuple(Group(work, "", tuple(lines)) for work, lines in groups.items())
    return Table(
        "costs", "What the verdicts cost", LEGEND, COLUMNS, made, heads=("work", "claim"),
        folded=True,
    )  # fmt: skip
