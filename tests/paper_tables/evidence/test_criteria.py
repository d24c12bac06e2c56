import dataclasses

import pytest

from paper_tables.engine.exhibit import Decision, MissingError
from paper_tables.evidence import criteria
from paper_tables.evidence.intervals import quantile


@pytest.fixture
def record(make_records):
    """One record of K_H1."""

    def make(value=0.5, stderr=0.01, n=4, **facts):
        (found,) = make_records({facts.pop("metric", "kh1"): value}, stderr=stderr, **facts)
        return dataclasses.replace(found, n=n)

    return make


@pytest.mark.parametrize(
    ("n", "half"), [(2, 0.01 * quantile(1)), (4, 0.01 * quantile(3)), (1, None), (None, None)]
)
def test_an_interval_takes_the_samples_behind_the_error(record, n, half):
    assert criteria.has_error(record(n=n)) == (half is not None)
    assert criteria.half_width(record(n=n)) == (half if half is None else pytest.approx(half))
    assert criteria.half_width(record(stderr=None)) is None


def test_a_difference_has_welchs_error(record):
    difference, half = criteria.difference_of(record(0.5, 0.03, 2), record(0.2, 0.04, 3))
    assert difference == pytest.approx(0.3)
    assert half == pytest.approx(0.1594, abs=1e-4)  # as in `difference_width`
    difference, half = criteria.difference_of(record(0.5, None), record(0.2, 0.01, 4))
    assert half == pytest.approx(0.01 * quantile(3))


def test_one_error_that_is_missing_decides_nothing(record):
    assert criteria.falls(record(0.9), record(0.1, None)) == "undecided"
    assert criteria.falls(record(0.9, n=1), record(0.1)) == "undecided"
    assert criteria.falls(record(0.9), record(0.1)) == "holds"
    assert criteria.below(record(0.1, None), 5.0) == "undecided"


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        (0.8, 0.0, "holds"), (1.25, 0.0, "holds"), (0.79999, 0.0, "fails"), (1.2501, 0.0, "fails"),
        (1.0, 0.2, "holds"), (1.0, 0.23, "undecided"), (0.7, 0.09, "fails"),
        (0.7, 0.1, "undecided"), (1.4, 0.15, "fails"), (1.4, 0.17, "undecided"),
        (0.0, 0.79, "fails"), (0.0, 0.81, "undecided"), (-1.0, 0.1, "fails"),
        (-1.0, 1.9, "undecided"),
    ],
)  # fmt: skip
def test_near_one_is_judged_by_the_whole_interval_on_the_logarithm(record, value, half, expected):
    assert criteria.near_one(record(value, half / quantile(3))) == expected


def test_evidence_finds_the_plain_record_of_the_chosen_initialisation(record):
    plain, uniform = record(0.1), record(0.2, config={"init": "uniform"})
    legacy, other = record(0.3, config={"legacy": True}), record(0.4, column="random/train")
    found = criteria.Evidence((legacy, uniform, other, plain))
    assert found.find("random/eval", "kh1") is plain
    assert found.find("random/eval", "kh1", init="uniform") is uniform
    assert found.find("random/eval", "kh1", legacy=True) is legacy
    assert found.first("random/train", "kh1") is other
    assert found.first("random/eval", "re") is None
    with pytest.raises(MissingError, match=r"^not computed yet: random/eval r_e \(torch init\)$"):
        found.find("random/eval", "re")
    with pytest.raises(MissingError, match=r"random/train K_H1 \(uniform init legacy\)$"):
        found.find("random/train", "kh1", init="uniform", legacy=True)


def absent(record, column, reason):
    return dataclasses.replace(
        record(column=column), value=None, stderr=None, verdict="not_run", fidelity=None,
        reason=reason,
    )  # fmt: skip


def test_what_needs_a_file_is_said_before_what_needs_time(record):
    slow = absent(record, "random/train", "left out for its time: --variants computes it")
    lacking = absent(record, "pretrained/train", "no weights: put alexnet.pth into weights/")
    there = record(row="lenet", config={"m": 40})
    evidence = criteria.Evidence((there,), (slow, lacking))
    with pytest.raises(MissingError, match=r"^pretrained/train: no weights: put alexnet.pth"):
        evidence.find("pretrained/train", "negative_share")
    with pytest.raises(MissingError, match=r"^not computed yet: random/train K_H1"):
        evidence.find("random/train", "kh1")
    places = [("random/train", "kh1"), ("pretrained/train", "kh1")]
    with pytest.raises(MissingError, match=r"^pretrained/train: no weights"):
        evidence.find_all(places)
    with pytest.raises(MissingError, match=r"^not computed yet: random/train"):
        evidence.find_all(places[:1])
    assert evidence.find_all([("random/eval", "kh1")]) == [there]
    rule = criteria.on_first("lenet", lambda found: Decision("holds", ()))
    with pytest.raises(MissingError, match=r"^no cell .* yet; no weights: put alexnet.pth"):
        rule([slow, lacking])


def test_evidence_is_grouped_by_settings_the_most_faithful_and_largest_first(record, make_cell):
    def sized(batch_size, batches=2, probes=3, **facts):
        config = {"batch_size": batch_size, "batches": batches, "probes": probes}
        return record(config=config, **facts)

    small, large = sized(64), sized(512)
    long, probed = sized(512, batches=5), sized(512, batches=2, probes=9)
    exact = sized(8, fidelity="paper")
    others = [record(row="vit"), record(config={"m": None})]
    others += make_cell(config={"batch_size": 64}).absent("no data").not_run()
    groups = criteria.evidence_on([small, large, *others, long, probed, exact], "lenet")
    assert [list(group.records) for group in groups] == [
        [exact], [probed], [long], [large], [small]
    ]  # fmt: skip


def test_evidence_across_data_differs_in_size_alone(record):
    one = record(config={"side": 224})
    other = record(config={"side": 224, "batches": 5}, data="imagenet")
    smaller = record(config={"side": 64})
    across = criteria.evidence_on([one, other, smaller], "lenet", across_data=True)
    assert sorted(len(group.records) for group in across) == [1, 2]
    (both,) = (group for group in across if len(group.records) == 2)
    assert both.records == (other, one), "the larger number of batches first"
    apart = criteria.evidence_on([one, other, smaller], "lenet")
    assert [len(group.records) for group in apart] == [1, 1, 1]


def test_of_several_trainings_the_most_faithful_one_is_found_in_both_modes(record):
    def of(epochs, fidelity, column):
        return record(column=column, fidelity=fidelity, config={"training": {"epochs": epochs}})

    columns = ["pretrained/eval", "pretrained/train"]
    short = [of(11, "reduced", column) for column in columns]
    long = [of(1000, "paper", column) for column in columns]
    (evidence,) = criteria.evidence_on([short[0], long[1], long[0], short[1]], "lenet")
    assert evidence.find_all((column, "kh1") for column in columns) == long


def test_a_rule_takes_the_first_settings_that_have_all_it_needs(record):
    exact = record(fidelity="paper", config={"batch_size": 2048})
    whole = [record(0.2), record(0.4, metric="re")]

    def rule(evidence):
        found = evidence.find("random/eval", "kh1"), evidence.find("random/eval", "re")
        return Decision("holds", found)

    predicate = criteria.on_first("lenet", rule)
    assert predicate([exact, *whole]).records == tuple(whole)
    with pytest.raises(MissingError, match="not computed yet: random/eval r_e"):
        predicate([exact])
    with pytest.raises(MissingError, match="no cell of it was computed yet"):
        predicate([])


COLUMNS = ("random/eval", "random/train")  # the paper prints 0.98 and 0.99


def test_every_cell_says_what_it_counted(record):
    rule = criteria.every_cell(COLUMNS, ["kh1"])
    alike = [record(0.98, 1e-6), record(0.99, 1e-6, column="random/train")]
    close = record(0.9, 1e-6, column="random/train")
    far = record(0.5, 1e-6, column="random/train")
    variants = [
        record(0.5, 1e-6, config={"legacy": True}), record(0.9, 1e-6, config={"init": "uniform"})
    ]  # fmt: skip

    def judged(*records):
        found = rule(criteria.Evidence(records))
        return found.verdict, found.note

    assert judged(*alike) == ("holds", "2 reproduced of 2")
    assert judged(alike[0], close) == ("holds", "1 reproduced, 1 close of 2")
    assert judged(alike[0], far) == (
        "fails", "1 reproduced, 1 differs of 2 (differs: random/train K_H1)"
    )  # fmt: skip
    assert judged(far) == (
        "fails", "1 differs of 1 (differs: random/train K_H1); 1 of 2 values are not computed"
    )  # fmt: skip
    assert judged(*alike, *variants) == (
        "holds", "2 reproduced of 2; legacy: 1 differs of 1; uniform init: 1 close of 1"
    )  # fmt: skip
    with pytest.raises(MissingError, match="random/train K_H1"):
        rule(criteria.Evidence((alike[0],)))
    stand_in = record(0.5, fidelity="substitute")
    assert judged(stand_in, alike[1]) == (
        "undecided",
        "1 reproduced of 2; 1 without a verdict (a stand-in, or K_H05 at another m)",
    )
    assert criteria.verdict_counts([stand_in]) == "no verdict of 1"


def test_one_cell_of_the_papers_data_decides_beside_stand_ins(record):
    far = record(0.5, 1e-6, column="random/train")
    found = criteria.every_cell(COLUMNS, ["kh1"])(
        criteria.Evidence((record(0.98, 1e-6, fidelity="substitute"), far))
    )
    assert found.verdict == "fails"
    assert found.records == (far,), "the verdict does not rest on the stand-in"


def test_few_samples_cannot_make_a_cell_differ_for_sure(record):
    rule = criteria.every_cell(COLUMNS[:1], ["kh1"])  # 0.98 is printed, 15 % are close
    with_two = record(0.5, 0.04, n=2)  # 95 %: 0.5 ± 0.51
    assert with_two.verdict == "differs"
    found = rule(criteria.Evidence((with_two,)))
    assert found.verdict == "undecided"
    assert "too few samples to be sure that random/eval K_H1 differs" in found.note
    assert rule(criteria.Evidence((record(0.5, 0.04, n=4),))).verdict == "fails"
    assert rule(criteria.Evidence((record(0.5, None),))).verdict == "undecided"
    assert rule(criteria.Evidence((record(1.5, 0.04, n=4),))).verdict == "fails"
    assert rule(criteria.Evidence((record(1.2, 0.04, n=4),))).verdict == "undecided"


def test_every_evidence_is_of_one_table_and_cell(record):
    small, large = record(config={"batch_size": 64}), record()
    others = [record(table="table4"), record(row="vit"), record(column="random/train")]
    found = criteria.every_evidence(
        [small, *others, large], "table2", "lenet", "random/eval", "kh1"
    )
    assert found == [large, small]


def test_cells_in_words(record):
    assert criteria.in_words([record(0.5), record(0.2, None, metric="re")]) == (
        "random/eval K_H1 0.500 ± 0.010; random/eval r_e 0.2"
    )
