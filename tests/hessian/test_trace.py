import numpy as np
import pytest
import torch
from scipy.stats import binom, t
from torch import nn

import lla

BULK = np.random.default_rng(0).uniform(0.5, 1.5, size=60)
OUTLIERS = np.concatenate([[4000.0, 2500.0, 1800.0, 900.0, 500.0], BULK])
METHODS = ("hutchinson", "hutch++")


@pytest.mark.parametrize("method", METHODS)
def test_trace_of_networks_is_inside_its_error_bar(cases, case, method):
    exact = float(cases.hessian(case).trace())
    H = lla.HessianOperator(case.problem())
    rtol = 0.05 * float(cases.hessian(case).norm()) / (abs(exact) or 1.0)
    estimate = lla.trace(H, method, rtol=rtol, max_matvecs=20000)
    assert abs(estimate.value - exact) <= 4 * estimate.stderr + 1e-9
    assert estimate.stderr <= rtol * abs(estimate.value)
    assert estimate.matvecs == H.matvecs


def within(p, runs=100, confidence=1e-4):
    """Bounds of a count of successes."""
    return binom.ppf(confidence, runs, p), binom.ppf(1 - confidence, runs, p)


@pytest.mark.filterwarnings("ignore:after")
@pytest.mark.parametrize("rtol", [0.02, 1e-9])
@pytest.mark.parametrize("method", METHODS)
def test_over_100_seeds_the_error_bar_holds_at_its_rate(cases, method, rtol):
    A, _ = cases.matrix(np.concatenate([BULK, -0.3 * BULK]))
    H = cases.Matrix(A)
    options = {"rtol": rtol, "max_matvecs": 60, "sketch": 10 if method == "hutch++" else None}
    z = []
    for seed in range(100):
        estimate = lla.trace(H, method, seed=seed, **options)
        z.append((estimate.value - np.trace(A)) / estimate.stderr)
    for width in (1, 2):
        low, high = within(1 - 2 * t.sf(width, estimate.n - 1))
        assert low <= np.sum(np.abs(z) <= width) <= high
    assert abs(np.mean(z)) < 4 * 1.1 / 10


def decaying(rng):
    """Eigenvalues of a trained network's kind: few carry most of the trace."""
    return 10 * np.arange(1, 151) ** -rng.uniform(0.5, 1.5)


@pytest.mark.filterwarnings("ignore:after")  # a few runs use up their products
@pytest.mark.parametrize("rtol", [0.2, 0.05])
@pytest.mark.parametrize("method", METHODS)
def test_on_200_spectra_95_percent_intervals_hold_the_trace_in_nine_of_ten(cases, method, rtol):
    """Not in 95 %: samples v'Hv are skewed, and a run ends sooner if it has seen no large ones."""
    holds = []
    for seed in range(200):
        A, _ = cases.matrix(decaying(np.random.default_rng(seed)), seed)
        found = lla.trace(cases.Matrix(A), method, rtol=rtol, seed=seed, max_matvecs=149)
        holds.append(abs(found.value - np.trace(A)) <= t.ppf(0.975, found.n - 1) * found.stderr)
    low, high = within(0.9, 200)[0], within(0.97, 200)[1]
    assert low <= sum(holds) <= high


@pytest.mark.parametrize("method", METHODS)
def test_mean_over_seeds_is_the_trace(cases, method):
    A, _ = cases.matrix(OUTLIERS)
    H = cases.Matrix(A)
    values = [lla.trace(H, method, rtol=10, seed=seed, max_matvecs=30).value for seed in range(200)]
    assert abs(np.mean(values) - np.trace(A)) < 4 * np.std(values) / np.sqrt(200)


def test_hutch_needs_fewer_products_where_few_eigenvalues_dominate(cases):
    A, _ = cases.matrix(np.concatenate([OUTLIERS, np.tile(BULK, 10)]))
    H = cases.quadratic(A)
    plain, better = (lla.trace(H, m, rtol=0.04, max_matvecs=100000) for m in METHODS)
    assert better.matvecs < plain.matvecs / 2
    assert plain.stderr > 0
    assert better.value == pytest.approx(np.trace(A), rel=0.01)
    assert plain.value == pytest.approx(np.trace(A), rel=0.16)


def mlp():
    """A network of 83 parameters in float64, and a batch."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 8)).double()
    return model, (torch.randn(40, 6).double(), torch.randint(0, 8, (40,)))


@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"rtol": 0.01}, 16 + 83),  # after the first samples
        ({"rtol": 0.01, "max_matvecs": 99}, 16 + 83),  # which is all that are allowed
        ({"rtol": 0.01, "max_matvecs": 98}, 83),  # no room for samples beside it
        ({"rtol": 0.01, "max_matvecs": 83}, 83),
        ({"method": "hutch++", "sketch": 35}, 83),  # which the sketch and first samples cost too
        ({"method": "hutch++", "sketch": 5, "rtol": 1e-4}, 2 * 5 + 16 + 83),
    ],
)
def test_item_16_unit_vectors_where_they_are_cheaper(cases, recwarn, options, most):
    model, batch = mlp()
    exact = float(cases.plain_hessian(model, [batch]).trace())
    H = lla.HessianOperator(lla.Problem(model, batch))
    estimate = lla.trace(H, **options)
    assert estimate.value == pytest.approx(exact, rel=1e-10)
    assert (estimate.stderr, estimate.n) == (0, 83)
    assert estimate.matvecs == H.matvecs == most
    assert not recwarn


@pytest.mark.parametrize(("size", "sampled"), [(2, False), (16, False), (17, True)])
def test_unit_vectors_are_multiplied_at_once_where_the_first_samples_cost_as_much(
    cases, size, sampled
):
    A, _ = cases.matrix(np.linspace(1, 2, size))
    estimate = lla.trace(cases.quadratic(A), rtol=10.0)
    assert (estimate.stderr > 0) == sampled
    assert estimate.matvecs == estimate.n == min(size, 16)
    assert sampled or estimate.value == pytest.approx(1.5 * size, rel=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_item_16_no_unit_vectors_where_they_do_not_fit_or_cost_more(method):
    H = lla.HessianOperator(lla.Problem(*mlp()))
    with pytest.warns(UserWarning, match="after 82 products"):
        estimate = lla.trace(H, method, rtol=1e-3, max_matvecs=82)
    assert estimate.matvecs == 82
    assert estimate.stderr > 0
    # the first samples are enough
    assert lla.trace(H, rtol=1.0).matvecs == 16


def test_hutch_with_a_sketch_of_full_width_is_exact(cases):
    A, _ = cases.matrix(OUTLIERS)
    estimate = lla.trace(cases.quadratic(A), "hutch++", sketch=len(A))
    assert estimate.value == pytest.approx(np.trace(A), rel=1e-10)


@pytest.mark.filterwarnings("ignore:after")
@pytest.mark.parametrize(
    ("options", "width"),
    [
        ({}, 32), ({"max_matvecs": 100}, 16), ({"max_matvecs": 18}, 3), ({"max_matvecs": 7}, 1),
        ({"sketch": 1}, 1),
    ],
)  # fmt: skip
def test_the_width_of_the_sketch_is_a_sixth_of_the_products_and_at_most_32(cases, options, width):
    H = cases.spectrum_of(np.tile(BULK, 4))
    product, passed = H._kept[0], []

    def counting(rows):
        passed.append(len(rows))
        return product(rows)

    H._kept[0] = counting
    lla.trace(H, "hutch++", rtol=0.5, **options)
    assert passed[:3] == [width, width, 1]


def test_hutch_with_low_rank_is_exact(cases):
    A, _ = cases.matrix(np.concatenate([[50.0, -7.0, 1.0], np.zeros(50)]))
    estimate = lla.trace(cases.quadratic(A), "hutch++", sketch=8)
    assert estimate.value == pytest.approx(44, rel=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_diagonal_and_zero_hessians_cost_the_first_samples_only(cases, method):
    for diagonal in (np.arange(40.0), np.zeros(40)):
        estimate = lla.trace(cases.quadratic(np.diag(diagonal)), "hutchinson")
        assert estimate.value == diagonal.sum()
        assert estimate.stderr == 0
        assert estimate.matvecs == 16


@pytest.mark.parametrize("method", METHODS)
def test_without_enough_products_it_says_so(cases, method):
    A, _ = cases.matrix(np.concatenate([BULK, -BULK + 0.01]))
    H = cases.quadratic(A)
    with pytest.warns(UserWarning, match="after 50 products the standard error .*max_matvecs"):
        estimate = lla.trace(H, method, rtol=1e-6, max_matvecs=50)
    assert estimate.matvecs == H.matvecs == 50
    assert abs(estimate.value - np.trace(A)) < 5 * estimate.stderr


@pytest.mark.parametrize("method", METHODS)
def test_products_are_counted(cases, method):
    H = cases.spectrum_of(OUTLIERS)
    product, passed = H._kept[0], []

    def counting(rows):
        passed.append(len(rows))
        return product(rows)

    H._kept[0] = counting
    estimate = lla.trace(H, method, rtol=0.2, sketch=6 if method == "hutch++" else None)
    assert estimate.matvecs == sum(passed)
    assert estimate.n == sum(passed) - (12 if method == "hutch++" else 0)


@pytest.mark.hard_use(
    "The trace ends at the first of 16, 20, 25, 32, 40, 50, ... samples at which the standard "
    "error is small enough, and at no other number"
)
@pytest.mark.parametrize(("method", "least"), [("hutchinson", 0.007), ("hutch++", 0.004)])
def test_the_standard_error_is_looked_at_after_every_quarter_more(cases, method, least):
    schedule, seen = [16, 20, 25, 32, 40, 50, 63, 79, 99, 124, 155, 194, 243], set()
    A, _ = cases.matrix(np.concatenate([np.tile(BULK, 5), [20.0]]))
    H = cases.quadratic(A)
    width = 3 if method == "hutch++" else None
    for rtol in np.geomspace(least, 3 * least, 8):
        product, samples = H._kept[0], []

        def recorded(rows, product=product, samples=samples):
            made = product(rows)
            samples.extend((rows * made).sum(1).tolist() if len(rows) == 1 else [])
            return made

        H._kept[0] = recorded
        estimate = lla.trace(H, method, rtol=rtol, sketch=width)
        H._kept[0] = product
        exact = estimate.value - np.mean(samples)  # on the sketched subspace; 0 without
        enough = [
            n
            for n in schedule
            if np.std(samples[:n], ddof=1) / n**0.5 <= rtol * abs(exact + np.mean(samples[:n]))
        ]
        assert estimate.n == len(samples) == enough[0]
        seen.add(estimate.n)
    assert len(seen) >= 5, "the case exercises the schedule"


@pytest.mark.parametrize("method", METHODS)
def test_seeds(cases, method):
    H = cases.spectrum_of(OUTLIERS)
    one, same, other = (
        lla.trace(H, method, rtol=0.2, max_matvecs=50, seed=seed) for seed in (0, 0, 1)
    )
    assert one == same
    assert one.value != other.value


def test_float32(cases):
    A, _ = cases.matrix(OUTLIERS)
    for method in METHODS:
        estimate = lla.trace(cases.quadratic(A, torch.float32), method, rtol=0.05)
        assert abs(estimate.value - np.trace(A)) < 4 * estimate.stderr + 1e-3 * np.trace(A)


@pytest.mark.parametrize("method", METHODS)
def test_product_that_is_not_finite(cases, method):
    H = cases.spectrum_of(OUTLIERS)
    H._kept[0] = lambda rows: rows * float("nan")
    with pytest.raises(lla.NonFiniteError, match="not finite"):
        lla.trace(H, method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "xtrace"}, "method is 'xtrace': choose 'hutchinson' or 'hutch"),
        ({"rtol": 0}, "rtol is 0: give a positive number"),
        ({"rtol": float("nan")}, "rtol is nan"),
        ({"max_matvecs": 1}, "max_matvecs is 1: too few"),
        ({"max_matvecs": 0}, "max_matvecs is 0: too few"),
        ({"max_matvecs": 99.5}, "max_matvecs is 99.5: give a whole number"),
        ({"method": "hutch++", "sketch": 0}, "sketch is 0: choose 1 to 65"),
        ({"method": "hutch++", "sketch": 66}, "sketch is 66: choose 1 to 65"),
        ({"method": "hutch++", "sketch": 30, "max_matvecs": 40}, "max_matvecs|sketch"),
    ],
)
def test_options_that_cannot_be(cases, options, message):
    with pytest.raises(lla.InputError, match=message):
        lla.trace(cases.spectrum_of(OUTLIERS), **options)
