"""Products from differences of gradients, against exact ones."""

import math

import pytest
import torch
from torch import nn

import lla
from lla.finite_differences import product_by_differences


def network(activation=nn.Tanh, dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), activation(), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3)
    ).to(dtype)


def batches(dtype=torch.float64):
    drawn = torch.Generator().manual_seed(1)
    return [
        (torch.randn(n, 4, generator=drawn).to(dtype), torch.randint(3, (n,), generator=drawn))
        for n in (7, 3)
    ]


def direction(model):
    drawn = torch.Generator().manual_seed(2)
    return {
        name: torch.randn(p.shape, generator=drawn).to(p.dtype)
        for name, p in model.named_parameters()
    }


@pytest.mark.parametrize(
    ("activation", "dtype", "most"),
    [(nn.Tanh, torch.float64, 1e-8), (nn.Tanh, torch.float32, 1e-2),
     (nn.ReLU, torch.float32, 0.2)],
)  # fmt: skip
def test_it_is_near_the_exact_product_and_says_how_near(activation, dtype, most):
    model = network(activation, dtype)
    v = direction(model)
    found = product_by_differences(model, batches(dtype), v)
    H = lla.HessianOperator(lla.Problem(model, batches(dtype), mode="eval"))
    exact = H @ torch.cat([part.flatten() for part in v.values()])
    product = torch.cat([part.flatten() for part in found.product.values()])
    off = ((product - exact).norm() / exact.norm()).item()
    assert off < most
    assert off <= 3 * found.error
    if activation is nn.Tanh:
        assert found.error < 10 * most


def test_the_error_of_a_quadratic_loss_is_rounding():
    model = nn.Linear(3, 2, bias=False).double()
    x, y = torch.randn(6, 3).double(), torch.randn(6, 2).double()
    v = direction(model)
    found = product_by_differences(model, [(x, y)], v, nn.functional.mse_loss, step=0.5)
    expected = v["weight"] @ x.T @ x / 6  # the Hessian of mean squares over 12 numbers, times v
    torch.testing.assert_close(found.product["weight"], expected)
    assert found.error < 1e-12
    assert found.step == 0.5


def test_the_model_is_as_before():
    model = network()
    model.train()
    model[2].eval()
    loss = nn.functional.cross_entropy(model(batches()[0][0]), batches()[0][1])
    loss.backward()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [p.grad.clone() for p in model.parameters()]
    product_by_differences(model, batches(), direction(model))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for p, old in zip(model.parameters(), gradients, strict=True):
        assert torch.equal(p.grad, old)
    assert [module.training for module in model] == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("loss", "label"),
    [(nn.CrossEntropyLoss(ignore_index=0), 0), (nn.CrossEntropyLoss(reduction="sum"), 1),
     (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.5]).double()), 2)],
)  # fmt: skip
def test_batches_are_put_together_as_in_a_problem(loss, label):
    model, data = network(), batches()
    data[0][1][:5] = label  # so that both batches have other terms
    v = direction(model)
    found = product_by_differences(model, data, v, loss)
    H = lla.HessianOperator(lla.Problem(model, data, loss=loss, mode="eval"))
    exact = H @ torch.cat([part.flatten() for part in v.values()])
    product = torch.cat([part.flatten() for part in found.product.values()])
    assert (product - exact).norm() < 1e-7 * exact.norm()


def test_a_step_that_is_too_large_has_no_error_estimate():
    model = network()
    with torch.no_grad():
        model[4].weight.mul_(1e4)
    assert product_by_differences(model, batches(), direction(model), step=1.0).error == math.inf


class Counting(nn.Module):
    """Scales its output by a buffer that it changes with every call."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.ones((), dtype=torch.float64))

    def forward(self, x):
        self.calls += 1
        return x * self.calls


def test_buffers_are_those_at_the_start_in_every_gradient():
    model = nn.Sequential(nn.Linear(4, 3).double(), Counting())
    data, v = batches()[:1], {n: p.detach() + 1 for n, p in model.named_parameters()}
    found = product_by_differences(model, data, v)
    fixed = nn.Sequential(model[0], Counting())
    with torch.no_grad():
        fixed[1].calls.fill_(1.0)
    assert model[1].calls == 1
    again = product_by_differences(fixed, data, v)
    for name, part in found.product.items():
        torch.testing.assert_close(part, again.product[name])
    assert found.error < 1e-6


def test_it_works_without_grad_and_for_one_pair():
    model = network()
    with torch.no_grad():
        one = product_by_differences(model, batches()[0], direction(model))
    other = product_by_differences(model, batches()[:1], direction(model))
    assert all(torch.equal(one.product[n], other.product[n]) for n in one.product)


def test_bad_arguments():
    model = network()
    v = direction(model)
    with pytest.raises(lla.InputError, match=r"differ in '0\.weight'"):
        product_by_differences(model, batches(), {k: p for k, p in v.items() if k != "0.weight"})
    with pytest.raises(lla.InputError, match=r"v\['0.bias'\] has the shape \(2,\)"):
        product_by_differences(model, batches(), v | {"0.bias": torch.ones(2).double()})
    with pytest.raises(lla.InputError, match="batch"):
        product_by_differences(model, [], v)
    with pytest.raises(lla.InputError, match="v is not finite"):
        product_by_differences(model, batches(), {k: p * float("nan") for k, p in v.items()})
    with pytest.raises(lla.InputError, match="v is list"):
        product_by_differences(model, batches(), list(v.values()))
    with pytest.raises(lla.InputError, match="no parameter requires a gradient"):
        product_by_differences(network().requires_grad_(False), batches(), {})
    with pytest.raises(lla.InputError, match="v is zero"):
        product_by_differences(model, batches(), {k: 0 * p for k, p in v.items()})
    with pytest.raises(lla.InputError, match="step"):
        product_by_differences(model, batches(), v, step=-1.0)
    bad = batches()
    bad[0][0][0, 0] = float("nan")
    with pytest.raises(lla.NonFiniteError, match="the gradient is not finite"):
        product_by_differences(model, bad, v)
