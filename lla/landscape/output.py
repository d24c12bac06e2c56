"""Scaling a direction by how much it changes the outputs of the layers and of the network."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.utils import _pytree as pytree

from lla.batches import Batch
from lla.errors import InputError, first_line, out_of_memory
from lla.hessian.products.linearize import load_forward_mode
from lla.landscape.normalization import check_direction, normalize
from lla.landscape.weight_uses import WeightUses
from lla.model_call import in_functional_transform, installed
from lla.precision import ROUNDING
from lla.probes import gaussian
from lla.problem import Problem
from lla.random_states import RandomStates


def layer_changes(problem: Problem, direction: Tensor) -> dict[str, float]:
    """How much the part of a direction for each parameter changes its layer's output.

    The layer of a parameter is the module that holds it, if that is called; else the function that
    is called with it, such as `F.linear`; else the innermost module around it that is called. Its
    relative change, to first order, is ||J d|| / ||f||. J is the derivative of its output f with
    respect to this parameter alone, at the input that it has at theta; the norms are over all
    examples and calls.

    Args:
        problem: whose batches and mode.
        direction: [P].

    Returns:
        Relative change by parameter name; infinite if the output is zero and would change.
    """
    check_direction(direction, problem.space)
    parts = problem.space.unflatten(direction)
    names = problem.space.names
    squares, sizes = (dict.fromkeys(names, torch.zeros((), dtype=torch.float64)) for _ in range(2))
    inside = False  # of a layer that is called once more

    def add(name: str, function: Callable[[Tensor], Any], value: Tensor, output: Any) -> None:
        nonlocal inside
        inside = True
        changed = _derivative(lambda p: _floating(function(p)), value.detach(), parts[name])[1]
        squares[name] = squares[name] + _square(changed)
        sizes[name] = sizes[name] + _square(output)
        inside = False

    def watch(path: str, names: Sequence[str]) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            for name in names if not inside else ():
                local = name.removeprefix(f"{path}.")
                add(name, _of_parameter(module, local, args, kwargs), _held(module, local), output)

        return hook

    def part() -> Tensor:
        modules, functions = _layers(problem)
        for batch in _counted(problem):
            with _called(problem) as network:
                for path, inside_of in modules.items():
                    network.get_submodule(path).register_forward_hook(
                        watch(path, inside_of), with_kwargs=True
                    )
                with WeightUses({name: _held(network, name) for name in functions}, add):
                    problem.run(network, batch)
        return torch.stack([torch.stack([squares[name], sizes[name]]) for name in names])

    changes = problem.ranks.total(part, torch.zeros(len(names), 2, dtype=torch.float64))
    return {
        name: (square / size).sqrt().item() if square > 0 else 0.0
        for name, (square, size) in zip(names, changes, strict=True)
    }


def _counted(problem: Problem) -> Iterable[Batch]:
    """The batches of this process that count: none where it has only one of another's."""
    return () if problem.division.idle else problem.own_batches


@contextmanager
def _called(problem: Problem) -> Iterator[nn.Module]:
    """The network, to be called with hooks; they are gone afterwards."""
    with torch.no_grad(), problem.deterministic(), _unfused(), problem.holding() as network:
        yield network


def _held(module: nn.Module, name: str) -> Tensor:
    """The tensor that a module holds as a parameter."""
    path, _, last = name.rpartition(".")
    found: Tensor = getattr(module.get_submodule(path), last)
    return found


def _of_parameter(
    layer: nn.Module, name: str, args: Any, kwargs: Mapping[str, Any]
) -> Callable[[Tensor], Any]:
    """The call of a layer as a function of one of its parameters."""

    def call(parameter: Tensor) -> Any:
        # copies: a layer may work in place
        inputs, named = pytree.tree_map_only(Tensor, Tensor.clone, (args, kwargs))
        with installed(layer, {name: parameter}):
            return layer(*inputs, **named)

    return call


def _square(output: Any) -> Tensor:
    """The sum of the squares of all floating elements of an output, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for tensor in _floating(output):
        total += torch.linalg.vector_norm(tensor.flatten(), dtype=torch.float64).square().cpu()
    return total


def _layers(problem: Problem) -> tuple[dict[str, list[str]], list[str]]:
    """Which parameters belong to which called module, by its path, and which to functions."""
    called: set[str] = set()
    used: set[str] = set()

    def note(path: str) -> Any:
        def hook(*_: Any) -> None:
            if not in_functional_transform():
                called.add(path)

        return hook

    batch = next(iter(problem.own_batches))
    with _called(problem) as network:
        for path, module in network.named_modules():
            module.register_forward_hook(note(path))
        parameters = {name: _held(network, name) for name in problem.space.names}
        with WeightUses(parameters, lambda name, *_: used.add(name)):
            problem.run(network, batch)
    modules: dict[str, list[str]] = defaultdict(list)
    functions: list[str] = []
    for name in problem.space.names:
        path = name.rpartition(".")[0]
        if path not in called and name in used:
            functions.append(name)
            continue
        while path not in called and path:
            path = path.rpartition(".")[0]
        modules[path].append(name)
    return modules, functions


def output_change(problem: Problem, direction: Tensor) -> float:
    """How much a direction changes the network's output, relative to it and to first order.

    Args:
        problem: whose batches and mode.
        direction: [P].

    Returns:
        ||J d|| / ||f||, where J is the derivative of the output f with respect to all parameters,
        and the norms are over all examples.

    Raises:
        InputError: the output is zero for every example, or an operation of the network has no
            forward-mode derivative.
    """
    check_direction(direction, problem.space)
    theta, state = problem.theta(), problem.state()

    def part() -> Tensor:
        squares = torch.zeros(2, dtype=torch.float64)
        for batch in _counted(problem):
            function = problem.batch_output(batch, problem.space, state)
            held = problem.held(theta, problem.space, state)  # for backward passes
            with torch.no_grad(), problem.deterministic(), _unfused(), held:
                output, derivative = _derivative(function, theta, direction)
            squares += torch.stack([_square(derivative), _square(output)])
        return squares

    change, size = problem.ranks.total(part, torch.zeros(2, dtype=torch.float64)).tolist()
    if size == 0:
        raise InputError(
            "the network gives zero for every example, so there is no relative change: take "
            "normalization='filter'"
        )
    return math.sqrt(change / size)


def normalize_output(problem: Problem, direction: Tensor) -> Tensor:
    """A filter-normalised direction, scaled by how much it changes outputs: "output".

    Filter normalization (Li et al., 2018) sets the length of a direction relative to the weights.
    It does not set how much the network changes along it: a direction that is coherent with the
    inputs of the filters, such as a uniform one or an eigenvector, changes outputs many times more
    than another one, and the changes of the layers multiply with the depth. So the whole
    filter-normalised direction is divided by the larger of two numbers:

    - the root of the sum of the squared changes of the layers' outputs, each parameter on its own
      (`layer_changes`): all layers together then change by 100 percent, for every depth;
    - half of the change of the network's output (`output_change`): at the edge of a plane of
      distance 1 the output then changes by at most its own norm, to first order.

    The second number is the larger one for coherent directions only. Along random directions, the
    effect of small changes of the layers on the output is what distinguishes a sharp minimum from a
    flat one, so it is not normalised away. In a ReLU network a factor can be moved from one layer
    to another. The scaled direction moves with it, so the plane stays the same. Unlike the norms of
    `lla.landscape.normalize`, this scaling depends on the data and on the mode.

    Args:
        problem: whose batches and mode.
        direction: [P].

    Returns:
        A new vector [P]. It is zero for a layer whose output is zero for every example, and zero as
        a whole if it changes no layer's output.

    Raises:
        InputError: as `output_change`; the direction is of another model or not finite.

    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> _ = torch.nn.init.constant_(model.weight, 3.0)
    >>> problem = Problem(model, (torch.eye(2), torch.zeros(2, 1)), torch.nn.functional.mse_loss)
    >>> normalize_output(problem, torch.tensor([0.1, 0.1]))
    tensor([3., 3.])
    """
    scaled = normalize(direction, problem.theta(), problem.space, "filter")
    changes = layer_changes(problem, scaled)
    for name, _, place in problem.space:
        if math.isinf(changes[name]):
            scaled[place] = 0
    layers = math.sqrt(sum(change**2 for change in changes.values() if math.isfinite(change)))
    if layers == 0:
        return torch.zeros_like(scaled)
    return scaled / max(layers, output_change(problem, scaled) / _MOST)


_MOST = 2.0  # relative change of the output for a coefficient of 1; planes end at 1/2


def _derivative(function: Callable[[Tensor], Any], at: Tensor, along: Tensor) -> tuple[Any, Any]:
    """Value at a vector and its derivative along another, J d, in forward mode where possible.

    Forward mode fails for an `autograd.Function` without a rule for it, for derivatives taken
    inside of the network and for some compiled ones, and it may draw another dropout mask than a
    plain call; then it is `_twice_backward`.
    """
    load_forward_mode()
    random = RandomStates(at.device)
    before = random.read()
    try:
        with torch.enable_grad():  # a detached output, as of calls without, has no tangent either
            found = jvp(function, (at,), (along,))[:2]
            output, derivative = pytree.tree_map_only(Tensor, Tensor.detach, found)
    except Exception as error:  # the network has worked without forward mode: it is what fails
        if out_of_memory(error):
            raise
    else:
        if random.are(before):  # nothing was drawn
            return output, derivative
        random.write(before)
        with torch.no_grad():
            plain = function(at)
        if _same(_floating(output), _floating(plain), ROUNDING[at.dtype]):
            return output, derivative
    random.write(before)
    return _twice_backward(function, at, along)


def _same(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(_norm(one - other) <= tolerance * _norm(other) for one, other in pairs)


def _twice_backward(
    function: Callable[[Tensor], Any], at: Tensor, along: Tensor
) -> tuple[Any, list[Tensor]]:
    """The same, the floating outputs only: J d = d/dw (J'w)'d, since J'w is linear in w.

    Raises:
        InputError: an operation has no second derivative, or one that is wrong.
    """
    with torch.enable_grad():
        weights = at.detach().clone().requires_grad_()
        output = function(weights)
        tensors = _floating(output)
        used = [i for i, tensor in enumerate(tensors) if tensor.requires_grad]
        found = [torch.zeros_like(tensor) for tensor in tensors]
        if used:
            outputs = [tensors[i] for i in used]
            # random ones for the check below
            w = [gaussian(t.numel(), t, 0, i).view(t.shape).requires_grad_()
                 for i, t in enumerate(outputs)]  # fmt: skip
            try:
                back, derivatives = _pulled_and_pushed(outputs, weights, w, along)
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                raise _no_derivative(first_line(error)) from error
            # a backward of an operation that leaves autograd would silently add nothing to J d
            pairs = [*zip(w, derivatives, strict=True), (-back, along)]
            left = sum(_product(a, b) for a, b in pairs)
            scale = sum(_norm(a) * _norm(b) for a, b in pairs)
            if abs(left) > ROUNDING[at.dtype] / 10 * scale:
                raise _no_derivative("its backward cannot be differentiated, and does not say so")
            for i, derivative in zip(used, derivatives, strict=True):
                found[i] = derivative.detach()
    return [tensor.detach() for tensor in tensors], found


def _pulled_and_pushed(
    outputs: list[Tensor], weights: Tensor, w: list[Tensor], along: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """J'w, and J d for each of the outputs."""
    (back,) = torch.autograd.grad(outputs, weights, w, create_graph=True, materialize_grads=True)
    if not back.requires_grad:
        return back, [torch.zeros_like(tensor) for tensor in outputs]
    return back, torch.autograd.grad(back, w, along, materialize_grads=True)


def _product(one: Tensor, other: Tensor) -> float:
    return torch.sum(one.detach().double() * other.detach().double()).item()


def _norm(tensor: Tensor) -> float:
    return torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64).item()


def _no_derivative(reason: str) -> InputError:
    return InputError(
        "normalization 'output' needs the derivative of the network's outputs, and an operation "
        f"has none ({reason}): take normalization='filter'"
    )


@contextmanager
def _unfused() -> Iterator[None]:
    """Attention without the kernels fused for inference, which have no forward mode."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _floating(output: Any) -> list[Tensor]:
    """The floating tensors of an output."""
    tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
    return [tensor for tensor in tensors if tensor.is_floating_point()]
