"""Batches of every kind on another device."""

from collections import UserDict

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from lla.batches import Batch, leaves
from lla.tracking.devices import on_device

META = torch.device("meta")


def x():
    return torch.ones(4, 3)


KINDS = {
    "pair": lambda: (x(), x()),
    "list": lambda: [(x(), x()), (x(), x())],
    "mapping": lambda: {"a": x(), "labels": x()},
    "mapping of its own kind": lambda: [UserDict(a=x(), n=3)],
    "batch": lambda: [Batch((x(), x()), x(), 4)],
    "packed": lambda: [(pack_sequence([torch.ones(3, 2), torch.ones(1, 2)]), x())],
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_batches_of_every_kind_are_moved(make):
    given = make()
    moved = on_device(given, META)
    assert type(moved) is type(given)
    found, before = [*leaves(moved)], [*leaves(given)]
    assert len(found) == len(before) > 0
    assert all(each.data.device == META for each in found)
    assert all(each.data.device.type == "cpu" for each in before)


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_tensors_that_are_there_are_not_copied(make):
    given = make()
    pairs = zip(leaves(given), leaves(on_device(given, torch.device("cpu"))), strict=True)
    assert all(a.data.data_ptr() == b.data.data_ptr() for a, b in pairs)


def test_a_loader_is_moved_as_it_is_read():
    generator = torch.Generator()
    loader = torch.utils.data.DataLoader([(x()[0], 0)] * 5, 2, generator=generator)
    moved = on_device(loader, META)
    assert len(moved) == 3
    assert moved.generator is generator
    assert moved.sampler is loader.sampler
    for _ in range(2):
        assert [len(a) for a, b in moved] == [2, 2, 1]
        assert all(a.device == b.device == META for a, b in moved)
    with pytest.raises(AttributeError):
        _ = moved.other


def test_what_is_no_batch_stays_for_others_to_refuse():
    one_shot = (pair for pair in [(x(), x())])
    assert on_device(one_shot, META) is one_shot
    assert on_device(None, META) is None
