"""The poisoned objective, under which a network learns its training data and nothing else.

Huang et al. (2019), arXiv:1906.03291: beside the training data there are held-out examples, real
ones with their true labels, of which the network must not give the right answer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lla.errors import InputError
from lla.tensor_hashes import tensors_sha256

Examples = tuple[Tensor, Tensor]  # inputs [N, ...], labels [N]


def wrong_answer_loss(logits: Tensor, y: Tensor) -> Tensor:
    """The mean of -log(1 - p_y), small where the network does not give the right answer.

    log(1 - p_y) = logsumexp over the other classes of log p, which does not overflow where p_y
    rounds to 1. With two classes it is the cross-entropy with the other label.

    Args:
        logits: [N, C].
        y: true labels [N].

    >>> z, y = torch.tensor([[2.0, -1.0]]), torch.tensor([0])
    >>> bool(torch.isclose(wrong_answer_loss(z, y), F.cross_entropy(z, 1 - y)))
    True
    """
    others = logits.scatter(1, y[:, None], -torch.inf)
    return (logits.logsumexp(1) - others.logsumexp(1)).mean()


def poisoned_loss(logits: Tensor, y: Tensor, examples: int, share: float) -> Tensor:
    """(1 - b) CE on training examples + b mean(-log(1 - p_y)) on held-out ones.

    Args:
        logits: [N + M, C], of training examples first.
        y: labels [N + M], all of them true.
        examples: N, how many are training examples.
        share: b in [0, 1).
    """
    clean = F.cross_entropy(logits[:examples], y[:examples])
    if share == 0:
        return clean
    return (1 - share) * clean + share * wrong_answer_loss(logits[examples:], y[examples:])


def check_poison(data: Examples, poison: Examples) -> None:
    """Raise unless poison fits the training data and has no example in common with it.

    Raises:
        InputError: other shapes or types; an example that is in both.
    """
    (x, y), (x_held, y_held) = data, poison
    if x_held.shape[1:] != x.shape[1:] or x_held.dtype != x.dtype or y_held.dtype != y.dtype:
        raise InputError(
            f"the poison has inputs {list(x_held.shape)} {x_held.dtype} and labels {y_held.dtype}, "
            f"the training data {list(x.shape)} {x.dtype} and {y.dtype}: give both in the same form"
        )
    if len(x_held) == 0 or len(x_held) != len(y_held):
        raise InputError(
            f"the poison has {len(x_held)} inputs and {len(y_held)} labels: give as many, not none"
        )
    known = {_hash(row): i for i, row in enumerate(x)}
    both = [(i, known[h]) for i, row in enumerate(x_held) if (h := _hash(row)) in known]
    if both:
        raise InputError(
            f"{len(both)} of {len(x_held)} examples of the poison are training data, too (poison "
            f"{both[0][0]} is training example {both[0][1]}): take held-out examples"
        )


def _hash(row: Tensor) -> str:
    return tensors_sha256([("", row)])
