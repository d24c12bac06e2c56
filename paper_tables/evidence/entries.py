"""Records as the view shows them: entries with their error bars, verdicts and origin."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence

from lla.report.text import measured
from lla.report.view import Bar, Entry, Trace
from paper_tables.engine.records import Record, Source
from paper_tables.paper.names import display

RANGE = 20.0  # values that span more than this factor are drawn on a logarithmic scale
AXES = {"normal": "Gaussian", "hessian": "Hessian"}
STATES = {"random": "random weights", "pretrained": "trained weights"}
DIGITS = 12  # of a sha256 in an entry; the list of inputs shows all digits


def measured_entry(record: Record, bar: Bar | None = None, common: str | None = None) -> Entry:
    """The entry of one record.

    Args:
        record: what was measured, or why it was not.
        bar: its error bar.
        common: the fidelity that its line or group shows for all entries.
    """
    return Entry(
        text=measured(record.value, record.stderr),
        paper=record.paper_value,
        verdict=record.verdict,
        fidelity=None if record.fidelity == common else record.fidelity,
        reason=(record.reason or "") if record.value is None else "",
        bar=bar,
        traces=() if record.value is None else (trace(record),),
    )


def entries_of(
    cell: Mapping[str, Record], metrics: Iterable[str], common: str | None = None
) -> tuple[Entry | None, ...]:
    """The entries of some metrics of a cell, None where a metric has no record.

    Args:
        cell: its records by metric.
        metrics: in the order of the columns.
        common: the fidelity that the line says; that of the cell's first record by default.
    """
    common = common or next(iter(cell.values())).fidelity
    return tuple(
        measured_entry(cell[metric], common=common) if metric in cell else None
        for metric in metrics
    )


def bars(records: Sequence[Record | None]) -> list[Bar | None]:
    """The error bars of one line, all on one scale.

    Returns:
        One a record; None where there is no value, or nothing to compare it with.
    """
    intervals = [_interval(r) for r in records if r is not None and r.value is not None]
    printed = [p for r in records if r is not None and (p := _printed(r)) is not None]
    numbers = [*itertools.chain.from_iterable(intervals), *printed]
    positive = [number for number in numbers if number > 0]
    if not intervals or len(set(numbers)) < 2:
        return [None] * len(records)
    centres = [r.value for r in records if r is not None and r.value is not None]
    log = min([*centres, *printed]) > 0 and max(positive) > RANGE * min(positive)
    low, high = (min(positive), max(positive)) if log else (min(numbers), max(numbers))
    words = f"{'logarithmic, ' if log else ''}{low:.3g} to {high:.3g}"

    def place(number: float) -> float:
        if log:
            share = math.log(max(number, low) / low) / math.log(high / low)
        else:
            share = (number - low) / (high - low)
        return round(4 + 92 * share, 1)

    found: list[Bar | None] = []
    for record in records:
        if record is None or record.value is None:
            found.append(None)
            continue
        paper = _printed(record)
        below, above = map(place, _interval(record))
        mark = None if paper is None else place(paper)
        found.append(Bar(place(record.value), below, above, mark, words))
    return found


def _interval(record: Record) -> tuple[float, float]:
    assert record.value is not None  # the callers have checked it
    half = 2 * (record.stderr or 0.0)
    return record.value - half, record.value + half


def _printed(record: Record) -> float | None:
    try:
        return None if record.paper_value is None else float(record.paper_value)
    except ValueError:  # a category, as in Table 1
        return None


def differing(own: str, common: str) -> str | None:
    """An entry's fidelity; None if its line or group shows the same one for all entries."""
    return None if own == common else own


def pictures(record: Record) -> str:
    """The network and the pictures of a plane, in words."""
    config = record.config
    return (
        f"{config.get('model', record.row)}, {config.get('images')} x {config.get('side')} px "
        f"{display(str(config.get('data')))}"
    )


def short(digest: str) -> str:
    """The first digits of a sha256."""
    return digest[:DIGITS]


def trace(record: Record, title: str = "") -> Trace:
    """The facts that a record has."""
    r = record
    settings = (
        f"m {r.m}" if r.m else "",
        f"{r.probes} probes" if r.probes else "",
        _amount(r),
        "" if r.seed is None else f"seed {r.seed}",
        r.dtype or "",
        f"{r.reading} reading" if r.reading else "",
        {True: "legacy", False: "plain", None: ""}[r.legacy],
        f"{r.config['mode']} mode" if "mode" in r.config else "",
        f"route {r.route}" if r.route else "",
        f"{r.config['points']} points an axis" if "points" in r.config else "",
    )
    run = (
        f"{r.profile} profile" if r.profile else "",
        f"code {r.code_version}" if r.code_version else "",
        f"torch {r.torch}" if r.torch else "",
        r.device or "",
        f"{r.threads} threads" if r.threads else "",
        f"{r.seconds:.3g} s" if r.seconds is not None else "",
        f"{r.matvecs} products" if r.matvecs else "",
    )
    error = f"over {r.n} {r.stderr_kind or 'samples'}" if r.n and r.stderr is not None else ""
    examples = f"drawn examples sha256 {short(r.batch_sha256)}" if r.batch_sha256 else ""
    facts = {
        "fidelity": r.fidelity or "",
        "data": _joined((_source(r.data), examples)),
        "weights": _source(r.weights),
        "settings": _joined(settings),
        "± (1 standard error)": error,
        "run": _joined(run),
        "artifact": _source(r.artifact),
        "note": r.note or "",
        "record": f"{r.table} {r.row} {r.column} {r.metric}, config {r.config_hash}",
    }
    return Trace(title, tuple((name, value) for name, value in facts.items() if value))


def _amount(record: Record) -> str:
    if record.batches and record.batch_size:
        return f"{record.batches} x {record.batch_size} examples"
    images = record.config.get("images")
    return f"{images} images" if images else ""


def _source(source: Source | None) -> str:
    return f"{source.name}, sha256 {short(source.sha256)}" if source else ""


def _joined(parts: Iterable[str]) -> str:
    return ", ".join(part for part in parts if part)
