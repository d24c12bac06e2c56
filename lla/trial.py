"""The first call of a model and its loss: it finds wrong inputs, and how both must be called."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from lla.batches import Batch
from lla.errors import InputError, first_line, out_of_memory
from lla.loss_call import classes_of, logits, own_loss
from lla.model_call import current_tensors
from lla.objective import Objective
from lla.precision import ROUNDING, ShortTypes


def try_call(objective: Objective, tensors: Mapping[str, Tensor], batch: Batch, check: bool) -> Any:
    """Call the model and the loss on one batch, and write what that shows into the findings.

    Args:
        objective: the model and the loss.
        tensors: all parameters and buffers by name, copies of the model's.
        batch: the batch.
        check: whether to look for what would make results wrong, in a second call.

    Returns:
        The model's output; None if the loss takes the model.

    Raises:
        InputError: the model rejects the input, or the loss the targets; the loss is no number;
            with `check`, a loss that differs from call to call, that reads a tensor which
            was taken or computed from the parameters before, or that is computed in half precision.
    """
    found = objective.findings
    with torch.enable_grad(), objective.deterministic(), _outsiders(objective):
        try:
            first = _called(objective, tensors, batch)
        except InputError as error:
            if not any(text in str(error) for text in _DIFFERENTIATES):
                raise
            found.needs_graph = found.by_parameters = found.exchanged = True
            first = _called(objective, tensors, batch)
        if check and first.read and not found.exchanged:
            found.exchanged = True
            first = _called(objective, tensors, batch)
    if check and first.read:
        raise InputError(
            f"the model or the loss reads {first.read[0]} as a tensor that was taken or computed "
            "from it earlier, which cannot be replaced: read it from the model in every call"
        )
    found.writes = found.writes or first.writes
    if found.tried and not check:
        return first.output
    if check and first.short is not None:
        raise InputError(
            f"the model or the loss computes {first.short}, which is too imprecise for second "
            "derivatives: leave out autocast and casts to half precision"
        )
    _undo_writes(objective, tensors)
    with torch.no_grad(), objective.deterministic():
        try:
            second = objective.value(tensors, batch)
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            found.needs_graph = True  # the call with gradients enabled has succeeded
            second = objective.value(tensors, batch)
    found.tried = True
    one, other = first.value.item(), second.item()
    same = abs(other - one) <= ROUNDING[second.dtype] * max(abs(one), 1e-3)
    if check and math.isfinite(one) and not same:
        raise InputError(
            f"the loss of batch 0 is {one:.7g} and then {other:.7g} for the same "
            "weights: the model or the loss draws random numbers from a generator of its own, or "
            "depends on earlier calls, so make it deterministic"
        )
    return first.output


# what autograd.grad says of parameters without gradients, and of those that were exchanged
_DIFFERENTIATES = ("does not require grad", "not have been used in the graph")


@contextmanager
def _outsiders(objective: Objective) -> Iterator[None]:
    """Note modules that are called and are no part of the model or the loss, and restore them."""
    found, loss = objective.findings, objective.findings.call.loss
    if found.tried:
        yield
        return
    known = set(objective.model.modules())
    known |= set(loss.modules()) if isinstance(loss, nn.Module) else set()
    outside: dict[nn.Module, dict[str, Tensor]] = {}

    def note(module: nn.Module, _args: Any) -> None:
        if module not in known:
            known.update(module.modules())
            outside[module] = {n: b.detach().clone() for n, b in module.named_buffers()}

    handle = register_module_forward_pre_hook(note)
    try:
        yield
    finally:
        handle.remove()
        for module, buffers in outside.items():
            for name, buffer in module.named_buffers():
                _restore(buffer.detach(), buffers[name])
    found.outside = tuple(outside)


class _Call(NamedTuple):
    """What one call has given, and what it did."""

    value: Tensor  # the loss
    output: Any
    read: list[str]  # names of the model's own parameters that it read, not what was in their place
    writes: bool  # whether it wrote into a tensor that the model was given
    short: str | None  # an operation in half precision


def _called(objective: Objective, tensors: Mapping[str, Tensor], batch: Batch) -> _Call:
    """Call the model and the loss.

    Raises:
        InputError: the model rejects its input or the loss its targets, or the loss is no number.
    """
    own = {n: p for n, p in objective.model.named_parameters() if p.requires_grad}
    watch, short = _Watch(own, tensors), ShortTypes(least=4)
    with objective.holding(tensors) as model:
        with watch, short:
            value, output = _value_and_output(objective, model, batch)
        if not isinstance(value, Tensor) or value.ndim != 0 or not value.is_floating_point():
            raise InputError(
                f"the loss {objective.findings.call.name} gives {describe(value)}, not one number: "
                "average it over the batch (reduction='mean')"
            )
        # here, since a backward pass may call the model again
        read = _captured(own, value) or watch.read
    return _Call(value, output, read, watch.writes, short.found)


def _value_and_output(objective: Objective, model: nn.Module, batch: Batch) -> tuple[Any, Any]:
    """The loss and the output; an `InputError` where the model or the loss rejects its input."""
    call, x = objective.findings.call, describe(batch.x)
    if call.takes_model:
        with rejections(f"the loss {call.name} rejects the model or batch 0 ({x})"):
            return objective.called(model, batch), None
    with rejections(f"the model rejects the input of batch 0 ({x}, parameters {objective.dtype})"):
        output = objective.whole_output(model, batch)
    _refuse_one_class(call.loss, output, batch.y)
    with rejections(
        f"the loss {call.name} rejects targets ({describe(batch.y)}) for outputs "
        f"({describe(logits(output))})",
        "; cross_entropy, for example, takes int64 class indices below the number of outputs",
    ):
        objective.findings.call = call.takes_logits(output, batch.y)
        return objective.of_output(output, batch), output


def _refuse_one_class(loss: Any, output: Any, y: Any) -> None:
    """Raise if the loss is torch's cross entropy of one class, which is 0 for all weights."""
    cross_entropy = loss in (None, F.cross_entropy) or isinstance(loss, nn.CrossEntropyLoss)
    if not cross_entropy or (loss is None and own_loss(output) is not None):
        return
    if classes_of(output, y) == 1:
        raise InputError(
            f"cross_entropy of one output ({describe(logits(output))}) is 0 whatever the weights: "
            "take loss=torch.nn.functional.binary_cross_entropy_with_logits with targets of the "
            "output's shape and type, or give the model one output a class"
        )


def _captured(own: Mapping[str, Tensor], value: Tensor) -> list[str]:
    """The names of the model's own parameters on which a loss depends."""
    if not value.requires_grad or not own:
        return []
    with torch._C.DisableTorchFunction():  # in which other parameters take the place of these
        parts = torch.autograd.grad(value, [*own.values()], allow_unused=True, retain_graph=True)
    return [name for name, part in zip(own, parts, strict=True) if part is not None]


def _undo_writes(objective: Objective, tensors: Mapping[str, Tensor]) -> None:
    """Undo what the call has written into parameters, and note that it writes."""
    now = current_tensors(objective.model)
    for name, _ in objective.model.named_parameters():
        if _restore(tensors[name].detach(), now[name].to(tensors[name].dtype)):
            objective.findings.writes = True


def _restore(tensor: Tensor, value: Tensor) -> bool:
    """Write a value into a tensor unless it has it; whether it was written."""
    if torch.equal(tensor.nan_to_num(), value.nan_to_num()):
        return False
    tensor.copy_(value)
    return True


class _Watch(TorchDispatchMode):
    """Looks at the operations of a call.

    Args:
        own: the model's own trainable parameters by name.
        tensors: what the model is given in their place, and its buffers.

    Attributes:
        writes: whether one writes into one of the tensors that the model is given, also where
            the values stay the same, as those of a clamp may do.
        read: names of the model's own trainable parameters that one reads, and not what the model
            is given in their place, also where that leaves no graph.
    """

    def __init__(self, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.writes = False
        self.read: list[str] = []
        self._given = {_address(tensor) for tensor in tensors.values()} - {0}
        self._own = {_address(p): name for name, p in own.items() if _address(p)}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self.read:
            read = (self._own.get(_address(leaf)) for leaf in pytree.tree_leaves((args, kwargs)))
            self.read = [name for name in read if name is not None]
        if func._schema.is_mutable:
            named = zip(func._schema.arguments, args, strict=False)
            written = [value for argument, value in named if argument.is_write]
            written += [(kwargs or {}).get("out")]
            self.writes |= any(_address(t) in self._given for t in pytree.tree_leaves(written))
        return out


def _address(value: Any) -> int:
    """The address of a tensor's memory; 0 for anything else, and for the zeros of forward mode."""
    dense = isinstance(value, Tensor) and value.layout == torch.strided
    return value.untyped_storage().data_ptr() if dense and not torch._is_zerotensor(value) else 0


@contextmanager
def rejections(said: str, hint: str = "") -> Iterator[None]:
    """Turn what a model or a loss raises for its arguments into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if out_of_memory(error):
            raise
        reason = first_line(error)
        raise InputError(f"{said}: {reason}{hint}") from error


def describe(value: Any) -> str:
    """Type and shape, for a message."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__
