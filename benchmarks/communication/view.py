"""The tables of what processes send, measured here and on paper for GPUs."""

from __future__ import annotations

from benchmarks import view
from benchmarks.communication import prediction
from benchmarks.communication.prediction import A100, NETWORKS, NUMBER, Network
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Exhibit, Records

MEASURED = {
    "MB a product": "{bytes_product:.3f}",
    "predicted": "{predicted_product:.3f}",
    "MB a Lanczos step": "{bytes_step:.3f}",
    "predicted, with the basis": "{predicted_step:.3f}",
    "ms a product": "{seconds_product:.0f}",
    "ms a step": "{seconds_step:.0f}",
}
PAPER = {
    "MB a product": "{sent:.0f}",
    "ms computed": "{computed:.0f}",
    "ms sent": "{sending:.1f}",
    "share sent": "{share:.1%}",
    "hours, all data": "{hours:.1f}",
    "basis, whole": "{basis:.1f} GB",
    "basis, split": "{split:.1f} GB",
    "ms a step saved": "{saved:.1f}",
}
GPUS = (1, 2, 8, 16, 64)
EXAMPLES = 64  # of a batch on each GPU
STEPS = 100
MEGA, GIGA, MILLI = 1e6, 1e9, 1e3


def tables(records: Records) -> list[Table]:
    """What was measured, and what follows for other networks and GPUs."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for case in view.cases(records):
        for column, found in view.values(case).items():
            bytes_ = {k: v / MEGA for k, v in found.items() if not k.startswith("seconds")}
            times = {k: v * MILLI for k, v in found.items() if k.startswith("seconds")}
            line = view.line(column, MEASURED, bytes_ | times)
            groups.setdefault((case[0].row, view.machine(case[0])), []).append(line)
    measured = tuple(
        Group(row, settings, tuple(lines)) for (row, settings), lines in groups.items()
    )
    on_paper = tuple(
        Group(network.name, f"P = {network.parameters / MEGA:.1f} million", _lines(network))
        for network in NETWORKS
    )
    heads = ("network", "processes")
    assumed = view.said("communication_paper", machine=A100, examples=EXAMPLES, steps=STEPS)
    title = "On paper, for A100 GPUs"
    return [
        Table("communication", "Measured", "", tuple(MEASURED), measured, heads=heads),
        Table("communication_paper", title, assumed, tuple(PAPER), on_paper,
              heads=("network", "GPUs")),
    ]  # fmt: skip


def _lines(network: Network) -> tuple[Line, ...]:
    return tuple(view.line(str(ranks), PAPER, _known(network, ranks)) for ranks in GPUS)


def _known(network: Network, ranks: int) -> dict[str, float]:
    computed = prediction.computing(network, EXAMPLES)
    sending = prediction.sending(network, ranks)
    basis = STEPS * NUMBER * network.parameters / GIGA
    share = network.examples / ranks
    whole = STEPS * (prediction.computing(network, share) + sending)
    return {
        "sent": prediction.reduced(network.parameters, ranks) / MEGA,
        "computed": computed * MILLI,
        "sending": sending * MILLI,
        "share": sending / (sending + computed),
        "hours": whole / 3600,
        "basis": basis,
        "split": basis / ranks,
        "saved": prediction.basis_saves(network, ranks, STEPS) * MILLI,
    }


EXHIBIT = Exhibit("communication", "benchmarks", tables=tables)
