"""The study of normalizations, from its records: planes, minima, and demands on candidates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record
from paper_tables.evidence.columns import state_of
from paper_tables.evidence.intervals import difference_width
from paper_tables.evidence.selection import by_cell, grouped
from paper_tables.exhibits.normalization.candidates import CANDIDATES
from paper_tables.exhibits.normalization.design import CENTRED, MINIMA, TABLE
from paper_tables.paper.explosion import category
from paper_tables.paper.names import display

LEAST_CHANGE = 0.10  # of the output at a plane's edge; with less the plane is only shrunk
SAME = 1e-5  # two planes are the same up to this difference
REFERENCE = "small batch"  # the flat minimum that the others are compared with


@dataclass(frozen=True)
class Plane:
    """The planes at one place of the study, with the largest of their ratios."""

    row: str
    state: str
    mode: str
    axes: str
    candidate: str
    ratio: float
    nonfinite: int
    change: float
    record: Record

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Network, weights, mode and axes."""
        return self.row, self.state, self.mode, self.axes

    @property
    def name(self) -> str:
        """Its place in words."""
        weights = "random" if self.state == "random" else "trained"
        return f"{display(self.row)} {weights} {self.mode} {self.axes}"

    @property
    def verdict(self) -> str:
        """The category, as for Table 1."""
        return category(self.ratio, self.nonfinite)


@dataclass(frozen=True)
class Study:
    """The records of the study; at each place the one with the most images."""

    planes: list[Plane]
    others: dict[tuple[str, str], Record]  # (column, metric) -> records of minima and rescaling

    @classmethod
    def of(cls, records: Iterable[Record]) -> Study:
        """Sort records; of a network's inputs the most faithful, then the largest one counts."""
        cells = by_cell(records, TABLE)
        planes: dict[tuple[str, str], Plane] = {}
        others: dict[tuple[str, str], Record] = {}
        for same in grouped(cells, lambda cell: (cell[0], state_of(cell[1]))).values():
            most = max(_amount(cells[cell]) for cell in same)
            for row, column, digest in same:
                metrics = cells[row, column, digest]
                if _amount(metrics) < most:
                    continue
                if {"ratio", "nonfinite", "change"} <= metrics.keys():
                    planes[row, column] = _plane(row, column, metrics)
                else:
                    others |= {(column, metric): record for metric, record in metrics.items()}
        return cls(list(planes.values()), others)

    def of_candidate(self, name: str) -> list[Plane]:
        """Its planes along uniform, normal and Hessian axes.

        If there is nothing to recalibrate, these are the planes of filter normalization.
        """
        mine = [p for p in self.planes if p.candidate == name and p.axes != CENTRED]
        if name in CANDIDATES and CANDIDATES[name].recalibrate and mine:
            places = {p.place for p in mine}
            mine += [p for p in self.of_candidate("filter") if p.place not in places]
        return mine

    def measured(self, name: str) -> bool:
        """Whether a candidate has a plane at every place where another candidate has one."""
        places = {p.place for p in self.planes if p.axes != CENTRED}
        return {p.place for p in self.of_candidate(name)} == places

    def contrast(self, minimum: str, candidate: str) -> tuple[float, float, bool] | None:
        """How much higher a plane rises around a minimum than around the small-batch one.

        Returns:
            The ratio of the mean rises, its standard error, and whether the 95 % interval of their
            difference lies above 0; None without records.
        """
        above, below = (
            self.others.get((f"minima/{m}/{candidate}", "rise")) for m in (minimum, REFERENCE)
        )
        return None if above is None or below is None else _contrast(above, below)


def _plane(row: str, column: str, metrics: dict[str, Record]) -> Plane:
    ratio, nonfinite, change = (metrics[m].value or 0.0 for m in ("ratio", "nonfinite", "change"))
    state, mode, axes, candidate = column.split("/")
    record = metrics["ratio"]
    return Plane(row, state, mode, axes, candidate, ratio, int(nonfinite), change, record)


def _amount(metrics: dict[str, Record]) -> tuple[int, int]:
    first = next(iter(metrics.values()))
    images, side = first.config.get("images", 0), first.config.get("side", 1)
    return (-rank(first.fidelity), images * side**2)


def _contrast(above: Record, below: Record) -> tuple[float, float, bool]:
    a, b = above.value or 0.0, below.value or 0.0
    sa, sb = above.stderr or 0.0, below.stderr or 0.0
    clear = a - b > difference_width((sa, above.n or 2), (sb, below.n or 2))
    ratio = a / b if b else math.inf
    return ratio, abs(ratio) * math.sqrt((sa / a) ** 2 + (sb / b) ** 2) if a and b else 0.0, clear


def passes(study: Study, name: str) -> bool:
    """Whether a candidate meets every demand."""
    return all(mark == "yes" for mark in marks(study, name))


def marks(study: Study, name: str) -> list[str]:
    """Whether a candidate meets each demand: "yes", "no", or "—" where it was not measured."""
    planes = study.of_candidate(name)
    contrasts = [study.contrast(m, name) for m in MINIMA if m != REFERENCE]
    layers = study.others.get((f"rescaling/layers/{name}", "difference"))

    def word(known: bool, met: Callable[[], bool]) -> str:
        return "—" if not known else "yes" if met() else "no"

    return [
        word(study.measured(name), lambda: all(p.verdict != "explodes" for p in planes)),
        word(study.measured(name), lambda: min(p.change for p in planes) > LEAST_CHANGE),
        word(None not in contrasts, lambda: all(c[2] for c in contrasts if c)),
        word(layers is not None, lambda: layers is not None and (layers.value or 0.0) <= SAME),
    ]
