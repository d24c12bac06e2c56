"""What is summed over examples for the flatness of a layer: its F x F table, and its bias."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Curvature:
    """Parts of the Hessian of a layer, as sums over examples in float64.

    Attributes:
        table: T [F, F], the traces of the blocks of the Hessian: T_fg = sum_j H_(f j)(g j).
        bias: trace of the Hessian by the bias.
    """

    table: Tensor
    bias: float = 0.0

    @classmethod
    def zeros(cls, filters: int, like: Tensor) -> Curvature:
        """Nothing yet, for F filters."""
        return cls(torch.zeros(filters, filters, dtype=torch.float64, device=like.device))

    def add(self, other: Curvature, share: float) -> None:
        """Add a multiple of another."""
        self.table += share * other.table
        self.bias += share * other.bias

    @property
    def trace(self) -> float:
        """Trace of the Hessian by the weight."""
        return float(self.table.trace())

    def kappa(self, weight: Tensor) -> float:
        """Relative flatness, sum_fg <w_f, w_g> T_fg, for a weight [F, d].

        Petzka, Kamp, Adilova, Sminchisescu and Boley (2021), definition 3.
        """
        return float(((weight @ weight.T) * self.table).sum())

    def kappa_diagonal(self, weight: Tensor) -> float:
        """Its part f = g, sum_f ||w_f||^2 T_ff, for a weight [F, d]."""
        return float((weight.square().sum(1) * self.table.diagonal()).sum())
