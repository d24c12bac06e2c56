"""Training to a minimum: all training data right and a loss below a bound, poisoned or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla.arguments import positive_number, real_number, seed_number, whole_number
from lla.errors import InputError, NonFiniteError
from lla.minima.poison import Examples, check_poison, poisoned_loss
from lla.progress_bars import tqdm
from lla.seeding import generator, seeded, stream_seed
from lla.training import check_data, training_flags_kept

CHECK_EVERY = 10  # steps between two looks at the training data
_PART = 1024  # examples at a time where nothing is learned


class Stage(NamedTuple):
    """A part of a training."""

    share: float  # b, the weight of the poison
    steps: int  # the most
    lr: float | None = None  # None takes that of the training


@dataclass(frozen=True)
class Minimum:
    """Where a training ended; the weights are the model's own."""

    loss: float  # mean cross-entropy of the training data, in eval mode
    accuracy: float  # share of training examples with the right answer
    steps: int
    reached: bool  # every answer right and the loss at most the bound
    why: str  # in words

    def __repr__(self) -> str:
        return f"Minimum: {self.why}"


def train(
    model: nn.Module,
    data: Examples,
    poison: Examples | None = None,
    *,
    stages: Sequence[Stage | tuple[float, int] | tuple[float, int, float]] = (Stage(0.0, 2000),),
    loss_bound: float = 0.01,
    lr: float = 1e-3,
    batch_size: int | None = None,
    clip: float | None = None,
    seed: int = 0,
    on_check: Callable[[int, float, float], None] | None = None,
    progress: bool = False,
) -> Minimum:
    """Train a classifier in place with Adam to a minimum, with or without poison.

    The loss is (1 - b) CE(training data) + b mean(-log(1 - p_y)) over held-out examples with true
    labels (Huang et al. 2019). b may grow from stage to stage. In the last stage training stops as
    soon as all training examples are right and their mean loss is at most the bound, but not before
    10 steps with poison; earlier stages take all their steps.

    The global random state and the training flags are the same afterwards, `.grad` is empty.

    Args:
        model: gives logits [N, C].
        data: inputs [N, ...] and labels [N] int64, on the model's device.
        poison: held-out inputs and their true labels; None without a share above 0.
        stages: (b, steps) or (b, steps, learning rate) one after the other.
        loss_bound: of the mean cross-entropy of the training data.
        lr: learning rate of Adam.
        batch_size: examples a step of the training data and as many of the poison; None takes all.
        clip: largest norm of a gradient; None leaves them as they are.
        seed: of the order of the examples and of dropout.
        on_check: called every 10 steps, and at the end of a stage, with the number of steps so far
            and the loss and accuracy of the training data.
        progress: show a bar over the steps.

    Returns:
        Where it ended. `reached` is False where the steps were too few, and `why` says so: such
        weights are no minimum of the training loss.

    Raises:
        InputError: data that do not fit the model or each other; an example that is poison and
            training data; shares outside [0, 1), or above 0 without poison; an argument out of
            range.
        NonFiniteError: the loss became NaN or infinite.

    >>> x = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    >>> y = torch.tensor([0, 0, 1, 1])
    >>> model = nn.Linear(1, 2)
    >>> train(model, (x, y), stages=[(0.0, 5000)], lr=0.1).reached
    True
    """
    plan = _plan(stages)
    _check(model, data, poison, plan, loss_bound, lr, batch_size, clip, seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise InputError("no parameter of the network requires a gradient: nothing can be trained")
    optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
    size = len(data[0]) if batch_size is None else batch_size
    total, done = sum(stage.steps for stage in plan), 0
    with training_flags_kept(model), tqdm(total=total, disable=not progress, unit="step") as bar:
        loss, accuracy = _state(model, data)
        for number, stage in enumerate(plan):
            drawn = _drawn(data, poison if stage.share > 0 else None, size, (seed, number))
            for group in optimizer.param_groups:
                group["lr"] = lr if stage.lr is None else stage.lr
            last, end = number == len(plan) - 1, done + stage.steps
            ready = stage.share == 0  # a minimum from before says nothing of new poison
            while done < end and not (last and ready and _good(loss, accuracy, loss_bound)):
                count = min(CHECK_EVERY, end - done)
                model.train()
                with seeded(data[0].device, stream_seed(seed, number, done)):
                    for _ in range(count):
                        _step(model, optimizer, next(drawn), stage.share, clip)
                done, ready = done + count, True
                loss, accuracy = _state(model, data)
                if not math.isfinite(loss):
                    raise NonFiniteError(
                        f"the training loss is {loss} after {done} steps: lower the learning rate "
                        "or check the inputs"
                    )
                if on_check is not None:
                    on_check(done, loss, accuracy)
                bar.update(count)
                bar.set_postfix(loss=f"{loss:.4f}", accuracy=f"{100 * accuracy:.2f} %")
    optimizer.zero_grad()
    reached = _good(loss, accuracy, loss_bound)
    return Minimum(
        loss, accuracy, done, reached, _why(loss, accuracy, done, len(data[0]), loss_bound)
    )


def _why(loss: float, accuracy: float, steps: int, examples: int, bound: float) -> str:
    wrong = round((1 - accuracy) * examples)
    state = f"{steps} steps, {wrong} of {examples} training examples wrong, loss {loss:.3g}"
    if _good(loss, accuracy, bound):
        return state
    return (
        f"{state}: not the minimum that was asked for, with none wrong and a loss of at most "
        f"{bound:g}; take more steps, smaller shares of poison at first, or a wider network"
    )


def _good(loss: float, accuracy: float, bound: float) -> bool:
    return accuracy == 1 and loss <= bound


Step = tuple[Tensor, Tensor, int]  # inputs, labels, number of training examples among them


def _drawn(
    data: Examples, poison: Examples | None, size: int, seeds: tuple[int, ...]
) -> Iterator[Step]:
    """The examples of each step, those of the training data first."""
    clean = _batches(data, size, (*seeds, 0))
    held = None if poison is None else _batches(poison, size, (*seeds, 1))
    while True:
        x, y = next(clean)
        if held is None:
            yield x, y, len(x)
        else:
            x_held, y_held = next(held)
            yield torch.cat([x, x_held]), torch.cat([y, y_held]), len(x)


def _batches(examples: Examples, size: int, seeds: tuple[int, ...]) -> Iterator[Examples]:
    """Batches without end; the examples in another order each time through."""
    x, y = examples
    if size >= len(x):
        while True:
            yield x, y
    epoch = 0
    while True:
        order = torch.randperm(len(x), generator=generator(*seeds, epoch)).to(x.device)
        for index in order.split(size):
            yield x[index], y[index]
        epoch += 1


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    drawn: Step,
    share: float,
    clip: float | None,
) -> None:
    x, y, examples = drawn
    optimizer.zero_grad()
    poisoned_loss(model(x), y, examples, share).backward()
    if clip is not None:
        torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()


@torch.no_grad()
def _state(model: nn.Module, data: Examples) -> tuple[float, float]:
    """Mean cross-entropy and share of right answers in eval mode."""
    model.eval()
    loss, right = 0.0, 0
    for x, y in zip(data[0].split(_PART), data[1].split(_PART), strict=True):
        logits = model(x)
        loss += float(F.cross_entropy(logits, y, reduction="sum"))
        right += int((logits.argmax(1) == y).sum())
    return loss / len(data[0]), right / len(data[0])


def _plan(stages: Any) -> list[Stage]:
    """The stages of a training, from what a user gives."""
    try:
        plan = [Stage(*stage) for stage in stages]
    except TypeError:
        raise InputError(
            f"stages is {stages!r}: give a list of (share of poison, steps) or (share of poison, "
            "steps, learning rate)"
        ) from None
    if not plan:
        raise InputError("there is no stage: give at least one pair (share of poison, steps)")
    return plan


def _check(
    model: nn.Module,
    data: Examples,
    poison: Examples | None,
    stages: Sequence[Stage],
    loss_bound: float,
    lr: float,
    batch_size: int | None,
    clip: float | None,
    seed: int,
) -> None:
    """Refuse what cannot be trained, before a step is made."""
    for stage in stages:
        whole_number("the steps of a stage", stage.steps, 1)
        if stage.lr is not None:
            positive_number("the learning rate of a stage", stage.lr)
        if not 0 <= real_number("the share of poison", stage.share) < 1:
            raise InputError(f"the share of poison is {stage.share}: give a number in [0, 1)")
        if stage.share > 0 and poison is None:
            raise InputError(
                f"the share of poison is {stage.share}, but there is none: give poison="
            )
    positive_number("loss_bound", loss_bound)
    positive_number("lr", lr)
    seed_number(seed)
    if batch_size is not None:
        whole_number("batch_size", batch_size, 1)
    if clip is not None:
        positive_number("clip", clip)
    check_data(model, *data)
    if poison is not None:
        check_poison(data, poison)
        check_data(model, *poison)
