"""The study of normalizations from its records and those of Table 1: results/normalization.md."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lla.report.text import markdown_table, measured
from paper_tables.engine.records import FIDELITIES, Record, atomic_write
from paper_tables.evidence.intervals import difference_width
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.normalization.candidates import CANDIDATES
from paper_tables.exhibits.normalization.cells import AXES, CENTRED, MINIMA, RESCALINGS, TABLE
from paper_tables.paper.explosion import EXPLODES, MODES, RECOMMENDED, RISES, category
from paper_tables.paper.names import display

__all__ = ["Study", "write"]

LEAST_CHANGE = 0.10  # of the output at the edge of a plane: less is shrinking the plane
SAME = 1e-5  # difference up to which two planes are the same

QUESTION = """# A normalization under which no plane explodes

Sections 2.2 and 2.3 of the paper end saying that no normalization prevents the explosion of values
on the plane, and that a new one is needed. This page says where the explosion comes from, what was
tried, and what is recommended. Every number comes from a record; `tox -e tables -- --study`
computes them (the networks, weights and images are those of Table 1, and ResNet20 trained on
CIFAR-10)."""

CAUSE = """## The cause

Along filter-normalised axes of one network the ratio (largest loss / max(loss at the centre, ln C))
depends on which directions are drawn. *Centred* is the paper's uniform distribution in
[0, 1) minus 1/2, orthogonalised anew: what is left when the mean is taken away.

1. **The mean of the uniform axes.** Numbers in [0, 1) have the mean 1/2: three quarters of the
   squared norm of the first axis are one and the same number everywhere (of the second, which is
   made orthogonal to it, a ninth). What a filter sees after a ReLU is positive, so all its inputs
   add up, where those of a direction of mean zero cancel; and every layer does so to what the
   layer before did.
2. **Coherent eigenvectors.** The eigenvectors of the largest eigenvalues are the directions that
   move the output most, and filter normalization gives the filters in which an eigenvector is
   almost zero, and points anywhere, the full norm of their weights.
3. **BatchNorm's stored statistics.** They belong to the unmodified weights. In train mode every
   layer is normalised anew, and what the layers do is not multiplied with the depth."""

TRIED = f"""## What was tried

A candidate is to keep every plane from exploding (ratio below {EXPLODES:g} and every loss finite,
for all networks, both modes, uniform, normal and Hessian axes), without shrinking the plane: the
median relative change of the network's output at its edge is to stay above {LEAST_CHANGE:.0%}. The
plane is to tell a sharp minimum from a flat one, and not to depend on a factor that one layer of a
ReLU network takes from another (to {SAME:g}). Grids of 5 x 5 points, so ratios are lower bounds."""

RECOMMENDATION = f"""## The recommendation: `normalization={RECOMMENDED!r}`

Let f be the filter-normalised direction (L2), S the root of the sum of squares of the relative
changes of the layers' outputs, each parameter alone at the input that its layer has at the
weights (one forward-mode product a parameter and layer), and T the relative change of the
network's output (one forward-mode product). The axis is

    d = f / max(S, T / 2).

The first bound lets all layers together move their outputs by 100 percent for a coefficient of 1,
whatever the depth and however coherent the direction is. The second is the larger one only along
coherent directions, such as eigenvectors: there the network's output moves by its own norm at the
edge of a plane of distance 1. Along random directions it leaves alone what a small change of the
layers does to the output, which is what tells minima apart. Where f lies in its space is not
changed, only its length, so a filter still moves in proportion to its norm.

It is `lla.landscape.normalize_output`, and the default of `lla.loss_plane` for random and Hessian
axes. Its price: the axes depend on the batches and on the mode, and need a network whose
operations have forward-mode derivatives. Compare planes of two networks on the same batches."""

LIMITS = """## What it does not do

Rescaling single filters (one factor for each, which the next layer takes back) changes its planes,
as it does filter-normalised ones: with factors for its single inputs the filters of the next layer
have other norms. The table says by how much. Hessian axes of a rescaled network are other vectors,
so no normalization afterwards makes their planes the same. Along Hessian axes the bound on the
network's output divides out part of the sharpness that it is meant to show: compare networks along
random axes, or compare the eigenvalues themselves."""


EVERY = f"""## Every plane

Ratio / median relative change of the output at the edge. **Bold**: explodes; *italic*: rises (ratio
at least {RISES:g}). inf: points whose loss is not finite."""


@dataclass(frozen=True)
class Shown:
    """The planes of one place of the study: the largest ratio of them."""

    row: str
    state: str
    mode: str
    axes: str
    candidate: str
    ratio: float
    nonfinite: int
    change: float
    record: Record

    @property
    def place(self) -> tuple[str, str, str, str]:
        """Network, weights, mode and axes."""
        return self.row, self.state, self.mode, self.axes

    @property
    def name(self) -> str:
        """Its place in words."""
        weights = "random" if self.state == "random" else "trained"
        return f"{display(self.row)} {weights} {self.mode} {self.axes}"

    @property
    def verdict(self) -> str:
        """As for Table 1."""
        return category(self.ratio, self.nonfinite)


@dataclass(frozen=True)
class Study:
    """The records of the study, of each place the one with most images."""

    planes: list[Shown]
    others: dict[tuple[str, str], Record]  # (column, metric) -> of minima and rescaling

    @classmethod
    def of(cls, records: Iterable[Record]) -> Study:
        """Sort records; of a network's inputs the one with most images of most pixels counts."""
        cells = by_cell(records, TABLE)
        planes: dict[tuple[str, str], Shown] = {}
        others: dict[tuple[str, str], Record] = {}
        most: dict[tuple[str, str], tuple[int, int]] = {}
        for (row, column, _), metrics in cells.items():
            place = (row, column.partition("/")[0])
            most[place] = max(most.get(place, _amount(metrics)), _amount(metrics))
        for (row, column, _), metrics in cells.items():
            if _amount(metrics) < most[row, column.partition("/")[0]]:
                continue
            if {"ratio", "nonfinite", "change"} <= metrics.keys():
                state, mode, axes, candidate = column.split("/")
                ratio, nonfinite, change = (
                    metrics[m].value or 0.0 for m in ("ratio", "nonfinite", "change")
                )
                planes[row, column] = Shown(
                    row, state, mode, axes, candidate, ratio, int(nonfinite), change,
                    metrics["ratio"],
                )  # fmt: skip
            else:
                others |= {(column, metric): record for metric, record in metrics.items()}
        return cls(list(planes.values()), others)

    def of_candidate(self, name: str) -> list[Shown]:
        """Its planes along uniform, normal and Hessian axes.

        Where there is nothing to recalibrate its planes are those of filter normalization.
        """
        mine = [p for p in self.planes if p.candidate == name and p.axes != CENTRED]
        if name in CANDIDATES and CANDIDATES[name].recalibrate and mine:
            places = {p.place for p in mine}
            mine += [p for p in self.of_candidate("filter") if p.place not in places]
        return mine

    def measured(self, name: str) -> bool:
        """Whether a candidate has a plane wherever any other one has."""
        places = {p.place for p in self.planes if p.axes != CENTRED}
        return {p.place for p in self.of_candidate(name)} == places

    def contrast(self, minimum: str, candidate: str) -> tuple[float, float, bool] | None:
        """How much higher a plane rises around a minimum than around the small-batch one.

        Returns:
            The ratio of the mean rises, its standard error, and whether the 95 % interval of their
            difference lies above 0; None without records.
        """
        found = [self.others.get((f"minima/{m}/{candidate}", "rise"))
                 for m in (minimum, "small batch")]  # fmt: skip
        return None if None in found else _contrast(*[r for r in found if r is not None])


def _amount(metrics: dict[str, Record]) -> tuple[int, int]:
    config = next(iter(metrics.values())).config
    fidelity = next(iter(metrics.values())).fidelity or "substitute"
    return (-FIDELITIES.index(fidelity), config.get("images", 0) * config.get("side", 1) ** 2)


def _contrast(above: Record, below: Record) -> tuple[float, float, bool]:
    a, b = above.value or 0.0, below.value or 0.0
    sa, sb = above.stderr or 0.0, below.stderr or 0.0
    clear = a - b > difference_width((sa, above.n or 2), (sb, below.n or 2))
    ratio = a / b if b else math.inf
    return ratio, abs(ratio) * math.sqrt((sa / a) ** 2 + (sb / b) ** 2) if a and b else 0.0, clear


def write(records: Sequence[Record], results: Path) -> None:
    """Write `normalization.md` where there are records of the study."""
    study = Study.of(records)
    if not study.of_candidate(RECOMMENDED):
        return
    parts = [QUESTION, _answer(study), CAUSE, _cause_table(study), TRIED, _summary(study),
             "### What each is", _definitions(), "### Sharp and flat minima", _minima(study),
             RECOMMENDATION, LIMITS,
             EVERY, _every(study), _inputs(study)]  # fmt: skip
    atomic_write(results / f"{TABLE}.md", "\n\n".join(part for part in parts if part) + "\n")


def _answer(study: Study) -> str:
    ours = study.of_candidate(RECOMMENDED)
    bad = [p for p in ours if p.verdict == "explodes"]
    rising = [p for p in ours if p.verdict == "rises"]
    worst = max(ours, key=lambda p: p.ratio)
    least = min(ours, key=lambda p: p.change)
    highest = {n: max((p.ratio for p in study.of_candidate(n)), default=0.0) for n in CANDIDATES}
    passed = [f"{n} (largest ratio {highest[n]:.2g})" for n in CANDIDATES if _passes(study, n)]
    unknown = [name for name in CANDIDATES if "—" in _marks(study, name)]
    left = f" Not measured everywhere yet: {', '.join(unknown)}." if unknown else ""
    return (
        f"**Answer.** Under {RECOMMENDED!r} {len(bad)} of {len(ours)} planes explode and "
        f"{len(rising)} rise; the largest ratio is {worst.ratio:.3g} ({worst.name}), the smallest "
        f"change at an edge {least.change:.0%} ({least.name}). Candidates that meet every demand: "
        f"{', '.join(passed) or 'none'}.{left}"
    )


def _passes(study: Study, name: str) -> bool:
    return all(mark == "yes" for mark in _marks(study, name))


def _marks(study: Study, name: str) -> list[str]:
    """Whether a candidate meets each demand: "yes", "no", or "—" where it was not measured."""
    planes = study.of_candidate(name)
    contrasts = [study.contrast(m, name) for m in MINIMA if m != "small batch"]
    layers = study.others.get((f"rescaling/layers/{name}", "difference"))

    def word(known: bool, met: Callable[[], bool]) -> str:
        return "—" if not known else "yes" if met() else "no"

    return [
        word(study.measured(name), lambda: all(p.verdict != "explodes" for p in planes)),
        word(study.measured(name), lambda: min(p.change for p in planes) > LEAST_CHANGE),
        word(None not in contrasts, lambda: all(c[2] for c in contrasts if c)),
        word(layers is not None, lambda: layers is not None and (layers.value or 0.0) <= SAME),
    ]


def _summary(study: Study) -> str:
    rows = []
    for name in CANDIDATES:
        planes = study.of_candidate(name)
        if not planes:
            continue
        worst, least = max(planes, key=lambda p: p.ratio), min(planes, key=lambda p: p.change)
        count = sum(p.verdict == "explodes" for p in planes)
        rising = sum(p.verdict == "rises" for p in planes)
        marks = _marks(study, name)
        rows.append(
            [
                f"**{name}**" if name == RECOMMENDED else name,
                f"{count} / {rising} of {len(planes)}: {marks[0]}",
                f"{worst.ratio:.2g} ({worst.name})",
                f"{least.change:.1%} ({least.name}): {marks[1]}",
                *(_contrast_text(study, m, name) for m in MINIMA if m != "small batch"),
                marks[2],
                *(_difference_text(study, kind, name) for kind in RESCALINGS),
                "**yes**" if _passes(study, name) else "—" if "—" in marks else "no",
            ]
        )
    headers = ["candidate", "explode / rise: none explodes", "largest ratio",
               "least change at the edge: above 10 %", "rise, large batch / small batch",
               "rise, poisoned / small batch", "tells them apart", "layers rescaled: difference",
               "filters rescaled: difference", "meets all"]  # fmt: skip
    return markdown_table(rows, headers)


def _contrast_text(study: Study, minimum: str, name: str) -> str:
    found = study.contrast(minimum, name)
    return "—" if found is None else measured(found[0], found[1])


def _difference_text(study: Study, kind: str, name: str) -> str:
    record = study.others.get((f"rescaling/{kind}/{name}", "difference"))
    return "—" if record is None else f"{record.value:.1g}"


def _definitions() -> str:
    return "\n".join(f"- *{name}*: {c.words}." for name, c in CANDIDATES.items())


def _cause_table(study: Study) -> str:
    found = {(p.row, p.state, p.mode, p.axes, p.candidate): p for p in study.planes}
    rows = []
    for row, state, mode in dict.fromkeys((p.row, p.state, p.mode) for p in study.planes):

        def text(axes: str, name: str, place: tuple[str, str, str] = (row, state, mode)) -> str:
            plane = found.get((*place, axes, name))
            return "" if plane is None else _ratio(plane)

        rows.append(
            [display(row), "random" if state == "random" else "trained", mode,
             *(text(axes, "filter") for axes in AXES),
             *(text(axes, "filter, recalibrated") for axes in ("uniform", "hessian")),
             text("hessian", "filter, floored")]
        )  # fmt: skip
    headers = ["network", "weights", "mode", *AXES, "uniform, recalibrated",
               "hessian, recalibrated", "hessian, floored"]  # fmt: skip
    return markdown_table(rows, headers) + "\n\n" + _cause_counts(study)


def _cause_counts(study: Study) -> str:
    sentences = []
    for name, chosen in (("filter", AXES), ("filter, recalibrated", ("uniform", "hessian")),
                         ("filter, floored", ("hessian",))):  # fmt: skip
        for axes in chosen:
            planes = [p for p in study.planes if p.candidate == name and p.axes == axes]
            counts = ", ".join(
                f"{sum(p.verdict == 'explodes' for p in planes if p.mode == mode)} of "
                f"{sum(p.mode == mode for p in planes)} in {mode}"
                for mode in MODES
                if any(p.mode == mode for p in planes)
            )
            sentences.append(f"{axes} axes under *{name}* {counts}")
    return f"Planes that explode: {'; '.join(sentences)}."


def _minima(study: Study) -> str:
    names = ["top_eigenvalue", "loss", "test_accuracy"]
    rows = []
    for minimum, how in MINIMA.items():
        reference = [study.others.get((f"minima/{minimum}/reference", m)) for m in names]
        rises = [study.others.get((f"minima/{minimum}/{name}", "rise")) for name in CANDIDATES]
        batch, epochs = how["batch_size"], how["epochs"]
        rows.append(
            [f"{minimum} ({batch}, {epochs} epochs)"]
            + ["—" if r is None else measured(r.value, r.stderr) for r in (*reference, *rises)]
        )
    any_record = next((r for (c, _), r in study.others.items() if c.startswith("minima/")), None)
    if any_record is None:
        return ""
    config = any_record.config
    return (
        f"LeNet on {display(config['data'])}, {config['training_examples']} examples, Adam, "
        f"{config['trainings']} trainings each; *poisoned* has half as many examples with random "
        "labels added. The mean rise of the loss over a plane with Gaussian axes, on "
        f"{config['examples']} clean training examples; ± over trainings. The largest eigenvalue "
        "of the Hessian of the same loss is the independent witness of sharpness.\n\n"
        + markdown_table(
            rows, ["minimum", "largest eigenvalue", "loss", "test accuracy (%)", *CANDIDATES]
        )
    )


def _every(study: Study) -> str:
    found = {(p.row, p.state, p.mode, p.axes, p.candidate): p for p in study.planes}
    rows = []
    places = dict.fromkeys((p.row, p.state, p.mode, p.axes) for p in study.planes)
    for row, state, mode, axes in places:
        if axes == CENTRED:
            continue
        texts = []
        for name in CANDIDATES:
            plane = found.get((row, state, mode, axes, name))
            texts.append("" if plane is None else f"{_ratio(plane)} / {plane.change:.2g}")
        weights = "random" if state == "random" else "trained"
        rows.append([display(row), weights, mode, axes, *texts])
    return markdown_table(rows, ["network", "weights", "mode", "axes", *CANDIDATES])


def _ratio(plane: Shown) -> str:
    text = f"{plane.ratio:.2g}" + (f", {plane.nonfinite} inf" if plane.nonfinite else "")
    return {"explodes": f"**{text}**", "rises": f"*{text}*"}.get(plane.verdict, text)


def _inputs(study: Study) -> str:
    seen = {}
    for plane in study.planes:
        c = plane.record.config
        seen[plane.row, plane.state] = (
            f"- {display(plane.row)}, {plane.state}: {c['model']}, {c['images']} x {c['side']} px "
            f"of {display(c['data'])} [{plane.record.fidelity}]"
        )
    return "Inputs:\n\n" + "\n".join(seen.values())
