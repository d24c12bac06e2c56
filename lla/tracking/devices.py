"""Batches on the device of a model that may have moved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from lla.batches import mapped


def on_device(batches: Any, device: torch.device) -> Any:
    """The same batches with every tensor on a device; what is there already is not copied.

    Args:
        batches: whatever `lla.Problem` takes; anything else is given back as it is.
        device: of the model.

    >>> x, y = on_device([(torch.ones(2, 3), torch.ones(2))], torch.device("meta"))[0]
    >>> x.device, y.shape
    (device(type='meta'), torch.Size([2]))
    """
    loader = isinstance(batches, Iterable) and not isinstance(
        batches, (Sequence, Mapping, Tensor, PackedSequence, Iterator)
    )
    return _Moved(batches, device) if loader else mapped(batches, lambda t: t.to(device))


@dataclass(frozen=True)
class _Moved:
    """The elements of a loader on a device."""

    loader: Any
    device: torch.device

    def __iter__(self) -> Iterator[Any]:
        for element in self.loader:
            yield mapped(element, lambda tensor: tensor.to(self.device))

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        if name in ("generator", "sampler", "batch_sampler"):  # which hold random states
            return getattr(self.loader, name)
        raise AttributeError(name)
