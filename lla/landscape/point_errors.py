"""What an operation raises for the weights of one point, which is then not finite."""

from __future__ import annotations

import torch

from lla.errors import InputError

# not RuntimeError: it also stands for wrong shapes, wrong devices and too little memory
POINT_ERRORS: tuple[type[Exception], ...] = (torch.linalg.LinAlgError, ValueError, ArithmeticError)


def of_one_point(error: BaseException | None) -> bool:
    """Whether an error is about values at one point, such as a matrix without Cholesky factor.

    An `InputError` is about an argument, unless it tells what an operation has raised.

    >>> of_one_point(ValueError("scale must be positive")), of_one_point(InputError("no batch"))
    (True, False)
    """
    if isinstance(error, InputError):
        return of_one_point(error.__cause__)
    return isinstance(error, POINT_ERRORS)
