"""Small networks of named kinds, on which formulas are compared with explicit Hessians."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lla.models import LeNet
from lla.seeding import seeded

SIDE, CHANNELS, CLASSES, EXAMPLES = 8, 2, 4, 6


class _Residual(nn.Module):
    """Two convolutions beside a skip, between two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.linear = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x).relu()
        x = (x + self.conv3(self.conv2(x).relu())).relu()
        return self.linear(x.mean((2, 3)))


def _conv(before: int, after: int, size: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, size, stride, padding=size // 2, groups=groups)


def _averaged(*layers: nn.Module) -> nn.Sequential:
    """Layers with four features, averaged over positions, and a linear classifier."""
    average = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, CLASSES))
    return nn.Sequential(*layers, *average)


ARCHITECTURES: dict[str, Callable[[], nn.Module]] = {
    "plain CNN": lambda: _averaged(_conv(CHANNELS, 4), nn.ReLU(), _conv(4, 4), nn.ReLU()),
    "BatchNorm": lambda: _averaged(
        _conv(CHANNELS, 4), nn.BatchNorm2d(4), nn.ReLU(),
        _conv(4, 4), nn.BatchNorm2d(4), nn.ReLU(),
    ),
    "residual": _Residual,
    "max-pooled": lambda: _averaged(
        _conv(CHANNELS, 4), nn.ReLU(), nn.MaxPool2d(2), _conv(4, 4), nn.ReLU(), nn.MaxPool2d(2)
    ),
    "average-pooled": lambda: _averaged(
        _conv(CHANNELS, 4), nn.ReLU(), nn.AvgPool2d(2), _conv(4, 4), nn.ReLU(), nn.AvgPool2d(2)
    ),
    "strided": lambda: _averaged(
        _conv(CHANNELS, 4, stride=2), nn.ReLU(), _conv(4, 4, stride=2), nn.ReLU()
    ),
    "depthwise": lambda: _averaged(
        _conv(CHANNELS, 4), nn.ReLU(), _conv(4, 4, groups=4), nn.ReLU(), _conv(4, 4, 1), nn.ReLU()
    ),
    "1 x 1 classifier": lambda: nn.Sequential(
        _conv(CHANNELS, 4), nn.ReLU(), _conv(4, 4), nn.ReLU(), _conv(4, CLASSES, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    ),
    "LeNet": lambda: LeNet(num_classes=CLASSES),
}  # fmt: skip

# Layers one after the other, with only ReLU and pooling between them: what scales the output of the
# first by filters is undone in the weight of the second.
FOLLOWED: dict[str, tuple[tuple[str, str], ...]] = {
    "plain CNN": (("0", "2"), ("2", "6")),
    "max-pooled": (("0", "3"), ("3", "8")),
    "average-pooled": (("0", "3"), ("3", "8")),
    "strided": (("0", "2"), ("2", "6")),
    "1 x 1 classifier": (("0", "2"), ("2", "4")),
    "LeNet": (("conv1", "conv2"), ("conv2", "fc1"), ("fc1", "fc2"), ("fc2", "fc3")),
}


def build(name: str, seed: int) -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    """A network of a kind with random weights and a batch of noise, in float64.

    Biases and the statistics of BatchNorm are random, too, so that nothing is zero by chance.

    Args:
        name: one of `ARCHITECTURES`.
        seed: of weights and batch.
    """
    channels, side = (1, 32) if name == "LeNet" else (CHANNELS, SIDE)
    with seeded(torch.device("cpu"), seed):
        model = ARCHITECTURES[name]().double().eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                module.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        x = torch.randn(EXAMPLES, channels, side, side, dtype=torch.float64)
    return model, (x, torch.arange(EXAMPLES) % CLASSES)
