"""Two processes train one model: one of them measures, and both end at the same bits."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as distributed
from torch import nn

import lla
from lla.tracking import processes

SCRIPT = """
import json, os, sys
import torch, lla
import torch.distributed as distributed
import torch.nn.functional as F
from torch import nn

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
)

def train(follow):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    model = nn.parallel.DistributedDataParallel(net)
    x, y = torch.randn(24, 4), torch.arange(24) % 3
    tracker = follow(model, (x, y))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(6):
        F.cross_entropy(model(x[rank::2]), y[rank::2]).backward()
        optimizer.step()
        optimizer.zero_grad()
        if tracker is not None:
            tracker.step()
    steps = [] if tracker is None else [row.step for row in tracker.rows]
    return [tensor.tolist() for tensor in net.state_dict().values()], steps

def follow(model, batch):
    return lla.Tracker(
        model, batch, every=2, share=1.0, steps=8, probes=3, target_stderr=None, strict=True,
        route="fresh", csv=f"{folder}/criteria.csv",
    )

found = train(lambda model, batch: None), train(follow)
with open(f"{folder}/{rank}.json", "w") as stream:
    json.dump(found, stream)
# threads of gloo that wait for a rank which has ended would abort an ordinary end
os._exit(0)
"""


@pytest.mark.skipif(not distributed.is_gloo_available(), reason="torch has no gloo here")
def test_the_first_process_measures(tmp_path):
    command = [sys.executable, "-c", SCRIPT]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path)], env=environment, stderr=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    for each in started:
        _, said = each.communicate(timeout=120)
        assert each.returncode == 0, said
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for (plain, _), (followed, _) in (first, second):
        assert plain == followed
    assert (first[1][1], second[1][1]) == ([2, 4, 6], [])
    assert len((tmp_path / "criteria.csv").read_text().splitlines()) == 4


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is the second of two."""
    fake = SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True,
        get_world_size=lambda: 2, get_rank=lambda: 1,
    )  # fmt: skip
    monkeypatch.setattr(processes, "distributed", fake)
    return fake


def small(*layers):
    return nn.Sequential(nn.Linear(4, 6), *layers, nn.Linear(6, 3))


BATCH = torch.ones(6, 4), torch.arange(6) % 3


def test_other_processes_do_nothing(second_of_two, tmp_path):
    path = tmp_path / "criteria.csv"
    path.write_text("of the first process")
    tracker = lla.Tracker(small(), BATCH, every=1, csv=path)
    assert tracker.step() is None
    assert tracker.measure() is None
    assert tracker.rows == ()


@pytest.mark.parametrize("mark", ["device_mesh", "ds_id"])
def test_parameters_in_several_processes_are_refused(second_of_two, mark):
    second_of_two.get_rank = lambda: 0
    model = small()
    setattr(model[0].weight, mark, 1)
    with pytest.raises(lla.InputError, match="the parameters are spread over processes"):
        lla.Tracker(model, BATCH)


def test_statistics_of_several_processes_are_refused_in_train_mode(second_of_two):
    second_of_two.get_rank = lambda: 0
    model = small(nn.SyncBatchNorm(6))
    with pytest.raises(lla.InputError, match="SyncBatchNorm in train mode waits"):
        lla.Tracker(model, BATCH, mode="train")
    second_of_two.get_world_size = lambda: 1
    processes.check_measurable(model, "train")
