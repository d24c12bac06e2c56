"""Operations of which PyTorch has no derivative, or no second one, said in one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from lla.errors import InputError

# PyTorch names the backward of an operation: "derivative for aten::_ctc_loss_backward is not
# implemented", "the derivative for '_cdist_backward' is not implemented."
_NOT_IMPLEMENTED = re.compile(r"derivative for '?(?:aten::)?_?(\w+?)(_backward)?'? is not impl")

_REENTRANT = "When use_reentrant=True"


@contextmanager
def missing_derivatives_named() -> Iterator[None]:
    """Turn PyTorch's error for a derivative that it does not have into an `InputError`.

    >>> import torch
    >>> x = torch.ones(2, 3, requires_grad=True)
    >>> with missing_derivatives_named():
    ...     (g,) = torch.autograd.grad(torch.cdist(x, x + 1).sum(), x, create_graph=True)
    ...     torch.autograd.grad(g.sum(), x)
    Traceback (most recent call last):
    ...
    lla.errors.InputError: PyTorch has no second derivative of cdist, so there is no Hessian: ...
    """
    try:
        yield
    except RuntimeError as error:
        if _REENTRANT in str(error):
            raise InputError(
                "PyTorch has no second derivatives through reentrant checkpoints: give "
                "torch.utils.checkpoint use_reentrant=False"
            ) from error
        missing = _NOT_IMPLEMENTED.search(str(error))
        if missing is None:
            raise
        raise no_derivative(missing[1], "second " if missing[2] else "") from error


def no_derivative(name: str, order: str = "second ") -> InputError:
    """The error for an operation without a derivative, or without a second one."""
    return InputError(
        f"PyTorch has no {order}derivative of {name}, so there is no Hessian: write the loss or "
        "the layer with operations that have one"
    )
