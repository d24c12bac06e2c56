"""Weight gradients over one channel, against autograd and an explicit Hessian."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lla
from lla.hessian.convolutions import weight_gradient
from lla.hessian.linearize import linearize_gradient

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(3, 1, 9, 8, generator=GENERATOR).double()
GEOMETRIES = [
    {},
    {"padding": 2},
    {"stride": (2, 1), "padding": (1, 0)},
    {"dilation": 2, "padding": 1},
    {"padding": "same"},
    {"kernel_size": (3, 2), "stride": 3, "bias": False},
]


def network(**geometry):
    geometry = {"kernel_size": 3, **geometry}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = followed(nn.Conv2d(1, 4, **geometry)).double()
        model(X)
    return model


def followed(*layers):
    return nn.Sequential(*layers, nn.Tanh(), nn.Flatten(), nn.LazyLinear(3))


def nodes(model, x):
    """Functions that the recorded graph of a network's Hessian calls."""
    model(x)  # gives the last layer its shape
    problem = lla.Problem(model, (x, torch.tensor([0, 1, 2])))
    (batch,) = problem.batches
    function = problem.batch_loss(batch, problem.space, problem.state())
    recorded = linearize_gradient(function, problem.theta(), problem.deterministic)
    return [node.target for node in recorded.graph_module.graph.nodes]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_products_are_those_of_the_explicit_hessian(geometry):
    model, y = network(**geometry), torch.tensor([0, 1, 2])
    problem = lla.Problem(model, (X, y))
    theta, shapes = problem.theta(), [p.shape for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]

    def loss(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        weights = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, weights, (X,)), y)

    exact = torch.autograd.functional.hessian(loss, theta)
    operator = lla.HessianOperator(problem, route="linearized")
    assert weight_gradient in nodes(model, X)
    found = operator.rows(torch.eye(len(theta)).double())
    torch.testing.assert_close(found, exact, rtol=1e-10, atol=1e-12)


OTHERS = {
    "two channels": (lambda: nn.Conv2d(2, 4, 3), (3, 2, 8, 8)),
    "two groups of one channel": (lambda: nn.Conv2d(2, 4, 3, groups=2), (3, 2, 8, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(1, 4, 3), (3, 1, 8, 8)),
    "of lines": (lambda: nn.Conv1d(1, 4, 3), (3, 1, 8)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_convolutions_stay_as_they_are(name):
    layer, shape = OTHERS[name]
    found = nodes(followed(layer()), torch.ones(shape))
    assert torch.ops.aten.convolution_backward.default in found
    assert weight_gradient not in found


def test_an_input_that_depends_on_the_weights_is_not_cut_into_patches():
    model = followed(nn.Conv2d(2, 1, 3), nn.Conv2d(1, 2, 3))
    # the weight gradient of the second layer has a term with a constant input and one without
    assert nodes(model, torch.ones(3, 2, 8, 8)).count(weight_gradient) == 1


def test_gradient_in_float32_is_as_exact_as_torchs():
    x = torch.rand(512, 1, 32, 32, generator=GENERATOR)
    g = torch.rand(512, 6, 28, 28, generator=GENERATOR)
    patches = F.unfold(x, 5).transpose(1, 2).contiguous()
    found = weight_gradient(g, patches, (5, 5))
    exact = torch.nn.grad.conv2d_weight(x.double(), (6, 1, 5, 5), g.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
