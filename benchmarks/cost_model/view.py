"""The table of what a Hessian product costs, and why, from records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from benchmarks import view
from benchmarks.cost_model.measurement import FLOOR, PASS
from lla.hessian.products.routes import ROUTES
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Exhibit, Records

COLUMNS = {
    "seconds in passes": "{passes:.2f}",
    "of the floor": "{of_floor:.2f}",
    "FLOPs in passes": "{flops:.3f}",
    "predicted": "{predicted:.3f}",
    "slower matrices": "{slower:.2f}",
    "beside matrices": "{beside:.2f}",
    "set-up in products": "{products:.1f}",
    "kept MiB": "{kept_bytes:.0f}",
    "peak MiB": "{peak:.0f}",
    "estimated": "{predicted_peak:.0f}",
}
# The floor is the time of the FLOPs alone; the distance to it has one of these causes.
CAUSES = {
    "slower": "the speed of convolutions and products of matrices",
    "beside": "what is done beside them",
}


def tables(records: Records) -> list[Table]:
    """One table with a group for each network and a line for each route; notes stand below it."""
    cases = [(case[0], view.values(case)) for case in view.cases(records)]
    notes = "\n".join(_note(first.row, values) for first, values in cases)
    groups = tuple(
        Group(first.row, view.machine(first), tuple(_line(route, values) for route in ROUTES))
        for first, values in cases
    )
    heads = ("network", "route")
    return [Table("cost_model", "Products by route", notes, tuple(COLUMNS), groups, heads=heads)]


def split(product: Mapping[str, float], step: Mapping[str, float]) -> dict[str, float]:
    """The factors whose product is the time of a Hessian product in passes.

    Args:
        product: its values by metric.
        step: those of a forward and backward pass.

    Returns:
        `flops`; `slower`, seconds in matrices per FLOP; `beside`, all seconds / seconds in
        matrices; each relative to a pass.
    """
    seconds, flops, matrices = (
        product[metric] / step[metric] for metric in ("seconds", "flops", "matrix_share")
    )
    return {"flops": flops, "slower": seconds * matrices / flops, "beside": 1 / matrices}


def _line(route: str, values: view.Values) -> Line:
    product, step = values[route], values[PASS]
    passes = product["seconds"] / step["seconds"]
    known = {
        "passes": passes,
        "of_floor": passes / FLOOR,
        "predicted": product["predicted_flops"] / step["flops"],
        "products": product["setup"] / product["seconds"],
        **split(product, step),
        **{name: product[name] / view.MIB for name in ("kept_bytes", "peak", "predicted_peak")},
    }
    return view.line(route, COLUMNS, known)


def _note(name: str, values: view.Values) -> str:
    """The source of a network's numbers, and the main cause of the distance to the floor."""
    step, fastest = values[PASS], min(ROUTES, key=lambda route: values[route]["seconds"])
    factors = split(values[fastest], step)
    largest = max(CAUSES, key=lambda cause: abs(math.log(factors[cause])))
    return view.said(
        "cost_model_case", name=name, step=step, fastest=fastest, floor=FLOOR,
        passes=values[fastest]["seconds"] / step["seconds"], spectrum=values["spectrum"],
        cause=CAUSES[largest], factor=factors[largest],
    )  # fmt: skip


EXHIBIT = Exhibit("cost_model", "benchmarks", tables=tables)
