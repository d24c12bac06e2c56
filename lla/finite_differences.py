"""Hessian products from differences of gradients: approximate, for models that allow no other.

`lla.HessianOperator` differentiates twice and is exact but for rounding. Where parameters are
spread over processes by FSDP, PyTorch allows no second derivative. A gradient can be had there,
and two of them give a product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla.arguments import positive_number
from lla.errors import InputError, NonFiniteError
from lla.ranks import present

Parts = Mapping[str, Tensor]  # by parameter name, each of the parameter's shape and placement


@dataclass(frozen=True)
class DifferenceProduct:
    """An approximate Hessian product.

    Attributes:
        product: H v by parameter name, with the shapes and placements of the parameters.
        error: estimate of ||found - H v|| / ||found||.
        step: h.
    """

    product: dict[str, Tensor]
    error: float
    step: float


def product_by_differences(
    model: nn.Module,
    batches: Iterable[tuple[Any, Tensor]],
    v: Parts,
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
    *,
    step: float | None = None,
) -> DifferenceProduct:
    """The product H v of the mean loss in eval mode, from four gradients; an approximation.

    The product is (g(theta + h v) - g(theta - h v)) / 2 h with the gradient g. Its error is
    estimated from the same with 2 h: a third of the difference, if the loss is smooth, plus the
    rounding of the gradients, eps ||g|| / h. In a network with ReLU the error falls with h instead
    of its square, and the estimate is rough.

    Under FSDP (`torch.distributed.fsdp.fully_shard`) all processes call this alike, each with
    batches of its own, as many as the others. The loss is the mean over the examples of all.

    Args:
        model: a module, plain or sharded by `fully_shard`. It is as before afterwards.
        batches: pairs (x, y).
        v: a tensor for each parameter that requires a gradient.
        loss: mean loss of a batch from the model's output and y.
        step: h; the cube root of the type's precision times ||theta|| / ||v|| by default.

    Raises:
        InputError: v has other names or shapes; FSDP of the first kind; processes with different
            numbers of batches, or none; a step that is not positive.
        NonFiniteError: a gradient is not finite.

    Source: central differences of gradients, Pearlmutter (1994), section 2, with their error by
    Richardson (1911).

    >>> model = nn.Linear(2, 3)
    >>> v = {name: p.detach().clone() for name, p in model.named_parameters()}
    >>> found = product_by_differences(model, [(torch.ones(4, 2), torch.arange(4) % 3)], v)
    >>> found.product["bias"].shape, found.error < 0.05
    (torch.Size([3]), True)
    """
    if "FullyShardedDataParallel" in {type(module).__name__ for module in model.modules()}:
        raise InputError(
            "FullyShardedDataParallel hides the parameters: shard the model by "
            "torch.distributed.fsdp.fully_shard instead"
        )
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    _check_vector(v, parameters)
    pairs = [(x, y) for x, y in batches]
    shares = _shares(pairs)
    length = _norm(v)
    if length == 0:
        raise InputError("v is zero: give a direction")
    if step is None:
        eps = torch.finfo(next(iter(parameters.values())).dtype).eps
        step = eps ** (1 / 3) * max(_norm(parameters), eps) / length
    h = positive_number("step", step)

    def gradient(at: float) -> dict[str, Tensor]:
        with torch.no_grad():
            for name, p in parameters.items():
                p.add_(v[name], alpha=at)
        try:
            return _gradient(model, parameters, pairs, shares, loss)
        finally:
            with torch.no_grad():
                for name, p in parameters.items():
                    p.copy_(before[name])

    with _as_before(model, parameters) as before:
        near, size = _difference(gradient, h)
        far, _ = _difference(gradient, 2 * h)
    found = _norm(near)
    eps = torch.finfo(next(iter(near.values())).dtype).eps
    off = _norm({name: far[name] - near[name] for name in near}) / 3 + eps * size / h
    return DifferenceProduct(near, off / found if found else float(off > 0), h)


def _difference(
    gradient: Callable[[float], dict[str, Tensor]], h: float
) -> tuple[dict[str, Tensor], float]:
    """(g(h) - g(-h)) / 2 h, and ||g(h)||."""
    above, below = gradient(h), gradient(-h)
    return {name: (above[name] - below[name]) / (2 * h) for name in above}, _norm(above)


def _gradient(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    pairs: list[tuple[Any, Tensor]],
    shares: list[float],
    loss: Callable[[Any, Tensor], Tensor],
) -> dict[str, Tensor]:
    for p in parameters.values():
        p.grad = None
    for (x, y), share in zip(pairs, shares, strict=True):
        (share * loss(model(x), y)).backward()
    found = {
        name: torch.zeros_like(p) if p.grad is None else p.grad.detach().clone()
        for name, p in parameters.items()
    }
    if not torch.isfinite(torch.tensor(_norm(found))):
        raise NonFiniteError(
            "the gradient is not finite: check the weights, or take a smaller step"
        )
    return found


@contextmanager
def _as_before(
    model: nn.Module, parameters: Mapping[str, nn.Parameter]
) -> Iterator[dict[str, Tensor]]:
    """In eval mode; afterwards modes, weights and gradients are as they were. Gives the weights."""
    modes = {module: module.training for module in model.modules()}
    gradients = {name: p.grad for name, p in parameters.items()}
    weights = {name: p.detach().clone() for name, p in parameters.items()}
    model.eval()
    try:
        yield weights
    finally:
        for module, training in modes.items():
            module.training = training
        for name, p in parameters.items():
            p.grad = gradients[name]


def _check_vector(v: Parts, parameters: Mapping[str, Tensor]) -> None:
    if v.keys() != parameters.keys():
        other = next(iter(v.keys() ^ parameters.keys()))
        raise InputError(
            f"v and the parameters differ in {other!r}: give a tensor for each parameter that "
            "requires a gradient"
        )
    for name, p in parameters.items():
        if v[name].shape != p.shape:
            raise InputError(
                f"v[{name!r}] has the shape {tuple(v[name].shape)}, and the parameter "
                f"{tuple(p.shape)}: give tensors of the parameters' shapes"
            )


def _shares(pairs: list[tuple[Any, Tensor]]) -> list[float]:
    """How much the loss of each batch counts, where processes average their gradients."""
    ranks = present()
    sizes = [len(y) for _, y in pairs]
    counts = ranks.gathered(sizes)
    if not sizes or len({len(each) for each in counts}) > 1:
        numbers = ", ".join(str(len(each)) for each in counts)
        raise InputError(
            f"the numbers of batches are {numbers}: give each process as many as the others, at "
            "least one"
        )
    examples = sum(map(sum, counts))
    return [ranks.count * size / examples for size in sizes]


def _norm(parts: Parts) -> float:
    """The norm over all parts and processes."""
    total = 0.0
    for part in parts.values():
        square = part.detach().double().square().sum()
        total += float(square.full_tensor() if hasattr(square, "full_tensor") else square)
    return total**0.5
