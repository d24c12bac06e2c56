"""The check of a problem's derivatives before its first Hessian-vector product.

Double backward is wrong, without an error, for some functions, for models whose gradient is not
the derivative of their loss, and for models whose second derivative is not that of their gradient
(a detached tensor, a custom function that stores its derivative). So three things are compared,
once a problem, on a few examples:

- the gradient through the problem with that of the caller's own model by plain backward;
- u' H v with v' H u, for two random vectors;
- H v with a central difference of gradients.

The last two are computed in float64 where possible, where a step can be so small that no kink of a
ReLU lies in between. They are computed a little away from the model's weights: exactly at the
weights of a fresh network the inputs of many ReLUs are zero, where the derivative is a convention.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lla.derivative_checks import Disagreement, Function, disagreement
from lla.errors import InputError, NonFiniteError, first_line, out_of_memory
from lla.free_memory import available_memory
from lla.missing_derivatives import missing_derivatives_named
from lla.model_call import embeddings, installed
from lla.precision import ROUNDING, ShortTypes
from lla.probes import gaussian
from lla.problem import Problem
from lla.process_wide import CALLS

# of the first batch; BatchNorm with the statistics of two examples has no derivative
EXAMPLES = {"eval": 2, "train": 4}
_AWAY = 0.01  # length of the step away from the weights, relative to them
_FURTHER = (0.1, 0.3, 1.0)  # of further steps, where the first finds something
_CLOSER = (0.3, 0.1)  # factors of the weights: smaller outputs, so that the loss is not tiny
_TINY = 1e-6  # products that are smaller than those elsewhere by this factor are rounding
# largest relative difference of two gradients; BatchNorm of a few examples amplifies their rounding
_ROUNDING = {torch.float32: 0.05, torch.float64: 1e-6}
_VECTORS = 12  # vectors [P] in float64 that the check holds


def check_derivatives(problem: Problem) -> None:
    """Check that products with the Hessian of a problem are right; once a model and a loss.

    It takes about eight forward and backward passes over `EXAMPLES` examples. If the third
    derivatives of torch's normalizations are at fault, formulas take their place from here on
    (`lla.replacements`).

    Raises:
        InputError: the derivatives are wrong, or an operation has no second derivative; the
            module is named if one alone is at fault.
    """
    found = problem.findings
    if problem.check and not found.differentiable:
        with CALLS:
            _check_all(problem)
        found.differentiable = True


def _check_all(problem: Problem) -> None:
    """The comparisons of `check_derivatives`."""
    part = problem.part(EXAMPLES[problem.mode])
    _check_gradient(part)
    exact = _in_float64(part)
    said = _fault(exact)
    if said is None:
        return
    problem.findings.normalizations = True
    if _fault(exact) is not None:
        problem.findings.normalizations = False
        raise InputError(_named(exact, said))


def _check_gradient(part: Problem) -> None:
    """Compare the gradient through the problem with that by plain backward.

    Raises:
        InputError: they differ.
    """
    if part.dtype != part.objective.own_dtype:  # plain backward computes in the model's own type
        own_dtype = part.objective.own_dtype
        part = part.in_precision("float64" if own_dtype == torch.float64 else "float32")
    objective, names = part.objective, part.space.names
    own = dict(part.model.named_parameters())
    same = all(torch.equal(own[name], tensor) for name, tensor in part.parameters().items())
    if part.findings.writes or not same:  # then the model's own call would be another one
        return
    (batch,) = part.batches
    buffers = {n: b.detach() for n, b in part.model.named_buffers()}
    held = objective.holding(buffers, replaced=False)
    with torch.enable_grad(), objective.deterministic(), held as model:
        value = objective.called(model, batch)
        if not value.requires_grad:
            return
        try:
            with missing_derivatives_named():
                parts = torch.autograd.grad(
                    value, [own[name] for name in names], allow_unused=True, materialize_grads=True
                )
        except RuntimeError as raised:
            if out_of_memory(raised):
                raise
            raise InputError(
                "torch.autograd.grad fails for the model, so it has no Hessian "
                f"({first_line(raised)}): use operations that can be differentiated"
            ) from raised
    plain = torch.cat([p.reshape(-1) for p in parts])
    norm = torch.linalg.vector_norm
    scale = norm(plain)
    if not scale.isfinite():
        return
    error = norm(part.gradient() - plain)
    if not error <= _ROUNDING[part.dtype] * scale:
        # the gradient of a trained network has the rounding of one that is not
        try:
            away = norm(part.gradient(_away(part.theta())))
        except NonFiniteError:
            away = torch.zeros_like(error)
        if not error <= ROUNDING[part.dtype] * away:
            share = 100 * (error / scale).item()
            raise InputError(
                f"the gradient differs by {share:.2g} % from that of the model by "
                "plain backward: the model or the loss reads parameters from elsewhere, or a hook "
                "changes gradients, so read them from the model and remove such hooks"
            )


def _away(theta: Tensor, length: float = _AWAY) -> Tensor:
    """A vector [P] away from another one, by a length relative to that."""
    step = gaussian(len(theta), theta, 0)
    norm = torch.linalg.vector_norm
    return theta + step * (length * (norm(theta) or 1.0) / norm(step))


def _in_float64(part: Problem) -> Problem:
    """The problem in float64, where memory, the model and the loss allow that."""
    if part.dtype == torch.float64:
        return part
    if _VECTORS * part.space.size * torch.float64.itemsize > available_memory(part.device) / 2:
        return part
    try:
        return part.in_precision("float64")
    except InputError:  # such as a model with types of its own
        return part


def _fault(part: Problem) -> str | None:
    """What is wrong with products of the problem; None if nothing is.

    In a network whose loss is nearly zero all derivatives are rounding. So if products elsewhere
    are much larger, the points decide at which they are not small.
    """
    theta = part.theta()
    near = _fault_at(part, _away(theta)) or _fault_at(part, theta)
    if near is None or near.said is None:
        return None
    elsewhere = [theta, *(_away(theta, length) for length in _FURTHER)]
    if not near.symmetric:  # rounding breaks symmetry, and hardly makes two differences agree
        elsewhere += [_away(theta * factor) for factor in _CLOSER]
    found = [each for each in (_fault_at(part, point) for point in elsewhere) if each is not None]
    least = _TINY * max((each.size for each in found if math.isfinite(each.size)), default=0.0)
    if near.size >= least:
        return near.said
    return next((each.said for each in found if each.said and each.size >= least), None)


def _fault_at(part: Problem, point: Tensor) -> Disagreement | None:
    """What is wrong at one point [P]; None where the loss raises or is not finite."""
    (batch,) = part.batches
    state = part.state()
    function = part.batch_loss(batch, state=state)
    with ShortTypes(least=8) as short, torch.no_grad(), part.deterministic():
        try:
            if not function(point).isfinite():
                return None
        except (ValueError, ArithmeticError, torch.linalg.LinAlgError):
            return None  # the weights may have to stay in some set
    with torch.enable_grad(), part.deterministic():
        try:
            with missing_derivatives_named():
                return disagreement(
                    _seeded(part, function),
                    point,
                    part.dtype if short.found is None else torch.float32,
                    _constant(part),
                    lambda theta: part.held(theta, part.space, state),
                )
        except RuntimeError as error:
            if out_of_memory(error):
                raise
            return Disagreement(f"cannot be computed ({first_line(error)})", math.inf)


def _seeded(part: Problem, function: Function) -> Function:
    """The function with the same random numbers at every call."""

    def call(theta: Tensor) -> Tensor:
        with part.deterministic():
            return function(theta)

    return call


def _constant(part: Problem) -> Tensor:
    """Mask [P] of the rows of embeddings for padding, which have no gradient."""
    mask = torch.zeros(part.space.size, dtype=torch.bool, device=part.device)
    parts = part.space.unflatten(mask)
    for name, module in embeddings(part.model):
        if module.padding_idx is not None and name in parts:
            parts[name][module.padding_idx] = True
    return mask


def _named(part: Problem, said: str) -> str:
    """The message, with the module that is alone at fault."""
    name = _module_at_fault(part)
    where = f"in {name}" if name else f"in the model or the loss {part.findings.call.name}"
    return (
        f"the Hessian-vector product by double backward {said}, {where}: a function there has a "
        "wrong second derivative or none, so write it with other operations (check=False computes "
        "the product anyway)"
    )


def _module_at_fault(part: Problem) -> str | None:
    """Name and type of an innermost module whose own derivatives are wrong."""
    (batch,) = part.batches
    calls: list[tuple[str, nn.Module, Any, Any]] = []

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any, _output: Any) -> None:
            calls.append((name, module, args, kwargs))

        return hook

    with torch.no_grad(), part.deterministic(), part.holding(_away(part.theta())) as network:
        for name, module in network.named_modules():
            module.register_forward_hook(note(name), with_kwargs=True)
        part.run(network, batch)
        # the innermost first; a copy, since the hooks note the calls below, too
        for name, module, args, kwargs in sorted(calls, key=lambda call: -call[0].count(".")):
            if name and _at_fault(module, args, kwargs, part.dtype):
                return f"{name} ({type(module).__name__})"
    return None


def _at_fault(module: nn.Module, args: Any, kwargs: Any, dtype: torch.dtype) -> bool:
    """Whether a function of the parameters and inputs of one module has wrong derivatives."""
    given, structure = pytree.tree_flatten((args, kwargs))
    inputs = [x for x in given if isinstance(x, Tensor) and x.dtype == dtype]
    named = [(n, t.detach()) for n, t in module.named_parameters() if t.dtype == dtype]
    tensors = [t.detach() for _, t in named] + [x.detach() for x in inputs]
    if not tensors:
        return False
    sizes = [t.numel() for t in tensors]

    def function(vector: Tensor) -> Tensor:
        parts = [p.view_as(t) for p, t in zip(vector.split(sizes), tensors, strict=True)]
        own = {name: p for (name, _), p in zip(named, parts, strict=False)}
        rest = iter(parts[len(named) :])
        moved = [next(rest) * 1 if any(x is i for i in inputs) else x for x in given]
        a, k = pytree.tree_unflatten(moved, structure)
        with installed(module, own):
            output = module(*a, **k)
        outputs = [o for o in pytree.tree_leaves(output) if isinstance(o, Tensor)]
        # a general function of the outputs, so that none of their derivatives drops out
        floats = [o for o in outputs if o.is_floating_point()]
        return torch.stack([torch.sin(o.double()).sum() for o in floats]).sum()

    point = torch.cat([t.reshape(-1) for t in tensors])
    try:
        with torch.enable_grad():
            return disagreement(function, point, dtype).said is not None
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return True
