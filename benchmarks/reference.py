"""References for spectra: eigenvalues and moments in float64, computed without lla.

The products are double backward in plain PyTorch, the eigenvalues ARPACK's (Lehoucq, Sorensen and
Yang 1998).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn

from benchmarks.problems import Pairs

TOP = 5  # eigenvalues that are compared

Product = Callable[[np.ndarray], np.ndarray]


def products(model: nn.Module, pairs: Pairs) -> tuple[Product, int]:
    """The function that multiplies with the Hessian of the mean loss over all examples, and P.

    Args:
        model: in float64.
        pairs: batches in float64.
    """
    parameters = list(model.parameters())
    examples = sum(len(y) for _, y in pairs)
    gradients = []
    for x, y in pairs:
        loss = nn.functional.cross_entropy(model(x), y) * (len(y) / examples)
        gradients.append(_flat(torch.autograd.grad(loss, parameters, create_graph=True)))

    def product(vector: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(np.ascontiguousarray(vector).reshape(-1)).to(parameters[0])
        total = torch.zeros_like(flat)
        for gradient in gradients:
            total += _flat(torch.autograd.grad(gradient, parameters, flat, retain_graph=True))
        return total.cpu().numpy()

    return product, gradients[0].numel()


def _flat(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.reshape(-1) for part in parts])


def largest(product: Product, size: int) -> np.ndarray:
    """The six largest eigenvalues, in descending order: one more than is compared."""
    operator = LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(size)
    values = eigsh(operator, TOP + 1, which="LA", tol=1e-8, v0=start, return_eigenvectors=False)
    return np.sort(values)[::-1]


def moments(product: Product, start: np.ndarray) -> np.ndarray:
    """The moments v' H^k v for k = 1..4 of a vector [P], normalised first."""
    v = start / np.linalg.norm(start)
    first = product(v)
    second = product(first)
    return np.array([v @ first, first @ first, first @ second, second @ second])
