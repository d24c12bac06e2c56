"""Table 1: the paper's entries, ours, and the planes behind each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lla.report.view import Chip, Entry, Group, Line, Table, Trace
from paper_tables import paper
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import AXES, STATES, differing, pictures, trace
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.table1 import panel
from paper_tables.exhibits.table1.planes import FULL, TABLE, Block, Place, Pool, blocks, reason
from paper_tables.paper import explosion
from paper_tables.paper.explosion import EXPLODES, METHODS, PAPER_METHODS, RECOMMENDED, RISES
from paper_tables.paper.names import display

THRESHOLDS = (10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e5, 1e6)

# (random axes, method that stands for the paper's method 3) -> name of the line.
LINES = {
    ("uniform", "3"): "uniform axes",
    ("uniform", "3s"): "uniform axes, signed L1",
    ("normal", "3"): "Gaussian axes",
}

LEGEND = legend(
    __file__,
    "table",
    explodes=EXPLODES,
    rises=RISES,
    full=FULL,
    recommended=RECOMMENDED,
)
RATIO_LEGEND = legend(__file__, "ratios")
PANEL_LEGEND = legend(__file__, "panel")
AGREEMENT_LEGEND = legend(__file__, "agreement")


def tables(records: Sequence[Record]) -> list[Table]:
    """Table 1, its planes counted by method, its agreement by threshold, and every ratio."""
    found = blocks(records)
    first = _first(found)
    others = blocks(records, panel.TABLE)
    return [
        _table1(records, found),
        _by_method(first),
        _agreement(first),
        _every_ratio(found, TABLE, "Table 1", RATIO_LEGEND),
        _every_ratio(others, panel.TABLE, "Planes of other networks", PANEL_LEGEND),
    ]


def _table1(records: Sequence[Record], found: Sequence[Block]) -> Table:
    """The paper's entries first, ours below them."""
    columns = paper.paper_columns(TABLE)
    groups = []
    for row in paper.paper_rows(TABLE):
        theirs = tuple(Entry(str(explosion.printed(row, column))) for column in columns)
        lines = [Line("the paper", (*theirs, None))]
        for state, name in STATES.items():
            mine = [block for block in found if (block.row, block.state) == (row, state)]
            for block in mine:
                lines += _lines(block, columns)
            if not mine:
                why = reason(records, row, state) or "no record yet"
                lines.append(Line(name, (None,) * (len(columns) + 1), reason=why))
        groups.append(Group(display(row), "", tuple(lines)))
    entry = paper.tables()[TABLE]
    return Table(
        id=TABLE,
        title=f"{entry['where']}: {entry['title']}",
        legend=LEGEND,
        columns=(*columns, f"{RECOMMENDED!r}, recommended"),
        groups=tuple(groups),
        heads=("network", "weights and axes"),
        files=tuple(f"{TABLE}.{kind}" for kind in ("md", "csv", "tex")),
    )


def _by_method(first: Sequence[Block]) -> Table:
    """How many planes of each method explode and rise, by weight state and axes."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for block in first:
        for place, pool in block.pools.items():
            if not place.frozen:
                key = (place.method, block.state, place.axes)
                counts.setdefault(key, Counter())[pool.category()] += 1
    columns = [(state, axes) for state in STATES for axes in ("uniform", "normal", "hessian")]

    def entry(method: str, column: tuple[str, str]) -> Entry | None:
        count = counts.get((method, *column))
        if count is None:
            return None
        return Entry(f"{count['explodes']} / {count['rises']} of {count.total()}")

    lines = [
        Line(_method_name(method), tuple(entry(method, column) for column in columns))
        for method in METHODS
    ]
    stand_ins = [
        f"{display(block.row)} ({STATES[block.state]})"
        for block in first
        if block.fidelity == "substitute"
    ]
    return Table(
        id=f"{TABLE}-methods",
        title="Table 1: planes that explode / rise, by method",
        legend=f"Stand-ins are counted too: {', '.join(stand_ins)}." if stand_ins else "",
        columns=tuple(f"{STATES[state]}, {AXES.get(axes, axes)} axes" for state, axes in columns),
        groups=(Group("", "", tuple(lines)),) if counts else (),
        heads=("", "method"),
        folded=True,
    )


def _agreement(first: Sequence[Block]) -> Table:
    """How many planes explode in both or in neither, for each threshold and weight state."""
    compared = [
        (block.state, "explodes" in wanted, pool)
        for block in first
        for place, pool in block.pools.items()
        if place.axes != "normal" and not place.frozen and pool.fidelity != "substitute"
        and place.method in PAPER_METHODS
        and (wanted := explosion.expected(block.row, place.paper_column, place.method))
    ]  # fmt: skip
    lines = []
    for threshold in THRESHOLDS:
        entries = []
        for state in STATES:
            agrees = [
                theirs == (pool.category(threshold, threshold) == "explodes")
                for its_state, theirs, pool in compared
                if its_state == state
            ]
            entries.append(Entry(f"{sum(agrees)} of {len(agrees)}") if agrees else None)
        lines.append(Line(f"{threshold:g}", tuple(entries)))
    return Table(
        id=f"{TABLE}-agreement",
        title="Table 1: agreement with the paper, by threshold",
        legend=AGREEMENT_LEGEND,
        columns=tuple(STATES.values()),
        groups=(Group("", "", tuple(lines)),) if compared else (),
        heads=("", "explodes from"),
        folded=True,
    )


def _every_ratio(found: Sequence[Block], table: str, title: str, said: str) -> Table:
    """The ratio of every plane, one column a normalization."""
    groups = []
    rows = (*paper.paper_rows(TABLE), *panel.ROWS)
    for block in sorted(found, key=lambda b: rows.index(b.row)):
        places = sorted({(p.mode, p.axes, p.frozen) for p in block.pools}, reverse=True)
        lines = []
        for mode, axes, frozen in places:
            pools = [block.pools.get(Place(mode, axes, method, frozen)) for method in METHODS]
            entries = tuple(None if pool is None else _ratio(block, pool) for pool in pools)
            name = f"{mode}, {AXES.get(axes, axes)}" + (", BatchNorm frozen" if frozen else "")
            lines.append(Line(name, entries, _grids(filter(None, pools))))
        settings = f"{STATES[block.state]}; {pictures(block.record)}"
        groups.append(Group(display(block.row), settings, tuple(lines), block.fidelity))
    return Table(
        id=f"{table}-ratios",
        title=f"{title}: the ratio of every plane",
        legend=said,
        columns=tuple(map(_method_name, METHODS)),
        groups=tuple(groups),
        heads=("network", "mode and axes"),
        folded=True,
    )


def _first(found: Iterable[Block]) -> list[Block]:
    """The most faithful block of each network and state."""
    return [same[0] for same in grouped(found, lambda block: (block.row, block.state)).values()]


def _method_name(method: str) -> str:
    return "3 signed" if method == "3s" else method


def _grids(pools: Iterable[Pool]) -> str:
    """The grids of some planes; 2 stands for planes that were stopped at their corners."""
    sizes = {2 if p.stopped else p.points for pool in pools for p in pool.planes}
    return "/".join(str(size) for size in sorted(sizes)) + " points an axis" if sizes else ""


def _lines(block: Block, columns: Sequence[str]) -> list[Line]:
    lines = []
    for (axes, third), name in LINES.items():
        entries: list[Entry | None] = []
        measured_here = False
        for column in columns:
            mode, kind = column.split("/")
            used = "hessian" if kind == "hessian" else axes
            pools = {
                method: pool
                for method in PAPER_METHODS
                if (pool := block.pools.get(Place(mode, used, third if method == "3" else method)))
            }
            measured_here |= bool(pools) and kind == "random"
            hidden = kind == "hessian" and axes == "normal"  # shown in the lines above
            entries.append(None if hidden or not pools else _entry(block, column, used, pools))
        if measured_here:
            entries.append(None if third == "3s" else _recommended(block, axes))
            title = f"{STATES[block.state]}, {name}"
            remark = f"{pictures(block.record)}, {_grids(block.pools.values())}"
            lines.append(Line(title, tuple(entries), remark, block.fidelity))
    return lines


def _entry(block: Block, column: str, axes: str, pools: Mapping[str, Pool]) -> Entry:
    """Our entry in the paper's notation, with a verdict on each of its methods."""
    verdicts = {
        method: _verdict(block.row, pool, column, method, axes != "normal")
        for method, pool in pools.items()
    }
    text = explosion.notation({method: pool.category() for method, pool in pools.items()})
    given = [verdict for verdict in verdicts.values() if verdict]
    agree = given.count("reproduced")
    verdict = None if not given else "reproduced" if agree == len(given) else "differs"
    return Entry(
        text=text + ("" if all(pool.safe for pool in pools.values()) else " ~"),
        paper=str(explosion.printed(block.row, column)) if given else None,
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
    words: list[str] = [pool.category()] if pool.category() != "none" else []
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
        remark=", ".join(words),
        traces=tuple(_traces(pool, "")),
    )


def _verdict(row: str, pool: Pool, column: str, method: str, in_paper: bool) -> str | None:
    wanted = explosion.expected(row, column, method) if in_paper else None
    return explosion.judged(pool.category(), wanted, pool.fidelity)


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
