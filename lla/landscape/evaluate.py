"""The loss at many points theta + sum_k c_k d_k, by the fastest of several exact routes.

`loop` calls the model once for each point. `slices` does so with max pooling by slices, which is
bitwise the same and on CPU much faster (attention layers leave their fused kernels, so they round
differently). `stacked:k` also computes the first convolution of k points at once. `vmap:k` stacks
the weights of k points and calls the model once, which is faster if the launches of kernels take
most of the time, as on a GPU.

A point at which an operation raises, such as a Cholesky factorisation of a matrix that is not
positive definite there, is NaN: see `lla.landscape.point_errors`. At the centre the error
is raised.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import vmap

from lla.batches import Batch
from lla.errors import InputError, first_line, out_of_memory
from lla.free_memory import available_memory
from lla.landscape.batchnorm import Calibration, recalibrated
from lla.landscape.buffers import MovingBuffers
from lla.landscape.point_errors import POINT_ERRORS, of_one_point
from lla.landscape.pooling import SlicedMaxPooling
from lla.landscape.stacking import StackedConvolution
from lla.precision import ROUNDING
from lla.problem import Problem
from lla.process_wide import filtered_warnings

_TRIAL = 8  # points a route is measured on
_WORTH = 150  # with fewer points, measuring the routes costs more than it saves
_CLOSE = 1.5  # a route that is slower than the best one by this factor is not measured again
_CLEARLY = 0.95  # a route is faster only below this share of the best time
_PASS = 16  # points evaluated at a time, in one pass over a loader


@dataclass(frozen=True)
class Directions:
    """The points `theta + coefficients @ rows`, and the buffers that go along with them."""

    theta: Tensor  # [P]
    rows: Tensor  # [K, P]
    buffers: MovingBuffers = field(default_factory=MovingBuffers)

    def point(self, coefficients: Tensor) -> Tensor:
        """The weights [P] of one point, coefficients [K] in float64."""
        theta = self.theta.clone()
        for row, c in zip(self.rows, coefficients.tolist(), strict=True):
            theta.add_(row, alpha=c)
        return theta

    def points(self, coefficients: Tensor) -> Tensor:
        """The weights [n, P] of several points, coefficients [n, K]."""
        return torch.stack([self.point(row) for row in coefficients])


Route = Callable[[Tensor], Tensor]  # coefficients [n, K] float64 -> losses [n]


def losses(
    problem: Problem,
    directions: Directions,
    coefficients: Tensor,
    *,
    route: str | None = None,
    calibration: Calibration | None = None,
) -> Iterator[tuple[slice, Tensor, str]]:
    """Evaluate points, a few at a time.

    Args:
        problem: whose loss.
        directions: theta and the axes.
        coefficients: [n, K] float64.
        route: "loop", "slices", "stacked:k" or "vmap:k"; None measures them on some points and
            takes the fastest one that gives the values of "loop".
        calibration: batches from which BatchNorm's statistics are estimated at every point.

    Yields:
        Which points, their losses (in the problem's type, finite or not), and the route.

    Raises:
        InputError: an unknown route, one that is not possible with calibration or with buffers
            that move, or one under which the model has other losses: random numbers under vmap may
            depend on the memory layout.
    """
    if calibration is not None or directions.buffers:
        if route not in (None, "loop", "slices"):
            what = "recalibrate" if calibration is not None else "move buffers with the weights"
            raise InputError(f"route {route!r} cannot {what}: take route='loop'")
        route = route or "loop"
    measured = route is None and len(coefficients) >= _WORTH
    with problem.ranks.agreed():
        own = problem.own_part()
        if route is None:
            route = fastest_route(own, directions, coefficients) if measured else "loop"
        if not measured:
            _check_grouped(route, own, directions, coefficients)
    function = make_route(route, problem, directions, calibration)
    for start in range(0, len(coefficients), _PASS):
        part = slice(start, min(start + _PASS, len(coefficients)))
        yield part, function(coefficients[part]), route


def _check_grouped(
    route: str, problem: Problem, directions: Directions, coefficients: Tensor
) -> None:
    """Check that a route for several points at once gives the loss at the centre."""
    if route.startswith(tuple(_GROUPED)) and len(coefficients) > 0:
        center = torch.zeros_like(coefficients[:1])
        expected = make_route("loop", problem, directions)(center)
        try:
            found = make_route(route, problem, directions)(center)
        except (RuntimeError, NotImplementedError, TypeError) as error:
            if out_of_memory(error):
                raise
            reason = first_line(error)
            raise InputError(
                f"the model cannot be evaluated by the route {route!r} ({reason}): take "
                "route='loop'"
            ) from error
        if not same(found, expected):
            raise InputError(
                f"under {route} the model's loss at the centre is {found.item():g}, not "
                f"{expected.item():g}, perhaps for other dropout masks: take route='loop'"
            )


def check_route(name: str | None) -> None:
    """Check that a route is known, or None.

    Raises:
        InputError: it has another name, or its number of points is not 1 or more.
    """
    kind, _, size = name.partition(":") if isinstance(name, str) else ("", "", "")
    number = int(size) if size.isascii() and size.isdecimal() and len(size) < 10 else 0
    if name not in (None, "loop", "slices") and not (kind in _GROUPED and number > 0):
        raise InputError(
            f"route is {name!r}: choose 'loop', 'slices', 'stacked:4', 'vmap:8' or None"
        )


def make_route(
    name: str, problem: Problem, directions: Directions, calibration: Calibration | None = None
) -> Route:
    """The function that evaluates points by the named route."""
    check_route(name)
    kind, _, size = name.partition(":")
    if kind in _GROUPED:
        function = partial(_GROUPED[kind], problem, directions, size=int(size))
    else:
        sliced = name == "slices"
        function = partial(_one_by_one, problem, directions, calibration=calibration, sliced=sliced)

    def losses_at(coefficients: Tensor) -> Tensor:
        like = torch.empty(len(coefficients), dtype=problem.dtype, device=problem.device)
        return problem.pooled(lambda: function(coefficients), like)

    return losses_at


def point_buffers(
    problem: Problem,
    directions: Directions,
    coefficients: Tensor,
    theta: Tensor,
    calibration: Calibration | None,
) -> dict[str, Tensor]:
    """The buffers of one point with weights theta [P] that are not those at the centre."""
    moved = directions.buffers.at(coefficients)
    if calibration is None:
        return moved
    there = problem.at(theta, moved) if moved else problem
    return {**moved, **recalibrated(there, theta, *calibration)}


def _point_loss(
    problem: Problem, batch: Batch, coefficients: Tensor, theta: Tensor, state: dict[str, Tensor]
) -> Tensor:
    """The loss of one batch at weights [P], NaN if an operation raises and it is not the centre."""
    try:
        with problem.deterministic():
            value = problem.batch_loss(batch, state=state)(theta)
    except POINT_ERRORS as error:
        if not coefficients.any() or not of_one_point(error):
            raise
        return theta.new_full((), torch.nan)
    return value.to(problem.dtype)


@torch.no_grad()
def _one_by_one(
    problem: Problem,
    directions: Directions,
    coefficients: Tensor,
    calibration: Calibration | None,
    sliced: bool,
) -> Tensor:
    """The losses [batches, n], a call of the model for each point and batch."""
    state = problem.state()
    found = torch.empty(
        len(problem.own_batches), len(coefficients), dtype=problem.dtype, device=problem.device
    )
    with SlicedMaxPooling() if sliced else contextlib.nullcontext():
        if (
            calibration is not None or problem.own_batches.in_memory
        ):  # weights computed once a point
            for i, row in enumerate(coefficients):
                theta = directions.point(row)
                try:
                    moved = point_buffers(problem, directions, row, theta, calibration)
                except POINT_ERRORS as error:  # the network cannot be calibrated at this point
                    if not row.any() or not of_one_point(error):
                        raise
                    found[:, i] = torch.nan
                    continue
                here = {**state, **moved}
                for b, batch in enumerate(problem.own_batches):
                    found[b, i] = _point_loss(problem, batch, row, theta, here)
        else:  # each batch is loaded once for all these points
            for b, batch in enumerate(problem.own_batches):
                for i, row in enumerate(coefficients):
                    here = {**state, **directions.buffers.at(row)}
                    found[b, i] = _point_loss(problem, batch, row, directions.point(row), here)
    return found


@torch.no_grad()
def _together(problem: Problem, directions: Directions, coefficients: Tensor, size: int) -> Tensor:
    """The losses [batches, n], one call of the model for `size` points and each batch."""
    state = problem.state()
    found = []
    for batch in problem.own_batches:
        function = vmap(problem.batch_loss(batch, state=state), randomness="same")
        parts = []
        for rows in coefficients.split(size):
            thetas = directions.points(rows)
            try:
                with problem.deterministic():
                    part = function(thetas).to(problem.dtype)
            except POINT_ERRORS:  # which of the points it is turns out one by one
                pairs = zip(rows, thetas, strict=True)
                each = [_point_loss(problem, batch, row, theta, state) for row, theta in pairs]
                part = torch.stack(each)
            parts.append(part)
        found.append(torch.cat(parts))
    return torch.stack(found)


@torch.no_grad()
def _stacked(problem: Problem, directions: Directions, coefficients: Tensor, size: int) -> Tensor:
    """The losses [batches, n], the first convolution for `size` points at once."""
    state = problem.state()
    found = torch.empty(
        len(problem.own_batches), len(coefficients), dtype=problem.dtype, device=problem.device
    )
    with SlicedMaxPooling(), StackedConvolution() as stacking:
        for b, batch in enumerate(problem.own_batches):
            for start in range(0, len(coefficients), size):
                rows = coefficients[start : start + size]
                stacking.begin(directions.points(rows), batch.x)
                for i, row in enumerate(rows):
                    theta = stacking.at(i)
                    found[b, start + i] = _point_loss(problem, batch, row, theta, state)
    return found


_GROUPED = {"vmap": _together, "stacked": _stacked}


def fastest_route(
    problem: Problem, directions: Directions, coefficients: Tensor, points: int = _TRIAL
) -> str:
    """The name of the fastest route with right values, measured on points all over the plane.

    Args:
        problem: whose loss.
        directions: theta and the axes.
        coefficients: [n, K] float64, of which some are taken.
        points: how many; stacks of more than these are not tried on a CPU.
    """
    spread = torch.linspace(0, len(coefficients) - 1, points - 1).long()
    one = torch.zeros_like(coefficients[:1])
    coefficients = torch.cat([one, coefficients[spread]])
    loop = make_route("loop", problem, directions)
    with SlicedMaxPooling() as pooling:
        loop(one)  # the first call also sets up kernels
    best, expected = _timed(loop, coefficients)
    best = min(best, _timed(loop, coefficients)[0])
    route = "loop"
    for name in _candidates(problem, pooling.calls > 0, points):
        function = make_route(name, problem, directions)
        try:
            with filtered_warnings("error"):  # an operation without a batching rule: slow
                function(one)
                seconds, found = _timed(function, coefficients)
                if seconds < _CLOSE * best:  # a single measurement may be disturbed
                    seconds = min(seconds, _timed(function, coefficients)[0])
        except Exception:  # the model has just worked, so the route cannot evaluate it
            continue
        if seconds < _CLEARLY * best and same(found, expected):
            best, route = seconds, name
    return route


def _candidates(problem: Problem, pools: bool, points: int) -> Sequence[str]:
    cuda = problem.device.type == "cuda"
    names = ["slices"] if pools and not cuda else []
    grouped = ["vmap:8", "vmap:32"] if cuda or points >= 32 else ["vmap:8"]
    if not cuda and any(isinstance(module, nn.Conv2d) for module in problem.model.modules()):
        grouped.insert(0, "stacked:4")
    for name in grouped:
        weights = int(name.partition(":")[2]) * problem.space.size * problem.dtype.itemsize
        if 4 * weights <= available_memory(problem.device):
            names.append(name)
    return names


def _timed(function: Route, coefficients: Tensor) -> tuple[float, Tensor]:
    start = time.perf_counter()
    found = function(coefficients)
    found[-1].item()  # waits for the device
    return time.perf_counter() - start, found


def same(found: Tensor, expected: Tensor) -> bool:
    """Whether losses are equal except for rounding; infinite and NaN ones may be equal too."""
    return torch.allclose(found, expected, rtol=ROUNDING[expected.dtype], atol=0.0, equal_nan=True)
