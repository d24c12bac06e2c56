"""The tables of measurements with a target."""

from __future__ import annotations

import math

from scipy import stats

from benchmarks import view
from benchmarks.adaptive.measurement import FIXED, HONESTY
from benchmarks.view import number
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Exhibit, Records

PLAIN = math.prod(FIXED)  # products of the fixed budget
HONESTY_COLUMNS = (
    "parameters", "repetitions", "products", "most", "fixed / these", "needed without",
    "K_H1, exact", "bias", "scatter", "stated error", "coverage", "largest error of r_e",
)  # fmt: skip
SAVING_COLUMNS = ("batches", "products", "seconds", "passes", "error of K_H1", "error of r_e",
                  "target met")  # fmt: skip


def tables(records: Records) -> list[Table]:
    """Whether stated errors are honest, and what a target saves on LeNet."""
    cases = list(view.grouped(records, view.case).values())
    honest = tuple(_honesty(case) for case in cases if case[0].column == HONESTY)
    saved = tuple(_saving(case) for case in cases if case[0].column != HONESTY)
    return [
        Table("adaptive-honesty", "Are the stated errors honest?", "", HONESTY_COLUMNS,
              (Group("", "", honest),) if honest else (), heads=("", "network")),
        Table("adaptive-saving", "Beside an accuracy pass", "", SAVING_COLUMNS, saved,
              heads=("network, batch", "budget")),
    ]  # fmt: skip


def _honesty(records: Records) -> Line:
    found = view.metrics(records)
    value = {metric: number(record) for metric, record in found.items()}
    count = found["coverage"].n or 1
    low, high = stats.binomtest(round(value["coverage"] * count), count).proportion_ci()
    return view.line(
        records[0].row,
        f"{value['parameters']:.0f}",
        str(count),
        f"{value['products']:.0f}",
        f"{value['most_products']:.0f}",
        f"{PLAIN / value['products']:.1f}",
        f"{value['plain_products']:.0f}",
        f"{value['kh1']:.4g}",
        f"{value['bias']:+.2%} ± {found['bias'].stderr or 0.0:.2%}",
        f"{value['scatter']:.2%}",
        f"{value['stated']:.2%}",
        f"{value['coverage']:.1%} ({low:.1%} to {high:.1%})",
        f"{value['re_error']:.1e}",
    )


def _saving(records: Records) -> Group:
    first = records[0]
    data = first.data.name if first.data else ""
    settings = (
        f"{data} [{first.fidelity}], {first.n} images in a pass; {first.note}; "
        f"{view.machine(first)}"
    )
    budgets = view.grouped(records, lambda record: record.column)
    return Group(first.row, settings, tuple(_budget(*budget) for budget in budgets.items()))


def _budget(budget: str, records: Records) -> Line:
    found = view.metrics(records)
    value = {metric: number(record) for metric, record in found.items()}
    spread = found["passes"].stderr
    return view.line(
        budget if budget == "fixed" else f"target, over {budget}",
        str(records[0].batches),
        f"{value['products']:.0f}",
        f"{value['seconds']:.3g}",
        f"{value['passes']:.3g}" + ("" if spread is None else f" ± {spread:.2g}"),
        *(f"{value[f'error_{n}']:.1%}" if f"error_{n}" in value else "" for n in ("kh1", "re")),
        {None: "", 1.0: "yes", 0.0: "no"}[value.get("converged")],
    )


EXHIBIT = Exhibit("adaptive", "benchmarks", tables=tables)
