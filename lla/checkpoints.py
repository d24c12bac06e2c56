"""Checkpoint files: written all at once, read as tensors only, refused if altered."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lla.errors import ChecksumError, InputError
from lla.files import atomic_open, sha256_of_parts, writing
from lla.models.weights import check_architecture
from lla.tensor_files import check_tensor, named_tensors, read
from lla.tensor_hashes import tensors_sha256


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint, so that at each moment the file is the old one or the new one, complete.

    Args:
        path: The file; its folder is made where needed.
        content: Tensors, numbers, strings and None in nested dicts, lists and tuples.

    Raises:
        WriteError: The disk is full, the folder is read-only, or similar.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    whole = {**content, "sha256": _content_sha256(content)}
    with atomic_open(path) as file:
        try:
            torch.save(whole, file)
        except RuntimeError as error:  # torch's own, raised over what the disk refused
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


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
        InsufficientMemoryError: It does not fit into memory.
    """
    content = read(path)
    if not isinstance(content, dict) or not {"sha256", "state_dict"} <= set(content):
        raise InputError(f"{path} is no checkpoint of a training: name another file.")
    expected = content.pop("sha256")
    try:
        _check_tensors(content, model, path)
        found = _content_sha256(content)
    except RecursionError as error:
        raise ChecksumError(
            f"{path} holds containers in one another without end: delete it and train again."
        ) from error
    if found != expected:
        raise ChecksumError(
            f"{path} has the content sha256 {found} where {expected} is expected: it is altered, "
            "so delete it and train again."
        )
    return content


def _check_tensors(content: Mapping[str, Any], model: nn.Module, path: Path) -> None:
    """Check that tensors are ordinary ones and fit the model, before they are hashed."""
    state = content["state_dict"]
    if isinstance(state, Mapping):  # a module's extra state need not be tensors
        state = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    state = named_tensors(state, str(path))
    check_architecture(model, {name: tensor.shape for name, tensor in state.items()}, str(path))
    # A few bytes can stand for a tensor of any size, if they are all its values.
    largest = max(1, *(tensor.numel() for tensor in state.values()))
    for name, tensor in _tensors("", content):
        check_tensor(tensor, name, str(path))
        if tensor.numel() > largest:
            raise InputError(
                f"{path} has {tensor.numel()} numbers in {name}, more than any tensor of the "
                "model: delete it and train again."
            )


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of nested containers, with its place in them."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(f"{name}/{key}", item)


def _content_sha256(content: Any) -> str:
    """Hash nested containers: torch checks the sums inside its zip files only in part."""
    return sha256_of_parts(_content_parts("", content))


def _content_parts(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, Tensor):
        yield tensors_sha256([(name, value)])
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _content_parts(f"{name}/{key}", item)
    else:
        yield f"{name} {value!r}\n"
