"""The study of normalizations: its summary, causes, minima, and every plane of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lla.report.text import measured
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.fidelity import least_faithful
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import AXES, STATES, differing, measured_entry, pictures, trace
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import grouped
from paper_tables.exhibits.normalization.candidates import CANDIDATES
from paper_tables.exhibits.normalization.design import AXES as DRAWN
from paper_tables.exhibits.normalization.design import CENTRED, MINIMA, RESCALINGS, TABLE
from paper_tables.exhibits.normalization.study import REFERENCE, Plane, Study, marks, passes
from paper_tables.paper.explosion import RECOMMENDED
from paper_tables.paper.names import display

LEGEND = legend(__file__, "candidates")
PLANES_LEGEND = legend(__file__, "planes")
# What is compared with filter normalization to show a cause: candidate, axes, name of the column.
CAUSES = (
    *(("filter", axes, AXES.get(axes, axes)) for axes in DRAWN),
    ("filter, recalibrated", "uniform", "uniform, recalibrated"),
    ("filter, recalibrated", "hessian", "Hessian, recalibrated"),
    ("filter, floored", "hessian", "Hessian, floored"),
)
WITNESSES = ("top_eigenvalue", "loss", "test_accuracy")


def tables(records: Sequence[Record]) -> list[Table]:
    """The summary by candidate, the causes of explosions, the minima, and every plane."""
    study = Study.of(records)
    return [_summary(study), _causes(study), _minima(study), _every_plane(study)]


def _summary(study: Study) -> Table:
    """One line for each candidate of the study of normalizations."""
    lines = []
    for name in CANDIDATES:
        mine = study.of_candidate(name)
        if mine:
            remark = "recommended" if name == RECOMMENDED else ""
            fidelity = least_faithful(plane.record.fidelity for plane in mine)
            lines.append(Line(name, _candidate(study, name, mine), remark, fidelity))
    others = [f"rise, {m} / {REFERENCE}" for m in MINIMA if m != REFERENCE]
    rescaled = [f"{kind} rescaled: difference" for kind in RESCALINGS]
    return Table(
        id=TABLE,
        title="A normalization under which no plane explodes",
        legend=LEGEND,
        columns=("explode", "rise", "largest ratio", "least change at an edge", *others, *rescaled,
                 "meets every demand"),
        groups=(Group("", "", tuple(lines)),) if lines else (),
        heads=("", "candidate"),
        files=(f"{TABLE}.md",) if lines else (),
        absence="not run: the study is computed with --study behind the command for the tables",
    )  # fmt: skip


def _causes(study: Study) -> Table:
    """Planes along filter-normalised axes, drawn in several ways, and with one thing changed."""
    found = {(*plane.place, plane.candidate): plane for plane in study.planes}
    groups = []
    by_network = grouped(study.planes, lambda plane: (plane.row, plane.state))
    for (row, state), mine in by_network.items():
        common = least_faithful(plane.record.fidelity for plane in mine)
        lines = []
        for mode in dict.fromkeys(plane.mode for plane in mine):
            planes = [found.get((row, state, mode, axes, name)) for name, axes, _ in CAUSES]
            if any(planes):
                lines.append(Line(mode, tuple(_plane(p, common, change=False) for p in planes)))
        groups.append(Group(display(row), STATES[state], tuple(lines), common))
    return Table(
        id=f"{TABLE}-causes",
        title="Study of normalizations: where the explosion comes from",
        legend="Ratios along filter-normalised axes.",
        columns=tuple(name for _, _, name in CAUSES),
        groups=tuple(group for group in groups if group.lines),
        heads=("network", "mode"),
        folded=True,
    )


def _minima(study: Study) -> Table:
    """What the planes and the independent measures of sharpness say about each minimum."""
    places = [("reference", metric) for metric in WITNESSES]
    places += [(name, "rise") for name in CANDIDATES]
    lines, known = [], []
    for minimum, how in MINIMA.items():
        found = [study.others.get((f"minima/{minimum}/{name}", m)) for name, m in places]
        there = [record for record in found if record is not None]
        if not there:
            continue
        common = least_faithful(record.fidelity for record in there)
        entries = tuple(None if r is None else measured_entry(r, common=common) for r in found)
        name = f"{minimum} ({how['batch_size']}, {how['epochs']} epochs)"
        lines.append(Line(name, entries, fidelity=common))
        known += there
    return Table(
        id=f"{TABLE}-minima",
        title="Study of normalizations: sharp and flat minima",
        legend=_how_trained(known[0]) if known else "",
        columns=(*(METRIC_NAMES[metric] for metric in WITNESSES), *CANDIDATES),
        groups=(Group("", "", tuple(lines)),) if known else (),
        heads=("", "minimum"),
        folded=True,
    )


def _how_trained(record: Record) -> str:
    config = {**record.config, "data": display(record.config["data"])}
    return legend(__file__, "minima", **config)


def _every_plane(study: Study) -> Table:
    """Every plane of the study, one column a candidate."""
    names = [name for name in CANDIDATES if any(plane.candidate == name for plane in study.planes)]
    planes = [
        plane for plane in study.planes if plane.axes != CENTRED
    ]  # those are among the causes
    by_network = grouped(planes, lambda plane: (plane.row, plane.state))
    return Table(
        id=f"{TABLE}-planes",
        title="Study of normalizations: every plane",
        legend=PLANES_LEGEND,
        columns=tuple(names),
        groups=tuple(_group(mine, names) for mine in by_network.values()),
        heads=("network", "mode and axes"),
        folded=True,
    )


def _group(mine: Sequence[Plane], names: Sequence[str]) -> Group:
    """The planes of one network and its weights."""
    first = mine[0]
    fidelity = least_faithful(plane.record.fidelity for plane in mine)
    lines = []
    for (mode, axes), planes in grouped(mine, lambda plane: (plane.mode, plane.axes)).items():
        there = {plane.candidate: plane for plane in planes}
        entries = tuple(_plane(there.get(name), fidelity) for name in names)
        lines.append(Line(f"{mode}, {AXES.get(axes, axes)}", entries))
    settings = f"{STATES[first.state]}; {pictures(first.record)}"
    return Group(display(first.row), settings, tuple(lines), fidelity)


def _candidate(found: Study, name: str, mine: Sequence[Plane]) -> tuple[Entry | None, ...]:
    worst, least = max(mine, key=lambda p: p.ratio), min(mine, key=lambda p: p.change)
    exploding, rising = (sum(p.verdict == word for p in mine) for word in ("explodes", "rises"))
    return (
        Entry(f"{exploding} of {len(mine)}"),
        Entry(f"{rising} of {len(mine)}"),
        Entry(f"{worst.ratio:.2g}", remark=worst.name, traces=(trace(worst.record),)),
        Entry(f"{least.change:.1%}", remark=least.name, traces=(trace(least.record),)),
        *(_contrast(found, minimum, name) for minimum in MINIMA if minimum != REFERENCE),
        *(_difference(found, kind, name) for kind in RESCALINGS),
        Entry("—" if "—" in marks(found, name) else "yes" if passes(found, name) else "no"),
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


def _plane(plane: Plane | None, common: str, change: bool = True) -> Entry | None:
    if plane is None:
        return None
    words = [plane.verdict] if plane.verdict != "none" else []
    if plane.nonfinite:
        words.append(f"{plane.nonfinite} points not finite")
    return Entry(
        f"{plane.ratio:.2g}" + (f" / {plane.change:.2g}" if change else ""),
        fidelity=differing(plane.record.fidelity or "substitute", common),
        remark=", ".join(words),
        traces=(trace(plane.record),),
    )
