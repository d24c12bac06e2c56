"""Checks of what the definitions imply: a failure shows an error in the code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lla.quantiles import student_t

if TYPE_CHECKING:
    from lla import Criteria, Spectrum


THREE_SIGMA = 0.9986501019683699  # share of a normal distribution below three standard deviations


class BrokenConsequenceError(AssertionError):
    """A value that contradicts the definitions: the code is wrong, not the paper."""


def check_criteria(criteria: Criteria) -> None:
    """Check what the definitions imply for the criteria of any network.

    All nodes are finite; the weights of each probe are not negative and sum to 1; K_H1 is
    1 - v'Hv / sum of lambda w over lambda > 0, with v'Hv = sum of lambda w.

    Raises:
        BrokenConsequenceError: one of them does not hold.
    """
    ratios, left_out = [], []
    for index, spectrum in enumerate(criteria.spectra):
        values, weights = spectrum.eigenvalues, spectrum.weights
        if not (np.isfinite(values).all() and np.isfinite(weights).all()):
            raise BrokenConsequenceError(f"batch {index}: a node or a weight is not finite")
        error = np.abs(weights.sum(1) - 1).max()
        if error > 1e-8 or weights.min() < 0:
            raise BrokenConsequenceError(
                f"batch {index}: the weights of a probe sum to 1 only within {error:.2g}, "
                f"the smallest is {weights.min():.2g}"
            )
        quadratic = (values * weights).sum(1)
        positive = (np.maximum(values, 0) * weights).sum(1)
        ratios.append((1 - quadratic / positive).mean())
        # Nodes that count as zero are left out of K_H1: mostly rounding, but beside an eigenvalue
        # that is larger by 1e7 they may be real.
        size = np.abs(values)
        zero = size <= np.finfo(spectrum.dtype).eps * size.max(1, keepdims=True)
        left_out.append(((size * weights * zero).sum(1) / positive).mean())
    expected = float(np.mean(ratios))
    slack = 1e-7 + 2 * (1 + expected) * float(np.mean(left_out))
    if not math.isclose(criteria.kh1.value, expected, rel_tol=1e-5, abs_tol=slack):
        raise BrokenConsequenceError(
            f"K_H1 is {criteria.kh1.value:.9g}, but 1 - v'Hv / sum(lambda w over lambda > 0) is "
            f"{expected:.9g}"
        )


def check_trace(spectra: Sequence[Spectrum]) -> None:
    """Check that exact K_H1 <= 1 where it must be: a piecewise-linear network without BatchNorm.

    K_H1 = tr(H-) / tr(H+) <= 1 says no more and no less than tr(H) >= 0, and of the trace the
    quadratures hold an unbiased estimate, the mean of v'Hv; a mean of ratios would be biased. The
    bound holds for each batch by itself, so probes are the only noise: the mean over batches and
    probes may fall below 0 by 3 of its standard errors from the scatter within batches, widened
    to Student's t because that scatter is estimated from few probes. With one probe a batch there
    is no such scatter and nothing is checked.

    Raises:
        BrokenConsequenceError: the trace is negative beyond that.
    """
    samples = [(s.eigenvalues * s.weights).sum(1) for s in spectra]
    freedom = sum(len(sample) - 1 for sample in samples)
    if freedom == 0:
        return
    total = sum(len(sample) for sample in samples)
    mean = sum(sample.sum() for sample in samples) / total
    scatter = sum(((sample - sample.mean()) ** 2).sum() for sample in samples) / freedom
    allowed = student_t(THREE_SIGMA, freedom) * math.sqrt(scatter / total)
    largest = max(float(np.abs(s.eigenvalues).max()) for s in spectra)
    if mean < -allowed - 1e-6 * largest:
        raise BrokenConsequenceError(
            f"tr(H) / P is {mean:.3g}, below 0 by more than {allowed:.2g}: exact K_H1 would be "
            "above 1 in a piecewise-linear network"
        )
