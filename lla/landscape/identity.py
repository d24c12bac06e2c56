"""A short name of a flat vector, by which results of the same weights or axes are matched."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from lla.batches import raw_bytes


def vector_hash(vector: Tensor) -> str:
    """32 hexadecimal digits of a vector's values in float32, on any device and in either type.

    >>> vector_hash(torch.ones(2)) == vector_hash(torch.ones(2, dtype=torch.float64))
    True
    """
    values = vector.detach().to("cpu", torch.float32) + 0.0  # no negative zeros
    return hashlib.blake2b(raw_bytes(values), digest_size=16).hexdigest()
