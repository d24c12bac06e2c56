"""The type of tensors that a model makes from no other, without torch's process-wide setting."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

# the caller asks for float32, not for the default
_ASKED = {Tensor.float, Tensor.type}
# drawn in the default type and converted, so that both types have the same random numbers
_DRAWN = {torch.rand, torch.randn, torch.normal}


class DefaultType(TorchFunctionMode):
    """Gives a type to results that would have torch's default type, in this thread alone.

    These are tensors that are made from numbers or shapes, such as `torch.zeros(3)`, and quotients
    or roots of integers. What has a floating argument or is asked for by type stays as it is.
    `torch.set_default_dtype` would do the same to tensors of other threads.

    Args:
        dtype: the floating type in place of the default.

    >>> with DefaultType(torch.float64):
    ...     torch.zeros(2).dtype, (torch.arange(2) / 3).dtype, torch.zeros(2).float().dtype
    (torch.float64, torch.float64, torch.float32)
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        default = torch.get_default_dtype()
        self._types = {default: dtype, default.to_complex(): dtype.to_complex()}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function in the context."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        dtype = self._types.get(out.dtype) if isinstance(out, Tensor) else None
        if dtype is None or func in _ASKED:
            return out
        given = pytree.tree_leaves((args, kwargs))
        if any(map(_has_type, given)):
            return out
        if func not in _DRAWN:
            with contextlib.suppress(TypeError, RuntimeError):
                # a result computed in the type has more digits than a converted one
                if any(isinstance(leaf, Tensor) for leaf in given):  # whole numbers or flags
                    args, kwargs = pytree.tree_map_only(
                        Tensor, lambda tensor: tensor.to(self._dtype), (args, kwargs)
                    )
                    return func(*args, **kwargs).to(dtype)
                return func(*args, **{**kwargs, "dtype": dtype})
        return out.to(dtype)


def _has_type(value: Any) -> bool:
    """Whether an argument brings a floating type of its own, or names one."""
    if isinstance(value, Tensor):
        return value.is_floating_point() or value.is_complex()
    return isinstance(value, (torch.dtype, np.ndarray, np.generic))
