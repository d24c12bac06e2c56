import numpy as np
import pytest
import torch

from lla.hessian.lanczos.thick_restart import thick_restart
from lla.hessian.symmetric import SymmetricOperator


class Skewed(SymmetricOperator):
    """A dense matrix; each product has an error along the first vector."""

    def __init__(self, A, error):
        self.A = torch.as_tensor(A)
        super().__init__(len(self.A), self.A.dtype, self.A.device)
        self.error = error
        self.vectors = []

    def rows(self, rows):
        self.vectors.append(rows[0].clone())
        return rows @ self.A + self.error * self.vectors[0]


@pytest.mark.hard_use(
    "Thick restart keeps its vectors orthogonal to 1e-13 beside products with an error of a "
    "million times the operator along an earlier vector, which takes its second Gram-Schmidt pass"
)
def test_an_error_along_earlier_vectors_leaves_the_others_orthogonal(cases):
    A, _ = cases.matrix(np.linspace(-1, 1, 60))
    operator = Skewed(A, 1e6)
    start = torch.randn(60, dtype=torch.float64)
    thick_restart(
        operator, start, 2, lambda values: np.argsort(-values), 20, 1e-9, 15,
        lambda step: start, lambda count: None,
    )  # fmt: skip
    V = torch.stack(operator.vectors)
    assert len(V) == 15
    assert float((V @ V.T - torch.eye(15)).abs().max()) < 1e-13


@pytest.mark.hard_use(
    "A start vector after exhaustion that lies almost in the space of thick restart's earlier "
    "vectors is orthogonal to them all the same"
)
def test_a_new_start_almost_among_the_earlier_vectors_is_orthogonal_to_them(cases):
    A, _ = cases.matrix(np.repeat([1.0, 2.0, 3.0], 20))
    operator = Skewed(A, 0.0)
    start = torch.randn(60, dtype=torch.float64)
    beside = torch.randn(60, dtype=torch.float64)
    thick_restart(
        operator, start, 2, lambda values: np.argsort(-values), 20, 1e-9, 6,
        lambda step: start + 1e-9 * beside, lambda count: None,
    )  # fmt: skip
    V = torch.stack(operator.vectors)
    assert len(V) == 6
    assert float((V @ V.T - torch.eye(6)).abs().max()) < 1e-13


@pytest.mark.parametrize("most", [15, 37])
def test_products_are_told_through_all_restarts(cases, most):
    operator, told = Skewed(cases.matrix(np.linspace(-1, 1, 60))[0], 0.0), []
    start = torch.randn(60, dtype=torch.float64)
    *_, steps, converged = thick_restart(
        operator, start, 2, lambda values: np.argsort(-values), 10, 1e-12, most,
        lambda step: start, told.append,
    )  # fmt: skip
    assert sum(told) == steps == len(operator.vectors) == most
    assert len(told) > 1
    assert not converged
