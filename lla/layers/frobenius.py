"""How far an operator is from another one in Frobenius norm."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lla.estimate import Estimate
from lla.hessian.symmetric import SymmetricOperator
from lla.layers.ratios import ratio, root
from lla.probes import rademacher

_ROWS = 16  # vectors that are multiplied at a time
_STREAM = 21


def frobenius_error(
    H: SymmetricOperator,
    K: SymmetricOperator,
    basis: Tensor,
    probes: int = 32,
    seed: int = 0,
) -> Estimate:
    """||H - K||_F / ||H||_F.

    With an orthogonal projection Q, ||A||_F^2 = ||A Q||_F^2 + E ||A (1 - Q) z||^2 for a vector z of
    random signs. The first term is exact, and the second small if Q holds the largest eigenvectors.
    No more unit vectors than the vectors of both terms make all of it exact.

    Args:
        H: symmetric [P, P].
        K: another, on the same device.
        basis: vectors [r, P] that span Q; they need not be orthogonal.
        probes: number of vectors z.
        seed: of the probes.

    Raises:
        InputError: H is zero.
    """
    size, before = H.shape[0], H.matvecs
    if size <= len(basis) + probes:
        unit = torch.eye(size, dtype=H.dtype, device=H.device)
        off, whole = (float(part.sum()) for part in _squares(H, K, unit))
        exact = ratio(np.array([off]), np.array([whole]), 0)
        return root(Estimate(exact.value, 0.0, size, H.matvecs - before))
    Q = torch.linalg.qr(basis.to(H.like).double().T)[0].T  # [r, P]
    off, whole = (float(part.sum()) for part in _squares(H, K, Q))
    found = []
    for start in range(0, probes, _ROWS):
        z = torch.stack([
            rademacher(size, Q, seed, _STREAM, i)
            for i in range(start, min(start + _ROWS, probes))
        ])  # fmt: skip
        found.append(torch.stack(_squares(H, K, z - (z @ Q.T) @ Q)))
    tops, bottoms = torch.cat(found, 1).cpu().numpy()
    return root(ratio(tops + off, bottoms + whole, H.matvecs - before))


def _squares(H: SymmetricOperator, K: SymmetricOperator, rows: Tensor) -> tuple[Tensor, Tensor]:
    """||(H - K) v||^2 and ||H v||^2 of each row v, in float64."""
    tops, bottoms = [], []
    for part in rows.split(_ROWS):
        given = part.to(H.dtype)
        one = H.rows(given).double()
        other = K.rows(given.to(K.dtype)).double()
        tops.append((one - other).square().sum(1))
        bottoms.append(one.square().sum(1))
    return torch.cat(tops), torch.cat(bottoms)
