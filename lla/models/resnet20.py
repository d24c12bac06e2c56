"""ResNet-20 and its deeper relatives for 32 x 32 images (He et al., 2015, section 4.2)."""

import torch.nn.functional as F
from torch import Tensor, nn


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut without parameters (option A)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.stride = stride
        self.extra = after - before

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, before, H, W] to [N, after, H / stride, W / stride]."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride > 1 or self.extra:
            # Every second pixel; the new channels are zeros, half before and half after.
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """One convolution, nine residual blocks of 16, 32 and 64 channels, one linear layer.

    269722 parameters for three channels and ten classes. With n blocks a stage it is ResNet-(6 n +
    2): nine blocks make ResNet-56.

    Args:
        num_classes: Classes.
        in_channels: Channels of the input.
        blocks: Residual blocks in each of the three stages.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, blocks: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1, blocks)
        self.layer2 = self._stage(16, 32, 2, blocks)
        self.layer3 = self._stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, num_classes)

    @staticmethod
    def _stage(before: int, after: int, stride: int, blocks: int) -> nn.Sequential:
        first = _Block(before, after, stride)
        return nn.Sequential(first, *(_Block(after, after, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, 32, 32] to logits [N, num_classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))
