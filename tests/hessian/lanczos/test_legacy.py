import numpy as np
import pytest
import torch

import lla
from lla.hessian.lanczos.legacy import legacy_tridiagonal

OUTLIER = np.concatenate([[300.0], np.random.default_rng(0).normal(size=299)])


class Recorded:
    """A dense matrix as a row operator that keeps the vectors it is applied to."""

    def __init__(self, A, dtype=torch.float32):
        self.A = torch.as_tensor(np.asarray(A)).to(dtype)
        self.shape = tuple(self.A.shape)
        self.vectors = []

    def rows(self, rows):
        self.vectors.append(rows[0].clone())
        return rows @ self.A


def run(operator, steps, scale=1.0, seed=0):
    size = operator.shape[0]
    start = torch.ones(size, dtype=operator.A.dtype) * scale / size**0.5
    return legacy_tridiagonal(operator, start, steps, seed, lambda: None)


@pytest.mark.hard_use(
    "The imitated public code makes a vector orthogonal to exactly the last eleven: each to these "
    "within rounding, none of the earlier ones"
)
def test_a_vector_is_orthogonal_to_the_last_eleven_only(cases):
    operator = Recorded(cases.matrix(OUTLIER)[0])
    run(operator, 60)
    V = torch.stack(operator.vectors).double()
    products = (V @ V.T).abs()
    assert max(float(products.diagonal(back).max()) for back in range(1, 12)) < 1e-6
    assert float(products.diagonal(12).max()) > 1e-3


@pytest.mark.parametrize(("scale", "norm"), [(1e-6, 0.5), (1e-5, 10 / 11), (1.0, 1 / 1.000001)])
def test_a_vector_is_divided_by_its_norm_and_a_millionth(scale, norm):
    operator = Recorded(np.diag(np.linspace(1, 2, 50)), torch.float64)
    run(operator, 1, scale)
    assert float(operator.vectors[0].norm()) == pytest.approx(norm, rel=1e-12)


def test_t_is_that_of_a_plain_lanczos_process_while_orthogonality_lasts(cases):
    A, _ = cases.matrix(np.linspace(1e3, 9e3, 40))
    T = run(Recorded(A, torch.float64), 10)
    vector, previous, beta = np.ones(40) / 40**0.5, np.zeros(40), 0.0
    for j in range(10):
        product = A @ vector - beta * previous
        alpha = vector @ product
        assert T.alphas[0, j] == pytest.approx(alpha, rel=1e-5)
        previous, product = vector, product - alpha * vector
        beta = np.linalg.norm(product)
        if j < 9:
            assert T.betas[0, j] == pytest.approx(beta, rel=1e-5)
        vector = product / beta
    assert T.betas[0, 9] == 0, "the last residual's norm is not computed"
    assert (T.counts.tolist(), T.exhausted.tolist()) == ([10], [False])


def test_a_vector_of_norm_zero_is_replaced_by_a_probe_of_the_seed(cases):
    found = []
    for seed in (0, 0, 1):
        operator = Recorded(np.zeros((8, 8)), torch.float64)
        T = run(operator, 3, seed=seed)
        assert T.counts.tolist() == [3], "the process goes on"
        assert T.betas[0, 0] == 0
        assert float(operator.vectors[1] @ operator.vectors[0]) == pytest.approx(0, abs=1e-5)
        assert float(operator.vectors[1].norm()) == pytest.approx(1, rel=1e-5)
        found.append(operator.vectors[1])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_every_step_is_told():
    told = []
    operator = Recorded(np.diag(np.linspace(1, 2, 20)))
    legacy_tridiagonal(operator, torch.ones(20), 7, 0, lambda: told.append(len(operator.vectors)))
    assert told == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("step", [1, 4])
def test_a_product_that_is_not_finite_is_refused_even_in_the_last_step(step):
    operator = Recorded(np.diag(np.linspace(1, 2, 20)))
    rows, steps = operator.rows, 4
    operator.rows = lambda v: rows(v) * (np.nan if len(operator.vectors) == step else 1.0)
    with pytest.raises(lla.NonFiniteError):
        run(operator, steps)
