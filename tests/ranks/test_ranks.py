"""Several processes measure what one does: over gloo, one thread each."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lla

JOBS = Path(__file__).with_name("jobs.py")


def run(job, count, folder, timeout=120, missing=()):
    """What each rank found, in their order."""
    folder = folder / f"{job}-of-{count}"
    folder.mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    started = [
        subprocess.Popen(
            [sys.executable, JOBS, job, str(rank), str(count), str(folder)], env=environment
        )
        for rank in range(count)
    ]
    try:
        for process in started:
            assert process.wait(timeout) == 0
    finally:
        for process in started:
            process.kill()
            process.wait()
    there = [rank for rank in range(count) if rank not in missing]
    return [torch.load(folder / f"{job}-{rank}.pt") for rank in there]


@pytest.mark.parametrize(
    ("job", "count", "tolerance"),
    [("same", 2, 1e-12), ("same", 4, 1e-12), ("shards", 4, 1e-12), ("single", 2, 1e-12),
     ("half", 2, 1e-6), ("radii", 2, 1e-6), ("aimed", 4, 1e-12),
     ("aimed_shards", 4, 1e-12), ("calibrated", 4, 1e-12),
     ("kept", 2, 1e-6)],
)  # fmt: skip
def test_several_processes_find_what_one_finds(tmp_path, job, count, tolerance):
    (alone,) = run(job, 1, tmp_path)
    assert "error" not in alone, alone
    together = run(job, count, tmp_path)
    for rank, found in enumerate(together):
        assert found.keys() == alone.keys(), found.get("trace")
        for name, value in alone.items():
            error = (found[name].double() - value.double()).abs().max()
            loose = 1e-7 if name in ("eigenvalues", "bounded") else 0  # stop at a tolerance
            assert error <= max(tolerance * value.abs().max(), loose), (rank, name)
            torch.testing.assert_close(found[name], together[0][name], rtol=0, atol=0)


def test_ranks_meet_once_in_a_product(tmp_path):
    for found in run("collectives", 2, tmp_path):
        assert found["reductions"] == [found["size"] + 1], found


def test_what_one_rank_refuses_all_refuse(tmp_path):
    first, second = (found["said"] for found in run("refused", 2, tmp_path))
    for one, other in zip(first, second, strict=True):
        assert one == other
    expected = [
        "NonFiniteError", "InputError: steps is 0", "InputError", "measured by one process",
        "measured by one process", "no process has a batch", "the mode is eval on rank 0",
        "the hash of the weights",
    ]  # fmt: skip
    for words, said in zip(expected, first, strict=False):
        assert words in said
    assert first[-1] == ""  # within lla.alone


def test_memory_that_runs_out_on_one_rank_is_known_to_all(tmp_path):
    for found in run("short", 2, tmp_path):
        assert found["said"] in ("OutOfMemoryError", "RuntimeError")


def test_a_rank_that_ends_ends_the_others_with_a_sentence(tmp_path):
    found = run("ends", 2, tmp_path, missing={1})[0]
    assert "another process has ended or does not answer" in found["said"]
    assert found["seconds"] < 60


def test_parameters_that_are_spread_over_processes_are_refused(tmp_path):
    for found in run("spread", 2, tmp_path):
        assert "spread over processes" in found["said"]


def test_a_rank_that_does_not_come_is_not_waited_for(tmp_path):
    found = run("absent", 2, tmp_path)[0]
    assert "call lla in all processes alike, or within `lla.alone()`" in found["said"]


def test_each_rank_holds_its_part_of_the_basis(tmp_path):
    for found in run("basis", 4, tmp_path):
        assert found["shares"] == [pytest.approx(1 / 4, rel=0.1)]


def test_batches_that_are_finished_when_a_rank_dies_are_kept(tmp_path):
    found = run("dies", 2, tmp_path, missing={1})[0]
    assert "another process has ended or does not answer" in found["said"]
    assert len(list((tmp_path / "batches").glob("*.npz"))) == 4  # of five: 0, 2, 4 and 1
    again = run("goes_on", 2, tmp_path)
    assert [each["calls"] for each in again] == [0, 1]
    whole = run("goes_on", 1, tmp_path)[0]
    assert whole["calls"] == 0, "one process reads what two have written"
    for each in again:
        assert [each[name] for name in ("re", "kh1", "route")] == [
            whole[name] for name in ("re", "kh1", "route")
        ]


def test_a_product_by_differences_where_parameters_are_spread(tmp_path):
    for found in run("differences", 2, tmp_path):
        assert found.get("off", 1) < 1e-8, found
        assert found["off"] <= 3 * found["error"] < 1e-6
        assert found["same"], "the weights are as before"
        assert "the numbers of batches are 1, 2" in found["said"]
        assert "'0.weight' is not spread over the processes" in found["plain"]


def test_processes_that_no_group_joins_are_told(monkeypatch):
    model, data = torch.nn.Linear(2, 3), (torch.ones(4, 2), torch.arange(4) % 3)
    monkeypatch.setenv("WORLD_SIZE", "2")
    lla.Problem(model, data)  # as other launchers set it
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with lla.alone():
        lla.Problem(model, data)
    with pytest.warns(UserWarning, match="started 2 processes, and each measures alone"):
        lla.Problem(model, data)
