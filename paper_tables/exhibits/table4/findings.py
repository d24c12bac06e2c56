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
    found = [d for d in differences(records) if d.paper_beyond is not None]
    seen = [d for d in found if d.metric == "accuracy"]
    judged = [d for d in found if d.metric != "accuracy"]
    beyond, within = (
        _listed([display(d.row) for d in seen if d.paper_beyond is word]) for word in (True, False)
    )
    text = legend(__file__, "finding", beyond=beyond, within=within)
    if judged:
        beyond, within = (
            _listed(
                [
                    f"{display(d.row)} {METRIC_NAMES[d.metric]}"
                    for d in judged
                    if d.paper_beyond is word
                ]
            )
            for word in (True, False)
        )
        text += " " + legend(__file__, "finding on criteria", beyond=beyond, within=within)
    return [Finding("Table 4: what is larger than the noise", text)]


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return names[0] if names else "none"
    return ", ".join(names[:-1]) + " and " + names[-1]
