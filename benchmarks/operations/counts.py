"""The kind of an ATen operation, its floating-point operations, and the bytes that it must move.

FLOPs are counted for convolutions and products of matrices; all other operations move data, and on
every machine that takes longer than their arithmetic. `torch.utils.flop_counter` counts the same,
except that it takes the weight gradient of a convolution in groups for one without groups.

Bytes are those of each tensor read and of each tensor written, once, as if nothing stayed in a
cache from one operation to the next. Views move nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

FORWARD, OF_INPUTS, OF_WEIGHTS, MATRICES, POINTWISE, NORMS, POOLING, COPIES, OTHERS = KINDS = (
    "convolutions forward",
    "convolutions backward, inputs",
    "convolutions backward, weights",
    "matrix products",
    "pointwise",
    "normalisation and reductions",
    "pooling",
    "copies and layout",
    "everything else",
)

# By the name of the operation. The derivative of a max-pooling gathers the values that it selected.
_NAMES = {
    MATRICES: r"mm|addmm|bmm|baddbmm|mv|addmv|dot",
    NORMS: r"\w*(norm|softmax)\w*|sum|mean|var|var_mean|std|logsumexp|a?max|a?min|cumsum",
    POOLING: r"\w*pool\w*|gather",
    # torch's tags call a clone pointwise
    POINTWISE: r"\w*(hard|relu|elu|sigmoid|softplus)\w*_backward",  # some lack the tag
    COPIES: r"clone|copy_?|_to_copy|cat|stack|constant_pad_nd|(select|slice)_(backward|scatter)",
}
_PICKING = {"gather", "index", "index_select", "embedding"}  # they read what they return


def kind(func: Any, args: Sequence[Any]) -> str:
    """One of `KINDS`.

    Args:
        func: an ATen operation.
        args: what it is called with.

    >>> kind(torch.ops.aten.mul.Tensor, ())
    'pointwise'
    """
    name = _name(func)
    if name == "convolution":
        return FORWARD
    if name == "convolution_backward":
        return OF_WEIGHTS if args[10][1] else OF_INPUTS
    for found, pattern in _NAMES.items():
        if re.fullmatch(pattern, name):
            return found
    if func.is_view or name == "_unsafe_view":
        return COPIES
    return POINTWISE if torch.Tag.pointwise in func.tags else OTHERS


def flops(func: Any, args: Sequence[Any], out: Any) -> int:
    """Floating-point operations of a convolution or a product of matrices; 0 for all others.

    Args:
        func: an ATen operation.
        args: what it is called with.
        out: what it returned.

    >>> a, b = torch.ones(2, 3), torch.ones(3, 5)
    >>> flops(torch.ops.aten.mm.default, (a, b), a @ b) == 2 * 2 * 3 * 5
    True
    """
    name = _name(func)
    if name == "convolution":
        x, weight, transposed = args[0], args[1], args[6]
        return _convolution(x if transposed else out, weight)
    if name == "convolution_backward":
        g, x, weight, transposed, wanted = *args[:3], args[7], args[10]
        return sum(wanted[:2]) * _convolution(x if transposed else g, weight)
    if re.fullmatch(_NAMES[MATRICES], name):
        left = args[1] if "add" in name else args[0]
        return 2 * out.numel() * left.shape[-1]
    return 0


def _convolution(result: Tensor, weight: Tensor) -> int:
    """FLOPs for each value of the result, which one row of the weights gives."""
    return 2 * result.numel() * math.prod(weight.shape[1:])


def moved(func: Any, args: Sequence[Any], out: Any) -> int:
    """Bytes that an operation reads and writes at least.

    Args:
        func: an ATen operation.
        args: what it is called with.
        out: what it returned.

    >>> x = torch.ones(2, 3)
    >>> moved(torch.ops.aten.neg.default, (x,), -x) == (6 + 6) * 4
    True
    """
    name = _name(func)
    if func.is_view or name == "_unsafe_view":
        return 0
    read = list(args)
    if name == "convolution_backward":
        for_inputs, for_weights = args[10][:2]
        read = [args[0], args[1] if for_weights else None, args[2] if for_inputs else None]
    elif name == "max_pool2d_with_indices_backward":
        read[1] = None  # only its shape matters
    elif name == "copy_":
        read[0] = None
    elif name in _PICKING:
        read[0] = out
    return _bytes(read) + _bytes(out)


def _bytes(tensors: Any) -> int:
    """Bytes of the different tensors among some values; a repeated element counts once."""
    found = {id(x): x for x in pytree.tree_leaves(tensors) if isinstance(x, Tensor)}
    return sum(
        x.itemsize * math.prod(n for n, s in zip(x.shape, x.stride(), strict=True) if s)
        for x in found.values()
    )


def _name(func: Any) -> str:
    return func._schema.name.removeprefix("aten::")
