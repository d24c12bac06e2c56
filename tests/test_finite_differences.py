"""Products from differences of gradients, against exact ones."""

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


def test_bad_arguments():
    model = network()
    v = direction(model)
    with pytest.raises(lla.InputError, match=r"differ in '0\.weight'"):
        product_by_differences(model, batches(), {k: p for k, p in v.items() if k != "0.weight"})
    with pytest.raises(lla.InputError, match=r"v\['0.bias'\] has the shape \(2,\)"):
        product_by_differences(model, batches(), v | {"0.bias": torch.ones(2).double()})
    with pytest.raises(lla.InputError, match="the numbers of batches are 0"):
        product_by_differences(model, [], v)
    with pytest.raises(lla.InputError, match="v is zero"):
        product_by_differences(model, batches(), {k: 0 * p for k, p in v.items()})
    with pytest.raises(lla.InputError, match="step"):
        product_by_differences(model, batches(), v, step=-1.0)
    bad = batches()
    bad[0][0][0, 0] = float("nan")
    with pytest.raises(lla.NonFiniteError, match="the gradient is not finite"):
        product_by_differences(model, bad, v)
