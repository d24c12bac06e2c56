"""What was found beside the tables, as paragraphs whose every number comes from records."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lla.report.text import measured
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import evidence_on
from paper_tables.exhibits.generalization import prediction
from paper_tables.exhibits.generalization.runs import runs
from paper_tables.exhibits.resnet_study import cells as resnet_study
from paper_tables.exhibits.table4 import text_table as render_table4
from paper_tables.paper import paper_value
from paper_tables.paper.names import display

__all__ = ["Finding", "findings"]

PAPERS_SIZE = "64 images, 224 pixels"  # of the study's variants
CLOSE = 3.0  # the factor that r_e scatters by in the paper itself


@dataclass(frozen=True)
class Finding:
    """A paragraph under a title."""

    title: str
    text: str


def findings(records: Sequence[Record]) -> list[Finding]:
    """The paragraphs for which there are records."""
    found = [_resnet(records), _above_one(records), _new_images(records), _prediction(records)]
    return [finding for finding in found if finding is not None]


def _resnet(records: Sequence[Record]) -> Finding | None:
    """Whether anything that was tried gives ResNet18 the paper's r_e in train mode."""
    printed = paper_value("table2", "resnet18", "random/train", "re")
    order = [variant.name for variant in resnet_study.VARIANTS]
    study = {
        r.column: r
        for r in records
        if r.table == resnet_study.TABLE and r.metric == "re" and r.value is not None
    }
    tried = [study[name] for name in order if name in study]
    if not tried or printed is None:
        return None
    parts = [f"{r.column} {measured(r.value, r.stderr)}" for r in tried]
    highest = max(tried, key=lambda r: r.value or 0.0)
    first = tried[0]
    text = (
        f"Table 2 prints r_e = {printed} for ResNet18 at random initialisation in train mode, and "
        f"{paper_value('table2', 'resnet18', 'random/eval', 're')} in eval mode. "
        f"{first.batches} batches of {first.batch_size} pictures of {first.config.get('side')} "
        f"pixels and {first.m} Lanczos steps, one thing changed at a time, give: "
        f"{'; '.join(parts)}. "
    )
    largest = (highest.value or 0.0) + 2 * (highest.stderr or 0.0)
    if largest * CLOSE < float(printed):
        text += (
            f"The largest, {measured(highest.value, highest.stderr)} ({highest.column}), is far "
            f"from {printed}: neither initialisation nor labels, nor BatchNorm's epsilon, nor the "
            "loss of orthogonality explains it. "
        )
        if PAPERS_SIZE in study:
            text += "Nor does the size of batch and pictures, which was the paper's in one setting."
        else:
            text += f"The paper's own size ({PAPERS_SIZE}) is not computed yet."
    else:
        text += f"The setting '{highest.column}' comes within a factor of {CLOSE:g} of {printed}."
    faithful = [
        f"{e.batches} x {e.batch_size} pictures of {e.config.get('side')} pixels, m = {e.m}: "
        f"{measured(e.value, e.stderr)}"
        for e in _all(records, "resnet18", "random/train", "re")
    ]
    if faithful:
        text += f" In Table 2 itself: {'; '.join(faithful)}."
    return Finding(f"ResNet18 in train mode: the {printed}", text)


def _above_one(records: Sequence[Record]) -> Finding | None:
    """K_H1 above 1 where it cannot be: piecewise-linear networks in eval mode."""
    parts = []
    for row in ("squeezenet", "mobilenet"):
        printed = paper_value("table2", row, "random/eval", "kh1")
        for record in _all(records, row, "random/eval", "kh1")[:1]:
            parts.append(
                f"{display(row)} {measured(record.value, record.stderr)} (printed {printed}; "
                f"{record.batches} x {record.batch_size} pictures of "
                f"{record.config.get('side')} pixels, {record.probes} probes)"
            )
    if not parts:
        return None
    text = (
        "In eval mode these networks are piecewise linear, so the trace "
        "of the Hessian is not negative and the exact K_H1 is at most 1. What lies above, there as "
        "here, is the noise of few probes (a ratio of two noisy sums) or rounding: "
        f"{'; '.join(parts)}. Every cell is checked: its mean trace may be negative by no more "
        "than 3 standard errors over probes, where there are at least two."
    )
    return Finding("K_H1 above 1 in eval mode", text)


def _new_images(records: Sequence[Record]) -> Finding | None:
    """Which differences of Table 4 are larger than their noise."""
    found = render_table4.differences(records)
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
        yes = [f"{display(d.row)} {METRIC_NAMES[d.metric]}" for d in judged if d.paper_beyond]
        no = [f"{display(d.row)} {METRIC_NAMES[d.metric]}" for d in judged if not d.paper_beyond]
        text += (
            " Against the scatter of single batches measured here, its criteria differ beyond the "
            f"noise for {_listed(yes)}, and not for {_listed(no)}."
        )
    return Finding("Table 4: what is larger than the noise", text)


def _prediction(records: Sequence[Record]) -> Finding | None:
    """Whether a Hessian criterion predicts the change of accuracy better than the plain loss."""
    found = prediction.predictions(runs(records))
    if not found:
        return None
    text = (
        "Along the training runs of section 4 the change of each criterion from the training data "
        "to the other data set is compared with the change of the accuracy, by Kendall's rank "
        f"correlation. {prediction.headline(found).replace('**', '')} Table and intervals: "
        "prediction.md."
    )
    return Finding("Does a criterion predict generalization?", text)


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return names[0] if names else "none"
    return ", ".join(names[:-1]) + " and " + names[-1]


def _all(records: Iterable[Record], row: str, column: str, metric: str) -> list[Record]:
    """The plain records of a cell at every choice of settings, the most faithful first."""
    mine = [r for r in records if r.table == "table2"]
    return [
        found
        for evidence in evidence_on(mine, row)
        if (found := evidence.first(column, metric)) is not None
    ]
