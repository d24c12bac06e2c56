"""Overlap of the spaces that two sets of vectors span, such as the eigenvectors of two Hessians."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lla.errors import InputError

_ORTHONORMAL = 1e-3  # largest inner product of two rows, and distance of a norm from 1


def overlap(U: np.ndarray | Tensor, V: np.ndarray | Tensor) -> np.ndarray:
    """||U_k' V_k||_F^2 / k of the first k vectors of two sets, for k = 1, 2, ...

    It is 1 for equal spaces and 0 for orthogonal ones. Random spaces of P dimensions have k / P on
    average, see `random_overlap`.

    Args:
        U: orthonormal rows [k, P], or [k, F, d] that are flattened.
        V: another set [m, P].

    Returns:
        The overlap of the first 1, 2, ... min(k, m) rows.

    Raises:
        InputError: the vectors differ in length, or are not orthonormal.

    >>> overlap(np.eye(3)[:2], np.eye(3)[1:])
    array([0. , 0.5])
    """
    one, other = _rows("first", U), _rows("second", V)
    if one.shape[1] != other.shape[1]:
        raise InputError(
            f"the vectors have {one.shape[1]} and {other.shape[1]} elements: give two sets of the "
            "same length"
        )
    return curve(one @ other.T)


def curve(products: np.ndarray) -> np.ndarray:
    """The same from the inner products [k, m] of two sets."""
    n = min(products.shape)
    sums = np.square(products[:n, :n]).cumsum(0).cumsum(1)
    found: np.ndarray = sums.diagonal() / np.arange(1, n + 1)
    return found


def random_overlap(k: int, size: int) -> np.ndarray:
    """The mean overlap k' / P of random spaces for k' = 1 ... k [k].

    >>> random_overlap(2, 4)
    array([0.25, 0.5 ])
    """
    return np.arange(1, k + 1) / size


def _rows(which: str, vectors: np.ndarray | Tensor) -> np.ndarray:
    """The vectors in float64 as rows."""
    array = vectors.detach().cpu().numpy() if isinstance(vectors, torch.Tensor) else vectors
    if not isinstance(array, np.ndarray) or array.ndim < 2 or not len(array):
        raise InputError(f"the {which} set is no matrix [k, P] of vectors as rows: give one")
    rows = array.reshape(len(array), -1).astype(np.float64)
    apart = np.abs(rows @ rows.T - np.eye(len(rows))).max()
    if not apart <= _ORTHONORMAL:
        raise InputError(
            f"the rows of the {which} set are not orthonormal (by {apart:.2g}): give an "
            "orthonormal basis, such as eigenvectors"
        )
    return rows
