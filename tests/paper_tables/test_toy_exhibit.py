"""Adding a table is adding a folder: the one that docs/architecture.md shows, in every format."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "architecture.md"

CONFTEST = """
from pathlib import Path

from paper_tables import exhibits
from paper_tables.plugin import *

exhibits.__path__.append(str(Path(__file__).with_name("exhibits")))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A session with the project's exhibits and the toy, of which the toy is computed."""
    folder = tmp_path_factory.mktemp("toy")
    shown = re.findall(
        r"`paper_tables/(exhibits/toy/\w+\.py)`:\n\n<!-- toy exhibit -->\n```python\n(.*?)```",
        PAGE.read_text(),
        re.DOTALL,
    )
    assert len(shown) == 3
    for name, code in shown:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n")
    (folder / "test_toy.py").write_text((ROOT / "paper_tables" / "test_exhibits.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-k", "toy-coins", "-p", "no:cacheprovider",
               "-c", folder / "pytest.ini", folder / "test_toy.py", "--results",
               folder / "results", "--work-dir", folder / "work"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    return folder / "results", done.stdout


@pytest.mark.parametrize("file", ["toy.md", "toy.tex", "report.html", "README.md"])
def test_the_table_stands_in_every_format(run, file):
    results, _ = run
    text = (results / file).read_text()
    assert "Toy: coins" in text


def test_the_records_stand_in_csv_and_the_values_on_the_terminal(run):
    results, terminal = run
    assert len((results / "toy.csv").read_text().splitlines()) == 3
    assert "share of heads" in terminal
    assert "400 coins" in terminal


def test_the_figure_is_drawn_and_shown(run):
    results, _ = run
    assert (results / "figures" / "toy_coins.png").exists()
    assert "Share of heads" in (results / "report.html").read_text()


def test_the_claim_is_judged_with_those_of_the_paper(run):
    results, _ = run
    text = (results / "claims.md").read_text()
    assert "| toy.fair | a toy | nowhere | coins are fair | all | holds | reduced |" in text
    assert "| T2.kh05 " in text
