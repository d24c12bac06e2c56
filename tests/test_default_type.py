import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.default_type import DefaultType

whole = torch.arange(1, 5)

# what torch makes in its default type: the same as after torch.set_default_dtype(torch.float64)
MADE = {
    "zeros": lambda: torch.zeros(3),
    "numbers": lambda: torch.tensor([0.1, 0.2]),
    "range": lambda: torch.arange(0, 1, 0.1),
    "linspace": lambda: torch.linspace(0, 1, 7),
    "full": lambda: torch.full((2,), 0.1),
    "window": lambda: torch.hann_window(5),
    "quotient": lambda: whole / 3,
    "product": lambda: whole * 0.1,
    "from the left": lambda: 0.1 * whole,
    "root": lambda: whole.sqrt(),
    "logical": lambda: (whole > 2) * 0.1,
    "sigmoid": lambda: F.sigmoid(whole),
    "complex": lambda: whole * 1j,
}
# what brings a type of its own
OWN = {
    "asked by type": lambda: torch.zeros(3, dtype=torch.float32),
    "cast": lambda: whole.float(),
    "cast to a type": lambda: whole.to(torch.float32),
    "from another": lambda: torch.ones(2, dtype=torch.float32) * 0.1,
    "like another": lambda: torch.rand_like(torch.ones(2, dtype=torch.float32)),
    "from NumPy": lambda: torch.from_numpy(np.ones(2, np.float32)),
    "tensor of an array": lambda: torch.tensor(np.ones(2, np.float32)),
    "whole numbers": lambda: torch.arange(3),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_what_has_the_default_type_gets_the_given_one(make):
    torch.set_default_dtype(torch.float64)
    try:
        expected = make()
    finally:
        torch.set_default_dtype(torch.float32)
    with DefaultType(torch.float64):
        found = make()
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("make", OWN.values(), ids=OWN)
def test_what_has_a_type_keeps_it(make):
    expected = make().dtype
    with DefaultType(torch.float64):
        assert make().dtype == expected


@pytest.mark.parametrize("draw", [torch.rand, torch.randn], ids=["uniform", "normal"])
def test_random_numbers_are_those_of_the_default_type(draw):
    torch.manual_seed(1)
    expected = draw(4)
    torch.manual_seed(1)
    with DefaultType(torch.float64):
        found = draw(4)
    assert found.dtype == torch.float64
    assert torch.equal(found.float(), expected)


@pytest.mark.hard_use(
    "While a float32 model is computed in float64, other threads make tensors in float32"
)
def test_the_process_keeps_its_default_type():
    seen = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 3))

        def forward(self, x):
            seen.append(torch.get_default_dtype())
            return (x + torch.full((3,), 0.1)) @ self.weight

    batch = torch.rand(4, 3), torch.tensor([0, 1, 2, 0])
    problem = lla.Problem(Net(), batch, precision="float64")
    assert problem.loss().dtype == torch.float64
    assert set(seen) == {torch.float32}
