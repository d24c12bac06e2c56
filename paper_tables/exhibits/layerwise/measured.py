"""What records say of the layers of a network, and what figures need besides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from torch import Tensor, nn

from lla.estimate import Estimate
from lla.layers.layer_curvature import LayerCurvature
from lla.layers.layerwise import layerwise
from lla.saved import Saved
from lla.storage import array_faults
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.inputs.known import outputs_of

# of each layer; the first two say how far its spaces agree with those of another network
OVERLAP, RANDOM = "overlap", "random"
OF_LAYER = (
    "eigenvalue", "rank_one", "mean_cosine", "kronecker_overlap", "frobenius_error", "outliers",
    "outlier_gap", "top_share", "xx_ratio",
)  # fmt: skip
CLASSES = 10  # of every data set here
METRICS = (OVERLAP, RANDOM, *OF_LAYER)
MATRICES = 2  # first layers whose first eigenvector is kept
ROWS = 24  # of these, the outputs of largest norm

Layers = dict[str, LayerCurvature]


def curvatures(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    k: int,
    layers: Sequence[str] = (),
    **how: Any,
) -> Layers:
    """The curvature of layers; a layer with fewer than k outputs has as many eigenvectors.

    Args:
        model: the network.
        batch: inputs and labels.
        k: eigenvectors of a layer.
        layers: by default all linear layers and convolutions.
        how: further arguments of `lla.layerwise`.
    """
    outputs = outputs_of(model)
    if layers:
        outputs = {name: outputs[name] for name in layers}
    found: Layers = {}
    for size in sorted({min(k, count) for count in outputs.values()}):
        names = [name for name, count in outputs.items() if min(k, count) == size]
        found |= {layer.name: layer for layer in layerwise(model, batch, size, names, **how)}
    return {name: found[name] for name in outputs}


def metric(name: str, layer: str) -> str:
    """How a record names a number of a layer."""
    return f"{name} {layer}"


def numbers(found: Sequence[Layers]) -> dict[str, Estimate]:
    """Means over networks, or over batches, by the names of records.

    Args:
        found: one a network; three or more.
    """
    values: dict[str, Estimate] = {}
    for layer in found[0]:
        mine = [each[layer] for each in found]
        values[metric(OVERLAP, layer)] = of_pairs(
            [[float(one.overlap(other)[-1]) for other in mine] for one in mine]
        )
        values[metric(RANDOM, layer)] = Estimate(float(mine[0].baseline[-1]), None, 1, 0)
        for name in OF_LAYER:
            values[metric(name, layer)] = Estimate.of([_number(each, name) for each in mine], 0)
    return values


def _number(layer: LayerCurvature, name: str) -> float:
    """One number of a layer."""
    if name == "eigenvalue":
        return float(layer.eigenvalues[0])
    if name == "frobenius_error":
        return layer.frobenius_error.value
    if name == "kronecker_overlap":
        return float(layer.kronecker_overlap[-1])
    if name == "top_share":  # of the trace of E[M], in its C - 1 largest eigenvalues
        return float(layer.output_eigenvalues[: CLASSES - 1].sum() / layer.M.trace())
    if name == "xx_ratio":
        return float(layer.input_eigenvalues[0]) / layer.mean_square
    return float(np.mean(getattr(layer, name)))


def of_pairs(values: Sequence[Sequence[float]]) -> Estimate:
    """The mean over pairs of networks, with its standard error by the jackknife over networks.

    Pairs that share a network are not independent, so the scatter of pairs would be too small.

    Args:
        values: [S, S], symmetric; the diagonal is not used.

    >>> of_pairs([[0, 1, 2], [1, 0, 3], [2, 3, 0]]).value
    2.0
    """
    count = len(values)

    def mean(kept: Sequence[int]) -> float:
        return float(np.mean([values[i][j] for i, j in combinations(kept, 2)]))

    without = [mean([i for i in range(count) if i != out]) for out in range(count)]
    error = math.sqrt((count - 1) * float(np.var(without)))
    return Estimate(mean(range(count)), error, count, 0)


_CURVES = ("overlap", "baseline", "kronecker", "eigenvalues", "approximate")


@dataclass(frozen=True)
class Curves(Saved):
    """What figures show of the layers of some networks of a kind."""

    names: tuple[str, ...]  # [L]
    ks: np.ndarray  # [L] eigenvectors of each layer
    # one layer after the other, each [k]
    overlap: np.ndarray  # mean over pairs of networks
    baseline: np.ndarray  # of random spaces
    kronecker: np.ndarray  # overlap with the Kronecker approximation, mean over networks
    eigenvalues: np.ndarray  # of the first network
    approximate: np.ndarray  # of its Kronecker approximation
    shapes: np.ndarray  # [M, 2] of the matrices
    matrices: np.ndarray  # first eigenvectors of the first layers, one after the other, float16

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # a file has a list

    @classmethod
    def of(cls, found: Sequence[Layers]) -> Curves:
        """From the layers of networks of a kind."""
        first = found[0]
        matrices = [_largest_rows(layer.eigenvectors[0]) for layer in first.values()][:MATRICES]

        def joined(curve: Any) -> np.ndarray:
            return np.concatenate([curve(name) for name in first])

        return cls(
            names=tuple(first),
            ks=np.array([len(layer.eigenvalues) for layer in first.values()]),
            overlap=joined(lambda name: np.mean(
                [a[name].overlap(b[name]) for a, b in combinations(found, 2)], axis=0
            )),
            baseline=joined(lambda name: first[name].baseline),
            kronecker=joined(lambda name: np.mean(
                [each[name].kronecker_overlap for each in found], axis=0
            )),
            eigenvalues=joined(lambda name: first[name].eigenvalues),
            approximate=joined(lambda name: first[name].kronecker_eigenvalues),
            shapes=np.array([matrix.shape for matrix in matrices]),
            matrices=np.concatenate([m.ravel() for m in matrices]).astype(np.float16),
        )  # fmt: skip

    def part(self, field: str, layer: str) -> np.ndarray:
        """A curve of a layer [k]."""
        i = self.names.index(layer)
        start = int(self.ks[:i].sum())
        curve: np.ndarray = getattr(self, field)[start : start + int(self.ks[i])]
        return curve

    def matrix(self, i: int) -> np.ndarray:
        """The first eigenvector of one of the first layers [rows, d]."""
        sizes = self.shapes.prod(1)
        start = int(sizes[:i].sum())
        return self.matrices[start : start + int(sizes[i])].reshape(self.shapes[i])

    def _faults(self) -> Iterator[str]:
        count = (int(self.ks.sum()),)
        yield from array_faults(
            self,
            ks=((len(self.names),), "int64"),
            **dict.fromkeys(_CURVES, (count, "float64")),
            matrices=((int(self.shapes.prod(1).sum()),), "float16"),
        )


def _largest_rows(matrix: np.ndarray) -> np.ndarray:
    """The rows of largest norm, in their order; signed so that the largest element is positive."""
    kept = np.sort(np.argsort(-np.linalg.norm(matrix, axis=1))[:ROWS])
    rows: np.ndarray = matrix[kept]
    return rows * np.sign(rows.flat[np.abs(rows).argmax()])


def records_of(
    cell: Cell, settings: Settings, found: Sequence[Layers], kind: str, facts: dict[str, Any]
) -> list[Record]:
    """The records of a cell: means over networks or batches, and the file that figures need.

    Args:
        cell: the cell.
        settings: of the session.
        found: the layers of each network or batch.
        kind: what means are over.
        facts: fields of the records.
    """
    file = f"layerwise/{cell.name}-{cell.hash}.npz"
    artifact = store.save_result(Curves.of(found), file, settings.work)
    first = metric(OVERLAP, next(iter(found[0])))
    return [
        cell.record(
            name, value.value, value.stderr, n=value.n if value.stderr is not None else None,
            stderr_kind=None if value.stderr is None else kind,
            artifact=artifact if name == first else None, **facts,
        )
        for name, value in numbers(found).items()
    ]  # fmt: skip
