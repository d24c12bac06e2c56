"""The networks that costs are measured on, with batches of noise: values do not matter here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

import lla
from lla.models import build


@dataclass(frozen=True)
class Case:
    """A network, a batch and what its curvature may cost."""

    name: str
    batch: int
    shape: tuple[int, ...]
    product_limit: float  # seconds of a product / seconds of forward and backward
    overhead_limit: float  # share of a HESD that is not products

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


CASES = [
    Case("lenet", 512, (1, 32, 32), product_limit=1.3, overhead_limit=0.20),
    Case("resnet20", 64, (3, 32, 32), product_limit=2.3, overhead_limit=0.08),
]
