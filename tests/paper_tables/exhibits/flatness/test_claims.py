import numpy as np
import pytest

from paper_tables.engine.claims import judge
from paper_tables.exhibits.flatness import EXHIBIT, costs
from tests.paper_tables.planted_flatness import cost, formulas, networks_of

RNG = np.random.default_rng(0)
GAPS = RNG.uniform(0.1, 1.0, 24)


def judged(records, claim, scope="all"):
    found = judge(records, [EXHIBIT])
    (one,) = [j for j in found if (j.claim.id, j.scope) == (claim, scope)]
    return one


def test_every_scope_has_a_predicate():
    scopes = {(c.id, scope) for c in EXHIBIT.statements for scope in c.scopes}
    assert scopes == {tuple(key) for key in EXHIBIT.claims}


@pytest.mark.parametrize(("error", "verdict"), [(1e-13, "holds"), (1e-9, "fails")])
def test_identities_and_invariance(error, verdict):
    records = formulas(error)
    assert judged(records, "flatness.identities").verdict == verdict
    assert judged(records, "flatness.channels").verdict == verdict
    for kind in ("layer scaled", "filters scaled"):
        assert judged(records, "flatness.invariant", kind).verdict == verdict


def test_a_missing_architecture_is_named():
    records = [r for r in formulas() if r.row != "LeNet"]
    one = judged(records, "flatness.identities")
    assert (one.verdict, one.note) == ("not_run", "not computed yet: identities of LeNet")


def test_channels_that_change_nothing_fail():
    one = judged(formulas(ratio=1.0), "flatness.channels")
    assert one.verdict == "fails"
    assert "plain CNN 1" in one.note


@pytest.mark.parametrize(
    ("kappa", "verdict"),
    [(GAPS**2, "holds"), (-GAPS, "fails"), (RNG.normal(size=24), "undecided")],
)
def test_a_correlation_is_judged_by_its_interval(kappa, verdict):
    one = judged(networks_of(GAPS, kappa=kappa), "flatness.correlation", "mnist")
    assert one.verdict == verdict
    assert "gaps scatter by" in one.note


def test_a_correlation_on_digits_is_shown_and_not_judged():
    records = networks_of(GAPS, "digits", "substitute", kappa=GAPS)
    one = judged(records, "flatness.correlation", "digits")
    assert one.verdict == "not_run"
    assert one.note.startswith("computed with a stand-in: data; it would be 'holds': tau +1")


def test_kappa_has_to_win_against_every_measure():
    records = networks_of(GAPS, kappa=GAPS)
    assert judged(records, "flatness.wins", "mnist").verdict == "holds"
    records = networks_of(GAPS, kappa=GAPS, trace=GAPS)
    assert judged(records, "flatness.wins", "mnist").verdict == "undecided"
    records = networks_of(GAPS, trace=GAPS)
    assert judged(records, "flatness.wins", "mnist").verdict == "fails"


def test_few_networks_are_not_judged():
    one = judged(networks_of(GAPS[:9]), "flatness.correlation", "mnist")
    assert (one.verdict, "there are 9" in one.note) == ("not_run", True)
    assert "--real-data" in judged([], "flatness.wins", "cifar10").note


@pytest.mark.parametrize(
    ("speedup", "verdict"), [(40.0, "holds"), (22.0, "undecided"), (10.0, "fails")]
)
def test_costs_are_judged_by_their_interval(speedup, verdict):
    assert judged(cost(speedup), "flatness.cost", "resnet20").verdict == verdict


def test_the_most_faithful_cost_counts():
    stand_in = cost(10.0, fidelity="substitute", column=costs.BLOCKS)
    one = judged(stand_in, "flatness.cost_blocks", "resnet20")
    assert one.verdict == "not_run"
    assert "'holds'" in one.note
