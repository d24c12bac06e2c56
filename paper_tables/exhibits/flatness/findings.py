"""What was found of exact flatness, in a paragraph with numbers from records."""

from __future__ import annotations

from paper_tables.engine.exhibit import Finding, Records
from paper_tables.evidence.legends import legend
from paper_tables.exhibits.flatness.correlation import correlations, members, verdict
from paper_tables.paper.names import display


def findings(records: Records) -> list[Finding]:
    """Whether relative flatness follows the generalization gap, on the most faithful family."""
    for each in members(records):
        found = correlations(each)
        taus = {(c.measure, c.rescaled): c.tau for c in found if not c.filtered}
        if not taus:
            continue
        spread, error = each.spread["gap_loss"]
        text = legend(
            __file__, "finding", count=len(each.values), name=display(each.name),
            fidelity=each.fidelity, tau=taus["kappa", False], trace=taus["trace", False],
            tau_after=taus["kappa", True], trace_after=taus["trace", True],
            verdict=_first_upper(verdict(found)),
            spread=spread, error=error,
        )  # fmt: skip
        return [Finding("Does relative flatness follow the generalization gap?", text)]
    return []


def _first_upper(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
