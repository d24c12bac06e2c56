"""The layers of a network that a user asks for by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import nn

from lla.errors import InputError
from lla.layers.patches import is_covered
from lla.problem import Problem


def chosen(problem: Problem, layers: str | Sequence[str] | None) -> list[str]:
    """Names of layers, as in `named_modules`, each with a trainable parameter `weight`.

    Args:
        problem: the network.
        layers: one name or several; None takes all linear and convolution layers whose weight is
            trainable.

    Raises:
        InputError: a name that does not exist, names a part with several layers, or a layer without
            a trainable weight; there is no layer.
    """
    modules = dict(problem.model.named_modules(remove_duplicate=False))
    if layers is None:
        found = [
            name
            for name, module in problem.model.named_modules()
            if is_covered(module) and _weight(problem, module) is not None
        ]
        if not found:
            raise InputError(
                "the network has no linear or convolution layer with a trainable weight: name the "
                "layers to measure"
            )
        return found
    asked = [layers] if isinstance(layers, (str, nn.Module)) else list(layers)
    if not asked:
        raise InputError("there is no layer: name at least one, or leave layers out")
    for name in asked:
        if not isinstance(name, str):
            raise InputError(
                f"a layer is {type(name).__name__}: give names, as in model.named_modules()"
            )
        _check(problem, name, modules)
    return list(dict.fromkeys(asked))


def weight_name(problem: Problem, layer: str) -> str:
    """The name of a layer's weight among the parameters of a problem; the first, if it is tied."""
    module = problem.model.get_submodule(layer)
    found = _weight(problem, module)
    assert found is not None
    return found


def _weight(problem: Problem, module: nn.Module) -> str | None:
    """The name of a module's own trainable weight."""
    weight = module._parameters.get("weight")
    if weight is None or weight.ndim < 2:
        return None
    names = {id(p): name for name, p in problem.model.named_parameters()}
    name = names.get(id(weight))
    return name if name in problem.space.names else None


def _check(problem: Problem, name: str, modules: dict[str, nn.Module]) -> None:
    able = [n for n, module in modules.items() if _weight(problem, module) is not None]
    if name not in modules:
        near = difflib.get_close_matches(name, able, 3) or able[:3]
        raise InputError(f"the network has no layer {name!r}: take {' or '.join(near) or 'none'}")
    if _weight(problem, modules[name]) is not None:
        return
    inside = [n for n in able if n.startswith(f"{name}.") or not name]
    if inside:
        raise InputError(
            f"{name or 'the network'} is no single layer but has {len(inside)}: name some of "
            f"{', '.join(inside[:6])}{', ...' if len(inside) > 6 else ''}"
        )
    kind = type(modules[name]).__name__
    raise InputError(
        f"{name} ({kind}) has no trainable weight with two or more dimensions: name one that has, "
        f"such as {able[0] if able else 'a linear layer'}"
    )
