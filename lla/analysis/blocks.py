"""Traces of the Hessian's diagonal blocks, and parameters that the loss does not depend on."""

from __future__ import annotations

import numpy as np
import torch

from lla.analysis.result import Blocks
from lla.hessian.operator import HessianOperator
from lla.probes import rademacher
from lla.problem import Problem

_STREAM = 61  # of the random signs


def blocks_of(problem: Problem, operator: HessianOperator, samples: int, seed: int) -> Blocks:
    """The trace of each diagonal block, all from the same products.

    For a vector v of random signs, v_b' (H v)_b is the trace of block b in the mean (Hutchinson
    1989, Bekas, Kokiopoulou and Saad 2007).

    Args:
        problem: network, loss and data.
        operator: its Hessian, by all parameters.
        samples: products.
        seed: of the vectors.

    Raises:
        NonFiniteError: a product is not finite.
    """
    gradient = problem.gradient()
    owners = [name.rpartition(".")[0] for name, *_ in problem.space]
    names = list(dict.fromkeys(owners))
    row = torch.tensor([names.index(owner) for owner in owners])
    lengths = torch.tensor([place.stop - place.start for *_, place in problem.space])
    block = row.repeat_interleave(lengths).to(gradient.device)  # [P] the block of each parameter
    idle, traces = gradient == 0, []
    for i in range(samples):
        v = rademacher(len(gradient), gradient, seed, _STREAM, i)
        product = operator @ v
        idle &= product == 0
        traces.append(_sums((v * product).double(), block, len(names)))
    return Blocks(
        names=tuple(names),
        sizes=_sums(torch.ones_like(block), block, len(names)),
        traces=np.stack(traces, axis=1),
        unused=_sums(idle.long(), block, len(names)),
    )


def _sums(values: torch.Tensor, block: torch.Tensor, count: int) -> np.ndarray:
    """The sum of the values in each block."""
    found = torch.zeros(count, dtype=values.dtype, device=values.device)
    return found.index_add_(0, block, values).cpu().numpy()
