"""Small networks, and what their layers' flatness is by explicit Hessians."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

# examples of the batches: of unequal sizes
SIZES = (5, 3)


class Residual(nn.Module):
    """A functional ReLU around a convolution that is added to its input."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return F.relu(self.conv(x) + x)


class Mean(nn.Module):
    """Global average pooling, written by the user."""

    def forward(self, x):
        return x.mean(tuple(range(2, x.ndim)))


def _head(channels, classes=3):
    return Mean(), nn.Linear(channels, classes)


ARCHITECTURES = {
    "plain": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 2), nn.ReLU(), *_head(4)
    ),
    "batchnorm": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.BatchNorm2d(3), nn.ReLU(inplace=True),
        nn.Conv2d(3, 4, 2, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True), *_head(4),
    ),
    "residual": lambda: nn.Sequential(nn.Conv2d(2, 3, 3), Residual(3), Residual(3), *_head(3)),
    "pooled": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU6(), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 2), nn.LeakyReLU(), nn.AvgPool2d(2), *_head(4),
    ),
    "strided": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.PReLU(3), nn.Conv2d(3, 4, 2, stride=2),
        nn.Hardtanh(), *_head(4),
    ),
    "depthwise": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        nn.BatchNorm2d(4), nn.ReLU6(), *_head(4),
    ),
    "1x1 classifier": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    ),
    "lenet": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3),
    ),
}  # fmt: skip


def make(build, dtype=torch.float64):
    """A network whose weights and statistics are nowhere trivial."""
    torch.manual_seed(1)
    model = build().to(dtype)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.ndim == 1:
                positive = name.endswith(("weight", "running_var"))
                tensor.copy_(0.5 + torch.rand(tensor.shape) if positive else torch.randn(
                    tensor.shape) * 0.3)  # fmt: skip
            elif tensor.ndim:
                tensor.mul_(2)
    return model.eval()


def pictures(sizes=SIZES, shape=(2, 6, 6), classes=3, dtype=torch.float64):
    """Batches of random inputs."""
    torch.manual_seed(2)
    return [(torch.randn(n, *shape, dtype=dtype), torch.randint(classes, (n,))) for n in sizes]


def explicit(model, batches, layer, loss=F.cross_entropy):
    """Trace, trace of the bias, T, kappa and its diagonal part of a layer from whole Hessians."""
    fixed = {n: t.detach() for n, t in [*model.named_parameters(), *model.named_buffers()]}
    total = sum(len(x) for x, _ in batches)

    def hessian(name):
        shape = fixed[name].shape

        def value(w):
            state = {**fixed, name: w.reshape(shape)}
            return sum(
                loss(functional_call(model, state, (x.clone(),)), y) * len(x) / total
                for x, y in batches
            )

        return torch.autograd.functional.hessian(value, fixed[name].reshape(-1))

    W = fixed[f"{layer}.weight"].flatten(1)
    H = hessian(f"{layer}.weight").reshape(*W.shape, *W.shape)
    table = torch.einsum("fjgj->fg", H)
    bias = f"{layer}.bias"
    return SimpleNamespace(
        H=H,
        trace=float(table.trace()),
        trace_bias=float(hessian(bias).trace()) if bias in fixed else None,
        table=table,
        kappa=float((W @ W.T * table).sum()),
        kappa_diag=float((W.square().sum(1) * table.diagonal()).sum()),
    )


@pytest.fixture(scope="session")
def nets():
    """This file's functions."""
    return SimpleNamespace(
        ARCHITECTURES=ARCHITECTURES, make=make, pictures=pictures, explicit=explicit, Mean=Mean
    )
