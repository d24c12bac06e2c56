"""Which differences of Table 4 are larger than their noise, with numbers from records."""

from __future__ import annotations

from collections.abc import Sequence

from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.exhibit import Finding, Records
from paper_tables.evidence.legends import legend
from paper_tables.exhibits.table4.differences import differences
from paper_tables.paper.names import display


def findings(records: Records) -> list[Finding]:
    """Which differences of Table 4 are larger than their noise."""
    found = differences(records)

    def named(of_accuracy: bool) -> dict[str, str]:
        """The networks, by whether their difference is beyond the noise."""
        names: dict[bool | None, list[str]] = {True: [], False: [], None: []}
        for d in found:
            if (d.metric == "accuracy") is of_accuracy:
                metric = "" if of_accuracy else f" {METRIC_NAMES[d.metric]}"
                names[d.paper_beyond].append(display(d.row) + metric)
        return {"beyond": _listed(names[True]), "within": _listed(names[False])}

    text = legend(__file__, "finding", **named(of_accuracy=True))
    if any(d.paper_beyond is not None for d in found if d.metric != "accuracy"):
        text += " " + legend(__file__, "finding on criteria", **named(of_accuracy=False))
    return [Finding("Table 4: what is larger than the noise", text)]


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return names[0] if names else "none"
    return ", ".join(names[:-1]) + " and " + names[-1]
