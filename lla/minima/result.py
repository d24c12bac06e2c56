"""The radial index of a minimum: radii along random directions, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lla.estimate import Estimate
from lla.minima.ellipsoids import log10_index, log_ball
from lla.minima.plots import plot_radii
from lla.plotting import entitled
from lla.saved import Saved, plain
from lla.seeding import stream_seed
from lla.storage import array_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPREADS = (0.5, 1.0, 2.0)  # of the ellipsoids that the index is calibrated with
_RESAMPLES = 2000


@dataclass(frozen=True)
class RadialIndex(Saved):
    """Radii of K directions in n dimensions; lengths in units of the weights of each filter.

    A direction that does not reach the cutoff has the radius `reach`, so the mean and the index
    are then lower bounds. The index is no volume: `shortfalls` says by how many orders of magnitude
    it is too small for ellipsoids.
    """

    radii: np.ndarray  # [K] float64, in the order of the directions
    reached: np.ndarray  # [K] bool, False where the loss stays below the cutoff up to `reach`
    shortfalls: np.ndarray  # [3] float64, log10, of ellipsoids with the spreads SPREADS
    n: int  # weights that move: those of filters that are not zero
    cutoff: float
    reach: float
    loss: float  # at the minimum
    evaluations: int  # of the loss, at points of rays
    scan: str  # "informed" or "full"
    route: str  # how points were evaluated
    seed: int
    dtype: str
    examples: int
    weights_hash: str

    def _faults(self) -> Iterator[str]:
        count = (len(self.radii),) if self.radii.ndim else (0,)
        yield from array_faults(
            self,
            radii=(count, "float64"),
            reached=(count, "bool"),
            shortfalls=((len(SPREADS),), "float64"),
        )
        if not (count[0] > 0 and np.isfinite(self.radii).all() and (self.radii > 0).all()):
            yield "its radii are not all positive numbers"
        if self.n < 1:
            yield f"n is {self.n}"

    @property
    def censored(self) -> int:
        """Number of directions along which the loss stays below the cutoff up to `reach`."""
        return int((~self.reached).sum())

    @property
    def mean(self) -> Estimate:
        """The mean radius, with its standard error over directions."""
        return Estimate.of(self.radii, 0)

    @property
    def sd(self) -> float:
        """Standard deviation of the radii; NaN of a single one."""
        return float(self.radii.std(ddof=1)) if len(self.radii) > 1 else float("nan")

    @property
    def maximum(self) -> float:
        """The largest radius, which decides the index where n is large."""
        return float(self.radii.max())

    @property
    def log10_index(self) -> float:
        """log10 of omega_n mean(r^n)."""
        return float(log10_index(self.radii, self.n))

    @property
    def log10_jensen(self) -> float:
        """log10 of omega_n exp(mean(n log r)), a lower bound of the index (Jensen)."""
        found = log_ball(self.n) + self.n * float(np.log(self.radii).mean())
        return found / float(np.log(10))

    @property
    def halves(self) -> tuple[float, float]:
        """log10 of the index from the first half of the directions, and from the second."""
        middle = (len(self.radii) + 1) // 2
        first, second = self.radii[:middle], self.radii[middle:]
        if not second.size:
            second = first
        return float(log10_index(first, self.n)), float(log10_index(second, self.n))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of log10 of the index: percentiles of a bootstrap over directions.

        It knows only the directions that were drawn, so it does not cover the volume.
        """
        rng = np.random.default_rng(stream_seed(self.seed, len(self.radii)))
        drawn = rng.integers(len(self.radii), size=(_RESAMPLES, len(self.radii)))
        low, high = np.percentile(log10_index(self.radii[drawn], self.n), (2.5, 97.5))
        return float(low), float(high)

    @property
    def warning(self) -> str:
        """What must stand beside the index, in a sentence."""
        listed = ", ".join(
            f"{shortfall:.3g} (spread {spread:g})"
            for shortfall, spread in zip(self.shortfalls, SPREADS, strict=True)
        )
        return (
            f"no volume: for ellipsoids in {self.n} dimensions whose eigenvalues spread by so many "
            f"decades (standard deviation), {len(self.radii)} directions give too few orders of "
            f"magnitude by {listed}; compare at equal n, directions and cutoff only"
        )

    def to_dict(self, vectors: bool = False) -> dict[str, Any]:
        """The fields and what they add up to by name: see `lla.saved.Saved.to_dict`."""
        low, high = self.interval
        found = {
            "n": self.n,
            "directions": len(self.radii),
            "cutoff": self.cutoff,
            "loss": self.loss,
            "mean": self.mean.value,
            "mean_stderr": self.mean.stderr,
            "sd": self.sd,
            "maximum": self.maximum,
            "log10_index": self.log10_index,
            "log10_low": low,
            "log10_high": high,
            "log10_jensen": self.log10_jensen,
            "log10_first_half": self.halves[0],
            "log10_second_half": self.halves[1],
            "censored": self.censored,
            "reach": self.reach,
            "evaluations": self.evaluations,
            **{
                f"shortfall_{spread:g}": float(shortfall)
                for spread, shortfall in zip(SPREADS, self.shortfalls, strict=True)
            },
        }
        return {**super().to_dict(vectors), **plain(found)}

    def to_frame(self) -> pd.DataFrame:
        """One row a direction: its radius, and whether it reached the cutoff."""
        index = pd.RangeIndex(len(self.radii), name="direction")
        return pd.DataFrame({"radius": self.radii, "reached": self.reached}, index=index)

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Figure:
        """Draw a histogram of the radii; above the axes stands how many are censored.

        Args:
            ax: axes to draw into; a new figure by default.
            title: above the picture.
        """
        return entitled(ax, plot_radii({"": (self.radii, self.reached)}, ax=ax), title)

    def __repr__(self) -> str:
        low, high = self.interval
        bound = "at least " if self.censored else ""
        return (
            f"RadialIndex: log10 {bound}{self.log10_index:.6g} [{low:.6g}, {high:.6g}], mean "
            f"radius {bound}{self.mean}, {len(self.radii)} directions, n = {self.n}, cutoff "
            f"{self.cutoff:g}, loss {self.loss:.3g}, {self.censored} censored at {self.reach:g}\n"
            f"{self.warning}"
        )
