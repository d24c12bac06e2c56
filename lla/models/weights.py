"""Weights from files: checked, tensors only, and for this architecture."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lla.data.files import check_file
from lla.errors import InputError, MissingDataError, NonFiniteError, first_of
from lla.files import sha256_of_file
from lla.tensor_files import read_state_dict


def load_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    sha256: str | None = None,
    key_map: Callable[[str], str] | Mapping[str, str] | None = None,
) -> str:
    """Load the weights of a file into a model, in place.

    The file is a state dict from `torch.save`, or a dict with a state dict under `state_dict` or
    `model`, or a `.safetensors` file. The prefix `module.` of data-parallel training is dropped.
    Only tensors and plain containers are unpickled. Tensors are converted to the model's type,
    which has to hold their values. On an error the model does not change.

    Give `sha256` where you know it. Without it a damaged file is found if it is a zip archive, as
    `torch.save` writes them since version 1.6: the sums of its members are checked. Other files
    have no sums, see `lla.tensor_files.read`. An archive that was written without sums
    (`torch.serialization.set_crc32_options(False)`) needs its `sha256`.

    Args:
        model: The model.
        path: The file.
        sha256: Its hexadecimal digits, all 64 or the first 8 and more; None checks nothing.
        key_map: From names in the file (without the prefix) to names in the model: a function, or
            a mapping of the names that differ.

    Returns:
        The sha256 of the file.

    Raises:
        MissingDataError: There is no such file.
        ChecksumError: It is another file than `sha256` says, or damaged, or holds more than
            tensors and plain containers.
        InputError: It holds no state dict, one of another architecture or number of classes,
            tensors that are sparse, nested, quantized or without values, integers where the model
            has floating-point numbers, or other values that the model's type cannot hold.
        NonFiniteError: It holds weights that are NaN or infinite, or are so in the model's type.
        InsufficientMemoryError: It does not fit into memory.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"there is no weight file {path}: put it there, or name another.")
    if sha256 is not None:
        check_file(path, f"sha256:{sha256}")
    state = _renamed(read_state_dict(path, known=sha256 is not None), key_map, path)
    check_architecture(model, {name: tensor.shape for name, tensor in state.items()}, str(path))
    _check_values(model, state, path)
    # Not strict, but only because of the counters: all other names are checked above.
    model.load_state_dict(state, strict=False)
    return sha256_of_file(path)


def check_architecture(model: nn.Module, shapes: Mapping[str, Any], where: str) -> None:
    """Check that a state dict has the names and shapes of the model.

    BatchNorm's counters (`num_batches_tracked`), which old files lack, may be missing.

    Args:
        model: The model.
        shapes: Name -> shape of the state dict.
        where: Where the state dict is from, for the message.

    Raises:
        InputError: Names or shapes differ; the message has the first few.
    """
    own = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, Tensor)
    }
    missing = [
        name for name in own if name not in shapes and not name.endswith("num_batches_tracked")
    ]
    unexpected = [name for name in shapes if name not in own]
    differing = [
        f"{name} {list(shapes[name])} for {list(shape)}"
        for name, shape in own.items()
        if name in shapes and tuple(shapes[name]) != shape
    ]
    found = {"lacks": missing, "has besides": unexpected, "has shapes": differing}
    said = [f"{what} {first_of(names)}" for what, names in found.items() if names]
    if said:
        raise InputError(
            f"{where} is of another architecture than {type(model).__name__}: "
            f"it {'; it '.join(said)}; {_remedy(own, shapes, missing + unexpected)}."
        )


def _remedy(own: Mapping[str, tuple[int, ...]], shapes: Mapping[str, Any], names: list[str]) -> str:
    """What to do about another architecture, or about another number of classes, as text."""
    pairs = {
        (tuple(shapes[name])[:1], shape[:1])
        for name, shape in own.items()
        if not names and name in shapes and tuple(shapes[name]) != shape
    }
    if len(pairs) == 1:
        ((theirs, mine),) = pairs
        if theirs and mine and theirs != mine:
            return (
                f"it seems to be for {theirs[0]} classes, not {mine[0]}: build the model with "
                f"num_classes={theirs[0]}"
            )
    return "build the model that it is of, or give a key_map"


def _check_values(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Check that the model's tensors can hold the values."""
    for name, own in model.state_dict().items():
        if name not in state or not isinstance(own, Tensor):
            continue
        if own.is_meta:
            raise InputError(
                f"the model has no memory for {name} (device meta): call its to_empty() first."
            )
        converted = _converted(state[name], own.dtype, f"{path} has {state[name].dtype} for {name}")
        if own.is_floating_point() or own.is_complex():
            _check_finite(state[name], converted, path, name)
        elif not torch.equal(converted.to(state[name].dtype), state[name]):
            raise InputError(
                f"{path} has values for {name} that {own.dtype} cannot hold: round them first."
            )


def _converted(tensor: Tensor, dtype: torch.dtype, what: str) -> Tensor:
    """A tensor in the model's type; an error if that would leave out or invent a part of it."""
    floating = dtype.is_floating_point or dtype.is_complex
    integers = not (tensor.is_floating_point() or tensor.is_complex())
    if floating and integers:
        raise InputError(f"{what}, where the model has {dtype}: dequantise it first.")
    if tensor.is_complex() and not dtype.is_complex:
        raise InputError(f"{what}, where the model has {dtype}: save real numbers.")
    try:
        return tensor.to(dtype)
    except (RuntimeError, NotImplementedError) as error:  # of packed types, such as float4
        raise InputError(f"{what}, which cannot become {dtype}: convert it first.") from error


def _check_finite(tensor: Tensor, converted: Tensor, path: Path, name: str) -> None:
    """Check that a tensor is finite, and still is in the model's type."""
    if bool(converted.isfinite().all()):
        return
    widest = torch.complex128 if tensor.is_complex() else torch.float64
    if not bool(tensor.to(widest).isfinite().all()):
        raise NonFiniteError(
            f"{path} has NaN or infinite values in {name}: take a checkpoint from before that."
        )
    raise NonFiniteError(
        f"{path} has values in {name} that are infinite in {converted.dtype}: make the model "
        f"{tensor.dtype} first."
    )


def _renamed(
    state: dict[str, Tensor], key_map: Callable[[str], str] | Mapping[str, str] | None, path: Path
) -> dict[str, Tensor]:
    """A state dict under the names that the model has."""
    if key_map is None:
        return state
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        new = key_map.get(name, name) if isinstance(key_map, Mapping) else key_map(name)
        if not isinstance(new, str) or new in renamed:
            raise InputError(
                f"key_map gives {new!r} for {name} of {path}, which is no name or that of another "
                "tensor: give each tensor a name of its own."
            )
        renamed[new] = tensor
    return renamed
