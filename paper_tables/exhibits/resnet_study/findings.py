"""What the study of ResNet18 in train mode found, with numbers from records."""

from __future__ import annotations

from lla.report.text import measured
from paper_tables.engine.exhibit import Finding, Records
from paper_tables.evidence.criteria import every_evidence
from paper_tables.evidence.legends import legend
from paper_tables.exhibits.resnet_study.cells import TABLE, VARIANTS
from paper_tables.paper import paper_value

PAPERS_SIZE = "64 images, 224 pixels"  # one of the study's variants
CLOSE = 3.0  # the factor by which r_e scatters in the paper itself


def findings(records: Records) -> list[Finding]:
    """Whether anything that was tried gives ResNet18 the paper's r_e in train mode."""
    printed = paper_value("table2", "resnet18", "random/train", "re")
    order = [variant.name for variant in VARIANTS]
    study = {
        r.column: r
        for r in records
        if r.table == TABLE and r.metric == "re" and r.value is not None
    }
    tried = [study[name] for name in order if name in study]
    if not tried or printed is None:
        return []
    highest = max(tried, key=lambda r: r.value or 0.0)
    first = tried[0]
    text = legend(
        __file__,
        "tried",
        printed=printed,
        in_eval=paper_value("table2", "resnet18", "random/eval", "re"),
        first=first,
        side=first.config.get("side"),
        values="; ".join(f"{r.column} {measured(r.value, r.stderr)}" for r in tried),
    )
    largest = (highest.value or 0.0) + 2 * (highest.stderr or 0.0)
    if largest * CLOSE < float(printed):
        words = f"{measured(highest.value, highest.stderr)} ({highest.column})"
        text += " " + legend(__file__, "far", largest=words, printed=printed, first=first)
        if PAPERS_SIZE in study:
            text += (
                " Nor does the size of batch and pictures, which was the paper's in one setting."
            )
        else:
            text += f" The paper's own size ({PAPERS_SIZE}) is not computed yet."
    else:
        text += f" The setting '{highest.column}' comes within a factor of {CLOSE:g} of {printed}."
    faithful = [
        f"{e.batches} x {e.batch_size} pictures of {e.config.get('side')} pixels, m = {e.m}: "
        f"{measured(e.value, e.stderr)}"
        for e in every_evidence(records, "table2", "resnet18", "random/train", "re")
    ]
    if faithful:
        text += f" In Table 2 itself: {'; '.join(faithful)}."
    return [Finding(f"ResNet18 in train mode: the {printed}", text)]
