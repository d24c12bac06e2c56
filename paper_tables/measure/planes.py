"""Loss planes of the networks, and the directions that span them.

Cells of one network and weight state stand one after another, and share the network, its batch,
its random numbers and the eigenvectors of its Hessian, so that memory holds one network at a time.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import lla
from lla import landscape
from lla.landscape import Plane
from lla.landscape.evaluate import Directions, make_route
from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import Profile
from paper_tables.engine.records import config_hash
from paper_tables.engine.session import session_cached
from paper_tables.evidence.columns import Place
from paper_tables.inputs import networks
from paper_tables.inputs.networks import Network, State
from paper_tables.paper.explosion import MODES, RISES, options

STEPS = 40  # of the paper's grid, which has 41 points along an axis
DTYPE = "float32"
ROUTE = "loop"  # fixed: routes round differently, except "slices", which gives the same bits
KEPT_FROM = 60.0  # seconds: planes that take longer have a checkpoint to continue from

# Measured on 2 CPU cores: seconds per plane, seconds per point and image, bytes. A row has one
# entry; a network that only some profiles have in its row has one under its own name.
COST = {
    "lenet": (0.1, 1e-5, 2**29),
    "resnet18": (0.6, 2e-3, 2**30),
    "alexnet": (4.0, 2e-2, 5 * 2**30),
    "squeezenet": (0.4, 2e-3, 2**29),
    "mobilenet": (0.6, 3e-3, 2**30),
    "vit": (0.4, 3e-3, 2**30),
    "vit_base_patch16_224": (20.0, 4e-2, 8 * 2**30),
    "resnet20": (0.4, 2e-3, 2**30),
    "resnet44": (0.9, 5e-3, 2**30),
    "resnet56": (1.2, 6e-3, 2**30),
}


def memory(net: Network) -> int:
    """How many bytes a plane of a network needs."""
    return _cost(net)[2]


def seconds(net: Network, config: dict[str, Any], points: int) -> float:
    """How long a plane of a network takes on 2 CPU cores."""
    base, each, _ = _cost(net)
    area = 1.0 if net.digits else (config["side"] / 64) ** 2
    return base + points**2 * config["images"] * each * area


def _cost(net: Network) -> tuple[float, float, int]:
    return COST.get(net.name, COST[net.row])


@dataclass(frozen=True)
class MeasuredPlane:
    """A plane with what its records need."""

    plane: Plane
    stopped: bool  # at its corners, as it exploded there
    loss: float  # of the unmodified weights
    middle: float  # of the plane's middle, evaluated as any other point
    note: str | None  # on its directions


@session_cached(size=64)
def measured(
    settings: Settings,
    net: Network,
    state: State,
    place: Place,
    seed: int,
    points: int,
    stop: float | None,
) -> MeasuredPlane:
    """A plane of a network.

    Args:
        settings: of the session.
        net: the network.
        state: its weights.
        place: which plane.
        seed: of the random axes.
        points: along each axis.
        stop: a ratio; see `evaluate`.
    """
    problem = plane_problem(settings, net, state, place.mode)
    directions, note = _directions(settings, net, state, place, seed)
    config, checkpoint = networks.config_of(settings, net, state), None
    if seconds(net, config, points) > KEPT_FROM:
        weights = networks.load(settings, net, state).weights.sha256
        what = [net.row, place.column(state), seed, points, weights, settings.device]
        key = config_hash({"plane": what, **config})
        checkpoint = settings.work / "partial" / f"{net.row}-{key}.npz"
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
    plane, stopped = evaluate(problem, directions, points, stop, checkpoint=checkpoint)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    # a plane does not evaluate its middle, whose loss is known; here it is evaluated
    middle = float(_losses(problem, directions, torch.zeros(1, 2, dtype=torch.float64)))
    return MeasuredPlane(plane, stopped, _loss(settings, net, state, place.mode), middle, note)


def evaluate(
    problem: lla.Problem,
    directions: Tensor,
    points: int,
    stop: float | None = None,
    *,
    checkpoint: Path | None = None,
) -> tuple[Plane, bool]:
    """A plane on a grid nested in the paper's.

    Args:
        problem: whose loss.
        directions: normalised, [2, P].
        points: along each axis.
        stop: a ratio; if it is reached at a corner, the rest is left out.
        checkpoint: the file from which an interrupted plane continues.

    Returns:
        The plane, and whether it was left unfinished.
    """
    full, fine = landscape.grid(STEPS), landscape.nested(points, STEPS)
    ends = full[[fine[0], fine[-1]]]
    stopped = stop is not None and _exploded(problem, directions, ends, stop)
    along = (ends if stopped else full[fine]).tolist()
    plane = landscape.loss_plane(
        problem,
        directions,
        normalization=None,
        coordinates=(along, along),
        route=_route(problem),
        checkpoint=None if stopped else checkpoint,
    )
    return plane, stopped


def _exploded(problem: lla.Problem, directions: Tensor, ends: np.ndarray, stop: float) -> bool:
    """Whether the loss at a corner is not finite or reaches a ratio."""
    corners = torch.cartesian_prod(torch.from_numpy(ends), torch.from_numpy(ends))
    losses = _losses(problem, directions, corners).cpu().numpy()
    center = problem.loss().item()
    found = landscape.explosion(losses, center, problem.classes, stop, min(stop, RISES))
    return found.verdict == "explodes"


def _losses(problem: lla.Problem, directions: Tensor, coefficients: Tensor) -> Tensor:
    """The losses [n] at some points [n, 2], as a plane evaluates them."""
    rows = Directions(problem.theta(), directions)
    return make_route(_route(problem), problem, rows)(coefficients)


def _route(problem: lla.Problem) -> str:
    return "slices" if problem.device.type == "cpu" else ROUTE


@session_cached(size=1)
def plane_problem(settings: Settings, net: Network, state: State, mode: str) -> lla.Problem:
    """The loss of a network on its batch; only the last one is kept in memory."""
    model = networks.load(settings, net, state).model
    return lla.Problem(model, networks.batch(settings, net, state).pairs, mode=mode)  # type: ignore[arg-type]


@session_cached(size=1)
def _loss(settings: Settings, net: Network, state: State, mode: str) -> float:
    """The loss of the unmodified weights."""
    return plane_problem(settings, net, state, mode).loss().item()


def _directions(
    settings: Settings, net: Network, state: State, place: Place, seed: int
) -> tuple[Tensor, str | None]:
    """The normalised directions [2, P] of a plane, and a remark on them."""
    problem = plane_problem(settings, net, state, place.mode)
    note = None
    rows: Any = landscape.RandomAxes(place.axes)  # type: ignore[arg-type]
    more: dict[str, Any] = {}
    chosen = options(place.method)
    scaling = landscape.Normalization(chosen["normalization"], chosen["order"], chosen["signed"])
    if place.frozen:
        model = networks.load(settings, net, state).model
        more = {"seed": seed, "freeze": _batchnorm_parameters(model)}
    elif place.axes == "hessian":
        rows, note = eigenvectors(settings, net, state, place.mode, settings.profile)
    else:
        rows = _raw(settings, net, state, place.axes, seed)
    with warnings.catch_warnings():  # torch's own forward mode compiles a script on its first use
        warnings.simplefilter("ignore", DeprecationWarning)
        return landscape.plane_directions(problem, rows, scaling, **more), note


@session_cached(size=1)
def _raw(settings: Settings, net: Network, state: State, axes: str, seed: int) -> Tensor:
    """Random directions [2, P] before any normalization: six methods share them."""
    theta = plane_problem(settings, net, state, MODES[0]).theta()
    return landscape.random_directions(theta, 2, axes, seed)  # type: ignore[arg-type]


def eigen_config(profile: Profile) -> dict[str, Any]:
    """How the eigenvectors of a profile's Hessian axes are found."""
    return {
        "which": "LA", "tol": profile.eigen_tol, "max_steps": profile.eigen_steps,
        "basis_bytes": 2**31, "seed": 0,
    }  # fmt: skip


@session_cached(size=1)
def eigenvectors(
    settings: Settings, net: Network, state: State, mode: str, profile: Profile
) -> tuple[Tensor, str]:
    """The eigenvectors [2, P] of the two largest eigenvalues, and how exact they are."""
    problem = plane_problem(settings, net, state, mode)
    chosen = eigen_config(profile)
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
