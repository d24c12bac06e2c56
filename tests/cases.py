"""Small models with batches, and their Hessians by plain double backward, for the core's tests."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

import lla

SEED = 3  # of the dropout masks


@dataclass(frozen=True)
class Case:
    """A model, the input that it takes for n examples, its targets and its loss."""

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[int], Any]
    targets: Callable[[int], torch.Tensor]
    loss: Callable[[Any, torch.Tensor], torch.Tensor] = F.cross_entropy
    mode: str = "eval"

    def __str__(self):
        return self.name

    def make(self, dtype=torch.float64, device="cpu"):
        """The model with weights and statistics that are nowhere trivial."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = self.model()
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if parameter.ndim == 1:  # norms and biases
                        parameter.copy_(torch.randn(parameter.shape) * 0.3)
                        parameter.add_(1.0 if name.endswith("weight") else 0.1)
                for name, buffer in model.named_buffers():
                    if name.endswith("running_mean"):
                        buffer.copy_(torch.randn(buffer.shape) * 0.3)
                    if name.endswith("running_var"):
                        buffer.copy_(torch.rand(buffer.shape) + 0.5)
        return model.to(device, dtype)

    def batch(self, n, seed=0, dtype=torch.float64, device="cpu"):
        """One batch (x, y)."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(100 + seed)
            x, y = self.inputs(n), self.targets(n)
        return to(x, dtype, device), to(y, dtype, device)

    def batches(self, sizes, dtype=torch.float64, device="cpu"):
        """Several batches."""
        return [self.batch(n, i, dtype, device) for i, n in enumerate(sizes)]

    def problem(self, sizes=(5,), dtype=torch.float64, device="cpu"):
        """The problem of a new model on such batches."""
        batches = self.batches(sizes, dtype, device)
        return lla.Problem(self.make(dtype, device), batches, self.loss, self.mode, seed=SEED)


def to(value, dtype, device):
    """Tensors in tuples and mappings converted; integers keep their type."""
    if isinstance(value, dict):
        return {key: to(item, dtype, device) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(to(item, dtype, device) for item in value)
    return value.to(device, dtype if value.is_floating_point() else None)


def call(model, x):
    """The model's output, or its logits."""
    output = model(**x) if isinstance(x, dict) else model(*x) if isinstance(x, tuple) else model(x)
    return getattr(output, "logits", output)


def plain_loss(model, batches, loss, mode="eval", seed=SEED):
    """The size-weighted mean loss by plain calls of a copy, its parameters beside it."""
    model = copy.deepcopy(model).train(mode == "train")
    total, count = 0.0, 0
    for x, y in batches:
        with torch.random.fork_rng(devices=[]), sdpa_kernel(SDPBackend.MATH):
            torch.manual_seed(seed)
            total = total + len(y) * loss(call(model, copy.deepcopy(x)), y)
        count += len(y)
    return total / count, model


def plain_gradient(
    model, batches, loss=F.cross_entropy, mode="eval", seed=SEED, create_graph=False
):
    """Gradient [P] by plain autograd, and the parameters that it belongs to."""
    value, model = plain_loss(model, batches, loss, mode, seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    parts = torch.autograd.grad(
        value, parameters, create_graph=create_graph, materialize_grads=True
    )
    return torch.cat([part.reshape(-1) for part in parts]), parameters


def plain_hessian(model, batches, loss=F.cross_entropy, mode="eval", seed=SEED):
    """Hessian [P, P] row by row, by plain autograd."""
    gradient, parameters = plain_gradient(model, batches, loss, mode, seed, create_graph=True)
    rows = []
    for element in gradient:
        if element.requires_grad:
            parts = torch.autograd.grad(
                element, parameters, retain_graph=True, materialize_grads=True
            )
        else:
            parts = [torch.zeros_like(p) for p in parameters]
        rows.append(torch.cat([part.reshape(-1) for part in parts]))
    return torch.stack(rows)


def own_hessian(model, value):
    """The Hessian [P, P] by double backward on the user's own model, called as it is.

    Args:
        model: whose trainable parameters count.
        value: () -> the loss, by calls of the model.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]

    def flat(function, **options):
        parts = torch.autograd.grad(function, parameters, materialize_grads=True, **options)
        return torch.cat([part.reshape(-1) for part in parts])

    gradient = flat(value(), create_graph=True)
    return torch.stack([flat(g, retain_graph=True) for g in gradient])


def differenced_hessian(model, value, step=1e-5):
    """The Hessian [P, P] by central differences of plain gradients of the user's own model."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    theta = torch.cat([p.detach().reshape(-1) for p in parameters])

    def gradient(at):
        for p, part in zip(parameters, at.split([p.numel() for p in parameters]), strict=True):
            p.data.copy_(part.view_as(p))
        parts = torch.autograd.grad(value(), parameters, materialize_grads=True)
        return torch.cat([part.reshape(-1) for part in parts])

    eye = step * torch.eye(len(theta), dtype=theta.dtype)
    rows = [(gradient(theta + e) - gradient(theta - e)) / (2 * step) for e in eye]
    gradient(theta)  # leaves the model as it was
    return torch.stack(rows)


@cache
def hessian(case, sizes=(5,)):
    """The explicit float64 Hessian of a case."""
    return plain_hessian(case.make(), case.batches(sizes), case.loss, case.mode)


class Quadratic(nn.Module):
    """0.5 theta' A theta, whatever the input."""

    def __init__(self, A):
        super().__init__()
        self.register_buffer("A", A)
        self.theta = nn.Parameter(torch.linspace(-1, 1, len(A), dtype=A.dtype))

    def forward(self, x):
        return 0.5 * self.theta @ self.A @ self.theta


def take_output(output, target):
    """The loss of a model that gives its loss."""
    return output


def matrix(eigenvalues, seed=0):
    """A symmetric matrix with these eigenvalues, and its eigenvectors as columns."""
    values = np.asarray(eigenvalues, dtype=np.float64)
    normal = np.random.default_rng(seed).normal(size=(len(values), len(values)))
    vectors = np.linalg.qr(normal)[0]
    A = (vectors * values) @ vectors.T
    return (A + A.T) / 2, vectors


def quadratic(A, dtype=torch.float64):
    """The operator of a given matrix."""
    A = torch.as_tensor(np.asarray(A), dtype=dtype)
    batch = (torch.zeros(1, 1, dtype=dtype), torch.zeros(1))
    return lla.HessianOperator(lla.Problem(Quadratic(A), batch, take_output), route="retained")


class Matrix(lla.SymmetricOperator):
    """A given matrix as an operator, whose products cost next to nothing."""

    def __init__(self, A, dtype=torch.float64):
        self.matrix = torch.as_tensor(np.asarray(A), dtype=dtype)
        super().__init__(len(self.matrix), dtype, torch.device("cpu"))

    def multiplied(self, rows):
        return rows @ self.matrix


def spectrum_of(eigenvalues, dtype=torch.float64, seed=0):
    """The operator of a matrix with given eigenvalues."""
    return quadratic(matrix(eigenvalues, seed)[0], dtype)


def softmax_closed_form(model, x):
    """1/n sum (diag(p) - p p') x x' for a linear map [C, d] without bias under cross entropy."""
    p = torch.softmax(model(x), dim=1)
    inner = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    full = torch.einsum("ncd,ni,nj->cidj", inner, x, x) / len(x)
    return full.reshape(p.shape[1] * x.shape[1], -1).detach()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(2)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2, 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        x = self.stem(x)
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x
        return self.head(self.relu(out).mean((2, 3)))


class SelfAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


class DotProductAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.head(out.transpose(1, 2).flatten(2).mean(1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.2, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


class Tied(nn.Module):
    """An embedding whose weight is also the output layer's."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.mix = nn.Linear(4, 4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(torch.tanh(self.mix(self.embed(x).mean(1))))


class Partly(nn.Module):
    """A frozen layer in the middle and a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.unused = nn.Linear(2, 2)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.tanh(self.frozen(torch.tanh(self.first(x)))))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 4), nn.Linear(2, 4), nn.Linear(4, 3)

    def forward(self, left, right):
        return self.c(torch.tanh(self.a(left)) * self.b(right))


class WithLogits(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 3))

    def forward(self, x):
        return SimpleNamespace(logits=self.inner(x), loss=None)


class Squeeze(nn.Module):
    """A fire module: two branches concatenated, max pooling with overlap."""

    def __init__(self):
        super().__init__()
        self.squeeze = nn.Conv2d(1, 2, 1)
        self.left, self.right = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Conv2d(4, 3, 1)

    def forward(self, x):
        x = F.relu(self.squeeze(x), inplace=True)
        x = torch.cat([F.relu(self.left(x)), F.relu_(self.right(x))], 1)
        return self.head(F.max_pool2d(x, 3, 2, ceil_mode=True)).mean((2, 3))


class Mobile(nn.Module):
    """An inverted residual: expansion, depthwise convolution, projection."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, stride=2, bias=False)
        self.block = nn.Sequential(
            nn.Conv2d(2, 4, 1, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU6(inplace=True),
            nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
            nn.BatchNorm2d(4),
            nn.Hardswish(inplace=True),
            nn.Conv2d(4, 2, 1, bias=False),
        )
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.head(F.adaptive_avg_pool2d(x + self.block(x), 1).flatten(1))


class MasksInPlace(nn.Module):
    """Two masks that begin alike and are then written through views."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        one, two = x.new_zeros(4), x.new_zeros(4)
        one[:2].fill_(1.0)
        two[2:].fill_(3.0)
        h = torch.tanh(self.first(x))
        return self.last(h * h * one + torch.sin(h) * two)


class Positive(nn.Module):
    """A parametrisation."""

    def forward(self, raw):
        return F.softplus(raw)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRU(2, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


def small_cnn():
    """Convolutions with BatchNorm and in-place ReLU."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(2, 3, 2, stride=2, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


def lenet_like():
    """Convolutions, ReLU and max pooling: neither BatchNorm nor dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 2, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 5),
        nn.ReLU(inplace=True),
        nn.Linear(5, 3),
    )


def dropout_mlp():
    """Two kinds of dropout."""
    return nn.Sequential(
        nn.Linear(3, 6),
        nn.Tanh(),
        nn.Dropout(0.4),
        nn.Linear(6, 4),
        nn.AlphaDropout(0.3),
        nn.Linear(4, 3),
    )


def group_norm_net():
    """GroupNorm and GELU."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.GroupNorm(2, 4),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
    )


def layer_norm_mlp():
    """LayerNorm, GELU and tanh."""
    return nn.Sequential(
        nn.Linear(3, 5), nn.LayerNorm(5), nn.GELU(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)
    )


def parametrized_mlp():
    """A weight that is a function of its parameter."""
    net = nn.Sequential(nn.Linear(3, 4), nn.Softplus(), nn.Linear(4, 3))
    nn.utils.parametrize.register_parametrization(net[0], "weight", Positive())
    return net


def normal(*shape):
    """Inputs [n, *shape]."""
    return lambda n: torch.randn(n, *shape)


def channels_last(n):
    """Inputs whose channels vary fastest in memory."""
    return torch.randn(n, 2, 5, 5).to(memory_format=torch.channels_last)


def channels_last_net():
    """A network whose weights are channels_last too."""
    net = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(27, 3)
    )
    return net.to(memory_format=torch.channels_last)


def classes(n):
    """Class indices below 3."""
    return torch.randint(0, 3, (n,))


image = normal(1, 6, 6)
tokens = normal(4, 4)
A_INDEFINITE = torch.as_tensor(matrix([-3.0, -1.0, 0.0, 0.5, 0.5, 2.0, 40.0])[0])

CASES = (
    Case("quadratic", lambda: Quadratic(A_INDEFINITE), normal(1), classes, take_output),
    Case("linear_regression", lambda: nn.Linear(3, 2), normal(3), normal(2), F.mse_loss),
    Case("softmax_regression", lambda: nn.Linear(4, 3, bias=False), normal(4), classes),
    Case("mlp_mse", lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)),
         normal(3), normal(2), F.mse_loss),
    Case("cnn_bn_eval", small_cnn, image, classes),
    Case("cnn_bn_train", small_cnn, image, classes, mode="train"),
    Case("residual_eval", Residual, image, classes),
    Case("residual_train", Residual, image, classes, mode="train"),
    Case("fire", Squeeze, image, classes),
    Case("mobile_train", Mobile, image, classes, mode="train"),
    Case("attention", SelfAttention, tokens, classes),
    Case("sdpa_causal", DotProductAttention, tokens, classes),
    Case("encoder_eval", Encoder, tokens, classes),
    Case("encoder_train", Encoder, tokens, classes, mode="train"),
    Case("dropout_train", dropout_mlp, normal(3), classes, mode="train"),
    Case("group_norm_gelu", group_norm_net, image, classes),
    Case("layer_norm_tanh", layer_norm_mlp, normal(3), classes),
    Case("tied", Tied, lambda n: torch.randint(0, 6, (n, 3)), classes),
    Case("frozen_and_unused", Partly, normal(3), classes),
    Case("channels_last_eval", channels_last_net, channels_last, classes),
    Case("channels_last_train", channels_last_net, channels_last, classes, mode="train"),
    Case("tuple_input", TwoInputs, lambda n: (torch.randn(n, 3), torch.randn(n, 2)), classes),
    Case("dict_input", TwoInputs,
         lambda n: {"right": torch.randn(n, 2), "left": torch.randn(n, 3)}, classes),
    Case("output_with_logits", WithLogits, normal(3), classes),
    Case("parametrized", parametrized_mlp, normal(3), classes),
    Case("masks_in_place", MasksInPlace, normal(3), classes),
    Case("recurrent", Recurrent, normal(4, 2), classes),
)  # fmt: skip

BY_NAME = {case.name: case for case in CASES}
