"""Bounds of v' H+ v from short Lanczos runs, against the exact number from a full spectrum."""

import numpy as np
import pytest
import torch

from lla.hessian.lanczos.process import Lanczos
from lla.hessian.lanczos.runs import gauss_positive, lower_positive

RNG = np.random.default_rng(0)
SPECTRA = {
    "network-like": np.concatenate([[60.0, 30, 8, 5, 3], RNG.laplace(scale=0.1, size=95)]),
    "symmetric": np.concatenate([-np.geomspace(0.01, 3, 40), np.geomspace(0.01, 3, 40)]),
    "many zeros": np.concatenate([np.zeros(40), RNG.normal(size=40)]),
    "positive": np.geomspace(1e-3, 10, 60),
    "negative": -np.geomspace(1e-3, 10, 60),
    "shifted": RNG.normal(size=70) + 1.5,
}


class Diagonal:
    """A diagonal matrix as an operator on rows."""

    def __init__(self, values):
        self.values = torch.as_tensor(values)
        self.shape = (len(values), len(values))

    def rows(self, rows):
        return rows * self.values


def run(values, steps, seed=0):
    """T of a run from a random start, and the exact v' H+ v."""
    start = np.random.default_rng(seed).normal(size=len(values))
    lanczos = Lanczos(Diagonal(values), torch.as_tensor(start)[None], steps)
    lanczos.advance(steps)
    t = lanczos.tridiagonal()
    count = t.counts[0]
    exact = np.maximum(values, 0) @ (start**2 / (start @ start))
    return t.alphas[0, :count], t.betas[0, :count], exact


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SPECTRA)
def test_bound_is_below_the_exact_number_and_every_longer_rule_and_rises(name, seed):
    values = SPECTRA[name]
    alphas, betas, exact = run(values, 40, seed)
    sizes = range(1, len(alphas) + 1)
    lower = np.array([lower_positive(alphas[:n], betas[: n - 1]) for n in sizes])
    gauss = np.array([gauss_positive(alphas[:n], betas[: n - 1]) for n in sizes])
    rounding = 1e-10 * np.abs(values).max()
    assert (lower <= exact + rounding).all()
    assert (np.diff(lower) >= -rounding).all()
    assert (lower <= np.minimum.accumulate(gauss[::-1])[::-1] + rounding).all()
    assert (lower >= max(0.0, alphas[0]) - rounding).all()


def test_what_is_missing_falls_steadily_and_is_much_the_same_for_all_probes():
    sizes = range(12, 41)
    missing = []
    for seed in range(8):
        alphas, betas, exact = run(SPECTRA["network-like"], 40, seed)
        missing.append([exact - lower_positive(alphas[:n], betas[: n - 1]) for n in sizes])
    missing = np.array(missing)
    assert (np.diff(missing) < 1e-12).all()
    assert (missing.std(0) < 0.4 * missing.mean(0)).all()


@pytest.mark.parametrize("name", ["positive", "negative"])
def test_one_sided_spectra_are_exact_after_two_steps(name):
    alphas, betas, exact = run(SPECTRA[name], 5)
    assert lower_positive(alphas[:2], betas[:1]) == pytest.approx(exact, abs=1e-12)


def test_zero_that_is_a_node_already():
    # T of two steps has the eigenvalues -1 and 1, T of the first step 0
    alphas, betas = np.array([0.0, 0.0]), np.array([1.0])
    assert gauss_positive(alphas, betas) == pytest.approx(0.5)
    assert lower_positive(alphas, betas) == 0
