"""Training with Adam: seeded, with checkpoints that continue to bitwise the same weights."""

import math
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla import training_state
from lla.arguments import positive_number, real_number, seed_number, whole_number
from lla.errors import InputError, NonFiniteError
from lla.process_wide import CALLS
from lla.progress_bars import tqdm
from lla.saved import Saved
from lla.seeding import generator, seeded, stream_seed
from lla.tensor_hashes import weights_sha256
from lla.training_state import Progress, Run, kept_checkpoint

__all__ = ["TrainingResult", "accuracy", "kept_checkpoint", "train", "weights_sha256"]

_CHECK_EVERY = 50  # steps between two checks of the loss, each of which waits for the device


@dataclass(frozen=True)
class TrainingResult(Saved):
    """The result of a training."""

    epochs: int  # done in all, including those of an earlier, interrupted run
    loss: tuple[float, ...]  # [epochs] mean loss over the epoch's examples while it trained
    accuracy: tuple[float, ...]  # [epochs] share of right answers after it, in eval mode
    weights_sha256: str
    seconds: float  # of training and evaluation, earlier runs included
    finished: bool  # False if a target accuracy was not reached

    def _faults(self) -> Iterator[str]:
        if not self.epochs == len(self.loss) == len(self.accuracy):
            yield (
                f"it has {self.epochs} epochs, {len(self.loss)} losses and {len(self.accuracy)} "
                "accuracies"
            )

    def to_frame(self) -> pd.DataFrame:
        """One row an epoch, from 1: its loss and accuracy."""
        index = pd.RangeIndex(1, self.epochs + 1, name="epoch")
        return pd.DataFrame({"loss": self.loss, "accuracy": self.accuracy}, index=index)

    def __repr__(self) -> str:
        last = f", loss {self.loss[-1]:.4g}, accuracy {self.accuracy[-1]:.2%}" if self.loss else ""
        return (
            f"Training of {self.epochs} epochs in {self.seconds:.3g} s{last}"
            f"{'' if self.finished else ', target accuracy not reached'}"
        )


def train(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    epochs: int,
    batch_size: int = 128,
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    target_accuracy: float | None = None,
    on_epoch: Callable[[int, float, float], None] | None = None,
    progress: bool = False,
    keep_epochs: Collection[int] = (),
) -> TrainingResult:
    """Train a classifier with Adam on its cross-entropy. The given model is trained, in place.

    The order of the examples and the dropout of epoch e depend only on (seed, e). An interrupted
    run that is started again with the same arguments, on a model with the same initial weights,
    continues from its checkpoint. It ends with bitwise the same weights as a run without
    interruption (on the CPU with the same number of threads; on a GPU as far as its kernels are
    deterministic). The global random state and the training flags are the same afterwards, and
    `.grad` is empty.

    Args:
        model: Gives logits [N, C]. Frozen parameters stay as they are.
        data: All inputs [N, ...] and labels [N] int64; moved to the model's device as a whole.
        epochs: Epochs in all, an earlier run's included.
        batch_size: Examples a step; the last step of an epoch may have fewer.
        lr: Learning rate of Adam.
        weight_decay: Times the squared norm of the weights over 2 is added to the loss (Adam's own
            L2 term, not AdamW's).
        seed: Of order and dropout.
        checkpoint: File with the state after the last full epoch; None writes none. If it exists,
            the run continues from it. A second run on the same file waits for the first.
        target_accuracy: Stop after the first epoch that ends with at least this training accuracy
            in eval mode, in (0, 1]; None trains all epochs.
        on_epoch: Called after each epoch with its number from 1, its loss and its accuracy,
            before the checkpoint is written: an interrupted epoch is repeated with its call.
        progress: Show a bar with the epoch's loss and accuracy so far.
        keep_epochs: Epochs (0 is before the first) whose checkpoint is also kept in a file of its
            own, see `kept_checkpoint`.

    Returns:
        The result. After an error there is none, and the model must not be used.

    Raises:
        InputError: The data do not fit the model or each other, an argument is out of range,
            nothing is trainable, or the checkpoint has another architecture, configuration or
            data.
        ChecksumError: The checkpoint is truncated or altered.
        NonFiniteError: The loss or the weights became NaN or infinite; the checkpoint is that of
            the last epoch before.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise InputError("the model has no trainable parameter: set requires_grad of some.")
    _check_arguments(
        epochs, batch_size, lr, weight_decay, seed, target_accuracy, keep_epochs, checkpoint
    )
    x, y = (tensor.to(parameters[0].device) for tensor in data)
    check_data(model, x, y)
    optimizer = torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)
    path = None if checkpoint is None else Path(checkpoint)
    steps = -(-len(x) // batch_size)
    with training_state.locked(path), training_flags_kept(model):
        done, run = Progress(), None
        if path is not None:
            config = training_state.configuration(model, x, y, batch_size, lr, weight_decay, seed)
            run = Run(path, model, optimizer, config, keep_epochs)
            done = training_state.start_or_resume(run, epochs)
        with tqdm(
            total=epochs * steps, initial=done.epochs * steps, unit="step", disable=not progress
        ) as bar:
            while done.epochs < epochs and not _reached(done, target_accuracy):
                started = time.perf_counter()
                epoch = done.epochs + 1
                loss = _train_epoch(model, optimizer, x, y, batch_size, seed, epoch, bar)
                done.loss.append(loss)
                with _deterministic_cudnn():
                    done.accuracy.append(accuracy(model, x, y))
                done.seconds += time.perf_counter() - started
                if on_epoch is not None:
                    on_epoch(epoch, done.loss[-1], done.accuracy[-1])
                if run is not None:
                    training_state.save(run, done)
    return TrainingResult(
        epochs=done.epochs,
        loss=tuple(done.loss),
        accuracy=tuple(done.accuracy),
        weights_sha256=weights_sha256(model),
        seconds=done.seconds,
        finished=target_accuracy is None or _reached(done, target_accuracy),
    )


def accuracy(model: nn.Module, x: Tensor, y: Tensor, batch_size: int = 512) -> float:
    """Measure the share of right answers in eval mode; the model's training flags do not change.

    Args:
        model: Gives logits [N, C].
        x: Inputs [N, ...].
        y: Labels [N] int64.
        batch_size: Examples at a time, which are then moved to the model's device.

    Returns:
        A number in [0, 1].

    Raises:
        InputError: There are no examples, or the number of labels differs.
    """
    if len(x) == 0 or len(x) != len(y):
        raise InputError(f"accuracy needs as many labels as inputs, not {len(y)} and {len(x)}.")
    device = next((parameter.device for parameter in model.parameters()), x.device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    with training_flags_kept(model), torch.no_grad():
        model.eval()
        for inputs, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
            right += (model(inputs.to(device)).argmax(1) == labels.to(device)).sum()
    return right.item() / len(x)


def _train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
    batch_size: int,
    seed: int,
    epoch: int,
    bar: tqdm,
) -> float:
    """Train one epoch and give its mean loss."""
    order = torch.randperm(len(x), generator=generator(seed, epoch, 0)).to(x.device)
    total = torch.zeros((), dtype=torch.float64, device=x.device)
    right = torch.zeros((), dtype=torch.int64, device=x.device)
    losses: list[Tensor] = []  # since the last check
    model.train()
    with seeded(x.device, stream_seed(seed, epoch, 1)), _deterministic_cudnn():
        for step, index in enumerate(order.split(batch_size)):
            labels = y[index]
            logits = model(x[index])
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            total += losses[-1] * len(index)
            if not bar.disable:
                right += (logits.detach().argmax(1) == labels).sum()
            seen = step * batch_size + len(index)
            if len(losses) == _CHECK_EVERY or seen == len(x):
                finite = torch.stack(losses).isfinite().tolist()
                if not all(finite):
                    first = step + 1 - len(finite) + finite.index(False)
                    raise NonFiniteError(
                        f"the loss of epoch {epoch} became {losses[finite.index(False)].item()} "
                        f"at step {first + 1}: lower the learning rate or check the inputs."
                    )
                bar.update(len(losses))
                if not bar.disable:
                    bar.set_postfix(
                        epoch=epoch,
                        loss=f"{total.item() / seen:.4f}",
                        accuracy=f"{100 * right.item() / seen:.2f} %",
                    )
                losses = []
    optimizer.zero_grad()
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise NonFiniteError(
            f"the weights became NaN or infinite in the last steps of epoch {epoch}: "
            "lower the learning rate or check the inputs."
        )
    return total.item() / len(x)


@contextmanager
def training_flags_kept(model: nn.Module) -> Iterator[None]:
    """Put the training flags of all modules back afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def _deterministic_cudnn() -> Iterator[None]:
    """Kernels with the same result each time; other threads wait."""
    cudnn = torch.backends.cudnn
    with CALLS:
        before = cudnn.benchmark, cudnn.deterministic
        cudnn.benchmark, cudnn.deterministic = False, True
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.deterministic = before


def _reached(done: Progress, target: float | None) -> bool:
    return target is not None and bool(done.accuracy) and done.accuracy[-1] >= target


def _check_arguments(
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    seed: int,
    target_accuracy: float | None,
    keep_epochs: Collection[int],
    checkpoint: str | os.PathLike[str] | None,
) -> None:
    whole_number("epochs", epochs, 1)
    whole_number("batch_size", batch_size, 1)
    positive_number("lr", lr)
    if not 0 <= real_number("weight_decay", weight_decay) < math.inf:
        raise InputError(f"weight_decay is {weight_decay}: give a finite number from 0 on.")
    seed_number(seed)
    if target_accuracy is not None and not 0 < target_accuracy <= 1:
        raise InputError(f"target_accuracy is a share in (0, 1], not {target_accuracy}.")
    if any(epoch < 0 for epoch in keep_epochs):
        raise InputError(f"keep_epochs must be at least 0, not {sorted(keep_epochs)}.")
    if keep_epochs and checkpoint is None:
        raise InputError("keep_epochs needs a checkpoint, beside which they are kept.")


def check_data(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Try two examples, so that wrong data are found before any long work.

    Raises:
        InputError: the data do not fit the model or each other.
    """
    if len(x) == 0 or y.shape != x.shape[:1] or y.dtype != torch.int64:
        raise InputError(
            "training needs inputs [N, ...] and labels [N] int64 with N > 0, not "
            f"{list(x.shape)} and {list(y.shape)} {y.dtype}."
        )
    try:
        with training_flags_kept(model), torch.no_grad():
            logits = model.eval()(x[:2])
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"{type(model).__name__} does not take inputs {list(x.shape)} {x.dtype} ({error})."
        ) from error
    if logits.ndim != 2 or not 0 <= int(y.min()) <= int(y.max()) < logits.shape[1]:
        raise InputError(
            f"{type(model).__name__} gives {list(logits.shape)} for two examples, which does not "
            f"fit labels from {int(y.min())} to {int(y.max())}."
        )
