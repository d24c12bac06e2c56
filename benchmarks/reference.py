"""What a spectrum has to agree with: eigenvalues and moments in float64, by other means than lla's.

The products are double backward in plain PyTorch, the eigenvalues ARPACK's (Lehoucq, Sorensen and
Yang 1998).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import nn

from benchmarks.peers import Pairs, Quadrature

TOP = 5  # eigenvalues that are compared
ORDERS = (1, 2, 3, 4)  # of the moments
TOLERANCE = 1e-3  # relative

Product = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Judgement:
    """How far a spectrum is from the reference."""

    eigenvalue_error: float  # largest relative error of the top five nodes, of any probe
    copies: int  # nodes too many among the largest, of any probe
    moment_error: float  # largest relative error of the moments of the first probe

    @property
    def correct(self) -> bool:
        """Whether the top five are there once each and the moments agree."""
        return (
            self.eigenvalue_error <= TOLERANCE
            and self.moment_error <= TOLERANCE
            and self.copies == 0
        )

    @property
    def reason(self) -> str:
        """What is wrong, in words."""
        parts = []
        if self.copies:
            parts.append(f"{self.copies} copies among the largest eigenvalues")
        elif self.eigenvalue_error > TOLERANCE:
            parts.append(f"eigenvalues off by {self.eigenvalue_error:.1e}")
        if self.moment_error > TOLERANCE:
            parts.append(f"moments off by {self.moment_error:.1e}")
        return "; ".join(parts)


def products(model: nn.Module, pairs: Pairs) -> tuple[Product, int]:
    """Products with the Hessian of the mean loss over all examples, and P.

    Args:
        model: in float64.
        pairs: batches in float64.
    """
    parameters = list(model.parameters())
    examples = sum(len(y) for _, y in pairs)
    gradients = []
    for x, y in pairs:
        loss = nn.functional.cross_entropy(model(x), y) * (len(y) / examples)
        gradients.append(torch.autograd.grad(loss, parameters, create_graph=True))
    sizes = [parameter.numel() for parameter in parameters]

    def product(vector: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(np.ascontiguousarray(vector).reshape(-1)).to(parameters[0])
        parts = [v.view_as(p) for v, p in zip(flat.split(sizes), parameters, strict=True)]
        total = torch.zeros_like(flat)
        for gradient in gradients:
            found = torch.autograd.grad(gradient, parameters, parts, retain_graph=True)
            total += torch.cat([part.reshape(-1) for part in found])
        return total.cpu().numpy()

    return product, sum(sizes)


def largest(product: Product, size: int) -> np.ndarray:
    """The six largest eigenvalues, in descending order: one more than is compared."""
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    values = eigsh(operator, TOP + 1, which="LA", tol=1e-8, v0=start, return_eigenvectors=False)
    return np.sort(values)[::-1]


def moments(product: Product, start: np.ndarray) -> np.ndarray:
    """The moments v' H^k v for k = 1..4 of a vector [P], made one in length."""
    v = start / np.linalg.norm(start)
    first = product(v)
    second = product(first)
    return np.array([v @ first, first @ first, first @ second, second @ second])


def judge(found: Quadrature, top: np.ndarray, exact: np.ndarray) -> Judgement:
    """Compare a spectrum with the reference.

    Args:
        found: the spectrum.
        top: the largest eigenvalues, one more than is compared, see `largest`.
        exact: moments of the first probe, see `moments`.

    >>> found = Quadrature(np.array([[3.0, 3.0, 2.0, 1.0, 0.5, 0.1]]), np.full((1, 6), 1 / 6),
    ...                    6, np.ones(6))
    >>> judge(found, np.array([3.0, 2.0, 1.0, 0.5, 0.1, 0.0]), np.ones(4)).copies
    1
    """
    floor = top[TOP - 1] - TOLERANCE * abs(top[TOP - 1])
    expected = int((top >= floor).sum())
    errors, copies = [], 0
    for nodes in found.nodes:
        ordered = np.sort(nodes)[::-1]
        copies = max(copies, int((ordered >= floor).sum()) - expected)
        errors.append(np.abs(ordered[:TOP] / top[:TOP] - 1).max())
    own = [(found.weights[0] * found.nodes[0] ** k).sum() for k in ORDERS]
    return Judgement(float(max(errors)), copies, float(np.abs(np.array(own) / exact - 1).max()))
