"""The planes of Table 1, from its records: grouped, the finest grid first, seeds pooled."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from paper_tables.engine.exhibit import MissingError, Records
from paper_tables.engine.fidelity import least_faithful, rank
from paper_tables.engine.records import Record
from paper_tables.evidence.columns import Place, place_of, state_of
from paper_tables.evidence.selection import by_cell, grouped
from paper_tables.paper import paper_rows
from paper_tables.paper.explosion import EXPLODES, PAPER_METHODS, RISES, Category, category
from paper_tables.paper.names import display

TABLE = "table1"
FULL = 41  # points along each axis of the paper's planes
PAPER_AXES = ("uniform", "hessian")
SMALLEST = 9  # points along an axis: a coarser plane is no picture
UNKNOWN = "no plane was computed yet"  # the reason where no record gives one

_SEVERITY: dict[Category, int] = {"none": 0, "rises": 1, "explodes": 2}


@dataclass(frozen=True)
class PlaneResult:
    """One measured plane."""

    row: str
    state: str
    place: Place
    seed: int
    points: int  # along each axis
    stopped: bool  # exploded at its corners, the rest was not computed
    ratio: float
    nonfinite: int
    center_error: float  # |loss in the middle - the problem's loss|
    record: Record  # of the ratio

    @property
    def complete(self) -> bool:
        """Whether the ratio is on the paper's grid, so that it is no lower bound."""
        return self.points >= FULL and not self.stopped

    def category(self, explodes: float = EXPLODES, rises: float = RISES) -> Category:
        """See `explosion.category`."""
        return category(self.ratio, self.nonfinite, explodes, rises)


@dataclass(frozen=True)
class Pool:
    """The planes of one place: one, or several with random axes of other seeds."""

    planes: tuple[PlaneResult, ...]  # at least one, by seed

    @property
    def complete(self) -> bool:
        """Whether no ratio is a lower bound."""
        return all(plane.complete for plane in self.planes)

    @property
    def nonfinite(self) -> int:
        """Points of all planes whose loss is infinite or NaN."""
        return sum(plane.nonfinite for plane in self.planes)

    @property
    def fidelity(self) -> str:
        """Of the least faithful plane."""
        return least_faithful(plane.record.fidelity for plane in self.planes)

    @property
    def ratio(self) -> float:
        """The geometric mean of the ratios; infinite where no loss was finite."""
        if len(self.planes) == 1:
            return self.planes[0].ratio
        logs = [math.log10(p.ratio) if p.ratio > 0 else math.inf for p in self.planes]
        return 10 ** (sum(logs) / len(logs))

    @property
    def safe(self) -> bool:
        """Whether a finer grid cannot change the category; a coarse grid gives a lower bound."""
        return self.complete or self.category() == "explodes"

    def category(self, explodes: float = EXPLODES, rises: float = RISES) -> Category:
        """The category of the median plane; of an even number, the higher one."""
        found = sorted(
            (p.category(explodes, rises) for p in self.planes), key=_SEVERITY.__getitem__
        )
        return found[len(found) // 2]


@dataclass(frozen=True)
class Block:
    """The planes of one network and weight state on the same input."""

    row: str
    state: str
    pools: dict[Place, Pool]

    @property
    def record(self) -> Record:
        """The record of any plane; input and weights are the same for all."""
        return next(iter(self.pools.values())).planes[0].record

    @property
    def fidelity(self) -> str:
        """Of the least faithful plane."""
        return least_faithful(pool.fidelity for pool in self.pools.values())


def results(records: Iterable[Record], table: str = TABLE) -> list[PlaneResult]:
    """Every measured plane in the records of a table."""
    return [
        _result(metrics)
        for metrics in by_cell(records, table).values()
        if {"ratio", "nonfinite", "center_error"} <= metrics.keys()
    ]


def pictured(records: Iterable[Record]) -> dict[tuple[str, str], PlaneResult]:
    """The plane to draw for each network and column: the finest, then the most faithful."""
    usable = [
        plane
        for plane in results(records)
        if plane.record.artifact
        and plane.seed == 0
        and plane.points >= SMALLEST
        and not plane.stopped
    ]
    by_place = grouped(usable, lambda plane: (plane.row, plane.record.column))
    return {
        place: max(same, key=lambda plane: (plane.points, -rank(plane.record.fidelity)))
        for place, same in by_place.items()
    }


def blocks(records: Iterable[Record], table: str = TABLE) -> list[Block]:
    """The planes of a table by network, weight state and input.

    If a plane has several grids, the finest is taken.

    Returns:
        Blocks by network and state, the most faithful first.
    """
    found = map(_block, grouped(results(records, table), _input).values())
    return sorted(found, key=_rank)


def reason(records: Iterable[Record], row: str, state: str, table: str = TABLE) -> str | None:
    """Why a network was not run in a weight state; None where no record says so."""
    for record in records:
        mine = record.table == table and record.row == row
        if mine and record.reason and state_of(record.column) == state:
            return record.reason
    return None


def _result(metrics: dict[str, Record]) -> PlaneResult:
    record = metrics["ratio"]
    state, place = place_of(record.column)

    def value(metric: str) -> float:
        found = metrics[metric].value
        assert found is not None  # `results` takes no other
        return found

    return PlaneResult(
        row=record.row,
        state=state,
        place=place,
        seed=record.seed or 0,
        points=int(record.config.get("points", 0)),
        stopped=_stopped(metrics),
        ratio=value("ratio"),
        nonfinite=int(value("nonfinite")),
        center_error=value("center_error"),
        record=record,
    )


def _stopped(metrics: dict[str, Record]) -> bool:
    """Whether the plane was stopped at its corners, so that not all points were computed."""
    ratio, nonfinite = metrics["ratio"], metrics["nonfinite"]
    if nonfinite.n is not None:
        return nonfinite.n < ratio.config["points"] ** 2
    # older records do not count their points: they were stopped if a corner reached the limit
    limit = ratio.config.get("stops_at", math.inf)
    return bool(nonfinite.value and limit < math.inf) or (ratio.value or 0.0) >= limit


def _input(plane: PlaneResult) -> tuple[object, ...]:
    config, record = plane.record.config, plane.record
    return (
        plane.row, plane.state, config.get("model"), config.get("data"), config.get("images"),
        config.get("side"), record.dtype, record.batch_sha256, record.weights,
    )  # fmt: skip


def _block(planes: Sequence[PlaneResult]) -> Block:
    same = grouped(planes, lambda plane: (plane.place, plane.seed))
    finest = [max(same[key], key=lambda p: (p.points, not p.stopped)) for key in sorted(same)]
    pools = grouped(finest, lambda plane: plane.place)
    return Block(
        planes[0].row, planes[0].state, {place: Pool(tuple(p)) for place, p in pools.items()}
    )


def _rank(block: Block) -> tuple[object, ...]:
    config = block.record.config
    amount = config.get("images", 0) * config.get("side", 0) ** 2
    return (block.row, block.state != "random", rank(block.fidelity), -amount, -len(block.pools))


def paper_pools(block: Block) -> dict[Place, Pool]:
    """The planes of a block that are also in the paper."""
    return {
        place: pool
        for place, pool in block.pools.items()
        if place.axes in PAPER_AXES and place.method in PAPER_METHODS and not place.frozen
    }


@dataclass(frozen=True)
class Evidence:
    """The planes of all networks in one weight state, each on its most faithful input."""

    state: str
    blocks: dict[str, Block]  # by row
    reasons: dict[str, str]  # row -> why none of its planes can be judged

    @classmethod
    def of(
        cls, records: Records, state: str, table: str = TABLE, rows: Sequence[str] | None = None
    ) -> Evidence:
        """Choose, for each network, the most faithful input with the paper's planes.

        Stand-ins are left out, with the reason.

        Args:
            records: all published records.
            state: of the weights.
            table: whose planes.
            rows: the networks; None takes the paper's.
        """
        chosen: dict[str, Block] = {}
        reasons: dict[str, str] = {}
        found = [block for block in blocks(records, table) if block.state == state]
        for row in paper_rows(TABLE) if rows is None else rows:
            mine = [block for block in found if block.row == row]
            faithful = [block for block in mine if block.fidelity != "substitute"]
            if faithful:
                # the most complete one; ties go to the most faithful
                chosen[row] = max(faithful, key=lambda block: len(paper_pools(block)))
            else:
                absent = reason(records, row, state, table)
                why = "only a stand-in was computed" if mine else absent
                reasons[row] = why or UNKNOWN
        return cls(state, chosen, reasons)

    def pool(self, row: str, place: Place) -> Pool:
        """One plane.

        Raises:
            MissingError: it was not computed, or is a stand-in.
        """
        if row not in self.blocks:
            raise MissingError(f"{display(row)}: {self.reasons[row]}")
        if place not in self.blocks[row].pools:
            raise MissingError(f"{display(row)} {place.column(self.state)}: not computed yet")
        return self.blocks[row].pools[place]

    def column(self, row: str, mode: str, axes: str) -> dict[str, Pool]:
        """The planes of the paper's four methods."""
        return {method: self.pool(row, Place(mode, axes, method)) for method in PAPER_METHODS}

    def columns(self, row: str, mode: str) -> dict[str, dict[str, Pool]]:
        """The planes of the paper's four methods along each of the paper's axes."""
        return {axes: self.column(row, mode, axes) for axes in PAPER_AXES}

    def nothing(self) -> MissingError:
        """The error to raise if a predicate finds no plane at all."""
        return MissingError(self.absent() or UNKNOWN)

    def absent(self) -> str:
        """The networks that are left out, in words."""
        return "; ".join(f"{display(row)}: {reason}" for row, reason in self.reasons.items())
