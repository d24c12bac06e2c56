"""LeNet as the paper uses it, and a plain multi-layer perceptron."""

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """Two convolutions with ReLU and max pooling, then three linear layers.

    It has 61706 parameters for one channel and ten classes. With `padding=0` it takes 32 x 32
    images, as in the paper, and with `padding=2` images of 28 x 28; on zero-padded 28 x 28 images
    both are the same function.

    Args:
        num_classes: Classes.
        in_channels: Channels of the input.
        padding: Zeros around the input of the first convolution.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1, padding: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 6, 5, padding=padding)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to logits [N, num_classes]."""
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class MLP(nn.Module):
    """Linear layers with ReLU between them, on flattened input.

    Args:
        num_classes: Classes.
        in_features: Numbers an example.
        hidden: Widths of the hidden layers; none gives a linear model.
    """

    def __init__(
        self, num_classes: int = 10, in_features: int = 784, hidden: Sequence[int] = (64,)
    ) -> None:
        super().__init__()
        widths = (in_features, *hidden, num_classes)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """Map examples [N, ...] of `in_features` numbers to logits [N, num_classes]."""
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
