"""Hessian products from differences of gradients: approximate, where no exact one is available.

`lla.HessianOperator` differentiates twice and is exact but for rounding. Where parameters are
spread over processes by FSDP, PyTorch allows no second derivative. A gradient can be had there,
and two of them give a product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lla.arguments import positive_number
from lla.batches import Batch, Batches
from lla.errors import InputError, NonFiniteError
from lla.model_call import hides_parameters
from lla.ranks import present
from lla.reduction import reduction_of

Parts = Mapping[str, Tensor]  # by parameter name, each of the parameter's shape and placement
Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class DifferenceProduct:
    """An approximate Hessian product.

    Attributes:
        product: H v by parameter name, with the shapes and placements of the parameters.
        error: estimate of ||found - H v|| / ||found||; infinite where none can be had.
        step: h.
    """

    product: dict[str, Tensor]
    error: float
    step: float


def product_by_differences(
    model: nn.Module,
    batches: Any,
    v: Parts,
    loss: Loss = F.cross_entropy,
    *,
    step: float | None = None,
) -> DifferenceProduct:
    """The product H v of the loss of all examples in eval mode, from seven gradients; approximate.

    The product is D(h) = (g(theta + h v) - g(theta - h v)) / 2 h with the gradient g. Its error is
    estimated from D(2 h) and D(h / 2): the larger of ||D(2 h) - D(h)|| / 3 and ||D(h) - D(h / 2)||,
    plus the rounding of the gradients, eps ||g|| / h. For a smooth loss the second difference is a
    quarter of the first. Where it is not even half, the step is too large for the loss (or the loss
    has kinks, as with ReLU), and the error is infinite: take a smaller step, in float64 if need be.

    Under FSDP (`torch.distributed.fsdp.fully_shard`, on the whole model) all processes call this
    alike, each with batches of its own, as many as the others.

    Args:
        model: a module, plain or sharded by `fully_shard`. It is as before afterwards.
        batches: a pair (x, y), a list of them, or a loader; the model is called with x.
        v: a tensor for each parameter that requires a gradient, spread as the parameter is.
        loss: of the model's output and y. How batches are put together is found out as in
            `lla.Problem`: a batch counts by the terms that its mean is over.
        step: h; the cube root of the type's precision times max(||theta||, 1) / ||v|| by default.

    Raises:
        InputError: v has other names, shapes or placements, is zero or not finite; FSDP of the
            first kind, or only on a part of the model; processes with different numbers of
            batches; a loss that is neither a mean nor a sum; a step that is not positive.
        NonFiniteError: a gradient is not finite.

    Source: central differences of gradients, Pearlmutter (1994), section 2, with their error by
    Richardson (1911).

    >>> model = nn.Linear(2, 3).double()
    >>> v = {name: p.detach().clone() for name, p in model.named_parameters()}
    >>> x, y = torch.ones(4, 2, dtype=torch.float64), torch.arange(4) % 3
    >>> found = product_by_differences(model, (x, y), v)
    >>> found.product["bias"].shape, found.error < 1e-6
    (torch.Size([3]), True)
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise InputError("no parameter requires a gradient, so there is no Hessian")
    _check_spread(model, parameters)
    _check_vector(v, parameters)
    first = next(iter(parameters.values()))
    eps = torch.finfo(first.dtype).eps
    if step is None:
        step = eps ** (1 / 3) * max(_norm(parameters), 1.0) / _norm(v)
    h = positive_number("step", step)
    given = list(Batches(batches, first.device))
    with _as_before(model, parameters) as restore:
        shares = _shares(model, given, loss)
        restore()  # buffers

        def gradient(at: float) -> dict[str, Tensor]:
            with torch.no_grad():
                for name, p in parameters.items():
                    p.add_(v[name], alpha=at)
            try:
                return _gradient(model, parameters, given, shares, loss)
            finally:
                restore()

        far, near, nearest = (_difference(gradient, k * h) for k in (2, 1, 0.5))
        size = _norm(gradient(0.0))
    found, rounding = _norm(near), eps * size / h
    wide, narrow = _apart(far, near), _apart(near, nearest)
    if narrow > max(wide / 2, 10 * rounding):
        return DifferenceProduct(near, math.inf, h)
    off = max(wide / 3, narrow) + rounding
    return DifferenceProduct(near, off / found if found else float(off > 0), h)


def _difference(gradient: Callable[[float], dict[str, Tensor]], h: float) -> dict[str, Tensor]:
    """(g(h) - g(-h)) / 2 h."""
    above, below = gradient(h), gradient(-h)
    return {name: (above[name] - below[name]) / (2 * h) for name in above}


def _apart(one: Parts, other: Parts) -> float:
    return _norm({name: one[name] - other[name] for name in one})


@torch.enable_grad()
def _gradient(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    batches: list[Batch],
    shares: list[float],
    loss: Loss,
) -> dict[str, Tensor]:
    for p in parameters.values():
        p.grad = None
    for batch, share in zip(batches, shares, strict=True):
        value = loss(model(batch.x), batch.y)
        if value.ndim > 0:
            raise InputError(f"the loss has the shape {tuple(value.shape)}: give a single number")
        (share * value).backward()
    found = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone()
        for name, p in parameters.items()
    }
    if not math.isfinite(_norm(found)):
        raise NonFiniteError(
            "the gradient is not finite: check the weights, or take a smaller step"
        )
    return found


@contextmanager
def _as_before(
    model: nn.Module, parameters: Mapping[str, nn.Parameter]
) -> Iterator[Callable[[], None]]:
    """In eval mode. Gives what restores weights and buffers; at the end all is as it was."""
    modes = {module: module.training for module in model.modules()}
    gradients = {name: p.grad for name, p in parameters.items()}
    held = [*parameters.values(), *model.buffers()]
    values = [tensor.detach().clone() for tensor in held]

    @torch.no_grad()
    def restore() -> None:
        for tensor, value in zip(held, values, strict=True):
            tensor.copy_(value)

    for p in parameters.values():
        p.grad = None
    model.eval()
    try:
        yield restore
    finally:
        restore()
        for module, training in modes.items():
            module.training = training
        for name, p in parameters.items():
            p.grad = gradients[name]


def _check_spread(model: nn.Module, parameters: Parts) -> None:
    """Check that processes average the gradients of all parameters, or that there is only one."""
    if hides_parameters(model):
        raise InputError(
            "FullyShardedDataParallel hides the parameters: shard the model by "
            "torch.distributed.fsdp.fully_shard instead"
        )
    if present().count == 1 or isinstance(model, nn.parallel.DistributedDataParallel):
        return
    for name, p in parameters.items():
        if not _is_spread(p):
            raise InputError(
                f"the parameter {name!r} is not spread over the processes: apply fully_shard to "
                "the whole model, or call within `lla.alone()`"
            )


def _check_vector(v: Parts, parameters: Parts) -> None:
    if not isinstance(v, Mapping):
        raise InputError(f"v is {type(v).__name__}: give a mapping from names to tensors")
    if v.keys() != parameters.keys():
        other = next(iter(v.keys() ^ parameters.keys()))
        raise InputError(
            f"v and the parameters differ in {other!r}: give a tensor for each parameter that "
            "requires a gradient"
        )
    for name, p in parameters.items():
        if v[name].shape != p.shape or _is_spread(v[name]) != _is_spread(p):
            raise InputError(
                f"v[{name!r}] has the shape {tuple(v[name].shape)} and is "
                f"{_placed(v[name])}, the parameter {tuple(p.shape)} and {_placed(p)}: give "
                "tensors like the parameters"
            )
    length = _norm(v)
    if not math.isfinite(length) or length == 0:
        raise InputError("v is zero: give a direction" if length == 0 else "v is not finite")


def _is_spread(tensor: Tensor) -> bool:
    return hasattr(tensor, "device_mesh")


def _placed(tensor: Tensor) -> str:
    return "spread over processes" if _is_spread(tensor) else "plain"


def _shares(model: nn.Module, batches: list[Batch], loss: Loss) -> list[float]:
    """How much the loss of each batch counts, where processes average their gradients."""
    ranks = present()
    with torch.enable_grad():
        output = model(batches[0].x)
        # a whole pass: after a forward pass alone FSDP goes on with the weights of that one
        loss(output, batches[0].y).sum().backward()
    detached = pytree.tree_map_only(Tensor, Tensor.detach, output)
    how = reduction_of(loss, detached, batches[0])
    if how is None:
        raise InputError(
            "the loss is neither a mean nor a sum over examples, so it is not known how batches "
            "are put together: give a single batch to a single process, or another loss"
        )
    amounts = [1.0 if how.sums else how.amount(batch) for batch in batches]
    counts = ranks.gathered(amounts)
    if len({len(each) for each in counts}) > 1:
        numbers = ", ".join(str(len(each)) for each in counts)
        raise InputError(
            f"the numbers of batches are {numbers}: give each process as many as the others"
        )
    total = 1.0 if how.sums else sum(map(sum, counts))
    return [ranks.count * amount / total for amount in amounts]


def _norm(parts: Parts) -> float:
    """The norm over all parts and processes."""
    total = 0.0
    for part in parts.values():
        square = part.detach().double().square().sum()
        total += float(square.full_tensor() if hasattr(square, "full_tensor") else square)
    return math.sqrt(total)
