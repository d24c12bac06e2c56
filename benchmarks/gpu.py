"""Everything that needs a GPU, in one command and within a few minutes.

The steps: the tests for CUDA; the benchmarks `operations` and `cost_model`; claim C.resnet, the
time of the criteria beside that of an accuracy; products in eager gradients beside curvlinops. Each
is a process with a limit of its own. What has no time left is skipped with the reason; after a step
that fails the others run, and the command fails. Records and pages go to the folder of results, the
summary also to benchmarks/gpu.md there. A benchmark that is stopped keeps the cases it finished.

Where there is no GPU, `--size tiny` (the default there) shows within minutes that the command
works.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from benchmarks import gradients, view
from benchmarks.hesd_cost import measurement as cost
from benchmarks.operations import measurement as operations
from benchmarks.problems import device
from lla.files import atomic_write
from paper_tables.engine import store
from paper_tables.engine.records import Record, read_records
from paper_tables.engine.suite import checkout
from paper_tables.evidence.criteria import value_of

NEEDS = """\
A machine that holds PyTorch, torchvision, timm, scikit-learn and pytest with its plugins needs
these packages as wheels, put on PYTHONPATH by `pip install --no-index --no-deps --target`:
pydantic, pydantic-core, annotated-types, typing-inspection, plotly, pooch, platformdirs. For the
last step: curvlinops-for-pytorch, backpack-for-pytorch, einconv, unfoldnd. Without these, only our
products are timed. Pack the folder of results into one archive to bring it back:
python -m benchmarks.gpu --out found; tar czf found.tgz found
"""
LEAST = 10.0  # seconds below which a step is not worth starting
SHOWN = 30  # lines of a failed step's output

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
# of the tests with cases for CUDA, a few that load fast show that the command works
FEW = ("tests/hessian/lanczos/test_process.py", "tests/test_batches.py")


@dataclass(frozen=True)
class Step:
    """A part of the run."""

    name: str
    command: tuple[str, ...]  # arguments of Python
    share: float  # of all the time, at most


@dataclass(frozen=True)
class Outcome:
    """What became of a step."""

    name: str
    text: str  # in words
    failed: bool = False


def steps(size: str, out: Path) -> list[Step]:
    """The steps in their order.

    Args:
        size: of the networks: tiny or paper.
        out: folder of results.
    """
    sizes = ("--size", size)
    saving = (*sizes, "--save", str(out))
    parallel = ("-n", "4") if size == "paper" and find_spec("xdist") else ()
    where = ("tests",) if size == "paper" else FEW
    pictures = [
        f"benchmarks/test_hesd_cost.py::test_cost_of_the_criteria[{network} 1 x 64]"
        for network in ("resnet18", "resnet50")
    ]
    timed = pictures if size == "paper" else ["benchmarks/test_hesd_cost.py"]
    return [
        Step("tests for CUDA", (*PYTEST, *where, "-k", "cuda", *parallel), 0.3),
        Step("operations", (*PYTEST, "benchmarks/test_operations.py", *saving), 0.3),
        Step("cost model", (*PYTEST, "benchmarks/test_cost_model.py", *saving), 0.4),
        Step("C.resnet", (*PYTEST, *timed, *saving), 0.5),
        Step("eager gradients", ("-m", "benchmarks.gradients", *sizes, "--out", str(out)), 1.0),
    ]


def run_all(todo: list[Step], seconds: float, say: Callable[[str], None]) -> list[Outcome]:
    """Run steps one after another within some seconds.

    Args:
        todo: the steps.
        seconds: for all of them.
        say: called with what there is to see meanwhile.
    """
    end, found = time.monotonic() + seconds, []
    for step in todo:
        left = end - time.monotonic()
        if left < LEAST:
            outcome = Outcome(step.name, f"skipped: {max(0.0, left):.0f} s are left")
        else:
            outcome = run(step, min(left, step.share * seconds), say)
        say(f"{outcome.name}: {outcome.text}")
        found.append(outcome)
    return found


def run(step: Step, limit: float, say: Callable[[str], None]) -> Outcome:
    """Run one step, and end it and all its processes at the limit.

    Args:
        step: what to run, in the checkout.
        limit: seconds.
        say: called with the end of its output if it fails.
    """
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, *step.command], cwd=checkout(), start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return Outcome(step.name, f"stopped after {limit:.0f} s", failed=True)
    lines, took = output.strip().splitlines(), f"{time.monotonic() - start:.0f} s"
    if process.returncode:
        say("\n".join(lines[-SHOWN:]))
        return Outcome(step.name, f"failed (exit code {process.returncode}), {took}", failed=True)
    return Outcome(step.name, f"{lines[-1] if lines else 'done'} ({took})")


def summary(out: Path, outcomes: list[Outcome], device_name: str) -> str:
    """What was found on this kind of device (cpu or cuda), as a page."""
    lines = [f"- {outcome.name}: {outcome.text}" for outcome in outcomes]
    said = [f"- {line}" for line in _numbers(out, device_name)]
    return "\n".join(["# What ran on this device", "", *lines, "", "## Numbers", "", *said, ""])


def _numbers(out: Path, device_name: str) -> Iterator[str]:
    for case in _cases(out, operations.TABLE, device_name):
        product = view.values(case)[operations.PRODUCT]
        passes, share = product["passes"], product["limit"] / product["seconds"]
        yield f"{case[0].row}: a product takes {passes:.2f} passes, {share:.1%} of the limit"
    for case in _cases(out, cost.TABLE, device_name):
        found = view.columns(case)
        criteria, passed = found["1 x 4"]["seconds"], found["accuracy pass"]["seconds_loader"]
        ratio = value_of(criteria) / value_of(passed)
        yield (
            f"{case[0].row}, batches of {case[0].batch_size}: criteria on 4 batches take "
            f"{value_of(criteria):.3g} s ({criteria.note}), {ratio:.2f} times the accuracy of "
            f"{passed.n} images"
        )
    for case in _cases(out, gradients.TABLE, device_name):
        yield gradients.line(case)


def _cases(out: Path, table: str, device_name: str) -> list[list[Record]]:
    """The cases of a table that were measured on a kind of device; none if nothing was."""
    file = store.records_file(out, table)
    records = read_records(file) if file.is_file() else []
    return view.cases(r for r in records if (r.device or "").startswith(device_name))


def main(arguments: list[str] | None = None) -> int:
    """Run all steps; the exit code says whether one failed."""
    gpu = device() == "cuda"
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, epilog=NEEDS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of results")
    parser.add_argument("--minutes", type=float, default=8.0, help="for all steps together")
    parser.add_argument("--size", choices=("tiny", "paper"), default="paper" if gpu else "tiny")
    options = parser.parse_args(arguments)
    out = options.out.resolve()
    say = partial(print, flush=True)
    outcomes = run_all(steps(options.size, out), 60 * options.minutes, say)
    page = summary(out, outcomes, device())
    atomic_write(out / "benchmarks" / "gpu.md", page)
    say(page)
    return int(any(outcome.failed for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
