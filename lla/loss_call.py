"""The loss of one batch, from a model that holds the tensors of the point already."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lla.batches import model_arguments

Loss = Callable[[Any, Any], Tensor]


@dataclass(frozen=True)
class LossCall:
    """How a loss is called.

    Attributes:
        loss: the caller's; None takes the model's own loss, else the cross-entropy.
        takes_model: whether it is called with (model, batch) in place of (output, y).
        whole_output: whether it takes the output as it is, also where that has logits.
    """

    loss: Loss | None
    takes_model: bool = False
    whole_output: bool = False

    @classmethod
    def of(cls, loss: Loss | None) -> LossCall:
        """A loss whose two parameters are named `model` and `batch` takes these."""
        return cls(loss, takes_model=_parameter_names(loss) == ["model", "batch"])

    @property
    def name(self) -> str:
        """For messages."""
        if self.loss is None:
            return F.cross_entropy.__name__
        inner = self.loss.func if isinstance(self.loss, partial) else self.loss
        return str(getattr(inner, "__name__", type(inner).__name__))

    def output(self, model: nn.Module, x: Any) -> Any:
        """The model's output on an input."""
        args, kwargs = model_arguments(x)
        return model(*args, **kwargs)

    def of_output(self, output: Any, y: Any) -> Tensor:
        """The loss of an output."""
        if self.loss is None:
            own = own_loss(output)
            return F.cross_entropy(logits(output), y) if own is None else own
        return self.loss(output if self.whole_output else logits(output), y)

    def of_model(self, model: nn.Module, x: Any) -> Tensor:
        """The loss that is called with the model and a batch."""
        assert self.loss is not None
        return self.loss(model, x)

    def takes_logits(self, output: Any, y: Any) -> LossCall:
        """The same loss, called with the logits of an output, or with all of it.

        With a Hugging Face output a loss such as `F.cross_entropy` means the logits, and one such
        as `lambda out, y: out.loss` the output. The first is tried first.
        """
        if self.loss is None or logits(output) is output:
            return self
        try:
            self.loss(logits(output), y)
        except (AttributeError, KeyError, TypeError, IndexError):
            return replace(self, whole_output=True)
        return self

    def cast(self, dtype: torch.dtype) -> LossCall:
        """The same loss with the floating tensors of a `functools.partial` in another type."""
        if not isinstance(self.loss, partial):
            return self
        args, keywords = pytree.tree_map_only(
            Tensor,
            lambda t: t.to(dtype) if t.is_floating_point() else t,
            (self.loss.args, self.loss.keywords),
        )
        return replace(self, loss=partial(self.loss.func, *args, **keywords))


def logits(output: Any) -> Any:
    """The logits of an output that has them as an attribute or a key, else the output."""
    if isinstance(output, Mapping) and not hasattr(output, "logits"):
        return output.get("logits", output)
    return getattr(output, "logits", output)


def classes_of(output: Any, y: Any) -> int | None:
    """The number C of classes of an output [n, C, ...], if the targets are class indices."""
    scores = logits(output)
    indices = isinstance(y, Tensor) and not y.is_floating_point()
    many = isinstance(scores, Tensor) and scores.ndim >= 2
    return scores.shape[1] if indices and many else None


def own_loss(output: Any) -> Tensor | None:
    """The loss that a model has put into its output, as an attribute or a key `loss`."""
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    return found if isinstance(found, Tensor) else None


def _parameter_names(loss: Any) -> list[str]:
    """The names of the parameters of a function without a default; none if they are unknown."""
    if loss is None or isinstance(loss, nn.Module):
        return []
    try:
        parameters = inspect.signature(loss).parameters.values()
    except (TypeError, ValueError):  # a function of C has no signature
        return []
    return [
        p.name for p in parameters if p.default is p.empty and p.kind == p.POSITIONAL_OR_KEYWORD
    ]
