"""Functions of torch that are replaced while a model is called for its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


class Replaced(TorchFunctionMode):
    """Calls formulas of simple operations in place of functions whose derivatives torch has wrong.

    Double backward through `torch._weight_norm` is wrong (an asymmetric Hessian), and
    `hardsigmoid` has none. Third derivatives of layer normalization, and of BatchNorm with the
    statistics of the batch, are wrong too; they occur if a model differentiates itself by its
    input. The formulas have the same values.

    Args:
        normalizations: whether to replace layer normalization and BatchNorm, too.
    """

    def __init__(self, normalizations: bool = False) -> None:
        super().__init__()
        self._formulas: dict[Any, Callable[..., Any]] = {
            torch._weight_norm: weight_norm,
            F.hardsigmoid: hardsigmoid,
        }
        if normalizations:
            self._formulas |= {F.layer_norm: layer_norm, F.batch_norm: batch_norm}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function in the context."""
        return self._formulas.get(func, func)(*args, **(kwargs or {}))


def weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    """The weight g v / ||v|| (Salimans and Kingma 2016, equation 2).

    The norm is over all dimensions but one.

    Args:
        v: direction, of any shape.
        g: length, of a shape that broadcasts with v.
        dim: of `torch.nn.utils.parametrizations.weight_norm`; -1 takes one norm of all elements.

    >>> v, g = torch.tensor([[3.0, 4.0]]), torch.tensor([[10.0]])
    >>> weight_norm(v, g)
    tensor([[6., 8.]])
    """
    # as torch has it, -1 is no axis, and other negative numbers count from the last
    over = [axis for axis in range(v.ndim) if dim == -1 or axis != dim % v.ndim]
    return v * (g / torch.linalg.vector_norm(v, dim=over, keepdim=True))


def hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    """min(max(x + 3, 0), 6) / 6 (Howard et al. 2019, section 5.2).

    >>> hardsigmoid(torch.tensor([-4.0, 0.0, 4.0]))
    tensor([0.0000, 0.5000, 1.0000])
    """
    return F.relu6(x + 3) / 6


def layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """What `torch.nn.functional.layer_norm` computes (Ba, Kiros and Hinton 2016, equation 4).

    >>> layer_norm(torch.tensor([[1.0, 3.0]]), [2], eps=0.0)
    tensor([[-1.,  1.]])
    """
    out = _standardized(x, tuple(range(-len(shape), 0)), eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """What `torch.nn.functional.batch_norm` computes (Ioffe and Szegedy 2015, algorithm 1).

    The formula is used only with the statistics of the batch and without stored ones to update;
    otherwise torch's function is called.
    """
    if not training or running_mean is not None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    out = _standardized(x, (0, *range(2, x.ndim)), eps)
    lines = (-1, *[1] * (x.ndim - 2))
    out = out if weight is None else out * weight.view(lines)
    return out if bias is None else out + bias.view(lines)


def _standardized(x: Tensor, over: tuple[int, ...], eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps), the variance biased."""
    centred = x - x.mean(over, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(over, keepdim=True) + eps)


class Exchanged(TorchFunctionMode):
    """Calls functions with other tensors in place of some: those that a closure has captured.

    Args:
        tensors: pairs of a tensor and what to take in its place.
    """

    def __init__(self, tensors: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self._given = [tensor for tensor, _ in tensors]  # held, so that no other gets its id
        self._others = {id(tensor): other for tensor, other in tensors}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function in the context."""
        args, kwargs = pytree.tree_map_only(
            Tensor, lambda tensor: self._others.get(id(tensor), tensor), (tuple(args), kwargs or {})
        )
        return func(*args, **kwargs)
