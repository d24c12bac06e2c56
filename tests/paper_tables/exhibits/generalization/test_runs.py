import dataclasses

import numpy as np
import pytest

from paper_tables.exhibits.generalization.runs import runs
from tests.paper_tables.planted_runs import absent, run


def criteria(numbers, metric="kh05", **facts):
    """A run with one criterion on both sides."""
    sides = ("training", "generalization")
    facts = {"epochs": tuple(range(len(numbers)))} | facts
    return run({(side, metric): numbers for side in sides}, **facts)


def test_nothing_without_records(make_records):
    assert runs([]) == []
    assert runs([absent(), *make_records()]) == []


def test_a_run_holds_its_values_by_epoch():
    values = {
        ("training", "accuracy"): (10, 90, 99),
        ("generalization", "accuracy"): (11, 20, None),
        ("training", "kh05"): (None, 0.5, None),
    }
    records = run(values, epochs=(0, 4, 40), stderr=0.1, fidelity="paper")
    records = [dataclasses.replace(r, stderr=None) if r.value == 11 else r for r in records]
    (found,) = runs([absent(), *reversed(records)])
    assert (found.row, found.pair, found.trained_on) == ("lenet", "mnist-svhn", "mnist")
    assert (found.other, found.fidelity, found.length) == ("svhn", "paper", 40)
    np.testing.assert_array_equal(found.epochs, [0, 4, 40])
    value, error = found.series("training", "accuracy")
    np.testing.assert_allclose(value, [10, 90, 99])
    np.testing.assert_allclose(error, [1, 9, 9.9])
    value, error = found.series("generalization", "accuracy")
    np.testing.assert_allclose(value, [11, 20, np.nan])
    np.testing.assert_allclose(error, [np.nan, 2, np.nan])
    np.testing.assert_allclose(found.series("training", "kh05")[0], [np.nan, 0.5, np.nan])
    assert np.isnan(found.series("generalization", "trace")).all()


def test_trainings_are_kept_apart_and_the_papers_come_first():
    records = [
        *criteria((1, 2), row="resnet20", pair="cifar10-cinic10-i"),
        *criteria((1, 2), pair="svhn-mnist"),
        *criteria((1, 2), training=1, length=40, fidelity="paper"),
        *criteria((1, 2), length=200),
        *criteria((1, 2), length=40),
        *criteria((1, 2), length=999, fidelity="substitute", used=("digits", "rendered")),
    ]
    found = [(r.row, r.pair, r.fidelity, r.length) for r in runs(records)]
    assert found == [
        ("lenet", "mnist-svhn", "paper", 40),
        ("lenet", "mnist-svhn", "reduced", 200),
        ("lenet", "mnist-svhn", "reduced", 40),
        ("lenet", "mnist-svhn", "substitute", 999),
        ("lenet", "svhn-mnist", "reduced", 1),
        ("resnet20", "cifar10-cinic10-i", "reduced", 1),
    ]
    names = [r.name for r in runs(records)]
    assert names[0].lower() == "lenet, mnist to svhn"
    assert names[3] == "LeNet, digits to rendered (for mnist-svhn)"


def test_a_run_is_as_faithful_as_its_least_faithful_record():
    curves = run({("training", "accuracy"): (1, 2)}, epochs=(0, 1), fidelity="paper")
    (found,) = runs([*curves, *criteria((1, 2))])
    assert found.fidelity == "reduced"


@pytest.mark.parametrize("order", [1, -1])
def test_unequal_settings_are_never_mixed(order):
    shared = {"length": 9}
    few_steps = criteria((1, 1, 1), m=20, **shared)
    assert _kh05([*few_steps, *criteria((2, 2, 2), **shared)][::order]) == [2, 2, 2], "more steps"
    longer = [*few_steps, *criteria((2, 2), **shared)][::order]
    assert _kh05(longer) == [1, 1, 1], "more epochs"
    sizes = [*criteria((3, 3), batch_size=64, **shared), *criteria((2, 2), **shared)][::order]
    assert _kh05(sizes) == [2, 2], "larger batches"
    seeds = [*criteria((3, 3), seed=1, **shared), *criteria((2, 2), **shared)][::order]
    assert _kh05(seeds) == [2, 2], "the first seed"
    faithful = [*criteria((3, 3), m=50, fidelity="paper", **shared), *criteria((2, 2), **shared)]
    assert _kh05(faithful[::order]) == [3, 3], "the most faithful"


def test_the_two_sides_may_have_batches_of_different_size_but_not_different_steps():
    def sided(m, batch_size):
        values = {("generalization", "kh05"): (5, 6)}
        return run(values, epochs=(0, 1), m=m, batch_size=batch_size)

    training = run({("training", "kh05"): (1, 2, 3)}, epochs=(0, 1, 2), length=1)
    (found,) = runs([*training, *sided(100, 40)])
    np.testing.assert_allclose(found.series("generalization", "kh05")[0], [5, 6, np.nan])
    (found,) = runs([*training, *sided(20, 120)])
    assert np.isnan(found.series("generalization", "kh05")[0]).all()


def _kh05(records):
    (found,) = runs(records)
    first, second = (found.series(side, "kh05")[0] for side in ("training", "generalization"))
    np.testing.assert_array_equal(first, second)
    return first.tolist()
