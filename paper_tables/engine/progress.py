"""How a session shows its progress: one bar at the foot of a terminal, or one line a cell."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

from tqdm import tqdm

from lla.errors import first_line

STEADY = 30.0  # seconds at the estimated speed that the speed so far is averaged with
TICK = 1.0  # seconds between two looks at the clock


@dataclass
class Step:
    """A cell, or a step that cells share, while it runs."""

    label: str
    seconds: float  # estimate; 0 for what is only looked up
    outcome: str = ""  # in words; set before it ends
    computed: bool = True  # whether its time says how fast this machine computes


class Progress:
    """Hears how a session goes on; shows nothing."""

    def plan(self, seconds: float) -> None:
        """The session is about to begin.

        Args:
            seconds: estimate for all of its steps.
        """

    @contextmanager
    def step(self, label: str, seconds: float) -> Iterator[Step]:
        """Show a step while it runs; the caller sets its outcome."""
        now = Step(label, seconds)
        self._begin(now)
        try:
            yield now
        except BaseException as error:
            self._end(now, f"failed: {first_line(error)}", failed=True)
            raise
        self._end(now, now.outcome, failed=False)

    def say(self, text: str) -> None:
        """Show a sentence between two steps."""

    def close(self) -> None:
        """Leave the terminal to others."""

    def _begin(self, step: Step) -> None:
        pass

    def _end(self, step: Step, outcome: str, failed: bool) -> None:
        pass


class Lines(Progress):
    """One line a step: what it is when it begins, and its outcome when it ends.

    Args:
        write: shows a text at once, without a line break of its own.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write

    def say(self, text: str) -> None:
        """Show a sentence between two steps."""
        self._write(text + "\n")

    def _begin(self, step: Step) -> None:
        about = f" (about {step.seconds:.0f} s) ..." if step.seconds else ""
        self._write(f"{step.label}{about} ")

    def _end(self, step: Step, outcome: str, failed: bool) -> None:
        self._write(outcome + "\n")


class Bar(Progress):
    """One bar with the step's name and the time that is left; of steps that fail, a line.

    Args:
        stream: the terminal.
        write: shows a text at once, without a line break of its own.
    """

    def __init__(self, stream: TextIO, write: Callable[[str], None]) -> None:
        self._stream, self._write = stream, write
        self._left = TimeLeft()
        self._label = ""
        self._bar: tqdm | None = None
        self._ended = threading.Event()
        self._ticking: threading.Thread | None = None

    def plan(self, seconds: float) -> None:
        """See `Progress.plan`."""
        self._left = TimeLeft(seconds)

    def say(self, text: str) -> None:
        """Show a sentence in place of the step's name."""
        self._label = text
        self._show()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is None or self._ticking is None:
            return
        self._ended.set()
        self._ticking.join()
        self._bar.close()
        self._bar = None

    def _begin(self, step: Step) -> None:
        self._left.begin(step.seconds)
        self._label = step.label
        if self._bar is None:
            self._open()
        self._show()

    def _end(self, step: Step, outcome: str, failed: bool) -> None:
        self._left.end(step.computed and not failed)
        if failed:
            with tqdm.external_write_mode(file=self._stream):
                self._write(f"{step.label} {outcome}\n")

    def _open(self) -> None:
        look = "|{bar:10}| {percentage:.0f} %, {desc}"
        options: dict[str, Any] = {"bar_format": look, "leave": False, "dynamic_ncols": True}
        self._bar = tqdm(desc=self._text(), total=1.0, file=self._stream, **options)
        self._ended.clear()
        self._ticking = threading.Thread(target=self._tick, daemon=True)
        self._ticking.start()

    def _tick(self) -> None:
        while not self._ended.wait(TICK):
            self._show()

    def _show(self) -> None:
        bar = self._bar
        if bar is not None:
            bar.n = self._left.share()
            bar.set_description_str(self._text())

    def _text(self) -> str:
        """The time that is left, and then the name, because a narrow terminal cuts the end."""
        return f"about {tqdm.format_interval(math.ceil(self._left.seconds()))} left: {self._label}"


@dataclass
class TimeLeft:
    """The time that a session still takes: the estimates, corrected by the speed so far."""

    total: float = 0.0  # seconds, estimate
    clock: Callable[[], float] = time.monotonic
    _over: float = field(default=0.0, init=False)  # estimates of the steps that have ended
    _now: float = field(default=0.0, init=False)  # estimate of the step that runs
    _begun: float = field(default=0.0, init=False)
    _estimated: float = field(default=STEADY, init=False)  # of the steps that were computed
    _took: float = field(default=STEADY, init=False)

    def begin(self, seconds: float) -> None:
        """A step of this estimate begins."""
        self._now, self._begun = seconds, self.clock()

    def end(self, computed: bool) -> None:
        """The step ends.

        Args:
            computed: its time counts for the speed; that of a result which is found does not.
        """
        if computed:
            self._estimated += self._now
            self._took += self.clock() - self._begun
        self._over += self._now
        self._now = 0.0

    def seconds(self) -> float:
        """The time that is left."""
        after = max(self.total - self._over - self._now, 0.0)
        return self._speed() * (after + self._now - self._passed())

    def share(self) -> float:
        """The part of the whole that is over, from 0 to 1."""
        done = self._over + self._passed()
        return min(done / self.total, 1.0) if self.total else 0.0

    def _speed(self) -> float:
        """Seconds that an estimated second takes."""
        return self._took / self._estimated

    def _passed(self) -> float:
        """The estimated seconds of the running step that are over, at most all of them."""
        if not self._now:
            return 0.0
        return min((self.clock() - self._begun) / self._speed(), self._now)
