"""Claims about every CNN, judged on the panel: how many of its networks agree."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import stats

from paper_tables.engine.exhibit import (
    ClaimScope,
    Decision,
    MissingError,
    Predicate,
    Records,
    Verdict,
)
from paper_tables.engine.records import Record
from paper_tables.evidence import criteria
from paper_tables.evidence.criteria import Rule, falls, stays
from paper_tables.evidence.intervals import combined
from paper_tables.evidence.rules import in_training, positive, symmetric
from paper_tables.exhibits.panel.cells import MEMBERS, TABLE

SCOPE = "panel"
LEAST = 3  # networks


def _over_networks(rule: Rule) -> Predicate:
    """A claim about every network: one that disagrees refutes it."""

    def predicate(records: Records) -> Decision:
        verdicts: dict[str, Verdict] = {}
        used: list[Record] = []
        mine = [record for record in records if record.table == TABLE]
        for member in MEMBERS:
            evidence = next(iter(criteria.evidence_on(mine, member.row)), None)
            if evidence is not None:
                decision = rule(evidence)
                verdicts[member.row] = decision.verdict
                used += decision.records
        if len(verdicts) < LEAST:
            raise MissingError(
                f"{len(verdicts)} of at least {LEAST} networks: --study computes them"
            )
        return Decision(combined(verdicts.values()), tuple(used), _in_words(verdicts))

    return predicate


def _in_words(verdicts: dict[str, Verdict]) -> str:
    """How many networks agree, with a 95 % interval of the share (Clopper and Pearson 1934)."""
    k, n = sum(verdict == "holds" for verdict in verdicts.values()), len(verdicts)
    share = stats.binomtest(k, n).proportion_ci(0.95)
    each = ", ".join(f"{row} {verdict}" for row, verdict in verdicts.items())
    return f"{k} of {n} networks, a share of {share.low:.2f} to {share.high:.2f}: {each}"


RULES: Sequence[tuple[str, Rule]] = (
    ("H.sym", symmetric(modes=("eval",))),  # all of them have BatchNorm, see H.resnet
    ("H.pos", positive),
    ("T2.kh05", in_training(falls, "kh05")),
    ("T2.kh1", in_training(stays, "kh1")),
    ("T2.re", in_training(falls, "re")),
)
CLAIMS: dict[ClaimScope, Predicate] = {
    ClaimScope(claim, SCOPE): _over_networks(rule) for claim, rule in RULES
}
