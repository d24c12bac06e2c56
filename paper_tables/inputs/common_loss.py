"""Training by gradient descent that stops at a given training loss, so that networks compare.

The weights of `lla.training` are those after whole epochs; a measure of flatness depends on the
predicted probabilities, so here all networks of a family end at the same loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla.seeding import generator

CHECK_EVERY = 10  # steps between two looks at the loss over all examples
MOMENTUM = 0.9
TOLERANCE = 1e-3  # of the loss, relative
HALVINGS = 40


@dataclass(frozen=True)
class Descent:
    """How a network is trained.

    Attributes:
        lr: learning rate of SGD with momentum.
        batch_size: examples a step.
        weight_decay: as torch's SGD has it, for weights and biases alike.
        seed: of the order of the examples.
        target: training loss to stop at.
        steps: the most.
    """

    lr: float
    batch_size: int
    weight_decay: float
    seed: int
    target: float
    steps: int


@dataclass(frozen=True)
class Outcome:
    """How a training ended."""

    steps: int
    loss: float  # over all training examples
    reached: bool


def train(model: nn.Module, x: Tensor, y: Tensor, how: Descent) -> Outcome:
    """Train a network without dropout or BatchNorm in place, down to a training loss.

    Between the last look at which the loss was above the target and the first at which it was
    below, the weights are taken where the straight line between both meets the target.

    Args:
        model: gives logits [N, C].
        x: all inputs [N, ...].
        y: all labels [N].
        how: see the class.

    Returns:
        How it ended; `reached` is false where the steps were too few, or where the loss became NaN
        or infinite: then the weights are the last ones with a finite loss.
    """
    optimizer = torch.optim.SGD(
        model.parameters(), lr=how.lr, momentum=MOMENTUM, weight_decay=how.weight_decay
    )
    before, last = _weights(model), mean_loss(model, x, y)
    done, epoch = 0, 0
    while done < how.steps and last > how.target:
        order = torch.randperm(len(x), generator=generator(how.seed, epoch)).to(x.device)
        epoch += 1
        for index in order.split(how.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
            done += 1
            if done % CHECK_EVERY and done < how.steps:
                continue
            last = mean_loss(model, x, y)
            if not math.isfinite(last):
                _put(model, before)
                return Outcome(done, mean_loss(model, x, y), False)
            if last <= how.target:
                last = _meet(model, before, x, y, how.target)
                break
            if done >= how.steps:
                break
            before = _weights(model)
    optimizer.zero_grad()
    return Outcome(done, last, last <= how.target * (1 + TOLERANCE))


@torch.no_grad()
def mean_loss(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The mean cross-entropy over all examples."""
    parts = zip(x.split(1024), y.split(1024), strict=True)
    return sum(float(F.cross_entropy(model(a), b, reduction="sum")) for a, b in parts) / len(x)


def _weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@torch.no_grad()
def _put(model: nn.Module, weights: list[Tensor]) -> None:
    for p, value in zip(model.parameters(), weights, strict=True):
        p.copy_(value)


@torch.no_grad()
def _meet(model: nn.Module, above: list[Tensor], x: Tensor, y: Tensor, target: float) -> float:
    """Move a model back on the line to weights of a larger loss until the target is met."""
    below = _weights(model)
    low, high, loss = 0.0, 1.0, mean_loss(model, x, y)  # shares of the way from above to below
    for _ in range(HALVINGS):
        if abs(loss / target - 1) <= TOLERANCE:
            break
        middle = (low + high) / 2
        _put(model, [a + middle * (b - a) for a, b in zip(above, below, strict=True)])
        loss = mean_loss(model, x, y)
        low, high = (middle, high) if loss > target else (low, middle)
    return loss
