"""Convolutions over one channel, against PyTorch's own and autograd's gradients."""

import pytest
import torch
from torch.nn import functional as F

from lla.hessian.products.convolutions import (
    patches_of,
    selected_convolution,
    selected_patches,
    selected_weight_gradient,
    weight_gradient,
)

X = torch.rand(3, 1, 9, 8, generator=torch.Generator().manual_seed(0)).double()
BIAS = torch.tensor([0.5, 0.0, -2.0, 1.0]).double()
GEOMETRIES = {
    "plain": {},
    "padded": {"padding": (2, 2)},
    "strided": {"stride": (2, 1), "padding": (1, 0)},
    "dilated": {"dilation": (2, 2), "padding": (1, 1)},
    "different along both axes": {"stride": (1, 2), "padding": (1, 2), "dilation": (1, 2)},
}


def rand(*shape, dtype=torch.float64):
    return torch.rand(*shape).to(dtype)


@pytest.fixture(params=GEOMETRIES)
def geometry(request):
    """What a convolution does beside its weights."""
    one = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
    return one | GEOMETRIES[request.param]


def place(geometry, kernel):
    return kernel, geometry["stride"], geometry["padding"], geometry["dilation"]


@pytest.mark.parametrize("kernel", [(3, 3), (3, 2)])
def test_weight_gradient(geometry, kernel):
    weight = rand(4, 1, *kernel)
    g = torch.rand_like(F.conv2d(X, weight, **geometry))
    found = weight_gradient(g, patches_of(X, *place(geometry, kernel)), kernel)
    torch.testing.assert_close(found, torch.nn.grad.conv2d_weight(X, weight.shape, g, **geometry))


@pytest.mark.parametrize("bias", [None, BIAS])
def test_convolution_at_selected_positions(geometry, bias):
    kernel, weight = (3, 2), rand(4, 1, 3, 2)
    full = F.conv2d(X, weight, bias, **geometry).flatten(2)
    index = torch.randint(full.shape[2], (3, 4, 5))  # with repetitions
    selected = selected_patches(X, index, *place(geometry, kernel))
    found = selected_convolution(weight, bias, selected)
    torch.testing.assert_close(found, full.gather(2, index))
    # the gradient for values at some positions is that for these values put at their positions
    g = rand(3, 4, 5)
    scattered = torch.zeros_like(full).scatter_add(2, index, g)
    exact = weight_gradient(scattered, patches_of(X, *place(geometry, kernel)), kernel)
    torch.testing.assert_close(selected_weight_gradient(g, selected, kernel), exact)


@pytest.mark.parametrize("chosen", [False, True])
def test_gradient_in_float32_is_as_exact_as_torchs(chosen):
    x, g = rand(512, 1, 32, 32, dtype=torch.float32), rand(512, 6, 28, 28, dtype=torch.float32)
    where = (5, 5), (1, 1), (0, 0), (1, 1)
    if chosen:  # all positions, in any order
        order = torch.randperm(784).expand(512, 6, -1)
        values = g.flatten(2).gather(2, order)
        found = selected_weight_gradient(values, selected_patches(x, order, *where), (5, 5))
    else:
        found = weight_gradient(g, patches_of(x, *where), (5, 5))
    exact = torch.nn.grad.conv2d_weight(x.double(), (6, 1, 5, 5), g.double())
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=0)
