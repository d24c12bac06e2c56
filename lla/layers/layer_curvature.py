"""The curvature of one layer: its top eigenspace, the Kronecker factors, and how they agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pandas as pd

from lla.errors import InputError
from lla.estimate import Estimate
from lla.layer_plots import plot_matrix, plot_two_spectra
from lla.overlaps import overlap, random_overlap
from lla.plotting import entitled
from lla.saved import Saved
from lla.storage import FLOATS, array_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# arrays of a layer and their dimensions
SHAPES = {
    "eigenvalues": "k", "residuals": "k", "eigenvectors": "kFd", "rank_one": "k",
    "mean_cosine": "k", "left_cosine": "k", "M": "FF", "xx": "dd", "mean": "d",
    "kronecker_eigenvalues": "k", "kronecker_left": "kF", "kronecker_right": "kd",
    "kronecker_overlap": "k",
}  # fmt: skip


@dataclass(frozen=True)
class LayerCurvature(Saved):
    """The curvature of a layer with weight [F, d], F outputs and d inputs (elements of a patch)."""

    name: str
    eigenvalues: np.ndarray  # [k] the largest of the layer's block, the largest first
    residuals: np.ndarray  # [k], ||H v - lambda v||
    eigenvectors: np.ndarray  # [k, F, d], orthonormal
    rank_one: np.ndarray  # [k], sigma_1^2 / sum sigma^2 of each eigenvector as a matrix
    mean_cosine: np.ndarray  # [k], |cos| of its right singular vector with the mean input; or NaN
    left_cosine: np.ndarray  # [k], of its left one with the nearest eigenvector of E[M]
    M: np.ndarray  # [F, F], E[M], curvature by the outputs, summed over positions
    xx: np.ndarray  # [d, d], E[xx'] of the inputs, mean over positions; centred if asked
    mean: np.ndarray  # [d], E[x], not centred
    kronecker_eigenvalues: np.ndarray  # [k] the largest of E[M] (x) E[xx']
    kronecker_left: np.ndarray  # [k, F], u_i of its eigenvectors u_i (x) v_j
    kronecker_right: np.ndarray  # [k, d], v_j
    kronecker_overlap: np.ndarray  # [k], of the first k' vectors of both, k' = 1 ... k
    frobenius_error: Estimate  # ||H - K||_F / ||H||_F; stderr 0 where exact
    outliers: int  # eigenvalues of E[M] before the largest gap
    outlier_gap: float  # ratio of the eigenvalues on both sides of that gap
    matvecs: int  # products with the layer's block
    converged: bool  # whether the residuals are below the tolerance
    why: str  # why the Gauss-Newton block is not that of the Hessian; empty where it is

    LONG: ClassVar[tuple[str, ...]] = (
        "eigenvectors", "M", "xx", "mean", "kronecker_left", "kronecker_right",
    )  # fmt: skip

    def _faults(self) -> Iterator[str]:
        if self.eigenvectors.ndim != 3:
            yield f"eigenvectors has the shape {list(self.eigenvectors.shape)}"
        k, outputs, inputs = self.eigenvectors.shape
        yield from array_faults(
            self,
            **{
                name: (
                    shape_of(dims, k, outputs, inputs),
                    FLOATS if name == "eigenvectors" else "float64",
                )
                for name, dims in SHAPES.items()
            },
        )

    def to_frame(self) -> pd.DataFrame:
        """One row an eigenvector, the largest eigenvalue first; the index is the rank from 1."""
        names = (
            "eigenvalues", "residuals", "rank_one", "mean_cosine", "left_cosine",
            "kronecker_eigenvalues", "kronecker_overlap",
        )  # fmt: skip
        columns = {name: getattr(self, name) for name in names} | {"random_overlap": self.baseline}
        index = pd.RangeIndex(1, len(self.eigenvalues) + 1, name="rank")
        return pd.DataFrame(columns, index=index)

    @property
    def baseline(self) -> np.ndarray:
        """The overlap of random spaces, k' / P for k' = 1 ... k [k]."""
        return random_overlap(len(self.eigenvalues), self.eigenvectors[0].size)

    @property
    def kronecker_eigenvectors(self) -> np.ndarray:
        """The top eigenvectors of E[M] (x) E[xx'] [k, F, d]."""
        return self.kronecker_left[:, :, None] * self.kronecker_right[:, None, :]

    @property
    def output_eigenvalues(self) -> np.ndarray:
        """The eigenvalues of E[M] [F], the largest first."""
        return np.linalg.eigvalsh(self.M)[::-1]

    @property
    def input_eigenvalues(self) -> np.ndarray:
        """The eigenvalues of E[xx'] [d], the largest first."""
        return np.linalg.eigvalsh(self.xx)[::-1]

    @property
    def mean_square(self) -> float:
        """||E[x]||^2, which the largest eigenvalue of E[xx'] is near if the mean dominates."""
        return float(np.square(self.mean).sum())

    def overlap(self, other: LayerCurvature) -> np.ndarray:
        """The overlap of the top eigenspaces with those of another network's layer, a curve [k].

        Raises:
            InputError: the layers have other shapes.
        """
        one, two = self.eigenvectors.shape[1:], other.eigenvectors.shape[1:]
        if one != two:
            raise InputError(
                f"layer {self.name} has a weight of {one[0]} by {one[1]} and layer {other.name} of "
                f"{two[0]} by {two[1]}: compare networks of one shape"
            )
        return overlap(self.eigenvectors, other.eigenvectors)

    def plot(
        self,
        kind: Literal["eigenvalues", "eigenvector"] = "eigenvalues",
        index: int = 0,
        ax: Axes | None = None,
        *,
        title: str | None = None,
    ) -> Figure:
        """Draw the eigenvalues, or one eigenvector as a matrix [F, d].

        Args:
            kind: "eigenvalues" of the layer and of its Kronecker approximation, or "eigenvector".
            index: of the eigenvector, 0 for the largest eigenvalue.
            ax: axes to draw into; a new figure by default.
            title: above the picture; it says by default what is drawn.
        """
        if kind == "eigenvalues":
            names = (f"layer {self.name}", "E[M] (x) E[xx']")
            both = self.eigenvalues, self.kronecker_eigenvalues
            return entitled(ax, plot_two_spectra(*both, names, ax=ax), title)
        if kind != "eigenvector":
            raise InputError(f"kind is {kind!r}: choose 'eigenvalues' or 'eigenvector'")
        count = len(self.eigenvalues)
        if index not in range(count):
            raise InputError(f"index is {index}: choose 0 to {count - 1}")
        value, share = self.eigenvalues[index], self.rank_one[index]
        title = title or (
            f"{self.name}: eigenvector {index + 1}, eigenvalue {value:.3g}, "
            f"first singular value {share:.0%}"
        )
        return plot_matrix(self.eigenvectors[index], title, ax=ax)

    def __repr__(self) -> str:
        return (
            f"LayerCurvature({self.name}: largest eigenvalue {self.eigenvalues[0]:.4g}, overlap "
            f"with E[M] (x) E[xx'] {self.kronecker_overlap[-1]:.2f} for k = "
            f"{len(self.eigenvalues)} (random {self.baseline[-1]:.2g}), first singular value "
            f"{self.rank_one.mean():.0%}, {self.outliers} outliers of E[M])"
        )


def shape_of(dims: str, k: int, outputs: int, inputs: int) -> tuple[int, ...]:
    """The shape of an array of `SHAPES`."""
    return tuple({"k": k, "F": outputs, "d": inputs}[each] for each in dims)
