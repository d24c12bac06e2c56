"""Claims on spectra and criteria before and after training (sections 3.2 and 3.3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from paper_tables import paper
from paper_tables.engine.exhibit import ClaimScope, Decision, MissingError, Predicate
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria
from paper_tables.evidence.criteria import (
    ALMOST_NONE,
    CRITERIA,
    MARGIN,
    MODES,
    NO_FALL,
    Evidence,
    Rule,
    falls,
    in_words,
    stays,
)
from paper_tables.evidence.intervals import combined
from paper_tables.evidence.legends import legend
from paper_tables.evidence.rules import (
    ENOUGH,
    in_training,
    orders,
    positive,
    rank_correlation,
    symmetric,
)

LARGE_RE = 2.0  # "asymmetric": r_e lies above
LARGE_SHARE = 0.25  # "a large negative part": at least this share of the magnitude

LEGEND = legend(
    __file__,
    "claims",
    low=MARGIN[0],
    high=MARGIN[1],
    almost_none=ALMOST_NONE,
    large_share=LARGE_SHARE,
    no_fall=NO_FALL,
    large_re=LARGE_RE,
)


def _along_training(evidence: Evidence) -> Decision:
    columns = ("random/eval", "during/eval", "pretrained/eval")
    used = [evidence.find(column, "negative_share") for column in columns]
    steps = [falls(first, second) for first, second in itertools.pairwise(used)]
    note = f"{in_words(used)}; init to during: {steps[0]}, during to after: {steps[1]}"
    return Decision(combined(steps), tuple(used), note)


def _asymmetric_in_train_mode(evidence: Evidence) -> Decision:
    train, evaluated = (evidence.find(f"random/{mode}", "re") for mode in MODES)
    first, second = criteria.REVERSED[criteria.below(train, LARGE_RE)], criteria.near_one(evaluated)
    printed = f"; the paper's {train.paper_value} is judged in Table 2" if train.paper_value else ""
    note = (
        f"{in_words([train, evaluated])}; train above {LARGE_RE:g}: {first}, eval near 1: {second}"
    )
    return Decision(combined([first, second]), (train, evaluated), note + printed)


def _keeps_negative_part(evidence: Evidence) -> Decision:
    used = [evidence.find(f"pretrained/{mode}", "negative_share") for mode in MODES]
    verdicts = [criteria.REVERSED[criteria.below(record, LARGE_SHARE)] for record in used]
    shown = [evidence.find(f"pretrained/{mode}", m) for mode in MODES for m in ("kh1", "re")]
    return Decision(combined(verdicts), tuple(used), in_words([*used, *shown]))


def not_ordered(records: Sequence[Record]) -> Decision:
    """Whether K_H05 of pre-trained networks orders them by accuracy (claim T2.noabs).

    Raises:
        MissingError: fewer than four networks were measured with equal size and steps.
    """
    rows = paper.tables()["table2"]["rows"]
    printed = rank_correlation(
        (float(cells["accuracy"]["accuracy"]), float(cells["pretrained/eval"]["kh05"]))
        for cells in rows.values()
    )
    pairs: dict[str, tuple[Record, Record]] = {}
    for row in rows:
        for evidence in criteria.evidence_on(records, row):
            kh05 = evidence.first("pretrained/eval", "kh05")
            seen = [
                r for r in records
                if (r.table, r.row, r.column, r.metric) == ("table2", row, "accuracy", "accuracy")
                and r.value is not None and kh05 and r.weights == kh05.weights
                and r.batch_sha256 == kh05.batch_sha256
            ]  # fmt: skip
            if kh05 and seen and kh05.fidelity != "substitute" and row not in pairs:
                pairs[row] = (seen[0], kh05)
    note = f"rank correlation of the paper's own six: {printed:.2f}"
    if len(pairs) < ENOUGH:
        files = (criteria.needs(criteria.absent_of(records, r)) for r in rows if r not in pairs)
        raise MissingError(
            f"{len(pairs)} of at least {ENOUGH} pre-trained networks with K_H05 and accuracy "
            f"({', '.join(pairs) or 'none'}); {'; '.join(filter(None, [*files, note]))}"
        )
    used = [record for pair in pairs.values() for record in pair]
    found = rank_correlation(map(criteria.value_of, pair) for pair in pairs.values())
    note = f"rank correlation of {len(pairs)} networks {found:.2f}; {note}"
    return Decision(orders(found), tuple(used), note)


_BATCHNORM = ("resnet18", "mobilenet")  # networks whose modes differ by BatchNorm
_CNNS = ("lenet", "resnet18", "alexnet", "squeezenet", "mobilenet")
_SPECTRA = tuple(f"{state}/{mode}" for mode in MODES for state in ("random", "pretrained"))


def _rules() -> dict[tuple[str, str], Rule]:
    """The rules on single networks, by claim and scope."""
    found: dict[tuple[str, str], Rule] = {
        ("H.sym", "lenet"): symmetric(),
        ("H.sym", "lenet, uniform init"): symmetric("uniform"),
        ("H.train", "lenet"): _along_training,
        ("H.resnet", "resnet18"): _asymmetric_in_train_mode,
        ("H.vit", "vit"): _keeps_negative_part,
        ("T2.vit", "vit"): in_training(falls, *CRITERIA, states=("pretrained", "random")),
        ("T2.kh1", "lenet"): in_training(falls, "kh1"),
    }
    for row in paper.paper_rows("table2"):
        found["T2.cell", row] = criteria.every_cell(_SPECTRA, CRITERIA)
        if row != "lenet":
            found["H.sym", row] = symmetric(modes=("eval",) if row in _BATCHNORM else MODES)
        if row in _CNNS:
            found["H.pos", row] = positive
            found["T2.kh05", row] = in_training(falls, "kh05")
            found["T2.re", row] = in_training(falls, "re")
            if row != "lenet":
                found["T2.kh1", row] = in_training(stays, "kh1")
    return found


CLAIMS: dict[ClaimScope, Predicate] = {
    ClaimScope(claim, scope): criteria.on_first(scope.split(",")[0], rule)
    for (claim, scope), rule in _rules().items()
} | {ClaimScope("T2.noabs", "all"): not_ordered}
