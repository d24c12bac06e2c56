"""What predicts generalization, in a paragraph with numbers from records."""

from __future__ import annotations

from paper_tables.engine.exhibit import Finding, Records
from paper_tables.evidence.legends import legend
from paper_tables.exhibits.generalization.prediction import headline, predictions
from paper_tables.exhibits.generalization.runs import runs


def findings(records: Records) -> list[Finding]:
    """Whether a Hessian criterion predicts the change of accuracy better than the plain loss."""
    found = predictions(runs(records))
    if not found:
        return []
    text = legend(__file__, "finding", headline=headline(found).replace("**", ""))
    return [Finding("Does a criterion predict generalization?", text)]
