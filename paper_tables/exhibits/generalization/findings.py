"""What the trainings of section 4 say, in paragraphs with numbers from records."""

from __future__ import annotations

from lla.report.text import measured
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.exhibit import Finding, Records
from paper_tables.evidence.criteria import CRITERIA
from paper_tables.evidence.legends import legend
from paper_tables.evidence.nearest import agreement, nearest
from paper_tables.exhibits.generalization.loss_figures import figure_name, has_figure
from paper_tables.exhibits.generalization.prediction import headline, predictions
from paper_tables.exhibits.generalization.runs import Run, runs
from paper_tables.paper import paper_value


def findings(records: Records) -> list[Finding]:
    """What predicts generalization, and what a long training makes of LeNet's criteria."""
    followed = runs(records)
    return [*_prediction(followed), *_long_training(followed)]


def _prediction(followed: list[Run]) -> list[Finding]:
    """Whether a Hessian criterion predicts the change of accuracy better than the plain loss."""
    found = predictions(followed)
    if not found:
        return []
    text = legend(__file__, "finding", headline=headline(found).replace("**", ""))
    return [Finding("Does a criterion predict generalization?", text)]


def _long_training(followed: list[Run]) -> list[Finding]:
    """The criteria at the end of LeNet's longest training on MNIST, and the nearest on the way."""
    mine = [run for run in followed if (run.row, run.trained_on) == ("lenet", "mnist")]
    if not mine:
        return []
    run = max(mine, key=lambda run: run.length)
    ends, ways = [], []
    for metric in CRITERIA:
        printed = paper_value("table2", "lenet", "pretrained/eval", metric)
        found = [
            run.records["training", metric, epoch]
            for epoch in run.epochs.tolist()
            if epoch > 0 and ("training", metric, epoch) in run.records
        ]
        if printed is None or not found or found[-1].config["epoch"] != run.length:
            return []
        end, near = found[-1], nearest(found, printed)
        name = METRIC_NAMES[metric]
        ends.append(f"{name} {measured(end.value, end.stderr)}, {printed} printed")
        ways.append(
            f"{name} {measured(near.value, near.stderr)} at epoch {near.config['epoch']}"
            f"{_loss(run, near.config['epoch'])}, {agreement(near, printed)}"
        )
    text = legend(
        __file__, "long", epochs=run.length, loss=_loss(run, run.length), fidelity=run.fidelity,
        ends="; ".join(ends), ways="; ".join(ways),
    )  # fmt: skip
    if has_figure(run):
        text += " " + legend(__file__, "figure", figure=figure_name(run))
    return [Finding("LeNet after training: how long", text)]


def _loss(run: Run, epoch: int) -> str:
    """The training loss after an epoch, in brackets."""
    record = run.records.get(("training", "loss", epoch))
    return "" if record is None or record.value is None else f" (loss {record.value:.1g})"
