"""Planted records of planes: what Table 1, its claims and its figures are made from."""

from paper_tables.engine.cells import Cell
from paper_tables.engine.records import Source
from paper_tables.exhibits.table1.cells import _judge
from paper_tables.exhibits.table1.planes import Place
from paper_tables.paper.explosion import PAPER_METHODS, expected

SHA = "ab" * 32
MODES = ("train", "eval")


def plane(
    row="lenet",
    state="random",
    mode="eval",
    axes="uniform",
    method="4",
    ratio=1.0,
    *,
    nonfinite=0,
    frozen=False,
    seed=0,
    points=41,
    stopped=False,
    fidelity="reduced",
    center_error=0.0,
    asymmetry=None,
    wide=None,
    sublevel=10,
    artifact=None,
    **config,
):
    """The records of one plane."""
    values = {"ratio": ratio, "nonfinite": nonfinite, "center": 2.3, "center_error": center_error}
    if asymmetry is not None:
        wide = asymmetry if wide is None else wide
        values |= {"asymmetry": asymmetry, "sublevel_points": sublevel,
                   "asymmetry_wide": wide, "sublevel_points_wide": sublevel}  # fmt: skip
    place = Place(mode, axes, method, frozen)
    settings = {"model": row, "images": 64, "side": 224, "data": "imagenet"} | config
    cell = Cell(
        table="table1",
        row=row,
        column=place.column(state),
        name="",
        metrics=tuple(values),
        config={**settings, "points": points, "seed": seed, "dtype": "float32", "batches": 1,
                "batch_size": settings["images"], "stopped": stopped},
        fidelity=fidelity,
        inputs="",
    )  # fmt: skip
    records = [
        cell.record(
            metric,
            float(value),
            n=(4 if stopped else points**2) if metric == "nonfinite" else None,
            data=Source(settings["data"], SHA),
            weights=Source(f"{row} {state}", SHA),
            artifact=artifact if metric == "ratio" else None,
        )
        for metric, value in values.items()
    ]
    return _judge(cell, records)


def absent(row, state, reason="no such weights"):
    """The record of a plane that could not be computed."""
    cell = Cell(
        "table1", row, Place("eval", "uniform", "4").column(state), "", ("ratio",), {}, None, "",
        reason=reason,
    )  # fmt: skip
    return cell.not_run()


RATIOS = {"explodes": 1e6, "rises": 20.0, "none": 1.5}


def paper_picture(state="random", rows=None, points=41, **facts):
    """Every plane of the paper, as the paper has it; what is left open does not explode."""
    found = []
    for row in rows or ("lenet", "resnet18", "alexnet", "squeezenet", "mobilenet", "vit"):
        for mode in MODES:
            for axes in ("uniform", "hessian"):
                kind = "hessian" if axes == "hessian" else "random"
                for method in PAPER_METHODS:
                    (word, *_) = expected(row, f"{mode}/{kind}", method)
                    found += plane(
                        row, state, mode, axes, method, RATIOS[word], points=points, **facts
                    )
    return found
