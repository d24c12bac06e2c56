"""Calls of functions such as `F.linear` with the weights of a layer that is not called itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from lla.model_call import in_functional_transform

# what the layers of torch.nn call
LAYERS: frozenset[Callable[..., Any]] = frozenset({
    F.linear, F.bilinear, F.conv1d, F.conv2d, F.conv3d, F.conv_transpose1d, F.conv_transpose2d,
    F.conv_transpose3d, F.embedding, F.batch_norm, F.group_norm, F.instance_norm, F.layer_norm,
    F.rms_norm, F.prelu,
})  # fmt: skip

# name of a parameter, the function of its value, its value, and the output -> nothing
Note = Callable[[str, Callable[[Tensor], Any], Tensor, Any], None]


class WeightUses(TorchFunctionMode):
    """Notes every call of a function of `LAYERS` with one of some parameters.

    Args:
        parameters: by name, the very tensors that the functions are called with.
        note: called after each such call, once for every parameter in it.
    """

    def __init__(self, parameters: Mapping[str, Tensor], note: Note) -> None:
        super().__init__()
        self._names = {id(tensor): name for name, tensor in parameters.items()}
        self._note = note

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch for every function in the context."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func in LAYERS and not in_functional_transform():
            for leaf in pytree.tree_leaves((args, kwargs)):
                if id(leaf) in self._names:
                    function = _of_argument(func, args, kwargs, leaf)
                    self._note(self._names[id(leaf)], function, leaf, output)
        return output


def _of_argument(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], argument: Tensor
) -> Callable[[Tensor], Any]:
    """A call as a function of one of its arguments."""

    def call(value: Tensor) -> Any:
        given, named = pytree.tree_map_only(
            Tensor, lambda t: value if t is argument else t.clone(), (tuple(args), dict(kwargs))
        )
        return func(*given, **named)

    return call
