import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla.analysis import Blocks
from lla.analysis.blocks import blocks_of


class Net(nn.Module):
    """A scale of its own, a layer that is never called, and a unit that is dead."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.first = nn.Linear(3, 4)
        self.never = nn.Linear(2, 2)
        self.last = nn.Linear(4, 2)
        with torch.no_grad():
            self.first.bias[0] = -100.0  # ReLU passes nothing

    def forward(self, x):
        return self.last(torch.relu(self.scale * self.first(x)))


@pytest.fixture
def problem():
    torch.manual_seed(0)
    x, y = torch.randn(12, 3, dtype=torch.float64), torch.arange(12) % 2
    return lla.Problem(Net().double(), (x, y))


def exact(problem):
    """The Hessian [P, P], column by column."""
    H = lla.HessianOperator(problem)
    return (H @ torch.eye(H.shape[0], dtype=torch.float64)).numpy()


def test_traces_of_blocks_are_those_of_the_explicit_hessian(problem):
    H = lla.HessianOperator(problem)
    found = blocks_of(problem, H, 400, 0)
    assert found.names == ("", "first", "never", "last")
    assert found.sizes.tolist() == [1, 16, 6, 10]
    whole, start = exact(problem), 0
    for i, size in enumerate(found.sizes):
        own = np.trace(whole[start : start + size, start : start + size])
        trace = found.trace(i)
        assert abs(trace.value - own) <= 4 * (trace.stderr or 0) + 1e-12
        start += size
    total = found.total
    assert abs(total.value - np.trace(whole)) <= 4 * total.stderr


def test_the_error_of_a_share_is_that_of_repeated_measurements(problem):
    H = lla.HessianOperator(problem)
    shares = [blocks_of(problem, H, 20, seed).share(3) for seed in range(60)]
    scatter = np.std([share.value for share in shares], ddof=1)
    assert np.mean([share.stderr for share in shares]) == pytest.approx(scatter, rel=0.3)


def test_parameters_that_the_loss_does_not_depend_on_are_counted(problem):
    found = blocks_of(problem, lla.HessianOperator(problem), 3, 0)
    # the layer that is never called; the dead unit: 3 weights, a bias, and 2 weights behind it
    assert found.unused.tolist() == [0, 4, 6, 2]
    assert found.unused_share == pytest.approx(12 / 33)
    frame = found.to_frame()
    assert frame.loc["never", "trace"] == 0
    assert frame["share"].sum() == pytest.approx(1)


def test_no_trace_has_no_shares():
    zero = Blocks(("a",), np.array([3]), np.zeros((1, 2)), np.array([3]))
    assert zero.share(0).stderr is None
