"""Rounding that a product in float32 has, and products in float64 of a model in float32."""

import copy
import functools
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.hessian.criteria import criteria
from lla.hessian.rounding import product_rounding


def trained(factor):
    """A perceptron whose outputs are scaled, and a batch that it classifies without an error."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        x = torch.randn(32, 4)
    y = model(x).argmax(1)
    keep = model(x).detach().topk(2).values.diff().squeeze().abs() > 0.05
    model[2].weight.data *= factor
    model[2].bias.data *= factor
    return model, (x[keep], y[keep])


def explicit(model, batch):
    """The Hessian by torch.func, in float64."""
    model = copy.deepcopy(model).double()
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    x, y = batch[0].double(), batch[1]

    def loss(theta):
        parts = theta.split([shape.numel() for shape in shapes])
        given = {n: p.view(s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, given, (x,)), y)

    return torch.func.hessian(loss)(torch.cat([p.detach().flatten() for p in model.parameters()]))


def test_products_in_float64_of_a_model_in_float32():
    model, batch = trained(1.0)
    problem = lla.Problem(model, batch, precision="float64")
    assert problem.theta().dtype == problem.loss().dtype == torch.float64
    H = lla.HessianOperator(problem)
    found = H @ torch.eye(H.shape[0], dtype=torch.float64)
    torch.testing.assert_close(found, explicit(model, batch), rtol=1e-11, atol=1e-13)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize("kind", ["module", "partial"])
def test_tensors_of_the_loss_and_of_the_model_in_float64(kind):
    model, batch = trained(1.0)
    model.register_buffer("mean", torch.tensor(0.1))
    model.shift = torch.full((4,), 0.1)  # not registered
    model.register_forward_pre_hook(lambda module, args: (args[0] - module.shift - module.mean,))
    weight = torch.tensor([1.0, 2.0, 0.5])
    losses = {
        "module": nn.CrossEntropyLoss(weight),
        "partial": functools.partial(F.cross_entropy, weight=weight),
    }
    loss = losses[kind]
    found = lla.Problem(model, batch, loss, precision="float64").loss()
    moved = copy.deepcopy(model).double()
    moved.shift = moved.shift.double()
    expected = F.cross_entropy(moved(batch[0].double()), batch[1], weight.double())
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_a_model_that_has_types_of_its_own_is_refused_in_float64():
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return F.linear(x.float(), self.layer.weight)

    batch = torch.rand(5, 4), torch.arange(5) % 3
    assert lla.Problem(Single(), batch).loss().isfinite()
    with pytest.raises(lla.InputError, match=r"rejects the input .* parameters torch.float64\)"):
        lla.Problem(Single(), batch, precision="float64")
    with pytest.raises(lla.InputError, match="precision is 'half'"):
        lla.Problem(Single(), batch, precision="half")


def test_the_rounding_is_that_of_the_explicit_hessian():
    for factor, low, high in ((1.0, 1e-8, 1e-5), (500.0, 1e-3, 10.0)):
        model, batch = trained(factor)
        problem = lla.Problem(model, batch)
        found = product_rounding(problem)
        H = lla.HessianOperator(problem, route="retained")
        v = torch.from_numpy(np.sign(np.random.default_rng(0).normal(size=H.shape[0]))).float()
        expected = explicit(model, batch) @ v.double()
        error = ((H @ v).double() - expected).norm() / expected.norm()
        assert low < found < high
        assert low < error < high


def test_criteria_of_a_network_with_hardly_any_loss_say_that_they_are_rounding():
    """Item 5 of issue 14: r_e .152 in float32 for .0070, with an error bar of .014."""
    model, batch = trained(500.0)
    values = np.linalg.eigvalsh(explicit(model, batch).numpy())
    expected = max(0.0, -values[0]) / values[-1]
    size = {"probes": 4, "steps": 51}
    with pytest.warns(UserWarning, match=r"rounding makes .* compute with precision='float64'"):
        single = lla.criteria(model, batch, **size)
    assert single.rounding > 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        double = lla.criteria(model, batch, precision="float64", **size)
    assert double.rounding is None
    assert double.dtype == "float64"
    assert double.re.value == pytest.approx(expected, rel=0.02)
    assert abs(single.re.value - expected) > 10 * abs(double.re.value - expected)


def test_criteria_of_an_ordinary_network_do_not_warn():
    model, batch = trained(1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = lla.criteria(model, batch, probes=2, steps=10)
    assert found.rounding < 1e-5
    assert lla.criteria(model, batch, probes=2, steps=10, check=False).rounding is None


@pytest.mark.parametrize(("size", "examples"), [(1, 1), (9, 4), (128, 64), (200, 64)])
def test_rounding_is_measured_from_half_of_what_fits_and_at_most_64_examples(
    monkeypatch, size, examples
):
    seen = []
    monkeypatch.setattr(criteria, "product_rounding", lambda *args: seen.append(args[2]))
    model, batch = nn.Linear(3, 2), (torch.randn(size, 3), torch.randint(0, 2, (size,)))
    lla.criteria(model, batch, probes=1, steps=2, route="retained")
    assert seen == [examples]


def test_a_product_of_zero_has_no_share_of_rounding():
    batch = torch.randn(8, 3), torch.randint(0, 2, (8,))
    problem = lla.Problem(nn.Linear(3, 2), batch, lambda output, y: output.mean())
    assert product_rounding(problem) is None
