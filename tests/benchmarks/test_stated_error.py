"""Errors of budgets against closed forms, shorter runs against longer ones, the table."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from benchmarks import reference
from benchmarks.hesd_cost.measurement import Linear
from benchmarks.inputs import Input
from benchmarks.isolate import Peak
from benchmarks.peers.libraries import Adapter, EqualWork
from benchmarks.publish import publish
from benchmarks.stated_error import errors, measurement, quadratures
from benchmarks.stated_error.errors import Error, Exact
from benchmarks.stated_error.measurement import Found, Ours, Run, StatedErrorCase
from benchmarks.stated_error.view import EXHIBIT
from paper_tables.engine.records import Source

RNG = np.random.default_rng(0)
CASE = StatedErrorCase("lenet", 8, 32, 2, 0.2, 1, steps=(4, 8))


# --- quadratures


def chebyshev(count):
    """The Gauss rule of the weight 1 / sqrt(1 - x^2), known in closed form."""
    angles = (2 * np.arange(count, 0, -1) - 1) * np.pi / (2 * count)
    return np.cos(angles), np.full(count, 1 / count)


def test_a_shorter_run_is_the_gauss_rule_with_fewer_nodes():
    for steps in (1, 30, 60):
        nodes, weights = quadratures.shorter(chebyshev(100), steps)
        expected = chebyshev(steps)
        np.testing.assert_allclose(nodes, expected[0], atol=1e-12)
        np.testing.assert_allclose(weights, expected[1], rtol=1e-9)
    assert quadratures.shorter(chebyshev(100), 100)[0] is not None


def test_a_shorter_run_is_that_of_the_same_probe():
    """Against a run that makes fewer steps itself, on a matrix with outliers."""
    values = np.concatenate([RNG.normal(0, 1, 200), [-4.0, 15.0, 40.0]])
    start = RNG.normal(size=203)
    whole = quadratures.lanczos(lambda v: values * v, start, 100)
    for steps in (5, 30, 60):
        expected = quadratures.lanczos(lambda v: values * v, start, steps)
        np.testing.assert_allclose(quadratures.shorter(whole, steps), expected, atol=1e-9)


def test_all_steps_give_the_eigenvalues_and_the_squares_of_the_components():
    matrix = RNG.normal(size=(6, 6))
    matrix += matrix.T
    values, vectors = np.linalg.eigh(matrix)
    start = RNG.normal(size=6)
    nodes, weights = quadratures.lanczos(lambda v: matrix @ v, start, 6)
    np.testing.assert_allclose(nodes, values, atol=1e-10)
    np.testing.assert_allclose(weights, (vectors.T @ start) ** 2 / (start @ start), atol=1e-10)


def test_a_run_ends_where_its_vectors_span_an_invariant_space():
    values = np.array([1.0, 1.0, 2.0, 2.0, 3.0])
    nodes, weights = quadratures.lanczos(lambda v: values * v, np.ones(5), 5)
    np.testing.assert_allclose(nodes, [1, 2, 3])
    np.testing.assert_allclose(weights, [0.4, 0.4, 0.2])


def test_plain_pytorch_has_the_moments_of_its_probe():
    work = EqualWork("lenet", (1, 32, 32), 4, 1, steps=12, probes=2)
    found = quadratures.plain(*work.make(), work)
    product, size = reference.products(*work.make(torch.float64))
    assert found.start.shape == (size,)
    assert found.nodes.shape == found.weights.shape == (2, 12)
    assert len(found.began) == found.products == 24
    own = [(found.weights[0] * found.nodes[0] ** k).sum() for k in (1, 2, 3, 4)]
    np.testing.assert_allclose(own, reference.moments(product, found.start), rtol=1e-3)


# --- errors of budgets


def test_the_error_of_a_budget_is_that_of_its_mean_over_many_draws():
    bias, deviations, exact = 0.1, np.array([0.5, 1.0, 2.0, 0.1])[:, None], 3.0
    batch_means = np.array([1.0, 2.0, 4.0, 5.0])[:, None]  # of which 3 is the mean

    def draw(repetitions):
        return batch_means + bias + deviations * RNG.normal(size=(4, repetitions))

    found = errors.error_of(draw(20_000), Exact(exact, 0.0))
    assert found.bias == pytest.approx(bias / exact, rel=0.15)
    for probes in (1, 3, 20):
        means = draw(20_000 * probes).reshape(4, 20_000, probes).mean((0, 2))
        direct = math.sqrt(((means - exact) ** 2).mean()) / exact
        assert found.rms(probes) == pytest.approx(direct, rel=0.03)


def test_what_chance_does_to_the_mean_is_no_bias():
    same = np.full((4, 3), 1.1)
    assert errors.error_of(same, Exact(1.0, 0.0)).bias == pytest.approx(0.1)
    assert errors.error_of(same, Exact(1.0, 0.06)).bias == pytest.approx(0.08)
    assert errors.error_of(same, Exact(1.0, 0.2)).bias == 0
    # one repetition is 1, the other 3: their mean of 2 is a standard error of 1 / sqrt(4) away
    apart = np.array([[1.0, 3.0]] * 4)
    found = errors.error_of(apart, Exact(2.5, 0.0))
    assert (found.bias, found.dof) == (0.0, 4)
    assert found.scatter == pytest.approx(math.sqrt(2.0 / 4) / 2.5)


def test_the_error_of_an_error_is_its_scatter_over_many_draws():
    sizes = [errors.error_of(RNG.normal(1, 0.1, (4, 6)), Exact(1.0, 0.0)) for _ in range(4000)]
    scatter = np.array([error.scatter for error in sizes])
    stated = Error(0.0, 0.05, 20).stderr()
    assert scatter.std() == pytest.approx(stated, rel=0.1)
    real = [errors.rms_of(RNG.normal(1, 0.05, 12), Exact(1.0, 0.0)) for _ in range(4000)]
    values, own = np.array(real).T
    assert values.std() == pytest.approx(own.mean(), rel=0.1)
    assert values.mean() == pytest.approx(0.05, rel=0.05)


def test_the_error_of_a_reference_is_not_this_librarys():
    results = RNG.normal(1.0, 0.03, 2000) + 0.04  # the reference is off by 4 %
    assert errors.rms_of(results, Exact(1.0, 0.04))[0] == pytest.approx(0.03, rel=0.1)


@pytest.mark.parametrize("error", [Error(0.01, 0.2, 8), Error(0.0, 0.01, 8), Error(0.04, 0.3, 8)])
def test_the_number_of_probes_is_the_least(error):
    probes = error.probes(0.05)
    assert error.rms(probes) <= 0.05 * (1 + 1e-9)
    assert probes == 1 or error.rms(probes - 1) > 0.05


def test_the_cheapest_budget_is_found_by_hand():
    known = {
        30: {"re": Error(0.06, 0.0, 8), "kh1": Error(0.0, 0.1, 8)},  # r_e is never right
        60: {"re": Error(0.0, 0.01, 8), "kh1": Error(0.03, 0.12, 8)},  # 9 probes
        100: {"re": Error(0.0, 0.01, 8), "kh1": Error(0.0, 0.12, 8)},  # 6 probes
    }
    seconds = {30: Linear(1.0, 3.0), 60: Linear(1.0, 6.0), 100: Linear(1.0, 10.0)}
    best = errors.cheapest(known, seconds, 4, 0.05)
    assert (best.steps, best.probes, best.seconds) == (60, 9, 4 * 55.0)
    best = errors.cheapest(known, {**seconds, 60: Linear(1.0, 8.0)}, 4, 0.05)
    assert (best.steps, best.probes, best.seconds) == (100, 6, 4 * 61.0)
    assert errors.cheapest({30: known[30]}, seconds, 4, 0.05) is None
    assert errors.least({30: known[30]}) == (pytest.approx(0.06), 30)
    assert errors.least(known, 9)[0] == pytest.approx(0.04)
    low, high = errors.between({100: known[100]}, seconds, 4, 0.05)
    assert (low.probes, high.probes) == (4, 9)  # a scatter of 0.12 x 0.75 and x 1.25


# --- measurements


@pytest.fixture
def given(monkeypatch):
    """A perceptron at initialisation with noise takes the place of a trained network."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(12, 9), torch.nn.Tanh(), torch.nn.Linear(9, 5)
        ).eval()
    pairs = [
        (torch.randn(8, 12, generator=generator), torch.randint(0, 5, (8,), generator=generator))
        for _ in range(measurement.BATCHES)
    ]
    found = Input(model, pairs, None, 32, Source("noise", "0" * 64), Source("w", "1" * 64),
                  "substitute", "a note")  # fmt: skip
    monkeypatch.setattr(measurement.inputs, "make", lambda *_: found)
    measurement._given.cache_clear()
    yield found
    measurement._given.cache_clear()


def here(function, *arguments):
    return Peak(function(*arguments), 0, 0)


def test_seconds_are_split_at_the_products(given):
    runs = measurement.one_probe_runs("plain PyTorch", CASE, 8, 4, 0)
    assert len(runs) == 4
    for run in runs:
        assert run.setup > 0
        assert run.ended.shape == run.rule[0].shape == (8,)
        assert (np.diff(run.ended) > 0).all()
    other = measurement.one_probe_runs("plain PyTorch", CASE, 8, 1, 1)
    assert not np.array_equal(other[0].rule[1], runs[0].rule[1])  # another probe


def test_a_case_is_measured_and_shown_without_other_libraries(given, monkeypatch, tmp_path):
    def fails(*_):
        raise RuntimeError("planted")

    others = {
        "plain PyTorch": measurement.PLAIN,
        "absent": Adapter("absent", "no_such_package", fails, "no-such-package"),
        "broken": Adapter("broken", "torch", fails, "torch"),
    }
    monkeypatch.setattr(measurement, "OTHERS", others)
    found = measurement.measure(CASE, here)
    assert len(found.ours) == len(found.runs["plain PyTorch"]) == 2
    assert set(found.not_run) == {"absent", "broken"}
    publish(EXHIBIT, measurement.case_records(CASE, given, found), tmp_path)
    lines = (tmp_path / "benchmarks" / "stated_error.md").read_text().splitlines()
    names = [line.split("|")[3].strip() for line in lines if line.startswith("|")][2:]
    assert names == ["lla", "reference", "plain PyTorch", "absent", "broken"]
    assert "2. fails with RuntimeError: planted" in lines


def planted(scatter=0.1, own=0.04):
    """Runs of one positive and one negative node, whose K_H1 is drawn around 0.25."""

    def rule():
        shape = (2 * scatter) ** -2  # the mean of four batches has `scatter`
        ratio = 0.25 * RNG.gamma(shape) / shape
        share = ratio / (1 + ratio)
        return np.array([-1.0, 1.0]), np.array([share, 1 - share])

    def one(seconds):
        return Run(rule(), 0.5, np.array([seconds / 2, seconds]))

    runs = [[one(s) for s in (9.0, 10.0, 10.0, 14.0)] for _ in range(200)]
    kh1 = (0.25 * (1 + own), 0.25 * (1 - own))
    ours = [Ours({"re": 1.0, "kh1": k}, {"re": 0.0, "kh1": 0.01}, 500, 20.0, True) for k in kh1]
    exact = Ours({"re": 1.0, "kh1": 0.25}, {"re": 0.0, "kh1": 0.0}, 5000, 200.0, True)
    race = {"plain PyTorch": 5.0, "slow": 7.0}
    return Found(exact, ours, race, {"plain PyTorch": runs}, {})


def cells(tmp_path, case, found):
    given = Input(None, [], None, 32, Source("mnist", "0" * 64), Source("w", "1" * 64),
                  "reduced", "a note")  # fmt: skip
    publish(EXHIBIT, measurement.case_records(case, given, found), tmp_path)
    lines = (tmp_path / "benchmarks" / "stated_error.md").read_text().splitlines()
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return {row[2]: dict(zip(rows[0], row, strict=True)) for row in rows[2:]}


def test_the_cheapest_budget_stands_beside_this_library(tmp_path):
    case = dataclasses.replace(CASE, steps=(2,))
    shown = cells(tmp_path, case, planted())
    ours, other = shown["lla"], shown["plain PyTorch"]
    assert ours["network, batch"] == "lenet 8"
    assert (ours["seconds"], ours["error of K_H1"]) == ("20 ± 0", "4.0% ± 2.0%")
    probes = int(other["probes"])
    assert probes == pytest.approx(4, abs=1)  # 10 % over the root of 4
    assert float(other["products"]) == 4 * probes * 2
    assert float(other["seconds"].split()[0]) == pytest.approx(4 * (0.5 + probes * 10.0), rel=0.01)
    assert float(other["times lla's"]) == pytest.approx(4 * (0.5 + probes * 10) / 20, rel=0.01)
    # 4 % takes (10 / 4)^2 probes
    assert float(other["at lla's error"]) == pytest.approx(4 * (0.5 + 7 * 10) / 20, rel=0.2)
    assert float(other["error of K_H1"].split("%")[0]) <= 5
    assert other["5 % within 20 probes"] == "yes"
    assert (shown["slow"]["seconds a product"], shown["slow"]["seconds"]) == ("7", "")


@pytest.mark.parametrize(("own", "words"), [(0.04, "within the 5%"), (0.07, "not within the 5%")])
def test_the_real_error_is_said_beside_the_target(tmp_path, own, words):
    cells(tmp_path, dataclasses.replace(CASE, steps=(2,)), planted(own=own))
    text = (tmp_path / "benchmarks" / "stated_error.md").read_text()
    assert f"K_H1 {own:.1%} ± {own / 2:.1%}, {words} that were asked for." in text


def test_other_libraries_are_those_that_are_here(monkeypatch):
    here = Adapter("here", "torch", None, "torch")
    absent = Adapter("absent", "no_such_package", None, "no-such-package")
    others = {a.name: a for a in (measurement.PLAIN, here, absent)}
    monkeypatch.setattr(measurement, "OTHERS", others)
    assert measurement.libraries_here() == ["here"]


def test_what_twenty_probes_do_not_reach_is_said(tmp_path):
    case = dataclasses.replace(CASE, steps=(2,))
    other = cells(tmp_path, case, planted(scatter=0.3))["plain PyTorch"]
    assert int(other["probes"]) == pytest.approx(36, rel=0.2)
    reached = float(other["5 % within 20 probes"].removeprefix("no: ").removesuffix("%"))
    assert reached == pytest.approx(30 / math.sqrt(20), rel=0.1)


def test_a_bias_that_no_probe_removes_leaves_no_budget(tmp_path):
    found = planted(scatter=0.01)
    criteria = {"re": 1.0, "kh1": 0.2}  # 20 % less than what the runs find
    found = dataclasses.replace(found, exact=dataclasses.replace(found.exact, criteria=criteria))
    other = cells(tmp_path, dataclasses.replace(CASE, steps=(2,)), found)["plain PyTorch"]
    assert other["seconds"] == ""
    assert "probes" not in other  # no line has any
    reached = float(other["5 % within 20 probes"].removeprefix("no: ").removesuffix("%"))
    assert reached == pytest.approx(25, abs=0.5)
