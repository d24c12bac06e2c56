"""The tables on measurements with a target."""

from __future__ import annotations

import math

from scipy import stats

from benchmarks import view
from benchmarks.adaptive.measurement import FIXED, HONESTY
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Exhibit, Records
from paper_tables.evidence.criteria import value_of

PLAIN = math.prod(FIXED)  # products of the fixed budget
HONESTY_COLUMNS = {
    "parameters": "{parameters.value:.0f}",
    "repetitions": "{coverage.n}",
    "products": "{products.value:.0f}",
    "most": "{most_products.value:.0f}",
    "fixed / these": "{saved:.1f}",
    "needed without": "{plain_products.value:.0f}",
    "K_H1, exact": "{kh1.value:.4g}",
    "bias": "{bias.value:+.2%} ± {bias.stderr:.2%}",
    "scatter": "{scatter.value:.2%}",
    "stated error": "{stated.value:.2%}",
    "coverage": "{coverage.value:.1%} ({interval.low:.1%} to {interval.high:.1%})",
    "largest error of r_e": "{re_error.value:.1e}",
}
SAVING_COLUMNS = {
    "batches": "{products.batches}",
    "products": "{products.value:.0f}",
    "seconds": "{seconds.value:.3g}",
    "passes": "{passes.value:.3g}{spread}",
    "error of K_H1": "{error_kh1.value:.1%}",
    "error of r_e": "{error_re.value:.1%}",
    "target met": "{met}",
}


def tables(records: Records) -> list[Table]:
    """Whether stated errors are honest, and what a target saves on LeNet."""
    cases = view.cases(records)
    honest = tuple(_honesty(case) for case in cases if case[0].column == HONESTY)
    saved = tuple(_saving(case) for case in cases if case[0].column != HONESTY)
    return [
        Table(
            "adaptive-honesty", "Are the stated errors honest?", "", tuple(HONESTY_COLUMNS),
            (Group("", "", honest),) if honest else (), heads=("", "network"),
        ),
        Table(
            "adaptive-saving", "Beside an accuracy pass", "", tuple(SAVING_COLUMNS), saved,
            heads=("network, batch", "budget"),
        ),
    ]  # fmt: skip


def _honesty(records: Records) -> Line:
    found = view.columns(records)[HONESTY]
    count, products = found["coverage"].n or 1, value_of(found["products"])
    held = stats.binomtest(round(value_of(found["coverage"]) * count), count)
    known = found | {"saved": PLAIN / products, "interval": held.proportion_ci()}
    return view.line(records[0].row, HONESTY_COLUMNS, known)


def _saving(records: Records) -> Group:
    first = records[0]
    images = f"{view.data(first)}, {first.n} images in a pass"
    settings = f"{images}; {first.note}; {view.machine(first)}"
    lines = []
    for budget, found in view.columns(records).items():
        name = "fixed" if budget == "fixed" else f"target, over {budget}"
        error = found["passes"].stderr
        known = found | {"spread": "" if error is None else f" ± {error:.2g}"}
        if "converged" in found:
            known["met"] = "yes" if found["converged"].value else "no"
        lines.append(view.line(name, SAVING_COLUMNS, known))
    return Group(first.row, settings, tuple(lines))


EXHIBIT = Exhibit("adaptive", "benchmarks", tables=tables)
