"""The study of normalizations in the report: its summary and every plane of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lla.report.text import measured
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import AXES, STATES, differing, pictures, trace
from paper_tables.exhibits.normalization.candidates import CANDIDATES
from paper_tables.exhibits.normalization.cells import MINIMA, RESCALINGS, TABLE
from paper_tables.exhibits.normalization.page import Shown, Study
from paper_tables.paper.explosion import RECOMMENDED
from paper_tables.paper.names import display

__all__ = ["planes", "summary"]

REFERENCE = "small batch"  # the flat minimum that the others are compared with

LEGEND = (
    "Which normalization keeps every plane (all networks, both modes, uniform, Gaussian and "
    "Hessian axes) from exploding, still moves the network's output, tells sharp minima from flat "
    "ones and does not depend on a rescaling of layers. What each candidate is, and why: "
    "normalization.md."
)
PLANES_LEGEND = (
    "Ratio as in Table 1, on 5 x 5 points, so a lower bound; below it the median relative change "
    "of the network's output at the edge of the plane."
)


def summary(records: Sequence[Record]) -> Table:
    """One line a candidate of the study of normalizations."""
    found = Study.of(records)
    lines = []
    for name in CANDIDATES:
        mine = found.of_candidate(name)
        if mine:
            remark = "recommended" if name == RECOMMENDED else ""
            fidelity = least_faithful(plane.record.fidelity for plane in mine)
            lines.append(Line(name, _candidate(found, name, mine), remark, fidelity))
    others = [f"rise, {m} / small batch" for m in MINIMA if m != REFERENCE]
    rescaled = [f"{kind} rescaled: difference" for kind in RESCALINGS]
    return Table(
        id=TABLE,
        title="A normalization under which no plane explodes",
        legend=LEGEND,
        columns=("explode", "rise", "largest ratio", "least change at an edge", *others, *rescaled),
        groups=(Group("", "", tuple(lines)),) if lines else (),
        files=(f"{TABLE}.md",) if lines else (),
        absence="not run: the study is computed with --study behind the command for the tables",
    )


def planes(records: Sequence[Record]) -> Table:
    """Every plane of the study, one column a candidate."""
    found = Study.of(records).planes
    names = [name for name in CANDIDATES if any(plane.candidate == name for plane in found)]
    by_network: dict[tuple[str, str], list[Shown]] = {}
    for plane in found:
        by_network.setdefault((plane.row, plane.state), []).append(plane)
    return Table(
        id=f"{TABLE}-planes",
        title="Study of normalizations: every plane",
        legend=PLANES_LEGEND,
        columns=tuple(names),
        groups=tuple(_group(mine, names) for mine in by_network.values()),
        folded=True,
    )


def _group(mine: Sequence[Shown], names: Sequence[str]) -> Group:
    """The planes of one network and its weights."""
    first = mine[0]
    fidelity = least_faithful(plane.record.fidelity for plane in mine)
    places: dict[tuple[str, str], dict[str, Shown]] = {}
    for plane in mine:
        places.setdefault((plane.mode, plane.axes), {})[plane.candidate] = plane
    lines = [
        Line(
            f"{mode}, {AXES.get(axes, axes)}",
            tuple(_shown(there.get(name), fidelity) for name in names),
        )
        for (mode, axes), there in places.items()
    ]
    weights = STATES.get(first.state, first.state)
    settings = f"{weights}; {pictures(first.record)}"
    return Group(display(first.row), settings, tuple(lines), fidelity)


def _candidate(found: Study, name: str, mine: Sequence[Shown]) -> tuple[Entry | None, ...]:
    worst, least = max(mine, key=lambda p: p.ratio), min(mine, key=lambda p: p.change)
    exploding, rising = (sum(p.verdict == word for p in mine) for word in ("explodes", "rises"))
    return (
        Entry(f"{exploding} of {len(mine)}"),
        Entry(f"{rising} of {len(mine)}"),
        Entry(f"{worst.ratio:.2g}", remark=worst.name, traces=(trace(worst.record),)),
        Entry(f"{least.change:.1%}", remark=least.name, traces=(trace(least.record),)),
        *(_contrast(found, minimum, name) for minimum in MINIMA if minimum != REFERENCE),
        *(_difference(found, kind, name) for kind in RESCALINGS),
    )


def _contrast(found: Study, minimum: str, name: str) -> Entry | None:
    """How much higher the planes rise around one minimum than around the reference."""
    contrast = found.contrast(minimum, name)
    if contrast is None:
        return None
    value, stderr, clear = contrast
    used = [found.others[f"minima/{m}/{name}", "rise"] for m in (minimum, REFERENCE)]
    return Entry(
        measured(value, stderr) if math.isfinite(value) else "∞",
        remark="tells them apart" if clear else "does not tell them apart",
        traces=tuple(trace(record) for record in used),
    )


def _difference(found: Study, kind: str, name: str) -> Entry | None:
    record = found.others.get((f"rescaling/{kind}/{name}", "difference"))
    return None if record is None else Entry(f"{record.value:.1g}", traces=(trace(record),))


def _shown(plane: Shown | None, common: str) -> Entry | None:
    if plane is None:
        return None
    words = [
        plane.verdict if plane.verdict != "none" else "",
        f"{plane.nonfinite} points not finite" if plane.nonfinite else "",
        f"output {plane.change:.2g}",
    ]
    return Entry(
        f"{plane.ratio:.2g}",
        fidelity=differing(plane.record.fidelity or "substitute", common),
        remark=", ".join(word for word in words if word),
        traces=(trace(plane.record),),
    )
