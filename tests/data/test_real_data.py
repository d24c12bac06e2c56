"""The real files, where LLA_DATA has them."""

import pytest
import torch

from lla import data
from lla.errors import MissingDataError


def load(name, split, root):
    try:
        return data.load(name, split, root)
    except MissingDataError as error:
        pytest.skip(str(error))


def test_mnist_is_complete(lla_data):
    train, test = (load("mnist", split, lla_data) for split in ("train", "test"))
    assert train.images.shape == (60000, 1, 28, 28)
    assert test.images.shape == (10000, 1, 28, 28)
    assert train.fidelity == test.fidelity == "paper"
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.labels.bincount().tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_svhn_training_images(lla_data):
    colour, gray = (load(name, "train", lla_data) for name in ("svhn", "svhn-gray"))
    assert len(colour) == (1083 if colour.fidelity == "reduced" else 73257)
    assert colour.labels[:5].tolist() == [1, 9, 2, 3, 2]
    assert gray.images.shape == (len(colour), 1, 32, 32)
    assert torch.equal(gray.labels, colour.labels)


@pytest.mark.parametrize(
    ("split", "part", "whole"), [("train", 8152, 50000), ("test", 1017, 10000)]
)
def test_cifar10(lla_data, split, part, whole):
    read = load("cifar10", split, lla_data)
    assert read.images.shape == (part if read.fidelity == "reduced" else whole, 3, 32, 32)


@pytest.mark.parametrize("name", ["mnist", "svhn", "cifar10"])
def test_every_file_there_is_right(lla_data, name):
    checks = [check for check in data.verify(name, lla_data) if check.state != "missing"]
    assert all(check.state == "right" for check in checks)
