"""Runs of pytest with the plugin, over tiny cells."""

import contextlib
import fcntl
import json
import os
import pty
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# One process that has imported everything, and a fork of it for every run of pytest.
SERVER = """
import os, shlex, sys
import paper_tables.plugin, pytest
for line in sys.stdin:
    command, *arguments = shlex.split(line)
    if command == "start":
        output, *arguments = arguments
        pid = os.fork()
        if pid == 0:
            # a file, or a terminal, which is there already
            stream = os.open(output, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            code = pytest.main(arguments)
            sys.stdout.flush()
            os._exit(code)
        print(pid, flush=True)
    else:
        print(os.waitstatus_to_exitcode(os.waitpid(int(arguments[0]), 0)[1]), flush=True)
"""

EXHIBIT = """
import json, time
from pathlib import Path
from paper_tables.engine.cells import Cell, SharedStep
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Exhibit
from paper_tables.evidence.entries import measured_entry

HERE = Path(__file__).parents[2]
KNOBS = json.loads((HERE / "knobs.json").read_text())

def log(text):
    with (HERE / "log").open("a") as stream:
        stream.write(text + "\\n")

def compute(cell, settings):
    deadline = time.monotonic() + 60
    while KNOBS["begun"] and not (settings.results / "leases" / KNOBS["begun"]).exists():
        assert time.monotonic() < deadline, "that worker does not begin"
        time.sleep(0.05)
    log(cell.name)
    if KNOBS.get("fails") == cell.name:
        raise ValueError("this cell cannot be")
    print("what a cell prints")
    if KNOBS.get("full") == cell.name:
        with (settings.work / "filler").open("wb", buffering=0) as stream:
            try:
                while True:
                    stream.write(bytes(4096))
            except OSError:
                pass
    time.sleep(KNOBS["seconds"])
    return [cell.record("kh1", KNOBS["value"], 0.01, n=2, stderr_kind="batches")]

def step(settings):
    log("step")
    return "all went well"

def cells(settings):
    shared = SharedStep("a shared step", 7, step)
    facts = dict(table="table2", row="lenet", metrics=("kh1",))
    return [
        *(Cell(column=name, name=name, config={}, fidelity=None, inputs="",
               reason=f"no such data: put {name} into the folder of data", **facts)
          for name in "ab"),
        *(Cell(column=f"c{i}", name=f"c{i}", config={"i": i, "m": settings.profile.steps},
               fidelity="reduced", inputs=f"input {i}", compute=compute, seconds=60,
               memory=2**20, stage=int(i == 0), shared=shared if i == 0 else None, **facts)
          for i in range(6)),
    ]

def tables(records):
    lines = tuple(Line(f"tiny {r.column}", (measured_entry(r),)) for r in records)
    return [Table("tiny", "Tiny", "", ("K_H1",), (Group("", "", lines),))] if lines else []

EXHIBIT = Exhibit("tiny", "a test", cells, tables, sources=("table2",))
"""

AFTER = """
def test_after_all_cells(suite):
    assert suite.settings.profile.name in ("quick", "custom")
"""

# the exhibits of this folder in place of the project's
CONFTEST = """
from pathlib import Path

from paper_tables import exhibits
from paper_tables.plugin import *

exhibits.__path__[:] = [str(Path(__file__).with_name("exhibits"))]
"""
SUITE = (ROOT / "paper_tables" / "test_exhibits.py").read_text()
ALL = {f"c{i}" for i in range(6)}


def _read_all(terminal, into):
    with contextlib.suppress(OSError):  # the other end is closed
        while data := os.read(terminal, 2**16):
            into.append(data)
    os.close(terminal)


class Runs:
    """Runs of pytest over a suite of tiny cells in one folder."""

    def __init__(self, server, folder):
        self.server, self.folder = server, folder
        self.journal = folder / "work" / "records" / "table2.jsonl"
        self.published = folder / "results" / "records" / "table2.jsonl"
        (folder / "pytest.ini").write_text(
            "[pytest]\naddopts = -ra --strict-config --import-mode=importlib -p no:cacheprovider\n"
            f"pythonpath = {folder}\nfilterwarnings = error\n"
        )
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "exhibits" / "tiny").mkdir(parents=True)
        (folder / "exhibits" / "tiny" / "__init__.py").write_text(EXHIBIT)
        (folder / "test_tiny.py").write_text(SUITE + AFTER)
        self.turn()

    def clear(self):
        """Forget all that was computed."""
        for name in ("work", "results"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "log").unlink(missing_ok=True)

    def turn(self, value=0.97, seconds=0.0, full=None, fails=None, begun=None):
        """How cells behave; they wait until a file `begun` is there, which a worker leaves."""
        knobs = {"value": value, "seconds": seconds, "full": full, "fails": fails, "begun": begun}
        (self.folder / "knobs.json").write_text(json.dumps(knobs))

    def ask(self, *words):
        self.server.stdin.write(shlex.join(map(str, words)) + "\n")
        self.server.stdin.flush()
        return int(self.server.stdout.readline())

    def start(self, *options, output=None):
        words = ["start", output or self.folder / "output", "-c", self.folder / "pytest.ini"]
        return self.ask(*words, *options)

    def finish(self, pid, output=None):
        return self.ask("wait", pid), (output or self.folder / "output").read_text()

    def start_suite(self, *options, output=None):
        return self.start(
            self.folder / "test_tiny.py",
            *("--results", self.folder / "results"),
            *("--work-dir", self.folder / "work"),
            *options,
            output=output,
        )

    def run(self, *options):
        return self.finish(self.start_suite(*options))

    def run_on_a_terminal(self, *options, columns=100):
        """The exit code, and what was shown with the control characters."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 40, columns, 0, 0))
        shown = []
        reader = threading.Thread(target=_read_all, args=(ours, shown))
        reader.start()
        code = self.ask("wait", self.start_suite(*options, output=os.ttyname(theirs)))
        os.close(theirs)
        reader.join()
        return code, b"".join(shown).decode()

    def computed(self):
        log = self.folder / "log"
        return log.read_text().split() if log.exists() else []


@contextlib.contextmanager
def serving():
    """The process that forks the runs."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", SERVER], cwd=ROOT, **pipes) as process:
        yield process
        process.stdin.close()
