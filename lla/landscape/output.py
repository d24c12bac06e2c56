"""Scaling a direction by how much it changes the outputs of the layers and of the network."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import jvp
from torch.utils import _pytree as pytree

from lla.batches import Batch
from lla.errors import InputError, out_of_memory
from lla.hessian.products.linearize import load_forward_mode
from lla.landscape.normalization import check_direction, normalize
from lla.model_call import installed
from lla.precision import ROUNDING
from lla.probes import gaussian
from lla.problem import Problem


def layer_changes(problem: Problem, direction: Tensor) -> dict[str, float]:
    """How much the part of a direction for each parameter changes its layer's output.

    The layer of a parameter is the innermost module around it that the model calls. Its relative
    change, to first order, is ||J d|| / ||f||. J is the derivative of its output f with respect to
    this parameter alone, at the input that it has at theta; the norms are over all examples and
    calls.

    Args:
        problem: whose batches and mode.
        direction: [P].

    Returns:
        Relative change by parameter name; infinite if the output is zero and would change.
    """
    check_direction(direction, problem.space)
    parts = problem.space.unflatten(direction)
    squares: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    sizes: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), dtype=torch.float64))
    inside = False  # of a layer that a hook calls

    def watch(path: str, layer: nn.Module, names: Sequence[str]) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            nonlocal inside
            if inside:
                return
            inside, size = True, _square(output)
            for name in names:
                local = name.removeprefix(f"{path}.")
                squares[name] = squares[name] + _change(layer, local, parts[name], args, kwargs)
                sizes[name] = sizes[name] + size
            inside = False

        return hook

    layers: dict[str, list[str]] = {}
    for batch in problem.batches:
        with _called(problem) as network:
            layers = layers or _layers(problem, network, batch)
        with _called(problem) as network:
            for path, names in layers.items():
                layer = network.get_submodule(path)
                layer.register_forward_hook(watch(path, layer, names), with_kwargs=True)
            problem.run(network, batch)
    return {
        name: (squares[name] / sizes[name]).sqrt().item() if squares[name] > 0 else 0.0
        for name in problem.space.names
    }


@contextmanager
def _called(problem: Problem) -> Iterator[nn.Module]:
    """The network, to be called with hooks; they are gone afterwards."""
    with torch.no_grad(), problem.deterministic(), _unfused(), problem.holding() as network:
        yield network


def _change(
    layer: nn.Module, name: str, part: Tensor, args: Any, kwargs: Mapping[str, Any]
) -> Tensor:
    """||J d||^2 of a layer's output with respect to one of its parameters."""
    path, _, last = name.rpartition(".")
    weights = getattr(layer.get_submodule(path), last).detach()

    def output(parameter: Tensor) -> Any:
        # copies: a layer may work in place
        inputs, named = pytree.tree_map_only(Tensor, Tensor.clone, (args, kwargs))
        with installed(layer, {name: parameter}):
            return _floating(layer(*inputs, **named))

    return _square(_derivative(output, weights, part)[1])


def _square(output: Any) -> Tensor:
    """The sum of the squares of all floating elements of an output, in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for tensor in _floating(output):
        total += torch.linalg.vector_norm(tensor.flatten(), dtype=torch.float64).square().cpu()
    return total


def _layers(problem: Problem, network: nn.Module, batch: Batch) -> dict[str, list[str]]:
    """Path of a called module -> the parameters of which it is the layer."""
    called: set[str] = set()

    def note(path: str) -> Any:
        def hook(*_: Any) -> None:
            # inside of torch.func.vmap or grad, a layer's output has no norm that could be read
            if torch._C._functorch.peek_interpreter_stack() is None:
                called.add(path)

        return hook

    for path, module in network.named_modules():
        module.register_forward_hook(note(path))
    problem.run(network, batch)
    found: dict[str, list[str]] = defaultdict(list)
    for name in problem.space.names:
        path = name.rpartition(".")[0]
        while path not in called and path:
            path = path.rpartition(".")[0]
        found[path].append(name)
    return found


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
    change, size = 0.0, 0.0
    for batch in problem.batches:
        function = problem.batch_output(batch, problem.space, state)
        with torch.no_grad(), problem.deterministic(), _unfused():
            output, derivative = _derivative(function, theta, direction)
        change, size = change + _square(derivative).item(), size + _square(output).item()
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
    generators = [torch.default_generator]
    if at.device.type == "cuda":
        generators.append(torch.cuda.default_generators[at.device.index or 0])
    states = [generator.get_state() for generator in generators]

    def draw_again() -> None:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)

    try:
        with torch.enable_grad():  # a detached output, as of calls without, has no tangent either
            found = jvp(function, (at,), (along,))[:2]
            output, derivative = pytree.tree_map_only(Tensor, Tensor.detach, found)
    except Exception as error:  # the network has worked without forward mode: it is what fails
        if out_of_memory(error):
            raise
    else:
        pairs = zip(generators, states, strict=True)
        if all(torch.equal(generator.get_state(), state) for generator, state in pairs):
            return output, derivative
        draw_again()
        with torch.no_grad():
            plain = function(at)
        if _same(_floating(output), _floating(plain), ROUNDING[at.dtype]):
            return output, derivative
    draw_again()
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
                raise _no_derivative(str(error).splitlines()[0]) from error
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
