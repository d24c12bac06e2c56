"""Weights from files: checked, tensors only, and for this architecture."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lla.data.files import check_file
from lla.errors import ChecksumError, InputError, MissingDataError, NonFiniteError
from lla.files import sha256_of_file


def load_weights(
    model: nn.Module,
    path: str | os.PathLike[str],
    sha256: str | None = None,
    key_map: Callable[[str], str] | Mapping[str, str] | None = None,
) -> str:
    """Load the weights of a file into a model, in place.

    The file is a state dict from `torch.save`, or a dict with a state dict under `state_dict` or
    `model`, or a `.safetensors` file. The prefix `module.` of data-parallel training is dropped.
    Only tensors and plain containers are unpickled. Half-precision tensors are converted to the
    model's type. On an error the model does not change.

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
        ChecksumError: It is another file than `sha256` says, or truncated, or holds more than
            tensors and plain containers.
        InputError: It holds no state dict, one of another architecture or number of classes, or
            integers where the model has floating-point numbers.
        NonFiniteError: It holds NaN or infinite weights.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"there is no weight file {path}: put it there, or name another.")
    if sha256 is not None:
        check_file(path, f"sha256:{sha256}")
    state = _state_dict(path, read(path))
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    if isinstance(key_map, Mapping):
        state = {key_map.get(name, name): tensor for name, tensor in state.items()}
    elif key_map is not None:
        state = {key_map(name): tensor for name, tensor in state.items()}
    check_architecture(model, {name: tensor.shape for name, tensor in state.items()}, str(path))
    _check_values(model, state, path)
    # Not strict, but only because of the counters: all other names are checked above.
    model.load_state_dict(state, strict=False)
    return sha256_of_file(path)


def read(path: Path) -> Any:
    """Read a file of `torch.save` or safetensors onto the CPU; tensors and plain containers only.

    Args:
        path: An existing file.

    Returns:
        Its content.

    Raises:
        ChecksumError: The file is truncated or holds other objects.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of zip, pickle, ...: torch does not document which
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ChecksumError(
            f"{path} cannot be read as tensors ({type(error).__name__}: {reason}): it is "
            "truncated, or it holds other objects, which are not loaded; get it again."
        ) from error


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
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
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
    said = [f"{what} {_first(names)}" for what, names in found.items() if names]
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
    """Raise for values that the model's tensors cannot have."""
    for name, tensor in model.state_dict().items():
        if name not in state or not tensor.is_floating_point():
            continue
        if not state[name].is_floating_point():
            raise InputError(
                f"{path} has {state[name].dtype} for {name}, where the model has {tensor.dtype}: "
                "dequantise it first."
            )
        if not bool(state[name].isfinite().all()):
            raise NonFiniteError(
                f"{path} has NaN or infinite values in {name}: take a checkpoint from before that."
            )


def _first(items: list[str], count: int = 3) -> str:
    rest = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(items[:count]) + rest


def _state_dict(path: Path, content: Any) -> dict[str, Tensor]:
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise InputError(f"{path} holds no state dict: give a file of named tensors.")
    return dict(content)
