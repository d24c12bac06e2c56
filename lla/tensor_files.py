"""Files of tensors: read without running any code, with the sums that their format has."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from lla.errors import (
    ChecksumError,
    InputError,
    InsufficientMemoryError,
    in_one_line,
    out_of_memory,
)

_ZIP = b"PK\x03\x04"  # the first bytes of an archive; torch's older format has others


def read(path: Path, known: bool = False) -> Any:
    """Read a file of `torch.save` or safetensors onto the CPU; tensors and plain containers only.

    `torch.save` writes a zip archive, and the CRC-32 of each of its members is checked, which
    `torch.load` does not do. The format that `torch.save` had before version 1.6, and safetensors,
    have no sums: a changed byte among the values of a tensor cannot be found without a hash of the
    file. Of these files, only the structure is checked: safetensors must describe every byte of
    the file exactly once, with the length that the type and the shape of the tensor ask for.

    Args:
        path: An existing file.
        known: Whether a hash of the whole file has been checked, so that the sums need not be.

    Returns:
        Its content.

    Raises:
        ChecksumError: The file is damaged or truncated, or holds other objects.
        InsufficientMemoryError: It does not fit into memory.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if not known:
            _check_sums(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of zip, pickle, ...: torch does not document which
        if out_of_memory(error):
            raise InsufficientMemoryError(
                f"{path} holds tensors that do not fit into memory: get it again if it should not "
                f"({path.stat().st_size} bytes), or take a larger machine."
            ) from error
        raise ChecksumError(
            f"{path} cannot be read as tensors ({in_one_line(error)}): it is damaged or "
            "truncated, or it holds other objects, which are not loaded; get it again."
        ) from error


def read_state_dict(path: Path, known: bool = False) -> dict[str, Tensor]:
    """Read a state dict, or the one under `state_dict` or `model` of a dict, as training has them.

    The prefix `module.` of data-parallel training is dropped.

    Args:
        path: An existing file; see `read`.
        known: See `read`.

    Returns:
        Name -> tensor, on the CPU.

    Raises:
        ChecksumError, InsufficientMemoryError: See `read`.
        InputError: It holds no state dict, see `named_tensors`.
    """
    content = read(path, known)
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    state = named_tensors(content, str(path))
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def named_tensors(content: Any, where: str) -> dict[str, Tensor]:
    """Check that something that was read is a state dict of ordinary tensors.

    Args:
        content: Anything.
        where: Where it is from, for the message.

    Returns:
        Name -> tensor.

    Raises:
        InputError: It is none, or one of its tensors is sparse, nested, quantized or without
            values.
    """
    if not (
        isinstance(content, Mapping)
        and content
        and all(isinstance(name, str) for name in content)
        and all(isinstance(value, Tensor) for value in content.values())
    ):
        raise InputError(f"{where} holds no state dict: give a file of named tensors.")
    for name, tensor in content.items():
        check_tensor(tensor, name, where)
    return dict(content)


def check_tensor(tensor: Tensor, name: str, where: str) -> None:
    """Check that a tensor is an ordinary one, with one value in memory for each element.

    Args:
        tensor: As it was read.
        name: Its name, for the message.
        where: Where it is from, for the message.

    Raises:
        InputError: It is sparse, nested, quantized or without values.

    Example:
        >>> check_tensor(torch.eye(2).to_sparse(), "weight", "net.pt")
        Traceback (most recent call last):
        lla.errors.InputError: net.pt has a sparse tensor for weight: save a dense tensor ...
    """
    kinds = {
        "uninitialised": is_lazy(tensor),
        "nested": tensor.is_nested,
        "sparse": tensor.layout is not torch.strided and not tensor.is_nested,
        "quantized": tensor.is_quantized,
        "meta": tensor.is_meta,
    }
    kind = next((kind for kind, found in kinds.items() if found), None)
    if kind is not None:
        raise InputError(
            f"{where} has a {kind} tensor for {name}: save a dense tensor with its values instead."
        )


def _check_sums(path: Path) -> None:
    """Check the CRC-32 of every member, if the file is an archive.

    Raises:
        zipfile.BadZipFile: One is wrong, or the archive is damaged.
    """
    with path.open("rb") as stream:
        if stream.read(len(_ZIP)) != _ZIP:
            return
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():  # `testzip` takes one of two with the same name
                with archive.open(info) as member:
                    while member.read(2**20):
                        pass
