"""The criteria of one spectrum: ratios of its negative to its positive part, for each probe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pandas as pd

from lla.errors import InputError
from lla.hessian.spectrum import Spectrum
from lla.saved import Saved
from lla.storage import array_faults

Reading = Literal["product", "density"]


@dataclass(frozen=True)
class ProbeCriteria(Saved):
    """The criteria of every probe of one spectrum; ratios, not yet averaged."""

    re: np.ndarray  # [probes]
    kh1: np.ndarray  # [probes]
    kh05: np.ndarray  # [probes]
    negative_share: np.ndarray  # [probes], of sum |lambda| w

    def _faults(self) -> Iterator[str]:
        shape = (self.re.size,)
        yield from array_faults(self, **{f.name: (shape, "float64") for f in fields(self)})
        if not all(np.isfinite(getattr(self, f.name)).all() for f in fields(self)):
            yield "a ratio is not finite"

    def to_frame(self) -> pd.DataFrame:
        """One row a probe."""
        index = pd.RangeIndex(len(self.re), name="probe")
        return pd.DataFrame({f.name: getattr(self, f.name) for f in fields(self)}, index=index)


def spectrum_criteria(spectrum: Spectrum, reading: Reading = "product") -> ProbeCriteria:
    """The criteria of every probe of a spectrum.

    Nodes that are zero within rounding (|lambda| <= eps max |lambda|) count as neither positive nor
    negative, except in a legacy spectrum.

    Args:
        spectrum: nodes and weights.
        reading: "product" applies the power to |lambda| w, as the paper does; the result then
            depends on the number of steps. "density" applies it to |lambda| alone, which
            converges to a functional of the spectral density. For K_H1 they are the same.

    Raises:
        InputError: an unknown reading, or a probe without a positive eigenvalue.
    """
    check_reading(reading)
    eps = 0.0 if spectrum.legacy else float(np.finfo(spectrum.dtype).eps)
    rows = [
        probe_ratios(spectrum.eigenvalues[i, :n], spectrum.weights[i, :n], eps, reading)
        for i, n in enumerate(spectrum.counts)
    ]
    return ProbeCriteria(*np.array(rows).T)


def check_reading(reading: str) -> None:
    """Raise an error for an unknown reading."""
    if reading not in ("product", "density"):
        raise InputError(f"reading is {reading!r}: choose 'product' or 'density'")


def probe_ratios(
    values: np.ndarray, weights: np.ndarray, eps: float, reading: Reading
) -> tuple[float, float, float, float]:
    """r_e, K_H1, K_H05 and the negative share of the nodes [count] of one probe.

    Args:
        values: nodes [count].
        weights: of the nodes [count], their sum 1.
        eps: nodes of at most eps times the largest magnitude count as zero.
        reading: see `spectrum_criteria`.
    """
    largest = np.abs(values).max()
    positive, negative = values > eps * largest, values < -eps * largest
    if largest == 0:
        raise InputError(
            "every eigenvalue that a probe sees is 0, so the ratios are not defined: the loss does "
            "not depend on these parameters, or only linearly, so check the model and the loss"
        )
    if not positive.any():
        raise InputError(
            f"no eigenvalue is positive (the largest of {len(values)} is {values.max():.3g}), so "
            "the ratios are not defined: is this a maximum, or the loss's sign reversed?"
        )

    def side(chosen: np.ndarray, power: float) -> float:
        magnitude, weight = np.abs(values[chosen]), weights[chosen]
        with np.errstate(under="ignore"):  # a term that is too small is 0
            if reading == "product":
                return float(((magnitude * weight) ** power).sum())
            return float((magnitude**power * weight).sum())

    lower, upper = side(negative, 1.0), side(positive, 1.0)
    if not upper > 0:
        raise InputError(
            "the positive eigenvalues have no weight, so the ratios are not defined: take another "
            "seed"
        )
    return (
        max(0.0, -float(values[negative | positive].min())) / float(values.max()),
        lower / upper,
        side(negative, 0.5) / side(positive, 0.5),
        lower / (lower + upper),
    )
