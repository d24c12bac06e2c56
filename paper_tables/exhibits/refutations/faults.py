"""Each fault in at most twenty lines: a function that gives the right number and the wrong one.

All of it is small and in float64, so that rounding plays no part but where it is the subject.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

import lla
from lla.hessian.ratios import spectrum_criteria
from lla.hessian.symmetric import SymmetricOperator
from lla.probes import gaussian, rademacher

P = 200  # dimensions of the prescribed spectra
STEPS = 100


@dataclass(frozen=True)
class Fault:
    """A fault that public code has.

    Attributes:
        name: of the row.
        program: what kind of program has it.
        fault: what it does.
        quantity: what both numbers are.
        numbers: gives the right number, then the wrong one.
    """

    name: str
    program: str
    fault: str
    quantity: str
    numbers: Callable[[], tuple[float, float]]


class Diagonal(SymmetricOperator):
    """A diagonal matrix with a given spectrum."""

    def __init__(self, values: Tensor) -> None:
        super().__init__(len(values), values.dtype, values.device)
        self.values = values

    def multiplied(self, rows: Tensor) -> Tensor:
        """Multiply each row."""
        return rows * self.values


def spectrum() -> Tensor:
    """One outlying eigenvalue, a dense part around zero, and a few between."""
    bulk = torch.linspace(-0.5, 1.0, P - 4, dtype=torch.float64)
    return torch.cat([bulk, torch.tensor([3.0, 8.0, 20.0, 100.0], dtype=torch.float64)])


def ghosts() -> tuple[float, float]:
    """Nodes at the largest eigenvalue: vectors orthogonal to all, or to the last eleven only."""
    H = Diagonal(spectrum())
    found = [lla.spectral_density(H, 1, STEPS, legacy=legacy) for legacy in (False, True)]
    right, wrong = (int((abs(each.eigenvalues[0] - 100) < 1e-3).sum()) for each in found)
    return float(right), float(wrong)


def _network() -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """A small network, and batches of eight and two examples."""
    drawn = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    for p in model.parameters():
        p.data = torch.randn(p.shape, generator=drawn, dtype=torch.float64)
    x, y = torch.randn(10, 5, generator=drawn).double(), torch.arange(10) % 3
    return model, [(x[:8], y[:8]), (x[8:], y[8:])]


def _trace(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    H = lla.HessianOperator(lla.Problem(model, batches))
    return float(torch.trace(H @ torch.eye(H.shape[0], dtype=torch.float64)))


def sizes() -> tuple[float, float]:
    """The trace over eight and two examples: by their numbers, or as the mean of two batches."""
    model, batches = _network()
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    wrong = np.mean([_trace(model, [batch]) for batch in batches])
    return _trace(model, [(x, y)]), float(wrong)


def axes() -> tuple[float, float]:
    """Kappa of a linear layer, sum <w_o, w_p> H[o, i, p, i], or with H read as [i, o, p, i]."""
    model, batches = _network()
    W = model.get_parameter("2.weight").detach()
    c, d = W.shape
    H = lla.HessianOperator(lla.Problem(model, batches), parameters="2.weight")
    blocks = (H @ torch.eye(c * d, dtype=torch.float64)).reshape(c, d, c, d)
    gram = W @ W.T
    right = torch.einsum("op,oipi->", gram, blocks)
    k = min(c, d)  # what is left of a trace over two axes of unequal lengths
    wrong = torch.einsum("op,iopi->", gram, blocks[:k, :c, :, :k])
    return float(right), float(wrong)


def dropped() -> tuple[float, float]:
    """The correlation of noise with noise: of all networks, or without the three that fit least."""
    x = gaussian(12, torch.empty(0, dtype=torch.float64), 3).numpy()
    y = gaussian(12, torch.empty(0, dtype=torch.float64), 4).numpy()
    off = abs(stats.zscore(y) - stats.pearsonr(x, y).statistic * stats.zscore(x))
    kept = np.argsort(off)[:-3]
    right, wrong = stats.pearsonr(x, y), stats.pearsonr(x[kept], y[kept])
    return float(right.statistic), float(wrong.statistic)


def offset() -> tuple[float, float]:
    """K_H1 where the loss is 1e-8 times as large: as it was, or with 1e-6 added to every norm."""
    values = 1e-8 * spectrum()
    found = [
        lla.spectral_density(Diagonal(values), 4, 30, legacy=legacy) for legacy in (False, True)
    ]
    right, wrong = (spectrum_criteria(each).kh1.mean() for each in found)
    return float(right), float(wrong)


def rows() -> tuple[float, float]:
    """V'Hv by quadrature: squares of the first elements of the eigenvectors, or means of all."""
    H = Diagonal(spectrum())
    probe = rademacher(P, H.like, 0, 0, 0)
    Q, _ = torch.linalg.qr(torch.stack([probe * H.values**k for k in range(8)], 1))
    ritz, vectors = torch.linalg.eigh(Q.T @ (H.values[:, None] * Q))
    right, wrong = vectors[0] ** 2, (vectors**2).mean(0)
    return float(right @ ritz), float(wrong @ ritz)


def place() -> tuple[float, float]:
    """The Rayleigh quotient v'Hv / v'v at the weights, or with the product taken at v."""
    model, batches = _network()
    problem = lla.Problem(model, batches)
    v = gaussian(problem.space.size, problem.theta(), 1)
    at_v = lla.Problem(model, batches).at(v)
    found = [v @ (lla.HessianOperator(each) @ v) / (v @ v) for each in (problem, at_v)]
    return float(found[0]), float(found[1])


FAULTS = (
    Fault("windowed reorthogonalisation", "spectral densities by Lanczos",
          "makes a new vector orthogonal to the last eleven only, so an outlier comes back as "
          "ghosts", "nodes at one eigenvalue", ghosts),
    Fault("batches without their sizes", "Hessian products over a loader",
          "averages batches of eight and two examples as if they were alike", "trace", sizes),
    Fault("wrong axes", "a flatness loss",
          "takes the block [out, in, out, in] of a Hessian for [in, out, out, in]", "kappa", axes),
    Fault("dropped points", "a comparison of flatness measures",
          "leaves out the three of twelve points that fit least, here random ones without any "
          "relation",
          "Pearson's r", dropped),
    Fault("an offset in a norm", "spectral densities by Lanczos",
          "divides by norms plus 1e-6, so criteria depend on the scale of the loss", "K_H1",
          offset),
    Fault("weights of all rows", "spectral densities by quadrature",
          "weighs a node by the mean of the squared elements of an eigenvector, not by the square "
          "of its first element",
          "v'Hv / v'v", rows),
    Fault("a product at the direction", "Hessian products by functional differentiation",
          "differentiates at v where it should at the weights: hvp(f, v, v) for hvp(f, theta, v)",
          "v'Hv / v'v", place),
)  # fmt: skip
