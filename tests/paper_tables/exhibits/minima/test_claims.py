import dataclasses

import pytest

from paper_tables.engine import claims
from paper_tables.exhibits import find
from paper_tables.exhibits.minima import EXHIBIT
from paper_tables.exhibits.minima.claims import CLAIMS
from paper_tables.exhibits.minima.measured import CHEAP, INDEX
from tests.paper_tables.planted_minima import balls, minima, minimum, scanned


def judged(records, claim, scope="mnist"):
    (found,) = [
        j for j in claims.judge(records, find())
        if (j.claim.id, j.scope) == (f"minima.{claim}", scope)
    ]  # fmt: skip
    return found


def test_every_scope_of_a_claim_is_judged():
    stated = {(c.id, scope) for c in EXHIBIT.statements for scope in c.scopes}
    assert stated == set(CLAIMS)


@pytest.mark.parametrize("claim", sorted({scope.claim for scope in CLAIMS}))
def test_nothing_is_judged_without_records(claim):
    scope = next(each.scope for each in CLAIMS if each.claim == claim)
    assert judged([], claim.removeprefix("minima."), scope).verdict == "not_run"


@pytest.mark.parametrize(
    ("claim", "bad", "verdict"),
    [
        ("accuracy", {}, "holds"),
        ("accuracy", {"test_accuracy": 80.0}, "fails"),
        ("accuracy", {"test_accuracy": 65.0}, "undecided"),
        ("radius", {}, "holds"),
        ("radius", {"mean_radius": 0.3}, "fails"),
        ("radius", {"mean_radius": 0.41 / 3}, "undecided"),
        ("index", {}, "holds"),
        ("index", {INDEX: -8500.0}, "fails"),
        ("index", {INDEX: -9000.0}, "undecided"),
    ],
)
def test_good_and_bad_are_compared_by_their_interval(claim, bad, verdict):
    found = judged(minima(**bad), claim)
    assert found.verdict == verdict
    assert "b = 0.1" in found.note
    assert "b = 0.3" in found.note


def test_radii_of_minima_that_are_equally_good_are_not_compared():
    found = judged(minima(test_accuracy=95.0), "radius")
    assert found.verdict == "undecided"
    assert "not judged: test accuracies are" in found.note


def test_the_strongest_poison_decides_and_what_was_not_reached_is_left_out():
    records = minima()
    for seed in range(3):
        records += minimum("mnist", "b = 0.9", 0.9, seed, reached=False, test_accuracy=94.0)
    found = judged(records, "accuracy")
    assert found.verdict == "holds"
    assert "natural less b = 0.3" in found.note
    assert "0.9" not in found.note


def test_a_weaker_poison_alone_is_not_judged():
    found = judged(minima(shares=(0.1,)), "accuracy")
    assert found.verdict == "not_run"
    assert "poison with b = 0.3 of mnist" in found.note


def test_one_seed_is_not_judged():
    found = judged(minima(seeds=1), "radius")
    assert found.verdict == "not_run"
    assert "--real-data" in found.note


@pytest.mark.parametrize(("change", "verdict"), [(1e-9, "holds"), (1e-4, "fails")])
def test_radii_under_rescaling(change, verdict):
    records = [*minima(), *minimum("mnist", "b = 0.1", 0.1, 9, radius_change=change)]
    found = judged(records, "rescaled")
    assert found.verdict == verdict
    assert "over 10 minima (b = 0.1, seed 9)" in found.note


def ordered(pairs):
    """Good minima, and poisoned ones, two of a share, with some test accuracies and indices."""
    found = [r for s in range(2) for r in minimum("mnist", "natural", 0.0, s)]
    for seed, (accuracy, index) in enumerate(pairs):
        values = {"test_accuracy": accuracy, INDEX: index}
        share = (1 + seed // 2) / 10
        found += minimum("mnist", f"b = {share}", share, seed % 2, **values)
    return found


@pytest.mark.parametrize(
    ("pairs", "verdict"),
    [
        ([(40 + i, -9000 + i) for i in range(10)], "fails"),
        ([(40 + i, -9000 - i) for i in range(10)], "holds"),
        ([(40 + i, -9000 + (i * 4) % 9) for i in range(10)], "undecided"),
        ([(40 + i, -9000 + i) for i in range(6)], "undecided"),  # three shares are too few
        ([(40 + i, -9000 + i) for i in range(4)], "not_run"),
    ],
)
def test_the_order_of_bad_minima(pairs, verdict):
    assert judged(ordered(pairs), "order").verdict == verdict


def test_measures_that_tell_good_from_bad():
    assert judged(minima(), "cheap").verdict == "holds"
    one = [  # a single network of three is told from no bad one by the trace
        dataclasses.replace(r, value=9.0)
        if (r.metric, r.column) == ("trace", "natural, seed 0") else r
        for r in minima()
    ]  # fmt: skip
    assert judged(one, "cheap").verdict == "undecided"
    mixed = judged(minima(kh05=1.0), "cheap")  # within 1 % of that of good ones
    assert mixed.verdict == "fails"
    assert "index 1.00" in mixed.note
    assert all(f"{name} 1.00" in mixed.note for name in ("trace", "largest eigenvalue"))
    assert list(CHEAP)[-1] == "kh05"


def test_curvatures_at_different_losses_are_not_compared():
    found = judged(minima(training_loss=1e-6), "cheap")
    assert found.verdict == "undecided"
    assert "the training losses are 0.01 and 1e-06" in found.note


@pytest.mark.parametrize(
    ("values", "verdict"),
    [({}, "holds"), ({"off": 1e-3}, "fails"), ({"shortfall": 900.0}, "fails")],
)
def test_the_calibration(values, verdict):
    found = judged(balls(**values), "calibration", "all")
    assert found.verdict == verdict
    assert "n = 3488, spread 2" in found.note


@pytest.mark.parametrize(
    ("claim", "values", "verdict"),
    [
        ("scan", {}, "holds"),
        ("scan", {"informed": 16000.0}, "fails"),
        ("scan", {"difference": 1e-3}, "fails"),
        ("cost", {}, "holds"),
        ("cost", {"seconds": 21.0}, "fails"),
    ],
)
def test_what_the_index_costs(claim, values, verdict):
    found = judged(scanned(**values), claim, "digits")
    assert found.verdict == verdict
    assert {"scan": "in place of 60", "cost": "by the full scan"}[claim] in found.note


def test_stand_ins_are_never_judged():
    found = judged(minima("digits", (0.1, 0.5), fidelity="substitute"), "accuracy", "digits")
    assert (found.verdict, "'holds'" in found.note) == ("not_run", True)
