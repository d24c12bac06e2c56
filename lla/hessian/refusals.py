"""Errors that several functions of this room raise."""

from __future__ import annotations

import torch

from lla.errors import NonFiniteError


def not_finite(dtype: torch.dtype, step: int | None = None) -> NonFiniteError:
    """The error for a product that is NaN or infinite.

    Args:
        dtype: of the product.
        step: of Lanczos.

    >>> print(not_finite(torch.float64, 3))
    the Hessian-vector product of Lanczos step 3 is not finite: check the weights
    """
    which = (
        "a Hessian-vector product"
        if step is None
        else (f"the Hessian-vector product of Lanczos step {step}")
    )
    more = "" if dtype == torch.float64 else ", or compute in float64"
    return NonFiniteError(f"{which} is not finite: check the weights{more}")
