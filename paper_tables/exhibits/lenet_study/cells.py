"""What could make K_H1, K_H05 and r_e of trained LeNet the paper's: one trial each.

Every cell changes one thing of a common start: of the training (weight decay, the range of the
inputs, batch size, learning rate, length) or of the measurement (batch size, Lanczos steps,
precision, the imitated public code). A trial's training takes a sixth of MNIST, so that its loss
comes as far down in minutes as that of the whole set in hours. Computed with `--study`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from lla import data
from lla.data import ImageSet
from lla.training import TrainingResult, weights_sha256
from paper_tables.engine.cells import Cell, Settings, SharedStep
from paper_tables.engine.fidelity import cell_fidelity
from paper_tables.engine.records import Record, Source
from paper_tables.engine.session import session_cached
from paper_tables.inputs import image_sets, lenet, training
from paper_tables.measure import spectra

TABLE = "lenet_study"
NET = "lenet"
METRICS = ("kh1", "kh05", "re", "loss")
IMAGES = 10_000  # of the training
EPOCHS = 100
BATCHES, BATCH_SIZE, STEPS = 4, 512, 100
SECONDS_AN_IMAGE = 1.6e-4  # of a training step, and of a product in float64, on 2 CPU cores

# Range of the inputs -> (subtracted, divisor), of values in [0, 1]
RANGES = {"[0, 1]": (0.0, 1.0), "normalised": (0.1307, 0.3081), "[0, 255]": (0.0, 1 / 255)}


@dataclass(frozen=True)
class Training:
    """How a trial trains."""

    inputs: str = "[0, 1]"  # one of RANGES
    weight_decay: float = 0.0
    batch_size: int = training.BATCH_SIZE
    lr: float = training.LR
    epochs: int = EPOCHS


@dataclass(frozen=True)
class Trial:
    """One setting; the defaults are the common start."""

    name: str
    training: Training = Training()
    batch_size: int = BATCH_SIZE  # of the measurement
    steps: int = STEPS
    dtype: str = "float64"
    legacy: bool = False


START = Trial("as it is")
TRIALS = (
    START,
    Trial("weight decay 1e-4", Training(weight_decay=1e-4)),
    Trial("normalised inputs", Training(inputs="normalised")),
    Trial("inputs in [0, 255]", Training(inputs="[0, 255]")),
    Trial("learning rate 1e-4", Training(lr=1e-4)),
    Trial("training batch of 1024", Training(batch_size=1024)),
    Trial("30 epochs", Training(epochs=30)),
    Trial("batches of 64", batch_size=64),
    Trial("batches of 1024", batch_size=1024),
    Trial("30 steps", steps=30),
    Trial("200 steps", steps=200),
    Trial("float32", dtype="float32"),
    Trial("public code", legacy=True),
    Trial("public code, float32", legacy=True, dtype="float32"),
)


def cells(settings: Settings) -> list[Cell]:
    """The cells of the study, none unless the profile asks for studies."""
    if not settings.profile.study:
        return []
    return [_cell(settings, trial) for trial in TRIALS]


def _cell(settings: Settings, trial: Trial) -> Cell:
    found = _images(settings)
    size = min(trial.batch_size, len(found) // BATCHES)
    config: dict[str, Any] = {
        "model": NET,
        "training": _training_config(settings, trial.training),
        **spectra.criteria_config("eval", trial.steps, 1, "retained", trial.legacy),
        "batches": BATCHES,
        "batch_size": size,
        "seed": settings.profile.seed,
        "dtype": trial.dtype,
    }
    return Cell(
        table=TABLE,
        row=NET,
        column=trial.name,
        name=f"{NET}-{''.join(c if c.isalnum() else '-' for c in trial.name)}",
        metrics=METRICS,
        config=config,
        fidelity=cell_fidelity(found.fidelity, whole=False),
        inputs=f"{len(found)} images of {found.name}, {BATCHES} x {size} images, m {trial.steps}",
        compute=_compute,
        stage=2,
        seconds=2 + BATCHES * size * trial.steps * SECONDS_AN_IMAGE,
        memory=2 * 2**30,
        shared=SharedStep(
            name=f"training of LeNet for the study, {_words(trial.training)}",
            seconds=2 + trial.training.epochs * len(found) * SECONDS_AN_IMAGE,
            run=lambda settings: training.outcome(_trained(settings, trial.training)[1]),
        ),
    )


def _images(settings: Settings) -> ImageSet:
    """The first images of the training set."""
    found = lenet.images(settings)
    return dataclasses.replace(found, images=found.images[:IMAGES], labels=found.labels[:IMAGES])


def _training_config(settings: Settings, how: Training) -> dict[str, Any]:
    found = _images(settings)
    return training.config(**image_sets.config_of(found), images=len(found),
                           **dataclasses.asdict(how))  # fmt: skip


def _words(how: Training) -> str:
    start = Training()
    changed = {k: v for k, v in dataclasses.asdict(how).items() if v != getattr(start, k)}
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "common start"


@session_cached(size=1)
def _trained(settings: Settings, how: Training) -> tuple[nn.Module, TrainingResult]:
    found, model = _images(settings), lenet.untrained(settings, "torch")
    x = data.to_input(found.images, size=lenet.SIZE, device=settings.device)
    config = _training_config(settings, how)
    result = training.train(
        settings,
        model,
        (_scaled(x, how.inputs), found.labels.to(settings.device)),
        training.checkpoint(settings, "lenet-study", config),
        how.epochs,
        batch_size=how.batch_size,
        lr=how.lr,
        weight_decay=how.weight_decay,
    )
    return model, result


def _scaled(x: Tensor, inputs: str) -> Tensor:
    """Inputs in [0, 1] in another range."""
    subtracted, divisor = RANGES[inputs]
    return (x - subtracted) / divisor


def _compute(cell: Cell, settings: Settings) -> list[Record]:
    config = cell.config
    how = Training(**{f.name: config["training"][f.name] for f in dataclasses.fields(Training)})
    model, _ = _trained(settings, how)
    drawn = image_sets.draw(
        settings, NET, _images(settings), config["batch_size"], BATCHES, config["seed"]
    )
    pairs = [(_scaled(x, how.inputs), y) for x, y in drawn.pairs]
    criteria = spectra.measured(settings, model, pairs, config)
    weights = Source(f"{NET}, {_words(how)}", weights_sha256(model))
    facts = {
        **drawn.facts(weights),
        "stderr_kind": criteria.stderr_kind,
        "matvecs": criteria.matvecs,
    }
    found = [cell.estimated(name, getattr(criteria, name), **facts) for name in METRICS[:-1]]
    return [*found, cell.record("loss", criteria.loss, **facts)]
