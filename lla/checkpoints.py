"""Checkpoint files: written all at once, read as tensors only, refused if altered."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lla.errors import ChecksumError, InputError
from lla.models.weights import check_architecture, read


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
    digest = hashlib.sha256()
    for name, tensor in tensors:
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, so that at each moment the file is the old one or the new one, complete.

    Args:
        path: The file; its folder is made where needed.
        content: Tensors, numbers, strings and None in nested dicts, lists and tuples.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        torch.save({**content, "sha256": _content_sha256(content)}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # the new name, too, must outlive a power cut
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def read_checkpoint(path: Path, model: nn.Module) -> dict[str, Any]:
    """Read a checkpoint that `write_checkpoint` wrote, for a model. Nothing is loaded into it.

    Args:
        path: An existing file.
        model: The model that its `state_dict` shall fit.

    Returns:
        The content, its tensors on the CPU.

    Raises:
        ChecksumError: The file is truncated or altered.
        InputError: It is no checkpoint of a training, or one of another architecture.
    """
    content = read(path)
    if not isinstance(content, dict) or not {"sha256", "state_dict"} <= set(content):
        raise InputError(f"{path} is no checkpoint of a training: name another file.")
    expected = content.pop("sha256")
    found = _content_sha256(content)
    if found != expected:
        raise ChecksumError(
            f"{path} has the content sha256 {found} where {expected} is expected: it is altered, "
            "so delete it and train again."
        )
    shapes = {name: tensor.shape for name, tensor in content["state_dict"].items()}
    check_architecture(model, shapes, str(path))
    return content


def _content_sha256(content: Any) -> str:
    """Hash nested containers: torch checks the sums inside its zip files only in part."""
    digest = hashlib.sha256()

    def add(name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            digest.update(tensors_sha256([(name, value)]).encode())
        elif isinstance(value, Mapping):
            for key, item in value.items():
                add(f"{name}/{key}", item)
        elif isinstance(value, list | tuple):
            for index, item in enumerate(value):
                add(f"{name}/{index}", item)
        else:
            digest.update(f"{name} {value!r}\n".encode())

    add("", content)
    return digest.hexdigest()
