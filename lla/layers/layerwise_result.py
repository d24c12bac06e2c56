"""The curvature of the layers of a network: top eigenspaces, factors, and how they agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from lla.errors import InputError
from lla.estimate import Estimate
from lla.layer_plots import plot_matrix, plot_overlaps, plot_two_spectra
from lla.overlaps import overlap, random_overlap
from lla.plotting import entitled
from lla.saved import Saved, plain
from lla.storage import FLOATS, INTEGERS, array_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# arrays of a layer and their dimensions
_SHAPES = {
    "eigenvalues": "k", "residuals": "k", "eigenvectors": "kFd", "rank_one": "k",
    "mean_cosine": "k", "left_cosine": "k", "M": "FF", "xx": "dd", "mean": "d",
    "kronecker_eigenvalues": "k", "kronecker_left": "kF", "kronecker_right": "kd",
    "kronecker_overlap": "k",
}  # fmt: skip
_NUMBERS = ("outliers", "outlier_gap", "matvecs", "converged")


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
                    _shape(dims, k, outputs, inputs),
                    FLOATS if name == "eigenvectors" else "float64",
                )
                for name, dims in _SHAPES.items()
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


@dataclass(frozen=True)
class Overlaps(Saved):
    """Overlaps of the top eigenspaces of the layers of two networks."""

    names: tuple[str, ...]  # [L]
    curves: np.ndarray  # [L, k], for the first k' vectors, k' = 1 ... k
    baselines: np.ndarray  # [L, k], those of random spaces

    def _faults(self) -> Iterator[str]:
        k = self.curves.shape[-1] if self.curves.ndim else 0
        shape = (len(self.names), k)
        yield from array_faults(self, curves=(shape, "float64"), baselines=(shape, "float64"))

    def __getitem__(self, name: str) -> np.ndarray:
        """The curve of a layer [k]."""
        found: np.ndarray = self.curves[_index(name, self.names)]
        return found

    def to_frame(self) -> pd.DataFrame:
        """One row a layer: the overlap of the whole spaces and that of random ones."""
        columns = {
            "overlap": self.curves[:, -1], "random": self.baselines[:, -1],
            "ratio": self.curves[:, -1] / self.baselines[:, -1],
        }  # fmt: skip
        return pd.DataFrame(columns, index=pd.Index(self.names, name="layer"))

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Figure:
        """Draw a curve a layer.

        Args:
            ax: axes to draw into; a new figure by default.
            title: above the picture.
        """
        figure = plot_overlaps(self.names, self.curves, self.baselines, ax=ax)
        return entitled(ax, figure, title)

    def __repr__(self) -> str:
        lines = [
            f"{name}: {curve[-1]:.3g} (random {base[-1]:.2g})"
            for name, curve, base in zip(self.names, self.curves, self.baselines, strict=True)
        ]
        head = f"Overlap of {self.curves.shape[1]} top eigenvectors, {len(lines)} layers"
        return _some(head, lines)


@dataclass(frozen=True)
class Layerwise(Saved):
    """The curvature of some layers; `layerwise["name"]` is that of one."""

    names: tuple[str, ...]  # [L] layers, as in `named_modules`
    whys: tuple[str, ...]  # [L], see `LayerCurvature.why`
    sizes: np.ndarray  # [L, 2] F and d
    # arrays of all layers, one layer after the other, each as in `LayerCurvature`
    eigenvalues: np.ndarray
    residuals: np.ndarray
    eigenvectors: np.ndarray
    rank_one: np.ndarray
    mean_cosine: np.ndarray
    left_cosine: np.ndarray
    M: np.ndarray
    xx: np.ndarray
    mean: np.ndarray
    kronecker_eigenvalues: np.ndarray
    kronecker_left: np.ndarray
    kronecker_right: np.ndarray
    kronecker_overlap: np.ndarray
    numbers: np.ndarray  # [L, 4]: outliers, outlier_gap, matvecs, converged
    errors: np.ndarray  # [L, 4]: value, stderr, n, matvecs of frobenius_error
    k: int
    matrix: str  # that the eigenvectors are of: "Hessian" or "Gauss-Newton matrix, centred"
    mode: str
    centred: bool
    examples: int
    loss: float
    seed: int
    dtype: str
    about: str = ""  # model, number of examples and mode in words; empty if not known

    def _faults(self) -> Iterator[str]:
        count = len(self.names)
        yield from array_faults(
            self,
            sizes=((count, 2), INTEGERS),
            numbers=((count, len(_NUMBERS)), "float64"),
            errors=((count, 4), "float64"),
        )
        if len(self.whys) != count:
            yield f"it has {count} layers and {len(self.whys)} reasons"
        if self.k < 1 or (self.sizes < 1).any():
            yield "the number of eigenvectors or a size of a layer is not positive"
        lengths = {
            name: sum(math.prod(_shape(dims, self.k, *size)) for size in self.sizes.tolist())
            for name, dims in _SHAPES.items()
        }
        yield from array_faults(
            self,
            **{
                name: ((length,), FLOATS if name == "eigenvectors" else "float64")
                for name, length in lengths.items()
            },
        )

    @classmethod
    def of(cls, layers: Sequence[LayerCurvature], **facts: Any) -> Layerwise:
        """From the layers; `facts` are the last nine fields."""
        arrays: dict[str, Any] = {
            name: np.concatenate([getattr(layer, name).ravel() for layer in layers])
            for name in _SHAPES
        }
        errors = [layer.frobenius_error for layer in layers]
        return cls(
            names=tuple(layer.name for layer in layers),
            whys=tuple(layer.why for layer in layers),
            sizes=np.array([layer.eigenvectors.shape[1:] for layer in layers]),
            numbers=np.array([[float(getattr(a, n)) for n in _NUMBERS] for a in layers]),
            errors=np.array([
                [e.value, np.nan if e.stderr is None else e.stderr, e.n, e.matvecs] for e in errors
            ]),
            **arrays, **facts,
        )  # fmt: skip

    def __getitem__(self, name: str) -> LayerCurvature:
        """The curvature of a layer.

        Raises:
            InputError: it was not measured.
        """
        i = _index(name, self.names)
        arrays = {field: self._part(i, field, dims) for field, dims in _SHAPES.items()}
        value, stderr, n, matvecs = map(float, self.errors[i])
        error = Estimate(value, None if np.isnan(stderr) else stderr, int(n), int(matvecs))
        outliers, gap, products, converged = map(float, self.numbers[i])
        return LayerCurvature(
            name, frobenius_error=error, outliers=int(outliers), outlier_gap=gap,
            matvecs=int(products), converged=bool(converged), why=self.whys[i], **arrays,
        )  # fmt: skip

    def _part(self, i: int, field: str, dims: str) -> np.ndarray:
        """The array of a layer."""
        shapes = [_shape(dims, self.k, *map(int, size)) for size in self.sizes]
        lengths = [int(np.prod(shape)) for shape in shapes]
        start = sum(lengths[:i])
        flat: np.ndarray = getattr(self, field)[start : start + lengths[i]]
        return flat.reshape(shapes[i])

    def __iter__(self) -> Iterator[LayerCurvature]:
        """The layers, in order."""
        return (self[name] for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def overlap(self, other: Layerwise) -> Overlaps:
        """The overlap of the top eigenspaces with those of another network, layer by layer.

        Args:
            other: of a network of the same shape, such as one from another seed. With another k,
                the smaller one is taken.

        Raises:
            InputError: other layers, or a layer of another shape.
        """
        if not isinstance(other, Layerwise):
            raise InputError(
                f"overlap takes a result of lla.layerwise, not {type(other).__name__}: give one"
            )
        if self.names != other.names:
            raise InputError(
                f"the layers are {', '.join(self.names)} and {', '.join(other.names)}: compare "
                "networks of one shape"
            )
        curves = [one.overlap(two) for one, two in zip(self, other, strict=True)]
        k = min(self.k, other.k)
        baselines = [layer.baseline[:k] for layer in self]
        return Overlaps(self.names, np.array(curves), np.array(baselines))

    def to_frame(self) -> pd.DataFrame:
        """One row a layer."""
        rows = [_row(layer) for layer in self]
        return pd.DataFrame(rows, index=pd.Index(self.names, name="layer"))

    def to_dict(self, vectors: bool = False) -> dict[str, Any]:
        """The facts, and under `layers` what is known of each: see `lla.saved.Saved.to_dict`."""
        names = ("k", "matrix", "mode", "centred", "examples", "loss", "seed", "dtype", "about")
        facts = plain({name: getattr(self, name) for name in names})
        layers = {layer.name: layer.to_dict(vectors) for layer in self}
        return {"type": type(self).__name__, **facts, "layers": layers}

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Figure:
        """Draw the overlap with the Kronecker approximation, a curve a layer.

        A layer has pictures of its own, see `LayerCurvature.plot`.

        Args:
            ax: axes to draw into; a new figure by default.
            title: above the picture; a new figure has `about` by default.
        """
        layers = list(self)
        curves = np.array([layer.kronecker_overlap for layer in layers])
        baselines = np.array([layer.baseline for layer in layers])
        figure = plot_overlaps(self.names, curves, baselines, ax=ax)
        return entitled(ax, figure, title, self.about)

    def __repr__(self) -> str:
        lines = [
            f"{layer.name}: largest eigenvalue {layer.eigenvalues[0]:.3g}, Kronecker overlap "
            f"{layer.kronecker_overlap[-1]:.2f}, first singular value {layer.rank_one.mean():.2f}"
            for layer in self
        ]
        head = f"Top {self.k} eigenvectors of {len(self)} layers ({self.matrix})"
        return _some(f"{head}, loss {self.loss:.4g}", lines)


def _row(layer: LayerCurvature) -> Mapping[str, Any]:
    """The row of a frame."""
    inputs = layer.input_eigenvalues
    return {
        "eigenvalue": layer.eigenvalues[0],
        "rank_one": layer.rank_one.mean(),
        "mean_cosine": layer.mean_cosine.mean(),
        "left_cosine": layer.left_cosine.mean(),
        "kronecker_eigenvalue": layer.kronecker_eigenvalues[0],
        "kronecker_overlap": layer.kronecker_overlap[-1],
        "random_overlap": layer.baseline[-1],
        "frobenius_error": layer.frobenius_error.value,
        "frobenius_stderr": layer.frobenius_error.stderr,
        "outliers": layer.outliers,
        "outlier_gap": layer.outlier_gap,
        "xx_first": inputs[0],
        "xx_second": inputs[1] if len(inputs) > 1 else np.nan,
        "mean_square": layer.mean_square,
        "outputs": layer.eigenvectors.shape[1],
        "inputs": layer.eigenvectors.shape[2],
        "matvecs": layer.matvecs,
        "converged": layer.converged,
        "why": layer.why,
    }


def _shape(dims: str, k: int, outputs: int, inputs: int) -> tuple[int, ...]:
    return tuple({"k": k, "F": outputs, "d": inputs}[each] for each in dims)


def _index(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise InputError(f"{name!r} was not measured: choose among {', '.join(names)}")
    return names.index(name)


def _some(head: str, lines: list[str]) -> str:
    shown = lines if len(lines) <= 8 else [*lines[:7], f"... {len(lines) - 7} more"]
    return "\n".join([head, *shown])
