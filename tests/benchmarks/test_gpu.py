"""The command for a GPU: limits, failures, summary; products in eager gradients."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gradients
from benchmarks.gpu import Outcome, Step
from benchmarks.gradients import COMPILED, OURS, THEIRS, Perceptron
from benchmarks.language import LanguageCase
from paper_tables.engine import store
from paper_tables.engine.records import update_records

ROOT = Path(__file__).parents[2]
SMALL = Perceptron(4, (5, 4, 3))


def step(name, code, share=1.0):
    return Step(name, ("-c", code), share)


def test_after_a_failed_step_the_others_run():
    said = []
    todo = [step("a", "print('first'); raise SystemExit(3)"), step("b", "print('well')")]
    first, second = gpu.run_all(todo, 60, said.append)
    assert (first.failed, second.failed) == (True, False)
    assert first.text.startswith("failed (exit code 3)")
    assert second.text.startswith("well (")
    assert said[0] == "first"  # the output of what failed


def test_a_step_ends_at_its_limit_with_all_its_processes(tmp_path):
    alive = tmp_path / "alive"
    child = f"import time; time.sleep(4); open({str(alive)!r}, 'w')"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    start = time.monotonic()
    (found,) = gpu.run_all([step("slow", code, share=1 / 60)], 60, print)
    assert found == Outcome("slow", "stopped after 1 s", failed=True)
    time.sleep(max(0.0, start + 6 - time.monotonic()))
    assert not alive.exists()


def test_what_has_no_time_left_is_skipped_with_the_reason():
    (found,) = gpu.run_all([step("late", "raise SystemExit(1)")], 5, print)
    assert found.text == "skipped: 5 s are left"
    assert not found.failed


def test_steps_stand_in_the_order_that_matters_most(tmp_path):
    for size in ("tiny", "paper"):
        names = [each.name for each in gpu.steps(size, tmp_path)]
        assert names == ["tests for CUDA", "operations", "cost model", "C.resnet",
                         "eager gradients"]  # fmt: skip


def test_the_selected_cases_of_the_claim_exist():
    chosen = gpu.steps("paper", Path("out"))[3].command
    named = [each for each in chosen if "::" in each]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider",
         "--size", "paper", *named],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 tests collected" in done.stdout


def records_with(monkeypatch, theirs):
    monkeypatch.setattr(gradients, "_curvlinops", theirs)
    monkeypatch.setattr(torch, "compile", lambda function: function)  # takes minutes
    return gradients.measure(SMALL, rounds=2)


def by_place(records):
    return {(record.column, record.metric): record for record in records}


def test_a_product_that_is_half_as_large_again_differs_by_a_half(monkeypatch):
    def theirs(problem, v):
        hessian = gradients.lla.HessianOperator(problem, route="fresh")
        return lambda: 1.5 * (hessian @ v)

    found = by_place(records_with(monkeypatch, theirs))
    assert found["gradient", "seconds"].value > 0
    for name in (OURS, THEIRS, COMPILED):
        assert found[name, "gradients"].value > 0
    for name in (THEIRS, COMPILED):
        assert found[name, "difference"].value == pytest.approx(0.5, rel=1e-4)


def test_a_library_that_fails_is_not_run_with_its_reason(monkeypatch, tmp_path):
    def theirs(problem, v):
        raise RuntimeError("it cannot\nat all")

    new = records_with(monkeypatch, theirs)
    assert by_place(new)[THEIRS, "gradients"].reason == "RuntimeError: it cannot"
    text = gradients.line(new)
    assert "curvlinops not run (RuntimeError: it cannot)" in text
    assert text.endswith("curvlinops publishes 1.06")
    update_records(store.records_file(tmp_path, gradients.TABLE), lambda old: old + new)
    page = gpu.summary(tmp_path, [Outcome("a", "2 passed")], new[0].device[:4])
    assert "- a: 2 passed" in page
    assert text in page
    assert text not in gpu.summary(tmp_path, [], "another device")


def test_the_networks_are_as_large_as_those_that_are_compared_with():
    mlp = Perceptron(512).make()[0]
    assert mlp.space.size == sum(
        a * b + b for a, b in zip(Perceptron.widths, Perceptron.widths[1:], strict=False)
    )
    gpt = gradients.CASES["paper"][-1]
    few = dataclasses.replace(gpt, batch=1, length=8, blocks=2, words=100)
    words, length, width = few.words, few.length, few.width
    block = 12 * width**2 + 13 * width
    assert few.make()[0].space.size == (2 * words + length) * width + 2 * block + 2 * width
    assert isinstance(gpt, LanguageCase)


@pytest.mark.skipif(not os.environ.get("LLA_LONG"), reason="minutes: set LLA_LONG to have it")
def test_the_whole_command_runs_without_a_gpu(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--size", "tiny", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    page = (tmp_path / "benchmarks" / "gpu.md").read_text()
    for name in ("operations", "cost_model", "cost", "gradients"):
        assert (tmp_path / "records" / f"{name}.jsonl").is_file()
    assert "lenet 8: a product takes" in page
    assert "times the accuracy of 64 images" in page
