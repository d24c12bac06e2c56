"""Table 1 in the report: the paper's entries, ours, and the planes behind each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lla.report.view import Chip, Entry, Group, Line, Table, Trace
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import AXES, STATES, differing, pictures, trace
from paper_tables.exhibits.table1.planes import FULL, TABLE, Block, Place, Pool, blocks, reason
from paper_tables.paper import paper_columns, paper_rows, tables
from paper_tables.paper.explosion import (
    EXPLODES,
    METHODS,
    PAPER_METHODS,
    RECOMMENDED,
    RISES,
    expected,
    notation,
    printed,
)
from paper_tables.paper.names import display

__all__ = ["every_ratio", "table1"]

# Random axes of a line, and which method stands for the paper's method 3, in words.
LINES = {
    ("uniform", "3"): "uniform axes",
    ("uniform", "3s"): "uniform axes, signed L1",
    ("normal", "3"): "Gaussian axes",
}

LEGEND = (
    "Entries as the paper writes them: “yes” alone, every normalization explodes; “yes” with "
    "numbers, only those do; “no” with numbers, those rise without exploding. 1 no normalization, "
    "2 weight, 3 filter L1, 4 filter L2; signed: sums for the L1 norms, as the authors' public "
    "code has them. A plane explodes if its largest loss is at least "
    f"{EXPLODES:g} times max(loss at the centre, ln C) or not finite, and rises from {RISES:g} "
    "times on; the paper gives no threshold. The marks below an entry are the verdicts on the "
    f"single normalizations. ~: on a grid coarser than the paper's {FULL} x {FULL} points, where "
    "only “explodes” is final; ?: not measured. Gaussian axes, which the paper does "
    "not have, and stand-ins are not judged. The paper does not say which weights "
    "it took: both are compared."
)
RATIO_LEGEND = (
    "Largest finite loss / max(loss at the centre, ln C); the geometric mean over several seeds of "
    "random axes. ≥: on a coarser grid than the paper's, so a lower bound. The verdict compares "
    "with the paper's entry for this normalization."
)


def table1(records: Sequence[Record]) -> Table:
    """The view of Table 1: the paper's entries first, ours below them."""
    columns = paper_columns(TABLE)
    found = blocks(records)
    groups = []
    for row in paper_rows(TABLE):
        theirs = tuple(Entry(str(printed(row, column))) for column in columns)
        lines = [Line("the paper", (*theirs, None))]
        missing = []
        for state, name in STATES.items():
            mine = [block for block in found if (block.row, block.state) == (row, state)]
            for block in mine:
                lines += _lines(block, columns)
            if not mine:
                missing.append(f"{name} not run: {reason(records, row, state) or 'no record yet'}")
        groups.append(Group(display(row), "; ".join(missing), tuple(lines)))
    return Table(
        id=TABLE,
        title=f"{tables()[TABLE]['where']}: {tables()[TABLE]['title']}",
        legend=LEGEND,
        columns=(*columns, f"{RECOMMENDED!r}, recommended"),
        groups=tuple(groups),
        files=tuple(f"{TABLE}.{kind}" for kind in ("md", "csv", "tex")),
    )


def every_ratio(records: Sequence[Record]) -> Table:
    """The ratio of every plane of Table 1, one column a normalization."""
    order = {row: i for i, row in enumerate(paper_rows(TABLE))}
    groups = []
    for block in sorted(blocks(records), key=lambda b: order.get(b.row, len(order))):
        places = sorted({(p.mode, p.axes, p.frozen) for p in block.pools}, reverse=True)
        lines = []
        for mode, axes, frozen in places:
            pools = [block.pools.get(Place(mode, axes, method, frozen)) for method in METHODS]
            cells = [None if pool is None else _ratio(block, pool) for pool in pools]
            name = f"{mode}, {AXES.get(axes, axes)}" + (", BatchNorm frozen" if frozen else "")
            lines.append(Line(name, tuple(cells)))
        settings = f"{STATES[block.state]}; {pictures(block.record)}"
        groups.append(Group(display(block.row), settings, tuple(lines), block.fidelity))
    return Table(
        id=f"{TABLE}-ratios",
        title="Table 1: the ratio of every plane",
        legend=RATIO_LEGEND,
        columns=tuple(f"{m}" if m in PAPER_METHODS else {"3s": "3 signed"}.get(m, m)
                      for m in METHODS),
        groups=tuple(groups),
        folded=True,
    )  # fmt: skip


def _lines(block: Block, columns: Sequence[str]) -> list[Line]:
    lines = []
    for (axes, third), name in LINES.items():
        cells: list[Entry | None] = []
        measured_here = False
        for column in columns:
            mode, kind = column.split("/")
            used = "hessian" if kind == "hessian" else axes
            pools = {
                method: pool
                for method in PAPER_METHODS
                if (pool := _pool(block, mode, used, third if method == "3" else method))
            }
            measured_here |= bool(pools) and kind == "random"
            hidden = kind == "hessian" and axes == "normal"  # stands in the lines above
            cells.append(None if hidden or not pools else _entry(block, column, used, pools))
        if measured_here:
            cells.append(None if third == "3s" else _recommended(block, axes))
            title = f"{STATES[block.state]}, {name}"
            lines.append(Line(title, tuple(cells), pictures(block.record), block.fidelity))
    return lines


def _pool(block: Block, mode: str, axes: str, method: str) -> Pool | None:
    return block.pools.get(Place(mode, axes, method))


def _entry(block: Block, column: str, axes: str, pools: Mapping[str, Pool]) -> Entry:
    """Our entry in the paper's notation, with a verdict on each of its methods."""
    verdicts = {
        method: _verdict(block.row, pool, column, method, axes != "normal")
        for method, pool in pools.items()
    }
    text = notation({method: pool.category() for method, pool in pools.items()})
    given = [verdict for verdict in verdicts.values() if verdict]
    agree = given.count("reproduced")
    verdict = None if not given else "reproduced" if agree == len(given) else "differs"
    return Entry(
        text=text + ("" if all(pool.safe for pool in pools.values()) else " ~"),
        paper=str(printed(block.row, column)) if given else None,
        verdict=verdict,
        fidelity=_fidelity(pools, block),
        remark=f"{agree} of {len(given)} agree" if given else "",
        chips=tuple(Chip(method, verdicts[method]) for method in pools),
        traces=tuple(t for method, pool in pools.items() for t in _traces(pool, method)),
    )


def _recommended(block: Block, axes: str) -> Entry | None:
    pools = {
        f"{place.mode}, {place.axes}": pool
        for place, pool in block.pools.items()
        if place.method == RECOMMENDED and not place.frozen
        and place.axes in ((axes, "hessian") if axes == "uniform" else (axes,))
    }  # fmt: skip
    if not pools:
        return None
    bad = [f"{name} {c}" for name, p in pools.items() if (c := p.category()) != "none"]
    return Entry(
        text=("; ".join(bad) or f"no, {len(pools)} planes")
        + ("" if all(pool.safe for pool in pools.values()) else " ~"),
        fidelity=_fidelity(pools, block),
        traces=tuple(t for name, pool in pools.items() for t in _traces(pool, name)),
    )


def _ratio(block: Block, pool: Pool) -> Entry:
    place = pool.planes[0].place
    text = f"{'' if pool.complete else '≥ '}{pool.ratio:.2g}"
    words = [{"explodes": "explodes", "rises": "rises", "none": ""}[pool.category()]]
    if len(pool.planes) > 1:
        low, high = (f(p.ratio for p in pool.planes) for f in (min, max))
        words.append(f"{len(pool.planes)} seeds, {low:.2g} to {high:.2g}")
    if pool.nonfinite:
        words.append(f"{pool.nonfinite} points not finite")
    in_paper = place.axes != "normal" and not place.frozen
    return Entry(
        text=text,
        verdict=_verdict(block.row, pool, place.paper_column, place.method, in_paper),
        fidelity=differing(pool.fidelity, block.fidelity),
        remark=", ".join(word for word in words if word),
        traces=tuple(_traces(pool, "")),
    )


def _verdict(row: str, pool: Pool, column: str, method: str, in_paper: bool) -> str | None:
    wanted = expected(row, column, method) if in_paper else None
    if not wanted or pool.fidelity == "substitute":
        return None
    return "reproduced" if pool.category() in wanted else "differs"


def _traces(pool: Pool, name: str) -> Iterable[Trace]:
    for plane in pool.planes:
        title = f"{name}: " if name else ""
        finite = f", {plane.nonfinite} points not finite" if plane.nonfinite else ""
        yield trace(
            plane.record,
            f"{title}ratio {plane.ratio:.3g}, {plane.category()}{finite}"
            + ("" if plane.complete else " (lower bound)"),
        )


def _fidelity(pools: Mapping[str, Pool], block: Block) -> str | None:
    own = least_faithful(pool.fidelity for pool in pools.values())
    return differing(own, block.fidelity)
