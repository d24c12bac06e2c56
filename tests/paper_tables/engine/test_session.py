import dataclasses

import pytest

from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import PROFILES
from paper_tables.engine.session import session_cached


@pytest.fixture
def settings(tmp_path):
    return Settings(PROFILES["quick"], tmp_path / "results", tmp_path / "work")


@pytest.fixture
def function():
    """A function that counts its calls, and keeps its last two results."""

    @session_cached(size=2)
    def made(settings, name):
        """Make something."""
        made.calls.append(name)
        return [name]

    made.calls = []
    return made


def test_a_result_is_made_once_a_session(settings, function):
    assert function(settings, "a") is function(settings, "a")
    assert function.calls == ["a"]
    assert function.__doc__ == "Make something."


def test_two_sessions_share_nothing(settings, function):
    other = dataclasses.replace(settings)
    assert other == settings
    assert function(settings, "a") is not function(other, "a")
    assert function.calls == ["a", "a"]


def test_the_results_used_last_are_kept(settings, function):
    for name in ("a", "b", "a", "c", "a", "b"):
        function(settings, name)
    assert function.calls == ["a", "b", "c", "b"]


def test_an_error_is_no_result(settings):
    calls = []

    @session_cached()
    def fails(settings):
        calls.append(1)
        raise OSError

    for _ in range(2):
        with pytest.raises(OSError, match=r"^$"):
            fails(settings)
    assert len(calls) == 2


def test_what_is_kept_is_no_part_of_the_settings(settings, function):
    before = hash(settings)
    function(settings, "a")
    assert hash(settings) == before
    assert "cache" not in repr(settings)
