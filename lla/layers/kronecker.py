"""The Kronecker product of two small symmetric matrices as an operator, with its eigenpairs."""

from __future__ import annotations

import torch
from torch import Tensor

from lla.errors import InputError
from lla.hessian.symmetric import SymmetricOperator


class KroneckerOperator(SymmetricOperator):
    """left (x) right, on vec(W) of W [F, d], row by row: W goes to left W right.

    With left = E[M] and right = E[xx'] it approximates the curvature of a layer, see
    `lla.layers.moments`: "decoupling" in Wu et al. (arXiv:2010.04261), KFC in Grosse and Martens
    (2016) for a convolution. It is exact for one example of a linear layer.

    Args:
        left: symmetric [F, F].
        right: symmetric [d, d].

    Raises:
        InputError: a matrix is not square or not symmetric, or they differ in type or device.

    >>> K = KroneckerOperator(torch.diag(torch.tensor([1.0, 2.0])), torch.eye(3))
    >>> K @ torch.ones(6)
    tensor([1., 1., 1., 2., 2., 2.])
    """

    def __init__(self, left: Tensor, right: Tensor) -> None:
        for matrix in (left, right):
            if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
                raise InputError(f"a factor is {list(matrix.shape)}: give a square matrix")
            if not torch.allclose(matrix, matrix.T, rtol=1e-4, atol=1e-6 * float(matrix.norm())):
                raise InputError("a factor is not symmetric: give a symmetric matrix")
        if (left.dtype, left.device) != (right.dtype, right.device):
            raise InputError(
                f"the factors are {left.dtype} on {left.device} and {right.dtype} on "
                f"{right.device}: convert one with .to(other)"
            )
        super().__init__(len(left) * len(right), left.dtype, left.device)
        self.left, self.right = left.detach(), right.detach()

    def multiplied(self, rows: Tensor) -> Tensor:
        """The product with each row of a matrix [K, P]."""
        W = rows.reshape(len(rows), len(self.left), len(self.right))
        return (self.left @ W @ self.right).flatten(1)

    def top(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """The k largest eigenvalues [k] with their vectors u (x) v, without any vector [P].

        The eigenvalues are all lambda_i mu_j of the two factors, for u_i (x) v_j. Factors without
        negative eigenvalues are taken for granted.

        Returns:
            Values [k], left parts u [k, F], right parts v [k, d].
        """
        size = self.shape[0]
        if not 1 <= k <= size:
            raise InputError(f"k is {k}: choose 1 to {size}")
        # a pair among the k largest products has both its numbers among the k largest
        (one, U), (other, V) = (_largest(matrix, k) for matrix in (self.left, self.right))
        products = torch.outer(one, other).flatten()
        values, order = products.sort(descending=True, stable=True)
        values, order = values[:k], order[:k]
        return values, U[order // len(other)], V[order % len(other)]


def _largest(matrix: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest eigenvalues of a symmetric matrix, or all, and the eigenvectors as rows."""
    values, vectors = torch.linalg.eigh(matrix)
    return values.flip(0)[:k], vectors.T.flip(0)[:k]


def outliers(values: Tensor) -> tuple[int, float]:
    """How many eigenvalues stand out from the rest, and by which factor.

    The largest ratio of two consecutive eigenvalues is taken as the gap. Eigenvalues below 1e-4 of
    the largest count as that, so that a gap between two numbers near zero is none.

    Args:
        values: eigenvalues, the largest first, none negative except for rounding.

    >>> outliers(torch.tensor([9.0, 8.0, 0.5, 0.4]))
    (2, 16.0)
    """
    if len(values) < 2 or not values[0] > 0:
        return 0, 1.0
    held = values.clamp(min=1e-4 * float(values[0]))
    ratios = held[:-1] / held[1:]
    place = int(ratios.argmax())
    return place + 1, float(ratios[place])
