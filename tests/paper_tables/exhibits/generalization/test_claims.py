import dataclasses

import pytest

from paper_tables.engine import claims
from paper_tables.engine.records import Record, Source
from paper_tables.exhibits import find
from tests.paper_tables import planted_runs

EPOCHS = (0, 1, 2, 5, 10, 20, 50)


def judged(records, claim):
    (found,) = [j for j in claims.judge(records, find()) if j.claim.id == claim]
    return found


def steady(value, start=None):
    return [value if start is None else start] + [value] * (len(EPOCHS) - 1)


def lenet(pair, fidelity="paper", **last):
    """A run of LeNet whose values stay as they are."""
    values = {
        ("training", "accuracy"): 99.9,
        ("generalization", "accuracy"): 15.0,
        ("training", "kh05"): 0.3,
        ("generalization", "kh05"): 0.8,
    }
    values |= {tuple(name.split("_", 1)): value for name, value in last.items()}
    return planted_runs.run(
        {place: steady(value) for place, value in values.items()}, pair=pair, stderr=0.01,
        batches=4, fidelity=fidelity,
    )  # fmt: skip


def with_n(records, n=400):
    """The records with so many samples behind their errors."""
    return [dataclasses.replace(record, n=n, stderr_kind="batches") for record in records]


@pytest.mark.parametrize(
    ("mnist", "svhn", "trained", "verdict"),
    [
        (15.0, 56.5, 85.0, "holds"),
        (25.0, 56.5, 85.0, "fails"),
        (15.0, 40.0, 85.0, "fails"),
        (15.0, 56.5, 99.0, "fails"),
        (20.0, 56.5, 85.0, "undecided"),
    ],
)
def test_lenet_accuracies(mnist, svhn, trained, verdict):
    records = with_n(
        lenet("mnist-svhn", generalization_accuracy=mnist)
        + lenet("svhn-mnist", generalization_accuracy=svhn, training_accuracy=trained)
    )
    assert judged(records, "G.lenet").verdict == verdict


def test_a_part_of_svhn_says_nothing_of_what_all_of_it_does():
    records = lenet("mnist-svhn") + lenet("svhn-mnist", "reduced", training_accuracy=100.0)
    found = judged(with_n(records), "G.lenet")
    assert found.verdict == "undecided"
    assert "not judged: trained on fewer images or epochs" in found.note
    high = lenet("mnist-svhn", generalization_accuracy=25.0)
    found = judged(with_n(high + lenet("svhn-mnist", "reduced")), "G.lenet")
    assert found.verdict == "fails", "that part rests on MNIST"


def test_an_accuracy_whose_interval_reaches_the_range_is_open():
    records = lenet("mnist-svhn") + lenet(
        "svhn-mnist", generalization_accuracy=58.5, training_accuracy=85.0
    )
    assert judged(with_n(records), "G.lenet").verdict == "undecided"


def test_one_run_is_not_enough():
    found = judged(with_n(lenet("mnist-svhn")), "G.lenet")
    assert (found.verdict, found.note) == (
        "not_run",
        "not computed yet: the training run svhn-mnist",
    )


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [((0.3, 0.8), (0.4, 0.5), "holds"), ((0.3, 0.8), (0.3, 0.9), "fails"),
     ((0.8, 0.3), (0.4, 0.5), "fails"), ((0.3, 0.8), (0.3, 0.8), "undecided")],
)  # fmt: skip
def test_kh05_rises_more_for_mnist(first, second, verdict):
    records = with_n(
        lenet("mnist-svhn", training_kh05=first[0], generalization_kh05=first[1])
        + lenet("svhn-mnist", training_kh05=second[0], generalization_kh05=second[1])
    )
    assert judged(records, "G.lenet.kh").verdict == verdict


def test_one_epoch_at_a_jump_of_the_loss_does_not_decide():
    values = {
        ("training", "accuracy"): [10, 80, 99.5, 99.9, 99.9, 99.9, 99.5],
        ("training", "kh05"): [0.9, 0.5, 0.3, 0.31, 0.29, 0.3, 0.95],
        ("generalization", "kh05"): [0.9, 0.8, 0.5, 0.52, 0.49, 0.5, 0.5],
    }
    first = with_n(planted_runs.run(values, stderr=0.01))
    second = with_n(lenet("svhn-mnist", training_kh05=0.4, generalization_kh05=0.45))
    found = judged([*first, *second], "G.lenet.kh")
    assert found.verdict == "undecided"  # +.2 four times, and -.45
    assert "(mean of 5 epochs; at the last, 50 of 50, 0.9500 ± 0.0095 to" in found.note
    values["training", "kh05"][-1] = 0.3
    first = with_n(planted_runs.run(values, stderr=0.01))
    assert judged([*first, *second], "G.lenet.kh").verdict == "holds"


def test_batches_of_two_sizes_are_not_compared():
    records = with_n(lenet("mnist-svhn") + lenet("svhn-mnist", training_kh05=0.7))
    assert judged(records, "G.lenet.kh").verdict == "holds"
    records = [
        dataclasses.replace(r, batch_size=2048 if r.column == "mnist-svhn/training" else 120)
        for r in records
    ]
    found = judged(records, "G.lenet.kh")
    assert found.verdict == "undecided"
    assert "not judged: batches of 2048 and of 120" in found.note


@pytest.mark.parametrize(
    ("late", "verdict"),
    [((10, 12.1, 14, 16.1), "holds"), ((16, 14, 12.1, 10), "fails"),
     ((10, 15, 9, 12), "undecided")],
)  # fmt: skip
def test_late_growth(late, verdict):
    values = {
        ("training", "accuracy"): [10, 80, 95, 99.5, 99.9, 99.9, 100],
        ("generalization", "accuracy"): [10, 30, 5, *late],
    }
    found = judged(planted_runs.run(values), "G.lenet.late")
    assert found.verdict == verdict
    assert "from epoch 5 to 50" in found.note


def test_late_growth_needs_epochs_after_convergence():
    values = {
        ("training", "accuracy"): [10, 20, 30, 40, 50, 99.5, 99.9],
        ("generalization", "accuracy"): [10] * 7,
    }
    assert "there are 2" in judged(planted_runs.run(values), "G.lenet.late").note


def plane(row, pair, metric, value, fidelity="reduced"):
    return Record(
        table="shift_planes", row=row, column=pair, metric=metric, value=value, stderr=0.1, n=8,
        stderr_kind="planes", fidelity=fidelity, data=Source("mnist", "ab" * 32),
        config={"epochs": 10, "points": 11},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [((3, -2, 1), "holds"), ((-3, -2, 1), "fails"), ((3, 2, 1), "fails"),
     ((3, -2, 0.1), "undecided")],
)  # fmt: skip
def test_planes(changes, verdict):
    records = [
        plane("lenet", "mnist-svhn", "median_change", changes[0]),
        plane("lenet", "svhn-mnist", "median_change", changes[1]),
        plane("resnet20", "cifar10-cinic10-i", "roughness_change", changes[2]),
    ]
    assert judged(records, "G.land").verdict == verdict


def resnet(pair, **options):
    values = {
        ("training", "accuracy"): steady(97.0),
        ("generalization", "accuracy"): steady(43.0),
        ("training", "kh05"): steady(0.3),
        ("generalization", "kh05"): steady(0.5),
        ("training", "re"): steady(0.3),
        ("generalization", "re"): steady(0.1),
        **options.pop("values", {}),
    }
    return with_n(planted_runs.run(values, row="resnet20", pair=pair, stderr=0.01, **options))


PAIRS = ("cifar10-cinic10-i", "cinic10-i-cifar10")


def test_resnet_needs_as_many_epochs_as_the_claim():
    found = judged([r for pair in PAIRS for r in resnet(pair)], "G.resnet")
    assert found.verdict == "undecided"
    assert "after 50 epochs: the claim is on 200" in found.note
    values = {("generalization", "accuracy"): [10, 30, 40, 45, 50, 55, 43]}
    epochs = (0, 1, 5, 20, 40, 70, 200)
    long = [r for pair in PAIRS for r in resnet(pair, values=values, epochs=epochs)]
    assert judged(long, "G.resnet").verdict == "holds"
    values = {("generalization", "accuracy"): [10, 30, 55, 45, 50, 40, 43]}
    early = [r for pair in PAIRS for r in resnet(pair, values=values, epochs=epochs)]
    assert judged(early, "G.resnet").verdict == "fails"


def test_resnet_criteria():
    records = [r for pair in PAIRS for r in resnet(pair)]
    assert judged(records, "G.resnet.kh").verdict == "holds"
    other = {("generalization", "re"): steady(0.6)}
    records = [r for pair in PAIRS for r in resnet(pair, values=other)]
    assert judged(records, "G.resnet.kh").verdict == "fails"


def test_equal_accuracy_with_other_criteria():
    first = resnet(PAIRS[0])
    other = resnet(PAIRS[1], values={("generalization", "kh05"): steady(0.25)})
    assert judged([*first, *other], "G.noabs").verdict == "holds"
    same = resnet(PAIRS[1])
    assert judged([*first, *same], "G.noabs").verdict == "undecided"
    apart = resnet(PAIRS[1], values={("generalization", "accuracy"): steady(70.0)})
    assert judged([*first, *apart], "G.noabs").verdict == "undecided"


def test_stand_ins_are_not_judged():
    records = [r for pair in PAIRS for r in resnet(pair, fidelity="substitute")]
    found = judged(records, "G.resnet.kh")
    assert found.verdict == "not_run"
    assert found.note.startswith(
        "computed with a stand-in, which is one of these: cifar10; cinic10-i; it would"
    )


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [((0.5, 0.4, 0.3, 0.2, 0.1), "holds"), ((0.5, 0.4, 0.6, 0.2, 0.1), "fails"),
     ((0.5, 0.4, 0.3, 0.3, 0.3), "undecided")],
)  # fmt: skip
def test_the_negative_part_along_the_training_of_another_network(shares, verdict):
    values = {("training", "negative_share"): shares}
    records = with_n(
        planted_runs.run(
            values, row="resnet20", pair=PAIRS[0], epochs=(0, 1, 4, 10, 40), stderr=0.01
        )
    )
    (found,) = [
        j
        for j in claims.judge(records, find())
        if (j.claim.id, j.scope) == ("H.train", "other networks")
    ]
    assert found.verdict == verdict
    assert "epochs 0, 4, 40" in found.note
