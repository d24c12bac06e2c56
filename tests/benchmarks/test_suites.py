"""The suites run at their smallest size, and save what they should and no more."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import history

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """One session over the smallest cases of two suites, on the bundled digits."""
    folder = tmp_path_factory.mktemp("results")
    output = folder / "benchmark.json"
    environment = {key: value for key, value in os.environ.items() if key != "LLA_DATA"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "benchmarks", "--size", "tiny", "--save",
         str(folder), "-k", "line_in_passes or fresh or cost_of_the_criteria", "-p",
         "no:cacheprovider", f"--benchmark-json={output}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return folder


def test_a_session_is_saved_by_pytest_benchmark(session):
    (path,) = (session / "benchmarks" / "sessions").rglob("*.json")
    saved = json.loads(path.read_text())
    assert saved["machine_info"] == {"python_version": platform.python_version()}
    assert all("stats" in benchmark for benchmark in saved["benchmarks"])
    rows = history.read(session / "benchmarks").set_index("benchmark")
    assert list(rows.index).count("line of 41 points") == 1
    assert set(rows["size"]) == {"lenet 8"}
    assert rows.peak_bytes["product fresh"] > 2**26
    assert rows.products["product fresh"] == 1
    assert rows.device["product fresh"].startswith(("cpu", "cuda"))


def test_records_table_and_figure_are_written(session):
    written = {path.relative_to(session).as_posix() for path in session.rglob("*.*")}
    assert {
        "records/cost.jsonl",
        "benchmarks/hesd_cost.md",
        "benchmarks/history.png",
        "benchmarks/history.md",
    } <= written


def texts(value):
    """All texts in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


def test_nothing_that_is_saved_is_the_name_of_the_machine(session):
    lines = [
        line
        for path in session.rglob("*.json*")
        for line in (
            [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
        )
    ]
    assert len(lines) > 10
    assert str(session) not in "".join(lines)
    assert platform.node() not in {text for line in lines for text in texts(json.loads(line))}
