"""Averages over the projections of random probes on outlying eigenvectors, without products.

The ratio K_H1 of one probe swings with its projections (u'v)^2 on a few eigenvectors of outlying
eigenvalues, which make up most of the trace. One Lanczos run resolves these eigenvectors. What a
further probe would have along them is then known without a product, so that the ratio can be
averaged over it: the expectation given the rest of the probe, which has the same mean and less
scatter (Blackwell 1947).
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
    """What one probe tells once its projections on the outliers are averaged over."""

    kh1: float
    kh1_variance: float  # from probe to probe
    share: float  # the negative share
    share_variance: float


@dataclass(frozen=True)
class Outliers:
    """The outlying eigenvalues of one Hessian, and what random probes v have along them.

    Both sums are of lambda (u'v)^2 / P over the outliers of one side, in magnitude.
    """

    above: float  # eigenvalues above it are outliers; inf where there are none
    below: float  # so are those below it; -inf where there are none
    positive: np.ndarray  # [samples]
    negative: np.ndarray  # [samples]
    second: tuple[np.ndarray, np.ndarray]  # of the second probe: eigenvalues [k], (u'v)^2 / P [k]

    def average(
        self, values: np.ndarray, weights: np.ndarray, positive_part: float, form: float, size: int
    ) -> Averages:
        """K_H1 and the negative share of one probe, averaged over its projections on outliers.

        What is left to chance is the rest of the probe. For a matrix A, v' A v has the variance
        2 ||A||_F^2 / P^2 at most (Hutchinson 1989), and ||A||_F^2 / P is what the weights say the
        mean of lambda^2 is; so one probe tells how far others would be from it.

        Args:
            values: nodes of the probe [n].
            weights: of the nodes [n].
            positive_part: v' H+ v, with all there is beside the nodes.
            form: v' H v.
            size: P.
        """
        high, low = values > self.above, values < self.below
        upper = max(0.0, positive_part - float(values[high] @ weights[high]))
        lower = max(0.0, positive_part - form + float(values[low] @ weights[low]))
        down, up = self.negative + lower, self.positive + upper
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

    def agree(self, values: np.ndarray, weights: np.ndarray) -> tuple[bool, bool]:
        """Whether the second probe's nodes have the weights that its projections let expect.

        An eigenvalue that is there twice has a plane of eigenvectors. A run sees a single direction
        in it (until rounding shows another), and what another probe has along that is not all that
        it has in the plane. What is missing is the square of a normal number, over P: it is below
        what is let pass here for one plane in six or so.

        Args:
            values: nodes of the second probe [n].
            weights: of the nodes [n].

        Returns:
            For the positive outliers, and for the negative ones.
        """
        known, along = self.second
        upper = known > 0
        most = _MISSED * float(self.positive.mean()), _MISSED * float(self.negative.mean())
        # in magnitude, from the outermost inwards
        return (
            _equal(values, weights, known[upper][::-1], along[upper][::-1], self.above, most[0]),
            _equal(-values, weights, -known[~upper], along[~upper], -self.below, most[1]),
        )

    def only(self, upper: bool, lower: bool) -> Outliers:
        """The positive ones, the negative ones, both or none."""
        none = np.zeros(1)
        return Outliers(
            above=self.above if upper else np.inf,
            below=self.below if lower else -np.inf,
            positive=self.positive if upper else none,
            negative=self.negative if lower else none,
            second=self.second,
        )


# where nothing is averaged over
NO_OUTLIERS = Outliers(np.inf, -np.inf, np.zeros(1), np.zeros(1), (np.zeros(0), np.zeros(0)))


def outliers(lanczos: Lanczos, count: int, second: Tensor, *seeds: int) -> Outliers:
    """The outliers that a Lanczos run has resolved.

    From either end of the spectrum, as many as have residuals below a hundredth of the gap that
    follows them; by so much their space is off, at most.

    Args:
        lanczos: a process of one run.
        count: its first steps that are used: so many as every other run will have, of those that
            are real, see `lla.hessian.lanczos.process.Tridiagonal`.
        second: another probe [P], by which to check them.
        seeds: of the random probes.
    """
    tridiagonal = lanczos.tridiagonal()
    alphas, betas = tridiagonal.alphas[0, :count], tridiagonal.betas[0, :count]
    values, vectors = eigh_tridiagonal(alphas, betas[:-1])  # [count], columns
    residuals = np.abs(betas[-1] * vectors[-1])
    low, high = _resolved(values, residuals), _resolved(-values[::-1], residuals[::-1])
    if low + high == 0:
        return NO_OUTLIERS
    chosen = np.r_[:low, count - high : count]
    basis = lanczos.ritz_vectors(vectors[:, chosen].T)  # [k, P]
    parts = values[chosen] * _squares(basis, np.random.default_rng(seeds))
    along = (basis @ second).double().cpu().numpy() ** 2 / len(second)
    return Outliers(
        above=max(0.0, _between(values, count - high - 1)) if high else np.inf,
        below=min(0.0, _between(values, low - 1)) if low else -np.inf,
        positive=parts[:, low:].sum(1),
        negative=-parts[:, :low].sum(1),
        second=(values[chosen], along),
    )


def _equal(
    values: np.ndarray,
    weights: np.ndarray,
    known: np.ndarray,
    along: np.ndarray,
    end: float,
    most: float,
) -> bool:
    """Whether a run's nodes have the weights that are expected near each outlier.

    Args:
        values: nodes [n].
        weights: of the nodes [n].
        known: outliers [k], descending.
        along: expected weights [k].
        end: nodes above it are outliers.
        most: by which an eigenvalue times its weight may be off.
    """
    if not len(known):
        return True
    # of outliers that nearly coincide, a node may stand for several
    first = np.r_[True, -np.diff(known) > _TOGETHER * known[0]]
    group = np.cumsum(first) - 1
    starts = np.flatnonzero(first)[1:]
    ends = np.append((known[starts - 1] + known[starts]) / 2, end)
    place = np.searchsorted(-ends, -values)  # of each node; beyond the last it is no outlier
    count = len(ends)
    seen = np.bincount(place, weights, count + 1)[:count]
    expected = np.bincount(group, along, count)
    # what is missed counts by its eigenvalue; those next to the bulk are the least resolved
    size = np.bincount(group, known, count) / np.bincount(group)
    return bool((size * (np.abs(seen - expected) - _SINE * expected) <= most).all())


def _resolved(values: np.ndarray, residuals: np.ndarray) -> int:
    """How many of the lowest values [n], those below zero, are resolved."""
    most = min(MAX_OUTLIERS, int((values < 0).sum()))
    gaps = np.diff(np.append(values, np.inf))[:most]
    worst = np.maximum.accumulate(residuals[:most])
    fine = np.nonzero(worst <= _SINE * gaps)[0]
    return int(fine[-1]) + 1 if len(fine) else 0


def _between(values: np.ndarray, index: int) -> float:
    """Halfway from one value to the next; beyond the ends of the list, beyond all values."""
    if 0 <= index < len(values) - 1:
        return float(values[index : index + 2].mean())
    return -np.inf if index < 0 else np.inf


def _squares(vectors: Tensor, rng: np.random.Generator) -> np.ndarray:
    """Squares [samples, k] of inner products of random probes v / ||v|| with orthonormal vectors.

    What is spread over very many elements is a normal number in the limit. So only elements of
    some weight are added up one by one; the others together are drawn as what they tend to.

    Args:
        vectors: [k, P].
        rng: of the probes.
    """
    k, size = vectors.shape
    heavy = torch.linalg.vector_norm(vectors, dim=0) > _HEAVY**0.5
    rows = vectors[:, heavy].double().cpu().numpy().T  # [heavy, k]
    # all elements together have the identity for it, since the vectors are orthonormal
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


_MISSED = 0.01  # of what all outliers usually add up to, by which one may differ from expectation
_TOGETHER = 1e-3  # of the largest, below which two outliers are not told apart
_SINE = 0.01  # of the angle between resolved and true eigenvectors, at most
_HEAVY = 3e-3  # elements whose squares over all vectors add up to more are drawn singly
_AT_ONCE = 256  # samples
