"""Averages over projections on outliers, against the mean over very many probes."""

import dataclasses

import numpy as np
import pytest
import torch

from lla.hessian.lanczos.outliers import MAX_OUTLIERS, NO_OUTLIERS, outliers
from lla.hessian.lanczos.process import Lanczos
from lla.hessian.lanczos.runs import Run, gauss_positive
from lla.probes import rademacher

SIZE = 120
LIKE = torch.zeros((), dtype=torch.float64)


class Dense:
    """A matrix as an operator on rows."""

    def __init__(self, matrix):
        self.matrix = torch.as_tensor(matrix)
        self.shape = matrix.shape

    def rows(self, rows):
        return rows @ self.matrix


def network_like(cases, seed=0, top=(40.0, 22.0, 9.0, 5.0, 3.0), bottom=(-2.0,)):
    """A matrix with outliers and a bulk of both signs, and its eigenvalues."""
    rng = np.random.default_rng(seed)
    bulk = rng.laplace(scale=0.2, size=SIZE - len(top) - len(bottom))
    values = np.concatenate([bottom, bulk, top])
    return cases.matrix(values, seed)[0], values


def probe(seed, index):
    return rademacher(SIZE, LIKE, seed, index)


def run_of(matrix, start, steps):
    """A run of its own, and the process."""
    lanczos = Lanczos(Dense(matrix), start[None], steps)
    lanczos.advance(steps)
    t = lanczos.tridiagonal()
    count = int(t.counts[0])
    return Run(t.alphas[0, :count], t.betas[0, :count], True, steps), lanczos


def averages(matrix, seed, index, known):
    """What one probe tells, by a full spectrum."""
    values, vectors = np.linalg.eigh(matrix)
    weights = (probe(seed, index).numpy() @ vectors) ** 2 / SIZE
    positive = np.maximum(values, 0) @ weights
    return known.average(values, weights, positive, values @ weights, SIZE)


def exact_kh1(matrix, probes=40_000):
    """The mean and standard deviation of the ratio over random probes."""
    values, vectors = np.linalg.eigh(matrix)
    signs = 2.0 * np.random.default_rng(1).integers(0, 2, (probes, SIZE)) - 1
    weights = (signs @ vectors) ** 2
    ratios = (weights @ np.maximum(-values, 0)) / (weights @ np.maximum(values, 0))
    return ratios.mean(), ratios.std()


def known_of(matrix, seed=0, steps=40):
    run, lanczos = run_of(matrix, probe(seed, 0), steps)
    return outliers(lanczos, len(run.alphas), probe(seed, 1), seed)


def test_outliers_are_found_and_the_bulk_is_not(cases):
    matrix, values = network_like(cases)
    known = known_of(matrix, steps=20)
    assert 0.7 < known.positive.end < 3.0
    assert 0.7 < known.negative.end < 2.0
    np.testing.assert_allclose(known.positive.values[:5], [40, 22, 9, 5, 3], rtol=1e-3)
    sums = np.array([known.positive.total.mean(), known.negative.total.mean()])
    expected = (
        values[values > known.positive.end].sum(),
        -values[-values > known.negative.end].sum(),
    )
    np.testing.assert_allclose(sums * SIZE, expected, rtol=0.05)


def test_same_mean_and_a_fraction_of_the_scatter(cases):
    matrix, _ = network_like(cases)
    known = known_of(matrix, steps=20)
    exact, scatter = exact_kh1(matrix)
    found = [averages(matrix, 7, i, known) for i in range(200)]
    values = np.array([f.kh1 for f in found])
    assert values.std() < scatter / 2
    # 200 probes, and 16384 for the average over outliers
    error = np.hypot(values.std() / np.sqrt(200), scatter / np.sqrt(16384))
    assert abs(values.mean() - exact) < 4 * error
    predicted = np.sqrt(np.mean([f.kh1_variance for f in found]))
    assert 0.8 < predicted / values.std() < 1.4
    shares = np.array([f.share for f in found])
    assert 0.8 < np.sqrt(np.mean([f.share_variance for f in found])) / shares.std() < 1.4


def test_the_ratio_of_means_is_another_number(cases):
    matrix, values = network_like(cases)
    exact, _ = exact_kh1(matrix)
    of_means = -values[values < 0].sum() / values[values > 0].sum()
    assert exact > 1.1 * of_means
    known = known_of(matrix, steps=20)
    found = np.mean([averages(matrix, 3, i, known).kh1 for i in range(60)])
    assert abs(found - exact) < 0.3 * abs(exact - of_means)


def test_without_outliers_it_is_the_plain_ratio(cases):
    matrix, _ = network_like(cases)
    values, vectors = np.linalg.eigh(matrix)
    weights = (probe(0, 0).numpy() @ vectors) ** 2
    plain = (weights @ np.maximum(-values, 0)) / (weights @ np.maximum(values, 0))
    assert averages(matrix, 0, 0, NO_OUTLIERS).kh1 == pytest.approx(plain)
    assert averages(matrix, 0, 0, NO_OUTLIERS).share == pytest.approx(plain / (1 + plain))


def test_eigenvectors_along_the_axes_have_no_scatter():
    """A Rademacher probe has the same part along every axis."""
    values = np.concatenate([[30.0, 20.0, 10.0], np.linspace(-1, 1, SIZE - 3)])
    known = known_of(np.diag(values), steps=30)
    np.testing.assert_allclose(known.positive.total, 60 / SIZE, rtol=1e-6)


def test_spread_out_eigenvectors_are_drawn_as_normal_numbers():
    """No element of them has any weight; the squares then have the mean 1 and the variance 2."""
    size = 40_000
    one = torch.ones(size, dtype=torch.float64) / size**0.5
    other = one * (2 * (torch.arange(size) % 2) - 1)

    class Two:
        shape = (size, size)

        def rows(self, rows):
            return 5.0 * (rows @ one)[:, None] * one + 3.0 * (rows @ other)[:, None] * other

    start = rademacher(size, LIKE, 0, 0)
    lanczos = Lanczos(Two(), start[None], 3)
    lanczos.advance(3)
    known = outliers(
        lanczos, int(lanczos.tridiagonal().counts[0]), rademacher(size, LIKE, 0, 1), (0,)
    )
    samples = known.positive.total * size
    assert samples.mean() == pytest.approx(8, rel=0.1)
    assert samples.var() == pytest.approx(2 * (25 + 9), rel=0.2)


def noticed(cases, copies, steps):
    """Seeds of 20 with a wrong sum of outliers, and those of them that the second probe noticed."""
    wrong, seen = set(), set()
    for seed in range(20):
        matrix, values = network_like(cases, seed, (40.0,) * copies + (22.0,) * copies + (9.0,))
        known = known_of(matrix, seed, steps)
        second, _ = run_of(matrix, probe(seed, 1), steps)
        found, expected = (
            known.positive.total.mean() * SIZE,
            values[values > known.positive.end].sum(),
        )
        if abs(found - expected) > 0.05 * expected:
            wrong.add(seed)
        if known.agree(*second.ritz[:2])[0] < MAX_OUTLIERS:
            seen.add(seed)
    return wrong, seen


@pytest.mark.parametrize(("copies", "steps"), [(1, 14), (1, 20), (2, 20)])
def test_where_all_outliers_are_there_nothing_is_noticed(cases, copies, steps):
    """Of a double one, rounding shows the second in time."""
    wrong, seen = noticed(cases, copies, steps)
    assert not wrong
    assert len(seen) <= 1


def test_most_often_a_missing_copy_is_noticed(cases):
    wrong, seen = noticed(cases, 2, 14)
    assert len(wrong) >= 18
    assert len(wrong & seen) >= 0.6 * len(wrong)


def test_what_is_left_out_is_not_averaged_over(cases):
    matrix, _ = network_like(cases)
    known = known_of(matrix, steps=20)
    left, none = (averages(matrix, 0, 3, one) for one in (known.first(0, 0), NO_OUTLIERS))
    np.testing.assert_allclose(dataclasses.astuple(left), dataclasses.astuple(none), rtol=1e-12)
    half = known.first(MAX_OUTLIERS, 0)
    assert (half.positive.end, half.negative.end) == (known.positive.end, np.inf)
    assert 9 < known.first(2, 0).positive.end < 22
    np.testing.assert_allclose(known.first(2, 0).positive.total.mean() * SIZE, 62, rtol=0.05)


def test_an_outlier_that_is_double_is_left_out_and_those_further_out_are_not(cases):
    """The first run sees one of two equal eigenvalues."""
    counts = set()
    for seed in range(10):
        matrix, _ = network_like(cases, seed, (40.0, 22.0, 9.0, 9.0))
        known = known_of(matrix, seed, steps=14)
        counts.add(known.agree(*run_of(matrix, probe(seed, 1), 14)[0].ritz[:2])[0])
    assert 2 in counts
    assert counts <= {2, MAX_OUTLIERS}  # a small part along the other one goes unnoticed


def test_there_are_at_most_so_many(cases):
    values = np.concatenate([np.linspace(-1, 1, SIZE - 30) * 0.01, np.linspace(10, 40, 30)])
    matrix = cases.matrix(values)[0]
    known = known_of(matrix, steps=SIZE)
    assert (values > known.positive.end).sum() == MAX_OUTLIERS


@pytest.mark.parametrize(
    "values", [np.full(SIZE, 2.0), np.linspace(1, 2, SIZE)], ids=["one", "band"]
)
def test_spectra_without_outliers(cases, values):
    matrix = cases.matrix(values)[0]
    known = known_of(matrix, steps=10)
    found = averages(matrix, 0, 3, known)
    assert (found.kh1, found.share) == (0, 0)


def test_a_spectrum_that_is_outliers_alone(cases):
    values = np.concatenate([np.zeros(SIZE - 5), [-3.0, -1.0, 4.0, 8.0, 20.0]])
    matrix = cases.matrix(values)[0]
    known = known_of(matrix, steps=8)
    exact, scatter = exact_kh1(matrix)
    found = [averages(matrix, 0, i, known) for i in (3, 4)]
    assert found[0].kh1 == pytest.approx(found[1].kh1, rel=1e-9)
    assert found[0].kh1_variance < 1e-12
    assert abs(found[0].kh1 - exact) < 4 * scatter / np.sqrt(16384)


def test_run_and_spectrum_tell_the_same(cases):
    matrix, _ = network_like(cases)
    run, lanczos = run_of(matrix, probe(0, 0), SIZE)
    known = outliers(lanczos, len(run.alphas), probe(0, 1), 0)
    positive = gauss_positive(run.alphas, run.betas[:-1])
    found = known.average(*run.ritz[:2], positive, run.form, SIZE)
    assert found.kh1 == pytest.approx(averages(matrix, 0, 0, known).kh1, rel=1e-8)
