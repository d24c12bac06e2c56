"""Small networks for the tests of layers, and explicit matrices of one layer's weight."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call


def seeded(make, seed=0):
    """A network in float64 with weights from a seed, in eval mode, its statistics not trivial."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make().double()
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape) * 0.3)
            if name.endswith("running_var"):
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
    return model.eval()


def mlp():
    return nn.Sequential(
        nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)
    )  # fmt: skip


def smooth():
    return nn.Sequential(nn.Linear(4, 5), nn.SiLU(), nn.Linear(5, 3))


def normed():
    return nn.Sequential(
        nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4), nn.BatchNorm1d(4),
        nn.ReLU(), nn.Linear(4, 3),
    )  # fmt: skip


def cnn():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 2, stride=2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip


SHAPES = {mlp: (4,), smooth: (4,), normed: (4,), cnn: (1, 5, 5)}


def batches(make, sizes=(6,), classes=3, seed=0):
    """Batches with inputs whose mean is not zero."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(n, *SHAPES[make], generator=generator, dtype=torch.float64) + 0.7,
            torch.randint(0, classes, (n,), generator=generator),
        )
        for n in sizes
    ]


def together(data):
    """All batches as one."""
    return tuple(torch.cat(parts) for parts in zip(*data, strict=True))


def hessian(model, data, layer, of=F.cross_entropy):
    """The Hessian [P, P] of the mean loss by the weight of a layer."""
    x, y = together(data)
    name = f"{layer}.weight"
    held = {n: t.detach() for n, t in [*model.named_parameters(), *model.named_buffers()]}

    def value(flat):
        return of(functional_call(model, {**held, name: flat.view_as(held[name])}, (x,)), y)

    flat = held[name].flatten()
    return torch.autograd.functional.hessian(value, flat)


def jacobian(model, data, layer):
    """The logits z [n, C] and their Jacobian [n, C, P] by the weight of a layer."""
    x, _ = together(data)
    name = f"{layer}.weight"
    held = {n: t.detach() for n, t in [*model.named_parameters(), *model.named_buffers()]}

    def output(flat):
        return functional_call(model, {**held, name: flat.view_as(held[name])}, (x,))

    flat = held[name].flatten()
    return output(flat), torch.autograd.functional.jacobian(output, flat)


def dense(operator):
    """An operator as a matrix."""
    return operator @ torch.eye(operator.shape[0], dtype=operator.dtype)


def error(found, expected):
    """The relative difference of two matrices."""
    return float((found - expected).norm() / expected.norm())
