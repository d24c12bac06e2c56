"""The networks on which costs are measured, with batches of noise, as values do not matter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import lla
from lla.hessian.products.routes import RouteName
from lla.models import build
from lla.probes import rademacher

RGB = 3
NOTE = "at initialisation, on noise: costs do not depend on values"  # of records

Pairs = list[tuple[Tensor, Tensor]]  # batches of inputs and targets


def device() -> str:
    """The device on which costs are measured: the GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def configuration(config: dict[str, Any], device_name: str) -> dict[str, Any]:
    """A configuration with the kind of device, so that records of GPU and CPU are both kept.

    Records of a CPU have no such entry, because the first were published without one.
    """
    return config if device_name == "cpu" else {**config, "device": device_name}


def network(
    name: str,
    shape: tuple[int, ...],
    batch: int,
    batches: int = 1,
    classes: int = 10,
    dtype: torch.dtype = torch.float32,
) -> tuple[nn.Module, Pairs]:
    """A network at initialisation in eval mode, and batches of noise, on the device.

    Args:
        name: of the network.
        shape: of an input; inputs are uniform.
        batch: examples a batch.
        batches: how many.
        classes: of the network and the random targets.
        dtype: of parameters and inputs.
    """
    model = build(name, num_classes=classes, seed=0).eval().to(device(), dtype)
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for _ in range(batches):
        x = torch.rand(batch, *shape, generator=generator)
        y = torch.randint(0, classes, (batch,), generator=generator)
        pairs.append((x.to(device(), dtype), y.to(device())))
    return model, pairs


def one_pass(model: nn.Module, pairs: Pairs) -> Callable[[], None]:
    """A forward and backward pass over all batches in ordinary PyTorch."""
    parameters = list(model.parameters())

    def step() -> None:
        for x, y in pairs:
            torch.autograd.grad(nn.functional.cross_entropy(model(x), y), parameters)

    return step


class Case(Protocol):
    """A network and a batch, on which costs are measured; as text, what a table calls it."""

    @property
    def name(self) -> str:
        """Of the network."""

    @property
    def batch(self) -> int:
        """Examples in the batch."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an input."""

    def make(self) -> tuple[lla.Problem, Callable[[], None]]:
        """The problem, and one forward and backward pass in ordinary PyTorch."""


@dataclass(frozen=True)
class NetworkCase:
    """A network and a batch."""

    name: str
    batch: int
    shape: tuple[int, ...]

    def __str__(self) -> str:
        side = f" at {self.shape[-1]} px" if self.shape[0] == RGB else ""
        return f"{self.name} {self.batch}{side}"

    def make(self) -> tuple[lla.Problem, Callable[[], None]]:
        """The problem, and one forward and backward pass in ordinary PyTorch."""
        model, (batch,) = network(self.name, self.shape, self.batch)
        return lla.Problem(model, batch), one_pass(model, [batch])


_LENET = NetworkCase("lenet", 512, (1, 32, 32))
_RESNET20 = NetworkCase("resnet20", 64, (RGB, 32, 32))

# What is timed at each size of the session; `tiny` only shows that the suites run.
CASES = {
    "tiny": [NetworkCase("lenet", 8, (1, 32, 32))],
    "quick": [_LENET, _RESNET20],
    "paper": [_LENET, _RESNET20, NetworkCase("resnet18", 8, (RGB, 128, 128))],
}


def one_product(problem: lla.Problem, route: RouteName | None) -> RouteName:
    """Make an operator and one product; return the route."""
    operator = lla.HessianOperator(problem, route=route)
    operator.rows(rademacher(operator.shape[0], operator.theta, 0)[None])
    return operator.route


def product_of(case: NetworkCase, route: RouteName | None) -> RouteName:
    """Make a network, an operator and one product, to measure their memory."""
    return one_product(case.make()[0], route)


def one_spectrum(case: NetworkCase, steps: int) -> int:
    """Make a spectrum from one probe, to measure its memory; return the number of products."""
    operator = lla.HessianOperator(case.make()[0])
    return lla.spectral_density(operator, probes=1, steps=steps).matvecs
