"""Two and four threads at once give what one thread gives, and leave the process as it was."""

import os
import random
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lla
from lla.training import train

ROUNDS = 100 if os.environ.get("LLA_LONG") else 1


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


def pictures_net():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(12, 3),
    )  # fmt: skip


class Jobs:
    """What the threads do, by name: all on the same two networks."""

    def __init__(self):
        self.pictures = torch.rand(6, 1, 6, 6), torch.arange(6) % 3
        self.tokens = torch.rand(6, 4, 8), torch.arange(6) % 3
        self.cnn, self.attention = pictures_net(), Attention()

    def criteria(self):
        found = lla.criteria(
            self.cnn, self.pictures, mode="train", probes=2, steps=6, route="linearized"
        )
        return [found.kh1.value, found.re.value, found.loss]

    def attention_criteria(self):
        return [
            lla.criteria(self.attention, self.tokens, probes=1, steps=5, route="fresh").re.value
        ]

    def attention_plane(self):
        problem = lla.Problem(self.attention, self.tokens)
        return lla.loss_plane(problem, steps=2, normalization="output", route="loop").loss

    def plane_of_the_fastest_route(self):
        problem = lla.Problem(self.cnn, self.pictures)
        return lla.loss_plane(problem, steps=6, normalization="filter").loss

    def loss_from_a_loader(self):
        loader = DataLoader(TensorDataset(*self.pictures), batch_size=2)
        return [float(lla.Problem(self.cnn, loader, mode="train").loss())]

    def eigenpairs(self):
        H = lla.HessianOperator(lla.Problem(self.attention, self.tokens), route="retained")
        return lla.top_eigenpairs(H, k=1, which="LA").values

    def trace(self):
        problem = lla.Problem(self.cnn, self.pictures, mode="train")
        H = lla.HessianOperator(problem, route="linearized")
        return [lla.trace(H, rtol=0.5, max_matvecs=40).value]

    def training(self):
        network = lla.models.build("lenet", 10, 0, "torch")
        x, y = torch.linspace(0, 1, 8 * 1024).reshape(8, 1, 32, 32), torch.arange(8)
        return [train(network, (x, y), epochs=1, batch_size=4).loss[0]]


JOBS = [name for name in vars(Jobs) if not name.startswith("_")]


def process_state():
    return (
        torch.get_rng_state().tolist(), random.getstate(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(), torch.backends.cudnn.deterministic,
        torch.get_default_dtype(), list(warnings.filters),
    )  # fmt: skip


@pytest.mark.hard_use(
    "Two and four threads at once: criteria with dropout, planes, traces, eigenpairs and training "
    "on shared networks are as of one thread; random states, attention settings, warnings too"
)
@pytest.mark.parametrize("workers", [2, 4])
def test_threads_are_as_one(workers, record_property):
    jobs = Jobs()
    expected = {name: np.asarray(getattr(jobs, name)()) for name in JOBS}
    before = process_state()
    order = random.Random(workers)
    tasks = [name for _ in range(ROUNDS) for name in order.sample(JOBS, len(JOBS))]
    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(lambda name: getattr(jobs, name)(), tasks))
    for name, values in zip(tasks, found, strict=True):
        # routes round differently, and which is the fastest is measured
        tolerance = 1e-5 if name == "plane_of_the_fastest_route" else 0
        np.testing.assert_allclose(values, expected[name], rtol=tolerance, err_msg=name)
    assert process_state() == before
    record_property("measured", f"{len(tasks)} calls in {workers} threads")
