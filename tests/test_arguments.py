import math

import numpy as np
import pytest
import torch

import lla
import lla.data
import lla.models
from lla.arguments import positive_number, real_number, seed_number, usable_device, whole_number


@pytest.mark.parametrize("value", [3, np.int64(3), torch.tensor(3)])
def test_a_whole_number_of_any_library(value):
    assert whole_number("steps", value, 1, 5) == 3


@pytest.mark.parametrize("value", [2.0, "3", None, math.nan, torch.ones(2)])
def test_no_whole_number(value):
    with pytest.raises(lla.InputError, match=r"steps is .*: give a whole number"):
        whole_number("steps", value)


def test_a_whole_number_out_of_range():
    with pytest.raises(lla.InputError, match="steps is 0: give a whole number from 1 on"):
        whole_number("steps", 0, 1)
    with pytest.raises(lla.InputError, match="probes is 10: give a whole number from 1 to 9"):
        whole_number("probes", 10, 1, 9)


@pytest.mark.parametrize("value", [0, -1.0, math.inf, math.nan])
def test_no_positive_number(value):
    with pytest.raises(lla.InputError, match=f"tol is {value}: give a positive number"):
        positive_number("tol", value)


@pytest.mark.parametrize("value", ["1", None, [1.0], 10**400])
def test_no_number(value):
    with pytest.raises(lla.InputError, match=r"cap is .*: give a number"):
        real_number("cap", value)


@pytest.mark.hard_use("A seed of -1 or 2**64 is refused before the work, whatever takes a seed")
@pytest.mark.parametrize(("seed", "said"), [(-1, "negative"), (2**64, "below 2\\*\\*64")])
@pytest.mark.parametrize(
    "call",
    [
        lambda seed: seed_number(seed),
        lambda seed: lla.Problem(MODEL, PAIR, seed=seed),
        lambda seed: lla.criteria(MODEL, PAIR, seed=seed),
        lambda seed: lla.spectral_density(operator(), seed=seed),
        lambda seed: lla.top_eigenpairs(operator(), seed=seed),
        lambda seed: lla.trace(operator(), seed=seed),
        lambda seed: lla.loss_plane(operator().problem, seed=seed),
        lambda seed: lla.landscape.plane_directions(operator().problem, seed=seed),
        lambda seed: lla.landscape.random_directions(torch.ones(3), seed=seed),
        lambda seed: lla.landscape.loss_planes(operator().problem, 1, seed=seed),
        lambda seed: lla.models.build("mlp", seed=seed),
        lambda seed: lla.data.batches(lla.data.load("digits", "test"), 4, seed=seed),
    ],
)
def test_seeds(call, seed, said):
    with pytest.raises(lla.InputError, match=f"the seed {seed} is .*{said}"):
        call(seed)


MODEL = torch.nn.Linear(3, 2)
PAIR = (torch.ones(4, 3), torch.arange(4) % 2)


def operator():
    return lla.HessianOperator(lla.Problem(MODEL, PAIR), route="fresh")


@pytest.mark.parametrize("name", ["foo", "", "meta", "cuda:99"])
def test_a_device_that_is_not_there(name):
    with pytest.raises(lla.InputError, match=f"the device '{name}' cannot be used here: choose"):
        usable_device(name)
    with pytest.raises(lla.InputError, match="cannot be used here"):
        lla.data.to_input(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), device=name)
    with pytest.raises(lla.InputError, match="cannot be used here"):
        lla.spectral_density(operator(), 1, 1, memory=lla.Memory(basis_device=name))
