"""What trials of hard use did: `pytest tests --reliability results` writes it down.

A trial is a test with the marker `hard_use`. Each has a row in `reliability.csv`, in which all its
cases are counted; `reliability.md` is made from the rows. A session replaces the rows of the trials
that it ran. The long form of a trial, which runs where LLA_LONG is set, has a row of its own.
"""

import csv
import io
import os
from collections import Counter
from pathlib import Path

from lla.files import atomic_write
from lla.report.text import markdown_table
from paper_tables.engine import machine

COLUMNS = (
    "trial", "long", "what", "cases", "outcome", "measured", "seconds", "code_version", "torch",
)  # fmt: skip
OUTCOMES = ("passed", "skipped", "failed")  # the last that occurs is the outcome of a trial
LEAD = """# Hard use

What was tried to break the project, and what came of it. Each line is a test. A test with a long
form has a second line: its budget is larger, and it runs where the environment variable `LLA_LONG`
is set. Written by `python -m pytest -q tests --reliability results`.
"""
MUTANTS = (
    "Mutation testing: one operator, constant or statement of the code is changed at a time, and "
    "the tests of its module run. Of {} mutants: {}. [Each one](mutants.csv), and why it survived."
)


def pytest_addoption(parser):
    parser.addoption(
        "--reliability", type=Path, metavar="DIR", help="write what trials of hard use did to DIR"
    )


def pytest_collection_modifyitems(items):
    """Let each report of a trial say what was tried, also when it comes from another process."""
    for item in items:
        mark = item.get_closest_marker("hard_use")
        if mark is not None:
            item.user_properties.append(("hard_use", mark.args[0]))


class Recorder:
    """Gathers the reports of a session."""

    def __init__(self, folder):
        self.folder = folder
        self.trials = {}

    def pytest_runtest_logreport(self, report):
        found = dict(report.user_properties)
        if "hard_use" not in found or (report.when != "call" and report.passed):
            return
        trial = report.nodeid.partition("[")[0]
        of_trial = self.trials.setdefault(
            trial,
            {"what": found["hard_use"], "outcomes": [], "measured": {}, "seconds": 0.0},
        )
        of_trial["outcomes"].append(report.outcome)
        of_trial["seconds"] += report.duration
        if "measured" in found:
            of_trial["measured"][found["measured"]] = None

    def pytest_sessionfinish(self):
        if self.trials:
            write(self.folder, list(map(self._row, self.trials)))

    def _row(self, trial):
        found = self.trials[trial]
        version = machine.environment()
        return {
            "trial": trial,
            "long": "yes" if os.environ.get("LLA_LONG") else "",
            "what": found["what"],
            "cases": str(len(found["outcomes"])),
            "outcome": max(found["outcomes"], key=OUTCOMES.index),
            "measured": "; ".join(found["measured"]),
            "seconds": f"{found['seconds']:.1f}",
            "code_version": version["code_version"],
            "torch": version["torch"],
        }


def read(folder):
    """The rows of a folder, by trial and form."""
    path = folder / "reliability.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        return {(row["trial"], row["long"]): row for row in csv.DictReader(stream)}


def write(folder, new):
    """Add rows to those of a folder, and render its page."""
    rows = read(folder) | {(row["trial"], row["long"]): row for row in new}
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for _, row in sorted(rows.items()))
    atomic_write(folder / "reliability.csv", stream.getvalue())
    atomic_write(folder / "reliability.md", page(rows, mutants(folder)))


def mutants(folder):
    """How many mutants of the code there are in `mutants.csv`, by outcome."""
    path = folder / "mutants.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as stream:
        return Counter(row["outcome"] for row in csv.DictReader(stream))


def page(rows, mutated):
    """The Markdown page: trials by the file of their test, and a sentence on mutants."""
    lines = [
        (
            row["what"] + (" (long form)" if row["long"] else ""),
            row["outcome"],
            row["measured"] or f"{row['cases']} case{'s' * (row['cases'] != '1')}",
            f"`{row['trial']}`",
        )
        for key, row in sorted(rows.items())
        if _shown(key, rows)
    ]
    count = f"{len(lines)} trials, {sum(line[1] == 'passed' for line in lines)} passed."
    table = markdown_table(lines, ("what was tried", "outcome", "measured", "test"), aligned=False)
    parts = [f"{LEAD}\n{count}", table]
    if mutated:
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in sorted(mutated.items()))
        parts.append(MUTANTS.format(sum(mutated.values()), outcomes))
    return "\n\n".join(parts) + "\n"


def _shown(key, rows):
    """Whether a row says what no other does."""
    trial, long = key
    if long:  # a trial without a long form has the same row twice
        return bool(rows[key]["measured"]) or (trial, "") not in rows
    return rows[key]["outcome"] != "skipped" or (trial, "yes") not in rows
