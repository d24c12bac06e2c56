"""Records of measurements with a target, and the table made from them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tabulate import tabulate

from benchmarks.adaptive import COUNT, FIXED, SIZE, TARGET, Compared, Honesty, Repeated, Saving
from benchmarks.inputs import Input
from benchmarks.measure import standard_error
from lla import data, files
from paper_tables.engine import machine, records
from paper_tables.engine.records import Record, Source

TABLE = "adaptive"
PLAIN = math.prod(FIXED)  # products of the fixed budget

TEXT = f"""# Criteria to a stated error

`lla.criteria(..., target_stderr={TARGET})` adds probes, steps and batches until the standard \
errors of K_H1 and r_e are {TARGET:.0%} of their values. The fixed budget is the paper's: \
{FIXED[0]} probes of {FIXED[1]} steps on {FIXED[2]} batches, {PLAIN} products.
"""
HONESTY = f"""## Are the stated errors honest?

Small networks trained on the bundled digits, {COUNT} batches of {SIZE}, float64, measured again \
and again with other probes. The exact value is the mean over all probes, from all eigenvalues and \
eigenvectors, by plain PyTorch and NumPy. *Needed without*: products that probes of {FIXED[1]} \
steps take to the same standard error, by their exact scatter. *Bias*: mean over the repetitions \
minus the exact value, relative to it, with its standard error; *coverage*: repetitions of which \
the 95 % interval held the exact value, with a binomial interval.
"""
SAVING = """## Beside an accuracy pass

LeNet. *Fixed*: from the seconds of one probe and of two on one batch. *Over probes*: the four \
batches are all there are; *over batches*: they are a sample, and as many are taken as it needs. \
*Passes*: accuracy passes over the data set, in batches of the same size and with the data \
already on the device, that take as long; median and standard error where both were timed in \
turn, again and again.
"""


def honesty_records(case: Honesty, found: Repeated, allocator_tuned: bool) -> list[Record]:
    """The records of one network that was measured again and again.

    Args:
        case: what was measured.
        found: what came of it.
        allocator_tuned: whether the allocator was tuned.
    """
    count = case.repetitions
    relative = found.values / found.exact_kh1 - 1
    plain = found.plain_deviation**2 / (found.errors / found.values).mean() ** 2 * FIXED[1]
    values: dict[str, tuple[float, float | None]] = {
        "parameters": (found.parameters, None),
        "products": (found.products.mean(), standard_error(found.products)),
        "most_products": (found.products.max(), None),
        "plain_products": (plain, None),
        "kh1": (found.exact_kh1, None),
        "bias": (relative.mean(), standard_error(relative)),
        "scatter": (relative.std(ddof=1), None),
        "stated": ((found.errors / found.values).mean(), None),
        "coverage": (found.covered.mean(), _of_share(found.covered)),
        "re_error": (np.abs(found.re / found.exact_re - 1).max(), None),
    }
    config = {"network": case.network, "epochs": case.epochs, "repetitions": count,
              "target": TARGET, "batches": COUNT, "batch_size": SIZE}  # fmt: skip
    digits = data.load("digits")
    return _records(
        case.network, "honesty", values, config, n=count, dtype="float64", fidelity="substitute",
        data=Source("digits", digits.sha256), allocator_tuned=allocator_tuned,
        stderr_kind="probes",
    )  # fmt: skip


def saving_records(
    case: Saving, given: Input, found: Compared, allocator_tuned: bool
) -> list[Record]:
    """The records of LeNet with a target, beside the fixed budget.

    Args:
        case: what was compared.
        given: on which weights and data.
        found: what came of it.
        allocator_tuned: whether the allocator was tuned.
    """
    config = {"network": "lenet", "batch_size": case.batch_size, "target": TARGET,
              "examples": given.count, "data_sha256": given.data.sha256,
              "weights_sha256": given.weights.sha256}  # fmt: skip
    result = []
    for budget, spent in found.spent.items():
        values: dict[str, tuple[float, float | None]] = {
            "seconds": (spent.seconds, None),
            "products": (spent.products, None),
            "passes": (
                found.passes if budget == "probes" else (spent.seconds / found.resident, None)
            ),
            **{f"error_{name}": (error, None) for name, error in spent.errors.items()},
        }
        if spent.converged is not None:
            values["converged"] = (float(spent.converged), None)
        result += _records(
            f"lenet {case.batch_size}", budget, values, config, n=given.count,
            dtype="float32", fidelity=given.fidelity, batches=spent.batches,
            batch_size=case.batch_size, data=given.data, weights=given.weights,
            note=given.note, allocator_tuned=allocator_tuned,
        )  # fmt: skip
    return result


def _records(
    row: str,
    column: str,
    values: dict[str, tuple[float, float | None]],
    config: dict[str, Any],
    stderr_kind: str | None = None,
    **facts: Any,
) -> list[Record]:
    timing = machine.environment()
    return [
        Record(
            table=TABLE, row=row, column=column, metric=metric, value=float(value),
            stderr=None if error is None else float(error),
            stderr_kind=None if error is None else stderr_kind,
            config={**config, "device": timing["device"]}, **facts, **timing,
        )
        for metric, (value, error) in values.items()
        if math.isfinite(value)
    ]  # fmt: skip


def _of_share(held: np.ndarray) -> float:
    """Standard error of a share, with two more of each kind: above 0 where all or none held.

    A. Agresti and B. A. Coull, The American Statistician 52 (1998).
    """
    count = len(held) + 4
    share = (held.sum() + 2) / count
    return math.sqrt(share * (1 - share) / count)


def save(new: Sequence[Record], results: Path) -> None:
    """Publish records in the place of those of the same row, and the table of all.

    Args:
        new: records.
        results: the folder of results.
    """
    rows = {record.row for record in new}
    path = results / "records" / f"{TABLE}.jsonl"
    records.update_records(path, lambda old: [r for r in old if r.row not in rows] + list(new))
    text = render(records.read_records(path))
    files.atomic_write(results / "benchmarks" / f"{TABLE}.md", text)


def render(found: Iterable[Record]) -> str:
    """The tables in Markdown.

    Args:
        found: all records of measurements with a target.
    """
    groups: dict[tuple[str, str], dict[str, Record]] = {}
    for record in found:
        groups.setdefault((record.row, record.column), {})[record.metric] = record
    honest = [_honest(row, group) for (row, column), group in groups.items() if column == "honesty"]
    saved = [_saved(*place, group) for place, group in groups.items() if place[1] != "honesty"]
    notes = dict.fromkeys(
        f"{row}: {r.data.name if r.data else ''} [{r.fidelity}], {r.n} images in a pass; {r.note}; "
        f"{r.device}, {r.threads} threads."
        for (row, column), group in groups.items()
        if column != "honesty" and (r := group["seconds"])
    )
    parts = [TEXT]
    if honest:
        headers = ("network", "parameters", "repetitions", "products", "most", "fixed / these",
                   "needed without", "K_H1, exact", "bias", "scatter", "stated error", "coverage",
                   "largest error of r_e")  # fmt: skip
        parts += [HONESTY, tabulate(honest, headers, tablefmt="github", disable_numparse=True), ""]
    if saved:
        titles = ("network, batch", "budget", "batches", "products", "seconds", "passes",
                   "error of K_H1", "error of r_e", "target met")  # fmt: skip
        table = tabulate(saved, titles, tablefmt="github", disable_numparse=True)
        parts += [SAVING, table, "", *notes, ""]
    return "\n".join(parts)


def _honest(row: str, group: dict[str, Record]) -> tuple[str, ...]:
    value = {name: record.value or 0.0 for name, record in group.items()}
    count = group["coverage"].n or 1
    bias = group["bias"]
    low, high = stats.binomtest(round(value["coverage"] * count), count).proportion_ci()
    return (
        row,
        f"{value['parameters']:.0f}",
        str(count),
        f"{value['products']:.0f}",
        f"{value['most_products']:.0f}",
        f"{PLAIN / value['products']:.1f}",
        f"{value['plain_products']:.0f}",
        f"{value['kh1']:.4g}",
        f"{value['bias']:+.2%} ± {bias.stderr or 0.0:.2%}",
        f"{value['scatter']:.2%}",
        f"{value['stated']:.2%}",
        f"{value['coverage']:.1%} ({low:.1%} to {high:.1%})",
        f"{value['re_error']:.1e}",
    )


def _saved(row: str, budget: str, group: dict[str, Record]) -> tuple[str, ...]:
    value = {name: record.value or 0.0 for name, record in group.items()}
    met = {None: "", 1.0: "yes", 0.0: "no"}[value.get("converged")]
    error = group["passes"].stderr
    return (
        row,
        budget if budget == "fixed" else f"target, over {budget}",
        str(group["seconds"].batches),
        f"{value['products']:.0f}",
        f"{value['seconds']:.3g}",
        f"{value['passes']:.3g}" + (f" ± {error:.2g}" if error is not None else ""),
        *(f"{value[f'error_{n}']:.1%}" if f"error_{n}" in value else "" for n in ("kh1", "re")),
        met,
    )
