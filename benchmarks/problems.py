"""The networks that costs are measured on, with batches of noise: values do not matter here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

import lla
from lla.hessian.products.routes import RouteName
from lla.models import build
from lla.probes import rademacher

RGB = 3


@dataclass(frozen=True)
class Case:
    """A network, a batch and what its curvature may cost."""

    name: str
    batch: int
    shape: tuple[int, ...]
    product_limit: float = math.inf  # seconds of a product / seconds of forward and backward
    overhead_limit: float = math.inf  # share of a HESD that is not products

    def __str__(self) -> str:
        side = f" at {self.shape[-1]} px" if self.shape[0] == RGB else ""
        return f"{self.name} {self.batch}{side}"

    def make(self) -> tuple[lla.Problem, Callable[[], object]]:
        """The problem, and one forward and backward pass in ordinary PyTorch."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = build(self.name, seed=0).to(device).eval()
        generator = torch.Generator().manual_seed(0)
        x = torch.rand(self.batch, *self.shape, generator=generator).to(device)
        y = torch.randint(0, 10, (self.batch,), generator=generator).to(device)
        parameters = list(model.parameters())

        def step() -> object:
            loss = torch.nn.functional.cross_entropy(model(x), y)
            return torch.autograd.grad(loss, parameters)

        return lla.Problem(model, (x, y)), step


_LENET = Case("lenet", 512, (1, 32, 32), product_limit=1.3, overhead_limit=0.20)
_RESNET20 = Case("resnet20", 64, (RGB, 32, 32), product_limit=2.3, overhead_limit=0.08)

# What is timed at each size of the session; `tiny` tells nothing but that the suites run.
CASES = {
    "tiny": [Case("lenet", 8, (1, 32, 32))],
    "quick": [_LENET, _RESNET20],
    "paper": [_LENET, _RESNET20, Case("resnet18", 8, (RGB, 128, 128))],
}


def one_product(problem: lla.Problem, route: RouteName | None) -> RouteName:
    """Make an operator and one product; the route taken."""
    operator = lla.HessianOperator(problem, route=route)
    operator.rows(rademacher(operator.shape[0], operator.theta, 0)[None])
    return operator.route


def product_of(case: Case, route: RouteName | None) -> RouteName:
    """Make a network, an operator and one product: what is measured for its memory."""
    return one_product(case.make()[0], route)


def one_spectrum(case: Case, steps: int) -> int:
    """Make a spectrum from one probe, for its memory; its products."""
    operator = lla.HessianOperator(case.make()[0])
    return lla.spectral_density(operator, probes=1, steps=steps).matvecs
