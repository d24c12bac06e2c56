"""The cells of Table 1: a loss plane each, and how far the loss rises on it.

Cells of one network and weight state stand one after another, and share the network, its batch,
its random numbers and the eigenvectors of its Hessian, so that memory holds one network at a time.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lla
from lla import landscape
from lla.errors import MissingDataError
from lla.landscape import Plane
from lla.landscape.evaluate import Directions, make_route
from lla.records import Record, config_hash
from paper_tables import networks, store
from paper_tables.cells import Cell, Settings, least_faithful
from paper_tables.explosion import (
    METHODS,
    MODES,
    PAPER_METHODS,
    RECOMMENDED,
    RISES,
    category,
    expected,
    judged,
    options,
)
from paper_tables.networks import Network, State
from paper_tables.planes import FULL, STOPPED, TABLE, Place, place_of
from paper_tables.profiles import Profile

__all__ = [
    "CAPS",
    "COST",
    "DTYPE",
    "cells",
    "eigen",
    "eigenvectors",
    "fine_cells",
    "plane_cell",
    "plane_problem",
]

METRICS = ("ratio", "nonfinite", "center", "center_error")
# of a plane whose every point was evaluated
SHAPE = ("asymmetry", "sublevel_points", "asymmetry_wide", "sublevel_points_wide")

AXES = ("uniform", "normal", "hessian")  # the paper's random axes, Gaussian ones, eigenvectors
STEPS = FULL - 1
STOPS_AT = 1e6  # a plane that rises so far at a corner explodes by any threshold of the table
KEPT_FROM = 60.0  # seconds that a plane takes, from which on an interrupted one goes on
DTYPE = "float32"
ROUTE = "loop"  # not the measured one: routes round differently; "slices" gives the same bits

# Where the loss is capped for its asymmetry, in units of max(loss at the centre, ln C): half way up
# to the plateau of guessing, and above it. At 1 rounding decides what of the plateau lies below.
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
    landscape.nested(points, STEPS)  # refuses a number that does not fit
    name = "-".join([net.row, *place.column(state).split("/"), str(seed), f"{points}x{points}"])
    reason = weights.note if weights.fidelity is None else None
    if points == profile.points and not reason:
        reason = _left_out(settings, net, place, networks.fidelity(settings, net, state))
    if reason:
        return Cell(
            table=TABLE,
            row=net.row,
            column=place.column(state),
            name=name,
            metrics=("ratio",),
            config={"model": net.name, "column": place.column(state)},
            fidelity=None,
            inputs="",
            reason=reason,
            stage=_stage(net, state),
        )
    data = networks.data_config(settings, net, state)
    config: dict[str, Any] = {
        "model": net.name,
        "options": networks.options(net, data["side"]),
        "state": state,
        **weights.config,
        **data,
        "mode": place.mode,
        "axes": "hessian" if place.axes == "hessian" else "random",
        **options(place.method),
        "frozen": "batchnorm" if place.frozen else None,
        "steps": STEPS,
        "points": points,
        "distance": 1.0,
        "seed": seed,
        "batches": 1,
        "batch_size": data["images"],
        "dtype": DTYPE,
        "route": ROUTE,
        "loss": "cross_entropy",
    }
    config |= {"eigen": eigen(profile)} if place.axes == "hessian" else {"distribution": place.axes}
    config |= {"stops_at": STOPS_AT} if stop else {"caps": list(CAPS.values())}
    return Cell(
        table=TABLE,
        row=net.row,
        column=place.column(state),
        name=name,
        metrics=METRICS if stop else (*METRICS, *SHAPE),
        config=config,
        fidelity=_fidelity(networks.fidelity(settings, net, state), points),
        inputs=f"{weights.note}; {data['images']} x {data['side']} px of {data['data']}, "
        f"{points} x {points} points",
        compute=_compute,
        judge=_judge,
        stage=_stage(net, state),
        seconds=_seconds(settings, net, state, points),
        memory=_memory(net),
        shared=weights.shared,
    )


def _places(net: Network) -> list[Place]:
    # axes first: both modes share the random ones, which take long to draw
    found = [Place(mode, axes, method) for axes in AXES for mode in MODES for method in METHODS]
    if net.row == "resnet18":  # what claim T1.bnfrozen is about
        found += [Place("eval", "uniform", method, frozen=True) for method in PAPER_METHODS]
    return found


def _left_out(settings: Settings, net: Network, place: Place, fidelity: str | None) -> str | None:
    """Why the profile leaves a plane out; None: it does not."""
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


# Networks, by millions of parameters, of which a short profile computes every plane; and those of
# which, as of stand-ins that are never judged, it computes none along Hessian axes and few others.
SMALL, LARGE = 1.0, 20.0


def _stage(net: Network, state: State) -> int:
    """A first table comes with LeNet as it is built; the large networks come last."""
    return 2 if not net.digits else 0 if state == "random" else 1


def _fidelity(fidelity: str | None, points: int) -> str | None:
    """A coarse grid is less than the paper's."""
    grid = "paper" if points >= FULL else "reduced"
    return None if fidelity is None else least_faithful((fidelity, grid))


# Measured on 2 CPU cores: seconds a plane whatever its size, and seconds a point and image; bytes.
COST = {
    "lenet": (0.1, 1e-5, 2**29),
    "resnet18": (0.6, 2e-3, 2**30),
    "alexnet": (4.0, 2e-2, 5 * 2**30),
    "squeezenet": (0.4, 2e-3, 2**29),
    "mobilenet": (0.6, 3e-3, 2**30),
    "vit": (0.4, 3e-3, 2**30),
}


def _seconds(settings: Settings, net: Network, state: State, points: int) -> float:
    base, each, _ = COST[net.row]
    data = networks.data_config(settings, net, state)
    area = 1.0 if net.digits else (data["side"] / 64) ** 2
    return base + points**2 * data["images"] * each * area


def _memory(net: Network) -> int:
    return COST[net.row][2]


# --- computing


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    state, place = _state(cell)
    net = networks.network(settings.profile, cell.row)
    config = cell.config
    try:
        loaded = networks.load(settings, net, state)
    except MissingDataError:  # it was to be downloaded; its message names folders of this machine
        return dataclasses.replace(cell, reason="no weights: the download failed").not_run()
    mode = (
        "eval" if networks.modes_alike(loaded.model) else place.mode
    )  # one function: computed once
    found = _explored(
        settings,
        net,
        state,
        place._replace(mode=mode),
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
    inputs = networks.inputs(settings, net, state)
    facts: dict[str, Any] = {
        "route": plane.route,
        "data": inputs.source,
        "batch_sha256": inputs.sha256,
        "weights": loaded.weights,
    }
    return _records(cell, settings, dataclasses.replace(found, plane=plane), facts)


@dataclass(frozen=True)
class Explored:
    """A plane with what its records need."""

    plane: Plane
    stopped: bool  # at its corners
    loss: float  # of the unmodified weights
    middle: float  # of the plane's middle, evaluated as any other point
    note: str | None  # on its directions


@functools.lru_cache(maxsize=64)
def _explored(
    settings: Settings,
    net: Network,
    state: State,
    place: Place,
    seed: int,
    points: int,
    stop: float | None,
) -> Explored:
    problem = plane_problem(settings, net, state, place.mode)
    directions, note = _directions(settings, net, state, place, seed)
    what = [
        net.row,
        place.column(state),
        seed,
        points,
        networks.options(net, networks.side(settings.profile, net, state)),
    ]
    inputs = networks.data_config(settings, net, state)
    weights = networks.load(settings, net, state).weights.sha256
    key = config_hash({"plane": what, **inputs, "weights": weights, "device": settings.device})
    checkpoint = None
    if _seconds(settings, net, state, points) > KEPT_FROM:
        checkpoint = settings.work / "partial" / f"{net.row}-{key}.npz"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    plane, stopped = explore(
        problem, directions, points, stop, checkpoint=checkpoint, progress=settings.progress
    )
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    middle = _middle(problem, directions)
    return Explored(plane, stopped, _loss(settings, net, state, place.mode), middle, note)


def _route(problem: lla.Problem) -> str:
    return "slices" if problem.device.type == "cpu" else ROUTE


def _middle(problem: lla.Problem, directions: Tensor) -> float:
    """The loss of the point in the middle, evaluated as any other; a plane takes it as known."""
    return float(_evaluated(problem, directions, torch.zeros(1, 2, dtype=torch.float64)))


def _records(
    cell: Cell, settings: Settings, explored: Explored, facts: dict[str, Any]
) -> list[Record]:
    plane, loss = explored.plane, explored.loss
    found = plane.explosion()
    values: dict[str, float] = {
        "ratio": found.ratio,
        "nonfinite": found.nonfinite,
        "center": plane.center,
        "center_error": max(abs(explored.middle - loss), abs(plane.center - loss)),
    }
    points = cell.config["points"]
    grid = None
    if points < FULL:
        grid = f"{points} x {points} of {FULL} x {FULL} points: a lower bound"
    notes: dict[str, str | None] = {
        "ratio": "; ".join(filter(None, [grid, explored.note])) or None,
        "nonfinite": f"{STOPPED}, {plane.loss.size} points" if explored.stopped else None,
    }
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
        paper = expected(cell.row, place.paper_column, place.method)
    if "ratio" not in values or "nonfinite" not in values:
        return list(records)
    ours = category(values["ratio"] or 0.0, values["nonfinite"] or 0.0)
    return [
        dataclasses.replace(
            record,
            fidelity=cell.fidelity,
            paper_value=" or ".join(paper) if paper else None,
            verdict=judged(ours, paper, cell.fidelity),
        )
        if record.metric == "ratio"
        else dataclasses.replace(record, fidelity=cell.fidelity)
        for record in records
    ]


def _state(cell: Cell) -> tuple[State, Place]:
    state, place = place_of(cell.column)
    return ("random" if state == "random" else "pretrained"), place


@functools.lru_cache(maxsize=1)
def plane_problem(settings: Settings, net: Network, state: State, mode: str) -> lla.Problem:
    """The loss of a network on its batch; the last one is kept, so ask for one after another."""
    model = networks.load(settings, net, state).model
    return lla.Problem(model, networks.inputs(settings, net, state).pairs, mode=mode)  # type: ignore[arg-type]


@functools.lru_cache(maxsize=1)
def _loss(settings: Settings, net: Network, state: State, mode: str) -> float:
    """The loss of the unmodified weights."""
    return plane_problem(settings, net, state, mode).loss().item()


def _directions(
    settings: Settings, net: Network, state: State, place: Place, seed: int
) -> tuple[Tensor, str | None]:
    """The normalised directions [2, P] of a plane, and a remark on them."""
    problem = plane_problem(settings, net, state, place.mode)
    chosen = options(place.method)
    scaling = landscape.Normalization(chosen["normalization"], chosen["order"], chosen["signed"])
    note = None
    rows: Any = landscape.RandomAxes(place.axes)  # type: ignore[arg-type]
    more: dict[str, Any] = {"seed": seed}
    if place.frozen:
        model = networks.load(settings, net, state).model
        more["freeze"] = _batchnorm_parameters(model)
    elif place.axes == "hessian":
        rows, note = eigenvectors(settings, net, state, place.mode, settings.profile)
        more = {}
    else:
        rows, more = _raw(settings, net, state, place.axes, seed), {}
    with warnings.catch_warnings():  # torch's own forward mode compiles a script on its first use
        warnings.simplefilter("ignore", DeprecationWarning)
        return landscape.plane_directions(problem, rows, scaling, **more), note


@functools.lru_cache(maxsize=1)
def _raw(settings: Settings, net: Network, state: State, axes: str, seed: int) -> Tensor:
    """Random directions [2, P] before any normalization: six methods share them."""
    theta = plane_problem(settings, net, state, MODES[0]).theta()
    return landscape.random_directions(theta, 2, axes, seed)  # type: ignore[arg-type]


def eigen(profile: Profile) -> dict[str, Any]:
    """How the eigenvectors of a profile's Hessian axes are found."""
    return {
        "which": "LA", "tol": profile.eigen_tol, "max_steps": profile.eigen_steps,
        "basis_bytes": 2**31, "seed": 0,
    }  # fmt: skip


@functools.lru_cache(maxsize=1)
def eigenvectors(
    settings: Settings, net: Network, state: State, mode: str, profile: Profile
) -> tuple[Tensor, str | None]:
    """The eigenvectors [2, P] of the two largest eigenvalues, and how exact they are."""
    problem = plane_problem(settings, net, state, mode)
    chosen = eigen(profile)
    room = chosen["basis_bytes"] // (problem.space.size * 4)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="after .* steps the residuals")  # recorded
        pairs = lla.top_eigenpairs(
            lla.HessianOperator(problem, route="retained"),
            2,
            chosen["which"],
            chosen["seed"],
            tol=chosen["tol"],
            max_steps=chosen["max_steps"],
            basis_size=max(12, min(room, chosen["max_steps"])),
        )
    note = (
        f"eigenvalues {pairs.values[0]:.4g} and {pairs.values[1]:.4g}, residuals at most "
        f"{pairs.residuals.max():.1g}, {pairs.matvecs} products"
    )
    if not pairs.converged:
        note += ", not converged"
    return torch.from_numpy(pairs.vectors).to(problem.device), note


def _batchnorm_parameters(model: nn.Module) -> list[str]:
    return [
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, networks.BATCHNORM)
        for name, _ in module.named_parameters(recurse=False)
    ]


def explore(
    problem: lla.Problem,
    directions: Tensor,
    points: int,
    stop: float | None = None,
    *,
    checkpoint: Path | None = None,
    progress: bool = False,
) -> tuple[Plane, bool]:
    """A plane on a grid nested in the paper's.

    Args:
        problem: whose loss.
        directions: normalised, [2, P].
        points: along each axis.
        stop: a ratio; if it is reached at a corner, the rest is left out.
        checkpoint: file that an interrupted plane goes on from.
        progress: show a progress bar.

    Returns:
        The plane, and whether it was left unfinished.
    """
    full, fine = landscape.grid(STEPS), landscape.nested(points, STEPS)
    stopped = stop is not None and _exploded(problem, directions, full[[fine[0], fine[-1]]], stop)
    along = full[[fine[0], fine[-1]] if stopped else fine].tolist()
    plane = landscape.loss_plane(
        problem,
        directions,
        normalization=None,
        coordinates=(along, along),
        route=_route(problem),
        checkpoint=None if stopped else checkpoint,
        progress=progress,
    )
    return plane, stopped


def _exploded(problem: lla.Problem, directions: Tensor, ends: np.ndarray, stop: float) -> bool:
    """Whether the loss at the corners is not finite or rises to a ratio."""
    corners = torch.cartesian_prod(torch.from_numpy(ends), torch.from_numpy(ends))
    losses = _evaluated(problem, directions, corners).cpu().numpy()
    center = problem.loss().item()
    found = landscape.explosion(losses, center, problem.classes, stop, min(stop, RISES))
    return found.verdict == "explodes"


def _evaluated(problem: lla.Problem, directions: Tensor, coefficients: Tensor) -> Tensor:
    """The losses [n] at some points [n, 2], as a plane evaluates them."""
    rows = Directions(problem.theta(), directions)
    return make_route(_route(problem), problem, rows)(coefficients)
