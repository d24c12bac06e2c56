"""The names that the examples of README.md take for granted, as a reader has them."""

from collections import OrderedDict

import torch
from sklearn.datasets import load_digits
from torch import nn

import lla


def names():
    """A trained network with data, and what else is named; writes checkpoints where it is."""
    x, y = load_digits(return_X_y=True)
    x, y = torch.tensor(x[:40] / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(y[:40])
    batches, model, other_model = [(x, y)], network(0), network(1)
    before = lla.criteria(model, batches, probes=1, steps=10)
    lla.training.train(model, (x, y), epochs=100, batch_size=16, lr=1e-2)
    after = lla.criteria(model, batches, probes=1, steps=10)
    direction = torch.randn(sum(p.numel() for p in model.parameters()))
    for seed, name in enumerate(("1", "2", "3", "other")):
        torch.save(network(seed).state_dict(), f"{name}.pt")
    return {
        "lla": lla, "torch": torch, "model": model, "other_model": other_model, "batches": batches,
        "before": before, "after": after, "direction": direction,
    }  # fmt: skip


def network(seed):
    """A small network with a few of the names that layers have in the examples."""
    torch.manual_seed(seed)
    layers = {
        "conv1": nn.Conv2d(1, 10, 4, 4), "bn1": nn.BatchNorm2d(10), "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(10, 10, 2), "relu2": nn.ReLU(), "flat": nn.Flatten(),
        "fc1": nn.Linear(10, 10),
    }  # fmt: skip
    return nn.Sequential(OrderedDict(layers))
