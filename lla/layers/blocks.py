"""How much of a Hessian lies off the diagonal blocks of its layers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lla.arguments import number_of_draws
from lla.errors import InputError
from lla.estimate import Estimate
from lla.hessian.operator import HessianOperator
from lla.hessian.refusals import not_finite
from lla.layers.ratios import ratio, root
from lla.parameters import ParameterSpace
from lla.probes import rademacher
from lla.problem import Problem
from lla.progress_bars import tqdm

_STREAM = 22
_NUMBERS = 2**24  # in the vectors that are multiplied at a time


def off_block_share(
    problem: Problem,
    probes: int = 16,
    seed: int = 0,
    *,
    squared: bool = True,
    progress: bool = False,
) -> Estimate:
    """The share of ||H||_F^2 that lies off the diagonal blocks of the layers.

    A block has all trainable parameters of one module, its weight and its bias. With a vector z of
    random signs and its part z_b in block b, E ||H z_b||^2 is the squared Frobenius norm of the
    columns of b. Its elements outside of b give the part off the diagonal blocks, without
    differences of large numbers. So a probe takes one product a block. If P unit vectors are no
    more than that, they are multiplied instead, and the result is exact.

    Args:
        problem: network, loss and data.
        probes: number of vectors z.
        seed: of the probes.
        squared: False gives the square root: the share of ||H||_F.
        progress: show a progress bar.

    Returns:
        The share, with its standard error over the probes.

    Raises:
        InputError: fewer than two probes; only one layer; the Hessian is zero.
        NonFiniteError: a product is not finite.

    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    >>> batch = torch.rand(4, 3), torch.tensor([0, 1, 0, 1])
    >>> off_block_share(Problem(model, batch)).stderr
    0.0
    """
    probes = number_of_draws("probes", probes, 2)
    if not isinstance(problem, Problem):
        raise InputError(
            f"off_block_share takes a Problem, not {type(problem).__name__}: give it "
            "lla.Problem(model, batches, loss)"
        )
    owner, names = layer_of_each(problem.space)
    if len(names) < 2:
        raise InputError(
            f"all parameters belong to the one layer {names[0] or 'that the network is'!r}: the "
            "share off the blocks takes two layers"
        )
    own = torch.from_numpy(owner).to(problem.device)
    count, size = len(names), problem.space.size
    exact = size <= probes * count
    H = HessianOperator(problem, products=min(size, probes * count))
    inside = np.zeros(1 if exact else probes)
    whole = np.zeros_like(inside)
    total = size if exact else probes * count
    step = max(1, min(16, _NUMBERS // size))
    with tqdm(total=total, desc="blocks", unit="product", disable=not progress) as bar:
        for start in range(0, total, step):
            places = range(start, min(start + step, total))
            if exact:
                rows = H.like.new_zeros(len(places), size)
                rows[range(len(places)), places] = 1
                blocks, probe = [int(owner[i]) for i in places], [0] * len(places)
            else:
                blocks = [i % count for i in places]
                probe = [i // count for i in places]
                rows = torch.stack([
                    rademacher(size, H.like, seed, _STREAM, i) * (own == b)
                    for i, b in zip(probe, blocks, strict=True)
                ])  # fmt: skip
            products = H.rows(rows).double()
            if not bool(products.isfinite().all()):
                raise not_finite(H.dtype)
            _add(products, own, blocks, probe, inside, whole)
            bar.update(len(places))
    found = ratio(whole - inside, whole, H.matvecs)
    if exact:
        found = Estimate(found.value, 0.0, size, H.matvecs)
    return found if squared else root(found)


def _add(
    products: Tensor,
    own: Tensor,
    blocks: list[int],
    probe: list[int],
    inside: np.ndarray,
    whole: np.ndarray,
) -> None:
    """Add what products with vectors of single blocks give to the sums of their probes."""
    squares = products.square()
    for row, b, i in zip(squares, blocks, probe, strict=True):
        inside[i] += float(row[own == b].sum())
        whole[i] += float(row.sum())


def layer_of_each(space: ParameterSpace) -> tuple[np.ndarray, tuple[str, ...]]:
    """The number of the layer that each element of a flat vector belongs to, and their names.

    >>> space = ParameterSpace.of(torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Linear(2, 1)))
    >>> layer_of_each(space)
    (array([0, 0, 1, 1, 1]), ('0', '1'))
    """
    modules = [name.rpartition(".")[0] for name in space.names]
    names = tuple(dict.fromkeys(modules))
    numbers = [names.index(module) for module in modules]
    return np.repeat(numbers, space.sizes), names
