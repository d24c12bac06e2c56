"""Table 1 from records: the paper's notation beside ours, and the ratio of every plane."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lla.files import atomic_write
from lla.report.text import LATEX_NEEDS, latex_float, markdown_table, plain_table
from paper_tables.engine.records import Record
from paper_tables.exhibits.table1.planes import FULL, TABLE, Block, Place, Pool, blocks, reason
from paper_tables.paper import paper_columns, paper_rows, tables
from paper_tables.paper.explosion import (
    EXPLODES,
    METHODS,
    MODES,
    PAPER_METHODS,
    RECOMMENDED,
    RISES,
    expected,
    notation,
    printed,
)
from paper_tables.paper.names import display

__all__ = ["THRESHOLDS", "agreement", "layout", "overview", "ratios", "summary", "write"]

THRESHOLDS = (10.0, 30.0, 100.0, 300.0, 1e3, 1e4, 1e5, 1e6)

# Random axes of a line, and which method stands for the paper's method 3.
LINES = (("uniform", "3"), ("uniform", "3s"), ("normal", "3"))

STATES = {"random": "random", "pretrained": "pre-trained"}

LEGEND = (
    "Entries as the paper writes them: *yes* alone, every method explodes; *yes* with numbers, "
    "only those do; *no* with numbers, those rise without exploding. Methods: 1 no normalization, "
    "2 weight, 3 filter L1, 4 filter L2. *Signed* takes sums for method 3's L1 norms, as the "
    "authors' public code does. A plane explodes if its ratio, the largest finite loss / max(loss "
    f"at the centre, ln C), is at least {EXPLODES:g} or a loss is not finite; it rises from "
    f"{RISES:g} on: the paper gives no threshold. **Bold**: agrees with the paper's entry for all "
    "four methods; in brackets, how many of them agree. The paper's random axes are uniform in "
    "[0, 1); Gaussian ones, which are not judged, stand below them. Neither does the paper state "
    "Table 1's weights: both states are compared. *Recommended* is the normalization "
    f"{RECOMMENDED!r} of `lla.loss_plane`. Fidelity: *paper* same network, weights, data, size and "
    "grid; *reduced* less of it; *substitute* a stand-in, never judged. On a grid coarser than the "
    f"paper's {FULL} x {FULL} points a ratio is a lower bound, so *explodes* is safe and "
    "everything else, marked by ~, provisional."
)

RATIO_LEGEND = (
    "The ratio of every plane, the geometric mean over several seeds of random axes. ≥: the grid "
    "is coarser than the paper's, so a lower bound. E: explodes; r: rises. inf: points whose loss "
    "is not finite. 3s: method 3 with signed sums."
)


def write(records: Sequence[Record], results: Path, csv: str) -> None:
    """Write `table1.md`, `.csv` and `.tex`.

    Args:
        records: all published records.
        results: the folder of results.
        csv: the records as text, see `render.frame`.
    """
    found = blocks(records)
    title = f"{tables()[TABLE]['where']}: {tables()[TABLE]['title']}"
    rows, headers, notes = layout(records)
    ratio_rows, ratio_headers = ratios(found)
    agreeing, agreeing_headers = agreement(found)
    methods, method_headers = summary(found)
    numbered = "\n".join(f"{i}. {note}" for i, note in enumerate(notes, start=1))
    parts = [
        f"# {title}", LEGEND, markdown_table(rows, headers), numbered,
        "## Planes that explode and rise, by method", _stand_ins(found),
        markdown_table(methods, method_headers),
        "## Agreement with the paper, by threshold",
        "Share of planes along uniform and Hessian axes that explode in the paper and here, or in "
        "neither, true L1 for method 3.",
        markdown_table(agreeing, agreeing_headers),
        "## Ratios", RATIO_LEGEND, markdown_table(ratio_rows, ratio_headers),
    ]  # fmt: skip
    atomic_write(results / f"{TABLE}.md", "\n\n".join(part for part in parts if part) + "\n")
    latex = [
        LATEX_NEEDS,
        _latex(f"{title}. {_bare(LEGEND)}", rows, headers, notes),
        _latex(f"{title}: ratios. {_bare(RATIO_LEGEND)}", ratio_rows, ratio_headers, []),
    ]
    atomic_write(results / f"{TABLE}.tex", "\n".join(latex) + "\n")
    atomic_write(results / f"{TABLE}.csv", csv)


def layout(records: Sequence[Record]) -> tuple[list[list[str]], list[str], list[str]]:
    """Arrange the planes as in the paper: the paper's line first, ours below it.

    Returns:
        Rows of text, headers, and the numbered notes that they refer to.
    """
    columns = paper_columns(TABLE)
    found = blocks(records)
    notes: list[str] = []
    rows = []
    for row in paper_rows(TABLE):
        theirs = [str(printed(row, column)) for column in columns]
        rows.append([display(row), "the paper's", "", *theirs, "", "", ""])
        for state in STATES:
            mine = [block for block in found if (block.row, block.state) == (row, state)]
            for block in mine:
                rows += _lines(block, columns)
            if not mine:
                rows.append(["", STATES[state], _absence(records, row, state, notes), *[""] * 7])
    headers = ["network", "weights", "random axes", *columns, "recommended", "input", "fidelity"]
    return rows, headers, notes


def ratios(found: Iterable[Block]) -> tuple[list[list[str]], list[str]]:
    """One line a network, state, mode and axes, one column a method."""
    order = {row: i for i, row in enumerate(paper_rows(TABLE))}
    rows = []
    for block in sorted(found, key=lambda block: order.get(block.row, 99)):
        lines = sorted({(p.mode, p.axes, p.frozen) for p in block.pools}, reverse=True)
        for mode, axes, frozen in lines:
            pools = [block.pools.get(Place(mode, axes, method, frozen)) for method in METHODS]
            rows.append(
                [
                    display(block.row),
                    STATES[block.state],
                    mode,
                    axes + (", BatchNorm frozen" if frozen else ""),
                    *map(_ratio_text, pools),
                    _grids(pool for pool in pools if pool is not None),
                    _input(block),
                    block.fidelity,
                ]
            )
    headers = ["network", "weights", "mode", "axes", *METHODS, "points", "input", "fidelity"]
    return rows, headers


def agreement(
    found: Iterable[Block], thresholds: Sequence[float] = THRESHOLDS
) -> tuple[list[list[str]], list[str]]:
    """How many planes explode in both or in neither, for each threshold and weight state."""
    judged = list(_judged_pools(found))
    rows = []
    for threshold in thresholds:
        texts = [f"{threshold:g}"]
        for state in STATES:
            agrees = [
                ("explodes" in wanted) == (pool.category(threshold, threshold) == "explodes")
                for block, wanted, pool in judged
                if block.state == state
            ]
            texts.append(f"{sum(agrees)} of {len(agrees)}" if agrees else "—")
        rows.append(texts)
    return rows, ["explodes from", *(f"{name} weights" for name in STATES.values())]


def summary(found: Iterable[Block]) -> tuple[list[list[str]], list[str]]:
    """How many planes of each method explode and rise, by weight state and axes."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for block in _first(found):
        for place, pool in block.pools.items():
            if not place.frozen:
                key = (place.method, block.state, place.axes)
                counts.setdefault(key, Counter())[pool.category()] += 1
    columns = [(state, axes) for state in STATES for axes in ("uniform", "normal", "hessian")]
    rows = []
    for method in METHODS:
        texts = [method]
        for state, axes in columns:
            c = counts.get((method, state, axes), Counter())
            texts.append(f"{c['explodes']} / {c['rises']} of {c.total()}" if c else "—")
        rows.append(texts)
    heads = (f"{STATES[state]}, {axes}: explode / rise" for state, axes in columns)
    return rows, ["method", *heads]


def _stand_ins(found: Iterable[Block]) -> str:
    """Which blocks of the summary are stand-ins, in words."""
    names = [f"{display(b.row)} ({STATES[b.state]})" for b in _first(found)
             if b.fidelity == "substitute"]  # fmt: skip
    return f"Stand-ins are counted too: {', '.join(names)}." if names else ""


def overview(records: Sequence[Record]) -> str:
    """A short table for the terminal: one line a network, weight state and kind of axes."""
    rows, headers, _ = layout(records)
    kept = [[_bare(text) for text in row[:-2]] for row in rows]
    return plain_table(kept, headers[:-2])


def _lines(block: Block, columns: Sequence[str]) -> list[list[str]]:
    lines = []
    for axes, third in LINES:
        cells, any_found = [], False
        for column in columns:
            mode, kind = column.split("/")
            used = "hessian" if kind == "hessian" else axes
            pools = {}
            for method in PAPER_METHODS:
                pool = block.pools.get(Place(mode, used, third if method == "3" else method))
                if pool is not None:
                    pools[method] = pool
            hidden = kind == "hessian" and axes == "normal"  # stands in the lines above
            any_found = any_found or (bool(pools) and kind == "random")
            cells.append("" if hidden else _entry(block.row, column, used, pools))
        if any_found:
            name = axes + (", signed" if third == "3s" else "")
            lines.append(["", STATES[block.state], name, *cells, _recommended(block, axes, third),
                          f"{_input(block)}, {_grids(block.pools.values())}",
                          block.fidelity])  # fmt: skip
    return lines


def _entry(row: str, column: str, axes: str, pools: dict[str, Pool]) -> str:
    """Our entry in the paper's notation, and how many methods agree with it."""
    if not pools:
        return "—"
    text = notation({method: pool.category() for method, pool in pools.items()})
    if not all(pool.safe for pool in pools.values()):
        text += " ~"
    if axes == "normal" or any(pool.fidelity == "substitute" for pool in pools.values()):
        return text
    agree = sum(
        pool.category() in (expected(row, column, method) or ()) for method, pool in pools.items()
    )
    if agree == len(PAPER_METHODS):
        return f"**{text}** (4)"
    return f"{text} ({agree}{'' if len(pools) == 4 else f' of {len(pools)}'})"


def _recommended(block: Block, axes: str, third: str) -> str:
    if third == "3s":
        return ""
    kinds = (axes, "hessian") if axes == "uniform" else (axes,)
    pools = {
        f"{mode}/{kind}": pool
        for mode in MODES
        for kind in kinds
        if (pool := block.pools.get(Place(mode, kind, RECOMMENDED))) is not None
    }
    if not pools:
        return "—"
    worst = [f"{name} {c}" for name, p in pools.items() if (c := p.category()) != "none"]
    safe = "" if all(pool.safe for pool in pools.values()) else " ~"
    return (", ".join(worst) or f"no, {len(pools)} planes") + safe


def _ratio_text(pool: Pool | None) -> str:
    if pool is None:
        return "—"
    mark = {"explodes": " E", "rises": " r", "none": ""}[pool.category()]
    text = f"{'' if pool.complete else '≥'}{pool.ratio:.2g}"
    if len(pool.planes) > 1:
        low, high = (f(p.ratio for p in pool.planes) for f in (min, max))
        text += f" [{low:.2g}, {high:.2g}; {len(pool.planes)}]"
    if pool.nonfinite:
        text += f", {pool.nonfinite} inf"
    return text + mark


def _grids(pools: Iterable[Pool]) -> str:
    """The grids of some planes; 2 x 2 are those that were stopped at their corners."""
    sizes = {2 if p.stopped else p.points for pool in pools for p in pool.planes}
    return "/".join(str(size) for size in sorted(sizes)) + " points an axis" if sizes else ""


def _input(block: Block) -> str:
    config = block.record.config
    name = config.get("model", block.row)
    return (
        f"{name}, {config.get('images')} x {config.get('side')} px "
        f"{display(str(config.get('data')))}"
    )


def _absence(records: Sequence[Record], row: str, state: str, notes: list[str]) -> str:
    why = reason(records, row, state)
    if why is None:
        return "—"
    if why not in notes:
        notes.append(why)
    return f"not run, note {notes.index(why) + 1}"


def _first(found: Iterable[Block]) -> list[Block]:
    """The most faithful block of each network and state."""
    best: dict[tuple[str, str], Block] = {}
    for block in found:
        best.setdefault((block.row, block.state), block)
    return list(best.values())


def _judged_pools(
    found: Iterable[Block],
) -> Iterable[tuple[Block, tuple[str, ...], Pool]]:
    """Planes that the paper has and that are no stand-ins, with the categories it prints."""
    for block in _first(found):
        for place, pool in block.pools.items():
            if place.axes == "normal" or place.frozen or place.method not in PAPER_METHODS:
                continue
            wanted = expected(block.row, place.paper_column, place.method)
            if wanted and pool.fidelity != "substitute":
                yield block, wanted, pool


def _bare(text: str) -> str:
    return text.replace("*", "").replace("`", "")


def _latex(
    caption: str, rows: Sequence[Sequence[str]], headers: Sequence[str], notes: Sequence[str]
) -> str:
    plain = [[_bare(text) for text in row] for row in rows]
    return latex_float(caption, plain, headers, notes)
