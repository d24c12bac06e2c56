"""The weights of models, state dicts and files as flat vectors of one length."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lla.errors import InputError, MissingDataError
from lla.model_call import unwrapped
from lla.parameters import ParameterSpace
from lla.problem import Problem
from lla.tensor_files import named_tensors, read_state_dict

File = str | os.PathLike[str]
Weights = Tensor | nn.Module | Mapping[str, Tensor] | File
# the buffers of torch's normalization layers; a state dict does not say what its tensors are
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def flat_weights(
    sources: Tensor | Sequence[Weights], space: ParameterSpace | nn.Module | Problem | None = None
) -> list[Tensor]:
    """Flat vectors [P] from weights of any kind.

    Args:
        sources: flat vectors, models, state dicts or files of these (`torch.save`, safetensors),
            also mixed.
        space: which tensors of state dicts are parameters, and in which order: a model, a problem
            or its space. By default those of the first model among the sources. Without any, the
            floating-point tensors in their order, except the statistics of normalization layers;
            a safetensors file does not keep the order, so it needs a model.

    Raises:
        InputError: something else, state dicts of different models, vectors of different lengths
            or of no floating-point type.
        MissingDataError: there is no such file.
        ChecksumError: a file is damaged.
    """
    if isinstance(space, Problem):
        space = space.space
    elif isinstance(space, nn.Module):
        space = ParameterSpace.of(unwrapped(space))
    vectors: list[Tensor] = []
    for source in sources:
        if isinstance(source, nn.Module) and space is None:
            space = ParameterSpace.of(unwrapped(source))
            break
    for t, source in enumerate(sources):
        where = f"weights {t}"
        if isinstance(source, str | os.PathLike):
            where, source = str(source), state_dict_of(source)
            if space is None and Path(where).suffix == ".safetensors":
                raise InputError(
                    f"{where} does not keep the order of the parameters, as no safetensors file "
                    "does: give the model as well, as the second argument"
                )
        if isinstance(source, nn.Module):
            source = dict(unwrapped(source).named_parameters())
        if isinstance(source, Mapping):
            space = space or _floating(named_tensors(source, where))
            source = _flat(source, space, where)
        if not isinstance(source, Tensor) or source.ndim != 1 or not source.is_floating_point():
            what = tuple(source.shape) if isinstance(source, Tensor) else type(source).__name__
            raise InputError(f"{where} are {what}: give flat vectors, models, state dicts or files")
        length = len(vectors[0]) if vectors else len(source) if space is None else space.size
        if len(source) != length:
            raise InputError(
                f"{where} have {len(source)} elements, not {length}: give those of one model"
            )
        vectors.append(source.detach())
    return vectors


def state_dict_of(file: File) -> dict[str, Tensor]:
    """The state dict in a file.

    Raises:
        MissingDataError: there is no such file.
        ChecksumError, InputError: see `lla.tensor_files.read_state_dict`.
    """
    path = Path(file)
    if not path.is_file():
        raise MissingDataError(f"there is no weight file {path}: put it there, or name another")
    return read_state_dict(path)


def _floating(state: Mapping[str, Tensor]) -> ParameterSpace:
    """The floating-point tensors of a state dict that are no statistics."""
    found = {
        name: tensor
        for name, tensor in state.items()
        if tensor.is_floating_point() and name.rpartition(".")[2] not in _BUFFERS
    }
    if not found:
        raise InputError("the state dict has no floating-point tensor: give that of a model")
    first = next(iter(found.values()))
    shapes = tuple(tensor.shape for tensor in found.values())
    return ParameterSpace(tuple(found), shapes, first.dtype, first.device)


def _flat(source: Mapping[str, Any], space: ParameterSpace, where: str) -> Tensor:
    """The tensors of a space as one vector."""
    try:
        return space.flatten({name: tensor.detach() for name, tensor in source.items()})
    except InputError as error:
        raise InputError(f"{where}: {error}: give weights of one model") from error
    except (AttributeError, RuntimeError) as error:
        raise InputError(
            f"{where} hold something else than tensors on one device: give state dicts"
        ) from error


def check_finite(vector: Tensor, where: str) -> None:
    """Raise unless all weights are finite.

    Raises:
        InputError: some are not.
    """
    if not bool(torch.isfinite(vector).all()):
        raise InputError(f"{where} hold NaN or infinite elements: check where they come from")
