"""The table of what a Hessian product costs, and why, from records alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

from benchmarks import view
from benchmarks.cost_model.measurement import FLOOR, PASS
from benchmarks.view import number
from lla.hessian.products.routes import ROUTES
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Exhibit, Records
from paper_tables.engine.records import Record

COLUMNS = ("seconds in passes", "of the floor", "FLOPs in passes", "predicted",
           "slower matrices", "beside matrices", "set-up in products", "kept MiB", "peak MiB",
           "estimated")  # fmt: skip
FACTORS = ("the FLOPs", "the speed of convolutions and products of matrices",
           "what is done beside them")  # fmt: skip

Values = Mapping[tuple[str, str], float]  # by column and metric


def tables(records: Records) -> list[Table]:
    """One table: a group a network, a line a route; below it what the numbers mean."""
    cases = list(view.grouped(records, view.case).values())
    notes = "\n".join(f"- {_note(case[0], _values(case))}" for case in cases)
    groups = tuple(
        Group(
            case[0].row,
            view.machine(case[0]),
            tuple(_route(route, _values(case)) for route in ROUTES),
        )
        for case in cases
    )
    return [Table("cost_model", "Products by route", notes, COLUMNS, groups,
                  heads=("network", "route"))]  # fmt: skip


def _values(records: Records) -> Values:
    return {place: number(record) for place, record in view.cells(records).items()}


def _passes(value: Values, route: str) -> float:
    return value[route, "seconds"] / value[PASS, "seconds"]


def _route(route: str, value: Values) -> Line:
    flops, slower, beside = split(value, route)
    return view.line(
        route,
        f"{_passes(value, route):.2f}",
        f"{_passes(value, route) / FLOOR:.2f}",
        f"{flops:.3f}",
        f"{value[route, 'predicted_flops'] / value[PASS, 'flops']:.3f}",
        f"{slower:.2f}",
        f"{beside:.2f}",
        f"{value[route, 'setup'] / value[route, 'seconds']:.1f}",
        *(f"{value[route, name] / 2**20:.0f}" for name in ("kept_bytes", "peak", "predicted_peak")),
    )


def split(value: Values, route: str) -> tuple[float, float, float]:
    """What the seconds of a product in passes are the product of.

    Args:
        value: by column and metric.
        route: of the product.

    Returns:
        FLOPs, seconds in matrices a FLOP, all seconds over those in matrices; against a pass.
    """

    def of(metric: str) -> float:
        return value[route, metric] / value[PASS, metric]

    flops_ratio, matrices = of("flops"), of("matrix_share")
    return flops_ratio, of("seconds") * matrices / flops_ratio, 1 / matrices


def _note(first: Record, value: Values) -> str:
    """What a network's numbers come from, and what most of the distance to the floor is."""
    fastest = min(ROUTES, key=lambda route: value[route, "seconds"])
    passes, factors = _passes(value, fastest), split(value, fastest)
    # the FLOPs are what the floor is made of: what is left is one of the others
    largest = max((1, 2), key=lambda i: abs(math.log(factors[i])))
    side = "above" if passes > FLOOR else "below"
    rate = value[PASS, "flops"] / value[PASS, "seconds"] / 1e9
    return (
        f"{first.row}: {rate:.3g} GFLOP/s in a pass, of whose time "
        f"{value[PASS, 'matrix_share']:.0%} is in convolutions and products of matrices. The "
        f"fastest route, {fastest}, is {side} the floor by a factor of {passes / FLOOR:.2f}, most "
        f"of it by {FACTORS[largest]} ({factors[largest]:.2f}). A spectrum made "
        f"{value['spectrum', 'products']:.0f} products, as predicted "
        f"({value['spectrum', 'predicted_products']:.0f})."
    )


EXHIBIT = Exhibit("cost_model", "benchmarks", tables=tables)
