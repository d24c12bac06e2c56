"""Recorded graphs that were simplified, against explicit float64 Hessians."""

import contextlib
import gc

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import lla
from lla.hessian.products.convolutions import (
    selected_convolution,
    selected_weight_gradient,
    weight_gradient,
)
from lla.hessian.products.linearize import _Recorder, linearize_gradient

aten = torch.ops.aten
Y = torch.tensor([0, 1, 2])


class Network(nn.Module):
    """Layers, tanh and a last layer that fits, in float64."""

    def __init__(self, *layers, shape=(1, 9, 8)):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        generator = torch.Generator().manual_seed(1)
        # some pixels are equal, as in pictures: maxima are tied
        self.x = torch.rand(3, *shape, generator=generator).double().mul(4).round().div(4)
        self.double()
        size = self.layers(self.x).flatten(1).shape[1]
        self.last = nn.Linear(size, 3).double()

    def forward(self, x):
        """Logits [N, 3]."""
        return self.last(torch.tanh(self.layers(x).flatten(1)))


def linear_map(model):
    """A network's Hessian product, recorded, and a vector that it takes."""
    problem = lla.Problem(model, (model.x, Y))
    (batch,) = problem.batches
    function = problem.batch_loss(batch, problem.space, problem.state())
    theta = problem.theta()
    return linearize_gradient(function, theta, problem.deterministic), theta


def recorded(model):
    """The nodes of its graph."""
    return list(linear_map(model)[0].graph.nodes)


def values(model):
    """What they compute."""
    module, vector = linear_map(model)
    interpreter = fx.Interpreter(module, garbage_collect_values=False)
    interpreter.run(vector)
    return interpreter.env


def targets(model):
    """The functions that it calls."""
    return [node.target for node in recorded(model)]


def check_hessian(model):
    """Products, one by one and together, are those of the explicit Hessian."""
    problem = lla.Problem(model, (model.x, Y))
    theta = problem.theta()
    shapes = {name: p.shape for name, p in model.named_parameters()}

    def loss(vector):
        parts = vector.split([shape.numel() for shape in shapes.values()])
        weights = {n: p.view(s) for p, (n, s) in zip(parts, shapes.items(), strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, weights, (model.x,)), Y)

    exact = torch.autograd.functional.hessian(loss, theta)
    operator = lla.HessianOperator(problem, route="linearized")
    rows = torch.eye(len(theta)).double()
    torch.testing.assert_close(operator.rows(rows), exact, rtol=1e-10, atol=1e-12)
    module, _ = linear_map(model)
    for found in (torch.stack([module(row) for row in rows]), torch.func.vmap(module)(rows)):
        torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)


def conv(out=4, **geometry):
    return nn.Conv2d(1, out, **{"kernel_size": 3, **geometry})


UNPOOLED = {
    "plain": lambda: conv(),
    "padded": lambda: conv(padding=2),
    "strided": lambda: conv(stride=(2, 1), padding=(1, 0)),
    "dilated": lambda: conv(dilation=2, padding=1),
    "same": lambda: conv(padding="same"),
    "no bias": lambda: conv(kernel_size=(3, 2), stride=3, bias=False),
}


@pytest.mark.parametrize("name", UNPOOLED)
def test_weight_gradients_over_one_channel_come_from_patches(name):
    model = Network(UNPOOLED[name]())
    found = targets(model)
    assert weight_gradient in found
    assert aten.convolution_backward.default not in found
    check_hessian(model)


OTHERS = {
    "two channels": lambda: Network(nn.Conv2d(2, 4, 3), shape=(2, 8, 8)),
    "two groups": lambda: Network(nn.Conv2d(2, 4, 3, groups=2), shape=(2, 8, 8)),
    "transposed": lambda: Network(nn.ConvTranspose2d(1, 4, 3)),
    "of lines": lambda: Network(nn.Conv1d(1, 4, 3), shape=(1, 8)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_convolutions_stay_as_they_are(name):
    found = targets(OTHERS[name]())
    assert aten.convolution_backward.default in found
    assert weight_gradient not in found


def test_an_input_that_depends_on_the_weights_is_not_cut_into_patches():
    model = Network(nn.Conv2d(2, 1, 3), nn.Conv2d(1, 2, 3), shape=(2, 8, 8))
    # the weight gradient of the second layer has a term with a constant input and one without
    assert targets(model).count(weight_gradient) == 1
    check_hessian(model)


POOLED = {
    "relu": lambda: (conv(), nn.ReLU(), nn.MaxPool2d(2)),
    "relu in place": lambda: (conv(), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
    "pooled first": lambda: (conv(), nn.MaxPool2d(2), nn.ReLU()),
    "no relu": lambda: (conv(padding=1), nn.MaxPool2d(2)),
    "overlapping": lambda: (conv(3, bias=False), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)),
    "rounded up": lambda: (conv(padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)),
    "strided": lambda: (conv(stride=(2, 1), padding=1), nn.ReLU(), nn.MaxPool2d((1, 2))),
    "dilated": lambda: (conv(dilation=2, padding=1), nn.ReLU(), nn.MaxPool2d(2, dilation=2)),
}


@pytest.mark.parametrize("name", POOLED)
def test_a_pooled_convolution_over_one_channel_works_at_the_maxima_alone(name):
    model = Network(*POOLED[name]())
    found = targets(model)
    assert found.count(selected_convolution) == found.count(selected_weight_gradient) == 1
    assert aten.convolution.default not in found
    check_hessian(model)


def test_many_channels_are_convolved_as_they_are():
    # with 9 channels the maxima of pairs of pairs are 9/4 of the positions
    for channels, selected in ((8, True), (9, False)):
        model = Network(conv(channels, padding=1), nn.MaxPool2d(2), shape=(1, 8, 8))
        assert (selected_convolution in targets(model)) == selected
        assert (weight_gradient in targets(model)) != selected
    check_hessian(model)


@pytest.mark.parametrize("pool", [(2,), (3, 2, 1)], ids=str)
def test_masks_work_on_what_a_pooling_picks(pool):
    layers = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(*pool), nn.Conv2d(3, 2, 2)
    model = Network(*layers, shape=(2, 9, 9))
    picked = model.layers[:3](model.x).numel()
    masks = [n for n in recorded(model) if n.target is aten.threshold_backward.default]
    assert len(masks) == 2  # the derivatives of the activations, and those of their gradient
    assert {node.meta["shape"].numel() for node in masks} == {picked}
    check_hessian(model)


def test_results_in_channels_last():
    layers = (
        *(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1, padding=1)),
        *(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 1, padding=1)),
    )
    model = Network(*layers, shape=(2, 5, 5)).to(memory_format=torch.channels_last)
    model.x = model.x.contiguous(memory_format=torch.channels_last)
    check_hessian(model)
    func = aten.max_pool2d_with_indices_backward.default
    made = {n: value for n, value in values(model).items() if n.target is func}
    assert made
    assert all(v.is_contiguous(memory_format=torch.channels_last) for v in made.values())


class Shifted(nn.Module):
    """A shift for every position and for every channel, and a pooling."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.linspace(0, 1, 72).view(9, 8))
        self.channel = nn.Parameter(torch.linspace(0, 1, 2).view(2, 1, 1))

    def forward(self, x):
        """Maxima of pairs of pairs."""
        return F.max_pool2d(x + self.position + self.channel, 2)


def test_sums_over_all_positions_are_those_of_what_a_pooling_picks():
    model = Network(Shifted(), shape=(2, 9, 8))
    sums = [n for n in recorded(model) if n.target is aten.sum.dim_IntList]
    summed = {tuple(node.args[0].meta["shape"]) for node in sums}
    assert (3, 2, 4, 4) in summed  # for the channels
    assert (3, 2, 9, 8) in summed  # for the positions
    check_hessian(model)


class Shared(nn.Module):
    """A masked result that is pooled, and used as it is."""

    def __init__(self, pools):
        super().__init__()
        self.conv, self.pools = conv(3, padding=1), pools

    def forward(self, x):
        """Both, side by side."""
        x = torch.relu(self.conv(x))
        return torch.cat([x.flatten(1), *(F.max_pool2d(x, *p).flatten(1) for p in self.pools)], 1)


@pytest.mark.parametrize("pools", [[(2,)], [(2,), (2, 1)], [(3, 2), (2, 1, 0, 2)]], ids=str)
def test_results_with_other_uses(pools):
    check_hessian(Network(Shared(pools)))


class TwoOfOneInput(nn.Module):
    """Convolutions of the same input and shape, with maxima at other positions."""

    def __init__(self):
        super().__init__()
        self.first, self.second = conv(2), conv(2)

    def forward(self, x):
        """Both, one after the other."""
        return torch.cat([F.max_pool2d(layer(x), 2) for layer in (self.first, self.second)], 1)


def test_convolutions_of_one_input_keep_their_own_maxima():
    model = Network(TwoOfOneInput())
    assert targets(model).count(selected_convolution) == 2
    check_hessian(model)


class Picks(nn.Module):
    """Values that the network itself picks, by index out of all channels together."""

    def __init__(self, start):
        super().__init__()
        self.conv, self.start = conv(3), start

    def forward(self, x):
        """Every third of them."""
        x = torch.relu(self.conv(x)).flatten(self.start)
        size = x.shape[-1]
        return x.gather(-1, torch.arange(0, size, 3).expand(*x.shape[:-1], -1))


@pytest.mark.parametrize("start", [1, 2])
def test_other_selections_than_a_poolings(start):
    model = Network(Picks(start))
    # along one channel it is the same thing as a pooling
    assert (selected_convolution in targets(model)) == (start == 2)
    check_hessian(model)


def test_a_gradient_of_pooling_reads_no_values_of_what_was_pooled():
    model = Network(nn.Conv2d(2, 3, 3), nn.MaxPool2d(2), shape=(2, 8, 8))
    func = aten.max_pool2d_with_indices_backward.default
    module, _ = linear_map(model)
    (node,) = [n for n in module.graph.nodes if n.target is func]
    shape_alone = getattr(module, node.args[1].target)
    assert shape_alone.untyped_storage().nbytes() == shape_alone.element_size()
    check_hessian(model)


def curvature(function, size):
    """The recorded second derivative of a function of a vector, and the explicit one."""
    theta = torch.linspace(0.1, 1.0, size).double()
    linear = linearize_gradient(function, theta, contextlib.nullcontext)
    found = torch.stack([linear(row) for row in torch.eye(size).double()])
    return found, torch.autograd.functional.hessian(function, theta)


def test_one_index_into_two_shapes_of_one_memory():
    images = torch.rand(2, 1, 4, 6).double()
    index = torch.randint(0, 8, (2, 2, 5))

    def convolved(theta):
        weight = theta.view(2, 1, 3, 3)
        both = (F.conv2d(x, weight) for x in (images, images.view(2, 1, 6, 4)))
        return sum((x.flatten(2).gather(-1, index) ** 3).sum() for x in both)

    def masked(theta):
        values = theta.exp().view(2, 2, 3, 4)
        masks = (F.threshold(x, 2.0, 0.0) for x in (values, values.view(2, 1, 6, 4)))
        indices = (index, index.view(2, 1, 10))
        both = (x.flatten(2).gather(-1, i) for x, i in zip(masks, indices, strict=True))
        return sum((x**3).sum() for x in both)

    torch.testing.assert_close(*curvature(convolved, 18))
    torch.testing.assert_close(*curvature(masked, 48))


def test_a_number_without_positions():
    index = torch.tensor([0])

    def picked(theta):
        return (theta.prod().relu().reshape(1).gather(-1, index) ** 2).sum()

    torch.testing.assert_close(*curvature(picked, 3))


def test_a_factor_of_a_sum_stays():
    def scaled(theta):
        return torch.add(torch.zeros_like(theta) * theta, theta.sin(), alpha=3).prod()

    torch.testing.assert_close(*curvature(scaled, 4))


def test_nothing_but_the_constants_is_kept():
    model = Network(conv(), nn.ReLU(), nn.MaxPool2d(2))
    gc.collect()
    gc.disable()  # what is left must not hang in a cycle
    try:
        module, _ = linear_map(model)
        assert not [x for x in gc.get_objects() if type(x) is _Recorder]
    finally:
        gc.enable()
    assert not any("value" in node.meta for node in module.graph.nodes)
