"""Real runs of the tables, killed at random moments and side by side: hours of trouble in minutes.

`tests/paper_tables/test_plugin.py` does the same with tiny cells, in seconds.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from lla.hessian.spectrum import Spectrum
from lla.landscape import Plane
from paper_tables.engine.records import read_records

pytestmark = [
    pytest.mark.skipif(not os.environ.get("LLA_LONG"), reason="takes 15 minutes: set LLA_LONG=1"),
    pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX"),
    pytest.mark.timeout(0),
]

ROOT = Path(__file__).resolve().parents[2]
# six planes and two cells of criteria, on bundled digits
CELLS = "lenet-random-eval and (uniform or plain)"
SIZES = ("--points", "5", "--steps", "20", "--probes", "1", "--batch-size", "64", "--batches", "2")
KILLS = 50
# what differs between two runs of the same code
OF_THE_RUN = ("seconds", "peak_memory")


def start(folder):
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "paper_tables", "-k", CELLS,
        *SIZES, "--results", folder / "results", "--work-dir", folder / "work",
        "--data-root", folder / "no-data",
    ]  # fmt: skip
    (folder / "no-data").mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name != "LLA_DATA"}
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip


def finish(process):
    output, _ = process.communicate()
    assert process.returncode == 0, output
    return output


def records(folder):
    """All records in a folder of results or work, without what differs between two runs."""
    return {
        record.key: {k: v for k, v in vars(record).items() if k not in (*OF_THE_RUN, "_json")}
        for path in sorted((folder / "records").glob("*.jsonl"))
        for record in read_records(path)  # raises an error if anything is broken
    }


def check_files(folder):
    """Read every file; how many there are."""
    readers = {
        ".npz": lambda path: (Spectrum if "spectra" in path.parts else Plane).load(path),
        ".png": lambda path: Image.open(path).load(),
        ".json": lambda path: json.loads(path.read_text()),
        ".html": lambda path: path.read_text().rstrip().endswith("</html>") or pytest.fail(path),
        ".jsonl": read_records,
    }
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp"]
    for path in files:
        readers.get(path.suffix, Path.read_bytes)(path)
    return len(files)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(folder))
    return folder


def assert_same_end(folder, undisturbed):
    for place in ("work", "results"):
        assert records(folder / place) == records(undisturbed / place)
    for path in sorted((undisturbed / "results").glob("*.md")):
        if path.name != "README.md":  # it says how long the cells took
            assert (folder / "results" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.hard_use(
    "A run of the tables is killed at random moments: nothing is lost but the cell in flight, "
    "every file is valid, and the end is that of an uninterrupted run"
)
def test_killed_runs_end_as_an_undisturbed_one(undisturbed, tmp_path, record_property):
    generator = random.Random(0)
    whole = 30.0  # seconds that a run takes: measured again with each that ends
    folder = tmp_path / "killed"
    done, lost, kills, ended, files = set(), 0, 0, 0, 0
    while kills < KILLS:
        begun, process = time.monotonic(), start(folder)
        try:
            process.communicate(timeout=generator.uniform(0, 1.2 * whole))
            ended, whole = ended + 1, time.monotonic() - begun
            # begin anew, so that kills hit all parts of a run
            folder = tmp_path / f"killed-{ended}"
            done = set()
            continue
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        kills += 1
        if folder.exists():
            files += check_files(folder)
            now = set(records(folder / "work"))
            lost += len(done - now)
            done = now
    finish(start(folder))
    assert lost == 0
    assert_same_end(folder, undisturbed)
    record_property(
        "measured", f"{kills} kills, {lost} records lost, {files} files read, none broken"
    )


@pytest.mark.hard_use(
    "Two runs of the tables at once in one folder: all records are there, once, and every file is "
    "valid"
)
def test_two_runs_in_one_folder(undisturbed, tmp_path, record_property):
    both = [start(tmp_path), start(tmp_path)]
    for process in both:
        finish(process)
    assert_same_end(tmp_path, undisturbed)
    record_property("measured", f"{check_files(tmp_path)} files read")
