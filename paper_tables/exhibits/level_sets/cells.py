"""The cells: one a kind of walk, over all networks of a family, and one for all kinds together."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from lla import level_sets
from lla.estimate import Estimate
from lla.files import sha256_of_bytes, sha256_of_parts
from lla.tensor_hashes import weights_sha256
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Record, Source
from paper_tables.exhibits.level_sets import comparison, walks
from paper_tables.exhibits.level_sets import families as fam
from paper_tables.exhibits.level_sets.comparison import COMPARED, OFF
from paper_tables.exhibits.level_sets.families import Family
from paper_tables.exhibits.level_sets.walks import FREE, JACOBIAN, L2, LONGER, OTHERS
from paper_tables.inputs import image_sets

TABLE, PATHS = "level_sets", "level_sets_paths"
TOGETHER = "all walks"
EXTREME = ("deviation", "rise")  # the largest of all networks, in place of the mean
# cost of a walk beside one by ||theta||^2
COSTS = {L2: 3.0, JACOBIAN: 8.0, FREE: 1.0, LONGER: 5.0, "smooth_l1": 2.0, "kappa": 2.0,
         "trace": 15.0}  # fmt: skip


def walks_of(family: Family) -> tuple[str, ...]:
    """The kinds of walks of a family."""
    return (L2, JACOBIAN, FREE) if family.network == "lenet" else (
        L2, JACOBIAN, FREE, LONGER, *OTHERS
    )  # fmt: skip


def cells(settings: Settings) -> list[Cell]:
    """All cells; a family whose data are not found is one that cannot run."""
    found = []
    for family, reason in fam.families(settings):
        if reason is not None:
            absent = Cell(TABLE, family.row, L2, f"{family.row}-walks", ("test_change",), {},
                          None, "")  # fmt: skip
            found.append(absent.absent(reason))
            continue
        found += [_cell(settings, family, walk) for walk in walks_of(family)]
        found.append(_together(settings, family))
    return found


def _config(settings: Settings, family: Family) -> dict[str, Any]:
    return {**fam.config_of(settings, family), "seeds": family.seeds, **walks.HOW}


def _name(family: Family, what: str) -> str:
    return f"{family.row}-{what}".replace(", ", "-").replace(" ", "-")


def _fidelity(settings: Settings, family: Family) -> str:
    return cell_fidelity(fam.sets(settings, family)[0].fidelity, whole=False)


def _cell(settings: Settings, family: Family, walk: str) -> Cell:
    return Cell(
        table=TABLE, row=family.row, column=walk,
        name=_name(family, walk),
        metrics=(*walks.metrics(walk), *((OFF,) if walk in COMPARED else ())),
        config={
            **_config(settings, family), "walk": walk, "steps": walks.steps_of(family, walk),
            "measured": list(walks.measured(walk)),
            **comparison.config_of(walk),
        },
        fidelity=_fidelity(settings, family),
        inputs=f"{family.seeds} networks trained on {family.images} noisy images of {family.data}",
        compute=_compute, stage=2, seconds=family.seeds * family.seconds * COSTS[walk],
    )  # fmt: skip


def _together(settings: Settings, family: Family) -> Cell:
    return Cell(
        table=PATHS, row=family.row, column=TOGETHER, name=_name(family, "paths"),
        metrics=("first_axis", "second_axis"),
        config={
            **_config(settings, family), "walks": list(walks_of(family)[:3]),
            "steps": family.steps, "kept": walks.KEPT, "seed": 0, "points": POINTS,
        },
        fidelity=_fidelity(settings, family),
        inputs=f"the walks from one network trained on {family.data}",
        compute=_compute_together, stage=3, seconds=3 + family.seconds * 0.1,
    )  # fmt: skip


POINTS = 21  # of the plane, along an axis


def _family(cell: Cell) -> Family:
    return next(family for family in fam.FAMILIES if family.row == cell.row)


def _facts(settings: Settings, family: Family, seeds: int) -> dict[str, Any]:
    """The fields of records that name inputs."""
    pairs = [fam.examples(settings, family, seed) for seed in range(seeds)]
    arrays = (t.cpu().contiguous().numpy().data for both in pairs for pair in both for t in pair)
    models = [fam.start(settings, family, seed).model for seed in range(seeds)]
    digest = sha256_of_bytes("".join(map(weights_sha256, models)))
    return {
        "data": image_sets.source_of(fam.sets(settings, family)[0]),
        "batch_sha256": sha256_of_parts(arrays),
        "weights": Source(f"{seeds} networks trained here to a loss of {family.level:g}", digest),
    }


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    family, walk = _family(cell), cell.column
    seeds = range(family.seeds)
    paths = [walks.walked(settings, family, walk, seed) for seed in seeds]
    values = [walks.numbers(path) for path in paths]
    problems = [fam.start(settings, family, seed) for seed in seeds]
    for mine, problem, path in zip(values, problems, paths, strict=True):
        mine["deviation"] = max(mine["deviation"], walks.plain_deviation(problem, path))
    minima = [
        comparison.minima_around(problem, path, walk)
        for problem, path in zip(problems, paths, strict=True)
        if walk in COMPARED
    ]
    file = f"level_sets/{cell.name}-{cell.hash}.npz"
    curves = walks.Curves.of(paths, list(map(comparison.points, minima)))
    artifact = store.save_result(curves, file, settings.work)
    facts = _facts(settings, family, family.seeds)
    ended = facts | {"note": "; ".join(dict.fromkeys(path.stopped for path in paths))}
    records = [
        _record(cell, metric, [mine[metric] for mine in values], ended
                | ({"artifact": artifact} if metric == cell.metrics[0] else {}))
        for metric in walks.metrics(walk)
    ]  # fmt: skip
    if walk in COMPARED:
        records += _compared(cell, list(map(comparison.off_curve, paths, minima)), facts)
    return records


def _compared(
    cell: Cell, found: list[tuple[float | None, str]], facts: dict[str, Any]
) -> list[Record]:
    """The record of how far ends lie above weighted sums, of the networks where that is known."""
    values = [value for value, _ in found if value is not None]
    counts = Counter(why for _, why in found if why)
    note = "; ".join(f"{n} of {len(found)} networks: {why}" for why, n in counts.items())
    if not values:
        return dataclasses.replace(cell, metrics=(OFF,), reason=note).not_run()
    return [_record(cell, OFF, values, facts | ({"note": note} if note else {}))]


def _record(cell: Cell, metric: str, values: list[float], facts: dict[str, Any]) -> Record:
    if metric in EXTREME:
        return cell.record(metric, max(values), n=len(values), **facts)
    return cell.estimated(metric, Estimate.of(values, 0), stderr_kind="networks", **facts)


def _compute_together(cell: Cell, settings: Settings) -> list[Record]:
    family = _family(cell)
    names = cell.config["walks"]
    paths = [walks.walked(settings, family, name, 0) for name in names]
    joint = level_sets.pca(paths)
    plane = level_sets.plane(fam.start(settings, family, 0), joint, points=POINTS)
    together = walks.Together(
        names=tuple(names), lengths=np.array(list(map(len, joint.coordinates))),
        coordinates=joint.basis.coordinates,
        explained=joint.explained, a=plane.a, b=plane.b, loss=plane.loss.astype(float),
    )  # fmt: skip
    file = f"level_sets/{cell.name}-{cell.hash}.npz"
    artifact = store.save_result(together, file, settings.work)
    facts = _facts(settings, family, 1)
    first, second = (float(share) for share in joint.explained)
    return [
        cell.record("first_axis", first, artifact=artifact, **facts),
        cell.record("second_axis", second, **facts),
    ]
