"""What the radial index says of ellipsoids, whose volume is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, logsumexp, ndtri

from lla.arguments import real_number, seed_number, whole_number
from lla.errors import InputError
from lla.seeding import stream_seed

_LEVELS = 1000  # different eigenvalues, at most


@dataclass(frozen=True)
class Calibration:
    """The radial index of an ellipsoid beside its volume; both as log10."""

    n: int  # dimensions
    directions: int
    spread: float  # standard deviation of log10 of the eigenvalues
    true: float  # log10 of the volume
    index: float  # log10 of what the radii give

    @property
    def shortfall(self) -> float:
        """By how many orders of magnitude the index is too small."""
        return self.true - self.index


def log10_index(radii: np.ndarray, n: int) -> np.ndarray:
    """log10 of omega_n mean(r^n), with omega_n the volume of the unit ball in n dimensions.

    In log space: log V = n/2 log(pi) - log Gamma(n/2 + 1) + logsumexp(n log r) - log K (Huang et
    al. 2019, arXiv:1906.03291, as r is 1 for the unit ball).

    Args:
        radii: [..., K] positive.
        n: dimensions.

    Returns:
        [...] float64.

    >>> round(float(log10_index(np.ones(5), 2)), 4), round(math.log10(math.pi), 4)
    (0.4971, 0.4971)
    """
    powers = logsumexp(n * np.log(radii), axis=-1) - math.log(radii.shape[-1])
    found: np.ndarray = (log_ball(n) + powers) / math.log(10)
    return found


def log_ball(n: int) -> float:
    """Log of the volume of the unit ball in n dimensions.

    >>> round(math.exp(log_ball(3)) / math.pi, 4)
    1.3333
    """
    return n / 2 * math.log(math.pi) - float(gammaln(n / 2 + 1))


def calibration(n: int, directions: int = 250, spread: float = 1.0, seed: int = 0) -> Calibration:
    """The radial index of an ellipsoid {x: sum_i lambda_i x_i^2 <= 1}, beside its volume.

    The logarithms of the lambda_i are normal quantiles with mean 0, in at most 1000 levels, so the
    volume is that of the unit ball. Along a random unit vector u the radius is
    1 / sqrt(sum_i lambda_i u_i^2); the u_i^2 of one level are a chi-square together, divided by
    that of all levels, so no vector is drawn.

    Args:
        n: dimensions.
        directions: K.
        spread: standard deviation of log10(lambda); 0 is a ball.
        seed: of the directions.

    Raises:
        InputError: n or directions below 1, a spread that is negative or not finite.

    >>> calibration(100, spread=0).shortfall < 1e-9, calibration(100, spread=2).shortfall > 50
    (True, True)
    """
    n, directions = whole_number("n", n, 1), whole_number("directions", directions, 1)
    if not 0 <= real_number("spread", spread) < math.inf:
        raise InputError(f"spread is {spread}: give 0 or a positive number that is finite")
    levels = min(n, _LEVELS)
    sizes = np.diff(np.linspace(0, n, levels + 1).round().astype(int))
    logs = spread * ndtri((np.arange(levels) + 0.5) / levels)
    logs -= (sizes * logs).sum() / n
    rng = np.random.default_rng(stream_seed(seed_number(seed), n))
    squares = rng.chisquare(sizes, size=(directions, levels))
    # the largest eigenvalue is taken out, so that no power overflows
    top = logs.max()
    shares = (squares * 10.0 ** (logs - top)).sum(1) / squares.sum(1)
    radii_logs = -0.5 * (np.log(shares) + top * math.log(10))
    index = log_ball(n) + logsumexp(n * radii_logs) - math.log(directions)
    return Calibration(
        n, directions, float(spread), log_ball(n) / math.log(10), float(index) / math.log(10)
    )
