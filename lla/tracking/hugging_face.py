"""The criteria over a training by Hugging Face's `transformers.Trainer`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from lla._torchvision import import_torchvision
from lla.errors import in_one_line
from lla.tracking.tracker import Tracker

try:
    import_torchvision()  # transformers imports it
    from transformers import (
        Trainer,
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )
except ImportError as error:
    raise ImportError(
        f"lla.tracking.hugging_face cannot import transformers ({in_one_line(error)}): install it "
        "with pip install transformers accelerate"
    ) from error


class CriteriaCallback(TrainerCallback):
    """Follows r_e, K_H1 and K_H05 through a training, and logs them by `trainer.log`.

    They are logged as `criteria/re` and so on, so they are in `trainer.state.log_history` and
    wherever the trainer reports to. When is measured, and what that leaves alone, is said at
    `lla.Tracker`. The loss is the model's own, if no `loss` is given. Where the trainer computes in
    half precision by autocast (`bf16`, `fp16`), the model is measured without autocast.

    Args:
        trainer: to which the callback is added.
        batches: see `lla.Problem`, for example `list(islice(trainer.get_eval_dataloader(), 8))`.
        **options: of `lla.Tracker`; an error in them is raised when the training begins.

    Attributes:
        tracker: of the present training, or the last one; None before the first.

        trainer.add_callback(CriteriaCallback(trainer, batches, every=500, csv="criteria.csv"))
        trainer.train()
    """

    def __init__(self, trainer: Trainer, batches: Any, **options: Any) -> None:
        self.tracker: Tracker | None = None
        self._trainer = trainer
        self._batches = batches
        self._options = options

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        """Begin to follow the model."""
        model = given["model"]
        with _without_autocast(model):
            self.tracker = Tracker(model, self._batches, **self._options)

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **given: Any,
    ) -> None:
        """Measure if it is time to, and log what was measured."""
        assert self.tracker is not None
        with _without_autocast(self.tracker.model):
            row = self.tracker.step(state.global_step, epoch=state.epoch)
        if row is not None:
            due = control.should_log  # which a log sets back, so that the loss would not be logged
            self._trainer.log(row.scalars())
            control.should_log = due


@contextmanager
def _without_autocast(model: nn.Module) -> Iterator[None]:
    """The model with its own forward, in place of the one that accelerate has wrapped."""
    wrapped, own = (vars(model).get(name) for name in ("forward", "_original_forward"))
    if own is None or wrapped is None:
        yield
        return
    model.forward = own
    try:
        yield
    finally:
        model.forward = wrapped
