import functools

import pytest

from lla.tracking import measurement, tracker


class Clock:
    """Seconds that pass only where a test says so: `cost` in each measurement."""

    def __init__(self, monkeypatch):
        self.now, self.cost = 50.0, 0.0
        real = measurement.criteria

        @functools.wraps(real)
        def slow(*given, **options):
            self.now += self.cost
            return real(*given, **options)

        monkeypatch.setattr(measurement, "criteria", slow)
        for module in (measurement, tracker):
            monkeypatch.setattr(module, "time", self)

    def perf_counter(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """The clock of trackers."""
    return Clock(monkeypatch)
