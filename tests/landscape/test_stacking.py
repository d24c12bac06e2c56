import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.landscape import random_directions
from lla.landscape.evaluate import Directions, make_route
from lla.landscape.stacking import StackedConvolution


class Net(nn.Module):
    """Convolutions of the input, by the function that is given."""

    def __init__(self, convolve, channels=2, **options):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, **options)
        self.scale = nn.Parameter(torch.ones(()))
        self.fixed = torch.randn(4, channels, 3, 3).double()  # of every point the same
        self.convolve = convolve

    def forward(self, x):
        return self.convolve(self, x).relu().mean((2, 3))


def first(net, x):
    return net.conv(x)


def scaled(net, x):  # equal to the batch at the weights themselves, and nowhere else
    return net.conv(x * net.scale)


def twice(net, x):
    return net.conv(x) + F.conv2d(x, weight=net.conv.weight, padding=2, dilation=2)


def later(net, x):
    return net.conv(x.flip(1)) + net.conv(x.relu())


def in_place(net, x):  # what the first has overwritten must not be taken for the second
    return F.relu_(net.conv(x)) + net.conv(x).sigmoid()


def not_of_theta(net, x):
    return F.conv2d(x, net.fixed) * net.conv.weight.sum()


def transposed(net, x):
    return F.conv2d(x, net.conv.weight.transpose(2, 3), net.conv.bias)


CASES = {
    "first": (first, {}, True),
    "strided": (first, {"stride": 2, "padding": 1}, True),
    "same": (first, {"padding": "same", "bias": False}, True),
    "twice": (twice, {"padding": "same"}, True),
    "in_place": (in_place, {}, True),
    "grouped": (first, {"groups": 2}, False),
    "scaled": (scaled, {}, False),
    "later": (later, {}, False),
    "not_of_theta": (not_of_theta, {}, False),
    "transposed": (transposed, {}, False),
}


def problem_of(name, batches=2):
    convolve, options, _ = CASES[name]
    torch.manual_seed(0)
    model = Net(convolve, **options).double()
    data = [(torch.randn(5, 2, 7, 7).double(), torch.arange(5) % 4) for _ in range(batches)]
    return lla.Problem(model, data)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 3, 8])
def test_losses_are_those_of_the_loop(name, size):
    problem = problem_of(name)
    directions = Directions(problem.theta(), random_directions(problem.theta()))
    points = torch.randn(7, 2, dtype=torch.float64)
    expected = make_route("loop", problem, directions)(points)
    found = make_route(f"stacked:{size}", problem, directions)(points)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert len(set(expected.tolist())) == 7


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_convolution_of_the_batch_is_not_stacked(name):
    problem = problem_of(name, batches=1)
    (batch,) = problem.batches
    thetas = problem.theta() + 0.1 * torch.randn(4, problem.space.size).double()
    function = problem.batch_loss(batch)
    with torch.no_grad(), StackedConvolution() as stacking:
        stacking.begin(thetas, batch.x)
        for i in range(4):
            function(stacking.at(i))
    assert stacking.calls == (0 if not CASES[name][2] else 6 if name == "twice" else 3)


def test_inputs_that_are_no_tensor_are_left_alone():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 2)

        def forward(self, x, y):
            return self.conv(x + y).mean((2, 3))

    x = torch.rand(3, 1, 4, 4)
    problem = lla.Problem(Pair(), [((x, x), torch.tensor([0, 1, 0]))])
    directions = Directions(problem.theta(), random_directions(problem.theta()))
    points = torch.randn(5, 2, dtype=torch.float64)
    expected = make_route("loop", problem, directions)(points)
    assert torch.equal(make_route("stacked:2", problem, directions)(points), expected)
