"""What scaling of weights changes, and what it does not."""

import copy

import pytest
import torch
from torch import nn

import lla
from lla.layers.flatness import flatness


def net(nets):
    return nets.make(lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.LeakyReLU(), nets.Mean(),
        nn.Linear(4, 3),
    ))  # fmt: skip


def scaled(model, by, first="2", then="5"):
    """The same function: filters of a layer times factors [F], inputs of the next divided."""
    other = copy.deepcopy(model)
    one, two = other.get_submodule(first), other.get_submodule(then)
    with torch.no_grad():
        one.weight.mul_(by.reshape(-1, *[1] * (one.weight.ndim - 1)))
        one.bias.mul_(by)
        two.weight.div_(by.reshape(-1, *[1] * (two.weight.ndim - 2)))
    return other


FACTORS = {
    "one factor": torch.full((4,), 7.0, dtype=torch.float64),
    "one a filter": torch.tensor([0.01, 3.0, 20.0, 0.5], dtype=torch.float64),
}


@pytest.mark.parametrize("method", ["closed", "jacobian"])
@pytest.mark.parametrize("name", FACTORS)
def test_kappa_keeps_its_value_when_a_layer_is_scaled_and_the_next_divided(nets, name, method):
    model, batches, by = net(nets), nets.pictures(), FACTORS[name]
    other = scaled(model, by)
    before, after = (flatness(m, batches, "2", method=method)["2"] for m in (model, other))
    assert after.kappa.value == pytest.approx(before.kappa.value, rel=1e-12)
    assert after.kappa_diag.value == pytest.approx(before.kappa_diag.value, rel=1e-12)
    expected = torch.as_tensor(before.table) / (by[:, None] * by)
    torch.testing.assert_close(torch.as_tensor(after.table), expected, rtol=1e-10, atol=1e-14)
    if name == "one factor":
        assert after.trace.value == pytest.approx(before.trace.value / 49, rel=1e-12)
        assert after.trace_bias.value == pytest.approx(before.trace_bias.value / 49, rel=1e-12)


def test_kappa_changes_with_input_channels_unless_inputs_are_normalized(nets):
    model, batches = net(nets), nets.pictures()
    other = scaled(model, torch.tensor([0.01, 3.0, 20.0]).double(), "0", "2")
    ratio, normalized = (
        flatness(other, batches, "2", normalize_inputs=n)["2"].kappa.value
        / flatness(model, batches, "2", normalize_inputs=n)["2"].kappa.value
        for n in (False, True)
    )
    assert max(ratio, 1 / ratio) > 3
    assert normalized == pytest.approx(1, rel=1e-12)
    # one common factor of all channels is none
    other = scaled(model, torch.full((3,), 5.0).double(), "0", "2")
    found = flatness(other, batches, "2")["2"].kappa.value
    assert found == pytest.approx(flatness(model, batches, "2")["2"].kappa.value, rel=1e-12)


@pytest.mark.parametrize("method", ["closed", "jacobian"])
def test_normalized_inputs_are_those_of_the_explicit_hessian(nets, method):
    groups = nn.Conv2d(4, 6, 2, groups=2)
    model = nets.make(lambda: nn.Sequential(groups, nets.Mean(), nn.Linear(6, 3)))
    batches = nets.pictures(shape=(4, 4, 4))
    by = torch.tensor([1e-3, 1.0, 30.0, 5.0], dtype=torch.float64)
    batches = [(x * by[:, None, None] + 2, y) for x, y in batches]
    values = torch.cat([x for x, _ in batches]).transpose(0, 1).flatten(1)
    by = values.std(1, correction=0)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other[0].weight.mul_(by.reshape(2, 2).repeat_interleave(3, 0)[:, :, None, None])
    divided = [(x / by[:, None, None], y) for x, y in batches]
    found = flatness(model, batches, "0", normalize_inputs=True, method=method)["0"]
    true = nets.explicit(other, divided, "0")
    assert found.trace.value == pytest.approx(true.trace, rel=1e-10)
    assert found.kappa.value == pytest.approx(true.kappa, rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_channel_that_is_constant_is_not_divided(nets, dtype):
    model, batches = nets.make(lambda: nn.Linear(4, 3), dtype), nets.pictures((30, 7), (4,))
    batches = [(x.to(dtype), y) for x, y in batches]
    for x, _ in batches:
        x[:, 1] = 1e6 / 3 * (1 + torch.finfo(dtype).eps * (torch.arange(len(x)) % 2))
    with torch.no_grad():  # else predictions are sure, and all is rounding
        model.weight[:, 1] = 0
    found, expected = (
        flatness(nn.Sequential(model), batches, normalize_inputs=n, check=False)["0"].trace.value
        for n in (True, False)
    )
    assert 0.1 < found / expected < 10


def test_normalizing_needs_the_input_of_a_layer(nets):
    model = nn.Sequential(nn.Embedding(5, 4), nets.Mean(), nn.Linear(4, 3))
    model[1].forward = lambda x: x.mean(1)
    batch = torch.randint(5, (6, 2)), torch.randint(3, (6,))
    with pytest.raises(lla.InputError, match="needs the input of 0, which is no linear"):
        flatness(model, batch, "0", normalize_inputs=True)
