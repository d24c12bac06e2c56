"""How the losses of batches are put together, so that it is the loss of all examples at once.

A loss L_b of every batch gives the loss of all of them as

    sum_b L_b                               where the loss is a sum over examples,
    sum_b a_b L_b / sum_b a_b               where it is a mean of a_b terms.

The terms need not be the examples: with class weights or ignored targets, torch's cross entropy is
a mean of other things. Torch's own losses are asked; any other loss is compared on parts of a
batch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import _reduction
from torch.overrides import TorchFunctionMode

from lla.batches import Batch, cloned, leaves, rows
from lla.errors import InputError, out_of_memory
from lla.loss_call import classes_of
from lla.precision import ROUNDING
from lla.probes import gaussian, uniform
from lla.process_wide import filtered_warnings
from lla.random_states import RandomStates
from lla.seeding import seeded

Count = Callable[[Tensor], float]
Path = tuple[Any, ...]  # keys and indices into a batch


def _size(batch: Batch) -> float:
    return float(batch.size)


@dataclass(frozen=True)
class Reduction:
    """How the losses of batches are put together.

    Attributes:
        sums: the loss of two batches together is the sum of theirs; `amount` has no meaning then.
        amount: otherwise it is the mean of theirs, weighted by this function of each batch. It may
            be 0, where all targets are ignored; the batch's loss is NaN then and has to be left
            out.
    """

    sums: bool
    amount: Callable[[Batch], float] = _size


def reduction_of(loss: Callable[[Any, Any], Tensor], output: Any, batch: Batch) -> Reduction | None:
    """How a loss is put together from batches; None where it is neither a mean nor a sum.

    First `declared` is asked, which knows torch's own losses. Otherwise the loss is compared, on
    two unequal parts of `output` and the batch's targets, and at two other outputs near by (at
    which the parts' losses differ, as they do not with a last layer of zeros):

        whole = mean of the parts, weighted by their examples     -> the amount is the batch's size
        whole = sum of the parts                                  -> sums
        neither                                                   -> None

    The model is not called and nothing is changed, random states included.

    Where nothing can be compared, the amount is the batch's size: for a batch of one example, an
    output or target without one row an example, or a loss that raises on a part.

    Args:
        loss: (output, y) -> a 0-d tensor.
        output: of the model on the batch; tensors [n, ...], possibly nested.
        batch: the first one; its y and its size n are read.

    >>> y = torch.tensor([0, 1, -100])
    >>> found = reduction_of(F.cross_entropy, torch.zeros(3, 2), Batch(None, y, 3))
    >>> found.sums, found.amount(Batch(None, y, 3))
    (False, 2.0)
    """
    own = declared(lambda _, y: loss(cloned(output), y), batch._replace(x=None))
    return own if own is not None else _compared(loss, output, batch)


def declared(evaluate: Callable[[Any, Any], Tensor], batch: Batch) -> Reduction | None:
    """What torch's own loss says of its reduction, where the value is that of one; else None.

    Any loss of `torch.nn.functional` counts, called directly, by its module, by a partial function
    or within other code, as long as its value is returned as it is. What it divides by is the
    denominator a_b:

        cross_entropy, nll_loss      targets (examples x positions) that are not ignored, or the
                                     sum of weight[target] over them; with class probabilities as
                                     targets, examples x positions
        element-wise losses          elements of the targets
        kl_div with "batchmean", multi_margin, multilabel_margin, ctc_loss        examples
        cosine_embedding, triplet_margin, multilabel_soft_margin                  rows

    It is read from a tensor of the batch, since later batches may have other lengths. If none has
    as many elements (rows, examples) as the mean has terms, or the class indices are not those of
    a tensor of the batch (shifted by one position, for example), this gives None.

    Args:
        evaluate: (x, y) -> the loss, called once with copies of the batch's.
        batch: the first one.

    >>> def loss(x, y):  # of a model that is given its targets
    ...     return F.cross_entropy(x["scores"], x["labels"], ignore_index=0)
    >>> batch = Batch({"scores": torch.zeros(3, 2), "labels": torch.tensor([0, 1, 1])}, None, 3)
    >>> declared(loss, batch).amount(batch)
    2.0
    """
    x, y = cloned((batch.x, batch.y))
    recorder = _Recorder()
    with _undisturbed((x, y)), recorder:
        value = evaluate(x, y)
    call = next((each for each in recorder.calls if each.value is value), None)
    if call is None:
        return None
    arguments = call.arguments
    reduction = arguments["reduction"]
    if arguments.get("size_average") is not None or arguments.get("reduce") is not None:
        reduction = _reduction.legacy_get_string(
            arguments["size_average"], arguments["reduce"], emit_warning=False
        )
    if reduction == "sum":
        return Reduction(sums=True)
    if reduction not in ("mean", "batchmean"):
        return None
    copies = _tensors(batch._replace(x=x, y=y))
    for path, tensor in _tensors(batch).items():
        copy = copies[path]
        used = any(
            isinstance(each, Tensor) and _same_memory(each, copy) for each in arguments.values()
        )
        # the targets come first; of the input only a tensor that the loss was given
        if path[0] == "x" and not used:
            continue
        count = _count(call, tensor, copy, by_example=reduction == "batchmean")
        if count is not None:
            return Reduction(False, _amount(path, count))
    return None


@dataclass(frozen=True)
class _Call:
    """A call of one of torch's losses, its arguments by name, and its value."""

    function: Callable[..., Tensor]
    arguments: dict[str, Any]
    value: Tensor


class _Recorder(TorchFunctionMode):
    """Notes the outermost calls of torch's own losses."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[_Call] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        value = func(*args, **kwargs)
        if func in _LOSSES:
            bound = inspect.signature(func).bind(*args, **kwargs)
            bound.apply_defaults()
            self.calls.append(_Call(func, bound.arguments, value))
        return value


@contextmanager
def _undisturbed(value: Any) -> Iterator[None]:
    """No change of random states, and no warnings: the caller has had them before.

    The states are Python's, NumPy's and torch's, on the CPU and on the device of the value's first
    tensor.
    """
    tensor = next((leaf for leaf in leaves(value) if isinstance(leaf, Tensor)), torch.empty(0))
    with RandomStates(tensor.device).kept(), filtered_warnings("ignore"):
        yield


def _amount(path: Path, count: Count) -> Callable[[Batch], float]:
    """The amount of a batch, from the tensor of it at this place."""

    def amount(batch: Batch) -> float:
        tensors = _tensors(batch)
        if path not in tensors:
            raise InputError(
                f"a batch has no tensor at {'.'.join(map(str, path))}, from which the terms of its "
                "loss are counted: give weights=, one number a batch"
            )
        return float(count(tensors[path]))

    return amount


def _tensors(batch: Batch) -> dict[Path, Tensor]:
    """The tensors of a batch by their places, those of the targets first."""
    return dict([*_places(batch.y, ("y",)), *_places(batch.x, ("x",))])


def _places(value: Any, path: Path) -> Iterator[tuple[Path, Tensor]]:
    """The tensors in nested tuples, lists and mappings, with their keys and indices."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, (Mapping, list, tuple)):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            yield from _places(item, (*path, key))


def _same_memory(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same elements, in any order: views of one memory."""
    return (
        a.numel() == b.numel()
        and a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()
        and a.numel() > 0
    )


def _count(call: _Call, tensor: Tensor, copy: Tensor, by_example: bool) -> Count | None:
    """How to count the terms of a mean from a tensor of the batch; None if it does not tell.

    Args:
        call: of the loss.
        tensor: of the batch.
        copy: what the loss was given for it.
        by_example: the sum is divided by the number of examples.
    """
    arguments = call.arguments
    if by_example:
        return _length if _length(tensor) == _length(arguments["input"]) else None
    if call.function not in _CLASSES:
        terms, count = _LOSSES[call.function]
        return count if terms(arguments) == count(tensor) else None
    target, weight = arguments["target"], arguments["weight"]
    if target.is_floating_point():
        found = tensor.is_floating_point() and _positions(tensor) == _positions(target)
        return _positions if found and tensor.numel() == target.numel() else None
    if tensor.is_floating_point() or tensor.numel() != target.numel():
        return None
    given = _same_memory(target, copy) or torch.equal(target.flatten(), copy.flatten())
    if not given or not torch.equal(copy, tensor):  # the loss may write into its targets
        return None
    ignored = -100 if arguments["ignore_index"] is None else arguments["ignore_index"]
    return lambda y: _weight_of(y[y != ignored], weight)


def _weight_of(classes: Tensor, weight: Tensor | None) -> float:
    """The sum of the weights of class indices, or their number."""
    if weight is None or classes.numel() == 0:
        return classes.numel()
    low, high = int(classes.min()), int(classes.max())
    if low < 0 or high >= len(weight):
        raise InputError(
            f"the targets of a batch go from class {low} to class {high}, and the loss has weights "
            f"of {len(weight)} classes"
        )
    return weight[classes.long()].double().sum().item()


def _positions(probabilities: Tensor) -> int:
    """Examples x positions of class probabilities [n, C, ...] or [C]."""
    return probabilities.numel() // max(1, probabilities.shape[min(1, probabilities.ndim - 1)])


def _elements(tensor: Tensor) -> int:
    return tensor.numel()


def _length(tensor: Tensor) -> int:
    return len(tensor) if tensor.ndim else 1


def _rows(tensor: Tensor) -> int:
    return tensor.numel() // max(1, tensor.shape[-1]) if tensor.ndim else 1


def _together(arguments: dict[str, Any], *names: str) -> torch.Size:
    """The shape of several arguments, broadcast."""
    return torch.broadcast_shapes(*(arguments[name].shape for name in names))


def _all_elements(arguments: dict[str, Any]) -> int:
    names = [name for name in ("input", "input1", "input2", "target") if name in arguments]
    return math.prod(_together(arguments, *names))


def _all_rows(arguments: dict[str, Any]) -> int | None:
    if arguments.get("distance_function") is not None:
        return None
    return math.prod(_together(arguments, "anchor", "positive", "negative")[:-1])


def _cosines(arguments: dict[str, Any]) -> int:
    inputs = _together(arguments, "input1", "input2")[:-1]
    return math.prod(torch.broadcast_shapes(inputs, arguments["target"].shape))


_CLASSES: set[Callable[..., Tensor]] = {F.cross_entropy, F.nll_loss}
if hasattr(F, "linear_cross_entropy"):  # torch 2.13
    _CLASSES.add(F.linear_cross_entropy)

_ELEMENTWISE = (
    F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.gaussian_nll_loss,
    F.hinge_embedding_loss, F.huber_loss, F.kl_div, F.l1_loss, F.margin_ranking_loss, F.mse_loss,
    F.poisson_nll_loss, F.smooth_l1_loss, F.soft_margin_loss,
)  # fmt: skip

# each loss: the terms of its mean, from its arguments, and their count in a tensor of a batch
_LOSSES: dict[Callable[..., Tensor], tuple[Callable[[dict[str, Any]], int | None], Count]] = {
    **dict.fromkeys(_ELEMENTWISE, (_all_elements, _elements)),
    F.multilabel_soft_margin_loss: (lambda a: _rows(a["input"]), _rows),
    F.triplet_margin_loss: (_all_rows, _rows),
    F.triplet_margin_with_distance_loss: (_all_rows, _rows),
    F.cosine_embedding_loss: (_cosines, _length),
    F.multi_margin_loss: (lambda a: a["target"].numel(), _length),
    F.multilabel_margin_loss: (lambda a: len(a["input"]) if a["input"].ndim > 1 else 1, _length),
    F.ctc_loss: (lambda a: _length(torch.as_tensor(a["target_lengths"])), _length),
    **dict.fromkeys(_CLASSES, (lambda a: None, _elements)),  # see `_count`
}  # fmt: skip


def _compared(loss: Callable[[Any, Any], Tensor], output: Any, batch: Batch) -> Reduction | None:
    """The reduction, from the losses of two parts of a batch."""
    n, by_size = batch.size, Reduction(sums=False)
    both = list(leaves((output, batch.y)))
    if n < 2 or not any(True for _ in leaves(output)):
        return by_size
    if not all(isinstance(leaf, Tensor) and leaf.ndim and len(leaf) == n for leaf in both):
        return by_size
    cut = max(1, (n - 1) // 2)
    means = sums = True
    for point in range(3):
        at = _moved(output, cut, point)
        try:
            with _undisturbed(at):
                whole, first, second = (
                    _value(loss, *rows((at, batch.y), *part))
                    for part in ((0, n), (0, cut), (cut, n))
                )
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if out_of_memory(error):
                raise
            if point == 0:  # it cannot take a part
                return by_size
            continue  # the output has left the loss's domain
        if not all(map(math.isfinite, (whole, first, second))):
            if point == 0 and math.isfinite(whole):  # a part without a term is no mean by size
                return None
            continue
        mean = (cut * first + (n - cut) * second) / n
        # the loss of a trained network has the rounding of an untrained one, ln C
        scale = max(abs(whole), abs(first), abs(second), math.log(classes_of(output, batch.y) or 1))
        tolerance = _rounding(both) * scale
        means = means and abs(mean - whole) <= tolerance
        sums = sums and abs(first + second - whole) <= tolerance
    if means:
        return by_size
    return Reduction(sums=True) if sums else None


def _value(loss: Callable[[Any, Any], Tensor], output: Any, y: Any) -> float:
    """The loss at copies, with the same random numbers each time."""
    output, y = cloned((output, y))
    with seeded(next(leaves(output)).device, 0):
        return loss(output, y).item()


def _moved(output: Any, cut: int, point: int) -> Any:
    """The output itself (0), scaled element-wise (1), or with noise (2).

    The first `cut` rows are moved three times as far, so that the losses of the two parts differ.
    Scaling by factors in (0.1, 1] keeps probabilities and their logarithms in their domain. The
    noise is 0.3 of the output's root mean square (1 if that is 0) in the other rows.
    """
    if point == 0:
        return output
    moved = cloned(output)
    for tensor in leaves(moved):
        if tensor.is_floating_point():
            # one pattern for all rows: an output may be large
            draw = uniform if point == 1 else gaussian
            pattern = draw(tensor[0].numel(), tensor, 0, point).reshape(tensor[0].shape)
            each = draw(len(tensor), tensor, 1, point) * 0.3
            each[:cut] *= 3
            each = each.reshape(-1, *[1] * (tensor.ndim - 1))
            if point == 1:
                tensor.mul_(1 - each * pattern)
            else:
                size = tensor.norm() / math.sqrt(tensor.numel())
                tensor.add_(each * pattern * (size if size > 0 else 1))
    return moved


def _rounding(tensors: list[Tensor]) -> float:
    """The largest rounding of the floating types of some tensors."""
    floats = [each.dtype for each in tensors if each.is_floating_point()]
    return max((ROUNDING.get(dtype, 1e-2) for dtype in floats), default=ROUNDING[torch.float32])
