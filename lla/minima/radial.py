"""The radial index of a minimum: how far random directions lead before the loss is too large.

Huang, Emam, Goldblum, Fowl, Terry, Huang and Goldstein (2019), "Understanding generalization
through visualizations", arXiv:1906.03291, estimate the volume of a basin so. Here it is an index,
because for basins that are not round it is far from any volume: see `lla.minima.calibration`.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lla.arguments import positive_number, seed_number, whole_number
from lla.errors import InputError
from lla.landscape.evaluate import check_route, fastest_route, make_route
from lla.landscape.identity import vector_hash
from lla.landscape.normalization import normalize
from lla.minima.ellipsoids import calibration
from lla.minima.radii import CountedExcess, Rays, first_crossings, node, step_below
from lla.minima.result import SPREADS, RadialIndex
from lla.probes import gaussian
from lla.problem import Problem, check_is_problem
from lla.progress_bars import tqdm
from lla.ranks import Ranks
from lla.storage import array_faults, save_result
from lla.unfinished import check_checkpoint, fingerprint, read_shared

Scan = Literal["informed", "full"]
GROUP = 32  # directions that are searched at the same time
_STREAM = 31  # of the directions, apart from other random vectors of the same seed
_MARGIN = 4.0  # an informed scan starts at the smallest radius so far divided by this
_MEASURED = 8  # directions from which on the routes are measured
_NEAR = 0.5  # share of the cutoff above which the loss of a minimum is too near to it
_SAVE_EVERY = 2.0  # seconds


def radial_index(
    problem: Problem,
    cutoff: float = 0.1,
    directions: int = 250,
    *,
    reach: float = 100.0,
    scan: Scan = "informed",
    seed: int = 0,
    route: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> RadialIndex:
    """Find the radius of a minimum along random directions, and what the radii add up to.

    A direction d is normal, and each slice of it along the first dimension of a parameter with two
    or more dimensions is scaled to the norm of the weights there; it is zero for biases and
    BatchNorm. Its radius is the first c > 0 with L(theta + c d) >= cutoff, found on the grid
    1e-3 x 1.12^k and then to a relative 1e-6. With n moving weights the index is
    omega_n mean(r^n), where omega_n is the volume of the unit ball (Huang et al. 2019). A loss
    that is NaN or infinite on the way counts as above the cutoff.

    The first 32 directions are scanned from c = 1e-3 on. With `scan="informed"` the others start
    at a quarter of the smallest radius of these, which takes about half the evaluations. A
    direction that is above the cutoff there already is scanned in full, so radii differ only if
    the loss rises above the cutoff and falls below it again before that point.

    Args:
        problem: the network at a minimum, its training data and loss, in eval mode.
        cutoff: of the loss.
        directions: K.
        reach: the largest c; a direction that stays below the cutoff so far is counted as censored.
        scan: "informed" or "full".
        seed: direction i is drawn from (seed, i).
        route: how points are evaluated, see `lla.landscape.evaluate`; None measures the routes.
        checkpoint: file in which radii are kept as they come; a killed search goes on from it and
            ends equal.
        progress: show a bar.

    Raises:
        InputError: no problem is given, or one in train mode; the loss at theta is not below the
            cutoff; the network has no weight that moves; an argument out of range; a checkpoint of
            another search, or by another route.
        NonFiniteError: the loss at theta is not finite.
        ChecksumError, WriteError: the checkpoint cannot be read or written.

    Warns:
        UserWarning: the loss at theta is more than half the cutoff, or directions are censored.

    >>> model = torch.nn.Linear(5, 5)
    >>> _ = model.weight.data.copy_(9 * torch.eye(5))
    >>> problem = Problem(model, (torch.eye(5), torch.arange(5)))
    >>> found = radial_index(problem, directions=4)
    >>> found.n, found.radii.shape, found.censored, found.log10_jensen <= found.log10_index
    (25, (4,), 0, True)
    """
    _check(problem, cutoff, reach, scan)
    directions, seed = whole_number("directions", directions, 1), seed_number(seed)
    check_route(route)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        check_checkpoint(path, problem.ranks)
    loss = float(problem.loss())
    if not loss < cutoff:
        raise InputError(
            f"the loss is {loss:.4g}, not below the cutoff {cutoff:g}: train the network further, "
            "or take a larger cutoff"
        )
    if loss > _NEAR * cutoff:
        _warn(f"the loss {loss:.3g} is near the cutoff {cutoff:g}, so radii say little: train on")
    theta = problem.theta()
    moving = _moving(problem, theta)
    facts = (
        cutoff, directions, reach, scan, seed, problem.seed, str(problem.dtype), f"{loss:.6g}",
        [name for name, *_ in problem.space],
    )  # fmt: skip
    known = ""
    if path is not None:
        data = problem.of_all_batches(problem.own_batches.hashes())
        known = fingerprint(problem.state(), repr(data), repr(facts))
    done = _Done.start(path, directions, known, problem.ranks)
    if route is not None and done.route not in ("", route):
        raise InputError(
            f"{path} has radii that were found by the route {done.route!r}, not {route!r}: go on "
            "with that route, or give another checkpoint"
        )
    if problem.ranks.rank > 0:
        path = None  # the first process writes
    job = _Job(problem, theta, moving, float(cutoff), float(reach), scan, seed)
    try:
        _search(job, done, route, path, progress)
    finally:
        done.write(path)
    n = int(moving.sum())
    found = RadialIndex(
        radii=done.radii,
        reached=done.reached,
        shortfalls=np.array([calibration(n, directions, s, seed).shortfall for s in SPREADS]),
        n=n,
        cutoff=float(cutoff),
        reach=float(reach),
        loss=loss,
        evaluations=done.evaluations,
        scan=scan,
        route=done.route,
        seed=seed,
        dtype=str(problem.dtype).removeprefix("torch."),
        examples=problem.division.examples,
        weights_hash=vector_hash(theta),
    )
    if found.censored:
        _warn(
            f"along {found.censored} of {directions} directions the loss stays below {cutoff:g} up "
            f"to {reach:g}, so the mean radius and the index are lower bounds: take a larger reach"
        )
    return found


def ray_directions(problem: Problem, count: int, seed: int = 0) -> Tensor:
    """The first directions [count, P] of `radial_index` with this seed.

    Raises:
        InputError: the network has no weight that moves; an argument out of range.
    """
    check_is_problem(problem, "lla.minima.ray_directions(lla.Problem(model, batches))")
    count, seed = whole_number("count", count, 1), seed_number(seed)
    theta = problem.theta()
    moving = _moving(problem, theta)
    return torch.stack([direction(problem, theta, moving, seed, i) for i in range(count)])


def direction(problem: Problem, theta: Tensor, moving: Tensor, seed: int, i: int) -> Tensor:
    """Direction i [P]: normal where weights move, scaled filter by filter, else zero."""
    drawn = gaussian(len(theta), theta, seed, _STREAM, i) * moving
    return normalize(drawn, theta, problem.space, "filter")


def _check(problem: Problem, cutoff: float, reach: float, scan: str) -> None:
    check_is_problem(problem, "lla.minima.radial_index(lla.Problem(model, batches))")
    if problem.mode != "eval":
        raise InputError(
            "the problem is in train mode, in which BatchNorm and dropout make the loss another "
            "function than that of the trained network: take mode='eval'"
        )
    positive_number("cutoff", cutoff)
    positive_number("reach", reach)
    if scan not in ("informed", "full"):
        raise InputError(f"scan is {scan!r}: choose 'informed' or 'full'")


def _moving(problem: Problem, theta: Tensor) -> Tensor:
    """Which weights [P] move: those of filters with a norm above zero."""
    moving = torch.zeros_like(theta, dtype=torch.bool)
    for _, shape, place in problem.space:
        if len(shape) >= 2:
            rows = theta[place].view(shape[0], -1)
            moving[place] = rows.any(1, keepdim=True).expand_as(rows).reshape(-1)
    if not moving.any():
        raise InputError(
            "no parameter has two or more dimensions and weights that are not zero, so there is no "
            "direction to go: give a network with linear or convolution layers"
        )
    return moving


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=3)


@dataclass(frozen=True)
class _Job:
    """What a search is about."""

    problem: Problem
    theta: Tensor  # [P]
    moving: Tensor  # [P] bool
    cutoff: float
    reach: float
    scan: str
    seed: int

    def rays(self, first: int, count: int) -> Rays:
        """The rays `first`, ..., `first + count - 1`."""
        rows = [
            direction(self.problem, self.theta, self.moving, self.seed, i)
            for i in range(first, first + count)
        ]
        return Rays(self.theta, torch.stack(rows))


@dataclass
class _Done:
    """The directions that have been searched, in memory and in a file."""

    radii: np.ndarray  # [K]
    reached: np.ndarray  # [K]
    count: int  # of directions that are done
    evaluations: int
    route: str  # "" before the first
    fingerprint: str

    @classmethod
    def start(cls, path: Path | None, directions: int, fingerprint: str, ranks: Ranks) -> _Done:
        """Nothing yet, or what a file holds, which the first process reads."""
        empty = cls(
            np.full(directions, np.nan), np.zeros(directions, dtype=bool), 0, 0, "", fingerprint
        )
        holds = ("this search", "the radii of another search")
        return read_shared(cls, path, fingerprint, holds, empty.wrong_in, ranks) or empty

    def wrong_in(self, found: _Done) -> Iterator[str]:
        """Yield what is wrong with the content of a file of this search."""
        yield from array_faults(
            found,
            radii=(self.radii.shape, self.radii.dtype.name),
            reached=(self.reached.shape, self.reached.dtype.name),
        )
        if not (0 <= found.count <= len(self.radii) and (found.radii[: found.count] > 0).all()):
            yield f"{found.count} radii are done, and not all are positive"

    def write(self, path: Path | None) -> None:
        """Write the file, if there is a path."""
        if path is not None:
            save_result(self, path)


def _search(job: _Job, done: _Done, route: str | None, path: Path | None, progress: bool) -> None:
    """Search all directions that are left, a group at a time."""
    total, written = len(done.radii), time.monotonic()
    look = {"desc": "radii", "unit": "direction", "disable": not progress}
    with tqdm(total=total, initial=done.count, **look) as bar:  # type: ignore[call-overload]
        while done.count < total:
            first = done.count
            here = slice(first, min(first + GROUP, total))
            rays = job.rays(first, here.stop - first)
            done.route = done.route or route or _route(job, rays, total)
            excess = CountedExcess(make_route(done.route, job.problem, rays), job.cutoff)
            found = first_crossings(excess, len(rays.rows), job.reach, _start(job, done))
            done.radii[here], done.reached[here] = found
            done.evaluations += excess.evaluations
            done.count = here.stop
            bar.update(here.stop - first)
            if time.monotonic() - written > _SAVE_EVERY:
                done.write(path)
                written = time.monotonic()


def _start(job: _Job, done: _Done) -> int:
    """The step of the scan at which the next group starts, from the radii of the first group."""
    known = done.radii[:GROUP][done.reached[:GROUP]] if done.count else np.zeros(0)
    if job.scan == "full" or not known.size:
        return 0
    return max(0, step_below(float(known.min()) / _MARGIN))


def _route(job: _Job, rays: Rays, total: int) -> str:
    """The fastest route, measured on the first rays if there are many."""
    if total < _MEASURED:
        return "loop"
    points = GROUP if total >= 2 * GROUP else _MEASURED
    which = torch.arange(len(rays.rows), dtype=torch.float64)
    middle = torch.full_like(which, float(node(step_below(0.1), job.reach)))
    return fastest_route(job.problem, rays, torch.stack([which, middle], 1), points)
