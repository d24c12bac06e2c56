"""Simplifications of the linear map that `lla.hessian.products.linearize` records.

Each rule looks at an operation that is about to be recorded and may give another node of the same
value. Operations without effect are left out: copies, zeros, a second constant factor. Selections
of a few values are moved before operations on many: a max-pooling selects the same positions for
every vector, so the mask of a ReLU before it, and a first convolution over one channel, are needed
at these positions only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from lla.hessian.products import convolutions

aten = torch.ops.aten

Call = Callable[[Callable[..., Any], tuple[Any, ...], Sequence[int], torch.dtype], fx.Node]
Constant = Callable[..., fx.Node]  # a function of constants, their nodes, whether it is for later


class Rewriter:
    """Finds simpler nodes for the operations of one graph.

    Args:
        call: adds an operation: function, arguments, shape and type of its value.
        constant: adds a constant: a function, the nodes of the constants that it takes, and
            whether it is called after the recorded run, when that run's memory is free. The shape
            of a later one is not known before, so that is for the functions of
            `lla.hessian.products.convolutions` alone.
    """

    def __init__(self, call: Call, constant: Constant) -> None:
        self._call = call
        self._constant = constant
        self._made: dict[Any, fx.Node] = {}  # constants that several operations share

    def __call__(self, func: Any, args: Any, kwargs: Any, out: Any) -> fx.Node | None:
        """A node with the value of an operation, or None.

        Args:
            func: an ATen operation.
            args: its arguments, nodes where they are tensors.
            kwargs: the same by name.
            out: what it returned in the recorded run: a tensor, or several. If several, the node
                has the value of the only one that is not None.
        """
        if isinstance(out, Tensor):
            node = _same_value(func, args, kwargs, out)
            if node is not None:
                return node
        rule = _RULES.get(func)
        return None if rule is None or kwargs else rule(self, args, out)

    def _node(self, func: Any, args: tuple[Any, ...], out: Tensor) -> fx.Node:
        """A new operation with the shape and type of a result."""
        return self._call(func, args, out.shape, out.dtype)

    def _mask_padding(self, args: Any, out: Tensor) -> fx.Node | None:
        """An embedding without the vector's part on the padding row.

        Backward treats that row as a constant. Forward mode does not, and its product would have
        no rows for it, but columns.
        """
        rows, indices, padding = args[0], _value(args[1]), args[2] if len(args) > 2 else -1
        if padding < 0 or indices is None:
            return None
        key = "padding", _identity(indices), indices.shape, padding, out.dtype
        dtype = out.dtype

        def mask(indices: Tensor) -> Tensor:
            return (indices != padding)[..., None].to(dtype)

        other = self._once(key, lambda: self._constant(mask, (args[1],)))
        found = self._node(aten.embedding.default, (rows, args[1]), out)
        return self._node(aten.mul.Tensor, (found, other), out)

    def _fold_factors(self, args: Any, out: Tensor) -> fx.Node | None:
        """(x * a) * b with constants a and b as x * (a b), where that product is small."""
        for inner, outer in (args, args[::-1]):
            b = _value(outer)
            if b is None or not _is_call(inner, aten.mul.Tensor):
                continue
            for x, factor in (inner.args, inner.args[::-1]):
                a = _value(factor)
                if a is None or not isinstance(x, fx.Node) or x.meta["shape"] != out.shape:
                    continue
                if torch.broadcast_shapes(a.shape, b.shape).numel() > max(a.numel(), b.numel()):
                    continue
                factors = x, self._constant(torch.mul, (factor, outer))
                return self._node(aten.mul.Tensor, factors, out)
        return None

    def _select_first(self, args: Any, out: Tensor) -> fx.Node | None:
        """The values that a max-pooling selects from a masked result or from a convolution."""
        flat, dim, index = args[:3]
        chosen = _value(index)
        if chosen is None or dim != -1 or not _is_call(flat, aten.reshape.default):
            return None
        inner, shape = flat.args[0], flat.meta["shape"]
        full = inner.meta["shape"]
        whole = len(full) >= 2 and shape == (*full[:-2], full[-2:].numel())
        if not whole or chosen.shape[:-1] != shape[:-1]:
            return None
        if _is_call(inner, aten.convolution.default):
            return self._convolve_at(inner, index, out)
        if not _is_call(inner, aten.threshold_backward.default):
            return None
        x, mask, level = inner.args
        values = _value(mask)
        if values is None or chosen.numel() > values.numel():
            return None
        unmasked = self._call(aten.reshape.default, (x, tuple(shape)), shape, out.dtype)
        arguments = unmasked, dim, index
        node = self._select_first(arguments, out)
        if node is None:
            node = self._node(aten.gather.default, arguments, out)
        picked = self._picked(mask, index, out.shape)
        return self._node(aten.threshold_backward.default, (node, picked, level), out)

    def _mask_before_unpooling(self, args: Any, out: Tensor) -> fx.Node | None:
        """A mask on the gradient of a max-pooling, applied before the values are put in place."""
        inner, mask, level = args
        values, pooled = _value(mask), _unpooled(inner)
        if values is None or pooled is None:
            return None
        g, index = pooled
        shape = index.meta["value"].shape
        picked = self._picked(mask, index, shape)
        masked = self._call(aten.threshold_backward.default, (g, picked, level), shape, out.dtype)
        return self._node(inner.target, (masked, *inner.args[1:]), out)

    def _unpool(self, args: Any, out: Tensor) -> fx.Node | None:
        """The gradient of a max-pooling without the values of its input, of which it needs none."""
        # in channels_last the input also determines the memory layout of the gradient
        if not out.is_contiguous():
            return None
        key = out.shape, out.dtype, out.device
        shape, dtype, device = key

        def zeros() -> Tensor:
            return torch.zeros((), dtype=dtype, device=device).expand(shape)

        shape_alone = self._once(key, lambda: self._constant(zeros, ()))
        arguments = args[0], shape_alone, *args[2:]
        func = aten.max_pool2d_with_indices_backward.default
        return self._node(func, arguments, out)

    def _sum_before_unpooling(self, args: Any, out: Tensor) -> fx.Node | None:
        """A sum over the gradient of a max-pooling, taken before its values are put in place."""
        inner, dims = args[:2]
        pooled = _unpooled(inner)
        if pooled is None:
            return None
        ndim = len(inner.meta["shape"])
        if not {ndim - 2, ndim - 1} <= {dim % ndim for dim in dims}:
            return None
        return self._node(aten.sum.dim_IntList, (pooled[0], *args[1:]), out)

    def _patches_for_weights(self, args: Any, out: Any) -> fx.Node | None:
        """The weight gradient of a convolution over a constant with one channel."""
        g, image, weight, _, *geometry = args[:10]
        x = _value(image)
        if x is None or list(args[10]) != [False, True, False] or not _of_one_channel(x, geometry):
            return None
        shape = weight.meta["shape"]
        kernel = tuple(shape[2:])
        place = kernel, *geometry[:3]
        pooled = _unpooled(g)
        if pooled is not None:
            picked, index = pooled
            selected = self._selected(image, place, index, g.meta["shape"])
            if selected is not None:
                return self._call(
                    convolutions.selected_weight_gradient,
                    (picked, selected, kernel),
                    shape,
                    x.dtype,
                )

        def cut(x: Tensor) -> Tensor:
            return convolutions.patches_of(x, *place)

        patches = self._constant(cut, (image,), later=True)
        return self._call(convolutions.weight_gradient, (g, patches, kernel), shape, x.dtype)

    def _convolve_at(self, convolution: Any, index: fx.Node, out: Tensor) -> fx.Node | None:
        """A convolution over a constant with one channel, at chosen positions."""
        image, weight, bias, *geometry = convolution.args
        x = _value(image)
        if x is None or not _of_one_channel(x, geometry):
            return None
        place = tuple(weight.meta["shape"][2:]), *geometry[:3]
        selected = self._selected(image, place, index, convolution.meta["shape"])
        if selected is None:
            return None
        return self._node(convolutions.selected_convolution, (weight, bias, selected), out)

    def _selected(
        self, image: fx.Node, place: Any, index: fx.Node, full: torch.Size
    ) -> fx.Node | None:
        """Patches of a batch at chosen positions; None if that takes much more memory than all."""
        x, chosen = image.meta["value"], index.meta["value"]
        if chosen.shape[1:].numel() > _MOST_SELECTED * full[2:].numel():
            return None
        key = _identity(x), x.shape, _identity(chosen), str(place)

        def select(x: Tensor, chosen: Tensor) -> Tensor:
            return convolutions.selected_patches(x, chosen.flatten(2), *place)

        return self._once(key, lambda: self._constant(select, (image, index), later=True))

    def _picked(self, mask: fx.Node, index: fx.Node, shape: Sequence[int]) -> fx.Node:
        """Values of a mask at the positions that a max-pooling selects."""
        values, chosen = mask.meta["value"], index.meta["value"]

        def pick(values: Tensor, chosen: Tensor) -> Tensor:
            flat = values.flatten(-2)
            return flat.gather(-1, chosen.reshape(*flat.shape[:-1], -1)).reshape(shape)

        key = _identity(values), values.shape, _identity(chosen), shape
        return self._once(key, lambda: self._constant(pick, (mask, index)))

    def _once(self, key: Any, make: Callable[[], fx.Node]) -> fx.Node:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


_RULES: dict[Any, Callable[[Rewriter, Any, Any], fx.Node | None]] = {
    aten.embedding.default: Rewriter._mask_padding,
    aten.mul.Tensor: Rewriter._fold_factors,
    aten.gather.default: Rewriter._select_first,
    aten.threshold_backward.default: Rewriter._mask_before_unpooling,
    aten.max_pool2d_with_indices_backward.default: Rewriter._unpool,
    aten.sum.dim_IntList: Rewriter._sum_before_unpooling,
    aten.convolution_backward.default: Rewriter._patches_for_weights,
}


def _identity(constant: Tensor) -> Any:
    """A key that is the same for two constants with the same memory, read in the same order."""
    # addresses are not reused: the graph holds all its constants until it is finished
    if constant.is_contiguous():
        return constant.data_ptr(), constant.numel()
    return constant.data_ptr(), constant.shape, constant.stride()


_MOST_SELECTED = 2  # times the memory of all patches; with more channels oneDNN is faster


def _of_one_channel(x: Tensor, geometry: Sequence[Any]) -> bool:
    """Whether a convolution over a constant is one over a single channel, on a CPU."""
    if x.ndim != 4 or x.shape[1] != 1 or x.device.type != "cpu":
        return False
    transposed, groups = geometry[3], geometry[5]
    return not transposed and groups == 1


def _unpooled(node: Any) -> tuple[Any, fx.Node] | None:
    """The values, and their constant positions, of a gradient of max-pooling."""
    if not _is_call(node, aten.max_pool2d_with_indices_backward.default):
        return None
    positions = node.args[-1]
    return None if _value(positions) is None else (node.args[0], positions)


def _is_call(node: Any, func: Any) -> bool:
    return isinstance(node, fx.Node) and node.target is func


def _value(argument: Any) -> Tensor | None:
    """The tensor behind a constant node."""
    return argument.meta.get("value") if isinstance(argument, fx.Node) else None


def _same_value(func: Any, args: Any, kwargs: Any, out: Tensor) -> fx.Node | None:
    """An argument that the result equals for every vector, or None.

    The graph is functional, so a copy may be replaced by its original.
    """

    def fits(arg: Any) -> bool:
        meta = arg.meta if isinstance(arg, fx.Node) else {}
        return meta.get("shape") == out.shape and meta.get("dtype") == out.dtype

    def vanishes(arg: Any) -> bool:
        return isinstance(arg, fx.Node) and bool(arg.meta.get("zero"))

    if func in _IDENTITIES and fits(args[0]):
        return args[0]
    if func is aten.copy.default and fits(args[1]):
        return args[1]
    if func in (aten.add.Tensor, aten.sub.Tensor) and vanishes(args[1]) and fits(args[0]):
        return args[0]
    # not with a keyword, which is a factor of the second argument
    if func is aten.add.Tensor and not kwargs and vanishes(args[0]) and fits(args[1]):
        return args[1]
    return None


def is_zero(func: Any, args: Any) -> bool:
    """Whether a result is zero for every vector."""
    if func is aten.zeros_like.default:
        return True
    factors = args[:2] if func in _PRODUCTS else args[:1] if func in _KEEP_ZERO else ()
    return any(isinstance(arg, fx.Node) and arg.meta.get("zero") for arg in factors)


_IDENTITIES = {
    aten.clone.default,
    aten._to_copy.default,
    aten.expand.default,
    aten.alias.default,
    aten.detach.default,
    aten.lift_fresh.default,
    aten.reshape.default,
}
_PRODUCTS = {aten.mul.Tensor, aten.mm.default, aten.bmm.default}
_KEEP_ZERO = {aten.reshape.default, aten.expand.default, aten.t.default, aten.neg.default}
