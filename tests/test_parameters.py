import re

import pytest
import torch
from torch import nn

import lla
from lla.parameters import ParameterSpace


def net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(4, 2))


NAMES = ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias")


def test_space_of_a_network():
    space = ParameterSpace.of(net())
    assert space.names == NAMES
    assert space.sizes == (18, 2, 2, 2, 8, 2)
    assert space.offsets == (0, 18, 20, 22, 24, 32)
    assert space.size == 34
    assert space.shapes[0] == (2, 1, 3, 3)
    assert (space.dtype, space.device) == (torch.float32, torch.device("cpu"))
    assert [part for _, _, part in space][4] == slice(24, 32)


def test_flat_vector_and_back():
    model = net()
    space = ParameterSpace.of(model)
    flat = space.read(model)
    assert torch.equal(flat, nn.utils.parameters_to_vector(model.parameters()))
    parts = space.unflatten(flat)
    assert list(parts) == list(NAMES)
    for name, p in model.named_parameters():
        assert torch.equal(parts[name], p)
    assert torch.equal(space.flatten(parts), flat)
    assert torch.equal(space.flatten(dict(reversed(parts.items()))), flat)
    assert torch.equal(space.flatten(list(model.parameters())), flat)


def test_parts_are_views_of_the_flat_vector_and_keep_leading_dimensions():
    space = ParameterSpace.of(net())
    flat = torch.zeros(5, 34)
    parts = space.unflatten(flat)
    parts["3.bias"].fill_(1)
    assert flat[:, -2:].all()
    assert parts["0.weight"].shape == (5, 2, 1, 3, 3)
    assert not flat[:, :-2].any()


def test_read_is_a_copy_in_logical_order():
    model = net().to(memory_format=torch.channels_last)
    space = ParameterSpace.of(model)
    flat = space.read(model)
    assert not flat.requires_grad
    assert torch.equal(flat[:18], model[0].weight.detach().contiguous().flatten())
    flat.zero_()
    assert model[0].weight.any()


def test_frozen_parameters_are_left_out_and_tied_ones_stand_once(cases):
    model = cases.Partly()
    assert not any("frozen" in name for name in ParameterSpace.of(model).names)
    tied = ParameterSpace.of(cases.Tied())
    assert tied.names == ("embed.weight", "mix.weight", "mix.bias")


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (None, NAMES),
        ("*", NAMES),
        ("0.*", NAMES[:2]),
        ("*.weight", NAMES[::2]),
        ("?.bias", NAMES[1::2]),
        ("[13].bias", ("1.bias", "3.bias")),
        ("3.bias", ("3.bias",)),
        ("re:bias$", NAMES[1::2]),
        (r"re:^\d\.w", NAMES[::2]),
        (re.compile("^3"), NAMES[4:]),
        (["3.*", "0.bias"], ("0.bias", "3.weight", "3.bias")),
        (("*", re.compile("bias")), NAMES),
        (iter(["0.bias", "1.bias"]), ("0.bias", "1.bias")),
    ],
)
def test_patterns_select_in_the_order_of_the_network(patterns, chosen):
    space = ParameterSpace.of(net()).select(patterns)
    assert space.names == chosen
    assert space.size == sum(space.sizes)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ("conv*", r"pattern 'conv\*' matches none of the 6 trainable parameters.*0.weight, 0.bias"),
        (["0.*", "nothing"], "pattern 'nothing' matches none"),
        (re.compile("^x$"), r"pattern '\^x\$' matches none"),
        ("re:weights", "pattern 're:weights' matches none"),
        ("WEIGHT", "pattern 'WEIGHT' matches none"),
        ("", "pattern '' matches none"),
        ([], "pattern"),
        ("re:(", r"pattern 're:\('"),
    ],
)
def test_patterns_that_select_nothing(patterns, message):
    with pytest.raises(lla.InputError, match=message):
        ParameterSpace.of(net()).select(patterns)


def test_pattern_of_a_frozen_parameter(cases):
    with pytest.raises(lla.InputError, match=r"'frozen\.\*' matches none of the 6 trainable"):
        ParameterSpace.of(cases.Partly()).select("frozen.*")


def test_long_lists_of_names_are_cut():
    deep = nn.Sequential(*[nn.Linear(1, 1) for _ in range(20)])
    with pytest.raises(lla.InputError, match=r"3\.bias, \.\.\. \(32 more\)"):
        ParameterSpace.of(deep).select("x")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.ReLU(), "ReLU has no trainable parameter: call requires_grad_"),
        (nn.Linear(2, 2).requires_grad_(False), "Linear has no trainable parameter"),
        (nn.Linear(2, 2).half(), "parameters are torch.float16.*model.float"),
        (nn.Linear(2, 2).bfloat16(), "parameters are torch.bfloat16"),
        (nn.Linear(2, 2, dtype=torch.complex64), "parameters are torch.complex64"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()),
         r"differ in type or device \(torch.float32 on cpu, torch.float64 on cpu\)"),
        (nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta")), "on cpu, .* on meta"),
    ],
)  # fmt: skip
def test_models_without_a_usable_space(model, message):
    with pytest.raises(lla.InputError, match=message):
        ParameterSpace.of(model)
    with pytest.raises(lla.InputError, match=message):
        lla.Problem(model, (torch.ones(1, 2), torch.zeros(1)))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, "no tensor for the parameters bias"),
        ([torch.zeros(2, 3)], "1 tensors for 2 parameters"),
        ([torch.zeros(3, 2), torch.zeros(2)], r"weight has shape \(3, 2\), not \(2, 3\)"),
    ],
)
def test_tensors_that_do_not_fit(tensors, message):
    with pytest.raises(lla.InputError, match=message):
        ParameterSpace.of(nn.Linear(3, 2)).flatten(tensors)


def test_vector_that_does_not_fit():
    with pytest.raises(lla.InputError, match="vector has 7 elements, the parameters have 8"):
        ParameterSpace.of(nn.Linear(3, 2)).unflatten(torch.zeros(7))
