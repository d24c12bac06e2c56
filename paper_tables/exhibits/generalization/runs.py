"""Trainings that are followed on two data sets (section 4), gathered from their records.

A run is one training of one network, with accuracy, loss and Hessian criteria at chosen epochs on
the data that it was trained on and on the other data set of its pair. Figures, claims and the study
of predictors use these runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from paper_tables.engine.fidelity import least_faithful, rank
from paper_tables.engine.records import Record, config_hash
from paper_tables.evidence.selection import grouped
from paper_tables.inputs.pairs import PAIRS
from paper_tables.paper.names import display

TABLE = "generalization"
SIDES = ("training", "generalization")
OWN_TEST = "test_accuracy"  # over the test split of the set that the network is trained on
FEW_ACCURACY = "accuracy_few"  # on as many images as a batch has
ORDER = [(pair.row, pair.name) for pair in PAIRS]


def pair_and_side(column: str) -> tuple[str, str]:
    """The pair and the side that a record's column names.

    >>> pair_and_side("mnist-svhn/training")
    ('mnist-svhn', 'training')
    """
    pair, _, side = column.rpartition("/")
    return pair, side


@dataclass(frozen=True, eq=False)
class Run:
    """One training, and what was measured during it; a metric keeps its settings throughout."""

    row: str  # "lenet"
    pair: str  # the paper's pair, "mnist-svhn"
    trained_on: str  # the data sets really used
    other: str
    fidelity: str  # the least faithful of its records
    training: Mapping[str, Any]  # determines the weights after an epoch
    length: int  # epochs of the training
    epochs: np.ndarray  # [E] int, those with a record, ascending; 0 is before training
    records: Mapping[tuple[str, str, int], Record]  # (side, metric, epoch) -> record that counts

    @property
    def name(self) -> str:
        """The run in words; for stand-in data also the pair that it stands for."""
        used = f"{display(self.trained_on)} to {display(self.other)}"
        meant = {p.name: f"{display(p.trained_on)} to {display(p.other)}" for p in PAIRS}
        stand_in = used != meant.get(self.pair, used)
        return f"{display(self.row)}, {used}{f' (for {self.pair})' if stand_in else ''}"

    def series(self, side: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """A metric by epoch.

        Args:
            side: "training" or "generalization".
            metric: such as "kh05".

        Returns:
            Values [E] and standard errors [E], NaN where there is none.
        """
        found = [self.records.get((side, metric, int(epoch))) for epoch in self.epochs]
        values = [np.nan if r is None or r.value is None else r.value for r in found]
        errors = [np.nan if r is None or r.stderr is None else r.stderr for r in found]
        return np.array(values, float), np.array(errors, float)


def runs(records: Iterable[Record]) -> list[Run]:
    """The runs that the records describe.

    A criterion depends on the number of Lanczos steps, the type, the mode and the batch size. If
    one was measured with several settings, or on several draws of batches, the settings with the
    most epochs count; ties are decided by fidelity, then by size, then by the lower seed.

    Args:
        records: any; records of other tables and not-run ones are left out.

    Returns:
        The runs in the paper's order of networks and pairs; within a pair, the most faithful and
        longest first.
    """
    mine = (r for r in records if r.table == TABLE and r.value is not None and "epoch" in r.config)
    return sorted(map(_run, grouped(mine, _training).values()), key=_rank)


def best_runs(records: Iterable[Record]) -> dict[str, Run]:
    """The most faithful and longest run of each network on two data sets, by a name for files."""
    return {name: same[0] for name, same in grouped(runs(records), file_name).items()}


def file_name(run: Run) -> str:
    """The part of a file's name that says which network and data sets it is about."""
    return f"{run.row}_{run.trained_on}-{run.other}"


def _training(record: Record) -> tuple[object, ...]:
    """Which training a record belongs to."""
    config = record.config
    return (record.row, pair_and_side(record.column)[0], config["trained_on"], config["other"],
            config["epochs"], config_hash(config["training"]))  # fmt: skip


def _run(group: list[Record]) -> Run:
    by_metric = grouped(group, lambda record: record.metric).values()
    chosen = {_place(r): r for same in by_metric for r in _comparable(same)}
    first, config = group[0], group[0].config
    return Run(
        row=first.row,
        pair=pair_and_side(first.column)[0],
        trained_on=config["trained_on"],
        other=config["other"],
        fidelity=least_faithful(r.fidelity for r in chosen.values()),
        training=config["training"],
        length=config["epochs"],
        epochs=np.array(sorted({epoch for _, _, epoch in chosen})),
        records=chosen,
    )


def _comparable(records: list[Record]) -> list[Record]:
    """The comparable records of one metric: the same process on both sides, one size a side."""
    same = _largest(records, _process)
    sides = [[r for r in same if _place(r)[0] == side] for side in SIDES]
    return [record for side in sides if side for record in _largest(side, _size)]


def _process(record: Record) -> tuple[object, ...]:
    """The settings that a criterion depends on, and the draw of the batches."""
    return (record.m, record.dtype, record.legacy, record.config.get("mode"), record.seed)


def _size(record: Record) -> tuple[int, int, int]:
    return (record.batch_size or 0, record.batches or 0, record.probes or 0)


def _largest(records: list[Record], settings: Callable[[Record], object]) -> list[Record]:
    """The records of the settings with the most epochs."""

    def quality(group: list[Record]) -> tuple[float, ...]:
        first = group[0]
        epochs = len({_place(r) for r in group})
        least = rank(least_faithful(r.fidelity for r in group))
        return (epochs, -least, first.m or 0, *max(_size(r) for r in group), -(first.seed or 0))

    return max(grouped(records, settings).values(), key=quality)


def _place(record: Record) -> tuple[str, str, int]:
    return (pair_and_side(record.column)[1], record.metric, record.config["epoch"])


def _rank(run: Run) -> tuple[object, ...]:
    place = (run.row, run.pair)  # pairs that are not in the paper come last
    return (
        ORDER.index(place) if place in ORDER else len(ORDER),
        rank(run.fidelity),
        -run.length,
        run.trained_on,
        run.other,
        config_hash(run.training),
    )
