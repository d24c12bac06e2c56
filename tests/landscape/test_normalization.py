import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla.landscape import normalize

KINDS = [(1, False), (2, False), (1, True)]  # order, signed
METHODS = ["weight", "filter", "layer", "model"]


class Every(nn.Module):
    """Parameters of every number of dimensions: convolutions, a linear layer, biases, a number."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.conv1d = nn.Conv1d(2, 2, 2, bias=False)
        self.linear = nn.Linear(4, 5)
        self.scale = nn.Parameter(torch.tensor(1.7))


def pair(dtype, seed=0):
    """A space, a direction and weights."""
    space = lla.ParameterSpace.of(Every())
    draw = np.random.default_rng(seed).normal(size=(2, space.size))
    direction, theta = torch.as_tensor(draw, dtype=dtype)
    return space, direction, theta


def size(values, order, signed):
    values = np.ravel(values)
    if signed:
        return values.sum()
    return np.abs(values).sum() if order == 1 else np.sqrt((values**2).sum())


def closed_form(direction, theta, shapes, method, order, signed):
    """The definition, slice by slice in float64."""
    d, w = direction.double().numpy(), theta.double().numpy()
    if method == "weight":
        return d * w
    if method == "model":
        return d * size(w, order, signed) / size(d, order, signed)
    found, begin = [], 0
    for shape in shapes:
        count = int(np.prod(shape))
        part, weights = (v[begin : begin + count].reshape(shape) for v in (d, w))
        begin += count
        if method == "filter" and len(shape) >= 2:
            for one, there in zip(part, weights, strict=True):
                scale = size(there, order, signed) / size(one, order, signed)
                found.append(np.ravel(one) * scale)
        else:
            scale = size(weights, order, signed) / size(part, order, signed)
            found.append(np.ravel(part) * scale)
    return np.concatenate(found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("order", "signed"), KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_is_the_closed_form_and_the_same_twice(method, order, signed, dtype):
    space, direction, theta = pair(dtype)
    kept = direction.clone(), theta.clone()
    found = normalize(direction, theta, space, method, order, signed)
    assert found.dtype == dtype
    expected = closed_form(direction, theta, space.shapes, method, order, signed)
    rtol = 16 * torch.finfo(dtype).eps if not signed else 1e3 * torch.finfo(dtype).eps
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=rtol)
    assert torch.equal(normalize(direction, theta, space, method, order, signed), found)
    assert torch.equal(direction, kept[0])
    assert torch.equal(theta, kept[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("order", "signed"), KINDS)
@pytest.mark.parametrize("method", ["filter", "layer", "model"])
def test_of_a_normalized_direction_changes_rounding_only(method, order, signed, dtype):
    space, direction, theta = pair(dtype, seed=1)
    once = normalize(direction, theta, space, method, order, signed)
    again = normalize(once, theta, space, method, order, signed)
    rtol = 16 * torch.finfo(dtype).eps if not signed else 1e3 * torch.finfo(dtype).eps
    torch.testing.assert_close(again, once, rtol=rtol, atol=0)
    assert not torch.allclose(once, direction, rtol=1e-2)


@pytest.mark.parametrize("order", [1, 2])
def test_what_each_method_makes_equal(order):
    space, direction, theta = pair(torch.float64, seed=2)
    parts = {m: space.unflatten(normalize(direction, theta, space, m, order)) for m in METHODS}
    weights = space.unflatten(theta)
    for name, there in weights.items():
        norm = torch.linalg.vector_norm
        expected = norm(there, order)
        torch.testing.assert_close(norm(parts["layer"][name], order), expected)
        rows = there.flatten(1) if there.ndim >= 2 else there.reshape(1, -1)
        found = parts["filter"][name].reshape(rows.shape)
        torch.testing.assert_close(norm(found, order, dim=1), norm(rows, order, dim=1))
    whole = normalize(direction, theta, space, "model", order)
    assert float(whole.norm(order)) == pytest.approx(float(theta.norm(order)), rel=1e-14)


def test_a_number_gets_the_size_of_the_weight_and_keeps_its_sign():
    space, direction, theta = pair(torch.float64)
    found = space.unflatten(normalize(direction, theta, space, "filter"))["scale"]
    expected = abs(float(theta[space.names.index("scale")]))
    assert space.names[0] == "scale"
    assert found.shape == ()
    assert float(found) == pytest.approx(expected * np.sign(float(direction[0])))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("order", "signed"), KINDS)
@pytest.mark.parametrize("method", [None, *METHODS])
def test_zero_slices_give_zero(method, order, signed, dtype):
    space, direction, theta = pair(dtype)
    weights, parts = space.unflatten(theta), space.unflatten(direction)  # views
    weights["conv.weight"][1] = 0
    weights["linear.bias"].zero_()
    weights["scale"].zero_()
    parts["linear.weight"][2] = 0
    parts["conv.bias"].zero_()
    found = normalize(direction, theta, space, method, order, signed)
    assert found.isfinite().all()
    by_name = space.unflatten(found)
    assert not by_name["linear.weight"][2].any()
    assert not by_name["conv.bias"].any()
    if method in ("weight", "filter"):
        assert not by_name["conv.weight"][1].any()
    if method in ("weight", "filter", "layer"):
        assert not by_name["linear.bias"].any()
        assert not by_name["scale"].any()
    assert by_name["conv.weight"][0].all()
    zero = normalize(torch.zeros_like(direction), theta, space, method, order, signed)
    assert torch.equal(zero, torch.zeros_like(direction))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("method", ["filter", "layer", "model"])
@pytest.mark.parametrize("factor", [1e-30, 1e-37, 1e30, 2.0**-130])
def test_tiny_and_huge_directions_in_float32(factor, method, order):
    # their squares are no float32 numbers, and the last are not even normal ones themselves
    space, direction, theta = pair(torch.float32)
    small = direction * factor
    found = normalize(small, theta, space, method, order)
    assert found.isfinite().all()
    expected = closed_form(small, theta, space.shapes, method, order, False)
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=1e-6)


def test_subnormal_slices_beside_zeros_give_no_nan():
    space = lla.ParameterSpace.of(nn.Linear(2, 2, bias=False))
    direction = torch.tensor([1e-41, 0.0, 1e-30, 1e-30])
    found = normalize(direction, torch.ones(4), space, "filter")
    torch.testing.assert_close(found, torch.tensor([2**0.5, 0.0, 1.0, 1.0]))


def test_signed_sums_that_cancel_give_zero():
    space = lla.ParameterSpace.of(nn.Linear(2, 2, bias=False))
    direction, theta = torch.tensor([1.0, -1.0, 1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0, -6.0])
    found = normalize(direction, theta, space, "filter", 1, signed=True)
    assert found.tolist() == [0.0, 0.0, -1.0, -2.0]  # the second slice turns round: -3 over 3


def test_rows_of_a_transposed_tensor():
    space, direction, theta = pair(torch.float64)
    columns = torch.stack([direction, theta], 1)  # strided
    for method in METHODS:
        found = normalize(columns[:, 0], columns[:, 1], space, method)
        expected = normalize(direction, theta, space, method)
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_none_is_a_copy():
    space, direction, theta = pair(torch.float32)
    found = normalize(direction, theta, space, None)
    assert torch.equal(found, direction)
    assert found.data_ptr() != direction.data_ptr()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "filters"}, "normalization is 'filters': choose one of weight, filter, layer"),
        ({"order": 3}, "the order of the norm is 3: choose 1 or 2"),
        ({"signed": True}, "signed sums stand for L1 norms only: give order=1"),
        ({"direction": torch.ones(7)}, r"shape \(7,\), the model 91 parameters: give one flat"),
        ({"direction": torch.ones(2, 91)}, r"shape \(2, 91\), the model 91"),
        ({"direction": torch.full((91,), torch.nan)}, "NaN or infinite elements: check where"),
        ({"direction": torch.full((91,), torch.inf)}, "NaN or infinite elements"),
    ],
)
def test_bad_input(change, message):
    space, direction, theta = pair(torch.float32)
    assert space.size == 91
    arguments = {"direction": direction, "theta": theta, "space": space, "method": "filter"}
    with pytest.raises(lla.InputError, match=message):
        normalize(**{**arguments, **change})
