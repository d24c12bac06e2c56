"""The criteria over a training by Lightning's `Trainer`."""

from __future__ import annotations

from typing import Any

from lla._torchvision import import_torchvision
from lla.errors import in_one_line
from lla.tracking.tracker import Tracker

try:
    import_torchvision()  # lightning imports it
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError(
        f"lla.tracking.lightning cannot import lightning ({in_one_line(error)}): install it with "
        "pip install lightning"
    ) from error


class CriteriaCallback(Callback):
    """Follows r_e, K_H1 and K_H05 through a training, and gives them to the trainer's loggers.

    They are logged as `criteria/re` and so on, at the trainer's `global_step`. When is measured,
    and what that leaves alone, is said at `lla.Tracker`. The model's `forward` is called on the x
    of a batch (x, y); `loss` is that of its output, the cross-entropy by default, because
    `training_step` may log.

    Args:
        batches: see `lla.Problem`.
        **options: of `lla.Tracker`; an error in them is raised when the training begins.

    Attributes:
        tracker: of the present training, or the last one; None before the first.

        Trainer(callbacks=[CriteriaCallback(batches, every=500, loss=loss, csv="criteria.csv")])
    """

    def __init__(self, batches: Any, **options: Any) -> None:
        self.tracker: Tracker | None = None
        self._step = 0
        self._batches = batches
        self._options = options

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to follow the model."""
        self.tracker = Tracker(pl_module, self._batches, **self._options)
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure if it is time to, and log what was measured."""
        assert self.tracker is not None
        step, epoch = trainer.global_step, trainer.current_epoch
        if step == self._step:  # gradients are still added up
            return
        self._step = step
        row = self.tracker.step(step, epoch=epoch)
        if row is not None:
            for logger in trainer.loggers:
                logger.log_metrics({**row.scalars(), "epoch": epoch}, step=step)
