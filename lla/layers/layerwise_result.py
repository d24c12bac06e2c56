"""The curvature of the layers of a network: top eigenspaces, factors, and how they agree."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lla.errors import InputError
from lla.estimate import Estimate
from lla.layer_plots import plot_overlaps
from lla.layers.layer_curvature import SHAPES, LayerCurvature, shape_of
from lla.plotting import entitled
from lla.saved import Saved, plain
from lla.storage import FLOATS, INTEGERS, array_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NUMBERS = ("outliers", "outlier_gap", "matvecs", "converged")


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
            name: sum(math.prod(shape_of(dims, self.k, *size)) for size in self.sizes.tolist())
            for name, dims in SHAPES.items()
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
            for name in SHAPES
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
        arrays = {field: self._part(i, field, dims) for field, dims in SHAPES.items()}
        value, stderr, n, matvecs = map(float, self.errors[i])
        error = Estimate(value, None if np.isnan(stderr) else stderr, int(n), int(matvecs))
        outliers, gap, products, converged = map(float, self.numbers[i])
        return LayerCurvature(
            name, frobenius_error=error, outliers=int(outliers), outlier_gap=gap,
            matvecs=int(products), converged=bool(converged), why=self.whys[i], **arrays,
        )  # fmt: skip

    def _part(self, i: int, field: str, dims: str) -> np.ndarray:
        """The array of a layer."""
        shapes = [shape_of(dims, self.k, *map(int, size)) for size in self.sizes]
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


def _index(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise InputError(f"{name!r} was not measured: choose among {', '.join(names)}")
    return names.index(name)


def _some(head: str, lines: list[str]) -> str:
    shown = lines if len(lines) <= 8 else [*lines[:7], f"... {len(lines) - 7} more"]
    return "\n".join([head, *shown])
