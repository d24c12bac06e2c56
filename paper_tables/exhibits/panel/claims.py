"""Claims about every network, judged on the panel: how many of its networks agree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from paper_tables.evidence.criteria import Evidence, Rule, falls, in_words, stays, value_of
from paper_tables.evidence.intervals import combined
from paper_tables.evidence.rules import (
    ENOUGH,
    in_training,
    kh05_against_accuracy,
    orders,
    positive,
    rank_correlation,
    re_rises,
    symmetric,
)
from paper_tables.exhibits.panel.cells import MEMBERS, NEW, TABLE, Member

SCOPE = "panel"
LEAST = 3  # networks


def _evidence(records: Records, member: Member) -> Iterator[Evidence]:
    """The records of a network at each choice of settings, with the accuracy on their images."""
    mine = [record for record in records if record.table == TABLE and record.value is not None]
    seen = [r for r in mine if r.row == member.row and r.metric == "accuracy"]
    for evidence in criteria.evidence_on(mine, member.row, across_data=True):
        drawn = {(r.weights, r.batch_sha256) for r in evidence.records}
        same = (r for r in seen if (r.weights, r.batch_sha256) in drawn)
        yield Evidence((*evidence.records, *same))


def _over_networks(rule: Rule) -> Predicate:
    """A claim about every network: one that disagrees refutes it."""

    def predicate(records: Records) -> Decision:
        verdicts: dict[str, Verdict] = {}
        used: list[Record] = []
        for member in MEMBERS:
            for evidence in _evidence(records, member):
                try:
                    decision = rule(evidence)
                except MissingError:  # other settings may have all; the note counts the networks
                    continue
                verdicts[member.row] = decision.verdict
                used += decision.records
                break
        if len(verdicts) < LEAST:
            raise _too_few(len(verdicts), LEAST)
        return Decision(combined(verdicts.values()), tuple(used), _in_words(verdicts))

    return predicate


def _not_ordered(records: Records) -> Decision:
    """Whether K_H05 of the networks on ImageNet orders them by accuracy (claim T2.noabs)."""
    pairs = []
    for member in MEMBERS:
        for evidence in _evidence(records, member) if member.data == "imagenet" else ():
            seen = evidence.first("accuracy", "accuracy")
            kh05 = evidence.first("pretrained/eval", "kh05")
            if seen is not None and kh05 is not None:
                pairs.append((seen, kh05))
                break
    if len(pairs) < ENOUGH:
        raise _too_few(len(pairs), ENOUGH)
    found = rank_correlation(map(value_of, pair) for pair in pairs)
    used = tuple(record for pair in pairs for record in pair)
    note = f"rank correlation of {len(pairs)} networks {found:.2f}; {in_words(used)}"
    return Decision(orders(found), used, note)


def _too_few(count: int, least: int) -> MissingError:
    return MissingError(f"{count} of at least {least} networks: --study computes them")


def _in_words(verdicts: dict[str, Verdict]) -> str:
    """How many networks agree, with a 95 % interval of the share (Clopper and Pearson 1934)."""
    k, n = sum(verdict == "holds" for verdict in verdicts.values()), len(verdicts)
    share = stats.binomtest(k, n).proportion_ci(0.95)
    each = ", ".join(f"{row} {verdict}" for row, verdict in verdicts.items())
    return f"{k} of {n} networks, a share of {share.low:.2f} to {share.high:.2f}: {each}"


def _old(evidence: Evidence, metric: str) -> Record:
    """A metric of the trained network on its own images."""
    return evidence.find("accuracy" if metric == "accuracy" else "pretrained/eval", metric)


def _new(evidence: Evidence, metric: str) -> Record:
    """The same on new photographs."""
    return evidence.find(f"{NEW}/{'accuracy' if metric == 'accuracy' else 'eval'}", metric)


RULES: Sequence[tuple[str, Rule]] = (
    ("H.sym", symmetric(modes=("eval",))),  # nearly all of them have BatchNorm, see H.resnet
    ("H.pos", positive),
    ("T2.kh05", in_training(falls, "kh05")),
    ("T2.kh1", in_training(stays, "kh1")),
    ("T2.re", in_training(falls, "re")),
    ("T4.kh05", kh05_against_accuracy(_old, _new)),
    ("T4.re", re_rises(_old, _new)),
)
CLAIMS: dict[ClaimScope, Predicate] = {
    ClaimScope(claim, SCOPE): _over_networks(rule) for claim, rule in RULES
} | {ClaimScope("T2.noabs", SCOPE): _not_ordered}
