"""Options and fixtures of the benchmark suites."""

from __future__ import annotations

import pytest
import torch

import lla


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options: without the tuned allocator, to show what it brings; planes as a whole."""
    parser.addoption("--untuned", action="store_true", help="do not tune the C library's allocator")
    parser.addoption("--whole-plane", action="store_true", help="time all 41 x 41 points, once")


@pytest.fixture(scope="session", autouse=True)
def allocator(request: pytest.FixtureRequest) -> bool:
    """Whether the allocator is tuned, for both sides of every ratio."""
    return not request.config.getoption("--untuned") and lla.tune_allocator()


@pytest.fixture
def environment(allocator: bool) -> dict[str, object]:
    """What a timing depends on besides the code; goes into every benchmark's record."""
    return {
        "allocator_tuned": allocator,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "lla": lla.__version__,
        "device": "cuda" if torch.cuda.is_available() else "cpu",
    }
