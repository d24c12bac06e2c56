"""Training goes on to the same bits with a tracker as without one."""

import itertools
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla

STEPS = 12


class Noise(nn.Module):
    """Draws from all generators in train mode, one of its own among them."""

    def __init__(self):
        super().__init__()
        self.own = np.random.default_rng(5)

    def forward(self, x):
        if not self.training:
            return x
        drawn = random.random() + np.random.random() + self.own.random()  # noqa: NPY002
        return x * (1 + 0.01 * drawn)


def network(device):
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), Noise(),
        nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3),
    ).to(device)  # fmt: skip


def data(device):
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(96, 6, generator=generator)
    return x.to(device), torch.randint(0, 3, (96,), generator=generator).to(device)


def state(model, optimizer):
    """Everything that a training goes on from."""
    device = next(model.parameters()).device
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    moments = [v.clone() for each in optimizer.state.values() for v in each.values()]
    return {
        "tensors": [tensor.clone() for tensor in model.state_dict().values()],
        "moments": moments,
        "gradients": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "flags": [(m.training, p.requires_grad) for m in model.modules() for p in m.parameters()],
        "torch": [torch.get_rng_state(), cuda],
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "python": random.getstate(),
        "own": model[4].own.bit_generator.state,
    }


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(itertools.starmap(same, zip(one, other, strict=True)))
    return one == other


def different(one, other):
    return {name for name in one if not same(one[name], other[name])}


def train(device, follow=None, *, accumulate=False, autocast=False):
    """Train with everything random; with `accumulate` two batches a step, measured before it."""
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    model, (x, y) = network(device), data(device)
    torch.manual_seed(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-3)
    tracker = None if follow is None else follow(model, (x, y))
    loader = torch.utils.data.DataLoader(list(zip(x, y, strict=True)), 32, shuffle=True)
    endless = itertools.chain.from_iterable(itertools.repeat(loader))
    for i, (inputs, targets) in enumerate(itertools.islice(endless, STEPS)):
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        if accumulate and tracker is not None:
            before = state(model, optimizer)
            row = tracker.step()
            assert not different(before, state(model, optimizer))
            assert any(p.grad.abs().max() > 0 for p in model.parameters())
            assert row is None or row.re is not None, row
        if not accumulate or i % 2:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
        if not accumulate and tracker is not None:
            tracker.step()
    return state(model, optimizer), tracker


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_training_ends_at_the_same_bits(mode, accumulate, autocast, device):
    def follow(model, batch):
        x, y = batch
        return lla.Tracker(
            model, [(x[:32], y[:32]), (x[32:64], y[32:64])], every=4, share=1.0, mode=mode,
            steps=10, probes=4, target_stderr=None, strict=True,
        )  # fmt: skip

    settings = {"accumulate": accumulate, "autocast": autocast}
    plain, _ = train(device, **settings)
    followed, tracker = train(device, follow, **settings)
    assert [row.step for row in tracker.rows] == [4, 8, 12]
    assert len({row.re for row in tracker.rows}) == 3
    assert different(plain, followed) == set()


def test_this_notices_a_forward_pass(device):
    """One call of the model in train mode draws numbers and moves BatchNorm's statistics."""

    class Careless:
        def __init__(self, model, batch):
            self.model, self.x = model, batch[0]

        def step(self):
            with torch.no_grad():
                self.model(self.x)

    plain, _ = train(device)
    followed, _ = train(device, Careless)
    expected = {"tensors", "moments", "torch", "numpy", "python", "own"}
    assert different(plain, followed) >= expected - ({"torch"} if device.type == "cuda" else set())


def test_hooks_of_parameters_and_of_the_optimizer_see_training_alone():
    model, (x, y) = network("cpu"), data("cpu")
    called = []
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: called.append("hook"))
        parameter.register_post_accumulate_grad_hook(lambda p: called.append("grad"))
    tracker = lla.Tracker(model, (x, y), every=1, steps=10, target_stderr=None)
    tracker.measure()
    assert called == []
    assert tracker.rows[0].re == lla.criteria(network("cpu"), (x, y), steps=10).re.value
    F.cross_entropy(model(x), y).backward()
    assert called.count("grad") == len(list(model.parameters()))
