"""Constants of a linearised product computed again, for other data of the same shapes.

While a product is recorded, the operations that do not depend on the vector run, and their results
become constants of the graph. These operations are a function of the parameters, the buffers and
the batch. They are noted here, so that the constants of the next batch take one forward and one
backward pass, and no second recording.

Not every run can be repeated. Where Python code takes values out of a tensor, or numbers into one,
it may decide something by this batch alone, so that nothing is noted. The loss and the gradient are
computed along with the constants, to be compared with those of an ordinary pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lla.hessian.products.calls import (
    Structure,
    arguments,
    leaves_of,
    vanishes,
    written_places,
)

Make = Callable[..., Tensor]  # a constant from other constants
Recipe = tuple[Make, tuple[str, ...]]  # and which


class ReplayError(RuntimeError):
    """The constants of these data are not those of the noted operations."""


@dataclass(frozen=True)
class _Value:
    """An argument that is a tensor, by its number."""

    number: int


@dataclass(frozen=True)
class _Step:
    func: Any
    leaves: tuple[Any, ...]  # a tensor is a _Value
    structure: Structure
    results: tuple[int, ...]  # numbers of the tensors that it returns
    written: tuple[int, ...]  # places of leaves that it writes into
    random: bool

    @property
    def read(self) -> list[int]:
        """The numbers of the tensors that it reads."""
        return [leaf.number for leaf in self.leaves if isinstance(leaf, _Value)]


class Notes:
    """The operations of a recorded run that do not depend on the vector.

    Args:
        inputs: numbers of the tensors that other data replace.
    """

    def __init__(self, inputs: Sequence[int]) -> None:
        self._inputs = tuple(inputs)
        self._steps: list[_Step] = []
        self._literals: dict[int, Tensor] = {}  # neither inputs nor results
        self._known = set(inputs)
        self._unseen: set[int] = set()
        self._repeatable = len(self._known) == len(self._inputs)

    def add(
        self,
        func: Any,
        leaves: Sequence[Any],
        numbers: Sequence[int | None],
        structure: Structure,
        results: Sequence[int],
    ) -> None:
        """Note an operation; a tensor that nothing here has made is the same for all data."""
        places = written_places(func, structure) if func._schema.is_mutable else ()
        # a generator of the model's own is put in place for a call of the model, not for a replay
        drawn = any(isinstance(leaf, torch.Generator) for leaf in leaves)
        if drawn or func in _PLACED or _DECIDING.intersection(func.tags):
            self._repeatable = False
        if not self._repeatable:
            return
        for leaf, number in zip(leaves, numbers, strict=True):
            if number is not None:
                self.keep(number, leaf)
        read = (
            leaf if number is None else _Value(number)
            for leaf, number in zip(leaves, numbers, strict=True)
        )
        random = torch.Tag.nondeterministic_seeded in func.tags
        self._steps.append(_Step(func, tuple(read), structure, tuple(results), places, random))
        self._known.update(results)

    def refuse(self) -> None:
        """Say that the run depends on its data by more than its operations."""
        self._repeatable = False

    def overwritten(self, number: int) -> None:
        """Say that a tensor has this number since an operation wrote into memory that it shares."""
        self._unseen.add(number)

    def keep(self, number: int, tensor: Tensor) -> None:
        """Hold a tensor, unless an operation here makes it."""
        if number in self._unseen:
            self._repeatable = False
        if number not in self._known and self._repeatable:
            self._literals[number] = tensor.detach()
            self._known.add(number)

    def finish(
        self,
        constants: Mapping[str, int],
        recipes: Mapping[str, Recipe],
        zeros: Sequence[int],
        value: int,
        gradient: int,
        used: Collection[str],
    ) -> Replay | None:
        """What repeats the run; None if it cannot be repeated.

        Args:
            constants: numbers of the constants, by name.
            recipes: how others are made from them, in the order in which they are made.
            zeros: numbers of tensors that the graph takes for zeros.
            value: number of the loss.
            gradient: of its gradient.
            used: names of the constants that the graph reads.
        """
        wanted = {*constants.values(), *zeros, value, gradient}
        if not self._repeatable or not wanted <= self._known:
            return None
        needed, steps = set(wanted), []
        for step in reversed(self._steps):
            if step.random or needed.intersection(step.results):
                needed.update(step.read)
                steps.append(step)
        literals = {n: tensor for n, tensor in self._literals.items() if n in needed}
        return Replay(
            self._inputs, tuple(reversed(steps)), literals, dict(constants), dict(recipes),
            tuple(zeros), value, gradient, frozenset(used),
        )  # fmt: skip


@dataclass(frozen=True)
class Replay:
    """A function of the data of a run: the constants of its product, its loss and gradient."""

    inputs: tuple[int, ...]
    steps: tuple[_Step, ...]
    literals: Mapping[int, Tensor]
    constants: Mapping[str, int]
    recipes: Mapping[str, Recipe]
    zeros: tuple[int, ...]
    value: int
    gradient: int
    used: frozenset[str]

    def __call__(
        self, inputs: Sequence[Tensor], context: Callable[[], AbstractContextManager[None]]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Compute everything from other data.

        Args:
            inputs: in the place of those of the recorded run, with the same shapes and strides.
            context: entered around the run; fixes the random numbers that it draws.

        Returns:
            The constants by name, the loss, and its gradient [P].

        Raises:
            ReplayError: a tensor that was zero is not.
        """
        values = dict(self.literals)
        values.update(zip(self.inputs, inputs, strict=True))
        kept = {*self.constants.values(), *self.zeros, self.value, self.gradient}
        last = {number: i for i, step in enumerate(self.steps) for number in step.read}
        with context(), torch.no_grad():
            for i, step in enumerate(self.steps):
                leaves = [values[x.number] if isinstance(x, _Value) else x for x in step.leaves]
                for place in step.written:  # another step may read what was there
                    if isinstance(leaves[place], Tensor):
                        leaves[place] = leaves[place].clone()
                args, kwargs = arguments(leaves, step.structure)
                out = step.func(*args, **kwargs)
                tensors = [x for x in leaves_of(out) if isinstance(x, Tensor)]
                values.update(zip(step.results, tensors, strict=True))
                for number in (*step.read, *step.results):
                    if last.get(number, i) == i and number not in kept:
                        values.pop(number, None)
            if not all(vanishes(values[number]) for number in self.zeros):
                raise ReplayError("a tensor that was zero is not")
            found = {name: values[number].detach() for name, number in self.constants.items()}
            value, gradient = values[self.value], values[self.gradient]
            del values
            for name, (make, sources) in self.recipes.items():
                found[name] = make(*(found[source] for source in sources))
        return {name: found[name] for name in self.used}, value, gradient


def signature(tensors: Sequence[Tensor], batch: Any) -> Hashable | None:
    """What has to be equal for data to replace those of a recorded run; None if nothing may.

    Args:
        tensors: parameters and buffers.
        batch: nested tensors and plain values.
    """
    leaves, structure = pytree.tree_flatten(batch)
    parts: list[Hashable] = []
    places: dict[int, int] = {}  # where a tensor stands first: it may stand in two places
    for leaf in (*tensors, *leaves):
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
            place = places.setdefault(id(leaf), len(parts))
            parts.append((place, leaf.shape, leaf.stride(), leaf.dtype, str(leaf.device)))
        elif leaf is None or isinstance(leaf, (bool, int, float, str)):
            parts.append((type(leaf), repr(leaf)))
        else:
            return None
    return structure, tuple(parts)


# as_strided reads memory by absolute places, which may differ from batch to batch; lift_fresh
# takes numbers that Python code made
_PLACED = {torch.ops.aten.as_strided.default, torch.ops.aten.lift_fresh.default}
_DECIDING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
