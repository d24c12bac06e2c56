"""Seconds of spectra along each axis, all points of an axis in turn, and the exponents.

Every round measures the speeds of the prediction, too, so that a measured and a predicted exponent
come from the same minutes of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np

from benchmarks.growth import processes
from benchmarks.growth.fit import slopes, upper
from benchmarks.growth.observation import CALLS, on, speeds
from benchmarks.growth.prediction import ROUTE, seconds
from benchmarks.growth.processes import Found
from benchmarks.growth.settings import RANKS, GrowthCase
from benchmarks.problems import configuration, device
from benchmarks.timing import median, standard_error
from paper_tables.engine import machine
from paper_tables.engine.records import Record

TABLE = "growth"
NOTE = "perceptrons at initialisation, on noise: costs do not depend on values"
ALL, UPPER, SPEEDS = "exponent", "exponent, upper half", "speeds"  # columns
FEW = 4  # from so many points on, the upper half is fitted, too


@dataclass(frozen=True)
class Growth:
    """Seconds along one axis [rounds, points]."""

    run: np.ndarray
    setup: np.ndarray
    cpu: np.ndarray  # of the run
    predicted: np.ndarray  # of the run, with the speeds of the round
    speeds: Mapping[str, np.ndarray]  # fields of `Speeds` [rounds], at the last point


def measure(case: GrowthCase, tuned: bool) -> Growth:
    """Measure one axis.

    Args:
        case: the axis and its points.
        tuned: whether processes of their own tune their allocator.
    """
    if case.axis == RANKS:
        found = processes.measure(case.settings, case.rounds, tuned)
    else:
        found = _in_turn(case)
    passes = 1 if case.axis == RANKS or device() == "cpu" else 2
    apart = case.axis.call == "criteria"
    observed, predicted = [], []
    for turn in found:
        observed.append([(each.run, each.setup, each.cpu) for each, _ in turn])
        beside = zip(case.settings, turn, strict=True)
        predicted.append([seconds(s, speed, passes, apart) for s, (_, speed) in beside])
    run, setup, cpu = np.moveaxis(np.array(observed), -1, 0)
    last = [asdict(turn[-1][1]) for turn in found]
    reached = {name: np.array([each[name] for each in last]) for name in last[0]}
    return Growth(run, setup, cpu, np.array(predicted), reached)


def _in_turn(case: GrowthCase) -> Found:
    """Time the points of an axis in this process, all of them once a round."""
    call, where = CALLS[case.axis.call], device()
    points = [
        (setting, setting.network().to(where), on(where, setting.pairs()))
        for setting in case.settings
    ]
    for setting, model, pairs in points:  # warm up: some work is done once per process
        call(replace(setting, probes=1, steps=2), model, pairs)
    found: Found = []
    for _ in range(case.rounds):
        speed = speeds(case.base, where)
        found.append([(call(*point), speed) for point in points])
    return found


# --- records


def records(case: GrowthCase, found: Growth) -> list[Record]:
    """The records of one axis: a column a point, and one for the exponents over all of them.

    Points have `seconds` of the run and of its `setup` (where that is apart), `cpu_seconds` and
    `predicted_seconds`, each the median over rounds. Exponents are means over rounds: `exponent` of
    the run, `predicted_exponent`, the `difference` of these two in the same round, and
    `whole_exponent` with the set-up. From four points on, the upper half of them has a column, too.
    The last column has the speeds behind the prediction, medians over rounds.

    Args:
        case: the axis.
        found: what was measured.
    """
    ranks = case.axis == RANKS
    timing = machine.environment("cpu" if ranks else device()) | ({"threads": 1} if ranks else {})
    settings = {"points": list(case.points), "call": case.axis.call, **asdict(case.base)}
    del settings[case.axis.field]
    record = partial(
        Record, table=TABLE, row=str(case), fidelity="substitute", note=NOTE, seed=0,
        dtype="float32", n=case.rounds, route=ROUTE,
        config=configuration(settings, timing["device"]), **timing,
    )  # fmt: skip
    return list(_records(case, found, record))


def _records(case: GrowthCase, found: Growth, record: partial[Record]) -> Iterator[Record]:
    each = {"seconds": found.run, "cpu_seconds": found.cpu, "predicted_seconds": found.predicted}
    if found.setup.any():
        each["setup"] = found.setup
    for k, size in enumerate(case.sizes):
        for metric, values in each.items():
            middle, error = median(values[:, k])
            yield record(column=str(size), metric=metric, value=middle, stderr=error)
    parts = {ALL: slice(None)}
    if len(case.points) >= FEW:
        parts[UPPER] = upper(len(case.points))
    for column, part in parts.items():
        measured, predicted, whole = (
            slopes(case.sizes[part], values[:, part])
            for values in (found.run, found.predicted, found.run + found.setup)
        )
        fitted = {
            "exponent": measured,
            "predicted_exponent": predicted,
            "difference": measured - predicted,
            "whole_exponent": whole,
        }
        for metric, values in fitted.items():
            mean, error = float(values.mean()), standard_error(values)
            yield record(column=column, metric=metric, value=mean, stderr=error)
    for metric, values in found.speeds.items():
        if np.isfinite(values).all():  # no link joins one process
            middle, error = median(values)
            yield record(column=SPEEDS, metric=metric, value=middle, stderr=error)
