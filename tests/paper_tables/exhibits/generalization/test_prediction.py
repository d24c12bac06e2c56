import csv
import io
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from paper_tables.engine import figures
from paper_tables.evidence.resampling import taus
from paper_tables.exhibits.generalization import prediction, prediction_page
from paper_tables.exhibits.generalization.prediction import predictions
from paper_tables.exhibits.generalization.runs import runs
from tests.paper_tables.planted_runs import absent, run

CRITERIA = ("kh05", "kh1", "kh05_density", "re", "trace", "top_eigenvalue")


def planted(change, criterion, loss, metric="kh05", accuracy=90.0, **facts):
    """A run whose accuracy changes by `change` [E], and whose criterion by `criterion` [E]."""
    size = len(change)
    values = {
        ("training", "accuracy"): [accuracy] * size,
        ("generalization", "accuracy"): accuracy + np.array(change),
        ("training", "loss"): [0.1] * size,
        ("generalization", "loss"): loss,
        ("training", metric): [1.0] * size,
        ("generalization", metric): [None if c is None else 1.0 + c for c in criterion],
    }
    return run(values, epochs=facts.pop("epochs", tuple(range(1, size + 1))), **facts)


def of(records, predictor, **facts):
    found = [p for p in predictions(runs(records), **facts) if p.predictor == predictor]
    (one,) = found
    return one


def tau_by_hand(x, y):
    """Tau-a: pairs in the same order minus pairs in the other, over all of them."""
    pairs = list(itertools.combinations(range(len(x)), 2))
    return sum(np.sign((x[i] - x[j]) * (y[i] - y[j])) for i, j in pairs) / len(pairs)


FALLING = -np.arange(10.0)
LOSS = np.array([3.0, 1, 4, 1.5, 5, 9, 2, 6, 5.5, 3.5])  # of no particular order


def test_tau_of_six_checkpoints_counted_by_hand():
    # of 15 pairs those of (3, 2), (5, 4) and (5, 1), (4, 1), (3, 1), (2, 1) are swapped: 9 - 6 = 3
    criterion, change = [3, 2, 5, 4, 1, 6], [1, 2, 3, 4, 5, 6]
    assert tau_by_hand(criterion, change) == pytest.approx(3 / 15)
    found = of(planted(change, criterion, LOSS[:6], accuracy=50.0), "kh05")
    assert found.tau.value == pytest.approx(3 / 15)
    assert found.within == pytest.approx(3 / 15)
    assert found.n == 6
    assert found.difference.value == pytest.approx(abs(tau_by_hand(LOSS[:6], change)) - 3 / 15)


@pytest.mark.parametrize(("sign", "tau"), [(-1, -1.0), (1, 1.0)])
def test_a_perfect_relation_has_an_interval_without_0_and_wins(sign, tau):
    found = of(planted(FALLING, sign * FALLING**3, LOSS), "kh05")
    assert (found.tau.value, found.tau.low, found.tau.high) == pytest.approx((tau, tau, tau))
    assert found.difference.high < 0
    assert found.winner == "criterion wins"


def test_an_unrelated_criterion_loses_against_a_perfect_loss():
    found = of(planted(FALLING, LOSS, np.exp(-FALLING)), "kh05")
    assert found.tau.low < 0 < found.tau.high
    assert found.winner == "loss wins"
    loss = of(planted(FALLING, LOSS, np.exp(-FALLING)), "loss")
    assert loss.tau.high == pytest.approx(-1)
    assert (loss.difference, loss.winner) == (None, "")


def test_two_equal_predictors_are_undecided():
    found = of(planted(FALLING, LOSS, LOSS), "kh05")
    assert found.difference.value == 0
    assert found.winner == "undecided"


def test_sizes_that_span_decades_are_compared_as_ratios():
    # the differences fall while the ratios rise
    here, there = 10.0 ** -np.arange(6), 10.0 ** -np.arange(6) * np.arange(2, 8)
    assert (np.diff(there - here) < 0).all()
    values = {
        ("training", "accuracy"): [90.0] * 6,
        ("generalization", "accuracy"): 80.0 - np.arange(6),
        ("training", "loss"): [0.1] * 6,
        ("generalization", "loss"): LOSS[:6],
    }
    for metric in CRITERIA:
        values |= {("training", metric): here, ("generalization", metric): there}
    records = run(values, epochs=tuple(range(1, 7)))
    taus = {metric: of(records, metric).tau.value for metric in CRITERIA}
    ratios = ("re", "trace", "top_eigenvalue")
    assert taus == pytest.approx({m: -1.0 if m in ratios else 1.0 for m in CRITERIA})


def test_what_cannot_be_compared_is_left_out():
    criterion = [None, 0.1, -1.0, -3.0, 0.2, 0.3, 0.4, 0.5, 0.6]
    records = planted(FALLING[:9], criterion, LOSS[:9], metric="re")
    assert of(records, "re").n == 6, "one was not measured, of 0 and of -2 there is no logarithm"
    assert of(records, "loss").n == 6, "the loss is judged where the criteria are"
    records = planted(FALLING[:9], criterion, LOSS[:9])
    assert of([absent(), *records], "kh05").n == 8
    before = planted(FALLING, LOSS, LOSS, epochs=tuple(range(10)))
    assert of(before, "kh05").n == 9, "epoch 0 does not count"
    no_loss = [r for r in records if r.metric != "loss"]
    assert predictions(runs(no_loss)) == []


def test_of_few_checkpoints_nothing_is_said():
    found = of(planted(FALLING[:4], FALLING[:4], LOSS[:4]), "kh05")
    assert found.n == 4
    assert math.isnan(found.tau.value)
    assert found.winner == "undecided"
    constant = of(planted(FALLING, np.ones(10), LOSS), "kh05")
    assert math.isnan(constant.tau.low)
    assert constant.winner == "undecided"


def test_networks_and_stand_ins_have_pools_of_their_own():
    records = [
        *planted(FALLING, LOSS, LOSS),
        *planted(FALLING, LOSS, LOSS, pair="svhn-mnist", fidelity="paper"),
        *planted(FALLING, LOSS, LOSS, row="resnet20", pair="cifar10-cinic10-i"),
        *planted(FALLING, LOSS, LOSS, used=("digits", "rendered"), fidelity="substitute"),
    ]
    found = [p for p in predictions(runs(records)) if p.predictor == "kh05"]
    assert [(p.pool, p.fidelity, len(p.runs), p.n) for p in found] == [
        ("LeNet", "paper, reduced", 2, 20),
        ("ResNet20", "reduced", 1, 10),
        ("all networks", "paper, reduced", 3, 30),
        ("LeNet", "substitute", 1, 10),
    ]
    assert [p.resampling.startswith("runs") for p in found] == [False, False, True, False]


def test_a_training_cut_shorter_is_not_another_one():
    longest = planted(FALLING, LOSS, LOSS)
    shorter = planted(FALLING[:6], LOSS[:6], LOSS[:6])
    other = planted(FALLING[:6], LOSS[:6], LOSS[:6], training=1)
    assert of([*shorter, *longest], "kh05").n == 10
    assert len(of([*longest, *shorter, *other], "kh05").runs) == 2


def test_a_relation_between_runs_alone_is_not_one_within_them():
    rng = np.random.default_rng(0)
    records = []
    for i in range(4):
        change, criterion = (-20.0 * i + rng.normal(size=30), 5.0 * i + rng.normal(size=30) / 9)
        records += planted(change, criterion, rng.normal(size=30), training=i)
    found = of(records, "kh05")
    assert found.tau.value < -0.6
    assert abs(found.within) < 0.2


@pytest.mark.parametrize("sizes", [(7,), (6, 9), (5, 8, 6)])
def test_a_resample_has_the_tau_that_scipy_gives_its_checkpoints(sizes):
    rng = np.random.default_rng(1)
    names = np.repeat(np.arange(len(sizes)), sizes)
    x, y = rng.integers(5, size=(2, len(names))).astype(float)  # with ties
    counts = prediction._resampled(names, rng, 50)
    expected = [
        stats.kendalltau(*(np.repeat(v, row.astype(int)) for v in (x, y))).statistic
        for row in counts
    ]
    np.testing.assert_allclose(taus(counts, x, y), expected, atol=1e-12)


def test_resamples_draw_runs_from_three_on_and_blocks_in_each_below():
    names = np.repeat([0, 1], [8, 12])
    counts = prediction._resampled(names, np.random.default_rng(0), 200)
    assert (counts[:, :8].sum(1) == 8).all()
    assert (counts[:, 8:].sum(1) == 12).all()
    together = ((counts[:, :7] > 0) & (counts[:, 1:8] > 0)).mean()
    # four blocks of two miss a checkpoint with (6/8)^4 and two neighbours with (5/8)^4; eight
    # single draws have both in 41 of 100 resamples
    assert together == pytest.approx(1 - 2 * (6 / 8) ** 4 + (5 / 8) ** 4, abs=0.04)
    names = np.repeat([0, 1, 2], 10)
    counts = prediction._resampled(names, np.random.default_rng(0), 500)
    drawn = counts.reshape(500, 3, 10).sum(2) / 10
    assert set(np.unique(drawn)) == {0, 1, 2, 3}
    assert (drawn.sum(1) == 3).all()
    # each of three runs is missing from (2/3)^3 of the resamples
    assert (drawn == 0).mean() == pytest.approx(8 / 27, abs=0.05)


def test_the_interval_covers_a_planted_correlation():
    # of two normal numbers with correlation rho tau is 2/pi arcsin(rho) (Kendall 1949)
    rho, hits, trials = 0.6, 0, 150
    truth = 2 / np.pi * np.arcsin(rho)
    rng = np.random.default_rng(2)
    for _ in range(trials):
        x, noise, other = rng.normal(size=(3, 40))
        y = rho * x + math.sqrt(1 - rho**2) * noise
        run = np.repeat([0, 1], 20)
        tau, _, _ = prediction._compared(x, other, y, run, rng, 300)
        hits += tau.low <= truth <= tau.high
    assert hits / trials >= 0.85


def test_runs_that_differ_do_not_pass_for_a_relation():
    # no relation, but all checkpoints of a run share most of their values
    rng = np.random.default_rng(3)
    run = np.repeat(np.arange(8), 10)
    hits, naive, trials = 0, 0, 100
    for _ in range(trials):
        x, y, other = rng.normal(size=(3, 8))[:, run] + 0.3 * rng.normal(size=(3, 80))
        tau, _, _ = prediction._compared(x, other, y, run, rng, 300)
        hits += tau.low <= 0 <= tau.high
        naive += stats.kendalltau(x, y).pvalue > 0.05
    assert hits / trials >= 0.85
    assert naive / trials < 0.6, "so it is the runs that must be resampled"


def test_the_seed_decides():
    records = planted(FALLING, LOSS, LOSS[::-1])
    assert predictions(runs(records), seed=3) == predictions(runs(records), seed=3)
    first, second = (of(records, "kh05", seed=seed) for seed in (0, 1))
    assert first.tau.value == second.tau.value
    assert first.tau != second.tau


def test_the_page_the_table_and_the_figure(tmp_path):
    records = [
        *planted(FALLING, LOSS, -FALLING),
        *planted(FALLING, LOSS, -FALLING, pair="svhn-mnist"),
        *planted(FALLING, -FALLING, LOSS, used=("digits", "rendered"), fidelity="substitute"),
    ]
    pages = prediction_page.pages(records)
    assert pages == prediction_page.pages(records)
    for folder in ("one", "two"):
        figures.write(prediction_page.figures(records), tmp_path / folder)
    path, again = (tmp_path / folder / "figures" / "prediction.png" for folder in ("one", "two"))
    assert path.read_bytes() == again.read_bytes()
    text = pages["prediction.md"]
    assert "**The plain loss wins** against every criterion (LeNet, 2 runs, 20 checkpoints" in text
    assert "## LeNet [substitute]" in text
    rows = list(csv.DictReader(io.StringIO(pages["prediction.csv"])))
    assert [(r["fidelity"], r["predictor"], r["winner"]) for r in rows] == [
        ("reduced", "loss", ""),
        ("reduced", "loss_change", ""),
        ("reduced", "kh05", "loss wins"),
        ("substitute", "loss", ""),
        ("substitute", "loss_change", ""),
        ("substitute", "kh05", "criterion wins"),
    ]
    assert float(rows[5]["tau"]) == -1.0
    assert path.stat().st_size < 100_000
    before = path.stat().st_mtime_ns
    figures.write(prediction_page.figures(records), tmp_path / "one")
    assert path.stat().st_mtime_ns == before


def test_the_first_sentence_follows_the_numbers():
    def sentence(*records):
        return prediction.headline(predictions(runs(list(itertools.chain(*records)))))

    perfect = planted(FALLING, -FALLING, LOSS)
    assert sentence(perfect).startswith("**K_H05 predicts better than the plain loss** (LeNet, 1 ")
    assert sentence(planted(FALLING, LOSS, LOSS)).startswith("**Nobody wins**")
    stand_in = planted(FALLING, -FALLING, LOSS, used=("a", "b"), fidelity="substitute")
    assert "stand-in data" in sentence(stand_in)
    assert "stand-in data" not in sentence(stand_in, perfect)
    both = [*perfect, *planted(FALLING, LOSS, LOSS, metric="kh1")]
    both = list({record.key: record for record in both}.values())
    assert "; against K_H1 nothing is decided" in sentence(both)


def test_the_figure_has_a_panel_a_pool_with_the_loss_on_top():
    records = [
        *planted(FALLING, LOSS, -FALLING),
        *planted(FALLING, LOSS, LOSS, used=("digits", "rendered"), fidelity="substitute"),
    ]
    figure = prediction_page.draw(predictions(runs(records)))
    assert [ax.get_title().splitlines()[0] for ax in figure.axes] == [
        "LeNet [reduced]",
        "LeNet [substitute]",
    ]
    first = figure.axes[0]
    assert first.get_yticklabels()[0].get_text() == "loss on the new data"
    bottom, top = first.get_ylim()
    assert bottom > top, "the first line is the uppermost"


def test_without_runs_there_is_no_page():
    assert prediction_page.pages([]) == {}
    assert prediction_page.pages([absent()]) == {}
    assert prediction_page.figures([absent()]) == []
    assert prediction_page.pages(planted(FALLING[:1], FALLING[:1], LOSS[:1], epochs=(0,))) == {}
