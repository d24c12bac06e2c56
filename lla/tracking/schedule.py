"""When a measurement is made in a training: at whole multiples, within a share of the time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Schedule:
    """The rule of `lla.Tracker`, from steps, epochs and seconds alone.

    A measurement is due at every multiple of `every`. It is made as soon as

        spent + cost <= share * (elapsed + cost)

    with the seconds spent on measurements so far, those elapsed since the first call, and the
    cost of the last measurement, so that the share holds when it is finished. The first one is made
    when it is due, because its cost is not known. One that is due is also made once `most_epochs`
    epochs have passed since the last measurement, or since the first call. Those that are put off
    until the next multiple are one.

    >>> rule = Schedule(every=10, share=0.1, most_epochs=5)
    >>> rule.wants(9, None, now=0.0), rule.wants(10, None, now=1.0)
    (False, True)
    >>> rule.add(10, None, seconds=2.0, now=3.0)
    >>> rule.wants(20, None, now=5.0), rule.wants(27, None, now=38.0)  # 2 + 2 <= 0.1 (38 + 2)
    (False, True)
    """

    every: int  # steps
    share: float  # of the seconds since the first call
    most_epochs: float
    spent: float = 0.0  # seconds, on measurements
    _cost: float | None = None  # seconds, of the last measurement
    _start: float | None = None  # of the clock, in seconds
    _now: float = 0.0
    _done: int = 0  # the step up to which nothing is due
    _epoch: float | None = None  # of the last measurement

    @property
    def share_spent(self) -> float:
        """Seconds spent, as a share of those from the first call to the last."""
        elapsed = 0.0 if self._start is None else self._now - self._start
        return self.spent / elapsed if elapsed > 0 else 0.0

    def wants(self, step: int, epoch: float | None, now: float) -> bool:
        """Whether a measurement is to be made now.

        Args:
            step: of the training; it never falls.
            epoch: of the training, if it is known.
            now: of a clock, in seconds.
        """
        if self._start is None:
            self._start, self._done = now, step - 1
        if self._epoch is None:
            self._epoch = epoch
        self._now = now
        if step // self.every <= self._done // self.every:
            return False
        return self._affordable(now - self._start) or self._overdue(epoch)

    def add(
        self, step: int, epoch: float | None, seconds: float, now: float, known: bool = True
    ) -> None:
        """Count a measurement.

        Args:
            step: at which it was made.
            epoch: at which it was made.
            seconds: that it took.
            now: of the clock, after it.
            known: whether the next one is expected to take as long; one that failed is not.
        """
        if self._start is None:
            self._start = now - seconds
        self.spent += seconds
        if known or self._cost is None:
            self._cost = seconds
        self._now, self._done, self._epoch = now, step, epoch

    def _affordable(self, elapsed: float) -> bool:
        if self._cost is None:
            return True
        return self.spent + self._cost <= self.share * (elapsed + self._cost)

    def _overdue(self, epoch: float | None) -> bool:
        if epoch is None or self._epoch is None:
            return False
        return epoch - self._epoch >= self.most_epochs
