"""What kind of spectrum a Hessian has: by the balance of its signs and by what is near zero.

The definition is this library's own. With the nodes lambda and weights w of a probe,

    negative share  s = sum_{lambda < 0} |lambda| w / sum |lambda| w
    near zero       z = sum_{|lambda| <= max |lambda| / 1000} |lambda| w / sum |lambda| w

A spectrum is near-singular where z is above 1/2: then the small eigenvalues, not the outliers,
decide what K_H1 = s / (1 - s) is. Else it is positive where s is below 1/4 (K_H1 below 1/3),
negative where s is above 3/4 (K_H1 above 3), and symmetric between them. It is undecided where a
bound lies within two standard errors, and where there is no standard error.

(z is a share of |lambda| w, not of w: eigenvalues near zero are nearly all there are in a trained
network, so their number tells networks not apart.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lla.estimate import Estimate
from lla.saved import Saved

NEAR = 1e-3  # of the largest magnitude
SINGULAR = 0.5  # of z
BOUNDS = (0.25, 0.75)  # of s
KINDS = ("positive", "symmetric", "negative", "near-singular", "undecided")


class Nodes(Protocol):
    """What is needed of a spectrum."""

    @property
    def eigenvalues(self) -> np.ndarray:
        """[probes, steps]."""

    @property
    def weights(self) -> np.ndarray:
        """[probes, steps], 0 beyond the nodes."""

    @property
    def matvecs(self) -> int:
        """Products."""


@dataclass(frozen=True)
class Kind(Saved):
    """The kind of a spectrum, and the two shares from which it follows."""

    name: str  # of KINDS
    negative_share: Estimate  # s
    near_zero: Estimate  # z

    def __str__(self) -> str:
        return self.name

    def _faults(self) -> Iterator[str]:
        if self.name not in KINDS:
            yield f"the kind is {self.name!r}"


def kind_of(spectra: Sequence[Nodes]) -> Kind:
    """The kind of one spectrum, with errors over its probes, or of several, with errors over them.

    Args:
        spectra: of one network, each of a batch.

    >>> from lla.hessian.spectrum import Spectrum
    >>> nodes, weights = np.array([[-1.0, 3.0]] * 2), np.array([[0.3, 0.7], [0.2, 0.8]])
    >>> two = Spectrum(nodes, weights, np.array([2, 2]), 2, 2, 0, "float64", False, 4)
    >>> kind_of([two]).name, round(kind_of([two]).negative_share.value, 3)
    ('positive', 0.101)
    """
    shares = [_shares(spectrum) for spectrum in spectra]  # [2, probes] each
    samples = shares[0] if len(shares) == 1 else np.stack([each.mean(1) for each in shares], 1)
    matvecs = sum(spectrum.matvecs for spectrum in spectra)
    negative, near = (Estimate.of(row, matvecs) for row in samples)
    return Kind(_name(negative, near), negative, near)


def _name(negative: Estimate, near: Estimate) -> str:
    singular = _place(near, (SINGULAR,))
    if singular != 0:
        return "near-singular" if singular == 1 else "undecided"
    place = _place(negative, BOUNDS)
    return "undecided" if place is None else ("positive", "symmetric", "negative")[place]


def _place(estimate: Estimate, bounds: Sequence[float]) -> int | None:
    """How many bounds lie below an estimate; None if two standard errors do not tell."""
    if estimate.stderr is None:
        return None
    low, high = (
        sum(bound < estimate.value + sign * estimate.stderr for bound in bounds)
        for sign in (-2, 2)
    )  # fmt: skip
    return low if low == high else None


def _shares(spectrum: Nodes) -> np.ndarray:
    """S and z of every probe [2, probes]; of a matrix that is zero they are 0 and 1."""
    values = np.abs(spectrum.eigenvalues)
    largest = values.max(1, keepdims=True)
    # relative, so that no product under- or overflows
    parts = values / np.where(largest > 0, largest, 1.0) * spectrum.weights
    total = parts.sum(1)
    zero = total == 0
    total = np.where(zero, 1.0, total)
    negative = np.where(spectrum.eigenvalues < 0, parts, 0.0).sum(1) / total
    near = np.where(values <= NEAR * largest, parts, 0.0).sum(1) / total
    return np.stack([negative, np.where(zero, 1.0, near)])
