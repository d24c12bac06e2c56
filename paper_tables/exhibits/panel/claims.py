"""Claims about every CNN, judged on the panel: how many of its networks agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
from paper_tables.evidence.criteria import (
    ALMOST_NONE,
    MODES,
    Evidence,
    below,
    falls,
    near_one,
    stays,
)
from paper_tables.evidence.intervals import combined
from paper_tables.exhibits.panel.cells import MEMBERS, TABLE

SCOPE = "panel"
LEAST = 3  # networks

Rule = Callable[[Evidence], tuple[Verdict, list[Record]]]


def _compared(metric: str, judge: Callable[[Record, Record], Verdict]) -> Rule:
    """A rule: a judge compares random and trained weights, in both modes."""

    def rule(evidence: Evidence) -> tuple[Verdict, list[Record]]:
        pairs = [
            [evidence.find(f"{state}/{mode}", metric) for state in ("random", "pretrained")]
            for mode in MODES
        ]
        verdict = combined(judge(*pair) for pair in pairs)
        return verdict, [record for pair in pairs for record in pair]

    return rule


def _symmetric(evidence: Evidence) -> tuple[Verdict, list[Record]]:
    """In eval mode: of train mode the paper says otherwise where there is BatchNorm."""
    used = [evidence.find("random/eval", metric) for metric in criteria.CRITERIA]
    return combined(map(near_one, used)), used


def _positive(evidence: Evidence) -> tuple[Verdict, list[Record]]:
    used = [evidence.find(f"pretrained/{mode}", "negative_share") for mode in MODES]
    return combined(below(record, ALMOST_NONE) for record in used), used


def _over_networks(rule: Rule) -> Predicate:
    """A claim about every network: one that disagrees refutes it."""

    def predicate(records: Records) -> Decision:
        verdicts: dict[str, Verdict] = {}
        used: list[Record] = []
        mine = [record for record in records if record.table == TABLE]
        for member in MEMBERS:
            for evidence in criteria.evidence_on(mine, member.row):
                verdicts[member.row], found = rule(evidence)
                used += found
                break
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
    ("H.sym", _symmetric),
    ("H.pos", _positive),
    ("T2.kh05", _compared("kh05", falls)),
    ("T2.kh1", _compared("kh1", stays)),
    ("T2.re", _compared("re", falls)),
)
CLAIMS: dict[ClaimScope, Predicate] = {
    ClaimScope(claim, SCOPE): _over_networks(rule) for claim, rule in RULES
}
