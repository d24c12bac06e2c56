"""The suites as a user runs them: pytest with the plugin, over tiny cells."""

import os
import random
import re
import signal
import time
import types

import pytest

from lla.errors import WriteError
from paper_tables import plugin
from paper_tables.engine import publish
from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import PROFILES
from paper_tables.engine.progress import Lines
from paper_tables.engine.records import read_records
from paper_tables.engine.suite import Suite

pytestmark = pytest.mark.skipif(os.name != "posix", reason="fork and SIGKILL are POSIX")

planted_suites = pytest.importorskip("tests.paper_tables.planted_suites")
ALL = planted_suites.ALL


def test_cells_are_computed_once_and_seen_while_they_are(runs):
    code, output = runs.run("-q")
    assert code == 0, output
    assert runs.computed() == ["c1", "c2", "c3", "c4", "c5", "step", "c0"], "stages in order"
    lines, end = output.split("= paper tables =")
    value = r"done in \d+\.\d s: K_H1 0\.970 ± 0\.010"
    expected = [
        *(rf"cell {i}/6 c{i} \(about 60 s\) \.\.\. {value}" for i in range(1, 6)),
        r"a shared step \(about 7 s\) \.\.\. done in \d+\.\d s: all went well",
        rf"cell 6/6 c0 \(about 60 s\) \.\.\. {value}",
        r"tables, figures, claims and report written to results/",
    ]
    shown = [line for line in lines.splitlines() if line.strip("=")]
    for pattern, line in zip(expected, shown, strict=True):
        assert re.fullmatch(pattern, line)
    assert "tiny c3" in end, "the short table at the end"
    assert len(read_records(runs.published)) == 8
    assert (runs.folder / "results" / "tiny.md").exists()

    code, output = runs.run()
    assert code == 0, output
    assert len(runs.computed()) == 7, "finished cells are not computed again"
    assert "cell 1/6 c1 finished before: K_H1 0.970 ± 0.010" in output

    code, output = runs.run("-v", "--recompute", "-k", "c1 or c2")
    assert code == 0, output
    assert runs.computed()[7:] == ["c1", "c2"]
    assert "cell 2/2 c2" in output


def test_the_end_says_what_came_of_it(runs):
    code, output = runs.run("-q")
    assert code == 0, output
    last = output.split("= paper tables =")[1].splitlines()[-5:]
    assert re.fullmatch(r"\d+ claims in \d+ scopes: 0 holds, .*, \d+ not_run .*", last[0])
    assert last[1].startswith(f"report: {runs.folder}/results/report.html")
    assert last[2:4] == [
        "not run, and what would make it run:",
        "- 2 cells of table2 (LeNet): no such data: put a|b into the folder of data",
    ]
    assert last[4].startswith("7 passed, 2 not run"), "pytest's own summary lists no skips"


def test_on_a_terminal_there_is_one_bar_with_the_name_and_the_time_left(runs):
    runs.turn(seconds=0.1)
    code, output = runs.run_on_a_terminal("-q", columns=60)
    assert code == 0, output
    before, _, end = output.partition("= paper tables =")
    frames = [frame.rstrip() for frame in before.split("\r")]
    names = [re.fullmatch(r"\|.{10}\| \d+ %, about \d\d:\d\d left: (.*)", f) for f in frames]
    shown = list(dict.fromkeys(found[1].rstrip(": ") for found in names if found))
    cells = [f"cell {i}/6 c{i}" for i in range(1, 6)]
    assert shown[:-1] == [*cells, "a shared step", "cell 6/6 c0"]
    assert "tables, figures, claims and report".startswith(shown[-1]), "cut, not broken"
    rest = "".join(f for f, found in zip(frames, names, strict=True) if not found)
    assert not rest.strip("\n= "), "no dots, no percent, and no bar of the library's"
    assert "0 %, about 06:07 left: cell 1/6 c1" in before
    assert "report.html" in end
    assert "\n- 2 cells of table2 (LeNet): no such data: put a|b into the folder of data" in end


def test_on_a_terminal_a_cell_that_fails_is_said_above_the_bar(runs):
    assert runs.run("-k", "c1")[0] == 0
    runs.turn(value=0.5)
    code, output = runs.run_on_a_terminal("-q", "--recompute", "-k", "c1 or c2")
    assert code == 1
    before = output.partition("= FAILURES =")[0]
    said = [
        line for line in re.split(r"[\r\n]+", before) if line.startswith("cell 1/2 c1 failed: ")
    ]
    assert len(said) == 1
    assert "left: cell 2/2 c2" in before


def test_a_value_that_disagrees_with_the_published_one_fails(runs):
    assert runs.run("-k", "c1")[0] == 0
    before = runs.published.read_text()
    runs.turn(value=0.5)
    code, output = runs.run("--recompute", "-k", "c1")
    assert code == 1
    assert "3 combined standard errors" in output
    assert runs.published.read_text() == before


def test_an_option_changes_the_configuration(runs):
    assert runs.run("-k", "c1")[0] == 0
    assert runs.run("-k", "c1", "--steps", "50")[0] == 0
    assert runs.computed() == ["c1", "c1"]
    assert [(r.m, r.profile) for r in read_records(runs.published)] == [
        (100, "quick"),
        (50, "custom"),
    ]


@pytest.mark.parametrize("wrong", [["--steps", "0"], ["--profile", "huge"]])
def test_wrong_options_are_refused(runs, wrong):
    code, output = runs.run(*wrong)
    assert code == 4
    assert wrong[0] in output


def test_cells_are_listed_without_computing(runs):
    code, output = runs.run("--list-cells")
    assert code == 0, output
    for part in ("c5", "reduced", "60 s", "1 MiB", "input 5", "no such data", "a shared step"):
        assert part in output
    assert "8 cells, 6 of them run; about 6 min" in output
    assert runs.computed() == []
    assert not (runs.folder / "results").exists()
    assert not (runs.folder / "work").exists()


def test_a_conftest_that_is_found_late_takes_the_defaults(runs):
    (runs.folder / "below").mkdir()
    (runs.folder / "conftest.py").rename(runs.folder / "below" / "conftest.py")
    (runs.folder / "below" / "test_default.py").write_text(
        "def test_default(suite):\n    assert suite.settings.profile.name == 'quick'\n"
    )
    (runs.folder / "test_tiny.py").unlink()
    code, output = runs.finish(runs.start(runs.folder))
    assert code == 0, output
    assert "1 passed" in output


@pytest.mark.hard_use(
    "A table run whose folder of results or work folder is a file, lies in /proc, is full or "
    "read-only ends before the first cell, in one sentence that names it"
)
@pytest.mark.parametrize(
    ("option", "where"),
    [("--results", "pytest.ini"), ("--results", "/proc/none"), ("--work-dir", "pytest.ini/below")],
)
def test_folders_that_cannot_be_written_are_found_before_anything_is_computed(runs, option, where):
    code, output = runs.run(option, runs.folder / where)
    refused_at_the_door(runs, code, output, where)
    assert [path.name for path in runs.folder.glob("*/*.jsonl")] == []


def refused_at_the_door(runs, code, output, named):
    assert code == 4, output
    (line,) = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    assert named in line
    assert "Traceback" not in output
    assert "written to" not in output
    assert runs.computed() == []


@pytest.mark.parametrize("given", ["--seed=-1", "--seed=1.5", f"--seed={2**63}", "--probes=0"])
def test_numbers_that_no_record_can_hold_are_refused(runs, given):
    code, output = runs.run(given)
    assert code == 4, output
    assert f"{given.partition('=')[2]}: give a whole number from " in output
    assert runs.computed() == []


def test_a_full_and_a_read_only_disk_are_found_too(runs, small_disk, fill_disk, make_read_only):
    fill_disk(small_disk)
    for change, reason in ((None, "No space left on device"), (make_read_only, "Read-only file")):
        if change:
            change(small_disk)
        code, output = runs.run("--results", small_disk / "deep")
        refused_at_the_door(runs, code, output, f"disk/deep cannot be written ({reason}")
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


@pytest.mark.hard_use(
    "A disk that fills up in the middle of a table run ends it in one sentence; what was finished "
    "is kept, and the next run goes on from there"
)
def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_is_finished(runs, small_disk):
    runs.turn(full="c3")
    places = ("--results", small_disk / "results", "--work-dir", small_disk / "work")
    code, output = runs.run(*places)
    assert code == 1, output
    journal = small_disk / "work" / "records" / "table2.jsonl"
    assert f"{journal} cannot be written (No space left on device)" in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    assert "written to" not in output
    assert "report.html" not in output
    assert runs.computed() == ["c1", "c2", "c3"]
    assert [record.column for record in read_records(journal)] == ["c1", "c2"]
    assert not list(small_disk.rglob("*.tmp"))

    (small_disk / "work" / "filler").unlink()
    runs.turn()
    code, output = runs.run(*places)
    assert code == 0, output
    assert runs.computed()[3:] == ["c3", "c4", "c5", "step", "c0"]
    assert "written to results/" in output


def test_a_last_rendering_that_cannot_be_written_is_no_success(settings, monkeypatch):
    lines = []
    this = Suite((), settings, Lines(lines.append))
    this._stale = True

    def full(*args):
        raise WriteError("results/table2.md cannot be written")

    monkeypatch.setattr(publish, "write_all", full)
    config = types.SimpleNamespace(stash={plugin._SUITE: this})
    session = types.SimpleNamespace(config=config, exitstatus=0)
    plugin.pytest_sessionfinish(session)
    assert session.exitstatus == 1
    assert "".join(lines).endswith(" failed: results/table2.md cannot be written\n")
    lines.clear()
    this.done["c1"] = [object()]
    monkeypatch.setattr(publish, "overview", lambda *args: "the table")
    reporter = types.SimpleNamespace(section=lines.append, write_line=lines.append)
    plugin.pytest_terminal_summary(reporter, config)
    assert lines == ["paper tables", "the table\n"]


@pytest.fixture
def settings(tmp_path):
    return Settings(PROFILES["quick"], results=tmp_path / "results", work=tmp_path / "work")


def test_a_broken_record_is_found_before_anything_is_computed(runs):
    runs.published.parent.mkdir(parents=True)
    runs.published.write_bytes(b"\xff\n")
    code, output = runs.run()
    refused_at_the_door(runs, code, output, "table2.jsonl, line 1: not UTF-8")


@pytest.mark.hard_use(
    "A table run of tiny cells is killed up to 20 times at random moments: at most the cell in "
    "flight is computed again"
)
def test_killed_at_any_moment_it_repeats_at_most_the_cell_it_was_in(runs):
    generator = random.Random(1)
    runs.turn(seconds=0.15)
    kills = 0
    done = set()
    for _ in range(20):
        before = len(runs.computed())
        pid = runs.start_suite()
        # From the moment it has begun a cell, at any time within the next cells.
        deadline = time.monotonic() + 30
        while len(runs.computed()) == before:
            assert time.monotonic() < deadline, (runs.folder / "output").read_text()
            time.sleep(0.005)
        time.sleep(generator.uniform(0, 0.6))
        assert pid > 1
        os.kill(pid, signal.SIGKILL)
        runs.finish(pid)
        kills += 1
        again = set(runs.computed()[before:]) & done
        assert not again, f"{again} were finished and computed again"
        for path in (runs.journal, runs.published):
            if path.exists():
                read_records(path)  # raises if anything is broken
        if runs.journal.exists():
            done = {record.column for record in read_records(runs.journal)}
        if done == ALL:
            break
    assert kills > 1, "all cells were done before the first kill"
    code, output = runs.run()
    assert code == 0, output
    assert {record.column for record in read_records(runs.journal)} == ALL
    assert len(read_records(runs.published)) == 8
    cells = [name for name in runs.computed() if name != "step"]
    assert set(cells) == ALL
    assert len(cells) <= len(ALL) + kills
