"""The loss of a batch as a function of the tensors of a model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize
from torch.utils import _pytree as pytree

from lla.batches import Batch, mapped
from lla.default_type import DefaultType
from lla.errors import InputError
from lla.loss_call import LossCall, logits
from lla.model_call import (
    Setting,
    in_functional_transform,
    installed,
    named_tensors,
)
from lla.precision import full_precision, refuse_autocast
from lla.process_wide import CALLS
from lla.replacements import Exchanged, Replaced
from lla.seeding import seeded


@dataclass
class Findings:
    """What calls of a model have shown; a problem and all that are made from it share it.

    Attributes:
        call: how the loss is called.
        tried: whether the rest is known.
        needs_graph: whether the model differentiates itself, so that gradients must be enabled.
        by_parameters: whether it differentiates itself by its parameters.
        outside: modules that calls reach and that are no part of the model or the loss, such as a
            network that the loss has captured.
        writes: whether a forward pass writes into parameters, so that it gets copies of them.
        exchanged: whether the model or the loss also holds parameters elsewhere, as a closure does,
            so that they are replaced in every call of a function.
        normalizations: see `lla.replacements.Replaced`.
        differentiable: whether the derivatives were found to be right.
        repeatable: recorded products that were right when they were called again, see
            `lla.hessian.products.routes.Product`.
        recordings: recorded products that other data may replay, by what has to be equal, the last
            few; see `lla.hessian.products.replay`.
    """

    call: LossCall
    tried: bool = False
    needs_graph: bool = False
    by_parameters: bool = False
    outside: tuple[nn.Module, ...] = ()
    writes: bool = False
    exchanged: bool = False
    normalizations: bool = False
    differentiable: bool = False
    repeatable: set[int] = field(default_factory=set)
    recordings: dict[Hashable, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Objective:
    """A model and a loss, to be called with other tensors.

    Attributes:
        model: the caller's own, which is after every call as it was before.
        setting: of its modules, see `lla.model_call.setting_of`.
        findings: what its calls have shown.
        device: of its tensors.
        seed: of the random numbers that a call draws.
        dtype: the model's own type, or another one in which to compute.
        own_dtype: the model's own type.
    """

    model: nn.Module
    setting: Setting
    findings: Findings
    device: torch.device
    seed: int
    dtype: torch.dtype
    own_dtype: torch.dtype

    @contextmanager
    def deterministic(self) -> Iterator[None]:
        """Random numbers from the seed, and operations that can be differentiated twice.

        The global random state is the same afterwards. The fused attention kernels have
        no second derivative, so the mathematical form is taken. Compiled parts of a model run
        without their compiled code.

        Raises:
            InputError: autocast, `torch.inference_mode()` or `parametrize.cached()` is on.
        """
        if torch.is_inference_mode_enabled():
            raise InputError(
                "torch.inference_mode() is on, which allows no derivatives: call outside of it"
            )
        if parametrize._cache_enabled:
            raise InputError(
                "parametrize.cached() is on, which keeps the weights of one point: call outside of "
                "it"
            )
        refuse_autocast(self.device)
        with ExitStack() as stack:
            stack.enter_context(CALLS)
            stack.enter_context(seeded(self.device, self.seed))
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            stack.enter_context(full_precision(self.device))
            if "torch._dynamo" in sys.modules:  # else nothing is compiled
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield

    @contextmanager
    def holding(self, tensors: Mapping[str, Tensor], replaced: bool = True) -> Iterator[nn.Module]:
        """The model with other tensors, by name; to be entered in `deterministic()`.

        A tensor that is not given is the model's own.

        Args:
            tensors: by name.
            replaced: whether formulas take the place of functions, see `lla.replacements`.
        """
        # the forward pass may write into buffers
        buffers = {name for name, _ in self.model.named_buffers()}
        tensors = {
            name: tensor.clone() if name in buffers or self.findings.writes else tensor
            for name, tensor in tensors.items()
        }
        if self.findings.by_parameters and not in_functional_transform():
            for name, parameter in self.model.named_parameters():
                if parameter.requires_grad and name in tensors and not tensors[name].requires_grad:
                    tensors[name] = tensors[name].detach().requires_grad_()
        named = named_tensors(self.model) if self.findings.exchanged else ()
        given = [(tensor, tensors[name]) for name, tensor in named if name in tensors]
        cast = None if self.dtype == self.own_dtype else self.dtype
        loss = self.findings.call.loss
        with ExitStack() as stack:
            stack.enter_context(installed(self.model, tensors, self.setting, cast))
            held = {id(tensor) for tensor in tensors.values()}  # the loss may hold the model
            others = (loss, *self.findings.outside)
            for module in (each for each in others if isinstance(each, nn.Module)):
                own = self._copies_of(module, held)
                stack.enter_context(installed(module, own, dtype=cast))
            if replaced:
                stack.enter_context(Replaced(self.findings.normalizations))
            if self.findings.exchanged:
                stack.enter_context(Exchanged(given))
            if cast is not None:
                stack.enter_context(DefaultType(cast))
            yield self.model

    def value(self, tensors: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """The loss of a batch; without a graph if gradients are disabled."""
        with self.holding(tensors) as model:
            return self._ungraphed(lambda: self.called(model, batch))

    def output(self, tensors: Mapping[str, Tensor], batch: Batch) -> Any:
        """The model's output on a batch, its logits where it has any, see `run`."""
        with self.holding(tensors) as model:
            return self.run(model, batch)

    def run(self, model: nn.Module, batch: Batch) -> Any:
        """The output of the model that `holding` gives.

        If the loss takes the model, it is a tuple of the outputs of all calls.
        """
        if not self.findings.call.takes_model:
            return self._ungraphed(lambda: logits(self.whole_output(model, batch)))
        outputs: list[Any] = []
        handle = model.register_forward_hook(lambda *given: outputs.append(logits(given[-1])))
        self._ungraphed(lambda: (self.called(model, batch), outputs)[1])
        handle.remove()
        return tuple(outputs)

    def called(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch, of the model that `holding` gives."""
        return self.of_copies(model, *mapped((batch.x, batch.y), self._copy))

    def of_copies(self, model: nn.Module, x: Any, y: Any) -> Tensor:
        """The same of an input and targets that the model and the loss may overwrite."""
        call = self._loss_call()
        return (
            call.of_model(model, x)
            if call.takes_model
            else call.of_output(call.output(model, x), y)
        )

    def whole_output(self, model: nn.Module, batch: Batch) -> Any:
        """The output of one call, with all that it has beside logits."""
        return self.findings.call.output(model, mapped(batch.x, self._copy))

    def of_output(self, output: Any, batch: Batch) -> Tensor:
        """The loss of an output."""
        return self._loss_call().of_output(output, mapped(batch.y, self._copy))

    def _loss_call(self) -> LossCall:
        call = self.findings.call
        return call if self.dtype == self.own_dtype else call.cast(self.dtype)

    def _ungraphed(self, evaluate: Callable[[], Any]) -> Any:
        """What a function gives, with gradients enabled inside if the model needs them."""
        if torch.is_grad_enabled() or not self.findings.needs_graph:
            return evaluate()
        with torch.enable_grad():
            found = evaluate()
        return pytree.tree_map_only(Tensor, Tensor.detach, found)

    def _copies_of(self, module: nn.Module, held: set[int]) -> dict[str, Tensor]:
        """The tensors of another module that a call may write into, or that change their type."""
        buffers = {id(buffer) for buffer in module.buffers()}
        cast = self.dtype != self.own_dtype
        return {
            name: self._copy(tensor.detach())
            for name, tensor in named_tensors(module)
            if id(tensor) not in held and (cast or id(tensor) in buffers)
        }

    def _copy(self, tensor: Tensor) -> Tensor:
        """A copy of a tensor; of the model's own type, it is in the type of the computation.

        A network may work in place on its input, and a loader may refill its tensors.
        """
        cast = self.dtype != self.own_dtype and tensor.dtype == self.own_dtype
        return tensor.to(self.dtype) if cast else tensor.clone()
