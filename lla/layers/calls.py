"""One call of a network, with the inputs and outputs of some of its layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lla.batches import Batch
from lla.problem import Problem


@dataclass
class LayerCall:
    """What a layer got and gave, in the graph of the network's output.

    Attributes:
        layer: the module.
        calls: how often its forward was called.
        x: its input; None where it got anything but one tensor.
        output: its output; what follows works on a copy, so that nothing writes into it.
        weight: the tensor that it holds as a parameter.
        bias: the same; None without one.
    """

    layer: nn.Module
    calls: int = 0
    x: Tensor | None = None
    output: Tensor | None = None
    weight: Tensor = field(default_factory=lambda: torch.empty(0))
    bias: Tensor | None = None

    @property
    def parameters(self) -> list[Tensor]:
        """The weight, and the bias if there is one that is trainable."""
        trained = self.bias is not None and self.bias.requires_grad
        return [self.weight, self.bias] if trained else [self.weight]  # type: ignore[list-item]


@contextmanager
def called(
    problem: Problem,
    batch: Batch,
    names: Sequence[str],
    means: Mapping[str, Tensor] | None = None,
    theta: Tensor | None = None,
) -> Iterator[tuple[Any, dict[str, LayerCall]]]:
    """Call a problem's network on a batch, and keep what some of its layers got and gave.

    Args:
        problem: the network and its mode.
        batch: one of its batches.
        names: of layers, as in `named_modules`; they have a parameter `weight`.
        means: of the patches of some of them [d]. A layer then works on its patches minus that
            mean, and its bias takes up what that changes. So its output is the same, and only
            derivatives by its weight differ.
        theta: the parameters [P], in whose graph the call shall be; those of the problem by
            default.

    Yields:
        The network's whole output (that of `Problem.run` for a loss that takes the model) and the
        layers by name, in a context in which gradients may be taken.
    """
    theta = problem.theta().requires_grad_() if theta is None else theta
    with ExitStack() as stack:
        stack.enter_context(problem.deterministic())
        stack.enter_context(torch.enable_grad())
        network = stack.enter_context(problem.holding(theta))
        found = {name: LayerCall(network.get_submodule(name)) for name in names}
        for name, each in found.items():
            each.weight = each.layer.weight  # type: ignore[assignment]
            bias = getattr(each.layer, "bias", None)
            each.bias = bias if isinstance(bias, Tensor) else None
            handle = each.layer.register_forward_hook(_keeper(each, (means or {}).get(name)))
            stack.callback(handle.remove)
        if problem.findings.call.takes_model:
            yield problem.run(network, batch), found
        else:
            yield problem.objective.whole_output(network, batch), found


def _keeper(kept: LayerCall, mean: Tensor | None) -> Any:
    """A hook that keeps the input and the output of a layer."""

    def hook(layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        kept.calls += 1
        if len(args) != 1 or not isinstance(args[0], Tensor) or not isinstance(output, Tensor):
            return None
        if mean is not None:
            change = kept.weight - kept.weight.detach()  # zero, but not its derivative
            taken = change.flatten(1) @ mean.to(change)
            inner = 0 if isinstance(layer, nn.Linear) else output.ndim - 2
            output = output - taken.reshape(-1, *[1] * inner)
        kept.x, kept.output = args[0], output
        return output.clone()

    return hook
