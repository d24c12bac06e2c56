"""Criteria to a stated standard error, against explicit Hessians and matrices of known spectrum."""

import dataclasses
import math
import os
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla.data import load
from lla.hessian.accuracy import Spread
from lla.hessian.criteria import adaptive
from lla.hessian.criteria.adaptive import RunStatistics
from lla.hessian.criteria.goal import Goal
from lla.hessian.lanczos.outliers import MAX_OUTLIERS, Outliers
from lla.probes import rademacher
from lla.training import train

SLOW = pytest.mark.skipif("LLA_SLOW" not in os.environ, reason="minutes: set LLA_SLOW")
SIZE = 80


class Form(nn.Module):
    """Half of theta' A theta for the matrix A that is the batch: each batch has its own Hessian."""

    def __init__(self, size, dtype=torch.float64):
        super().__init__()
        self.theta = nn.Parameter(torch.linspace(-1, 1, size, dtype=dtype))

    def forward(self, x):
        return 0.5 * self.theta @ x[0] @ self.theta


def as_batches(matrices, dtype=torch.float64):
    return [(torch.as_tensor(A, dtype=dtype)[None], torch.zeros(1)) for A in matrices]


def eigenvalues(rng, scatter):
    """Outliers and a bulk of both signs; the batches of a population differ by `scatter`."""
    top = np.array([30.0, 16.0, 8.0, 4.0]) * np.exp(scatter * rng.normal(size=4))
    bulk = np.sort(rng.laplace(scale=0.25, size=SIZE - 5))
    bulk[bulk < 0] *= np.exp(scatter * rng.normal())
    return np.concatenate([[-1.5 * np.exp(scatter * rng.normal())], bulk, top])


def matrices(cases, count, seed=0, scatter=0.1):
    rng = np.random.default_rng(seed)
    return [cases.matrix(eigenvalues(rng, scatter), seed * 1000 + i)[0] for i in range(count)]


def ratios(matrix, probes=20_000, seed=1):
    """K_H1 of random probes, by the full spectrum."""
    values, vectors = np.linalg.eigh(matrix)
    signs = 2.0 * np.random.default_rng(seed).integers(0, 2, (probes, len(values))) - 1
    weights = (signs @ vectors) ** 2
    return (weights @ np.maximum(-values, 0)) / (weights @ np.maximum(values, 0))


def exact(hessians):
    """R_e and K_H1, means over batches, by full spectra and very many probes."""
    re = [max(0.0, -v[0]) / v[-1] for v in map(np.linalg.eigvalsh, hessians)]
    return np.mean(re), np.mean([ratios(H).mean() for H in hessians])


def measured(hessians, cases, target=0.05, over="batches", max_matvecs=None, **options):
    """The criteria of matrices, with a target."""
    options = {"steps": 60, "loss": cases.take_output, "route": "retained", **options}
    target = lla.Target(target, over, max_matvecs)
    return lla.criteria(
        Form(len(hessians[0])), as_batches(hessians), target_stderr=target, **options
    )


@pytest.fixture(scope="session")
def digits(cases):
    """A perceptron trained a little on digits of 4 x 4 pixels, 20 batches, and their Hessians."""
    data = load("digits")
    x = nn.functional.avg_pool2d(torch.as_tensor(data.images).double() / 255, 7).flatten(1)
    y = torch.as_tensor(data.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 10)).double()
    train(model, (x, y), epochs=5, batch_size=64, lr=0.01)
    batches = [(x[i : i + 64], y[i : i + 64]) for i in range(0, 20 * 64, 64)]
    hessians = [cases.plain_hessian(model, [batch]).numpy() for batch in batches[:4]]
    return model, batches, hessians


def test_kh1_and_re_are_those_of_the_explicit_hessians(digits):
    model, batches, hessians = digits
    re, kh1 = exact(hessians)
    crit = lla.criteria(model, batches[:4], target_stderr=lla.Target(0.02, "probes"), probes=200,
                        route="retained")  # fmt: skip
    assert crit.converged
    assert crit.kh1.stderr <= 0.02 * crit.kh1.value
    assert abs(crit.kh1.value - kh1) < 4 * crit.kh1.stderr
    assert crit.re.value == pytest.approx(re, rel=0.01)
    share = np.mean([(r / (1 + r)).mean() for r in map(ratios, hessians)])
    assert abs(crit.negative_share.value - share) < 4 * crit.negative_share.stderr


def test_five_times_fewer_products_than_ten_probes_of_a_hundred_steps_on_four_batches(digits):
    model, batches, hessians = digits
    crit = lla.criteria(model, batches[:4], target_stderr=lla.Target(0.05, "probes"), probes=100,
                        route="retained")  # fmt: skip
    assert crit.converged
    assert 5 * crit.matvecs <= 4 * 10 * 100
    assert max(crit.kh1.stderr / crit.kh1.value, crit.re.stderr / crit.re.value) <= 0.05
    # and ten full runs a batch leave more error than was asked for here
    variance = np.mean([ratios(H).var() for H in hessians])
    assert np.sqrt(variance / 40) > 0.05 * crit.kh1.value


def test_five_times_fewer_products_over_batches(cases):
    hessians = matrices(cases, 40)
    crit = measured(hessians, cases, over="batches", steps=SIZE)
    assert crit.converged
    assert 4 <= crit.batches <= 40
    assert max(crit.kh1.stderr / crit.kh1.value, crit.re.stderr / crit.re.value) <= 0.05
    # ten whole runs on each of as many batches as lead to the same error of K_H1
    found = np.array([ratios(H, 2000) for H in hessians])
    of_one_batch = found.mean(1).var(ddof=1) + found.var(1).mean() / 10
    batches = math.ceil(of_one_batch / (0.05 * found.mean()) ** 2)
    assert 5 * crit.matvecs <= batches * 10 * SIZE


def count_rows(monkeypatch):
    """Count the products that operators are asked for."""
    seen, original = [], lla.HessianOperator.rows

    def rows(self, vectors):
        seen.append(len(vectors))
        return original(self, vectors)

    monkeypatch.setattr(lla.HessianOperator, "rows", rows)
    return seen


@pytest.mark.parametrize("over", ["batches", "probes"])
def test_products_are_counted(cases, monkeypatch, over):
    hessians = matrices(cases, 12, scatter=0.02)
    seen = count_rows(monkeypatch)
    crit = measured(hessians, cases, 0.1, over=over)
    assert crit.converged
    assert crit.matvecs == crit.kh1.matvecs == crit.re.matvecs == sum(seen)
    assert crit.matvecs == sum(spectrum.matvecs for spectrum in crit.spectra)
    assert crit.matvecs == sum(int(spectrum.counts.sum()) for spectrum in crit.spectra)
    assert crit.adaptive.probes == tuple(spectrum.probes for spectrum in crit.spectra)
    assert crit.batches == len(crit.spectra)


def repeated(cases, over, repetitions):
    """Values, standard errors and whether intervals hold, of independent measurements."""
    found = {"kh1": [], "re": []}
    fixed = matrices(cases, 4)
    re, kh1 = exact(fixed)
    if over == "batches":
        re, kh1 = population()
    for seed in range(repetitions):
        hessians = fixed if over == "probes" else matrices(cases, 40, seed + 1)
        crit = measured(hessians, cases, over=over, seed=seed, probes=100)
        for name, truth in (("kh1", kh1), ("re", re)):
            low, high = crit.adaptive.accuracy[name].interval
            estimate = getattr(crit, name)
            found[name].append((estimate.value, estimate.stderr, low <= truth <= high))
    return {name: (np.array(rows).T, {"kh1": kh1, "re": re}[name]) for name, rows in found.items()}


def population(draws=4000):
    """R_e and K_H1 of the population that `matrices` draws from.

    A probe has a random direction among eigenvectors that are themselves random.
    """
    rng = np.random.default_rng(99)
    re, kh1 = [], []
    for _ in range(draws):
        values = eigenvalues(rng, 0.1)
        weights = rng.normal(size=(25, SIZE)) ** 2
        re.append(-values.min() / values.max())
        kh1.append(((weights @ np.maximum(-values, 0)) / (weights @ np.maximum(values, 0))).mean())
    return np.mean(re), np.mean(kh1)


def check_honesty(cases, over, repetitions, bias, coverage):
    """Bias in standard errors, and the share of 95 % intervals that hold the exact value."""
    for name, ((values, errors, holds), truth) in repeated(cases, over, repetitions).items():
        if over == "probes" and name == "re":
            # no matter of chance: a bound, and Ritz values that lie within the spectrum
            np.testing.assert_allclose(values, truth, rtol=0.025)
            continue
        chance = 3 * values.std() / math.sqrt(repetitions)
        assert abs(values.mean() - truth) < bias * errors.mean() + chance, name
        assert coverage[0] <= holds.mean() <= coverage[1], name


@pytest.mark.parametrize("over", ["batches", "probes"])
def test_errors_are_honest_in_a_few_repetitions(cases, over):
    check_honesty(cases, over, 8, 0.3, (0.7, 1.0))


def test_batches_whose_hessians_differ_in_size_are_corrected_each_by_its_own(cases):
    """K_H1 is a ratio, so scaling a Hessian changes nothing: nor may what short runs lack."""
    sizes = (1.0, 1e-2, 1e-3, 1e-4)
    hessians = [A * size for A, size in zip(matrices(cases, 4), sizes, strict=True)]
    found = [measured(hessians, cases, over="probes", probes=100, seed=seed) for seed in range(4)]
    assert any(len(set(s.counts)) > 1 for c in found for s in c.spectra[:1])  # some ended early
    values = np.array([c.kh1.value for c in found])
    assert values.mean() == pytest.approx(exact(hessians)[1], rel=0.06)


def unlike(cases, negative):
    """Four Hessians: K_H1 of the first is near 1, that of the others far below."""
    rng = np.random.default_rng(0)
    first = rng.laplace(size=SIZE)
    first[first < 0] *= 0.75
    others = [
        [-rng.exponential(negative, 30), rng.exponential(1.0, SIZE - 31), [9.0]] for _ in range(3)
    ]
    batches = [first, *map(np.concatenate, others)]
    return [cases.matrix(values, i)[0] for i, values in enumerate(batches)]


def test_a_first_batch_with_k_h1_near_1_does_not_shorten_the_runs_on_others(cases):
    hessians = unlike(cases, 0.1)
    truth = exact(hessians)[1]
    found = [measured(hessians, cases, over="probes", probes=100, seed=seed) for seed in range(4)]
    values, errors = np.array([(c.kh1.value, c.kh1.stderr) for c in found]).T
    assert abs(values.mean() - truth) < 0.06 * truth
    assert (np.abs(values - truth) < 3.5 * errors).all()


@pytest.mark.filterwarnings("ignore:after")
def test_a_negative_part_that_short_runs_do_not_see_is_not_blown_up(cases):
    """Whole runs on the other Hessians lack nearly all of theirs after as few steps."""
    hessians = unlike(cases, 0.02)
    crit = measured(hessians, cases, 0.15, over="probes", probes=30, steps=25)
    assert abs(crit.kh1.value - exact(hessians)[1]) < 3 * crit.kh1.stderr
    assert crit.kh1.value < 0.3


@SLOW
@pytest.mark.filterwarnings("ignore:after")  # forty batches are a little too few for some draws
@pytest.mark.parametrize("over", ["batches", "probes"])
def test_errors_are_honest_in_two_hundred_repetitions(cases, over):
    check_honesty(cases, over, 200, 0.2, (0.9, 0.99))


def test_a_run_of_all_steps_is_that_of_the_plain_criteria(cases):
    """K_H05 depends on the steps, so every run has all of them and the probes are the same."""
    hessians = matrices(cases, 4)
    with pytest.warns(UserWarning, match="standard error of kh05 .* raise probes"):
        crit = measured(hessians, cases, {"kh05": 1e-6, "re": 0.5}, over="probes", probes=3,
                        steps=30)  # fmt: skip
    plain = lla.criteria(Form(SIZE), as_batches(hessians), probes=3, steps=30,
                         loss=cases.take_output, route="retained")  # fmt: skip
    assert crit.adaptive.probes == (3, 3, 3, 3)
    assert crit.matvecs == plain.matvecs == 360
    assert crit.kh05.value == pytest.approx(plain.kh05.value, rel=1e-12)
    assert crit.re.value == pytest.approx(plain.re.value, rel=1e-3)
    for one, other in zip(crit.spectra, plain.spectra, strict=True):
        np.testing.assert_allclose(one.eigenvalues, other.eigenvalues, atol=1e-9)


def test_kh05_of_the_density_reading(cases):
    hessians = matrices(cases, 4)
    options = {"over": "probes", "probes": 50, "steps": 30}
    crit = measured(hessians, cases, {"kh05": 0.05}, reading="density", **options)
    plain = lla.criteria(Form(SIZE), as_batches(hessians), probes=40, steps=30, reading="density",
                         loss=cases.take_output, route="retained")  # fmt: skip
    assert crit.converged
    assert crit.reading == "density"
    assert abs(crit.kh05.value - plain.kh05.value) < 4 * crit.kh05.stderr
    assert math.isnan(crit.kh1.value)
    assert math.isnan(crit.re.value)


def with_pairs(cases):
    """Matrices of which the two largest eigenvalues, and the next two, are one."""
    rng = np.random.default_rng(0)
    spectra = [eigenvalues(rng, 0.1) for _ in range(4)]
    for values in spectra:
        values[-2] = values[-1]
        values[-4] = values[-3]
    return [cases.matrix(values, i)[0] for i, values in enumerate(spectra)]


def test_repeated_outliers(cases):
    hessians = with_pairs(cases)
    crit = measured(hessians, cases, 0.1, over="probes", probes=60)
    assert crit.converged
    assert abs(crit.kh1.value - exact(hessians)[1]) < 3 * crit.kh1.stderr


def test_where_a_second_probe_disagrees_nothing_is_averaged_over(cases, monkeypatch):
    monkeypatch.setattr(Outliers, "agree", lambda *_: (0, 0))
    hessians = matrices(cases, 4)
    crit = measured(hessians, cases, 0.1, over="probes", probes=60)
    assert crit.adaptive.averaged == (0, 0)
    assert crit.converged
    assert abs(crit.kh1.value - exact(hessians)[1]) < 3 * crit.kh1.stderr
    monkeypatch.undo()
    fewer = measured(hessians, cases, 0.1, over="probes", probes=60)
    assert fewer.adaptive.averaged == (MAX_OUTLIERS, MAX_OUTLIERS)
    assert fewer.matvecs < crit.matvecs


def test_budget_that_is_used_up_is_said(cases, monkeypatch):
    seen = count_rows(monkeypatch)
    with pytest.warns(UserWarning, match=r"after \d+ products on 4 batches .* raise max_matvecs"):
        crit = measured(matrices(cases, 4), cases, 0.001, over="probes", max_matvecs=300,
                        probes=100)  # fmt: skip
    assert crit.converged is False
    assert crit.adaptive.stopped == "budget"
    assert sum(seen) == crit.matvecs <= 300
    assert crit.matvecs > 250
    assert crit.adaptive.accuracy["kh1"].reached > 0.001


def test_probes_that_are_used_up_are_said(cases):
    with pytest.warns(UserWarning, match=r"0\.001 was asked for: raise probes"):
        crit = measured(matrices(cases, 4), cases, {"kh1": 0.001}, over="probes", probes=2)
    assert crit.adaptive.stopped == "probes"
    assert crit.adaptive.probes == (2, 2, 2, 2)
    assert crit.probes == 2


@pytest.mark.parametrize("count", [2, 5])
def test_batches_that_differ_too_much_are_said_before_products_are_wasted(cases, count):
    with pytest.warns(UserWarning, match="difference between the batches, so give more"):
        crit = measured(matrices(cases, count, scatter=0.8), cases, over="batches", probes=100)
    assert crit.adaptive.stopped == "batches"
    assert sum(crit.adaptive.probes) <= 3 * count
    for name in ("re", "kh1"):
        accuracy = crit.adaptive.accuracy[name]
        total = getattr(crit, name).stderr
        assert accuracy.batches**2 + accuracy.probes**2 == pytest.approx(total**2) or (
            accuracy.probes > total
        )


def test_batches_are_taken_one_by_one_until_they_are_enough(cases, monkeypatch):
    many = matrices(cases, 30, scatter=0.05)
    few = measured(many, cases, 0.1, over="batches")
    assert few.converged
    assert 4 <= few.batches < 30
    assert (few.re.n, few.kh1.n) == (few.batches, few.batches)
    assert few.stderr_kind == "batches"
    # the first ones, in the order given
    again = measured(many[: few.batches], cases, 0.1, over="batches")
    assert again.kh1.value == few.kh1.value
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.as_tensor(np.array(many)), torch.zeros(30)),
        batch_size=1,
    )
    by_loader = lla.criteria(Form(SIZE), loader, target_stderr=0.1, steps=60,
                             loss=cases.take_output, route="retained")  # fmt: skip
    assert by_loader.kh1.value == few.kh1.value


def test_only_re_takes_short_runs_and_no_second_probe(cases):
    hessians = matrices(cases, 4)
    crit = measured(hessians, cases, {"re": 0.05}, over="probes")
    assert crit.converged
    assert crit.adaptive.probes == (1, 1, 1, 1)
    assert crit.re.value == pytest.approx(exact(hessians)[0], rel=0.025)
    assert crit.matvecs < 4 * 40
    assert math.isnan(crit.kh1.value)
    assert crit.kh1.stderr is None


@pytest.mark.parametrize("scope", ["batches", "pooled"])
def test_one_hessian_leaves_the_noise_of_the_probes(cases, scope):
    hessians = matrices(cases, 1 if scope == "batches" else 3)
    crit = measured(hessians, cases, scope=scope, probes=100)
    assert crit.converged
    assert crit.stderr_kind == "probes"
    assert len(crit.spectra) == 1
    pooled = [np.mean(hessians, axis=0)]
    re, kh1 = exact(pooled)
    assert crit.re.value == pytest.approx(re, rel=0.025)
    assert abs(crit.kh1.value - kh1) < 4 * crit.kh1.stderr
    assert crit.batches == len(hessians)


def test_a_convex_problem_has_zeros_and_says_it_is_sure(cases):
    hessians = [cases.matrix(np.geomspace(0.01, 10, SIZE), i)[0] for i in range(4)]
    crit = measured(hessians, cases, over="probes", steps=SIZE)
    assert crit.converged
    assert crit.re.value == pytest.approx(0, abs=1e-9)
    assert crit.kh1.value == pytest.approx(0, abs=1e-9)


def test_negative_definite_hessian_is_an_error(cases):
    hessians = [cases.matrix(-np.linspace(1, 2, 20))[0]]
    with pytest.raises(lla.InputError, match="no eigenvalue is positive"):
        measured(hessians, cases, steps=10)


def test_same_seed_same_result_and_another_seed_another(cases):
    hessians = matrices(cases, 4)
    one, same, other = (measured(hessians, cases, over="probes", seed=s) for s in (0, 0, 1))
    assert one.adaptive == same.adaptive
    for name in ("re", "kh1", "negative_share"):
        assert getattr(one, name) == getattr(same, name)
    assert one.kh1.value != other.kh1.value


@pytest.mark.parametrize("options", [{"basis_dtype": torch.bfloat16}, {"basis_device": "cpu"}],
                         ids=str)  # fmt: skip
def test_storage_of_the_basis(cases, options):
    hessians = matrices(cases, 4)
    plain, stored = (
        measured(hessians, cases, over="probes", **o)
        for o in ({}, {"memory": lla.Memory(**options)})
    )
    assert stored.kh1.value == pytest.approx(plain.kh1.value, rel=0.02)


def test_float32(cases):
    hessians = matrices(cases, 4)
    crit = lla.criteria(
        Form(SIZE, torch.float32), as_batches(hessians, torch.float32), steps=60,
        target_stderr=lla.Target(0.05, over="probes"), loss=cases.take_output, route="retained",
    )  # fmt: skip
    double = measured(hessians, cases, over="probes")
    assert crit.dtype == "float32"
    assert crit.kh1.value == pytest.approx(double.kh1.value, rel=1e-2)
    assert crit.re.value == pytest.approx(double.re.value, rel=1e-3)


def test_result_knows_what_it_rests_on(cases):
    crit = measured(matrices(cases, 4), cases, over="probes")
    assert (crit.converged, crit.adaptive.stopped) == (True, "targets")
    assert (crit.steps, crit.batches, crit.scope) == (60, 4, "batches")
    assert [spectrum.plan for spectrum in crit.spectra] == 4 * ["whole batches, retained"]
    assert math.isnan(crit.kh05.value)
    accuracy = crit.adaptive.accuracy["kh1"]
    assert accuracy.target == 0.05
    assert accuracy.reached == crit.kh1.stderr / crit.kh1.value
    assert accuracy.probes == crit.kh1.stderr
    assert accuracy.batches is None
    assert crit.adaptive.accuracy["negative_share"].target is None
    with pytest.raises(lla.InputError, match="the runs ended early"):
        crit.reread("density")
    first = crit.spectra[0]
    assert first.counts[0] == 60
    assert first.counts[1] < 60
    assert not first.weights[1, first.counts[1] :].any()
    np.testing.assert_allclose(first.weights.sum(1), 1)


def test_without_a_target_nothing_is_said_of_convergence(cases):
    crit = lla.criteria(Form(SIZE), as_batches(matrices(cases, 2)), probes=1, steps=5,
                        loss=cases.take_output)  # fmt: skip
    assert crit.adaptive is None
    assert crit.converged is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_stderr": 0}, "target_stderr is 0 for re: give a positive number"),
        ({"target_stderr": -0.1}, "target_stderr is -0.1 for re"),
        ({"target_stderr": math.nan}, "target_stderr is nan for re"),
        ({"target_stderr": "5%"}, "target_stderr is '5%' for re"),
        ({"target_stderr": {}}, "target_stderr names no criterion"),
        ({"target_stderr": {"trace": 0.1}}, "target_stderr names 'trace': choose"),
        ({"target_stderr": {"kh1": -1}}, "target_stderr is -1 for kh1"),
        ({"target_stderr": 0.1, "legacy": True}, "legacy has no bounds to stop by"),
        (
            {"target_stderr": lla.Target(0.1, max_matvecs=4)},
            "max_matvecs is 4: the first run alone",
        ),
        ({"target_stderr": 0.1, "probes": 0}, "probes is 0"),
        ({"target_stderr": 0.1, "steps": 0}, "steps is 0"),
    ],
)
def test_arguments_that_cannot_be_are_named_before_any_product(
    cases, monkeypatch, options, message
):
    monkeypatch.setattr(lla.HessianOperator, "rows", lambda *_: pytest.fail("a product was made"))
    with pytest.raises(lla.InputError, match=message):
        lla.criteria(Form(8), as_batches([np.eye(8)]), loss=cases.take_output,
                     **{"steps": 5, **options})  # fmt: skip


def test_a_target_over_something_unknown():
    with pytest.raises(lla.InputError, match="over is 'all': choose 'batches' or 'probes'"):
        lla.Target(0.1, over="all")


def test_spectrum_gets_as_many_probes_as_its_target_takes(cases):
    H = cases.quadratic(matrices(cases, 1)[0])
    spectrum = lla.spectral_density(H, probes=400, steps=40, target_stderr=0.1)
    kh1 = lla.spectrum_criteria(spectrum).kh1
    assert 5 < spectrum.probes < 400
    assert kh1.std(ddof=1) / np.sqrt(len(kh1)) <= 0.1 * kh1.mean()
    assert spectrum.matvecs == 40 * spectrum.probes
    plain = lla.spectral_density(H, probes=spectrum.probes, steps=40)
    for field in dataclasses.fields(spectrum):
        assert np.array_equal(getattr(spectrum, field.name), getattr(plain, field.name))


def test_spectrum_of_which_the_probes_do_not_suffice(cases):
    H = cases.quadratic(matrices(cases, 1)[0])
    with pytest.warns(UserWarning, match="after 7 probes kh1 is .* raise probes"):
        spectrum = lla.spectral_density(H, probes=7, steps=20, target_stderr={"kh1": 0.01})
    assert spectrum.probes == 7
    with pytest.warns(UserWarning, match="after 1 probes .* not known from so few samples"):
        lla.spectral_density(H, probes=1, steps=20, target_stderr=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_stderr": 0}, "target_stderr is 0"),
        ({"target_stderr": 1, "legacy": True}, "legacy"),
    ],
)
def test_spectrum_with_a_target_that_cannot_be(cases, options, message):
    with pytest.raises(lla.InputError, match=message):
        lla.spectral_density(cases.spectrum_of(np.arange(5.0)), 2, 3, **options)


def test_nothing_is_warned_of_where_targets_are_met(cases):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert measured(matrices(cases, 4), cases, 0.2, over="probes").converged


def statistics(over="batches", probes=10, count=3, **targets):
    """Statistics of runs on some Hessians, none made yet."""
    goal = Goal(targets, over, probes, 50, 1000, 0, "product")
    space = SimpleNamespace(size=SIZE, dtype=torch.float64)
    return RunStatistics(goal, count, space)


def made(converged=True, matvecs=50):
    """A run whose r_e has converged or not."""
    return SimpleNamespace(re_within=lambda tolerance: converged, matvecs=matvecs)


def test_what_short_runs_lack_is_that_of_their_own_hessian_or_of_those_that_lack_little():
    def whole(share):
        return SimpleNamespace(whole=True, missing_share=lambda steps: share)

    found = statistics(kh1=0.05)
    found.runs = [[whole(0.05)], [whole(1.0), whole(0.9)], []]
    shares = [found._missing_share(index, 9) for index in range(3)]
    assert shares == pytest.approx([0.05 / 0.95, 9.0, 0.05 / 0.95])  # of what is there


def test_runs_are_as_long_as_the_whole_runs_on_their_hessian_ask_for(monkeypatch):
    monkeypatch.setattr(adaptive, "enough_steps", lambda run, goal: run.needed)
    found = statistics(kh1=0.05)
    for index, needed in enumerate([12, 40, 8]):
        run = SimpleNamespace(needed=needed, whole=True, matvecs=50)
        found.add(index, [run], Outliers(None, None), "")
    assert (found.least, found._least_on) == (12, [12, 40, 8])


def test_r_e_is_settled_when_the_first_run_on_every_hessian_has_converged():
    found = statistics(re=0.1)
    found.runs = [[made(), made(False)], [made()], []]
    assert found.settled
    found.runs = [[made()], [made(False)], []]
    assert not found.settled
    assert (found.matvecs, found.left) == (100, 900)
    assert found.visited == found.runs[:2]


def test_each_hessian_gets_one_probe_and_the_first_a_second_one_for_outliers():
    found = statistics(kh1=0.1)
    assert [found.wanted(index) for index in range(3)] == [2, 1, 1]
    found.runs = [[made(), made()], [made()], []]
    assert [found.wanted(index) for index in range(3)] == [1, 1, 1]
    assert statistics(re=0.1).wanted(0) == 1
    assert statistics(kh1=0.1, probes=1).wanted(0) == 1
    used = statistics(kh1=0.1, probes=2)
    used.runs = [[made(), made()], [made()], []]
    assert [used.wanted(index) for index in range(3)] == [0, 1, 1]


@pytest.mark.parametrize(
    ("errors", "runs", "needed"),
    [
        ({"re": 0.2}, (1, 1, 1), 4),  # twice the error: four times the probes
        ({"re": 0.2, "kh1": 0.3}, (1, 1, 1), 9),
        ({"re": 0.21}, (2, 2, 2), 9),  # 8.82
        ({"re": 0.2}, (1, 2, 2), 6),  # the harmonic mean is 1.5
        ({"re": 0.1}, (2, 2, 2), 3),  # small enough already: one more
        ({"re": 0.1}, (1, 2, 2), 2),
        ({"re": None}, (2, 2, 2), 3),
    ],
)
def test_the_probes_that_are_needed_follow_from_the_worst_error(errors, runs, needed):
    found = statistics("probes", probes=100, **dict.fromkeys(errors, 0.1))
    found.runs = [[made()] * count for count in runs]
    # the values are -1; with so many degrees of freedom errors are not enlarged
    found._spreads = {name: Spread(-1.0, e, math.inf, e, math.inf) for name, e in errors.items()}
    for index, have in enumerate(runs):
        assert found.wanted(index) == max(0, needed - have)


def test_a_target_out_of_reach_is_known_from_four_batches_and_probes():
    def reach(between, dof=3, within_dof=4.0, count=4):
        found = statistics(count=count, re=0.1)
        within = 0.01
        stderr = math.hypot(between, within)
        found._spreads = {"re": Spread(-2.0, stderr, dof, within, within_dof)}
        return found._out_of_reach("re")

    factor = Spread(0.0, None, 3, None, 0).factor
    assert reach(0.2001 / factor)
    assert not reach(0.1999 / factor)
    assert not reach(0.5, within_dof=3), "the probes' part is not known well enough"
    assert reach(0.0, count=3), "three batches are never enough"


def test_a_mean_over_all_probes_takes_all_hessians():
    found = statistics("probes", re=0.1)
    found._spreads = {"re": Spread(1.0, 0.001, math.inf, 0.001, math.inf)}
    found.runs = [[made()], [made()], []]
    assert not found._met("re")
    assert found._shortfall("re", found._spreads["re"]) == (
        "that of 2 of the 3 batches, and all were asked for"
    )
    found.runs[2].append(made())
    assert found._met("re")


@pytest.mark.parametrize(
    ("error", "left", "probes", "over", "expected"),
    [
        (0.05, 500, 10, "batches", "targets"),
        (0.5, 500, 10, "batches", "batches"),
        (0.5, 500, 1, "probes", "probes"),
        (0.5, 49, 10, "probes", "budget"),
        (0.5, 50, 10, "probes", None),
    ],
)
def test_the_reason_to_stop(error, left, probes, over, expected):
    found = statistics(over, probes, 4, re=0.1)
    found.least = 50
    found.runs = [[made(matvecs=(1000 - left) / 4)] for _ in range(4)]
    found._spreads = {"re": Spread(1.0, error, math.inf, 0.0, math.inf)}
    assert found.stopped() == expected


@pytest.mark.parametrize(("probes", "calls"), [(3, 4), (1, 0)])
def test_outliers_are_those_of_the_first_run_on_each_hessian(cases, monkeypatch, probes, calls):
    seen, real = [], adaptive.outliers

    def counted(lanczos, *args, **options):
        start = lanczos.basis.vectors(0, 1)[0, 0] * SIZE**0.5
        if not seen or not torch.equal(seen[-1], start):  # of shorter runs, too, on the first
            seen.append(start)
        return real(lanczos, *args, **options)

    monkeypatch.setattr(adaptive, "outliers", counted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the target is missed
        crit = measured(matrices(cases, 4), cases, 1e-4, over="probes", probes=probes)
    assert crit.adaptive.probes == 4 * (probes,)
    assert len(seen) == calls
    for index, start in enumerate(seen):
        torch.testing.assert_close(start, rademacher(SIZE, start, 0, index, 0))
