"""A model, its batches and a loss as one scalar function of the flat parameter vector."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from lla.batches import Batch, Batches
from lla.errors import InputError, NonFiniteError, out_of_memory
from lla.model_views import Mode, model_inputs, private_view, with_tensors
from lla.parameters import ParameterSpace, Pattern
from lla.precision import ROUNDING, full_precision, refuse_autocast
from lla.probes import gaussian
from lla.seeding import seeded

Loss = Callable[[Any, Any], Tensor]

_NEARBY = 0.3  # length, relative to the parameters, of a step to other parameters


class Problem:
    """The mean loss L(theta) of a model over all examples of all batches.

    Args:
        model: any module; it is never changed. Its weights are read when a quantity is computed,
            so the second of two calls sees training in between.
        batches: a pair (x, y), a list of pairs, or a loader that gives the same pairs each time
            it is read. x may be a tensor, a tuple of positional or a mapping of keyword arguments.
        loss: (output, y) -> mean loss over the batch. An output with a `logits` attribute
            (Hugging Face) is replaced by its logits.
        mode: "eval" uses stored BatchNorm statistics and no dropout. "train" uses the batch's
            statistics, does not change the stored ones, and draws one dropout mask from the seed,
            so that L is a deterministic function.
        seed: of the dropout mask, and of any other random number that the forward pass draws.

    Attributes:
        space: the trainable parameters as a flat vector of P elements.
        batches: the batches, checked.
        classes: C of the outputs [n, C, ...] if the targets are class indices, else None.

    Raises:
        InputError: see `lla.ParameterSpace.of` and `lla.batches.Batches`; the model rejects its
            input, or the loss its targets; the loss is not a scalar tensor; an unknown mode.

    >>> model = torch.nn.Linear(2, 3)
    >>> problem = Problem(model, (torch.ones(4, 2), torch.zeros(4, dtype=torch.long)))
    >>> problem.loss().shape, problem.space.size
    (torch.Size([]), 9)
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Any,
        loss: Loss = F.cross_entropy,
        mode: Mode = "eval",
        seed: int = 0,
    ) -> None:
        if mode not in ("eval", "train"):
            raise InputError(f"mode is {mode!r}: choose 'eval' or 'train'")
        self.space = ParameterSpace.of(model)
        self.batches = Batches(batches, self.space.device)
        self.mode = mode
        self.seed = seed
        self._loss = loss
        self._model = private_view(model, mode)
        self.classes = self._try_first_batch()

    @property
    def dtype(self) -> torch.dtype:
        """Type of the parameters."""
        return self.space.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters and of the batches."""
        return self.space.device

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Number of examples of each batch."""
        return self.batches.sizes

    @property
    def examples(self) -> int:
        """Number of examples of all batches."""
        return self.batches.examples

    @property
    def network(self) -> nn.Module:
        """The model in the problem's mode, with the model's own tensors. Do not change it."""
        return self._model

    def at(self, theta: Tensor, buffers: Mapping[str, Tensor] | None = None) -> Problem:
        """The same problem with other parameters [P], and other buffers where given.

        It has tensors of its own, so later changes of the model do not affect it.
        """
        moved = copy.copy(self)
        moved._model = with_tensors(
            self._model, {**self.state(), **self.space.unflatten(theta.detach()), **(buffers or {})}
        )
        return moved

    def over(self, batches: Any) -> Problem:
        """The same model, loss, mode and seed over other batches.

        Raises:
            InputError: as for the class.
        """
        other = copy.copy(self)
        other.batches = Batches(batches, self.device)
        other.classes = other._try_first_batch()
        return other

    def in_micro_batches(self, size: int, check: bool = True) -> Problem:
        """The same function of the parameters, computed from at most `size` examples at a time.

        Each batch is split along dimension 0 of its tensors. Its mean loss, and so its gradient and
        its Hessian, is the size-weighted mean over the parts, if the loss is a mean over examples
        that do not affect each other. This is checked: both problems' losses must agree, batch by
        batch, at the model's parameters and at others near them (with a last layer of zeros, for
        example, all networks have the same loss).

        Args:
            size: examples a part, at most.
            check: whether to compare the losses, which is enough once for a network.

        Raises:
            InputError: train mode, in which it would be another function; a size below 1; a
                tensor that does not have one row an example; the two losses differ.
        """
        if self.mode == "train":
            raise InputError(
                f"micro_batch is {size} in train mode, where BatchNorm's statistics and dropout's "
                "mask would be those of the micro-batch, another function: leave micro_batch out, "
                "or take mode='eval'"
            )
        split = copy.copy(self)
        split.batches = self.batches.split(size)
        if check and len(split.batches) > len(self.batches):
            theta = self.theta()
            step = gaussian(len(theta), theta, 0)
            step *= _NEARBY * theta.norm() / step.norm()
            for point in (theta, theta + step):
                self._check_same(split, point)
        return split

    def _check_same(self, split: Problem, theta: Tensor) -> None:
        """Raise unless each batch's loss at theta [P] is the mean over its micro-batches."""
        whole, parts = self.batch_losses(theta).tolist(), split.batch_losses(theta).tolist()
        largest, first = max(split.batch_sizes), 0
        for index, size in enumerate(self.batch_sizes):
            own = slice(first, first + math.ceil(size / largest))
            first = own.stop
            weighted = zip(parts[own], split.batch_sizes[own], strict=True)
            mean = sum(part * n for part, n in weighted) / size
            # the loss of a trained network has the rounding of an untrained one, ln C
            scale = max(map(abs, [whole[index], *parts[own], math.log(self.classes or 1)]))
            # a loss that is not finite is not compared: `loss` names it
            if abs(mean - whole[index]) > ROUNDING[self.dtype] * scale:
                raise InputError(
                    f"the loss of batch {index} is {whole[index]:.6g} whole and {mean:.6g} from "
                    f"micro-batches of {largest}: the loss is not a mean over examples, or the "
                    "network mixes examples, so leave micro_batch out"
                )

    def theta(self, parameters: Pattern | list[Pattern] | None = None) -> Tensor:
        """A copy [P] of the model's present parameters, or of those that the patterns select."""
        return self.space.select(parameters).read(self._model)

    @contextmanager
    def deterministic(self) -> Iterator[None]:
        """Random numbers from the problem's seed, and attention that can be differentiated twice.

        The global random state is the same afterwards. The fused attention kernels have
        no second derivative, so the mathematical form is taken.
        """
        if torch.is_inference_mode_enabled():
            raise InputError(
                "torch.inference_mode() is on, which allows no derivatives: call outside of it"
            )
        refuse_autocast(self.device)
        with (
            seeded(self.device, self.seed),
            sdpa_kernel(SDPBackend.MATH),
            full_precision(self.device),
        ):
            yield

    def state(self) -> dict[str, Tensor]:
        """Copies of all parameters and buffers as they are now, by name."""
        tensors = [*self._model.named_parameters(), *self._model.named_buffers()]
        return {name: tensor.detach().clone() for name, tensor in tensors}

    def batch_loss(
        self,
        batch: Batch,
        space: ParameterSpace | None = None,
        state: dict[str, Tensor] | None = None,
    ) -> Callable[[Tensor], Tensor]:
        """The function theta [P] -> mean loss of one batch, to be called in `deterministic()`.

        Args:
            batch: one of `problem.batches`.
            space: the parameters that theta holds, the problem's by default.
            state: the other parameters and the buffers, `self.state()` by default.
        """
        space = self.space if space is None else space
        # copies, so that further training does not change a kept graph
        fixed = self.state() if state is None else state
        output = self.batch_output(batch, space, fixed)

        def evaluate(theta: Tensor) -> Tensor:
            y = pytree.tree_map_only(Tensor, Tensor.clone, batch.y)
            return self._loss(output(theta), y)

        return evaluate

    def outputs(
        self, theta: Tensor | None = None, state: dict[str, Tensor] | None = None
    ) -> Iterator[tuple[Tensor, Any]]:
        """The model's output and the targets, batch by batch, without a graph.

        Args:
            theta: [P], the model's present parameters by default.
            state: as in `batch_loss`.
        """
        theta = self.theta() if theta is None else theta
        state = self.state() if state is None else state
        for batch in self.batches:
            with torch.no_grad(), self.deterministic():
                output = self.batch_output(batch, self.space, state)(theta)
            yield output, batch.y

    def batch_output(
        self, batch: Batch, space: ParameterSpace, state: dict[str, Tensor]
    ) -> Callable[[Tensor], Any]:
        """The function theta [P] -> the model's output on one batch, its logits where it has any.

        Arguments as of `batch_loss`.
        """
        buffers = {name for name, _ in self._model.named_buffers()}

        def evaluate(theta: Tensor) -> Any:
            now = {
                # a copy of each buffer, since the forward pass may write into it
                **{name: t.clone() if name in buffers else t for name, t in state.items()},
                **space.unflatten(theta),
            }
            output = functional_call(self._model, now, *model_inputs(batch.x))
            return getattr(output, "logits", output)

        return evaluate

    def batch_losses(self, theta: Tensor | None = None) -> Tensor:
        """The mean loss of every batch [batches], without a graph, finite or not.

        Raises:
            InputError: the model or the loss rejects a batch; it is named.
        """
        theta = self.theta() if theta is None else theta
        losses = []
        with torch.no_grad():
            for i, batch in enumerate(self.batches):
                said = (
                    f"the model or the loss rejects batch {i} (input {_describe(batch.x)}, targets "
                    f"{_describe(batch.y)})"
                )
                with self.deterministic(), _rejections(said):
                    losses.append(self.batch_loss(batch)(theta))
        return torch.stack(losses)

    def loss(self, theta: Tensor | None = None) -> Tensor:
        """L(theta), a 0-d tensor, at the given vector [P] or at the model's present parameters.

        Raises:
            NonFiniteError: the loss of a batch is NaN or infinite; the batch is named.
        """
        losses = self.batch_losses(theta)
        bad = (~torch.isfinite(losses)).nonzero().flatten().tolist()
        if bad:
            raise NonFiniteError(
                f"the loss of batch {bad[0]} is {losses[bad[0]].item()} ({len(bad)} of "
                f"{len(losses)} batches are not finite): check its inputs and the weights"
            )
        return self.pool(losses)

    def pool(self, values: Tensor) -> Tensor:
        """The mean over all examples, from the means of the batches [batches, ...]."""
        if len(self.batch_sizes) == 1:
            return values[0]
        sizes = torch.tensor(self.batch_sizes, dtype=values.dtype, device=values.device)
        return torch.tensordot(sizes / self.examples, values, dims=1)

    def gradient(self, theta: Tensor | None = None) -> Tensor:
        """The gradient of L [P] at the given vector [P] or at the model's present parameters."""
        theta = (self.theta() if theta is None else theta.detach()).requires_grad_()
        total = torch.zeros_like(theta)
        for batch in self.batches:
            with self.deterministic(), torch.enable_grad():
                value = self.batch_loss(batch)(theta)
                if not value.requires_grad:  # a constant
                    continue
                (gradient,) = torch.autograd.grad(value, theta, materialize_grads=True)
            total.add_(gradient, alpha=batch.size / self.examples)
        return total

    def _try_first_batch(self) -> int | None:
        """The number of classes, from one forward pass, which also finds wrong inputs early."""
        batch = next(iter(self.batches))
        args, kwargs = model_inputs(batch.x)
        buffers = {name: b.detach().clone() for name, b in self._model.named_buffers()}
        with torch.no_grad(), self.deterministic():
            rejected = f"({_describe(batch.x)}, parameters {self.dtype})"
            with _rejections(f"the model rejects the input of batch 0 {rejected}"):
                output = functional_call(self._model, buffers, args, kwargs)
            output = getattr(output, "logits", output)
            name = getattr(self._loss, "__name__", type(self._loss).__name__)
            with _rejections(
                f"the loss {name} rejects targets ({_describe(batch.y)}) for outputs "
                f"({_describe(output)})",
                "; cross_entropy, for example, takes int64 class indices below the number of "
                "outputs",
            ):
                value = self._loss(output, batch.y)
        if not isinstance(value, Tensor) or value.ndim != 0 or not value.is_floating_point():
            raise InputError(
                f"the loss {name} gives {_describe(value)}, not one number: average it over the "
                "batch (reduction='mean')"
            )
        indices = isinstance(batch.y, Tensor) and not batch.y.is_floating_point()
        many = isinstance(output, Tensor) and output.ndim >= 2
        return output.shape[1] if indices and many else None


@contextmanager
def _rejections(said: str, hint: str = "") -> Iterator[None]:
    """Turn what a model or a loss raises for its arguments into an `InputError`."""
    try:
        yield
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        if out_of_memory(error):
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"{said}: {reason}{hint}") from error


def _describe(value: Any) -> str:
    """Type and shape, for a message."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__
