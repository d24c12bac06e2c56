"""Calling a user's model with other tensors, and leaving it as it was.

The model's own modules are called, not copies of them: a copy would call a forward that was
replaced on the instance, or a function that captured the module, with the tensors of the original.
For the time of a call, every place of a module that holds a parameter or a buffer holds another
tensor. Afterwards each module has the attributes that it had before.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.utils import _pytree as pytree

from lla.errors import InputError
from lla.process_wide import CALLS
from lla.random_states import stream_of
from lla.shared_memory import Aliases

Mode = Literal["eval", "train"]


def hides_parameters(model: nn.Module) -> bool:
    """Whether FSDP of the first kind has made flat parameters of the model's own."""
    names = {base.__name__ for module in model.modules() for base in type(module).__mro__}
    return "FullyShardedDataParallel" in names


def is_spread(model: nn.Module) -> bool:
    """Whether the parameters lie in several processes: FSDP, tensor parallelism, ZeRO."""
    return hides_parameters(model) or any(
        hasattr(p, "device_mesh") or hasattr(p, "ds_id") for p in model.parameters()
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside `DataParallel`, `DistributedDataParallel` or `torch.compile`.

    Raises:
        InputError: what is given is no module, or one whose derivatives cannot be taken: a
            TorchScript module, parameters without a shape, or parameters spread over processes.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"the model is {type(model).__name__}: give a torch.nn.Module")
    if is_spread(model):
        raise InputError(
            "the parameters are spread over processes (FSDP, tensor parallelism or ZeRO), and their"
            " second derivatives cannot be taken there: load the full state dict into a plain "
            "model, or take the approximate lla.finite_differences"
        )
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, wrappers) or "_orig_mod" in model._modules:
        inner = model.module if isinstance(model, wrappers) else model._modules["_orig_mod"]
        assert isinstance(inner, nn.Module)
        model = inner
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(
                f"{name or 'the model'} is a TorchScript module, whose tensors cannot be exchanged:"
                " give the Python module that it was made from"
            )
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(tensor, (nn.UninitializedParameter, nn.UninitializedBuffer)):
            raise InputError(
                f"{name} has no shape yet (a lazy module): call the model on one batch first"
            )
    return model


def check_values(model: nn.Module) -> None:
    """Raise unless all tensors of a model have values.

    Raises:
        InputError: one is on the meta device.
    """
    for name, tensor in named_tensors(model):
        if tensor.device.type == "meta":
            raise InputError(
                f"{name} is on the meta device and has no values: load the weights first, for "
                "example with model.to_empty(device='cpu') and load_state_dict"
            )


@dataclass(frozen=True)
class Setting:
    """What the modules of a model are set to during a call, besides their tensors.

    Attributes:
        attributes: values by module and name of the attribute.
        streams: random generators that modules hold, as pairs of functions that get and set the
            state, with the state at every call.
    """

    attributes: Mapping[nn.Module, Mapping[str, Any]]
    streams: tuple[tuple[Callable[[], Any], Callable[[Any], Any], Any], ...] = ()


NOTHING_SET = Setting({})


def in_functional_transform() -> bool:
    """Whether this runs inside of `torch.func.vmap` or `grad`, where tensors have no values."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def setting_of(model: nn.Module, mode: Mode) -> Setting:
    """The training flags and other settings of a problem's mode.

    In train mode a layer stays in eval mode if the caller's model is in train mode and the layer
    is not: the caller froze it. BatchNorm normalises with the batch and leaves its stored
    statistics alone. Spectral norm keeps its stored vectors in both modes: each step of its power
    iteration would change the function. An embedding's `max_norm` is a projection of the weights
    that a forward pass makes in place; it is applied when weights are read (`current_tensors`) and
    not again. Sparse gradients have no second derivative, and dense ones are equal. Gradients that
    are divided by the frequency of a row (`scale_grad_by_freq`) are those of no function.
    """
    attributes: dict[nn.Module, dict[str, Any]] = {}
    with installed(model, {}):  # a module's own `train` may change more than its flag
        if mode == "eval":
            model.eval()
        elif not model.training:
            model.train()
        for module in model.modules():
            attributes[module] = {"training": module.training and not _iterates(module)}
    for module, found in attributes.items():
        if found["training"] and getattr(module, "track_running_stats", False):
            found["track_running_stats"] = False
        if isinstance(module, _EMBEDDINGS):
            found |= {"max_norm": None, "sparse": False, "scale_grad_by_freq": False}
    streams = (
        stream
        for module in model.modules()
        for value in vars(module).values()
        if (stream := stream_of(value)) is not None
    )
    return Setting(attributes, tuple((get, put, get()) for get, put in streams))


_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


def embeddings(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """The embeddings of a model, with the name of the parameter that each looks up."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for module in model.modules():
        # a weight that is computed is no parameter
        if isinstance(module, _EMBEDDINGS) and id(module._parameters.get("weight")) in names:
            yield names[id(module._parameters["weight"])], module


def _iterates(module: nn.Module) -> bool:
    """Whether a module makes a step of spectral norm's power iteration in train mode."""
    hooks = module._forward_pre_hooks.values()
    return isinstance(module, parametrizations._SpectralNorm) or any(
        isinstance(hook, SpectralNorm) for hook in hooks
    )


def current_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers by name, without history, as a forward pass would use them.

    Rows of an embedding that are longer than its `max_norm` are scaled to it in a copy, which a
    forward pass does to the rows that it looks up (`torch.embedding_renorm_`).
    """
    with CALLS:
        found = {name: tensor.detach() for name, tensor in named_tensors(model)}
        for name, module in embeddings(model):
            if module.max_norm is not None:
                found[name] = found[name].clone()
                rows = torch.arange(module.num_embeddings, device=found[name].device)
                torch.embedding_renorm_(found[name], rows, module.max_norm, module.norm_type)
        return found


def named_tensors(model: nn.Module) -> list[tuple[str, Tensor]]:
    """All parameters and buffers, each once, under its first name."""
    return [*model.named_parameters(), *model.named_buffers()]


@contextmanager
def installed(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    setting: Setting = NOTHING_SET,
    dtype: torch.dtype | None = None,
) -> Iterator[nn.Module]:
    """The model with other tensors; afterwards it is as it was.

    A layer that two names reach, and a parameter that two layers share, are one tensor. Lists,
    tuples and dicts of parameters that a module holds are exchanged, too, and so are views of
    parameters. Other tensors are copies, and so a forward pass may write into them.

    Args:
        model: the model.
        tensors: by the first name of each parameter or buffer; others stay.
        setting: see `setting_of`.
        dtype: type of the floating tensors that are no parameters or buffers; None keeps it.
    """
    exchanged = {
        id(tensor): tensors[name] for name, tensor in named_tensors(model) if name in tensors
    }
    aliases = Aliases(
        [(own, tensors[name]) for name, own in model.named_parameters() if name in tensors]
    )
    modules = list(model.modules())
    before = [dict(vars(module)) for module in modules]
    contents = [(held, held.copy()) for held in _containers(before)]
    states = [(put, get()) for get, put, _ in setting.streams]
    try:
        for module in modules:
            _exchange(vars(module), exchanged, aliases, dtype)
            vars(module).update(setting.attributes.get(module, {}))
        for _, put, state in setting.streams:
            put(state)
        yield model
    finally:
        for module, attributes in zip(modules, before, strict=True):
            vars(module).clear()
            vars(module).update(attributes)
        for value, content in contents:
            if value or content:
                value.clear()
                (value.extend if isinstance(value, (list, deque)) else value.update)(content)
        for put, state in states:
            put(state)


_CONTAINERS = (list, dict, set, OrderedDict, defaultdict, deque)
_MANY = 1000  # elements of a container that is not searched for others, such as a vocabulary


def _containers(attributes: Iterable[Mapping[str, Any]]) -> list[Any]:
    """The containers in the attributes of modules that can be written into, and those in them."""
    found: list[Any] = []
    todo: list[Any] = [value for each in attributes for value in each.values()]
    while todo:
        value = todo.pop()
        if type(value) in _CONTAINERS:
            found.append(value)
        elif type(value) is not tuple:
            continue
        if value and len(value) <= _MANY:
            todo.extend(value.values() if isinstance(value, dict) else value)
    return found


def _exchange(
    attributes: dict[str, Any],
    exchanged: Mapping[int, Tensor],
    aliases: Aliases,
    dtype: torch.dtype | None,
) -> None:
    """Put other tensors into the attributes of a module."""

    def other(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) in exchanged:
            return exchanged[id(value)]
        if isinstance(value, nn.Parameter):
            return value
        view = aliases.of(value)
        if view is not None:
            return view
        aliases.refuse(value)
        cast = dtype if dtype is not None and value.is_floating_point() else value.dtype
        copied = value.to(cast, copy=True)  # the forward pass may write into it
        # the graph of one that was computed from parameters shows that it is read (`lla.trial`)
        return copied if value.grad_fn is not None else copied.detach()

    for kind in ("_parameters", "_buffers"):
        tensors = attributes[kind]
        for name, tensor in tensors.items():
            if tensor is not None and id(tensor) in exchanged:
                view = aliases.of(tensor) if kind == "_buffers" else None
                tensors[name] = exchanged[id(tensor)] if view is None else view
    for name, value in attributes.items():
        if name in _REGISTRIES:
            continue
        if isinstance(value, Tensor):
            attributes[name] = other(value)
        elif type(value) in (list, tuple, dict) and _holds_tensors(value):
            attributes[name] = pytree.tree_map_only(Tensor, other, value)


def _holds_tensors(value: Any) -> bool:
    """Whether a tensor is in a container, or in those that it holds."""
    if len(value) > _MANY:
        return False
    return any(
        isinstance(each, Tensor) or (type(each) in (list, tuple, dict) and _holds_tensors(each))
        for each in (value.values() if isinstance(value, dict) else value)
    )


_REGISTRIES = ("_parameters", "_buffers", "_modules")
