"""Names, shapes and positions of a model's parameters in one flat vector."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from lla.errors import InputError

Pattern = str | re.Pattern[str]


@dataclass(frozen=True)
class ParameterSpace:
    """The trainable parameters of a model, in `named_parameters` order, as one flat vector.

    A tied parameter is there once, under its first name. Frozen parameters
    (`requires_grad == False`) are left out.

    >>> space = ParameterSpace.of(torch.nn.Linear(3, 2))
    >>> space.names, space.size
    (('weight', 'bias'), 8)
    >>> space.select("bias").size
    2
    >>> {name: tuple(t.shape) for name, t in space.unflatten(torch.zeros(8)).items()}
    {'weight': (2, 3), 'bias': (2,)}
    """

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]  # one a name
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, model: nn.Module) -> ParameterSpace:
        """The space of a model's trainable parameters.

        Raises:
            InputError: nothing is trainable, or the parameters differ in type or device, or have
                a type that is too imprecise for Hessian products, or complex.
        """
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not named:
            raise InputError(
                f"{type(model).__name__} has no trainable parameter: "
                "call requires_grad_(True) on those to measure"
            )
        kinds = {(p.dtype, p.device) for _, p in named}
        if len(kinds) > 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise InputError(
                f"the parameters differ in type or device ({found}): bring them together with "
                "model.to(device, dtype)"
            )
        dtype, device = next(iter(kinds))
        if dtype.is_complex:
            raise InputError(
                f"the parameters are {dtype}, and a Hessian is that of real numbers: hold real and "
                "imaginary parts in a real parameter [..., 2] and take torch.view_as_complex of it"
            )
        if dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"the parameters are {dtype}, too imprecise for second derivatives: "
                "convert the model with model.float() or model.double()"
            )
        return cls(
            tuple(name for name, _ in named), tuple(p.shape for _, p in named), dtype, device
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of elements of each parameter."""
        return tuple(shape.numel() for shape in self.shapes)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Index in the flat vector at which each parameter begins."""
        return tuple(accumulate(self.sizes, initial=0))[:-1]

    @property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes)

    def select(self, patterns: Pattern | Iterable[Pattern] | None) -> ParameterSpace:
        """The subspace of the parameters whose names match any of the patterns.

        Args:
            patterns: a glob ("conv*.weight"), a compiled regular expression, a string "re:..."
                that is a regular expression, or several of these; None selects all.

        Raises:
            InputError: a pattern matches no trainable parameter.
        """
        if patterns is None:
            return self
        if isinstance(patterns, (str, re.Pattern)):
            patterns = [patterns]
        patterns = list(patterns)
        if not patterns:
            raise InputError("there is no parameter pattern: give one, or None for all parameters")
        chosen: set[str] = set()
        for pattern in patterns:
            matches = {name for name in self.names if _matches(pattern, name)}
            if not matches:
                text = pattern if isinstance(pattern, str) else pattern.pattern
                raise InputError(
                    f"the parameter pattern {text!r} matches none of the {len(self.names)} "
                    f"trainable parameters: choose among {_listing(self.names)}"
                )
            chosen |= matches
        kept = [i for i, name in enumerate(self.names) if name in chosen]
        names, shapes = (self.names[i] for i in kept), (self.shapes[i] for i in kept)
        return replace(self, names=tuple(names), shapes=tuple(shapes))

    def flatten(self, tensors: Mapping[str, Tensor] | Sequence[Tensor]) -> Tensor:
        """One flat vector [P] from tensors by name, or in order.

        Raises:
            InputError: a tensor is missing or its shape is another parameter's.
        """
        if isinstance(tensors, Mapping):
            missing = [name for name in self.names if name not in tensors]
            if missing:
                raise InputError(f"no tensor for the parameters {_listing(missing)}")
            tensors = [tensors[name] for name in self.names]
        if len(tensors) != len(self.names):
            raise InputError(f"{len(tensors)} tensors for {len(self.names)} parameters")
        for name, shape, tensor in zip(self.names, self.shapes, tensors, strict=True):
            if tensor.shape != shape:
                raise InputError(
                    f"the tensor for {name} has shape {tuple(tensor.shape)}, not {tuple(shape)}"
                )
        return torch.cat([tensor.reshape(-1) for tensor in tensors])

    def unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        """Views of a flat vector [..., P] by name, each [..., *shape]."""
        if flat.shape[-1] != self.size:
            raise InputError(
                f"the vector has {flat.shape[-1]} elements, the parameters have {self.size}"
            )
        lead = flat.shape[:-1]
        parts = flat.split(self.sizes, dim=-1)
        return {
            name: part.reshape(lead + shape)
            for name, shape, part in zip(self.names, self.shapes, parts, strict=True)
        }

    def read(self, model: nn.Module) -> Tensor:
        """A copy [P] of the model's present parameters."""
        parameters = dict(model.named_parameters())
        return self.flatten([parameters[name].detach() for name in self.names])

    def __iter__(self) -> Iterator[tuple[str, torch.Size, slice]]:
        """Name, shape and slice of the flat vector, parameter by parameter."""
        for name, shape, offset in zip(self.names, self.shapes, self.offsets, strict=True):
            yield name, shape, slice(offset, offset + shape.numel())


def _matches(pattern: Pattern, name: str) -> bool:
    if isinstance(pattern, str) and not pattern.startswith("re:"):
        return fnmatch.fnmatchcase(name, pattern)
    expression = pattern.removeprefix("re:") if isinstance(pattern, str) else pattern
    try:
        return re.search(expression, name) is not None
    except re.error as error:
        raise InputError(
            f"the parameter pattern {pattern!r} is not a regular expression ({error}): correct it"
        ) from error


def _listing(names: Sequence[str], most: int = 8) -> str:
    """The first names, and the number of the others."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, ... ({len(names) - most} more)"
