"""The cells of Table 1: each is a loss plane, and says how far the loss rises on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from lla import landscape
from lla.errors import MissingDataError
from paper_tables.engine import store
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Record
from paper_tables.evidence.columns import Place, place_of
from paper_tables.exhibits.table1.planes import FULL, TABLE
from paper_tables.inputs import networks
from paper_tables.inputs.networks import Network, State
from paper_tables.measure import planes
from paper_tables.measure.planes import MeasuredPlane
from paper_tables.paper import explosion
from paper_tables.paper.explosion import METHODS, MODES, PAPER_METHODS, RECOMMENDED

HEIGHT = ("ratio", "nonfinite", "center", "center_error")
# of a plane whose every point was evaluated
SHAPE = ("asymmetry", "sublevel_points", "asymmetry_wide", "sublevel_points_wide")

AXES = ("uniform", "normal", "hessian")  # the paper's random axes, Gaussian ones, eigenvectors
STOPS_AT = 1e6  # a plane that rises so far at a corner explodes by any threshold of the table

# Caps of the loss for its asymmetry, in units of max(loss at the centre, ln C): half way up to the
# plateau of guessing, and above it. At 1, rounding decides which part of the plateau lies below.
CAPS = {"": 0.5, "_wide": 2.0}


def cells(settings: Settings) -> list[Cell]:
    """All cells of Table 1, network after network."""
    found: list[Cell] = []
    for net in networks.networks(settings.profile):
        for state in networks.STATES:
            for place in _places(net):
                count = 1 if place.axes == "hessian" else settings.profile.planes
                found += [plane_cell(settings, net, state, place, seed) for seed in range(count)]
    return found


# The planes of the figures and of the asymmetry, on grids fine enough for the eye: network, state,
# place, points along an axis, how many seeds.
FINE: tuple[tuple[str, State, Place, int, int], ...] = (
    ("lenet", "pretrained", Place("eval", "uniform", "4"), 21, 4),
    ("lenet", "pretrained", Place("eval", "normal", "4"), 21, 1),
    ("lenet", "pretrained", Place("eval", "hessian", "1"), 21, 1),
    ("lenet", "pretrained", Place("eval", "hessian", "4"), 21, 1),
    ("resnet18", "random", Place("eval", "uniform", "4"), 9, 1),
    ("resnet18", "random", Place("train", "uniform", "4"), 9, 1),
    ("alexnet", "pretrained", Place("eval", "uniform", "4"), 11, 4),
    ("squeezenet", "pretrained", Place("eval", "uniform", "4"), 11, 2),
    ("squeezenet", "pretrained", Place("eval", "normal", "4"), 11, 1),
)


def fine_cells(settings: Settings) -> list[Cell]:
    """Planes of Table 1 on the finer grids that the figures and claim F3.asym need."""
    found = []
    for row, state, place, points, seeds in FINE:
        net = networks.network(settings.profile, row)
        points = max(points, settings.profile.points)
        for seed in range(seeds):
            found.append(plane_cell(settings, net, state, place, seed, points))
    return list({(cell.column, cell.hash): cell for cell in found}.values())


def plane_cell(
    settings: Settings,
    net: Network,
    state: State,
    place: Place,
    seed: int = 0,
    points: int | None = None,
) -> Cell:
    """The cell of one plane.

    Args:
        settings: of the session.
        net: the network.
        state: its weights.
        place: which plane.
        seed: of the random axes.
        points: along each axis; the profile's by default. Where they are given the plane is
            computed to its end.
    """
    profile = settings.profile
    weights = networks.origin(settings, net, state)
    stop = profile.early_stop and points is None
    points = profile.points if points is None else points
    landscape.nested(points, planes.STEPS)  # refuses a number that does not fit
    name = "-".join([net.row, *place.column(state).split("/"), str(seed), f"{points}x{points}"])
    faithful = networks.fidelity(settings, net, state)
    cell = Cell(
        table=TABLE,
        row=net.row,
        column=place.column(state),
        name=name,
        metrics=HEIGHT if stop else (*HEIGHT, *SHAPE),
        config={"model": net.name, "column": place.column(state)},
        fidelity=None,
        inputs="",
        stage=_stage(net, state),
    )
    reason = weights.note if weights.fidelity is None else None
    if points == profile.points and not reason:
        reason = _left_out(settings, net, place, faithful)
    if reason:
        return cell.absent(reason, ("ratio",), cell.config)
    config = networks.config_of(settings, net, state) | {
        "mode": place.mode,
        "axes": "hessian" if place.axes == "hessian" else "random",
        **explosion.options(place.method),
        "frozen": "batchnorm" if place.frozen else None,
        "steps": planes.STEPS,
        "points": points,
        "distance": 1.0,
        "seed": seed,
        "batches": 1,
        "dtype": planes.DTYPE,
        "route": planes.ROUTE,
        "loss": "cross_entropy",
    }
    config["batch_size"] = config["images"]
    if place.axes == "hessian":
        config["eigen"] = planes.eigen_config(profile)
    else:
        config["distribution"] = place.axes
    config |= {"stops_at": STOPS_AT} if stop else {"caps": list(CAPS.values())}
    return dataclasses.replace(
        cell,
        config=config,
        # a coarse grid is less than the paper's
        fidelity=cell_fidelity(faithful, whole=points >= FULL),
        inputs=f"{weights.note}; {config['images']} x {config['side']} px of {config['data']}, "
        f"{points} x {points} points",
        compute=compute,
        judge=_judge,
        seconds=planes.seconds(net, config, points),
        memory=planes.memory(net),
        shared=weights.shared,
    )


def _places(net: Network) -> list[Place]:
    # sorted by axes first: both modes share the random axes, which take long to draw
    found = [Place(mode, axes, method) for axes in AXES for mode in MODES for method in METHODS]
    if net.row == "resnet18":  # claim T1.bnfrozen is about these
        found += [Place("eval", "uniform", method, frozen=True) for method in PAPER_METHODS]
    return found


def _left_out(settings: Settings, net: Network, place: Place, fidelity: str | None) -> str | None:
    """Why the profile leaves a plane out; None if it does not."""
    if settings.profile.every_plane or net.millions < SMALL:
        return None
    needed = place.axes != "normal" or place.method in ("4", RECOMMENDED)
    if net.millions >= LARGE or fidelity == "substitute":
        needed = place.method in PAPER_METHODS and place.axes != "hessian"
        needed &= place.axes == "uniform" or (place.method == "4" and place.mode == "eval")
        needed &= fidelity != "substitute" or (place.mode == "eval" and place.method == "4")
    if needed:
        return None
    return f"left out of profile {settings.profile.name} for its time: --every-plane computes it"


# Millions of parameters. Of networks below the first, a short profile computes every plane. Of
# those above the second, and of stand-ins, it computes few planes, and none along Hessian axes.
SMALL, LARGE = 1.0, 20.0


def _stage(net: Network, state: State) -> int:
    """When the cell runs: untrained LeNet first, for a first table; large networks last."""
    return 2 if not net.digits else 0 if state == "random" else 1


# --- computing


def compute(cell: Cell, settings: Settings) -> list[Record]:
    """The records of one plane."""
    state, place = _state(cell)
    net = networks.network(settings.profile, cell.row)
    config = cell.config
    try:
        loaded = networks.load(settings, net, state)
    except MissingDataError:  # it was to be downloaded; its message names folders of this machine
        return cell.absent(networks.NO_DOWNLOAD).not_run()
    alike = networks.modes_alike(loaded.model)  # one function in both modes
    found = planes.measured(
        settings,
        net,
        state,
        place._replace(mode="eval") if alike else place,
        config["seed"],
        config["points"],
        config.get("stops_at"),
    )
    plane = dataclasses.replace(
        found.plane,
        mode=place.mode,
        axes=config["axes"],
        distribution=config.get("distribution"),
        normalization=config["normalization"],
        order=config["order"] if config["normalization"] == "filter" else None,
        signed=config["signed"],
        seed=config["seed"],
    )
    facts = networks.batch(settings, net, state).facts(loaded.weights)
    facts["route"] = plane.route
    return _records(cell, settings, dataclasses.replace(found, plane=plane), facts)


def _records(
    cell: Cell, settings: Settings, measured: MeasuredPlane, facts: dict[str, Any]
) -> list[Record]:
    plane, loss = measured.plane, measured.loss
    found = plane.explosion()
    values: dict[str, float] = {
        "ratio": found.ratio,
        "nonfinite": found.nonfinite,
        "center": plane.center,
        "center_error": max(abs(measured.middle - loss), abs(plane.center - loss)),
    }
    points = cell.config["points"]
    grid = (
        [f"{points} x {points} of {FULL} x {FULL} points: a lower bound"] if points < FULL else []
    )
    notes = {"ratio": "; ".join([*grid, *filter(None, [measured.note])]) or None}
    if measured.stopped:
        notes["nonfinite"] = f"stopped at its corners, {plane.loss.size} points"
    if "asymmetry" in cell.metrics:
        unit = max(plane.center, float(np.log(plane.classes or 1)))
        for suffix, cap in CAPS.items():
            shape = plane.asymmetry(cap * unit)
            values |= {f"asymmetry{suffix}": shape.share, f"sublevel_points{suffix}": shape.points}
    name = f"planes/{cell.name}-{cell.hash}.npz"
    artifact = store.save_result(plane, name, settings.work)
    records = [
        cell.record(
            metric,
            float(values[metric]),
            note=notes.get(metric),
            n=plane.loss.size if metric == "nonfinite" else None,  # of so many points
            artifact=artifact if metric == "ratio" else None,
            **facts,
        )
        for metric in cell.metrics
    ]
    return _judge(cell, records)


def _judge(cell: Cell, records: Sequence[Record]) -> list[Record]:
    """The records with the paper's category and the verdict on ours."""
    _, place = _state(cell)
    values = {record.metric: record.value for record in records}
    # Gaussian axes and frozen parameters are not in the paper's table.
    paper = None
    if place.axes != "normal" and not place.frozen:
        paper = explosion.expected(cell.row, place.paper_column, place.method)
    if "ratio" not in values or "nonfinite" not in values:
        return list(records)
    ours = explosion.category(values["ratio"] or 0.0, values["nonfinite"] or 0.0)
    return [
        dataclasses.replace(
            record,
            fidelity=cell.fidelity,
            paper_value=" or ".join(paper) if paper else None,
            verdict=explosion.judged(ours, paper, cell.fidelity),
        )
        if record.metric == "ratio"
        else dataclasses.replace(record, fidelity=cell.fidelity)
        for record in records
    ]


def _state(cell: Cell) -> tuple[State, Place]:
    state, place = place_of(cell.column)
    return ("random" if state == "random" else "pretrained"), place
