"""The table of trials: written from reports; that of `results` names tests that are there."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recording():
    spec = importlib.util.spec_from_file_location("recording", ROOT / "tests/hard_use/recording.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(nodeid, outcome="passed", when="call", measured=None, what="Numbers are tried"):
    found = [("hard_use", what)] if what else []
    found += [("measured", measured)] if measured else []
    passed = outcome == "passed"
    return SimpleNamespace(nodeid=nodeid, outcome=outcome, when=when, user_properties=found,
                           passed=passed, duration=0.5)  # fmt: skip


def record(recording, folder, *reports):
    recorder = recording.Recorder(folder)
    for each in reports:
        recorder.pytest_runtest_logreport(each)
    recorder.pytest_sessionfinish()
    return recording.read(folder)


def test_the_cases_of_a_trial_are_one_row(recording, tmp_path, monkeypatch):
    monkeypatch.delenv("LLA_LONG", raising=False)
    rows = record(
        recording, tmp_path,
        report("t.py::test_a[1]", measured="up to 1"),
        report("t.py::test_a[2]", measured="up to 2"),
        report("t.py::test_a[2]", when="teardown"),
        report("t.py::test_b", "skipped", when="setup"), report("t.py::test_c", what=None),
    )  # fmt: skip
    assert set(rows) == {("t.py::test_a", ""), ("t.py::test_b", "")}
    row = rows["t.py::test_a", ""]
    assert (row["cases"], row["outcome"], row["measured"]) == ("2", "passed", "up to 1; up to 2")
    assert rows["t.py::test_b", ""]["outcome"] == "skipped"


@pytest.mark.parametrize("bad", [("failed", "call"), ("failed", "teardown"), ("failed", "setup")])
def test_one_failure_is_the_outcome(recording, tmp_path, bad):
    outcome, when = bad
    rows = record(recording, tmp_path, report("t.py::test_a[1]"),
                  report("t.py::test_a[2]", outcome, when), report("t.py::test_a[3]"))  # fmt: skip
    assert [row["outcome"] for row in rows.values()] == ["failed"]
    assert "| failed |" in (tmp_path / "reliability.md").read_text()


def test_a_session_replaces_its_own_rows_alone(recording, tmp_path, monkeypatch):
    monkeypatch.delenv("LLA_LONG", raising=False)
    record(recording, tmp_path, report("t.py::test_a", "failed"), report("t.py::test_b"))
    monkeypatch.setenv("LLA_LONG", "1")
    record(recording, tmp_path, report("t.py::test_b", measured="much"))
    monkeypatch.delenv("LLA_LONG")
    rows = record(recording, tmp_path, report("t.py::test_a"))
    assert {key: row["outcome"] for key, row in rows.items()} == {
        ("t.py::test_a", ""): "passed", ("t.py::test_b", ""): "passed",
        ("t.py::test_b", "yes"): "passed",
    }  # fmt: skip
    page = (tmp_path / "reliability.md").read_text()
    assert "3 trials, 3 passed" in page
    assert "| Numbers are tried (long form) | passed | much |" in page


def test_the_published_table_is_that_of_its_rows(recording):
    rows = recording.read(ROOT / "results")
    assert rows, "results/reliability.csv is missing"
    assert (ROOT / "results" / "reliability.md").read_text(encoding="utf-8") == recording.page(
        rows, recording.mutants(ROOT / "results")
    )
    for trial, _ in rows:
        file, _, name = trial.partition("::")
        assert re.search(rf"def {name}\(", (ROOT / file).read_text(encoding="utf-8")), trial
