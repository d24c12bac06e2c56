import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla import measures


def net(*widths, bias=True, act=nn.ReLU):
    torch.manual_seed(1)
    layers = [nn.Linear(a, b, bias=bias) for a, b in pairwise(widths)]
    parts = [part for layer in layers for part in (layer, act())][:-1]
    return nn.Sequential(*parts).double()


def batches(sizes=(5, 3), width=4, classes=3):
    torch.manual_seed(2)
    return [(torch.randn(n, width).double(), torch.randint(classes, (n,))) for n in sizes]


def explicit_fisher_rao(model, data, labels):
    """From the gradient of every example's loss."""
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    total, n = 0.0, sum(len(x) for x, _ in data)
    for x, y in data:
        for one, label in zip(x, y, strict=True):
            z = model(one[None])
            p = z.detach().softmax(1)[0]
            for c, share in enumerate(p) if labels == "model" else [(int(label), 1.0)]:
                value = F.cross_entropy(z, torch.tensor([c]))
                parts = torch.autograd.grad(value, list(model.parameters()), retain_graph=True)
                gradient = torch.cat([part.flatten() for part in parts])
                total += float(share * (gradient @ theta) ** 2) / n
    return total


@pytest.mark.parametrize("labels", ["data", "model"])
@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh])
def test_fisher_rao_is_that_of_its_definition(labels, act):
    model, data = net(4, 6, 5, 3, act=act), batches()
    found = measures.fisher_rao(lla.Problem(model, data), labels)
    assert found == pytest.approx(explicit_fisher_rao(model, data, labels), rel=1e-10)


def test_fisher_rao_of_a_piecewise_linear_network_without_biases():
    model, data = net(4, 6, 5, 3, bias=False), batches((8,))
    ((x, y),) = data
    z = model(x).detach()
    slope = z.softmax(1) - F.one_hot(y, 3)
    expected = 9 * float((slope * z).sum(1).square().mean())
    assert measures.fisher_rao(lla.Problem(model, data)) == pytest.approx(expected, rel=1e-10)


def test_fisher_rao_of_batch_statistics_is_that_of_each_loss_in_its_batch():
    model, data = (
        nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).double(),
        batches((7,)),
    )
    ((x, y),) = data
    theta = torch.cat([p.detach().flatten() for p in model.parameters()])
    found = measures.fisher_rao(lla.Problem(copy.deepcopy(model), data, mode="train"))
    each = F.cross_entropy(model.train()(x), y, reduction="none")
    squares = [
        (torch.cat([g.flatten() for g in torch.autograd.grad(
            v, list(model.parameters()), retain_graph=True)]) @ theta) ** 2
        for v in each
    ]  # fmt: skip
    assert found == pytest.approx(float(sum(squares)) / 7, rel=1e-9)


def test_fisher_rao_needs_a_cross_entropy():
    x, y = torch.randn(6, 4).double(), torch.randn(6, 3).double()
    squares = lla.Problem(net(4, 3), (x, y), loss=F.mse_loss)
    with pytest.raises(lla.InputError, match="needs a mean cross-entropy, but in batch 0 the loss"):
        measures.fisher_rao(squares)
    own = lla.Problem(net(4, 3), batches(), loss=lambda model, batch: F.cross_entropy(
        model(batch[0]), batch[1]))  # fmt: skip
    with pytest.raises(lla.InputError, match="a function of the model"):
        measures.fisher_rao(own)
    with pytest.raises(lla.InputError, match="labels is 'true': choose 'data' or 'model'"):
        measures.fisher_rao(lla.Problem(net(4, 3), batches()), "true")


def test_trace_and_largest_eigenvalue_are_those_of_the_explicit_hessian():
    model, data = net(4, 5, 3, act=nn.Tanh), batches((8,))
    problem = lla.Problem(model, data)
    ((x, y),) = data

    def value(w):
        hidden = torch.tanh(F.linear(x, w, model[0].bias))
        return F.cross_entropy(model[2](hidden), y)

    H = torch.autograd.functional.hessian(value, model[0].weight.detach()).reshape(20, 20)
    largest = float(torch.linalg.eigvalsh(H)[-1])
    assert measures.largest_eigenvalue(problem, "0") == pytest.approx(largest, rel=1e-4)
    trace = measures.layer_trace(problem, "0", rtol=0.3)
    assert abs(trace.value - float(H.trace())) <= 4 * trace.stderr
    square = float(model[0].weight.detach().square().sum())
    layerwise = measures.layerwise(problem, "0", rtol=0.3)
    assert layerwise.value == pytest.approx(square * trace.value, rel=1e-12)
    assert layerwise.stderr == pytest.approx(square * trace.stderr, rel=1e-12)
    whole = lla.top_eigenpairs(lla.HessianOperator(problem)).values[0]
    assert measures.largest_eigenvalue(problem) == pytest.approx(whole, rel=1e-4)


def test_weight_norms():
    model = net(4, 5, 3)
    problem = lla.Problem(model, batches())
    squares = [float(m.weight.detach().square().sum()) for m in (model[0], model[2])]
    assert measures.weight_norm(problem) == pytest.approx(sum(squares), rel=1e-12)
    assert measures.weight_norm(problem, "2") == pytest.approx(squares[1], rel=1e-12)
    with pytest.raises(lla.InputError, match="no layer '3'"):
        measures.weight_norm(problem, "3")


def test_layerwise_keeps_its_value_under_rescaling_and_the_unsquared_form_does_not():
    model = net(4, 5, 3)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.mul_(10)
        other[0].bias.mul_(10)
        other[2].weight.div_(10)
    one, two = (lla.Problem(m, batches()) for m in (model, other))
    found = [measures.layerwise(p, "0").value for p in (one, two)]
    assert found[1] == pytest.approx(found[0], rel=1e-12)
    unsquared = [
        f / measures.weight_norm(p, "0") ** 0.5 for f, p in zip(found, (one, two), strict=True)
    ]
    assert unsquared[0] / unsquared[1] == pytest.approx(10, rel=1e-12)


class Quadratic(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.w = nn.Parameter(torch.linspace(1.0, 2.0, size).double())
        self.start = self.w.detach().clone()

    def forward(self, x):
        return (self.w - self.start).expand(len(x), -1)


@pytest.mark.parametrize("relative", [False, True])
def test_sigma_of_a_quadratic_loss_is_known(relative):
    # L = sum (w - w0)^2, so its mean over u is sigma^2 times the sum of the squared scales
    model = Quadratic(50)
    x = torch.zeros(3, 1).double()
    problem = lla.Problem(model, (x, x), loss=lambda z, y: z.square().sum(1).mean())
    scale = float(model.start.square().sum()) if relative else 50.0
    sigma = (0.3 / scale) ** 0.5
    found = measures.tolerated_sigma(problem, 0.3, relative=relative, draws=12)
    assert abs(found.value - sigma) < 4 * found.stderr + 1e-3 * sigma
    # chi^2 with 50 degrees of freedom: relative deviation of a draw sqrt(2 / 50), halved for sigma
    if not relative:
        assert found.stderr / sigma == pytest.approx(0.5 * (2 / 50 / 12) ** 0.5, rel=0.6)
    sharp = measures.sharpness(problem, 0.3, relative=relative, draws=12)
    assert sharp.value == found.value**-2
    assert sharp.stderr / sharp.value == pytest.approx(2 * found.stderr / found.value)
    again = measures.tolerated_sigma(problem, 0.3, relative=relative, draws=12)
    other = measures.tolerated_sigma(problem, 0.3, relative=relative, draws=12, seed=1)
    assert again == found
    assert other.value != found.value


def test_the_relative_sigma_keeps_its_value_under_rescaling():
    model = net(4, 5, 3, bias=False)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.mul_(10)
        other[2].weight.div_(10)
    for relative, same in ((True, True), (False, False)):
        one, two = (
            measures.tolerated_sigma(lla.Problem(m, batches()), relative=relative, draws=4).value
            for m in (model, other)
        )
        assert (abs(two / one - 1) < 1e-6) == same


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rise": 0}, "rise is 0: it must be positive"),
        ({"rise": float("nan")}, "rise is nan"),
        ({"tol": 2}, "tol is 2: choose a number between 0 and 1"),
        ({"draws": 1}, "draws is 1: give a whole number from 2"),
    ],
    ids=str,
)
def test_bad_arguments_of_sharpness(given, message):
    with pytest.raises(lla.InputError, match=message):
        measures.sharpness(lla.Problem(net(4, 3), batches()), **given)


def test_a_loss_that_never_rises_is_refused():
    bounded = lla.Problem(net(4, 3), batches(), loss=lambda z, y: torch.tanh(z).mean() * 1e-3)
    with pytest.raises(lla.InputError, match=r"the loss does not rise by 0\.1 for any sigma"):
        measures.tolerated_sigma(bounded, draws=2)
