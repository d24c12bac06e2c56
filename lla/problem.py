"""A model, its batches and a loss as one scalar function of the flat parameter vector."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla.arguments import seed_number, whole_number
from lla.batches import Batch, Batches, micro_batches
from lla.division import Division, divided
from lla.errors import InputError, NonFiniteError
from lla.loss_call import Loss, LossCall, classes_of, logits, own_loss
from lla.missing_derivatives import missing_derivatives_named
from lla.model_call import (
    Mode,
    check_values,
    current_tensors,
    in_functional_transform,
    setting_of,
    unwrapped,
)
from lla.objective import Findings, Objective
from lla.parameters import ParameterSpace, Pattern
from lla.precision import ROUNDING
from lla.probes import gaussian
from lla.process_wide import CALLS
from lla.ranks import ALONE, present
from lla.reduction import Reduction, declared, reduction_of
from lla.shared_memory import check_memory
from lla.tensor_hashes import tensors_sha256
from lla.trial import describe, rejections, try_call

Precision = Literal["float32", "float64"]
T = TypeVar("T")

_LOOKED = 8  # batches that are compared for what they weigh, beside the first
_NEARBY = 0.3  # length, relative to the parameters, of a step to other parameters


class Problem:
    """The mean loss L(theta) of a model over all examples of all batches.

    L is the loss of all examples at once, as far as the loss says what that is
    (`lla.reduction`): a mean counts each batch by what it is a mean over, a sum is added.

    Args:
        model: any module; it is never changed. Its weights are read when a quantity is computed,
            so the second of two calls sees training in between. The network inside `DataParallel`,
            `DistributedDataParallel` or `torch.compile` is taken out.
        batches: a pair (x, y), a list of pairs, or a loader that gives the same pairs each time
            it is read. x may be a tensor, a tuple of positional or a mapping of keyword arguments.
            A batch may also be a mapping, such as Hugging Face's: its items are the keyword
            arguments, and its "labels" (or "label", "targets" or "target") are y.
        loss: (output, y) -> loss of the batch, a mean or a sum. By default the model's own loss,
            if its output has an attribute or a key `loss`, else the cross-entropy. An output with
            logits is replaced by these, unless the loss cannot take them. A loss whose parameters
            are named `model` and `batch` is called with these; a batch is then whatever it takes.
        mode: "eval" uses stored BatchNorm statistics and no dropout. "train" uses the batch's
            statistics, does not change the stored ones, and draws one dropout mask from the seed,
            so that L is a deterministic function. A layer in eval mode inside a model in train
            mode stays so. What a forward pass would write into the model is not part of L: spectral
            norm keeps its stored vectors, and an embedding's `max_norm` is applied to the weights
            once, when they are read.
        seed: of the dropout mask, and of any other random number that the forward pass draws.
        weights: how much the loss of each batch counts in L, one number a batch; L is then their
            weighted mean. By default this is found from the loss (`lla.reduction`).
        precision: "float64" computes a float32 model in float64: theta, products and losses are
            float64 then. None takes the model's own type.
        check: whether to check the model's calls here, and its derivatives before the first
            product (`lla.door`).

    Attributes:
        model: the model; do not change it in a call.
        space: the trainable parameters as a flat vector of P elements.
        own_batches: the batches that this process works on, all of them if it measures alone.
        classes: C of the outputs [n, C, ...] if the targets are class indices, else None.

    Raises:
        InputError: see `lla.ParameterSpace.of` and `lla.batches.Batches`; the model rejects its
            input, or the loss its targets; the loss is not a scalar tensor; an unknown mode or
            precision; a loss that differs from call to call, reads a tensor that was taken or
            computed from the parameters before, or is computed in half precision; weights that
            are not one number a batch.

    >>> model = torch.nn.Linear(2, 3)
    >>> problem = Problem(model, (torch.ones(4, 2), torch.zeros(4, dtype=torch.long)))
    >>> problem.loss().shape, problem.space.size
    (torch.Size([]), 9)
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Any,
        loss: Loss | None = None,
        mode: Mode = "eval",
        seed: int = 0,
        *,
        weights: Sequence[float] | None = None,
        precision: Precision | None = None,
        check: bool = True,
    ) -> None:
        if mode not in ("eval", "train"):
            raise InputError(f"mode is {mode!r}: choose 'eval' or 'train'")
        if precision not in (None, "float32", "float64"):
            raise InputError(f"precision is {precision!r}: choose 'float32', 'float64' or None")
        seed = seed_number(seed)
        with CALLS:  # of another thread, too
            self.model = unwrapped(model)
            own = ParameterSpace.of(self.model)
            check_values(self.model)
            check_memory(self.model)
            self.space = own
            self.mode = mode
            self.seed = seed
            self.check = check
            call = LossCall.of(loss)
            self.ranks = present()
            self.ranks.meet()
            found = divided(batches, own.device, self.ranks, call.takes_model)
            self.own_batches, self.division = found
            self.objective = Objective(
                self.model,
                setting_of(self.model, mode),
                Findings(call),
                own.device,
                seed,
                own.dtype,
                own.dtype,
            )
            self._tensors: Mapping[str, Tensor] | None = None  # of its own; None: the model's
            self._shares = None if weights is None else self._shares_by(weights)
            with self.ranks.agreed():
                batch, output = self._call_first(check)
                self.classes = classes_of(output, batch.y)
                self._reduction, self._compare = self._read_reduction(batch, output)
                if precision is not None:
                    self._set_precision(precision)
            if self.ranks.count > 1:
                self.ranks.same(self._facts(loss))
                self._shares = self.shares  # here, where all ranks meet

    @property
    def batches(self) -> Batches:
        """All batches, checked.

        Raises:
            InputError: several processes measure together, and each has some of them.
        """
        self._refuse_ranks()
        return self.own_batches

    @property
    def dtype(self) -> torch.dtype:
        """Type of the flat vector of the parameters."""
        return self.space.dtype

    @property
    def device(self) -> torch.device:
        """Device of the parameters and of the batches."""
        return self.space.device

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Number of examples of each batch that this process has, see `lla.ranks`."""
        return self.own_batches.sizes

    @property
    def examples(self) -> int:
        """Number of examples of the batches that this process has, see `lla.ranks`."""
        return self.own_batches.examples

    def of_all_batches(self, own: Sequence[T]) -> list[T]:
        """What each process has found for its batches, in the order of all batches."""
        # a process without batches holds one of another, which has no place
        pairs = list(zip(self.division.indices, own, strict=False))
        everywhere = [pair for part in self.ranks.gathered(pairs) for pair in part]
        return [value for _, value in sorted(everywhere, key=lambda pair: pair[0])]

    @property
    def about(self) -> str:
        """Model, number of examples and mode in words, as titles of pictures have them."""
        examples = self.division.examples
        return f"{type(self.model).__name__}, {examples} examples, {self.mode} mode"

    @property
    def findings(self) -> Findings:
        """What calls of the model have shown."""
        return self.objective.findings

    @property
    def coefficients(self) -> tuple[float, ...]:
        """The numbers c_b, one a batch, in L = sum_b c_b L_b.

        Raises:
            InputError: there are several batches, and how much each of them counts is not known;
                several processes measure together, and each has only some of the batches.
        """
        self._refuse_ranks()
        return self.shares

    @property
    def shares(self) -> tuple[float, ...]:
        """The coefficients of the batches that this process has, see `lla.ranks`."""
        if self._shares is None:
            self._shares = self._read_shares()
        return self._shares

    def at(self, theta: Tensor, buffers: Mapping[str, Tensor] | None = None) -> Problem:
        """The same problem with other parameters [P], and other buffers where given.

        It has tensors of its own, so later changes of the model do not affect it.
        """
        moved = copy.copy(self)
        moved._tensors = {
            **self.state(),
            **{n: t.clone() for n, t in self.space.unflatten(theta.detach()).items()},
            **(buffers or {}),
        }
        return moved

    def over(self, batches: Any) -> Problem:
        """The same model, loss, mode and seed over other batches.

        Raises:
            InputError: as for the class.
        """
        return self._over(batches)[0]

    def _over(self, batches: Any) -> tuple[Problem, Batch, Any]:
        """The problem over other batches, the first of them, and the model's output on it."""
        other = copy.copy(self)
        call = self.findings.call
        other.own_batches = Batches(batches, self.device, whole=call.takes_model)
        other.ranks, other.division, other._shares = ALONE, Division.of(other.own_batches), None
        batch, output = other._call_first(check=False)  # the model and the loss are known
        other.classes = classes_of(output, batch.y)
        return other, batch, output

    def part(self, examples: int) -> Problem:
        """The same problem over a few examples of its first batch, where that can be cut.

        A model may take batches of one size only, or a loss split them: then it is over the first
        batch.

        Raises:
            InputError: `examples` is no whole number from 1 on.
        """
        examples = whole_number("examples", examples, 1)
        batch = next(iter(self.own_batches))
        try:
            few = self.over(micro_batches(batch, examples)[:1])
            few.loss()
        except (InputError, NonFiniteError):
            return self.over([batch])
        return few

    def in_precision(self, precision: Precision) -> Problem:
        """The same problem, computed in another type; see the class.

        Raises:
            InputError: the model or the loss cannot be computed in this type.
        """
        other = copy.copy(self)
        other._set_precision(precision)
        return other

    def in_micro_batches(self, size: int, check: bool = True) -> Problem:
        """The same function of the parameters, computed from at most `size` examples at a time.

        Each batch is split along dimension 0 of its tensors. Its loss, and so its gradient and its
        Hessian, is the weighted mean (or the sum) over the parts, if the loss is a mean (or a sum)
        over examples that do not affect each other. This is checked: both problems' losses must
        agree, batch by batch, at the model's parameters and at others near them (with a last layer
        of zeros, for example, all networks have the same loss).

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
        # a larger one is the whole batch
        size = min(whole_number("micro_batch", size), max(self.batch_sizes))
        split = copy.copy(self)
        split.own_batches = self.own_batches.split(size)
        split._shares = self._shares_of(split.own_batches, size)
        if check and not self.division.idle and len(split.own_batches) > len(self.own_batches):
            theta = self.theta()
            step = gaussian(len(theta), theta, 0)
            step *= _NEARBY * theta.norm() / step.norm()
            for point in (theta, theta + step):
                self._check_same(split, point)
        return split

    def _shares_of(self, parts: Batches, size: int) -> tuple[float, ...]:
        """The coefficients of micro-batches of `size` examples: of each batch, shared out."""
        how = Reduction(False) if self._reduction is None else self._reduction
        amounts = [1.0 if how.sums else how.amount(part) for part in parts]
        shares: list[float] = []
        for whole, examples in zip(self.shares, self.batch_sizes, strict=True):
            own = amounts[len(shares) : len(shares) + math.ceil(examples / size)]
            total = 1.0 if how.sums else sum(own)
            shares += [whole * amount / total if total else math.nan for amount in own]
        return tuple(shares)

    def _check_same(self, split: Problem, theta: Tensor) -> None:
        """Raise unless each batch's loss at theta [P] is what its micro-batches give."""
        whole, parts = self.batch_losses(theta).tolist(), split.batch_losses(theta).tolist()
        largest, first = max(split.batch_sizes), 0
        shares = split.shares
        for index, size in enumerate(self.batch_sizes):
            own = slice(first, first + math.ceil(size / largest))
            first = own.stop
            together = sum(p * c for p, c in zip(parts[own], shares[own], strict=True))
            together /= self.shares[index]
            # the loss of a trained network has the rounding of an untrained one, ln C
            scale = max(map(abs, [whole[index], *parts[own], math.log(self.classes or 1)]))
            # a loss that is not finite is not compared: `loss` names it
            if abs(together - whole[index]) > ROUNDING[self.dtype] * scale:
                raise InputError(
                    f"the loss of batch {index} is {whole[index]:.6g} whole and {together:.6g} "
                    f"from micro-batches of {largest}: the loss is no mean or sum over examples, "
                    "or the network mixes examples, so leave micro_batch out"
                )

    def theta(self, parameters: Pattern | Sequence[Pattern] | None = None) -> Tensor:
        """A copy [P] of the model's present parameters, or of those that the patterns select."""
        return self.space.select(parameters).flatten(self._cast(self._current())).clone()

    def parameters(self) -> dict[str, Tensor]:
        """The model's present trainable parameters by name; not copies."""
        now = self._current()
        return self._cast({name: now[name] for name in self.space.names})

    def deterministic(self) -> AbstractContextManager[None]:
        """The context of calls of the model, see `lla.objective.Objective.deterministic`."""
        return self.objective.deterministic()

    def holding(
        self, theta: Tensor | None = None, state: Mapping[str, Tensor] | None = None
    ) -> AbstractContextManager[nn.Module]:
        """The model in the problem's mode, with copies of its tensors, in `deterministic()`.

        Args:
            theta: [P], the model's present parameters by default.
            state: as in `batch_loss`.
        """
        given = {} if theta is None else _parts_of(self.space, theta)
        return self.objective.holding({**(self.state() if state is None else state), **given})

    def held(
        self, theta: Tensor, space: ParameterSpace, state: dict[str, Tensor]
    ) -> AbstractContextManager[Any]:
        """The context for backward passes from `batch_loss` at theta, in `deterministic()`.

        A model with checkpoints is called again in a backward pass.
        """
        # parameters that need gradients, so that the same tensors are packed again
        parts = {n: p.detach().requires_grad_() for n, p in _parts_of(space, theta).items()}
        return self.objective.holding({**state, **parts})

    def run(self, model: nn.Module, batch: Batch) -> Any:
        """Call the model that `holding` gives on a batch, in `deterministic()`."""
        return self.objective.run(model, batch)

    def state(self) -> dict[str, Tensor]:
        """Copies of all parameters and buffers as they are now, by name."""
        return {name: tensor.clone() for name, tensor in self._cast(self._current()).items()}

    def batch_loss(
        self,
        batch: Batch,
        space: ParameterSpace | None = None,
        state: dict[str, Tensor] | None = None,
    ) -> Callable[[Tensor], Tensor]:
        """The function theta [P] -> loss of one batch, to be called in `deterministic()`.

        Args:
            batch: one of `problem.batches`.
            space: the parameters that theta holds, the problem's by default.
            state: the other parameters and the buffers, `self.state()` by default.
        """
        space = self.space if space is None else space
        # copies, so that further training does not change a kept graph
        fixed = self.state() if state is None else state
        return lambda theta: self.objective.value({**fixed, **self._parts(space, theta)}, batch)

    def batch_output(
        self, batch: Batch, space: ParameterSpace, state: dict[str, Tensor]
    ) -> Callable[[Tensor], Any]:
        """The function theta [P] -> the model's output on one batch, its logits where it has any.

        Arguments as of `batch_loss`.
        """
        return lambda theta: self.objective.output({**state, **self._parts(space, theta)}, batch)

    def outputs(
        self, theta: Tensor | None = None, state: dict[str, Tensor] | None = None
    ) -> Iterator[tuple[Tensor, Any]]:
        """The model's output and the targets, batch by batch, without a graph.

        Args:
            theta: [P], the model's present parameters by default.
            state: as in `batch_loss`.
        """
        self._refuse_ranks()
        theta = self.theta() if theta is None else theta
        state = self.state() if state is None else state
        for batch in self.own_batches:
            with torch.no_grad(), self.deterministic():
                output = self.batch_output(batch, self.space, state)(theta)
            yield output, batch.y

    def batch_losses(self, theta: Tensor | None = None) -> Tensor:
        """The loss of every batch [batches], without a graph, finite or not.

        Raises:
            InputError: the model or the loss rejects a batch; it is named.
        """
        theta, state = self.theta() if theta is None else theta, self.state()
        losses = []
        with torch.no_grad():
            for i, batch in enumerate(self.own_batches):
                said = (
                    f"the model or the loss rejects batch {i} (input {describe(batch.x)}, targets "
                    f"{describe(batch.y)})"
                )
                with self.deterministic(), rejections(said):
                    losses.append(self.batch_loss(batch, state=state)(theta))
        return torch.stack(losses)

    def loss(self, theta: Tensor | None = None) -> Tensor:
        """L(theta), a 0-d tensor, at the given vector [P] or at the model's present parameters.

        Raises:
            NonFiniteError: the loss of a batch is NaN or infinite; the batch is named.
        """
        with self.ranks.agreed():
            losses = self.batch_losses(theta)
            _check_finite("loss", losses.tolist())
        return self.pool(losses)

    def pool(self, values: Tensor) -> Tensor:
        """The value for all examples, from the values of this process's batches [batches, ...]."""
        return self.pooled(lambda: values, values[0])

    def pooled(self, compute: Callable[[], Tensor], like: Tensor) -> Tensor:
        """The value for all examples, where this process may fail to compute its part.

        Args:
            compute: gives the values of this process's batches [batches, ...].
            like: of the shape, type and device of the value.
        """

        def part() -> Tensor:
            values = compute()
            if self.shares == (1.0,):
                return values[0]
            shares = torch.tensor(self.shares, dtype=torch.float64).to(values)
            return torch.tensordot(shares, values, dims=1)

        return self.ranks.total(part, like)

    def own_part(self) -> Problem:
        """The problem of this process's batches alone; its loss is one of the summands of L."""
        other = copy.copy(self)
        other.ranks = ALONE
        return other

    def gradient(self, theta: Tensor | None = None) -> Tensor:
        """The gradient of L [P] at the given vector [P] or at the model's present parameters.

        Raises:
            InputError: PyTorch has no derivative of an operation.
            NonFiniteError: the loss or the gradient of a batch is NaN or infinite; the batch is
                named.
        """
        return self.loss_and_gradient(theta)[1]

    def loss_and_gradient(self, theta: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """L, a 0-d tensor, and its gradient [P], from one pass; see `loss` and `gradient`.

        Raises:
            InputError: PyTorch has no derivative of an operation.
            NonFiniteError: the loss or the gradient of a batch is NaN or infinite; the batch is
                named.
        """
        theta = (self.theta() if theta is None else theta.detach()).requires_grad_()
        with self.ranks.agreed():
            loss, gradient = self._own_loss_and_gradient(theta)
        if self.ranks.count == 1:
            return loss, gradient
        both = self.ranks.summed(torch.cat([loss[None].to(gradient), gradient]))
        return both[0], both[1:]

    def _own_loss_and_gradient(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """The part of both that is of this process's batches, at theta [P]."""
        total, state = torch.zeros_like(theta), self.state()
        losses: list[Tensor] = []
        norms = []
        for batch, share in zip(self.own_batches, self.shares, strict=True):
            with self.deterministic(), torch.enable_grad():
                value = self.batch_loss(batch, state=state)(theta)
                losses.append(value.detach())
                if not value.requires_grad:  # a constant
                    norms.append(0.0)
                    continue
                with self.held(theta, self.space, state), missing_derivatives_named():
                    (gradient,) = torch.autograd.grad(value, theta, materialize_grads=True)
            norms.append(gradient.abs().max().item())
            total.add_(gradient, alpha=share)
        _check_finite("loss", torch.stack(losses).tolist())
        _check_finite("largest element of the gradient", norms)
        return self.own_part().pool(torch.stack(losses)), total

    def _current(self) -> Mapping[str, Tensor]:
        """All parameters and buffers as they are now; not copies."""
        return current_tensors(self.model) if self._tensors is None else self._tensors

    def _cast(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the model's own type in the problem's."""
        own = self.objective.own_dtype
        return {n: t.to(self.dtype) if t.dtype == own else t for n, t in tensors.items()}

    def _parts(self, space: ParameterSpace, theta: Tensor) -> dict[str, Tensor]:
        """The parameters in a vector [P] by name, as a call of the model takes them."""
        parts = _parts_of(space, theta)
        graph = torch.is_grad_enabled() or in_functional_transform() or self.findings.needs_graph
        if not graph:
            # a loss may look at requires_grad, of all parameters as an optimiser would
            return {name: part.detach().requires_grad_() for name, part in parts.items()}
        return parts

    def _set_precision(self, precision: Precision) -> None:
        """Compute in another type from now on."""
        self.space = replace(self.space, dtype=getattr(torch, precision))
        self.objective = replace(self.objective, dtype=self.dtype)
        if self._tensors is not None:
            self._tensors = self._cast(self._tensors)
        self._call_first(check=False)

    def _call_first(self, check: bool) -> tuple[Batch, Any]:
        """The first batch, and the model's output on it; an error for a wrong input or target."""
        batch = next(iter(self.own_batches))
        return batch, try_call(self.objective, self.state(), batch, check)

    def _read_reduction(self, batch: Batch, output: Any) -> tuple[Reduction | None, bool]:
        """How the loss puts examples together, and whether this has yet to be checked."""
        call = self.findings.call
        graph = torch.set_grad_enabled(self.findings.needs_graph)
        with graph, self.deterministic(), self.holding() as model:
            own = call.loss is None and own_loss(output) is not None
            if call.takes_model or own or self.findings.by_parameters:
                found = declared(partial(self.objective.of_copies, model), batch)
                return found or Reduction(False), found is None
            given = output if call.whole_output else logits(output)
            return reduction_of(call.loss or F.cross_entropy, given, batch), False

    def _refuse_ranks(self) -> None:
        """Refuse what needs all batches in one process."""
        if self.ranks.count > 1:
            raise InputError(
                f"this is measured by one process, and {self.ranks.count} measure together: start "
                "one process, or call it within `lla.alone()`"
            )

    def _facts(self, loss: Loss | None) -> dict[str, str]:
        """What all ranks must have in common."""
        how = self._reduction
        return {
            "the network": type(self.model).__name__,
            "the hash of the weights": tensors_sha256(self.state().items())[:12],
            "the type": str(self.dtype),
            "the mode": self.mode,
            "the seed": str(self.seed),
            "the loss": getattr(loss, "__qualname__", type(loss).__qualname__),
            "what the loss is over batches": "unknown" if how is None else
                f"{'a sum' if how.sums else 'a mean'} by {how.amount.__qualname__.strip('_')}",
            "check": str(self.check),
        }  # fmt: skip

    def _shares_by(self, weights: Sequence[float]) -> tuple[float, ...]:
        """The coefficients by the caller's weights of the batches that were given here."""
        division = self.division
        with self.ranks.agreed():
            given = division.count if division.whole else len(division.indices)
            found = [] if given == 0 else _checked_weights(weights, given)
        total = sum(found) if division.whole else sum(self.ranks.gathered(sum(found)))
        if division.idle:
            return (0.0,) * len(self.own_batches)
        return tuple(weight / total for weight in division.own(found))

    def _read_shares(self) -> tuple[float, ...]:
        """The coefficients from what the loss of each batch is a mean over."""
        count, idle = self.division.count, self.division.idle
        if count == 1:
            return (0.0 if idle else 1.0,)
        amounts = [0.0] * len(self.own_batches)
        with self.ranks.agreed():
            if self._reduction is None:
                raise InputError(
                    f"the loss of batch 0 is neither the mean nor the sum over its examples, so "
                    f"what each of {count} batches weighs cannot be told: give weights=, one "
                    "number a batch"
                )
            if not self._reduction.sums and self.check:
                if self._compare:
                    self._check_mean()
                elif self._reduction == Reduction(False):
                    self._check_others()
            if not idle:
                how = self._reduction
                amounts = [1.0 if how.sums else how.amount(batch) for batch in self.own_batches]
        if self._reduction is not None and self._reduction.sums:
            return tuple(amounts)
        total = sum(self.ranks.gathered(sum(amounts)))
        return tuple(amount / total for amount in amounts)

    def _check_others(self) -> None:
        """Raise unless other batches show the same reduction as the first, a mean by size.

        The first may hide it, if it has no padding, for example. A few batches are looked at.
        """
        count = len(self.own_batches)
        looked = np.linspace(1, count - 1, min(count - 1, _LOOKED)).round()
        for index, batch in enumerate(self.own_batches):
            if index not in looked:
                continue
            _, part, output = self._over([batch])
            if self._read_reduction(part, output)[0] != self._reduction:
                raise InputError(
                    f"the loss of batch {index} is not the mean over its examples, as that of "
                    f"batch 0 is, so what each of {count} batches weighs cannot be told: give "
                    "weights=, one number a batch"
                )

    def _check_mean(self) -> None:
        """Raise unless a loss that the model computes is a mean over the examples of a batch.

        Only the first batch is looked at, in eval mode, where its examples do not affect each
        other. One that cannot be cut is not compared.
        """
        first = next(iter(self.own_batches))
        alone = self.over([first])
        alone.mode = "eval"
        alone.objective = replace(self.objective, setting=setting_of(self.model, "eval"))
        try:
            split = alone.in_micro_batches(max(1, 2 * first.size // 3), check=False)
        except InputError:
            return
        try:
            alone._check_same(split, self.theta())
        except InputError as error:
            raise InputError(
                "the loss that the model gives for batch 0 is no mean over its examples, so what "
                f"each of {self.division.count} batches weighs cannot be told: give weights=, one "
                "number a batch, such as the number of its labels"
            ) from error


def check_is_problem(given: Any, call: str) -> None:
    """Check that a function of problems is given one.

    Args:
        given: its first argument.
        call: what to write, such as "lla.loss_plane(lla.Problem(model, batches))".

    Raises:
        InputError: it is something else.
    """
    if not isinstance(given, Problem):
        raise InputError(
            f"the first argument is {type(given).__name__}, not a lla.Problem: give {call}"
        )


def _parts_of(space: ParameterSpace, theta: Tensor) -> dict[str, Tensor]:
    """The parameters in a vector [P] by name, as a call of the model takes them: most are views.

    `torch.view_as_complex` needs an even offset, of gradients as well. A product is a new tensor,
    and so are all of its derivatives; a copy hands on the gradient that it gets.
    """
    parts = space.unflatten(theta)
    for (name, shape, place), part in zip(space, list(parts.values()), strict=True):
        if place.start % 2 and shape and shape[-1] == 2:
            parts[name] = part * 1
    return parts


def _check_finite(what: str, values: Sequence[float]) -> None:
    """Check that the values of the batches are finite.

    Raises:
        NonFiniteError: one is NaN or infinite; its batch is named.
    """
    bad = [index for index, value in enumerate(values) if not math.isfinite(value)]
    if bad:
        raise NonFiniteError(
            f"the {what} of batch {bad[0]} is {values[bad[0]]} ({len(bad)} of {len(values)} "
            "batches are not finite): check its inputs and the weights"
        )


def _checked_weights(weights: Sequence[float], batches: int) -> list[float]:
    """Weights of batches as numbers.

    Raises:
        InputError: not one number a batch; a negative one, or one that is not finite; all are zero.
    """
    found = [float(weight) for weight in weights]
    total = sum(found)
    if len(found) != batches or not (min(found, default=0) >= 0 and 0 < total < math.inf):
        raise InputError(
            f"the {len(found)} weights for {batches} batches sum to {total:g}, the smallest is "
            f"{min(found, default=0):g}: give one finite number a batch, none negative, not all 0"
        )
    return found
