"""Which differences of Table 4 are larger than their noise, with numbers from records."""

from __future__ import annotations

from collections.abc import Sequence

from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.exhibit import Finding, Records
from paper_tables.exhibits.table4.differences import differences
from paper_tables.paper.names import display


def findings(records: Records) -> list[Finding]:
    """Which differences of Table 4 are larger than their noise."""
    found = differences(records)
    seen = [d for d in found if d.metric == "accuracy"]
    beyond = [display(d.row) for d in seen if d.paper_beyond]
    within = [display(d.row) for d in seen if not d.paper_beyond]
    text = (
        "The paper has one batch of 64 pictures a set and no error bar. By Fisher's exact test at "
        f"5 % its accuracy differs between the sets for {_listed(beyond)}, and does not for "
        f"{_listed(within)} (ViT's 87.5 and 89.1 % are 56 and 57 pictures of 64)."
    )
    judged = [d for d in found if d.metric != "accuracy" and d.paper_beyond is not None]
    if judged:
        yes, no = (
            [f"{display(d.row)} {METRIC_NAMES[d.metric]}" for d in judged if d.paper_beyond is word]
            for word in (True, False)
        )
        text += (
            " Against the scatter of single batches measured here, its criteria differ beyond the "
            f"noise for {_listed(yes)}, and not for {_listed(no)}."
        )
    return [Finding("Table 4: what is larger than the noise", text)]


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return names[0] if names else "none"
    return ", ".join(names[:-1]) + " and " + names[-1]
