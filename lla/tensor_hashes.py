"""Hashes of tensors and of a network's weights, by their names, shapes, types and bytes."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from lla.files import sha256_of_parts


def weights_sha256(model: nn.Module) -> str:
    """Hash a model's state dict: names, shapes, dtypes and bytes, in its order.

    Args:
        model: Any model; where its tensors lie makes no difference.

    Returns:
        64 hexadecimal digits.
    """
    return tensors_sha256(
        (name, value) for name, value in model.state_dict().items() if isinstance(value, Tensor)
    )


def tensors_sha256(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash named tensors: names, shapes, dtypes and bytes, in the order given.

    Args:
        tensors: Pairs of a name and a tensor.

    Returns:
        64 hexadecimal digits.
    """
    return sha256_of_parts(part for name, tensor in tensors for part in _tensor_parts(name, tensor))


def _tensor_parts(name: str, tensor: Tensor) -> Iterator[str | memoryview]:
    yield f"{name} {list(tensor.shape)} {tensor.dtype}\n"
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    yield flat.view(torch.uint8).numpy().data
