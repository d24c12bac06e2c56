"""A walk on a level set, point by point; `lla.level_sets.walk` says how it goes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lla.errors import InputError
from lla.level_sets.level_path import COUNTS, LevelPath
from lla.level_sets.progress import COLUMNS, Checkpoint, Progress
from lla.level_sets.regularizer import Regularizer, check_at_start
from lla.level_sets.steps import OnLevel, corrected, projected, reached, steepest, unseen
from lla.probes import gaussian
from lla.problem import Problem
from lla.progress_bars import tqdm
from lla.unfinished import fingerprint

ALL_STEPS = "all steps were taken"
SMALL_KKT = "the KKT residual is small enough"
STUCK = "no step is accepted, however short"
FREE = "free exploration"
GROWTH, EASY = 1.3, 2  # a step grows if so many corrections led within the tolerance
LEAST = 1e-8  # length of a step, relative to the first point's norm, at which a walk ends
_ZERO = {torch.float32: 1e-5, torch.float64: 1e-10}  # of a KKT residual: rounding
_STREAM = 43  # of the random direction


@dataclass(frozen=True)
class Pace:
    """How long and how fast a walk is; the arguments of `walk`."""

    steps: int
    step: float
    longest: float
    momentum: float
    kkt_tol: float


@dataclass
class _Spent:
    """Gradients that were computed."""

    of_loss: int = 0
    of_regularizer: int = 0


@dataclass(frozen=True)
class _Next:
    """A point that may follow, with R and its gradient there."""

    point: OnLevel
    value: float
    drive: Tensor
    direction: Tensor  # of the step that led there


@dataclass(frozen=True)
class Job:
    """What is walked on and what is noted; the arguments of `walk`."""

    problem: Problem
    level: float
    regularizer: Regularizer | None
    tol: float
    measured: tuple[Regularizer, ...]
    test: Problem | None
    keep_every: int
    seed: int

    @property
    def walked(self) -> str:
        """The name of what is followed."""
        return FREE if self.regularizer is None else self.regularizer.name

    def fingerprint(self, pace: Pace) -> str:
        """Hash of what determines the points.

        The first batch, the loss and the values of regularizers at theta stand for all of the data
        and for the functions.
        """
        parts: list[Any] = [self.problem.state()]
        losses, theta = [], self.problem.theta()
        for each in (self.problem, self.test):
            if each is not None:
                batch = next(iter(each.batches))
                parts += [batch.x, batch.y, str(each.batch_sizes)]
                losses.append(float(each.loss()))
        named = [each for each in (self.regularizer, *self.measured) if each is not None]
        facts = (
            self.level, self.tol, self.walked, [each.name for each in self.measured],
            self.keep_every, self.seed, pace.step, pace.longest, pace.momentum, pace.kkt_tol,
            losses, [each.value(self.problem, theta) for each in named],
            [name for name, *_ in self.problem.space],
        )  # fmt: skip
        return fingerprint(*parts, repr(facts))

    def start(self, pace: Pace) -> Progress:
        """The first point: theta, brought to the level.

        Raises:
            InputError, NonFiniteError: see `walk`.
        """
        theta, spent = self.problem.theta(), _Spent()
        for each in (self.regularizer, *self.measured):
            if each is not None:
                check_at_start(each, self.problem, theta)
        point = reached(self.problem, theta, self.level, self.tol)
        spent.of_loss += point.tries
        value, drive = math.nan, torch.zeros_like(theta)
        direction = gaussian(len(theta), theta, self.seed, _STREAM)
        if self.regularizer is None:
            if not 0 < float(projected(direction, point.slope).norm()) < math.inf:
                raise InputError(
                    "the level set has no tangent direction at the start: the loss has no gradient "
                    "there, or there is one parameter; start elsewhere"
                )
        else:
            value, drive = self._driven(self.regularizer, point, spent)
            direction, kkt = steepest(point.slope, drive)
            if not kkt > _ZERO[self.problem.dtype]:
                raise InputError(
                    f"{self.walked} has no gradient along the level set at the start (KKT residual "
                    f"{kkt:.2g}), so there is no way to go: start elsewhere, or take another "
                    "regularizer"
                )
        norm = float(point.theta.norm()) or 1.0
        done = Progress(point.theta, point.slope, drive, direction, pace.step * norm)
        self._note(done, point, value, 0.0, spent)
        return done

    def run(self, done: Progress, file: Checkpoint, pace: Pace, progress: bool) -> None:
        """Walk until the steps are taken, the residual is small, or no step is accepted."""
        norm = float(done.points[0].norm()) or 1.0
        spent = _Spent(int(done.last("gradients")), int(done.last("regularizer_gradients")))
        eta, done.rejected_last, done.stopped = done.eta, 0, ""
        total, before = pace.steps, len(done.rows) - 1
        with tqdm(
            total=total, initial=before, unit="step", desc=self.walked, disable=not progress
        ) as bar:
            while len(done.rows) <= pace.steps:
                if done.last("kkt") <= pace.kkt_tol:
                    done.stopped = SMALL_KKT
                    return
                found = self._tried(done, eta, pace.momentum, spent)
                if found is None:
                    eta /= 2
                    done.rejected_last += 1
                    if eta < LEAST * norm:
                        done.stopped = STUCK
                        return
                    continue
                point = found.point
                done.theta, done.slope, done.drive = point.theta, point.slope, found.drive
                done.direction = found.direction
                self._note(done, point, found.value, eta, spent)
                if point.rough <= EASY:
                    eta = min(GROWTH * eta, pace.longest * norm)
                done.eta, done.rejected_last = eta, 0
                file.keep(done)
                bar.update()
                bar.set_postfix_str(f"R {found.value:.4g}, loss {point.loss:.4g}")
            done.stopped = ALL_STEPS

    def _tried(self, done: Progress, eta: float, momentum: float, spent: _Spent) -> _Next | None:
        """The next point with R and its gradient; None if the step is rejected."""
        direction = projected(done.direction, done.slope)
        if self.regularizer is not None:
            ahead, _ = steepest(done.slope, done.drive)
            share = 0.0 if done.rejected_last else momentum
            direction = ahead + share * direction
            direction = direction / direction.norm()
        goal = done.theta + eta * direction
        point, tries = corrected(self.problem, goal, done, self.level, self.tol)
        spent.of_loss += tries
        if point is None:
            return None
        if self.regularizer is None:
            return _Next(point, math.nan, done.drive, direction)
        value, drive = self._driven(self.regularizer, point, spent)
        finite = math.isfinite(value) and bool(drive.isfinite().all())
        falls = finite and value < done.last("regularizer")
        return _Next(point, value, drive, direction) if falls else None

    def _driven(
        self, regularizer: Regularizer, point: OnLevel, spent: _Spent
    ) -> tuple[float, Tensor]:
        """R and its gradient."""
        spent.of_regularizer += 1
        return regularizer.value_and_gradient(self.problem, point.theta)

    def _note(
        self, done: Progress, point: OnLevel, value: float, step: float, spent: _Spent
    ) -> None:
        """Add the numbers of a point, and the point where it is to be kept."""
        kkt = ratio = math.nan
        if self.regularizer is not None:
            kkt = steepest(point.slope, done.drive)[1]
            ratio = float(point.slope.norm() / done.drive.norm())
        test = (math.nan, math.nan) if self.test is None else unseen(self.test, point.theta)
        others = [
            value if other is self.regularizer else other.value(self.problem, point.theta)
            for other in self.measured
        ]  # fmt: skip
        if len(done.rows) % self.keep_every == 0:
            done.points.append(point.theta.cpu().clone())
            done.kept.append(len(done.rows))
        done.rows.append([
            point.loss, value, kkt, ratio, step, point.tries - 1, done.rejected_last,
            spent.of_loss, spent.of_regularizer, *test, *others,
        ])  # fmt: skip

    def result(self, done: Progress) -> LevelPath:
        """The path so far."""
        points, kept = done.all_points()
        numbers: dict[str, Any] = {
            name: done.column(name).astype(int if name in COUNTS else float) for name in COLUMNS
        }
        others = [row[len(COLUMNS) :] for row in done.rows]
        return LevelPath(
            points=points,
            kept=kept,
            **numbers,
            values=np.array(others, dtype=float).reshape(len(done.rows), len(self.measured)),
            names=tuple(other.name for other in self.measured),
            walked=self.walked,
            level=self.level,
            tol=self.tol,
            stopped=done.stopped,
            rejected_last=done.rejected_last,
            seed=self.seed,
            dtype=str(self.problem.dtype).removeprefix("torch."),
        )
