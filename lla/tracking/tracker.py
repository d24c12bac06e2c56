"""The criteria over a training, measured as it goes on and within a share of its time."""

from __future__ import annotations

import math
import os
import re
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn

from lla.arguments import positive_number, real_number, whole_number
from lla.errors import InputError
from lla.hessian.accuracy import StandardErrors, Target
from lla.plotting import entitled
from lla.shown import html_of
from lla.tracking.measurement import Measurement, Outcome
from lla.tracking.outputs import Outputs
from lla.tracking.plots import plot_criteria_over
from lla.tracking.processes import is_main
from lla.tracking.rows import CRITERIA, Row, frame_of_rows
from lla.tracking.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SYMBOLS = dict(zip(CRITERIA, ("r_e", "K_H1", "K_H05"), strict=True))


class Tracker:
    """Follows r_e, K_H1 and K_H05 of a model through a training.

    Call `step` after every step of the optimiser. Some of the calls measure, by this rule:

    - A measurement is due at every multiple of `every`.
    - It is made as soon as `spent + cost <= share * (elapsed + cost)`: the seconds spent on
      measurements, with this one, are at most this share of the seconds since the first call of
      `step`. The cost is taken to be that of the last measurement. As that of the first is not
      known, it is made when it is due.
    - Whatever it costs, a measurement that is due is made if `most_epochs` epochs have passed since
      the last one, or since the first call. For this, give `step` the epoch.

    Each measurement is one call of `lla.criteria` on the model as it is then, with the same probes
    and dropout masks. Training goes on to the same bits as without it: weights, buffers, `.grad`,
    training flags, the optimiser and all random states are left alone.

    A measurement that raises ends no training. Its row has no values; the column `note` has the
    reason, and there is one warning for each kind of reason.

    Where several processes train one model, the first one measures, and the others wait for it at
    their next exchange of gradients.

    Args:
        model: any module; the one that is trained, on any device.
        batches: see `lla.Problem`; they are moved to the model's device when they are read. They
            are the same at every measurement. A list is faster than a loader. Do not give the
            loader that training reads: reading it again may restart its workers.
        every: steps from one measurement to the next.
        share: of the time of the training that measurements may take, above 0 and at most 1.
        most_epochs: see above.
        csv: file for the rows; it is written anew, as a whole, after each measurement.
        writer: an object with `add_scalar(name, value, step)`, such as
            `torch.utils.tensorboard.SummaryWriter`; it gets `criteria/re` and so on.
        resume: go on with the rows of `csv`, if there are any. Rows of the step at which this
            training goes on, and of later ones, are replaced by its own.
        strict: raise what a measurement, a file or the writer raises.
        target_stderr: see `lla.criteria`; a number is for r_e and K_H1, so name "kh05" for K_H05.
            By default, 10 % over probes: the standard error is that of the measurement on these
            batches, and does not say how much other batches would differ.
        **options: of `lla.criteria`, such as `loss`, `mode`, `probes`, `steps`, `seed`.

    Attributes:
        model: the model.

    Raises:
        InputError: an argument cannot be used; the model and the batches do not fit together; the
            file `csv` exists, without `resume`.
        WriteError: `csv` cannot be written.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    >>> x, y = torch.rand(32, 2), torch.arange(32) % 3
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> tracker = Tracker(
    ...     model, (x, y), every=10, share=1.0, steps=20, target_stderr={"re": 0.1}
    ... )
    >>> for _ in range(20):
    ...     torch.nn.functional.cross_entropy(model(x), y).backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    ...     row = tracker.step()
    >>> [row.step for row in tracker.rows], tracker.to_frame().loc[20, "re"] > 0
    ([10, 20], np.True_)
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Any,
        *,
        every: int = 500,
        share: float = 0.05,
        most_epochs: float = 10.0,
        csv: str | os.PathLike[str] | None = None,
        writer: Any = None,
        resume: bool = False,
        strict: bool = False,
        target_stderr: StandardErrors | Target | None = Target(0.1, over="probes"),  # noqa: B008
        **options: Any,
    ) -> None:
        self.model = model
        self._schedule = Schedule(
            whole_number("every", every, 1),
            _share(share),
            positive_number("most_epochs", most_epochs),
        )
        self._outputs = Outputs(None if csv is None else Path(csv), writer, strict)
        self._outputs.check()
        self._rows: list[Row] = []
        self._step: int | None = None
        self._epoch: float | None = None
        self._told: set[str] = set()
        self._measurement = Measurement(model, batches, {"target_stderr": target_stderr, **options})
        if is_main():
            self._measurement.check()
            self._rows = self._outputs.open(resume)

    @property
    def rows(self) -> tuple[Row, ...]:
        """What was measured, one `Row` each, in the order of the steps."""
        return tuple(self._rows)

    @property
    def share_spent(self) -> float:
        """Seconds of measurements, as a share of those from the first to the last call."""
        return self._schedule.share_spent

    def step(self, step: int | None = None, epoch: float | None = None) -> Row | None:
        """Say that a step of the training is done, and measure if the rule says so.

        Args:
            step: number of steps so far; by default, the number of calls.
            epoch: that it belongs to, a number that may have a fraction.

        Returns:
            The row of the measurement; None if nothing was measured.

        Raises:
            InputError: the step or the epoch is no number, or the step falls; there are rows of
                an earlier run, and no step is given.
        """
        self._move(step, epoch)
        if not is_main():
            return None
        assert self._step is not None
        if not self._schedule.wants(self._step, self._epoch, time.perf_counter()):
            return None
        return self._measure()

    def measure(self) -> Row | None:
        """Measure now, whatever it costs, for example at the end of a training.

        The row is that of the last step; a row of this step is replaced.

        Returns:
            The row; None in a process that does not measure.
        """
        self._step = 0 if self._step is None else self._step
        return self._measure() if is_main() else None

    def to_frame(self) -> pd.DataFrame:
        """One line a measurement, by step; NaN or NA where there is no value."""
        return frame_of_rows(self._rows)

    def plot(self, ax: Axes | None = None, *, title: str | None = None) -> Figure:
        """Draw the criteria over the steps, with bars of two standard errors.

        Args:
            ax: axes to draw into; a new figure by default.
            title: above the picture; a new figure has the model's name by default.

        Raises:
            InputError: nothing was measured.
        """
        frame = self.to_frame()
        curves = {
            symbol: (frame[name].tolist(), frame[f"{name}_stderr"].tolist())
            for name, symbol in _SYMBOLS.items()
            if frame[name].notna().any()
        }
        if not curves:
            raise InputError("nothing was measured yet: train on, or call measure()")
        figure = plot_criteria_over(frame.index.tolist(), curves, ax=ax)
        return entitled(ax, figure, title, f"{type(self.model).__name__} in training")

    def __repr__(self) -> str:
        last = self._rows[-1] if self._rows else None
        where = "nothing measured yet" if last is None else f"{len(self._rows)} rows"
        text = f"Tracker of {type(self.model).__name__}: {where}"
        if last is None:
            return text
        values = {symbol: getattr(last, name) for name, symbol in _SYMBOLS.items()}
        shown = ", ".join(f"{s} {v:.4g}" for s, v in values.items() if v is not None)
        return (
            f"{text}, the last at step {last.step}: {shown or last.note}\n"
            f"{self.share_spent:.1%} of the time spent on measurements"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return html_of(self)

    def _move(self, step: int | None, epoch: float | None) -> None:
        """Take over the step and the epoch of the training."""
        if step is None:
            if self._rows and self._step is None:
                raise InputError(
                    f"there are rows up to step {self._rows[-1].step} of an earlier run: give "
                    "step(step=...) the number of steps so far"
                )
            step = 1 + (self._step or 0)
        number = whole_number("step", step, 0)
        if self._step is not None and number < self._step:
            raise InputError(
                f"the step is {number} after {self._step}: make a new Tracker for a new training"
            )
        if epoch is not None:
            self._epoch = real_number("epoch", epoch)
            if not math.isfinite(self._epoch):
                raise InputError(f"epoch is {epoch}: give a finite number")
        if self._step is None:
            self._rows = _before(number, self._rows)
        self._step = number

    def _measure(self) -> Row:
        """Measure, keep the row, and hand it on."""
        assert self._step is not None
        outcome = self._measurement.attempt()
        self._schedule.add(
            self._step, self._epoch, outcome.seconds, time.perf_counter(), outcome.error is None
        )
        row = _row_of(outcome, self._step, self._epoch)
        self._rows = [*_before(row.step, self._rows), row]
        if outcome.error is not None and self._outputs.strict:
            raise outcome.error
        failures = [f"step {row.step} was not measured, {row.note}"] if outcome.error else []
        failures += self._outputs.hand_on(self._rows)
        for text in failures:
            self._tell(text, UserWarning)
        for said in outcome.said:
            self._tell(str(said.message), said.category)
        return row

    def _tell(self, text: str, kind: type[Warning]) -> None:
        """Warn, once for texts that differ in numbers only; every row has its own in `note`."""
        without_numbers = re.sub(r"\d+", "", text)
        if without_numbers not in self._told:
            self._told.add(without_numbers)
            warnings.warn(text, kind, stacklevel=4)


def _share(share: float) -> float:
    number = positive_number("share", share)
    if number > 1:
        raise InputError(f"share is {share}: give a part of the time, above 0 and at most 1")
    return number


def _before(step: int, rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.step < step]


def _row_of(outcome: Outcome, step: int, epoch: float | None) -> Row:
    if outcome.found is None:
        return Row(step, epoch, seconds=outcome.seconds, note=outcome.note)
    return Row.of(outcome.found, step, epoch, outcome.seconds, outcome.note)
