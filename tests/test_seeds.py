"""What a test draws is the same whichever tests and files came before."""

import torch

AT_THE_HEAD = torch.rand(3)


def seeded(seed):
    return torch.rand(3, generator=torch.Generator().manual_seed(seed))


def test_at_the_head_of_a_file():
    assert torch.equal(AT_THE_HEAD, seeded(1))


def test_in_a_test():
    assert torch.equal(torch.rand(3), seeded(0))
