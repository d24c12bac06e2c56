"""What the benchmarks measured, session by session: one JSON file of tidy rows each.

A row says nothing of the machine but the kind of its device: ratios are taken against one forward
and backward pass of the same network in the same session, and compare across machines.
"""

from __future__ import annotations

import io
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from tabulate import tabulate

from benchmarks.measure import Ratio
from lla import files
from lla.errors import InputError
from lla.plotting import COLOURS
from paper_tables.engine import machine

SESSIONS = "sessions"  # folder of the files
# What two rows share that may be compared.
SAME = ["benchmark", "size", "device", "dtype", "threads", "allocator_tuned", "torch"]


@dataclass(frozen=True)
class Row:
    """One benchmark of one session."""

    benchmark: str  # "product linearized"
    size: str  # network and batch: "lenet 512"
    device: str  # "cpu", or "cuda" with the kind of GPU
    dtype: str
    threads: int
    allocator_tuned: bool
    ratio: float  # to the calibration kernel: median over interleaved repetitions
    low: float  # first quartile of the repetitions
    high: float  # third quartile
    rounds: int  # repetitions
    products: int | None  # Hessian-vector products of one repetition
    peak_bytes: int | None  # most memory that a process of its own takes for it
    torch: str
    python: str
    code: str  # version of lla with a digest of its source
    date: str  # of the session, UTC


@dataclass(frozen=True)
class Session:
    """What the rows of one session share."""

    date: str
    allocator_tuned: bool

    @classmethod
    def now(cls, allocator_tuned: bool) -> Session:
        """A session that begins now."""
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(date, allocator_tuned)

    def row(
        self,
        benchmark: str,
        size: str,
        ratio: Ratio,
        products: int | None = None,
        peak_bytes: int | None = None,
        dtype: str = "float32",
    ) -> Row:
        """A row of this session.

        Args:
            benchmark: what was measured.
            size: on which network and batch.
            ratio: its seconds over those of the calibration kernel.
            products: Hessian-vector products that it made.
            peak_bytes: memory of a process of its own.
            dtype: of the parameters.
        """
        facts = machine.environment("cuda" if torch.cuda.is_available() else "cpu")
        return Row(
            benchmark=benchmark,
            size=size,
            device=facts["device"],
            dtype=dtype,
            threads=facts["threads"],
            allocator_tuned=self.allocator_tuned,
            ratio=ratio.median,
            low=ratio.low,
            high=ratio.high,
            rounds=ratio.rounds,
            products=products,
            peak_bytes=peak_bytes,
            torch=facts["torch"],
            python=platform.python_version(),
            code=facts["code_version"],
            date=self.date,
        )


def write(rows: Sequence[Row], folder: Path) -> Path:
    """Write the rows of one session as a file of its own, and draw the history anew.

    Args:
        rows: of one session, at least one.
        folder: `results/benchmarks`.

    Returns:
        The file.
    """
    name = rows[0].date.partition("+")[0].replace(":", "").replace("-", "")
    path = folder / SESSIONS / f"{name}.json"
    text = json.dumps([asdict(row) for row in rows], indent=1, allow_nan=False)
    files.atomic_write(path, text + "\n")
    every = read(folder)
    stream = io.BytesIO()
    figure(every).savefig(stream, format="png", dpi=100)
    files.atomic_write(folder / "history.png", stream.getvalue())
    files.atomic_write(folder / "history.md", table(every))
    return path


def read(folder: Path) -> pd.DataFrame:
    """The rows of all sessions, the oldest first.

    Args:
        folder: `results/benchmarks`.

    Raises:
        InputError: a file is no list of such rows.
    """
    columns = [field.name for field in fields(Row)]
    rows = []
    for path in sorted((folder / SESSIONS).glob("*.json")):
        try:
            found = [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))]
        except (ValueError, TypeError) as error:
            raise InputError(f"{path.name} is no session of benchmarks: {error}") from None
        rows += [asdict(row) for row in found]
    table = pd.DataFrame(rows, columns=columns)
    table = table.astype({"products": "Int64", "peak_bytes": "Int64"})  # with missing ones
    return table.sort_values("date", kind="stable", ignore_index=True)


def table(rows: pd.DataFrame) -> str:
    """The latest row of every benchmark in Markdown, with how many sessions have it."""
    lines = []
    for _, same in rows.groupby(SAME, sort=True):
        last = same.iloc[-1]
        lines.append(
            (
                last.benchmark,
                last["size"],
                f"{last.ratio:.3g} ({last.low:.3g} to {last.high:.3g})",
                "" if pd.isna(last.products) else str(last.products),
                "" if pd.isna(last.peak_bytes) else f"{last.peak_bytes / 2**20:.0f}",
                f"{last.device}, {last.threads} threads, {last['dtype']}",
                f"{last.torch}{'' if last.allocator_tuned else ', allocator not tuned'}",
                last.date[:10],
                str(len(same)),
            )
        )
    headers = ("benchmark", "size", "in passes", "products", "peak MiB", "device", "torch", "last",
               "sessions")  # fmt: skip
    return (
        "# Benchmarks\n\n"
        "The last session that has each. *In passes*: seconds over those of as many forward and "
        "backward passes of the same network, measured in turn; median and quartiles. `python -m "
        "benchmarks.compare` holds the last session against those before.\n\n"
        + tabulate(lines, headers, tablefmt="github", disable_numparse=True)
        + "\n"
    )


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
            ax.errorbar(
                same.date.map(dates),
                same.ratio,
                yerr=(same.ratio - same.low, same.high - same.ratio),
                color=COLOURS[i % len(COLOURS)],
                marker="os^vD"[i // len(COLOURS) % 5],
                markersize=4,
                linewidth=1,
                capsize=2,
                label=f"{same.benchmark.iloc[0]}, {same['size'].iloc[0]}",
            )
        ax.set_yscale("log")
        ax.set_ylabel("forward and backward passes")
        days = dict.fromkeys(list(dates)[i][:10] for i in (0, -1))
        ax.set_xlabel(f"session, {' to '.join(days)}")
        ax.set_xlim(0.5, len(dates) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.set_title(device, fontsize=10)
        ax.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return drawing
