"""The flatness of the layers of a network: a table of estimates, with its picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lla.errors import InputError
from lla.estimate import Estimate, frame_of
from lla.layer_plots import plot_layers
from lla.plotting import entitled
from lla.saved import Saved, plain
from lla.storage import INTEGERS, array_faults

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUANTITIES = ("trace", "trace_bias", "kappa", "kappa_diag")


@dataclass(frozen=True)
class LayerFlatness(Saved):
    """The flatness of one layer with F filters of d elements."""

    name: str
    trace: Estimate  # of the Hessian by the weight
    trace_bias: Estimate | None  # by the bias; None without a trainable one
    kappa: Estimate  # relative flatness, sum_fg <w_f, w_g> T_fg
    kappa_diag: Estimate  # its part f = g
    filters: int  # F
    size: int  # d
    method: str  # "closed form", "jacobian blocks" or "hutchinson"
    why: str  # in words
    table: np.ndarray | None  # T [F, F], T_fg = sum_j H_(f j)(g j); None where sampled

    @property
    def exact(self) -> bool:
        """Whether the numbers are exact except for rounding."""
        return self.method != "hutchinson"

    @property
    def neuronwise(self) -> float:
        """The trace divided by the number d of elements of a filter."""
        return self.trace.value / self.size

    def _faults(self) -> Iterator[str]:
        if self.filters < 1 or self.size < 1:
            yield f"filters is {self.filters} and size is {self.size}"
        if self.exact != (self.table is not None):
            yield f"it is by {self.method} and has {'a' if self.table is not None else 'no'} table"
        if self.table is not None:
            yield from array_faults(self, table=((self.filters, self.filters), "float64"))

    def to_frame(self) -> pd.DataFrame:
        """One row a quantity: value, standard error, samples or examples, products."""
        found = {name: getattr(self, name) for name in QUANTITIES}
        return frame_of({name: e for name, e in found.items() if e is not None}, "quantity")

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Figure:
        """Draw the quantities, with two standard errors where they were sampled.

        Args:
            ax: axes to draw into; a new figure by default.
            title: above the picture; a new figure has the layer's name by default.
        """
        frame = self.to_frame()
        values, errors = frame["value"].to_numpy(), frame["stderr"].to_numpy()
        figure = plot_layers(list(frame.index), values, errors, "value", ax=ax)
        return entitled(ax, figure, title, f"layer {self.name}")

    def __repr__(self) -> str:
        return (
            f"LayerFlatness({self.name}: trace {self.trace}, kappa {self.kappa}, diagonal part "
            f"{self.kappa_diag}, by {self.method})"
        )


@dataclass(frozen=True)
class Flatness(Saved):
    """The flatness of some layers; `flatness["name"]` is that of one."""

    names: tuple[str, ...]  # [L] layers, as in `named_modules`
    methods: tuple[str, ...]  # [L]
    whys: tuple[str, ...]  # [L]
    values: np.ndarray  # [L, 4] float64, in the order of QUANTITIES; NaN without a bias
    errors: np.ndarray  # [L, 4] standard errors; 0 where exact
    counts: np.ndarray  # [L, 4] examples where exact, samples where not
    matvecs: np.ndarray  # [L, 4] Hessian-vector products
    sizes: np.ndarray  # [L, 2] F and d
    tables: np.ndarray  # all T of exact layers, one after the other, each row by row
    mode: str
    normalized: bool  # inputs divided by their standard deviations
    examples: int
    loss: float
    dtype: str
    about: str = ""  # model, number of examples and mode in words; empty if not known

    def _faults(self) -> Iterator[str]:
        count, width = len(self.names), len(QUANTITIES)
        yield from array_faults(
            self,
            values=((count, width), "float64"),
            errors=((count, width), "float64"),
            counts=((count, width), INTEGERS),
            matvecs=((count, width), INTEGERS),
            sizes=((count, 2), INTEGERS),
            tables=((self.tables.size,), "float64"),
        )
        if not count == len(self.methods) == len(self.whys):
            yield f"it has {count} layers, {len(self.methods)} methods and {len(self.whys)} reasons"

    @classmethod
    def of(cls, layers: Sequence[LayerFlatness], **facts: object) -> Flatness:
        """From the layers; `facts` are the last six fields."""
        estimates = [[getattr(layer, name) for name in QUANTITIES] for layer in layers]

        def column(get: str, missing: float, dtype: type) -> np.ndarray:
            rows = [
                [missing if e is None or getattr(e, get) is None else getattr(e, get) for e in row]
                for row in estimates
            ]
            return np.array(rows, dtype=dtype)

        tables = [layer.table.ravel() for layer in layers if layer.table is not None]
        return cls(
            names=tuple(layer.name for layer in layers),
            methods=tuple(layer.method for layer in layers),
            whys=tuple(layer.why for layer in layers),
            values=column("value", np.nan, float),
            errors=column("stderr", np.nan, float),
            counts=column("n", 0, int),
            matvecs=column("matvecs", 0, int),
            sizes=np.array([(layer.filters, layer.size) for layer in layers]),
            tables=np.concatenate([*tables, np.zeros(0)]),
            **facts,  # type: ignore[arg-type]
        )

    def __getitem__(self, name: str) -> LayerFlatness:
        """The flatness of a layer.

        Raises:
            InputError: it was not measured.
        """
        if name not in self.names:
            raise InputError(f"{name!r} was not measured: choose among {', '.join(self.names)}")
        i = self.names.index(name)
        found = [
            Estimate(
                float(self.values[i, k]),
                None if np.isnan(self.errors[i, k]) else float(self.errors[i, k]),
                int(self.counts[i, k]),
                int(self.matvecs[i, k]),
            )
            for k in range(len(QUANTITIES))
        ]
        bias = None if np.isnan(self.values[i, 1]) else found[1]
        filters, size = map(int, self.sizes[i])
        return LayerFlatness(
            name, found[0], bias, found[2], found[3], filters, size, self.methods[i], self.whys[i],
            self._table(i),
        )  # fmt: skip

    def _table(self, i: int) -> np.ndarray | None:
        if self.methods[i] == "hutchinson":
            return None
        lengths = [
            0 if method == "hutchinson" else int(filters) ** 2
            for method, (filters, _) in zip(self.methods, self.sizes, strict=True)
        ]
        start, filters = sum(lengths[:i]), int(self.sizes[i, 0])
        found: np.ndarray = self.tables[start : start + lengths[i]].reshape(filters, filters)
        return found

    def __iter__(self) -> Iterator[LayerFlatness]:
        """The layers, in order."""
        return (self[name] for name in self.names)

    def __len__(self) -> int:
        return len(self.names)

    def to_frame(self) -> pd.DataFrame:
        """One row a layer: values, standard errors, method."""
        columns: dict[str, object] = {}
        for k, name in enumerate(QUANTITIES):
            columns[name] = self.values[:, k]
            columns[f"{name}_stderr"] = self.errors[:, k]
        columns["neuronwise"] = self.values[:, 0] / self.sizes[:, 1]
        columns |= {"filters": self.sizes[:, 0], "size": self.sizes[:, 1]}
        columns |= {"method": self.methods, "why": self.whys}
        return pd.DataFrame(columns, index=pd.Index(self.names, name="layer"))

    def to_dict(self, vectors: bool = False) -> dict[str, Any]:
        """The facts, and under `layers` what is known of each: see `lla.saved.Saved.to_dict`."""
        names = ("mode", "normalized", "examples", "loss", "dtype", "about")
        facts = plain({name: getattr(self, name) for name in names})
        layers = {layer.name: layer.to_dict(vectors) for layer in self}
        return {"type": type(self).__name__, **facts, "layers": layers}

    def plot(
        self, quantity: str = "kappa", ax: Axes | None = None, *, title: str | None = None
    ) -> Figure:
        """Draw one quantity of each layer, with two standard errors where it was sampled.

        Args:
            quantity: "trace", "trace_bias", "kappa" or "kappa_diag".
            ax: axes to draw into; a new figure by default.
            title: above the picture; a new figure has `about` by default.
        """
        if quantity not in QUANTITIES:
            raise InputError(f"quantity is {quantity!r}: choose among {', '.join(QUANTITIES)}")
        k = QUANTITIES.index(quantity)
        figure = plot_layers(self.names, self.values[:, k], self.errors[:, k], quantity, ax=ax)
        return entitled(ax, figure, title, self.about)

    def __repr__(self) -> str:
        lines = [
            f"{layer.name}: kappa {layer.kappa}, trace {layer.trace} ({layer.method})"
            for layer in self
        ]
        shown = lines if len(lines) <= 8 else [*lines[:7], f"... {len(lines) - 7} more"]
        return "\n".join([f"Flatness of {len(self)} layers, loss {self.loss:.4g}", *shown])
