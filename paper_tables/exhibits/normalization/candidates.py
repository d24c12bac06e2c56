"""Candidates for a normalization under which no plane explodes: what was tried."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lla import Problem, landscape
from lla.landscape.batchnorm import recalibrated
from paper_tables.paper.explosion import RECOMMENDED

STEPS, POINTS = (
    40,
    5,
)  # steps of the paper's grid, and how many of its points along an axis are computed

Scale = Callable[[Problem, Tensor], Tensor]  # a raw direction [P] -> normalised [P]


@dataclass(frozen=True)
class Candidate:
    """One way to scale a direction, and to step along it."""

    words: str
    scale: Scale
    sphere: bool = False  # every filter keeps its norm
    recalibrate: bool = False  # BatchNorm's statistics are estimated anew at every point


def _by(method: str | None) -> Scale:
    def scale(problem: Problem, direction: Tensor) -> Tensor:
        return landscape.normalize(direction, problem.theta(), problem.space, method)  # type: ignore[arg-type]

    return scale


def _floored(problem: Problem, direction: Tensor) -> Tensor:
    """Filter normalization; the norm in a filter counts as at least its share of the whole."""
    theta, scaled = problem.theta(), torch.empty_like(direction)
    norm = torch.linalg.vector_norm(direction)
    for _, shape, place in problem.space:
        rows = (shape[0], -1) if len(shape) >= 2 else (1, -1)
        part, weights = direction[place].view(rows), theta[place].view(rows)
        share = norm * math.sqrt(part.shape[1] / problem.space.size)
        norms = torch.linalg.vector_norm(part, dim=1, keepdim=True).clamp(min=float(share))
        scaled[place] = (
            part * torch.linalg.vector_norm(weights, dim=1, keepdim=True) / norms
        ).view(-1)
    return scaled


def _layer_output(problem: Problem, direction: Tensor) -> Tensor:
    """Every tensor changes its layer's output by the same share; all together by 1."""
    scaled, changes = torch.zeros_like(direction), landscape.layer_changes(problem, direction)
    for name, _, place in problem.space:
        if 0 < changes[name] < math.inf:
            scaled[place] = direction[place] / (changes[name] * math.sqrt(len(problem.space.names)))
    return scaled


def _whole_output(problem: Problem, direction: Tensor) -> Tensor:
    """Filter normalization, then the network's output changes by its own norm."""
    scaled = _by("filter")(problem, direction)
    return scaled / landscape.output_change(problem, scaled)


CANDIDATES: dict[str, Candidate] = {
    "none": Candidate("the direction as it is drawn", _by(None)),
    "weight": Candidate("times the weights, elementwise", _by("weight")),
    "layer": Candidate("every tensor gets the norm of its weights", _by("layer")),
    "filter": Candidate(
        "every filter gets the norm of its weights (Li et al., 2018)", _by("filter")
    ),
    "filter, recalibrated": Candidate(
        "filter; BatchNorm's statistics estimated anew at every point from the batch itself",
        _by("filter"),
        recalibrate=True,
    ),
    "filter, floored": Candidate(
        "filter; the direction's norm in a filter counts as at least its share of the whole, so "
        "that filters in which it is almost zero stay so",
        _floored,
    ),
    "filter, on spheres": Candidate(
        "filter; the point is brought back to the norm of each filter", _by("filter"), sphere=True
    ),
    "layer output": Candidate(
        "every tensor changes the output of its layer by the same share, all together by 100 "
        "percent",
        _layer_output,
    ),
    "network output": Candidate(
        "filter, then the whole so that the network's output changes by 100 percent", _whole_output
    ),
    RECOMMENDED: Candidate(
        "filter, then the whole divided by the larger of what it changes the outputs of all layers "
        "by and half of what it changes the network's output by",
        landscape.normalize_output,
    ),
}  # fmt: skip


def points(
    problem: Problem, candidate: Candidate, rows: Tensor, coefficients: Tensor
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """The weights [P] and the buffers at the points of a plane.

    Args:
        problem: at whose weights the plane is centred.
        candidate: how steps are made.
        rows: normalised directions [2, P].
        coefficients: [n, 2].
    """
    theta = problem.theta()
    for a, b in coefficients.tolist():
        moved = theta + a * rows[0] + b * rows[1]
        if candidate.sphere:
            moved = landscape.normalize(moved, theta, problem.space, "filter")
        state = problem.state()
        if candidate.recalibrate:
            state |= recalibrated(problem, moved, problem.batches)
        yield moved, state


@dataclass(frozen=True)
class CandidatePlane:
    """What a plane of a candidate shows."""

    losses: np.ndarray  # [POINTS, POINTS] float64
    center: float
    ratio: float  # largest finite loss / max(loss at the centre, ln C)
    nonfinite: int  # points
    changes: np.ndarray  # relative change of the output at the points of the edge


def candidate_plane(problem: Problem, candidate: str, raw: Tensor) -> CandidatePlane:
    """The loss and the change of the output on a plane of a candidate.

    Args:
        problem: at whose weights the plane is centred.
        candidate: one of `CANDIDATES`.
        raw: two directions [2, P] before normalization.
    """
    chosen = CANDIDATES[candidate]
    rows = torch.stack([chosen.scale(problem, direction) for direction in raw])
    line = torch.from_numpy(landscape.grid(STEPS)[landscape.nested(POINTS, STEPS)])
    coefficients = torch.cartesian_prod(line, line)
    edge = (coefficients.abs() == 0.5).any(1).numpy()
    ((theta, state),) = points(problem, chosen, rows, torch.zeros_like(coefficients[:1]))
    start, targets = _outputs(problem, theta, state)
    center = float(F.cross_entropy(start, targets))
    losses, changes = [], []
    for moved, state in points(problem, chosen, rows, coefficients):
        output, _ = _outputs(problem, moved, state)
        losses.append(float(F.cross_entropy(output, targets)))
        changes.append(float((output.double() - start.double()).norm() / start.double().norm()))
    loss, change = np.array(losses), np.array(changes)
    found = landscape.explosion(loss, center, start.shape[1])
    return CandidatePlane(
        losses=loss.reshape(POINTS, POINTS),
        center=center,
        ratio=found.ratio,
        nonfinite=found.nonfinite,
        changes=change[edge],
    )


def _outputs(problem: Problem, theta: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    outputs, targets = zip(*problem.outputs(theta, state), strict=True)
    return torch.cat(outputs), torch.cat(targets)
