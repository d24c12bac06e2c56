"""Loss planes and lines: evaluation of the loss on a grid of points around the weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lla.arguments import number_of_draws, seed_number
from lla.errors import InputError, NonFiniteError
from lla.landscape import axes as plane_axes
from lla.landscape import directions as dirs
from lla.landscape.axes import AdamAxes, AnyNormalization, Axes, HessianAxes, RandomAxes
from lla.landscape.batchnorm import Calibration, kind, recalibrated, statistics
from lla.landscape.buffers import MovingBuffers, towards_models
from lla.landscape.evaluate import Directions, check_route, losses, point_buffers
from lla.landscape.identity import vector_hash
from lla.landscape.plane import Plane, grid
from lla.landscape.plane_values import PlaneValues
from lla.landscape.point_errors import POINT_ERRORS, of_one_point
from lla.problem import Problem, check_is_problem
from lla.progress_bars import tqdm
from lla.unfinished import check_checkpoint, fingerprint

Scalar = Callable[[Problem], float]


def loss_plane(
    problem: Problem,
    axes: Axes = "random",
    *,
    normalization: AnyNormalization = "auto",
    steps: int = 40,
    distance: float = 1.0,
    coordinates: tuple[Sequence[float], ...] | None = None,
    seed: int = 0,
    freeze: dirs.Freeze = None,
    recalibrate: Any = None,
    scalars: Mapping[str, Scalar] | None = None,
    route: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    part: tuple[int, int] | None = None,
    progress: bool = False,
) -> Plane:
    """The loss around the weights, on the plane of two directions or the line of one.

    The points are theta + a d_0 + b d_1 with coefficients (i - steps / 2) / steps * distance,
    computed from i, never accumulated. The value at the centre is `problem.loss()`, bit for bit.

    Args:
        problem: whose loss, in its mode.
        axes: "random", or `RandomAxes` of another distribution or number; "hessian", eigenvectors
            of the largest eigenvalues, or `HessianAxes` of others; `AdamAxes`, the moments of an
            optimiser (all three of `lla.landscape`); or one or two flat vectors [P], or other
            models, towards which the axes point (the other model is then at coefficient 1: give
            distance=2). On the way to a model the buffers, such as BatchNorm's statistics, go
            along, b_0 + sum_k c_k (b_k - b_0), so that the end is the other model. They stay along
            vectors, and with a normalization, since a scaled direction does not end at a model.
        normalization: "weight", "filter", "layer", "model" or None, see `lla.landscape.normalize`,
            or "output", see `lla.landscape.normalize_output`; or a `lla.landscape.Normalization`,
            which also says the order of the norm. "auto" is "output" for random and Hessian axes,
            because no plane explodes under it (results/normalization.md), and None for others.
        steps: even; the grid has steps + 1 points along an axis.
        distance: from the first coefficient to the last.
        coordinates: the coefficients along each axis, in place of steps and distance.
        seed: of the random axes, or of the Lanczos start vector.
        freeze: patterns of names of parameters that do not move, or a range of their positions.
        recalibrate: True, or batches, from which BatchNorm's statistics are estimated anew at
            every point (the centre too). For eval mode.
        scalars: name -> function of the problem at a point, for other numbers than the loss:
            `accuracy`, `top_eigenvalue` and `negative_ratio` (r_e) of `lla.landscape`, or your own.
            The value is NaN where the function raises a NonFiniteError, or another error of
            `lla.landscape.point_errors` where the loss is not finite either.
        route: how points are evaluated, see `lla.landscape.evaluate`; None measures the routes.
        checkpoint: file in which values are kept as they come; an interrupted plane goes on from
            it.
        part: (k, n) evaluates every n-th point from the k-th on, for n processes; `join` them.
        progress: show a progress bar.

    After Ctrl-C the values that are finished are in the checkpoint; without one, nothing is kept.

    The loss is NaN at a point where an operation raises a LinAlgError, a ValueError or an
    ArithmeticError, as a Cholesky factorisation of a matrix that is not positive definite does.

    Raises:
        InputError: no problem is given; an argument out of range; directions that are zero,
            parallel or of another model; a model with other buffers; a Hessian that is zero; Adam's
            axes without a trained optimiser of this model; a checkpoint of another plane, or in a
            folder that does not exist.
        WriteError: the checkpoint cannot be written.
        NonFiniteError: the loss at the centre is not finite.
        Exception: what an operation raises at the centre.

    Warns:
        UserWarning: recalibrate without BatchNorm; it goes on with the mode as it is.

    >>> model = torch.nn.Linear(2, 3)
    >>> problem = Problem(model, (torch.ones(4, 2), torch.zeros(4, dtype=torch.long)))
    >>> plane = loss_plane(problem, steps=4)
    >>> plane.loss.shape, bool(plane.loss[2, 2] == problem.loss())
    ((5, 5), True)
    """
    check_is_problem(problem, "lla.loss_plane(lla.Problem(model, batches))")
    # checked before the directions are computed
    seed = seed_number(seed)
    check_route(route)
    if coordinates is None:
        grid(steps, distance)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        check_checkpoint(path, problem.ranks)
    axes = plane_axes.chosen_axes(axes)
    scaling = plane_axes.chosen_normalization(axes, normalization)
    update = axes.update if isinstance(axes, AdamAxes) else "add"
    calibration = _calibration(problem, recalibrate)
    rows = plane_axes.plane_directions(problem, axes, scaling, seed=seed, freeze=freeze)
    dimensions = 2 if update == "adameq" else len(rows)
    along = _coordinates(coordinates, dimensions, steps, distance, update)
    _check_range(along, problem.dtype)
    theta = problem.theta()
    buffers = MovingBuffers()
    if not isinstance(axes, str | RandomAxes | HessianAxes | AdamAxes) and scaling.method is None:
        buffers = towards_models(problem, axes)
    here = problem
    if calibration is not None:
        here = problem.at(theta, recalibrated(problem, theta, *calibration))
    center = here.loss().item()
    mesh = np.stack(np.meshgrid(*along, indexing="ij"), -1).reshape(-1, dimensions)
    coefficients = (mesh[:, :1] / np.sqrt(mesh[:, 1:])) if update == "adameq" else mesh
    directions = Directions(theta, rows, buffers)
    job = _Job(problem, directions, coefficients, center, calibration, scalars or {})
    dtype = np.float32 if problem.dtype == torch.float32 else np.float64
    key = job.fingerprint() if path or part else ""
    values = PlaneValues(len(mesh), len(job.scalars), dtype, path, part, key, problem.ranks)
    job.run(values, route, progress)
    shape = tuple(len(c) for c in along)
    return Plane(
        loss=values.loss.reshape(shape),
        a=along[0],
        b=along[1] if dimensions == 2 else np.zeros(0),
        evaluated=values.done.reshape(shape),
        scalars=values.scalars.reshape(-1, *shape),
        names=tuple(scalars or ()),
        center=center,
        classes=problem.classes,
        axes=_NAMES.get(type(axes), "given"),
        distribution=axes.distribution if isinstance(axes, RandomAxes) else None,
        normalization=scaling.method,
        order=scaling.order if scaling.method in ("filter", "layer", "model") else None,
        signed=scaling.signed,
        update=update,
        mode=problem.mode,
        batchnorm=_batchnorm(problem, calibration, buffers),
        frozen=dirs.frozen(problem.space, freeze),
        seed=seed,
        norms=tuple(dirs.inner(row, row) ** 0.5 for row in rows),
        route=values.route,
        key=key if part else None,
        weights_hash=vector_hash(theta),
        direction_hashes=tuple(vector_hash(row) for row in rows),
        about=problem.about,
    )


_NAMES: dict[type, str] = {RandomAxes: "random", HessianAxes: "hessian", AdamAxes: "adam"}


def loss_planes(
    problem: Problem, count: int, *, axes: Axes = "random", seed: int = 0, **options: Any
) -> list[Plane]:
    """Several random planes, drawn from the seeds seed, ..., seed + count - 1.

    What a plane shows depends on the directions drawn. Several planes tell how much. After Ctrl-C
    the values that are finished are in the checkpoints, one a plane; without, nothing is kept.

    Args:
        problem: whose loss.
        count: how many planes.
        axes: random ones, see `loss_plane`.
        seed: of the first.
        **options: of `loss_plane`; a checkpoint gets the plane's seed before its suffix.

    Raises:
        InputError: see `loss_plane`; count below 1.
    """
    count, seed = number_of_draws("count", count), seed_number(seed)
    planes: list[Plane] = []
    checkpoint = options.pop("checkpoint", None)
    for i in range(seed, seed + count):
        if planes:
            options.setdefault("route", planes[0].route)  # measured once
        file = None if checkpoint is None else Path(checkpoint)
        file = file and file.with_name(f"{file.stem}-{i}{file.suffix}")
        planes.append(loss_plane(problem, axes, seed=i, checkpoint=file, **options))
    return planes


def _calibration(problem: Problem, recalibrate: Any) -> Calibration | None:
    """The batches from which BatchNorm is estimated; None if there is nothing to estimate."""
    if recalibrate is None or recalibrate is False:
        return None
    if problem.mode == "train":
        raise InputError(
            "in train mode BatchNorm takes the batch's statistics: recalibrate in eval"
        )
    if not statistics(problem.model):
        warnings.warn(
            "recalibrate: the model has no BatchNorm with stored statistics, so this is plain "
            "eval mode",
            stacklevel=3,
        )
        return None
    return Calibration.of(problem, recalibrate)


def _batchnorm(problem: Problem, calibration: Calibration | None, buffers: MovingBuffers) -> str:
    """What `Plane.batchnorm` says."""
    if calibration is not None:
        return "recalibrated"
    found = kind(problem)
    moved = any(name.endswith(("running_mean", "running_var")) for name in buffers.start)
    return "interpolated" if found == "stored" and moved else found


def _coordinates(
    given: tuple[Sequence[float], ...] | None,
    dimensions: int,
    steps: int,
    distance: float,
    update: str,
) -> tuple[np.ndarray, ...]:
    """The coefficients along each axis."""
    if given is None:
        along = [grid(steps, distance)] * dimensions
        if update == "adameq":
            along = [2 * along[0], 2 * (np.arange(steps + 1) + 1) / (steps + 1)]
    else:
        try:
            along = [np.asarray(values, dtype=np.float64) for values in given]
        except (TypeError, ValueError) as error:
            raise InputError(
                f"coordinates is {type(given).__name__}: give a list of numbers along each axis"
            ) from error
    if len(along) != dimensions:
        raise InputError(f"coordinates for {len(along)} axes are given, the plane has {dimensions}")
    for values in along:
        if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
            raise InputError("coordinates are empty or not finite: give numbers along each axis")
    if update == "adameq" and not (along[1] > 0).all():
        raise InputError("the second coordinate of adameq is under a root: give positive numbers")
    return tuple(along)


def _check_range(along: Sequence[np.ndarray], dtype: torch.dtype) -> None:
    """Check that the problem's type can hold the coefficients."""
    largest, most = max(float(np.abs(values).max()) for values in along), torch.finfo(dtype).max
    if largest > most:
        raise InputError(
            f"the coordinates reach {largest:.3g}, beyond {most:.3g}, the largest number of "
            f"{str(dtype).removeprefix('torch.')}: take a smaller distance"
        )


@dataclass(frozen=True)
class _Job:
    """The points and numbers that have to be evaluated."""

    problem: Problem
    directions: Directions
    coefficients: np.ndarray  # [N, K]
    center: float
    calibration: Calibration | None
    scalars: Mapping[str, Scalar]

    def fingerprint(self) -> str:
        """Hash of what determines the values, with the first batch for all of the data."""
        batch = next(iter(self.problem.own_batches))
        sizes = tuple(self.problem.of_all_batches(self.problem.batch_sizes))
        changes = [sorted(change.items()) for change in self.directions.buffers.changes]
        center = f"{self.center:.6g}"  # several processes round it in another way
        facts = (center, self.problem.mode, self.problem.seed, sizes,
                 self.calibration is not None, tuple(self.scalars))  # fmt: skip
        own = fingerprint(
            self.problem.state(), self.directions.rows, batch.x, batch.y, changes,
            torch.tensor(self.coefficients), repr(facts),
        )  # fmt: skip
        return self.problem.ranks.of(0, own)  # which has the first batch

    def run(self, values: PlaneValues, route: str | None, progress: bool) -> None:
        """Evaluate all points of the part that have no value yet."""
        try:
            self._run(values, route, progress)
        finally:
            values.write()  # also those of an interrupted plane

    def _run(self, values: PlaneValues, route: str | None, progress: bool) -> None:
        at_center = values.mine & (np.abs(self.coefficients).max(1) == 0)
        todo = np.flatnonzero(values.mine & ~values.done & ~at_center)
        coefficients = torch.from_numpy(self.coefficients[todo])
        total, before = int(values.mine.sum()), int(values.done.sum())
        look: Any = {"desc": "plane", "unit": "point", "disable": not progress}
        with tqdm(total=total, initial=before, **look) as bar:
            for i in np.flatnonzero(at_center & ~values.done):
                scalars = self._scalars([int(i)], [self.center])
                values.put([int(i)], [self.center], scalars, route or "loop")
                bar.update(1)
            points = self.problem, self.directions, coefficients
            evaluated = losses(*points, route=route, calibration=self.calibration)
            for places, found_here, used in evaluated:
                found = found_here.cpu().numpy()
                # scalars may take long, so the values of each point are kept at once
                size = 1 if self.scalars else len(found)
                for begin in range(0, len(found), size):
                    some = slice(begin, begin + size)
                    indices = todo[places][some]
                    values.put(indices, found[some], self._scalars(indices, found[some]), used)
                    bar.update(len(indices))

    def _scalars(
        self, indices: Sequence[int] | np.ndarray, found_losses: Sequence[float] | np.ndarray
    ) -> np.ndarray:
        """The scalars [S, n] at some points, where these losses have been found."""
        found = np.full((len(self.scalars), len(indices)), np.nan)
        for column, i in enumerate(indices if self.scalars else ()):
            finite = bool(np.isfinite(found_losses[column]))
            coefficients = torch.from_numpy(self.coefficients[i])
            theta = self.directions.point(coefficients)
            given = self.problem, self.directions, coefficients, theta, self.calibration
            try:
                there = self.problem.at(theta, point_buffers(*given))
            except POINT_ERRORS as error:
                if finite or not of_one_point(error):
                    raise
                continue
            for row, function in enumerate(self.scalars.values()):
                try:
                    found[row, column] = function(there)
                except NonFiniteError:  # as where a plane explodes; other points have a value
                    pass
                except POINT_ERRORS as error:
                    if finite or not of_one_point(error):
                        raise
        return found
