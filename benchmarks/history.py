"""What the benchmarks measured, session by session, in pytest-benchmark's own storage.

`pytest benchmarks --save results` adds a session to `results/benchmarks/sessions`. The comparison
of pytest-benchmark itself takes seconds, which depend on the machine. So `extra_info` has the
quantities to compare: ratios to one forward and backward pass of the same network in the same
session, products and memory, with all that they depend on. About the machine it says only the kind
of device and of processor.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import pydantic
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks import publish, view
from benchmarks.timing import Ratio
from lla.errors import InputError
from lla.plotting import COLOURS
from lla.report.view import Group, Line, Table
from paper_tables.engine.exhibit import Drawing

SESSIONS = "sessions"  # folder of the files
UNKNOWN = "unknown"  # the processor of early sessions
# Two rows may be compared if they share these.
SAME = ["benchmark", "size", "device", "cpu", "dtype", "threads", "allocator_tuned", "torch"]
MEASURED = ["ratio", "low", "high", "rounds", "products", "peak_bytes"]
_Amount = Annotated[int, pydantic.Field(ge=0, lt=2**63)]
_Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]


class _Row(pydantic.BaseModel, strict=True):
    """What a session tracks of a benchmark: `SAME`, `MEASURED` and the date."""

    date: Annotated[str, pydantic.Field(pattern=r"^\d{4}-\d\d-\d\dT")]
    benchmark: str
    size: str
    device: str
    cpu: str
    dtype: str
    threads: _Amount
    allocator_tuned: bool
    torch: str
    ratio: _Positive
    low: _Positive
    high: _Positive
    rounds: _Amount
    products: _Amount | None
    peak_bytes: _Amount | None


COLUMNS = {
    "in passes": "{ratio:.3g} ({low:.3g} to {high:.3g})",
    "products": "{products}",
    "peak MiB": "{peak:.0f}",
    "device": "{device} ({cpu}), {threads} threads, {dtype}",
    "torch": "{torch}{tuned}",
    "last": "{date:.10}",
    "sessions": "{sessions}",
}
STYLE: dict[str, Any] = {"markersize": 4, "linewidth": 1, "capsize": 2}
NOT_TUNED = ", allocator not tuned"


def tracked(
    benchmark: str, size: object, ratio: Ratio, products: int | None = None,
    peak_bytes: int | None = None,
) -> dict[str, object]:  # fmt: skip
    """The fields of a benchmark's `extra_info` that are tracked over sessions.

    Args:
        benchmark: what was measured.
        size: on which network and batch, a case or text.
        ratio: its seconds over those of the calibration kernel.
        products: Hessian-vector products that it made.
        peak_bytes: peak memory of a process of its own.
    """
    measured = {"ratio": ratio.median, "low": ratio.low, "high": ratio.high}
    own = {"rounds": ratio.rounds, "products": products, "peak_bytes": peak_bytes}
    return {"benchmark": benchmark, "size": str(size), **measured, **own}


def read(folder: Path) -> pd.DataFrame:
    """All that was tracked, one row for each session and benchmark, the oldest first.

    Args:
        folder: `results/benchmarks`.

    Raises:
        InputError: a file is not a session of benchmarks, or a row lacks a field.
    """
    rows, columns = [], ["date", *SAME, *MEASURED]
    for path in sorted((folder / SESSIONS).rglob("*.json")):
        try:
            session = json.loads(path.read_text(encoding="utf-8"))
            for benchmark in session["benchmarks"]:
                info = {"date": session["datetime"], "cpu": UNKNOWN, **benchmark["extra_info"]}
                if "benchmark" in info:  # others are not tracked
                    row = {name: info[name] for name in columns}
                    _Row(**row)
                    rows.append(list(row.values()))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InputError(
                f"{path.name} is no session of benchmarks ({'.'.join(map(str, first['loc']))} is "
                f"{str(first['input'])[:80]}): remove it"
            ) from None
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"{path.name} is no session of benchmarks ({error!r}): remove it"
            ) from None
    table = pd.DataFrame(rows, columns=columns)
    table = table.astype({"products": "Int64", "peak_bytes": "Int64"})  # with missing ones
    return table.sort_values("date", kind="stable", ignore_index=True)


def write(results: Path) -> None:
    """Write the page and the figure of all sessions, if any session tracks something."""
    rows = read(results / "benchmarks")
    if len(rows):
        alt = "the ratios over the sessions"
        drawing = Drawing("history", "figures", alt, (), lambda _: figure(rows))
        publish.write_page("history", [table(rows)], [drawing], results)


def table(rows: pd.DataFrame) -> Table:
    """The latest row of every benchmark, with the number of its sessions."""
    groups = tuple(
        Group(str(name), "", tuple(_line(like) for _, like in of_one.groupby(SAME, sort=True)))
        for name, of_one in rows.groupby("benchmark", sort=True)
    )
    title, heads = "The last session of each", ("benchmark", "size")
    return Table("history", title, "", tuple(COLUMNS), groups, heads=heads)


def _line(like: pd.DataFrame) -> Line:
    known = {str(name): value for name, value in like.iloc[-1].dropna().items()}
    known |= {"sessions": len(like), "tuned": "" if known["allocator_tuned"] else NOT_TUNED}
    if "peak_bytes" in known:
        known["peak"] = known["peak_bytes"] / view.MIB
    return view.line(known["size"], COLUMNS, known)


def figure(rows: pd.DataFrame) -> Figure:
    """The ratios over the sessions, one line a benchmark, one panel a device.

    Args:
        rows: of all sessions, at least one.
    """
    dates = {date: i for i, date in enumerate(sorted(rows.date.unique()), start=1)}
    devices = sorted(rows.device.unique())
    drawing = Figure(figsize=(9.0, 0.8 + 4.2 * len(devices)), layout="constrained")
    panels = drawing.subplots(len(devices), 1, squeeze=False)[:, 0]
    for ax, device in zip(panels, devices, strict=True):
        groups = rows[rows.device == device].groupby(SAME, sort=True)
        for i, (_, same) in enumerate(groups):
            own = {"color": COLOURS[i % len(COLOURS)], "marker": "os^vD"[i // len(COLOURS) % 5]}
            bars = (same.ratio - same.low, same.high - same.ratio)
            label = f"{same.benchmark.iloc[0]}, {same['size'].iloc[0]}"
            ax.errorbar(same.date.map(dates), same.ratio, bars, label=label, **STYLE, **own)
        days = dict.fromkeys(list(dates)[i][:10] for i in (0, -1))
        ax.set(yscale="log", ylabel="forward and backward passes", xlim=(0.5, len(dates) + 0.5))
        ax.set_xlabel(f"session, {' to '.join(days)}")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_title(device, fontsize=10)
        ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawing
