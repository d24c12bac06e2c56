"""Partial evaluation of a Hessian-vector product: what does not depend on the vector runs once.

`H v` is the forward-mode derivative of the gradient. It is run once while every ATen operation is
observed. The operations that depend on the vector are recorded as a graph, which is linear in `v`,
and are not computed.
The tensors that they read from other operations (activations, weights, the backward signal) are
kept as constants. Every later product runs only the graph. This is the idea of `jax.linearize`
(Bradbury et al. 2018) and of `torch.func.linearize`, with three differences. The function is made
functional first, so that networks that work in place (`out += x`, `ReLU(inplace=True)`) are right
on every call. Random operations run once, so the dropout mask is the one of the seed. And the graph
is simplified while it is recorded: equal operations are merged, and some are replaced by simpler
ones (`lla.hessian.products.rewrites`).
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functionalize, grad_and_value, jvp
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from lla.hessian.products.calls import (
    Structure,
    arguments,
    flat,
    leaves_of,
    stored,
    vanishes,
    written,
)
from lla.hessian.products.replay import Make, Notes, Recipe, Replay
from lla.hessian.products.rewrites import Rewriter, is_zero
from lla.process_wide import filtered_warnings

aten = torch.ops.aten


class LinearizationError(RuntimeError):
    """The function cannot be linearised exactly, so another route is needed."""


def linearize_gradient(
    function: Callable[[Tensor], Tensor],
    theta: Tensor,
    context: Callable[[], AbstractContextManager[None]],
    data: Sequence[Tensor] = (),
) -> LinearMap:
    """Linearise the gradient of a scalar function of a flat vector.

    Args:
        function: theta [P] -> scalar.
        theta: the point [P].
        context: entered around the recorded run; fixes the random numbers that it draws.
        data: tensors that the function reads and that may be replaced later.

    Returns:
        The map v [P] -> H v [P] at `theta`, with its constants as buffers. It is right for every v,
        since the function's control flow cannot depend on v. Its `replay` takes (theta, *data).

    Raises:
        LinearizationError: an operation that depends on the vector has side effects or is random.
            What PyTorch raises for an operation without forward mode is raised as it is.
    """

    def product(v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found: Any = jvp(grad_and_value(function), (theta,), (v,))
        (gradient, value), (image, _) = found
        return image, value, gradient

    load_forward_mode()
    # any vector is possible except zeros, which would look like constants that are zero
    vector = torch.ones_like(theta)
    recorder = _Recorder(vector, (theta, *data))
    with context(), torch.no_grad(), recorder.reads(), recorder:
        result = functionalize(product)(vector)
    return recorder.finish(*result)


@functools.cache
def load_forward_mode() -> None:
    """Let PyTorch load its forward-mode rules, in which it uses its own deprecated functions."""
    with filtered_warnings("ignore", DeprecationWarning):
        jvp(torch.sin, (torch.ones(()),), (torch.ones(()),))


@functools.cache
def warm_up() -> None:
    """Linearise something small, since the first time in a process takes a second or two more."""
    linearize_gradient(lambda t: t.sin().sum(), torch.ones(1, device="cpu"), nullcontext)


class LinearMap(nn.Module):
    """The recorded graph as a function of the vector.

    `fx.GraphModule` does the same, but keeps the code of every graph for as long as the process
    lives, to show it in tracebacks.

    Args:
        graph: one input, one output; it reads its constants as attributes.
        constants: the tensors, by the names that the graph has for them.
        replay: computes them again from other data; None if the recorded run cannot be repeated.
    """

    def __init__(
        self, graph: fx.Graph, constants: dict[str, Tensor], replay: Replay | None = None
    ) -> None:
        super().__init__()
        self.graph = graph
        self.replay = replay
        for name, tensor in constants.items():
            self.register_buffer(name, tensor, persistent=False)
        code = graph.python_code("self")
        self.recorded = hash(code.src)  # equal graphs have equal code
        names = dict(code.globals)
        exec(compile(code.src, "<linearized product>", "exec", dont_inherit=True), names)
        self._product = names.pop("forward")

    def of(self, constants: dict[str, Tensor]) -> LinearMap:
        """The same graph with other constants."""
        other = copy.copy(self)
        other._buffers = dict(constants)
        return other

    def forward(self, vector: Tensor) -> Tensor:
        """The image of a vector [P]."""
        return self._product(self, vector)


class _Recorder(TorchDispatchMode):
    """Observes a run and records the operations that depend on a given tensor.

    Tensors have value numbers (Alpern, Wegman and Zadeck 1988): equal operations on equal numbers
    give equal numbers, so a value that is computed twice is recorded once.
    """

    def __init__(self, vector: Tensor, inputs: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self._fresh = itertools.count()
        self._number = WeakTensorKeyDictionary()
        self._writes: Counter[int] = Counter()  # into each storage
        self._known: dict[Hashable, list[int]] = {}
        self._nodes: dict[int, fx.Node] = {}  # value number -> node, for what depends on the vector
        self._root = nn.Module()
        self._graph = fx.Graph()
        node = self._graph.placeholder("v")
        node.meta = {"shape": vector.shape, "dtype": vector.dtype}
        self._nodes[self._number_of(vector)] = node
        self._constants: dict[int, fx.Node] = {}
        self._versions: list[tuple[Tensor, int]] = []  # of the constants
        self._numbers: dict[str, int] = {}  # name of a constant -> value number
        self._recipes: dict[str, Recipe] = {}  # of constants that are made from others
        self._later: dict[str, Callable[[], Tensor]] = {}  # constants that are made at the end
        self._zeros: set[str] = set()  # constants that vanish
        self._notes = Notes([self._number_of(tensor) for tensor in inputs])
        self._rewritten = Rewriter(self._call, self._made)
        self._uncomputed = _Uncomputed()
        self._held = vector, inputs  # so that no other tensor gets their numbers

    def reads(self) -> TorchFunctionMode:
        """Watches for calls that take values out of tensors without an operation."""
        return _Reads(self._notes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten._efficientzerotensor.default:
            func = aten.zeros.default  # a tensor without memory is unknown below this mode
        leaves, structure = flat(args, kwargs or {})
        numbers = [self._number_of(x) if isinstance(x, Tensor) else None for x in leaves]
        reached = any(number in self._nodes for number in numbers)
        random = torch.Tag.nondeterministic_seeded in func.tags
        if reached and (func._schema.is_mutable or _UNRECORDABLE.intersection(func.tags)):
            raise LinearizationError(
                f"{func} depends on the vector and is random, works in place or reads values"
            )
        # the strides of a view may differ later: copies are left out, and rows are batched
        func = aten.reshape.default if func in _VIEWS else func
        # views are free, and forward mode asks for views
        skipped = reached and not func.is_view
        out = self._uncomputed(func, leaves, structure) if skipped else None
        if out is None:
            out = func(*args, **(kwargs or {}))
        outputs = [x for x in leaves_of(out) if isinstance(x, Tensor)]
        # with the type, because 1 == 1.0 == True
        pairs = zip(leaves, numbers, strict=True)
        parts = [(type(x), repr(x)) if number is None else number for x, number in pairs]
        key = (func, structure, *parts)
        known = None if random or func._schema.is_mutable else self._known.get(key)
        if known is None:
            known = [next(self._fresh) for _ in outputs]
            self._known[key] = known
            if not reached:
                self._notes.add(func, leaves, numbers, structure, known)
            elif outputs:
                self._record(func, leaves, numbers, structure, out, known)
        if func._schema.is_mutable:
            for tensor in written(func, leaves, structure):
                self._writes[_storage(tensor)] += 1
        for tensor, number in zip(outputs, known, strict=True):
            self._number[tensor] = number, self._writes[_storage(tensor)]
        return out

    def finish(self, result: Tensor, value: Tensor, gradient: Tensor) -> LinearMap:
        """The recorded graph, with `result` as what it returns; and what repeats the run."""
        if any(tensor._version != version for tensor, version in self._versions):
            raise LinearizationError("a constant that the product reads is overwritten later")
        number = self._number_of(result)
        if number in self._nodes:
            self._graph.output(self._nodes[number])
        else:  # a linear loss: the product is zero for every vector
            vector = next(iter(self._graph.nodes))
            self._graph.output(self._graph.call_function(aten.zeros_like.default, (vector,)))
        self._graph.eliminate_dead_code()
        used = {node.target for node in self._graph.nodes if node.op == "get_attr"}
        replay = self._replay(used, self._number_of(value), self._number_of(gradient))
        self._forget(used)
        for name in used.intersection(self._later):
            self._root.register_buffer(name, self._later.pop(name)(), persistent=False)
        return LinearMap(self._graph, dict(self._root.named_buffers()), replay)

    def _replay(self, used: set[Any], value: int, gradient: int) -> Replay | None:
        """What makes the used constants again; those that others are made from come with it."""
        recipes, needed = {}, set(used)
        for name, recipe in reversed(self._recipes.items()):
            if name in needed:
                recipes[name] = recipe
                needed.update(recipe[1])
        constants = {name: n for name, n in self._numbers.items() if name in needed}
        if any(self._recipes[name][1] for name in self._zeros.intersection(self._recipes)):
            return None  # made from data: too rare to be worth its check
        zeros = [self._numbers[name] for name in self._zeros.intersection(self._numbers)]
        recipes = dict(reversed(recipes.items()))
        return self._notes.finish(constants, recipes, zeros, value, gradient, used)

    def _forget(self, used: set[Any]) -> None:
        """Free all tensors except the used constants and what later constants are made from."""
        for name in set(self._root._buffers) - used:
            del self._root._buffers[name]
        for node in self._graph.nodes:
            node.meta.pop("value", None)
        self._constants.clear()
        self._versions.clear()
        del self._notes
        self._later = {name: make for name, make in self._later.items() if name in used}
        del self._rewritten  # it holds this recorder

    def _number_of(self, tensor: Tensor) -> int:
        number, count = self._number.get(tensor, (None, None))
        writes = self._writes[_storage(tensor)]
        if number is None or count != writes:
            overwritten, number = number is not None, next(self._fresh)
            if overwritten:  # through another tensor that shares its memory
                self._notes.overwritten(number)
            self._number[tensor] = number, writes
        return number

    def _record(
        self,
        func: Any,
        leaves: list[Any],
        numbers: list[int | None],
        structure: Structure,
        out: Any,
        known: list[int],
    ) -> None:
        """Add one operation to the graph, or find the node that already has its value."""
        images = [
            x if number is None else self._image(x, number)
            for x, number in zip(leaves, numbers, strict=True)
        ]
        args, kwargs = arguments(images, structure)
        node = self._rewritten(func, args, kwargs, out)
        if node is None and isinstance(out, Tensor):
            node = self._graph.call_function(func, args, kwargs)
            node.meta = {"shape": out.shape, "dtype": out.dtype, "zero": is_zero(func, args)}
        if node is not None:
            self._nodes[known[0]] = node
            return
        whole = self._graph.call_function(func, args, kwargs)
        index = itertools.count()
        for position, part in enumerate(out):
            if isinstance(part, Tensor):
                node = self._graph.call_function(_getitem, (whole, position))
                node.meta = {"shape": part.shape, "dtype": part.dtype}
                self._nodes[known[next(index)]] = node

    def _image(self, tensor: Tensor, number: int) -> fx.Node:
        """The node of a tensor: one that was recorded, or a constant."""
        node = self._nodes.get(number) or self._constants.get(number)
        if node is None:
            self._notes.keep(number, tensor)
            node = self._constants[number] = self._constant(tensor)
            self._numbers[str(node.target)] = number
        return node

    def _made(self, make: Make, sources: tuple[fx.Node, ...], later: bool = False) -> fx.Node:
        """A constant that is made from others, at once or after the run."""
        made = functools.partial(make, *(source.meta["value"] for source in sources))
        if later:
            name = self._free_name()
            self._later[name] = made
            node = self._attribute(name, {})
        else:
            node = self._constant(made())
        self._recipes[str(node.target)] = make, tuple(str(source.target) for source in sources)
        return node

    def _constant(self, tensor: Tensor) -> fx.Node:
        self._versions.append((tensor, tensor._version))
        name = self._free_name()
        self._root.register_buffer(name, tensor.detach(), persistent=False)
        zero = tensor.device.type != "meta" and vanishes(tensor)
        if zero:
            self._zeros.add(name)
        meta = {"shape": tensor.shape, "dtype": tensor.dtype, "zero": zero}
        return self._attribute(name, {**meta, "value": tensor.detach()})

    def _free_name(self) -> str:
        return f"constant_{len(self._root._buffers) + len(self._later)}"

    def _attribute(self, name: str, meta: dict[str, Any]) -> fx.Node:
        with self._graph.inserting_before(next(iter(self._graph.nodes)).next):
            node = self._graph.get_attr(name)
        node.meta = meta
        return node

    def _call(
        self, func: Any, args: tuple[Any, ...], shape: Sequence[int], dtype: torch.dtype
    ) -> fx.Node:
        node = self._graph.call_function(func, args)
        node.meta = {"shape": torch.Size(shape), "dtype": dtype}
        return node


def _storage(tensor: Tensor) -> int:
    """A number for the memory of a tensor; one for all that have none of their own."""
    return tensor.untyped_storage()._cdata if tensor.layout is torch.strided else 0


class _Reads(TorchFunctionMode):
    """Notes that a run cannot be repeated if Python code takes the values of a tensor."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _READS:
            self._notes.refuse()
        return func(*args, **(kwargs or {}))


_READS = {
    Tensor.tolist,
    Tensor.numpy,
    Tensor.__array__,
    Tensor.__dlpack__,
}


class _Uncomputed:
    """What operations return, with any values in the tensors.

    What depends on the vector is recorded and not read, so that it need not be computed. Shapes
    come from PyTorch's shape functions ("meta" tensors), once for equal arguments.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, Any] = {}

    def __call__(self, func: Any, leaves: list[Any], structure: Structure) -> Any:
        """What an operation returns; None if its shape is not known."""
        tensors = [x for x in leaves if isinstance(x, Tensor)]
        device = tensors[0].device
        if any(x.device != device or not _is_plain(x) for x in tensors):
            return None
        parts = (stored(x) if isinstance(x, Tensor) else (type(x), repr(x)) for x in leaves)
        key = (func, structure, *parts)
        if key not in self._known:
            self._known[key] = _shapes(func, leaves, structure)
        out = self._known[key]
        if isinstance(out, Tensor):
            return _like(out, device)
        if out is None:
            return None
        return type(out)(None if x is None else _like(x, device) for x in out)


def _shapes(func: Any, leaves: list[Any], structure: Structure) -> Any:
    """What an operation returns, as tensors without memory; None if that says not all."""
    like = [_like(x, "meta") if isinstance(x, Tensor) else x for x in leaves]
    args, kwargs = arguments(like, structure)
    try:
        out = func(*args, **kwargs)
    except (RuntimeError, NotImplementedError, TypeError):  # it has no shape function
        return None
    parts = out if isinstance(out, (list, tuple)) else [out]
    plain = all(x is None or (isinstance(x, Tensor) and _is_plain(x)) for x in parts)
    return out if plain and any(x is not None for x in parts) else None


def _is_plain(tensor: Tensor) -> bool:
    """Whether `stored` says all about how a tensor is stored."""
    return tensor.layout is torch.strided and not (tensor.is_conj() or tensor.is_neg())


def _like(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor that is stored alike, with any values; integers, which may be read, are 0."""
    shape, stride, dtype, offset, size = stored(tensor)
    if not (dtype.is_floating_point or dtype.is_complex):
        return torch.zeros(size, dtype=dtype, device=device).as_strided(shape, stride, offset)
    found = torch.empty_strided(shape, stride, dtype=dtype, device=device)
    if stored(found) == stored(tensor):
        return found
    # forward mode asks for tangents with as large a storage as the value has
    return torch.empty(size, dtype=dtype, device=device).as_strided(shape, stride, offset)


def _getitem(sequence: Any, position: int) -> Any:
    """Take one output of an operation with several outputs."""
    return sequence[position]


_VIEWS = {aten.view.default, aten._unsafe_view.default}
_UNRECORDABLE = {
    torch.Tag.nondeterministic_seeded,
    torch.Tag.data_dependent_output,
    torch.Tag.dynamic_output_shape,
}
