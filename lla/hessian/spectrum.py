"""The spectrum of a Hessian as random probes see it: nodes, weights, density, picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lla.arguments import positive_number, real_number, whole_number
from lla.errors import InputError, NonFiniteError
from lla.hessian.kind import Kind, kind_of
from lla.plotting import entitled
from lla.saved import Saved
from lla.spectrum_plots import Curve, plot_spectrum
from lla.storage import FLOATS, INTEGERS, array_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Spectrum(Saved):
    """Nodes and weights of stochastic Lanczos quadrature, one row a probe.

    For a probe v of norm 1, `sum_i w_i f(lambda_i)` approximates v' f(H) v, exactly so for
    polynomials f of degree below 2 steps (Golub and Meurant 2010); its mean over probes
    approximates trace(f(H)) / P (Ubaru, Chen and Saad 2017).
    """

    eigenvalues: np.ndarray  # [probes, steps] float64, ascending; 0 after the first counts[i]
    weights: np.ndarray  # [probes, steps], each row sums to 1; 0 after the first counts[i]
    counts: np.ndarray  # [probes] int, number of valid nodes
    size: int  # P
    steps: int  # Lanczos steps made, at most P
    seed: int
    dtype: str  # of the products, "float32" or "float64"
    legacy: bool  # by the Lanczos process of the public code, see `lla.hessian.lanczos.legacy`
    matvecs: int  # Hessian-vector products that were made
    plan: str = ""  # how it fit into memory, see `lla.hessian.memory.plans`
    about: str = ""  # model, number of examples and mode in words; empty if not known

    @classmethod
    def of(
        cls, runs: Sequence[tuple[np.ndarray, np.ndarray]], steps: int, **facts: Any
    ) -> Spectrum:
        """The spectrum from the nodes and weights of each run; `facts` are the other fields."""
        values, weights = np.zeros((2, len(runs), steps))
        for row, (nodes, shares) in enumerate(runs):
            values[row, : len(nodes)], weights[row, : len(nodes)] = nodes, shares
        counts = np.array([len(nodes) for nodes, _ in runs])
        return cls(values, weights, counts, steps=steps, **facts)

    def _faults(self) -> Iterator[str]:
        shape = (len(self.counts) if self.counts.ndim else 0, self.steps)
        yield from array_faults(
            self,
            counts=(shape[:1], INTEGERS),
            eigenvalues=(shape, "float64"),
            weights=(shape, "float64"),
        )
        if not len(self.counts):
            yield "it has no probe"
        if not ((self.counts >= 1) & (self.counts <= self.steps)).all():
            yield f"counts are not all from 1 to {self.steps}, the number of steps"
        if not (np.isfinite(self.eigenvalues).all() and np.isfinite(self.weights).all()):
            yield "eigenvalues or weights are not finite"
        valid = np.arange(self.steps) < self.counts[:, None]
        if self.eigenvalues[~valid].any() or self.weights[~valid].any():
            yield "there are eigenvalues or weights beyond the counts"
        if not (np.diff(self.eigenvalues, axis=1) >= 0)[valid[:, 1:]].all():
            yield "eigenvalues do not ascend"
        if (self.weights < 0).any() or (abs(self.weights.sum(1) - 1) > _ROUNDING).any():
            yield "weights are negative or do not sum to 1"
        if self.size < 1 or self.matvecs < 0:
            yield f"size is {self.size} and matvecs is {self.matvecs}"
        if self.dtype not in FLOATS:
            yield f"dtype is {self.dtype!r}"

    @property
    def probes(self) -> int:
        """Number of probes."""
        return len(self.counts)

    @property
    def kind(self) -> Kind:
        """Positive, symmetric, negative, near-singular or undecided, see `lla.hessian.kind`."""
        return kind_of([self])

    def moment(self, order: int) -> np.ndarray:
        """The moments v' H^order v, one a probe [probes].

        Raises:
            InputError: the order is no whole number from 0 on.
            NonFiniteError: a moment is too large for float64.
        """
        order = whole_number("order", order, 0, _MOST_ORDER)
        with np.errstate(all="ignore"):  # what is too large is refused, what is too small is 0
            found = (self.weights * self.eigenvalues ** float(order)).sum(1)
        if not np.isfinite(found).all():
            raise NonFiniteError(f"the moments of order {order} are not finite: take a lower order")
        return found

    @property
    def nodes(self) -> np.ndarray:
        """All valid nodes, one probe after another [sum of counts]."""
        return self.eigenvalues[np.arange(self.steps) < self.counts[:, None]]

    def grid(self, points: int = 2000, margin: float = 0.05) -> np.ndarray:
        """Equally spaced eigenvalues [points] over all nodes, with a margin on each side.

        Args:
            points: 2 or more.
            margin: at each end, as a share of the range of the nodes.

        Raises:
            InputError: fewer points, or a margin that is negative or not finite.
        """
        points = whole_number("points", points, 2, _MOST_POINTS)
        share = real_number("margin", margin)
        if not 0 <= share < math.inf:
            raise InputError(f"the margin is {margin}: give 0 or a positive number")
        nodes = self.nodes
        low, high = nodes.min(), nodes.max()
        width, size = high - low, max(abs(low), abs(high))
        with np.errstate(all="ignore"):  # what overflows is refused
            room = share * (width if width > 1e-9 * size else size or 1.0)
            found = np.linspace(low - room, high + room, points)
        if not np.isfinite(found).all():
            raise InputError(f"the margin is {margin}: give one with which the grid is finite")
        return found

    def density(self, grid: np.ndarray | None = None, sigma: float | None = None) -> np.ndarray:
        """The density with each node broadened to a Gaussian, as a mean over the probes.

        Args:
            grid: eigenvalues [points] at which to evaluate; `self.grid()` by default.
            sigma: standard deviation of the Gaussians; a 200th of the grid's range by default.

        Returns:
            The density [points], in units of 1 / eigenvalue; it integrates to 1.

        Raises:
            InputError: a grid that is no list of finite numbers, or a sigma that is not positive
                or so small that the density is not finite.
        """
        grid = self.grid() if grid is None else _numbers(grid)
        sigma = _broadening(grid, sigma)
        with np.errstate(over="ignore", under="ignore"):  # far from a node the density is 0
            distance = (grid[:, None] - self.eigenvalues.ravel()) / sigma  # [points, probes*steps]
            bells = np.exp(-0.5 * distance**2) / (sigma * np.sqrt(2 * np.pi))
            return bells @ self.weights.ravel() / self.probes

    def floor(self, grid: np.ndarray | None = None, sigma: float | None = None) -> float:
        """The density below which nothing is drawn: a tenth of that of one eigenvalue among the P.

        Args:
            grid: of the density.
            sigma: of the density; its default is that of `density`.

        Raises:
            InputError: see `density`.

        >>> two = Spectrum(np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]]), np.array([2]), 2, 2, 0,
        ...                "float64", False, 2)
        >>> at_one = two.density(np.array([1.0]), sigma=0.01)[0]  # half of the weight is there
        >>> round(float(two.floor(sigma=0.01) / at_one), 3)
        0.1
        """
        sigma = _broadening(self.grid() if grid is None else _numbers(grid), sigma)
        return 0.1 / (self.size * sigma * math.sqrt(2 * math.pi))

    def plot(
        self,
        ax: Axes | None = None,
        *,
        sigma: float | None = None,
        floor: float | None = None,
        title: str | None = None,
        **style: Any,
    ) -> Figure:
        """Draw the density on a logarithmic axis, and the nodes as ticks below it.

        Args:
            ax: axes to draw into; a new figure by default.
            sigma: broadening, see `density`.
            floor: densities below this are cut off; `self.floor()` by default, which is low enough
                for single outliers to be seen.
            title: above the picture; a new figure has `about` by default.
            **style: `colour`, and `label` in the legend, see `lla.spectrum_plots.plot_spectrum`.

        Raises:
            InputError: see `density`; a floor that is not positive.
        """
        grid = self.grid()
        floor = self.floor(grid, sigma) if floor is None else positive_number("floor", floor)
        density = self.density(grid, sigma)
        figure = plot_spectrum(grid, density, self.nodes, floor, ax=ax, **style)
        return entitled(ax, figure, title, self.about)

    def to_frame(self) -> pd.DataFrame:
        """One row a node: its probe, eigenvalue and weight."""
        probes = np.repeat(np.arange(self.probes), self.counts)
        valid = np.arange(self.steps) < self.counts[:, None]
        columns = {"probe": probes, "eigenvalue": self.nodes, "weight": self.weights[valid]}
        return pd.DataFrame(columns)

    def __repr__(self) -> str:
        nodes = self.nodes
        return (
            f"Spectrum of {self.about or 'a matrix'}: {self.size} eigenvalues\n"
            f"from {nodes.min():.4g} to {nodes.max():.4g}, mean {self.moment(1).mean():.3g}\n"
            f"{self.probes} probes, {self.steps} steps, {self.dtype}"
            f"{', legacy' if self.legacy else ''}, {self.matvecs} products"
        )


_ROUNDING = 1e-6  # of the sum of weights
_MOST_POINTS = 1_000_000  # of a grid
_MOST_ORDER = 10_000  # of a moment


def _numbers(grid: Any) -> np.ndarray:
    """A grid as an array [points] of finite numbers."""
    try:
        found = np.asarray(grid, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"the grid is {type(grid).__name__}: give a list of numbers") from error
    if found.ndim != 1 or found.size == 0 or not np.isfinite(found).all():
        raise InputError(
            f"the grid has shape {found.shape} or holds numbers that are not finite: give a list "
            "of finite numbers"
        )
    return found


def _broadening(grid: np.ndarray, sigma: float | None) -> float:
    """The standard deviation of the Gaussians; by default a 200th of the grid's range.

    Raises:
        InputError: it is not positive, not finite, or so small that its inverse is not finite.
    """
    width = float(grid.max()) / 200 - float(grid.min()) / 200 if sigma is None else sigma
    found = real_number("sigma", width)
    if not 1e-300 < found < math.inf:
        raise InputError(
            f"sigma is {width}: the broadening must be positive and finite, 1e-300 or more"
        )
    return found


def curve_of(label: str, spectra: Sequence[Spectrum]) -> Curve:
    """The mean of spectra, each the mean of its probes, as a picture of several takes it."""
    valid = [np.arange(s.steps) < s.counts[:, None] for s in spectra]
    weights = [
        s.weights[v] / (s.probes * len(spectra)) for s, v in zip(spectra, valid, strict=True)
    ]
    nodes = np.concatenate([spectrum.nodes for spectrum in spectra])
    return Curve(label, nodes, np.concatenate(weights), max(s.size for s in spectra))


def joined(one: Spectrum, other: Spectrum) -> Spectrum:
    """The spectrum of all probes of two spectra of one Hessian."""
    names = ("eigenvalues", "weights", "counts")
    both: Any = {n: np.concatenate([getattr(one, n), getattr(other, n)]) for n in names}
    return replace(one, matvecs=one.matvecs + other.matvecs, **both)
