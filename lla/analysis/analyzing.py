"""Measure a network from all sides: spectrum, eigenpairs, layers and landscape."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from lla.analysis.blocks import blocks_of
from lla.analysis.findings import findings_of
from lla.analysis.page import write_page
from lla.analysis.result import Analysis, other_mode
from lla.arguments import number_of_draws, number_of_steps, whole_number
from lla.errors import InputError
from lla.files import check_folder
from lla.hessian.criteria.criteria import Criteria, criteria
from lla.hessian.eigenpairs import top_eigenpairs
from lla.hessian.operator import HessianOperator
from lla.landscape.loss_plane import loss_plane
from lla.layers.flatness import flatness_of
from lla.layers.flatness_result import Flatness
from lla.problem import Loss, Mode, Precision, Problem

SAMPLES = 8  # products for the traces of the layers
MOST_CLASSES = 100  # for the exact flatness of all layers, which costs a backward pass a class
PAIRS = 3  # eigenvalues: the two largest and the smallest
_BY_MODE = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def analyze(
    model: nn.Module,
    batches: Any,
    out: str | os.PathLike[str] | None = None,
    *,
    loss: Loss | None = None,
    mode: Mode = "eval",
    probes: int | None = None,
    steps: int = 25,
    points: int = 11,
    seed: int = 0,
    weights: Sequence[float] | None = None,
    precision: Precision | None = None,
    progress: bool = False,
) -> Analysis:
    """Measure a network, say what the numbers mean, and write a page about it.

    The criteria with their spectrum are measured batch by batch, and again in the other mode where
    the network has BatchNorm or dropout. Of all batches together there are the largest and the
    smallest eigenvalues, the trace of each layer, the relative flatness where it is exact, and the
    loss on a plane of two random directions. From these follow the findings, each by a rule that
    stands in `lla.analysis.findings`.

    It is a first look: ResNet20 takes about a minute for each batch of 64 images on two CPU cores.
    Each finding names the call that measures more exactly.

    Args:
        model: any module.
        batches: see `lla.Problem`; four or more tell how far numbers differ between batches.
        out: the page to write, one HTML file that loads nothing else; None writes none.
        loss: see `lla.Problem`.
        mode: "eval" or "train".
        probes: random vectors for each batch. The default is one; it is two for a single batch,
            because a standard error takes two numbers.
        steps: Lanczos steps. K_H05 depends on them; compare equal steps only.
        points: of the plane along each axis, an odd number.
        seed: of all random vectors, and of dropout.
        weights: see `lla.Problem`.
        precision: see `lla.Problem`.
        progress: show progress bars.

    Returns:
        All results, and the findings.

    Raises:
        InputError: see `lla.criteria`; an argument out of range.
        NonFiniteError: a loss or a product is not finite.
        WriteError: the page cannot be written.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    >>> batches = [(torch.rand(16, 3), torch.arange(16) % 2) for _ in range(3)]
    >>> found = analyze(model, batches, steps=10, points=3)
    >>> [finding.topic for finding in found.findings][:4]
    ['Minimum or saddle', 'Spectrum', 'Batches', 'Landscape']
    """
    begin = time.monotonic()
    if probes is not None:
        number_of_draws("probes", probes)
    number_of_steps(steps)
    if whole_number("points", points, 3) % 2 == 0:
        raise InputError(f"points is {points}: give an odd number, so that one is at the weights")
    if out is not None:
        check_folder(Path(out).parent)
    shared = {"loss": loss, "seed": seed, "weights": weights, "precision": precision}
    problem = Problem(model, batches, mode=mode, **shared)  # type: ignore[arg-type]
    if probes is None:
        probes = 1 if len(problem.batches) > 1 else 2
    elif probes * len(problem.batches) < 2:
        raise InputError("probes is 1 for a single batch: a standard error takes two")
    how = {**shared, "probes": probes, "steps": min(steps, problem.space.size)}
    how["progress"] = progress
    measured = criteria(model, batches, mode, **how)  # type: ignore[arg-type]
    other, why_one_mode = _other_mode(model, batches, mode, how)
    operator = HessianOperator(problem)
    count = min(PAIRS, problem.space.size)
    flatness, why_no_flatness = _flatness(problem, progress)
    found = Analysis(
        criteria=measured,
        other=other,
        why_one_mode=why_one_mode,
        extremes=top_eigenpairs(operator, count, "BE", seed, progress=progress),
        gradient=float(problem.gradient().double().norm()),
        blocks=blocks_of(problem, operator, SAMPLES, seed),
        flatness=flatness,
        why_no_flatness=why_no_flatness,
        plane=loss_plane(problem, steps=points - 1, seed=seed, progress=progress),
        findings=(),
        mode=mode,
        about=problem.about,
        seconds=time.monotonic() - begin,
    )
    found = dataclasses.replace(found, findings=findings_of(found))
    if out is not None:
        write_page(found, out)
    return found


def _other_mode(
    model: nn.Module, batches: Any, mode: Mode, how: dict[str, Any]
) -> tuple[Criteria | None, str]:
    """The criteria in the other mode, or None and the reason; no reason if it changes nothing."""
    if not any(isinstance(module, _BY_MODE) for module in model.modules()):
        return None, ""
    try:
        return criteria(model, batches, other_mode(mode), **how), ""
    except InputError as error:
        return None, str(error)


def _flatness(problem: Problem, progress: bool) -> tuple[Flatness | None, str]:
    """The relative flatness of all layers where it is exact, or None and the reason."""
    if (problem.classes or 0) > MOST_CLASSES:
        return None, (
            f"it takes a backward pass for each of {problem.classes} classes; lla.flatness "
            "measures single layers"
        )
    try:
        return flatness_of(problem, method="jacobian", progress=progress), ""
    except InputError as error:
        return None, str(error)
