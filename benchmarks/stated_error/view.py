"""The table of seconds to a stated error, from records alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import view
from benchmarks.stated_error.errors import MOST
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.cells import METRIC_NAMES
from paper_tables.engine.exhibit import Exhibit, Records
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of

COLUMNS = {
    "seconds": "{seconds.value:.3g}{spread}",
    "at lla's error": "{equal:.2f}",
    "times lla's": "{ratio:.2f}",
    "steps": "{steps.value:.0f}",
    "probes": "{probes.value:.0f}",
    "products": "{count:.0f}",
    "error of r_e": "{rms_re.value:.1%} ± {rms_re.stderr:.1%}",
    "error of K_H1": "{rms_kh1.value:.1%} ± {rms_kh1.stderr:.1%}",
    "stated for K_H1": "{stated_kh1.value:.1%}",
    f"5 % within {MOST} probes": "{within}",
    "K_H1": "{kh1.value:.4g}{kh1_error}",
    "seconds a product": "{seconds_product.value:.3g}",
}

Library = Mapping[str, Record]  # by metric


def tables(records: Records) -> list[Table]:
    """One table: a group a network, a line a library."""
    cases = view.cases(records)
    groups = tuple(_group(case) for case in cases)
    title, heads = "Seconds to 5 %", ("network, batch", "library")
    legend = " ".join(filter(None, map(_seen, cases)))
    return [Table("stated_error", title, legend, tuple(COLUMNS), groups, heads=heads)]


def _seen(records: Records) -> str:
    """What the real errors of this library are, beside the one that it was asked for."""
    found = view.columns(records)["lla"]
    if not {"rms_re", "rms_kh1"} <= found.keys():
        return ""
    target = found["rms_kh1"].config["target"]
    errors = {name: found[f"rms_{name}"] for name in ("re", "kh1")}
    beyond = any(value_of(error) > target for error in errors.values())
    texts = [
        f"{METRIC_NAMES[name]} {value_of(error):.1%} ± {error.stderr or 0.0:.1%}"
        for name, error in errors.items()
    ]
    return (
        f"{records[0].row}: the real errors of lla are {' and '.join(texts)}, "
        f"{'not ' if beyond else ''}within the {target:.0%} that were asked for."
    )


def _group(records: Records) -> Group:
    first, found = records[0], view.columns(records)
    config = first.config
    settings = (
        f"{view.data(first)}; {first.note}; {config['repetitions']} repetitions; "
        f"{view.machine(first)}; code {first.code_version}"
    )
    lines = tuple(_line(name, known, found["lla"]) for name, known in found.items())
    return Group(first.row, settings, lines)


def _line(name: str, found: Library, ours: Library) -> Line:
    failed = found.get("seconds")
    if failed is not None and failed.value is None:
        absent = Entry("not run", reason=failed.reason or "")
        return Line(name, (absent, *[None] * (len(COLUMNS) - 1)))
    known: dict[str, Any] = dict(found)
    if "kh1" in found:
        error = found["kh1"].stderr
        known["kh1_error"] = "" if error is None else f" ± {error:.2g}"
    if name == "lla":
        known |= {"spread": _plus_minus(found["seconds"]), "count": value_of(found["products"])}
        known["within"] = "" if value_of(found["met"]) == 1 else "target missed"
    elif name == "reference":
        known["count"] = value_of(found["products"])
    elif "least" in found:
        known |= _of_budget(found, ours)
    return view.line(name, COLUMNS, known)


def _of_budget(found: Library, ours: Library) -> dict[str, Any]:
    """What is known of the cheapest budget of another library, if there is one."""
    own, least = value_of(ours["seconds"]), value_of(found["least"])
    target = found["least"].config["target"]
    known: dict[str, Any] = {"within": "yes" if least <= target else f"no: {least:.1%}"}
    if "seconds" in found:
        seconds, probes, steps = (value_of(found[n]) for n in ("seconds", "probes", "steps"))
        batches = found["seconds"].batches or 1
        known |= {"ratio": seconds / own, "count": probes * steps * batches}
        known["spread"] = _interval(found)
    if "seconds_equal" in found:
        known["equal"] = value_of(found["seconds_equal"]) / own
    return known


def _plus_minus(record: Record) -> str:
    return "" if record.stderr is None else f" ± {record.stderr:.2g}"


def _interval(found: Library) -> str:
    if "seconds_low" not in found or "seconds_high" not in found:
        return ""
    low, high = (value_of(found[f"seconds_{end}"]) for end in ("low", "high"))
    return f" ({low:.3g} to {high:.3g})"


EXHIBIT = Exhibit("stated_error", "benchmarks", tables=tables)
