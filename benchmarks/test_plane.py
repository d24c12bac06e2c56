"""The cost of a point of a loss plane, compared with a loop that sets weights and calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lla
from benchmarks.problems import Pairs, network, one_pass
from benchmarks.timing import Ratio, in_turn, repeated
from lla.landscape import grid, random_directions


@dataclass(frozen=True)
class PlaneCase:
    """A network and its batch."""

    name: str
    classes: int
    shape: tuple[int, ...]
    batch: int
    rows: int  # of the 41 that are timed

    def __str__(self) -> str:
        return f"{self.name} {self.batch}"

    def make(self) -> tuple[torch.nn.Module, Pairs]:
        """The network in eval mode, and its batch."""
        return network(self.name, self.shape, self.batch, classes=self.classes)


_QUICK = [
    PlaneCase("lenet", 10, (1, 32, 32), 512, rows=4),
    PlaneCase("resnet18", 1000, (3, 64, 64), 16, rows=2),
]
CASES = {
    "tiny": [PlaneCase("lenet", 10, (1, 32, 32), 8, rows=1)],
    "quick": _QUICK,
    "paper": _QUICK,
}
PASSES = 10  # of the calibration, for the 41 points of a line


def plain_loop(
    model: torch.nn.Module, pairs: Pairs, axes: torch.Tensor, points: np.ndarray
) -> np.ndarray:
    """The losses in the obvious way: set the weights, call the model."""
    ((x, y),) = pairs
    parameters = list(model.parameters())
    theta = torch.nn.utils.parameters_to_vector(parameters).detach().clone()
    losses = []
    with torch.no_grad():
        for a, b in points:
            moved = theta + a * axes[0] + b * axes[1]
            torch.nn.utils.vector_to_parameters(moved, parameters)
            losses.append(F.cross_entropy(model(x), y).item())
        torch.nn.utils.vector_to_parameters(theta, parameters)
    return np.array(losses)


@pytest.mark.usefixtures("environment")
def test_plane_against_a_plain_loop(
    case: PlaneCase, benchmark: Any, request: pytest.FixtureRequest
) -> None:
    """Times a plane by its chosen route and the same points by the plain loop, in turn."""
    model, pairs = case.make()
    problem = lla.Problem(model, pairs[0])
    axes = 0.01 * random_directions(problem.theta())
    coefficients = grid()
    mesh = np.stack(np.meshgrid(coefficients, coefficients, indexing="ij"), -1).reshape(-1, 2)

    def plane(rows: int, route: str | None = None) -> lla.Plane:
        along = (coefficients[:rows].tolist(), coefficients.tolist())
        return lla.loss_plane(problem, axes, coordinates=along, normalization=None, route=route)

    route = plane(4).route  # 164 points, enough for the routes to be measured
    # a few rows, so that the extra loss at the centre is a small share of a plane
    whole = request.config.getoption("--whole-plane")  # its time includes the choice of a route
    rows = len(coefficients) if whole else case.rows
    points = mesh[: len(coefficients) * rows]
    both = [
        lambda: plane(rows, None if whole else route),
        lambda: plain_loop(model, pairs, axes, points),
    ]
    ours, loop = np.median(in_turn(both, *((1, 0) if whole else (5, 1))), axis=0)
    ratio = float(loop / ours)
    benchmark.extra_info.update(
        route=route,
        points=len(points),
        loop_ms_a_point=float(loop / len(points) * 1e3),
        plane_ms_a_point=float(ours / len(points) * 1e3),
        speedup=ratio,
    )
    benchmark.pedantic(plane, args=(case.rows, route), rounds=2)


def test_line_in_passes(case: PlaneCase, benchmark: Any, track: Any) -> None:
    """A line of 41 points against forward and backward passes."""
    model, pairs = case.make()
    problem, step = lla.Problem(model, pairs[0]), one_pass(model, pairs)
    axes, along = 0.01 * random_directions(problem.theta()), ([0.0], grid().tolist())

    def line(route: str | None) -> lla.Plane:
        return lla.loss_plane(problem, axes, coordinates=along, normalization=None, route=route)

    route = line(None).route
    times = in_turn([lambda: line(route), repeated(step, PASSES)], rounds=3, warmup=1).T
    ratio = Ratio.of(times[0], times[1] / PASSES)
    track("line of 41 points", case, ratio)
    benchmark.extra_info.update(route=route)
    benchmark.pedantic(line, args=(route,), rounds=1)
