"""Walks on a level set of the training loss, along which a regularizer falls."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from lla.arguments import positive_number, real_number, seed_number, whole_number
from lla.errors import InputError
from lla.level_sets.job import ALL_STEPS, Job, Pace
from lla.level_sets.level_path import LevelPath
from lla.level_sets.progress import Checkpoint
from lla.level_sets.regularizer import Function, Regularizer, check_problem
from lla.level_sets.regularizers import named
from lla.problem import Problem
from lla.unfinished import check_checkpoint

Given = str | Regularizer | Function


def walk(
    problem: Problem,
    level: float | Literal["present"] = "present",
    regularizer: Given | None = "l2",
    *,
    steps: int = 100,
    step: float = 1e-3,
    max_step: float = 0.015,
    momentum: float = 0.9,
    tol: float = 0.02,
    kkt_tol: float = 0.01,
    measured: Sequence[Given] = ("l2", "smooth_l1"),
    test: Any = None,
    keep_every: int = 1,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> LevelPath:
    """Walk on {theta: L(theta) = level} along directions in which a regularizer R falls.

    With the gradients g_L and g_R, tau = -(g_R - <g_R, g_L> g_L / ||g_L||^2) is the direction in
    the tangent space in which R falls fastest. A step goes along tau / ||tau|| + momentum v, where
    v is the direction of the step before, projected on the tangent space. Then theta goes back to
    the level by Newton's method on log L, along g_L: theta - L log(L / level) g_L / ||g_L||^2. (A
    small cross-entropy is close to an exponential along rays, so log L is what is nearly linear.)
    A step is accepted if |L / level - 1| <= tol and R is smaller than before. If not, half of it
    is tried, without momentum. ||tau|| / ||g_R||, the KKT residual, is 0 exactly where theta is a
    stationary point of L + lambda R for some lambda.

    (The goal, but not the method, is that of Tahir and Katz 2020, arXiv:2011.04189. The momentum is
    Polyak's, 1964; with 0 each step goes along tau.)

    Args:
        problem: network, loss and training data, in eval mode. It is computed in the problem's
            type; float64 is preferred.
        level: of the loss; "present" takes the loss at the problem's weights. Where these are not
            at the level, Newton's method on log L goes there first.
        regularizer: "l2", "smooth_l1", "jacobian", "kappa" or "trace", see
            `lla.level_sets.regularizers`; a function (problem, theta [P]) -> R that torch can
            differentiate; None explores freely, along a random direction that is projected anew
            on the tangent space of each point.
        steps: points after the first, at most.
        step: length of the first step, relative to the norm of the first point.
        max_step: of the longest.
        momentum: from 0 to less than 1.
        tol: of |L / level - 1| at every point. Corrections go on until it is 1e-9 (1e-4 in
            float32) if they can: near its end a walk gains less than what drifting in L costs.
        kkt_tol: the walk ends where the KKT residual is at most this.
        measured: other regularizers whose values are noted at each point. Of the trace, other
            random vectors are taken than for walking.
        test: batches of test data, for their loss and accuracy at each point.
        keep_every: every so many points theta is kept in the result; the first and the last are
            kept always.
        seed: of the random direction of a free exploration.
        checkpoint: file from which an interrupted walk is continued, to bitwise the same result
            on the CPU with the same number of threads, and a finished one with more steps.
        progress: show a bar.

    Returns:
        The points, and the numbers at each.

    Raises:
        InputError: a problem in train mode; a loss that is not positive; a start from which the
            level cannot be reached, or at which the regularizer has no gradient along the level
            set; an argument out of range; a checkpoint of another walk.
        NonFiniteError: loss or regularizer is NaN or infinite at the start.

    >>> import torch
    >>> model = torch.nn.Linear(2, 2)
    >>> x, y = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
    >>> path = walk(Problem(model, (x, y)), level=0.3, steps=3)
    >>> len(path), bool((path.regularizer[1:] < path.regularizer[:-1]).all())
    (4, True)
    """
    pace = _pace(steps, step, max_step, momentum, kkt_tol)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        check_checkpoint(path)
    tol = _below_one("tol", positive_number("tol", tol))
    keep_every, seed = whole_number("keep_every", keep_every, 1), seed_number(seed)
    job = _job(problem, level, regularizer, measured, test, (tol, keep_every, seed))
    file = Checkpoint(path, job.fingerprint(pace) if path else "")
    done = file.read(problem.device) or job.start(pace)
    if len(done.rows) > pace.steps + 1:
        raise InputError(
            f"{path} has {len(done.rows) - 1} steps already: ask for at least as many as that, not "
            f"{steps}, or give another checkpoint"
        )
    if done.stopped in ("", ALL_STEPS):
        try:
            job.run(done, file, pace, progress)
        finally:
            file.write(done)  # also an interrupted walk
    return job.result(done)


def _pace(steps: int, step: float, longest: float, momentum: float, kkt_tol: float) -> Pace:
    """How long and how fast the walk is, checked."""
    step, longest = positive_number("step", step), positive_number("max_step", longest)
    if step > longest:
        raise InputError(f"step is {step:g}, above max_step {longest:g}: take a shorter one")
    momentum = real_number("momentum", momentum)
    if not momentum >= 0:
        raise InputError(f"momentum is {momentum:g}: choose a number from 0 to less than 1")
    return Pace(
        whole_number("steps", steps, 1), step, longest, _below_one("momentum", momentum),
        positive_number("kkt_tol", kkt_tol),
    )  # fmt: skip


def _below_one(name: str, value: float) -> float:
    if value >= 1:
        raise InputError(f"{name} is {value:g}: choose a number below 1")
    return value


def _job(
    problem: Problem,
    level: float | str,
    regularizer: Given | None,
    measured: Sequence[Given],
    test: Any,
    numbers: tuple[float, int, int],
) -> Job:
    """What is computed at a point, checked; `numbers` are tol, keep_every and seed."""
    check_problem(problem, "walk")
    if isinstance(level, str) and level != "present":
        raise InputError(f"level is {level!r}: give a positive number, or 'present'")
    now = float(problem.loss())
    if not now > 0:
        raise InputError(
            f"the loss is {now:.4g}, and a walk takes its logarithm: give a loss that is positive"
        )
    if isinstance(measured, str) or not isinstance(measured, Sequence):
        raise InputError(f"measured is {measured!r}: give a list of regularizers")
    walked = None if regularizer is None else named(regularizer)
    # what is walked on is not computed twice, unless along other random vectors
    others = tuple(
        walked if walked is not None and each == regularizer and not walked.sampled
        else named(each, measured=True)
        for each in measured
    )  # fmt: skip
    names = [each.name for each in others]
    if len(set(names)) < len(names):
        raise InputError(f"measured has a regularizer twice ({', '.join(names)}): name each once")
    tol, keep_every, seed = numbers
    return Job(
        problem,
        now if isinstance(level, str) else positive_number("level", level),
        walked,
        tol,
        others,
        None if test is None else problem.over(test),
        keep_every,
        seed,
    )
