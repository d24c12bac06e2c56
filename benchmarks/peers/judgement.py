"""Whether a library's spectrum is right: its largest eigenvalues, each once, and its moments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.peers.libraries import Quadrature
from benchmarks.reference import TOP

ORDERS = (1, 2, 3, 4)  # of the moments
TOLERANCE = 1e-3  # relative


@dataclass(frozen=True)
class Judgement:
    """How far a spectrum is from the reference."""

    eigenvalue_error: float  # largest relative error of the top five nodes, of any probe
    copies: int  # surplus nodes among the largest, of any probe
    moment_error: float  # largest relative error of the moments of the first probe

    @property
    def correct(self) -> bool:
        """Whether each of the top five is found exactly once and the moments agree."""
        return not self.reason

    @property
    def reason(self) -> str:
        """What is wrong, in words."""
        parts = []
        if self.copies:
            parts.append(f"{self.copies} copies among the largest eigenvalues")
        elif not self.eigenvalue_error <= TOLERANCE:  # NaN is wrong too
            parts.append(f"eigenvalues off by {self.eigenvalue_error:.1e}")
        if not self.moment_error <= TOLERANCE:
            parts.append(f"moments off by {self.moment_error:.1e}")
        return "; ".join(parts)


def judge(found: Quadrature, top: np.ndarray, exact: np.ndarray) -> Judgement:
    """Compare a spectrum with the reference.

    Args:
        found: the spectrum.
        top: the largest eigenvalues, one more than are compared, see `reference.largest`.
        exact: moments of the first probe, see `reference.moments`.

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
