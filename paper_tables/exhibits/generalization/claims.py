"""Claims on the training runs and planes of section 4, judged from records.

If there are several runs of a network on a pair, the most faithful, longest one is judged. "At the
end" is the last epoch that was measured. The loss of a trained network jumps up now and then, and
criteria with it, so their change is that of all epochs after the training has converged. Intervals
are 95 %: Student's t for what is measured over batches, epochs or planes, Welch's for differences.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from lla.report.text import measured
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.exhibit import ClaimScope, Decision, Predicate, Records, Verdict
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import (
    REVERSED,
    below,
    falls,
    half_width,
    missing,
    value_of,
)
from paper_tables.evidence.intervals import combined, decided, difference_width, quantile
from paper_tables.exhibits.generalization.runs import SIDES, Run, runs
from paper_tables.exhibits.generalization.shift_planes import TABLE as PLANES

CONVERGED = 99.0  # training accuracy, per cent
FEWEST_LATE = 4  # number of epochs that a slope needs
LENET_LOW = 20.0  # per cent: "below 20 % on SVHN"
LENET_RANGE = (55.0, 58.0)
LENET_TRAINING = 90.0
RESNET_TRAINING = (200, 97.0)  # epoch, per cent
RESNET_PEAK = 70  # epoch
RESNET_LAST = 43.0


def _lenet(records: Records) -> Decision:
    mnist, svhn = _run(records, "mnist-svhn"), _run(records, "svhn-mnist")
    low = _last(mnist, "generalization", "accuracy")
    middle = _last(svhn, "generalization", "accuracy")
    trained = _last(svhn, "training", "accuracy")
    verdicts = [below(low, LENET_LOW)]
    note = f"{_value(low)}: below {LENET_LOW:g} % {verdicts[0]}"
    others = f"{_value(middle)}; {_value(trained)}"
    if trained.fidelity == "paper":
        parts = _within(middle, *LENET_RANGE), below(trained, LENET_TRAINING)
        verdicts += parts
        note += (
            f"; {others}: {LENET_RANGE[0]:g} to {LENET_RANGE[1]:g} % {parts[0]}, below "
            f"{LENET_TRAINING:g} % {parts[1]}"
        )
    else:  # a network that has seen a part of SVHN knows that part by heart
        verdicts.append("undecided")
        note += f"; {others}, not judged: trained on fewer images or epochs than the paper's"
    note += f"; {mnist.length} and {svhn.length} epochs"
    return Decision(combined(verdicts), (low, middle, trained), note)


def _kh_rises(records: Records) -> Decision:
    used: list[Record] = []
    verdicts: list[Verdict] = []
    changes, notes, comparable = [], [], True
    for pair in ("mnist-svhn", "svhn-mnist"):
        run = _run(records, pair)
        pairs = _late_pairs(run, "kh05")
        used += [record for here_there in pairs for record in here_there]
        change, error, n = _mean_change(pairs)
        changes.append((change, error, n))
        here, there = pairs[-1]
        verdict = decided(change, quantile(n - 1) * error)
        note = (
            f"{pair} K_H05 changes by {measured(change, error)} (mean of {len(pairs)} epochs; at "
            f"the last, {here.config['epoch']} of {run.length}, {measured(here.value, here.stderr)}"
            f" to {measured(there.value, there.stderr)}): rises {verdict}"
        )
        if here.batch_size != there.batch_size:
            verdict, comparable = "undecided", False
            note += (
                f", not judged: batches of {here.batch_size} and of {there.batch_size}, on which "
                "K_H05 depends"
            )
        verdicts.append(verdict)
        notes.append(note)
    if comparable:
        (first, error, n), (second, other, m) = changes
        verdicts.append(decided(first - second, difference_width((error, n), (other, m))))
        notes.append(f"more for the first: {verdicts[-1]}")
    return Decision(combined(verdicts), tuple(used), "; ".join(notes), many=True)


def _late(records: Records) -> Decision:
    run = _run(records, "mnist-svhn")
    there = run.series("generalization", "accuracy")[0]
    late = _converged(run) & np.isfinite(there)
    if late.sum() < FEWEST_LATE:
        raise missing(
            f"{FEWEST_LATE} epochs after {CONVERGED:g} % of training accuracy are needed, there "
            f"are {int(late.sum())}"
        )
    epochs = run.epochs[late]
    fit = stats.linregress(np.log(epochs), there[late])
    span = math.log(epochs[-1] / epochs[0])
    growth, half = fit.slope * span, quantile(len(epochs) - 2) * fit.stderr * span
    used = [run.records["generalization", "accuracy", int(epoch)] for epoch in epochs]
    note = (
        f"from epoch {epochs[0]} to {epochs[-1]} it changes by {growth:+.1f} ± {half:.1f} points "
        f"(a line in log(epoch) through {len(epochs)} epochs, 95 %; neighbouring epochs are not "
        "independent)"
    )
    return Decision(decided(growth, half), tuple(used), note)


def _land(records: Records) -> Decision:
    wanted = (
        ("lenet", "mnist-svhn", "median_change", "rises"),
        ("lenet", "svhn-mnist", "median_change", "falls"),
        ("resnet20", "cifar10-cinic10-i", "roughness_change", "rises"),
    )
    used, verdicts, notes = [], [], []
    for row, pair, metric, word in wanted:
        record = _plane(records, row, pair, metric)
        verdict = below(record, 0.0)
        verdicts.append(REVERSED[verdict] if word == "rises" else verdict)
        used.append(record)
        notes.append(f"{_value(record)}: {word} {verdicts[-1]}")
    return Decision(combined(verdicts), tuple(used), "; ".join(notes))


def _resnet(records: Records) -> Decision:
    verdicts: list[Verdict] = []
    used, notes = [], []
    epoch, share = RESNET_TRAINING
    for pair in ("cifar10-cinic10-i", "cinic10-i-cifar10"):
        run = _run(records, pair)
        if run.length < epoch:
            last = _last(run, "training", "accuracy")
            used.append(last)
            verdicts.append("undecided")
            notes.append(f"{_value(last)} after {run.length} epochs: the claim is on {epoch}")
            continue
        trained = run.records["training", "accuracy", _nearest(run, epoch)]
        there = run.series("generalization", "accuracy")[0]
        peak = int(run.epochs[np.nanargmax(there)])
        last = _last(run, "generalization", "accuracy")
        reached = abs((trained.value or 0.0) - share) <= 1.0
        near = RESNET_PEAK / 2 <= peak <= RESNET_PEAK * 2
        verdicts += ["holds" if reached else "fails", "holds" if near else "fails"]
        verdicts.append(_within(last, RESNET_LAST - 1, RESNET_LAST + 1))
        used += [trained, last]
        notes.append(f"{_value(trained)}; peak at epoch {peak}; {_value(last)} at the end")
    return Decision(combined(verdicts), tuple(used), "; ".join(notes))


def _resnet_kh(records: Records) -> Decision:
    used, verdicts, notes = [], [], []
    for pair in ("cifar10-cinic10-i", "cinic10-i-cifar10"):
        run = _run(records, pair)
        for metric, word in (("kh05", "rises"), ("re", "falls")):
            here, there = (_last(run, side, metric) for side in ("training", "generalization"))
            verdicts.append(falls(there, here) if word == "rises" else falls(here, there))
            used += [here, there]
            notes.append(f"{_value(here)}, {_value(there)}: {word} {verdicts[-1]}")
        notes[-1] += f" ({run.length} epochs)"
    return Decision(combined(verdicts), tuple(used), "; ".join(notes))


def _along_training(records: Records) -> Decision:
    """The share of the spectrum's magnitude that is negative, at three epochs of ResNet20."""
    run = _run(records, "cifar10-cinic10-i")
    shares = [
        record
        for epoch in run.epochs.tolist()
        if (record := run.records.get(("training", "negative_share", epoch)))
    ]
    if len(shares) < 3:
        raise missing("the negative share at three epochs of ResNet20's training")
    used = [shares[0], shares[len(shares) // 2], shares[-1]]
    steps = [falls(first, second) for first, second in itertools.pairwise(used)]
    values = ", ".join(measured(record.value, record.stderr) for record in used)
    epochs = ", ".join(str(record.config["epoch"]) for record in used)
    note = (
        f"ResNet20 on CIFAR-10, negative share {values} at epochs {epochs}: {steps[0]}, {steps[1]}"
    )
    return Decision(combined(steps), tuple(used), note)


def _noabs(records: Records) -> Decision:
    """Two checkpoints of equal accuracy, one of each ResNet20, that differ in K_H05."""
    found = [
        (accuracy, kh05)
        for pair in ("cifar10-cinic10-i", "cinic10-i-cifar10")
        for run in [_run(records, pair)]
        for epoch in run.epochs.tolist()
        if epoch > 0
        and (accuracy := run.records.get(("generalization", "accuracy", epoch)))
        and (kh05 := run.records.get(("generalization", "kh05", epoch)))
    ]
    pairs = itertools.combinations(found, 2)
    candidates = [(one, other) for one, other in pairs if one[0].column != other[0].column]
    if not candidates:
        raise missing("K_H05 along both trainings of ResNet20")
    one, other = min(candidates, key=lambda c: abs(value_of(c[0][0]) - value_of(c[1][0])))
    same_accuracy, same_kh05 = (falls(a, b) == "undecided" for a, b in zip(one, other, strict=True))
    used = (*one, *other)
    note = f"the two nearest in accuracy: {', '.join(map(_value, used))}"
    return Decision("holds" if same_accuracy and not same_kh05 else "undecided", used, note)


# --- the records and numbers that claims need


def _run(records: Records, pair: str) -> Run:
    for run in runs(records):
        if run.pair == pair:
            return run
    raise missing(f"the training run {pair}")


def _last(run: Run, side: str, metric: str) -> Record:
    epochs = [epoch for s, m, epoch in run.records if (s, m) == (side, metric)]
    if not epochs:
        raise missing(f"{run.pair} {side} {METRIC_NAMES[metric]}")
    return run.records[side, metric, max(epochs)]


def _nearest(run: Run, epoch: int) -> int:
    known = [e for s, m, e in run.records if (s, m) == ("training", "accuracy")]
    return min(known, key=lambda e: abs(e - epoch))


def _plane(records: Records, row: str, pair: str, metric: str) -> Record:
    """The record of the planes on the most faithful data, after the longest training."""
    found = [
        r for r in records
        if (r.table, r.row, r.column, r.metric) == (PLANES, row, pair, metric)
        and r.value is not None
    ]  # fmt: skip
    if not found:
        raise missing(f"planes of {row} {pair}")
    return min(found, key=lambda r: (r.fidelity == "substitute", -r.config["epochs"]))


def _converged(run: Run) -> np.ndarray:
    """Of each epoch, whether the training accuracy has reached `CONVERGED` by then."""
    trained = run.series("training", "accuracy")[0]
    return np.maximum.accumulate((trained >= CONVERGED) & (run.epochs > 0))


def _late_pairs(run: Run, metric: str) -> list[tuple[Record, Record]]:
    """The records on both sides after the training has converged; else of the last epoch."""
    both = {
        epoch: (run.records[here], run.records[there])
        for epoch in run.epochs.tolist()
        if (here := (SIDES[0], metric, epoch)) in run.records
        and (there := (SIDES[1], metric, epoch)) in run.records
    }
    if not both:
        raise missing(f"{run.pair} {METRIC_NAMES[metric]} on both data sets")
    late = run.epochs[_converged(run)].tolist()
    return [both[epoch] for epoch in late if epoch in both] or [both[max(both)]]


def _mean_change(pairs: Sequence[tuple[Record, Record]]) -> tuple[float, float, int]:
    """The mean change from one side to the other, its standard error, and samples behind that.

    The scatter from epoch to epoch and that over batches add up: all epochs have the same batches.
    """
    found = [_change(*pair) for pair in pairs]
    values, errors, counts = zip(*found, strict=True)
    over_batches = math.sqrt(float(np.mean(np.square(errors))))
    if len(found) == 1:
        return values[0], over_batches, counts[0]
    over_epochs = float(np.std(values, ddof=1)) / math.sqrt(len(found))
    error = math.hypot(over_epochs, over_batches)
    return float(np.mean(values)), error, min(len(found), *counts)


def _within(record: Record, low: float, high: float) -> Verdict:
    """Whether a value lies in a range: undecided if only its 95 % interval reaches it."""
    value = value_of(record)
    if low <= value <= high:
        return "holds"
    half = half_width(record) or 0.0
    return "undecided" if low - half <= value <= high + half else "fails"


def _change(here: Record, there: Record) -> tuple[float, float, int]:
    """The change of a value, its standard error, and the number of samples."""
    error = math.hypot(here.stderr or 0.0, there.stderr or 0.0)
    return value_of(there) - value_of(here), error, min(here.n or 2, there.n or 2)


def _value(record: Record) -> str:
    return f"{record.column} {METRIC_NAMES[record.metric]} {measured(record.value, record.stderr)}"


CLAIMS: dict[ClaimScope, Predicate] = {
    ClaimScope("H.train", "other networks"): _along_training,
    ClaimScope("G.lenet", "lenet"): _lenet,
    ClaimScope("G.lenet.kh", "lenet"): _kh_rises,
    ClaimScope("G.lenet.late", "lenet"): _late,
    ClaimScope("G.land", "all"): _land,
    ClaimScope("G.resnet", "resnet20"): _resnet,
    ClaimScope("G.resnet.kh", "resnet20"): _resnet_kh,
    ClaimScope("G.noabs", "all"): _noabs,
}
