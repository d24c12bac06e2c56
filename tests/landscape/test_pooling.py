import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import vmap

from lla.landscape.pooling import SlicedMaxPooling, max_pool2d

CASES = [
    # size, kernel, stride, padding, dilation, ceil_mode
    ((8, 8), 2, None, 0, 1, False),
    ((9, 7), 2, 2, 0, 1, False),
    ((9, 7), 2, 2, 0, 1, True),
    ((13, 13), 3, 2, 0, 1, True),
    ((14, 15), 3, 2, 1, 1, False),
    ((14, 15), 3, 2, 1, 1, True),
    ((7, 9), (3, 2), (2, 3), (1, 0), 1, True),
    ((11, 12), 3, 1, 1, 2, False),
    ((11, 12), (2, 3), (3, 2), (1, 1), (3, 2), True),
    ((5, 5), 5, 5, 2, 1, True),
    ((4, 4), 1, 2, 0, 1, True),
    ((6, 6), 2, 3, 1, 1, True),
    ((1, 1), 1, 1, 0, 1, False),
    ((3, 10), (3, 1), (1, 4), (1, 0), (1, 1), True),
]


def image(size, dtype=torch.float32, seed=0, special=True):
    """Images with repeated values, zeros of both signs, infinities and NaN."""
    draw = np.random.default_rng(seed)
    x = torch.as_tensor(draw.normal(size=(2, 3, *size)).round(1), dtype=dtype)
    if special:
        kind = torch.as_tensor(draw.integers(0, 12, size=x.shape))
        for k, value in enumerate((torch.nan, -torch.inf, torch.inf, 0.0, -0.0)):
            x[kind == k] = value
        x[0, 0] = -torch.inf
    return x


def assert_bitwise(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(7.5, torch.inf, -torch.inf),
                       expected.nan_to_num(7.5, torch.inf, -torch.inf))  # fmt: skip


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation", "ceil"), CASES)
def test_is_torchs_own(size, kernel, stride, padding, dilation, ceil, dtype, special):
    x = image(size, dtype, special=special)
    kept = x.clone()
    arguments = (kernel, stride, padding, dilation, ceil)
    expected = F.max_pool2d(x, *arguments)
    assert_bitwise(max_pool2d(x, *arguments), expected)
    assert_bitwise(x, kept)
    with torch.no_grad(), SlicedMaxPooling() as mode:
        assert_bitwise(F.max_pool2d(x, *arguments), expected)
        layer = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
        assert_bitwise(layer(x), expected)
    assert mode.calls == 2


def test_random_sweep_against_torch():
    draw, tried = np.random.default_rng(3), 0
    for seed in range(400):
        size = tuple(draw.integers(1, 14, 2).tolist())
        kernel, stride, dilation = (tuple(draw.integers(1, 5, 2).tolist()) for _ in range(3))
        padding = tuple(int(draw.integers(0, k // 2 + 1)) for k in kernel)
        arguments = (kernel, stride, padding, dilation, bool(draw.integers(2)))
        x = image(size, seed=seed)
        try:
            expected = F.max_pool2d(x, *arguments)
        except RuntimeError:  # a kernel larger than the image
            continue
        assert_bitwise(max_pool2d(x, *arguments), expected)
        tried += 1
    assert tried > 200


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation", "ceil"), CASES)
def test_channels_last(size, kernel, stride, padding, dilation, ceil):
    x = image(size).to(memory_format=torch.channels_last)
    arguments = (kernel, stride, padding, dilation, ceil)
    found, expected = max_pool2d(x, *arguments), F.max_pool2d(x, *arguments)
    assert_bitwise(found, expected)
    if min(expected.shape[-2:]) > 1:  # else the strides say nothing
        for layout in (torch.contiguous_format, torch.channels_last):
            same = found.is_contiguous(memory_format=layout)
            assert same == expected.is_contiguous(memory_format=layout)


def test_strided_images():
    x = image((9, 16))[:, :, :, ::2]
    assert_bitwise(max_pool2d(x, 3, 2, 1), F.max_pool2d(x, 3, 2, 1))


@pytest.mark.parametrize("ceil", [False, True])
def test_under_vmap(ceil):
    x = torch.stack([image((9, 7), seed=s) for s in range(3)])
    expected = torch.stack([F.max_pool2d(one, 3, 2, 1, ceil_mode=ceil) for one in x])
    with torch.no_grad(), SlicedMaxPooling() as mode:
        found = vmap(lambda one: F.max_pool2d(one, 3, 2, 1, ceil_mode=ceil))(x)
    assert mode.calls == 1
    assert_bitwise(found, expected)


def test_a_call_that_records_a_gradient_is_torchs():
    x = image((6, 6), special=False).requires_grad_()
    with SlicedMaxPooling() as mode:
        found = F.max_pool2d(x, 2)
        (gradient,) = torch.autograd.grad(found.sum(), x)
    assert mode.calls == 0
    (expected,) = torch.autograd.grad(F.max_pool2d(x, 2).sum(), x)
    assert torch.equal(gradient, expected)


def test_a_call_that_wants_the_indices_is_torchs():
    x = image((6, 6), special=False)
    expected = F.max_pool2d(x, 2, return_indices=True)
    with torch.no_grad(), SlicedMaxPooling() as mode:
        for found in (
            F.max_pool2d(x, 2, return_indices=True),
            F.max_pool2d(x, 2, None, 0, 1, False, True),
            F.max_pool2d_with_indices(x, 2),
            nn.MaxPool2d(2, return_indices=True)(x),
        ):
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert mode.calls == 0


def test_other_calls_are_torchs():
    x = image((8, 8), special=False)
    calls = [
        lambda: F.avg_pool2d(x, 3, 2),
        lambda: F.adaptive_avg_pool2d(x, 3),
        lambda: F.adaptive_max_pool2d(x, 3),
        lambda: F.max_pool1d(x[0], 2),
        lambda: F.max_pool3d(x, 2),
        lambda: F.max_pool2d(x[0], 2),  # a single image
        lambda: nn.Conv2d(3, 2, 3).requires_grad_(False)(x).shape,
        lambda: x.max(),
    ]
    expected = [call() for call in calls]
    with torch.no_grad(), SlicedMaxPooling() as mode:
        found = [call() for call in calls]
    assert mode.calls == 0
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_after_the_context_torch_pools_again():
    x = image((6, 6))
    mode = SlicedMaxPooling()
    with torch.no_grad(), mode:
        F.max_pool2d(x, 2)
    F.max_pool2d(x, 2)
    assert mode.calls == 1
    with pytest.raises(KeyError), mode:
        raise KeyError
    F.max_pool2d(x, 2)
    assert mode.calls == 1


def test_integers_and_sequences_are_the_same():
    x = image((9, 9))
    forms = itertools.product((3, (3, 3), [3, 3], [3]), (2, (2, 2), [2]), (1, (1, 1)))
    expected = F.max_pool2d(x, 3, 2, 1)
    for kernel, stride, padding in forms:
        assert_bitwise(max_pool2d(x, kernel, stride, padding), expected)
    assert_bitwise(max_pool2d(x, 3, []), F.max_pool2d(x, 3))
