"""The page of the study of normalizations: results/normalization.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lla.report.prose import fill
from paper_tables.engine.exhibit import Records
from paper_tables.engine.records import Record
from paper_tables.exhibits.normalization.candidates import CANDIDATES
from paper_tables.exhibits.normalization.design import AXES, TABLE
from paper_tables.exhibits.normalization.study import (
    LEAST_CHANGE,
    SAME,
    Plane,
    Study,
    marks,
    passes,
)
from paper_tables.exhibits.normalization.tables import tables
from paper_tables.paper.explosion import EXPLODES, MODES, RECOMMENDED
from paper_tables.paper.names import display

TEMPLATE = Path(__file__).with_name("page.md.j2")


def pages(records: Records) -> dict[str, str]:
    """The page, where there are records of the study."""
    study = Study.of(records)
    ours = study.of_candidate(RECOMMENDED)
    if not ours:
        return {}
    summary, causes, minima, every = tables(records)
    highest = {n: max((p.ratio for p in study.of_candidate(n)), default=0.0) for n in CANDIDATES}
    page = fill(
        TEMPLATE,
        recommended=RECOMMENDED,
        candidates=CANDIDATES,
        explodes=EXPLODES,
        least_change=LEAST_CHANGE,
        same=SAME,
        planes=len(ours),
        points=[f"{n} x {n}" for n in sorted(_points(ours))],
        exploding=_count(ours, "explodes"),
        rising=_count(ours, "rises"),
        worst=max(ours, key=lambda p: p.ratio),
        least=min(ours, key=lambda p: p.change),
        passed=[(name, highest[name]) for name in CANDIDATES if passes(study, name)],
        unknown=[name for name in CANDIDATES if "—" in marks(study, name)],
        exploding_by_cause=_exploding_by_cause(study),
        inputs=_inputs(study),
        summary=summary,
        causes=causes,
        minima=minima,
        every=every,
    )
    return {f"{TABLE}.md": page}


def _exploding_by_cause(study: Study) -> list[tuple[str, str, str]]:
    """Axes, candidate, and how many planes explode in each mode, in words."""
    found = []
    for name, chosen in (("filter", AXES), ("filter, recalibrated", ("uniform", "hessian")),
                         ("filter, floored", ("hessian",))):  # fmt: skip
        for axes in chosen:
            planes = [p for p in study.planes if p.candidate == name and p.axes == axes]
            by_mode = {mode: [p for p in planes if p.mode == mode] for mode in MODES}
            counts = ", ".join(
                f"{_count(mine, 'explodes')} of {len(mine)} in {mode}"
                for mode, mine in by_mode.items()
                if mine
            )
            found.append((axes, name, counts))
    return found


def _points(planes: Sequence[Plane]) -> set[int]:
    """The points of these planes along an axis."""
    return {plane.record.config["points"] for plane in planes if "points" in plane.record.config}


def _inputs(study: Study) -> list[tuple[str, str, str, Record]]:
    """Network, weights, data, and a record of each input."""
    last = {(plane.row, plane.state): plane.record for plane in study.planes}
    return [
        (display(row), state, display(record.config["data"]), record)
        for (row, state), record in last.items()
    ]


def _count(planes: Sequence[Plane], verdict: str) -> int:
    return sum(plane.verdict == verdict for plane in planes)
