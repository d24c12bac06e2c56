"""Claims of section 3.4, from planted records of the cost benchmark."""

import numpy as np
import pytest

from benchmarks.hesd_cost import measurement
from benchmarks.hesd_cost.measurement import CostCase, CriteriaCost
from benchmarks.inputs import Input
from paper_tables.engine import claims
from paper_tables.engine.records import Source
from paper_tables.exhibits import find

SHA = "ab" * 32


def scattered(mean=0.16, probes=0.018, batches=0.05, shape=(8, 20), seed=0):
    """K_H05 by batch and probe with exactly these standard deviations."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape)
    values -= values.mean(axis=1, keepdims=True)
    values *= probes / np.sqrt(values.var(axis=1, ddof=1).mean())
    levels = random.standard_normal(shape[0])
    levels -= levels.mean()
    wanted = np.sqrt(batches**2 + probes**2 / shape[1])
    return mean + values + (levels * wanted / levels.std(ddof=1))[:, None]


def planted(monkeypatch, network="lenet", *, kh05=None, timed=None, loader=1.0, resident=0.5,
            device="cpu", fidelity="reduced", steps=100, batch_size=None, side=32):  # fmt: skip
    """The records of one benchmark."""
    import torch

    if batch_size is None:
        batch_size = 2048 if network == "lenet" else 64
    pairs = [(torch.zeros(batch_size, 1), torch.zeros(batch_size))] * (
        1 if kh05 is None else len(kh05)
    )
    data, weights = Source("mnist", SHA), Source("weights", SHA)
    given = Input(None, pairs, None, 60_000, data, weights, fidelity, "planted")
    if kh05 is None:
        kh05 = np.full((1, 1), 0.16)
    timed = timed or {(1, 1): 0.25, (5, 1): 1.25}
    found = CriteriaCost(kh05, kh05, kh05, timed, loader, resident, "linearized")
    case = CostCase(
        network, side, batch_size, steps, kh05.shape[1], kh05.shape[0], ((1, 1), (5, 1))
    )
    facts = {"code_version": "0", "torch": "2", "threads": 1, "device": device}
    monkeypatch.setattr(measurement.machine, "environment", lambda _: facts)
    return measurement.cost_records(case, given, found)


def judged(records, claim, scope="lenet"):
    (found,) = [j for j in claims.judge(records, find()) if (j.claim.id, j.scope) == (claim, scope)]
    return found


@pytest.mark.parametrize(
    ("loader", "verdict"), [(1.0, "holds"), (1.9, "holds"), (0.3, "fails"), (2.1, "fails")]
)
def test_lenet_takes_ten_passes(monkeypatch, loader, verdict):
    found = judged(planted(monkeypatch, loader=loader, device="cuda (a GPU)"), "C.lenet")
    assert found.verdict == verdict
    assert found.fidelity == "reduced"
    assert "10 s, predicted, on cuda (a GPU) is" in found.note
    on_cpu = judged(planted(monkeypatch, loader=loader), "C.lenet")
    assert on_cpu.verdict == "undecided"
    assert "a CPU's ratio decides nothing" in on_cpu.note


def test_a_budget_that_was_timed_is_taken_before_a_prediction(monkeypatch):
    timed = {(1, 1): 0.25, (5, 1): 1.25, (10, 4): 40.0}
    found = judged(planted(monkeypatch, timed=timed, device="cuda (a GPU)"), "C.lenet")
    assert (found.verdict, "40 s, measured" in found.note) == ("fails", True)


@pytest.mark.parametrize("other", [{"steps": 30}, {"batch_size": 256}])
def test_other_sizes_than_the_papers_are_not_judged(monkeypatch, other):
    found = judged(planted(monkeypatch, **other), "C.lenet")
    assert (found.verdict, found.fidelity) == ("not_run", None)
    assert "batches of 2048 and 100 Lanczos steps" in found.note


def test_stand_in_data_is_not_judged(monkeypatch):
    found = judged(planted(monkeypatch, fidelity="substitute", device="cuda (a GPU)"), "C.lenet")
    assert found.verdict == "not_run"
    assert "would be 'holds'" in found.note


def test_a_gpu_comes_first(monkeypatch):
    slow = planted(monkeypatch, loader=0.1)
    fast = planted(monkeypatch, device="cuda (a GPU)")
    assert judged(slow + fast, "C.lenet").verdict == "holds"


@pytest.mark.parametrize("row", ["resnet18", "resnet50"])
@pytest.mark.parametrize(
    ("device", "loader", "verdict"),
    [
        ("cpu", 1.0, "not_run"),
        ("cuda (NVIDIA H100)", 1.0, "holds"),
        ("cuda (NVIDIA H100)", 4.0, "fails"),
        ("cuda (NVIDIA A100)", 1.0, "fails"),  # 1 s, not 22
    ],
)
def test_resnet_needs_a_gpu(monkeypatch, row, device, loader, verdict):
    found = judged(
        planted(monkeypatch, row, device=device, loader=loader, side=224), "C.resnet", row
    )
    assert found.verdict == verdict
    if "H100" in device:
        assert "are of an A100 and not judged here" in found.note


def test_resnet_on_an_a100(monkeypatch):
    records = planted(
        monkeypatch, "resnet18", device="cuda (NVIDIA A100)", side=224, loader=20.0,
        timed={(1, 1): 5.5, (5, 1): 27.5},
    )  # fmt: skip
    assert judged(records, "C.resnet", "resnet18").verdict == "holds"


@pytest.mark.parametrize(
    ("probes", "verdict"), [(0.018, "holds"), (0.002, "fails"), (0.05, "fails")]
)
def test_single_runs_spread(monkeypatch, probes, verdict):
    found = judged(planted(monkeypatch, kh05=scattered(probes=probes)), "S.nhes")
    assert found.verdict == verdict
    assert "20 single runs on a batch" in found.note


@pytest.mark.parametrize(
    ("batches", "count", "verdict"),
    [
        (0.035, 30, "holds"),
        (0.002, 8, "fails"),
        (0.4, 8, "fails"),
        (0.045, 8, "undecided"),  # so few batches do not say how far they spread
        (0.2, 4, "undecided"),
    ],
)
def test_single_batches_spread(monkeypatch, batches, count, verdict):
    kh05 = scattered(batches=batches, shape=(count, 20))
    found = judged(planted(monkeypatch, kh05=kh05), "S.batch")
    assert found.verdict == verdict
    assert "is not judged" in found.note


def test_the_spread_needs_a_run_with_several_probes(monkeypatch):
    records = planted(monkeypatch)
    assert judged(records, "S.nhes").verdict == judged(records, "S.batch").verdict == "not_run"


def test_records_of_the_cost_leave_other_claims_alone(monkeypatch):
    def others(records):
        return [
            (j.claim.id, j.scope, j.verdict, j.note)
            for j in claims.judge(records, find())
            if j.claim.id not in ("C.lenet", "C.resnet", "S.nhes", "S.batch")
        ]

    assert others(planted(monkeypatch, kh05=scattered())) == others([])
