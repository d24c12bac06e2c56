"""Averages over the projections of random probes on outlying eigenvectors, without products.

The ratio K_H1 of one probe depends strongly on its projections (u'v)^2 on a few eigenvectors of
outlying eigenvalues, which make up most of the trace. One Lanczos run resolves these eigenvectors.
The projections of further probes on them are then known without a product, so the ratio can be
averaged over them. This is the expectation given the rest of the probe, which has the same mean and
less scatter (Blackwell 1947).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor

from lla.hessian.lanczos.process import Lanczos

MAX_OUTLIERS = 12  # on either side of the spectrum
SAMPLES = 16384  # random probes that are averaged over


@dataclass(frozen=True)
class Averages:
    """The ratios of one probe, averaged over its projections on the outliers."""

    kh1: float
    kh1_variance: float  # from probe to probe
    share: float  # the negative share
    share_variance: float


@dataclass(frozen=True)
class Side:
    """The outlying eigenvalues lambda of one side of a spectrum, outermost first.

    Those of the negative side are eigenvalues of -H. Projections of a probe v are (u'v)^2 / P.
    Column i of `sums` is the sum over the outermost i + 1.
    """

    values: np.ndarray  # [k] lambda
    ends: np.ndarray  # [k] eigenvalues above ends[i] are the outermost i + 1
    sums: np.ndarray  # [samples, k] float32, of lambda times the projections of random probes
    along: np.ndarray  # [k] projections of the second probe

    @property
    def end(self) -> float:
        """Eigenvalues above this are outliers; inf if there are none."""
        return float(self.ends[-1]) if len(self.ends) else np.inf

    @property
    def total(self) -> np.ndarray:
        """The sum over all outliers [samples]."""
        return self.sums[:, -1].astype(np.float64) if len(self.values) else np.zeros(1)

    def first(self, count: int) -> Side:
        """The outermost outliers."""
        return Side(
            self.values[:count], self.ends[:count], self.sums[:, :count], self.along[:count]
        )

    def agreeing(self, values: np.ndarray, weights: np.ndarray) -> int:
        """How many of the outermost outliers agree with a second probe, see `Outliers.agree`."""
        most = _MISSED * float(self.total.mean())
        for count in range(len(self.values), 0, -1):
            if self.first(count)._equal(values, weights, most):
                return count if count < len(self.values) else MAX_OUTLIERS
        return 0 if len(self.values) else MAX_OUTLIERS

    def _equal(self, values: np.ndarray, weights: np.ndarray, most: float) -> bool:
        """Whether a run's nodes have the weights that are expected near each outlier.

        Args:
            values: nodes [n].
            weights: of the nodes [n].
            most: allowed error of an eigenvalue times its weight.
        """
        known = self.values
        # one node may represent several outliers that nearly coincide
        first = np.r_[True, -np.diff(known) > _TOGETHER * known[0]]
        group = np.cumsum(first) - 1
        starts = np.flatnonzero(first)[1:]
        ends = np.append((known[starts - 1] + known[starts]) / 2, self.end)
        place = np.searchsorted(-ends, -values)  # of each node; beyond the last it is no outlier
        count = len(ends)
        seen = np.bincount(place, weights, count + 1)[:count]
        expected = np.bincount(group, self.along, count)
        # a missing weight counts by its eigenvalue: outliers next to the bulk are resolved worst
        size = np.bincount(group, known, count) / np.bincount(group)
        return bool((size * (np.abs(seen - expected) - _SINE * expected) <= most).all())


@dataclass(frozen=True)
class Outliers:
    """The outlying eigenvalues of one Hessian, and projections of random probes on them."""

    positive: Side
    negative: Side

    def average(
        self, values: np.ndarray, weights: np.ndarray, positive_part: float, form: float, size: int
    ) -> Averages:
        """K_H1 and the negative share of one probe, averaged over its projections on outliers.

        The rest of the probe is still random. For a matrix A, v' A v has at most the variance
        2 ||A||_F^2 / P^2 (Hutchinson 1989), and ||A||_F^2 / P is the mean of lambda^2 by the
        weights. So one probe is enough to estimate the variance.

        Args:
            values: nodes of the probe [n].
            weights: of the nodes [n].
            positive_part: v' H+ v, corrected for what the nodes lack.
            form: v' H v.
            size: P.
        """
        high, low = values > self.positive.end, -values > self.negative.end
        upper = max(0.0, positive_part - float(values[high] @ weights[high]))
        lower = max(0.0, positive_part - form + float(values[low] @ weights[low]))
        down, up = self.negative.total + lower, self.positive.total + upper
        squares = 2 / size * weights * values**2
        up_variance = float(squares[(values > 0) & ~high].sum())
        down_variance = float(squares[(values < 0) & ~low].sum())
        both = down + up
        return Averages(
            kh1=float((down / up).mean()),
            kh1_variance=float((1 / up).mean()) ** 2 * down_variance
            + float((down / up**2).mean()) ** 2 * up_variance,
            share=float((down / both).mean()),
            share_variance=float((up / both**2).mean()) ** 2 * down_variance
            + float((down / both**2).mean()) ** 2 * up_variance,
        )

    def agree(self, values: np.ndarray, weights: np.ndarray) -> tuple[int, int]:
        """How many outermost outliers have the weights in a second run that are expected of them.

        A double eigenvalue has a plane of eigenvectors. A run sees one direction of it (until
        rounding errors show another), and the projection of another probe on this direction is only
        a part of its projection on the plane. The missing part is the square of a normal number,
        over P. It is small enough to go unnoticed here for about one plane in six.

        Args:
            values: nodes of the second probe [n].
            weights: of the nodes [n].

        Returns:
            Of the positive outliers, and of the negative ones; `MAX_OUTLIERS` if all agree.
        """
        return self.positive.agreeing(values, weights), self.negative.agreeing(-values, weights)

    def first(self, upper: int, lower: int) -> Outliers:
        """The outermost outliers on each side."""
        return Outliers(self.positive.first(upper), self.negative.first(lower))


_NONE = Side(np.zeros(0), np.zeros(0), np.zeros((1, 0), np.float32), np.zeros(0))
NO_OUTLIERS = Outliers(_NONE, _NONE)  # nothing is averaged over these


def outliers(lanczos: Lanczos, count: int, second: Tensor, *seeds: int) -> Outliers:
    """The outliers that a Lanczos run has resolved.

    From each end of the spectrum, as many as have residuals below a hundredth of the gap to the
    next one. The sine of the angle between resolved and true eigenvectors is then at most that.

    Args:
        lanczos: a process of one run.
        count: number of its first steps that are used: at most the valid ones, and as many as all
            other runs will have.
        second: another probe [P], to check the outliers with.
        seeds: of the random probes.
    """
    tridiagonal = lanczos.tridiagonal()
    alphas, betas = tridiagonal.alphas[0, :count], tridiagonal.betas[0, :count]
    values, vectors = eigh_tridiagonal(alphas, betas[:-1])  # [count], columns
    residuals = np.abs(betas[-1] * vectors[-1])
    low, high = _resolved(values, residuals), _resolved(-values[::-1], residuals[::-1])
    chosen = np.r_[:low, count - high : count]
    if not len(chosen):
        return NO_OUTLIERS
    basis = lanczos.ritz_vectors(vectors[:, chosen].T)  # [k, P]
    parts = np.abs(values[chosen]) * _squares(basis, np.random.default_rng(seeds))
    along = (basis @ second).double().cpu().numpy() ** 2 / len(second)
    return Outliers(
        _side(values[::-1], high, parts[:, low:][:, ::-1], along[low:][::-1]),
        _side(-values, low, parts[:, :low], along[:low]),
    )


def _side(values: np.ndarray, count: int, parts: np.ndarray, along: np.ndarray) -> Side:
    """The outermost of all Ritz values, which are given in descending order."""
    between = [_between(values, index) for index in range(count)]
    ends = np.maximum(0.0, np.array(between))
    return Side(values[:count], ends, parts.cumsum(1).astype(np.float32), along)


def _resolved(values: np.ndarray, residuals: np.ndarray) -> int:
    """How many of the lowest values [n] that are negative are resolved."""
    most = min(MAX_OUTLIERS, int((values < 0).sum()))
    gaps = np.diff(np.append(values, np.inf))[:most]
    worst = np.maximum.accumulate(residuals[:most])
    fine = np.nonzero(worst <= _SINE * gaps)[0]
    return int(fine[-1]) + 1 if len(fine) else 0


def _between(values: np.ndarray, index: int) -> float:
    """Halfway from one value to the next; below the last, minus infinity."""
    return float(values[index : index + 2].mean()) if index < len(values) - 1 else -np.inf


def _squares(vectors: Tensor, rng: np.random.Generator) -> np.ndarray:
    """Squares [samples, k] of inner products of random probes v / ||v|| with orthonormal vectors.

    A sum over very many small elements tends to a normal number. So only large elements are summed
    one by one; the sum of the others is drawn from that normal distribution.

    Args:
        vectors: [k, P].
        rng: of the probes.
    """
    k, size = vectors.shape
    heavy = torch.linalg.vector_norm(vectors, dim=0) > _HEAVY**0.5
    rows = vectors[:, heavy].double().cpu().numpy().T  # [heavy, k]
    # over all elements it is the identity, since the vectors are orthonormal
    covariance = np.eye(k) - rows.T @ rows
    products = rng.multivariate_normal(
        np.zeros(k), covariance, SAMPLES, check_valid="ignore", method="eigh"
    )
    single, sums = rows.astype(np.float32), rows.sum(0)
    for part in np.array_split(products, SAMPLES // _AT_ONCE):
        bytes_ = rng.integers(0, 256, (len(part), -(-len(rows) // 8)), dtype=np.uint8)
        bits = np.unpackbits(bytes_, axis=1, count=len(rows)).astype(np.float32)
        part += 2.0 * (bits @ single) - sums  # signs are 2 bits - 1
    return products**2 / size


_MISSED = 0.01  # allowed error of one outlier, as a share of the mean sum of all outliers
_TOGETHER = 1e-3  # relative to the largest: outliers that differ by less count as one
_SINE = 0.01  # of the angle between resolved and true eigenvectors, at most
_HEAVY = 3e-3  # an element is large if its squares over all vectors add up to more than this
_AT_ONCE = 256  # samples
