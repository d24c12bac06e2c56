"""Tables of good and bad minima, the measures beside the index, ellipsoids and costs."""

from __future__ import annotations

from lla.report.text import measured
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.exhibit import Records
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of
from paper_tables.evidence.entries import entries_of, measured_entry, trace
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.minima import ellipsoids, minefield, scans
from paper_tables.exhibits.minima.cells import CUTOFF, METRICS
from paper_tables.exhibits.minima.groups import Group as Minima
from paper_tables.exhibits.minima.groups import Metrics, groups, telling
from paper_tables.exhibits.minima.measured import COMPARED, INDEX, RADII
from paper_tables.exhibits.minima.tasks import GOOD, NETWORKS
from paper_tables.paper.names import display

MEANS = {
    "test_accuracy": "test accuracy (%)", "training_loss": "training loss",
    "mean_radius": "mean radius", "max_radius": "largest radius", INDEX: "log10 radial index",
    "log10_jensen": "Jensen's bound", "shortfall": "ellipsoid too small by",
}  # fmt: skip


def tables(records: Records) -> list[Table]:
    """All tables."""
    found = groups(records)
    return [
        _groups(found),
        _measures(found),
        _ellipsoids(records),
        _scans(records),
        _minefield(records),
        *_each(found),
    ]


def _groups(found: dict[str, list[Minima]]) -> Table:
    """One line a way to train, means over seeds."""
    parts = tuple(
        Group(_name(mine[0]), _settings(mine[0]), tuple(map(_line, mine)), mine[0].fidelity)
        for mine in found.values()
    )
    return Table(
        "minima", "Good and bad minima", legend(__file__, "minima", cutoff=CUTOFF),
        ("minima", *MEANS.values(), "halves apart", "censored"), parts, ("task", "training"),
    )  # fmt: skip


def _line(group: Minima) -> Line:
    of = group.count
    if not group.reached:
        said = group.tried[0]["training_loss"].note or ""
        return Line(group.variant, (Entry(of), *[None] * (len(MEANS) + 2)), said)
    traces = (trace(group.reached[0][INDEX], "the first of the networks"),)
    entries = [Entry(of, traces=traces)]
    for metric in MEANS:
        mean = group.mean(metric)
        entries.append(Entry(measured(mean.value, mean.stderr)))
    apart = abs(group.values("log10_first") - group.values("log10_second"))
    entries += [Entry(f"{apart.mean():.3g}"), Entry(f"{group.values('censored').sum():g}")]
    return Line(group.variant, tuple(entries))


def _measures(found: dict[str, list[Minima]]) -> Table:
    """One line a measure: whether it tells good from bad, and orders the bad."""
    parts = []
    for mine in found.values():
        good = next((g for g in mine if g.variant == GOOD and g.reached), None)
        bad = [g for g in mine if g.share > 0 and g.reached]
        if good is None or not bad:
            continue
        lines = tuple(
            Line(
                COMPARED[each.metric],
                (
                    Entry(f"{each.area:.2f}"),
                    Entry(f"{each.ratio:.4g}" + (" (difference)" if each.metric == INDEX else "")),
                    Entry(str(each.rho)),
                ),
            )
            for each in telling(good, bad)
        )
        count = sum(len(group.reached) for group in bad)
        settings = f"{len(good.reached)} good and {count} bad minima"
        parts.append(Group(_name(good), settings, lines, good.fidelity))
    return Table(
        "minima-measures", "What tells good minima from bad ones", legend(__file__, "measures"),
        ("pairs in the right order", "bad / good", "Spearman with test accuracy, bad alone"),
        tuple(parts), ("task", "measure"),
    )  # fmt: skip


def _ellipsoids(records: Records) -> Table:
    text = legend(__file__, "ellipsoids", seeds=ellipsoids.SEEDS)
    names = {name: name for name in ellipsoids.METRICS} | {ellipsoids.TRUE: "log10 volume"}
    title = "The radial index is no volume: ellipsoids of known volume"
    return _plain(records, ellipsoids.TABLE, "minima-ellipsoids", title, text, names)


def _scans(records: Records) -> Table:
    names = {
        "evaluations_informed": "evaluations, informed", "evaluations_full": "evaluations, full",
        "seconds_informed": "informed (s)", "seconds_full": "full (s)",
        "seconds_loop": "informed, point by point (s)", "difference": "radii differ by",
    }  # fmt: skip
    text = legend(__file__, "scans", directions=scans.DIRECTIONS)
    return _plain(records, scans.TABLE, "minima-scans", "What a radial index costs", text, names)


def _minefield(records: Records) -> Table:
    names = {
        "good_accuracy": "test accuracy, good (%)", "bad_accuracy": "test accuracy, bad (%)",
        "bad_training": "training accuracy, bad (%)", "explained": "variance in PCA (%)",
        "apart": "distance of bad from good (%)",
    }  # fmt: skip
    text = legend(
        __file__, "minefield", runs=minefield.RUNS, share=minefield.SHARE,
        starts=", ".join(map(str, minefield.STARTS)), components=minefield.COMPONENTS,
    )  # fmt: skip
    title = "The minefield: poisoned runs from the weights of good ones"
    return _plain(records, minefield.TABLE, "minima-minefield", title, text, names)


def _plain(
    records: Records, table: str, id: str, title: str, text: str, names: dict[str, str]
) -> Table:
    lines = []
    for (row, column, _), found in by_cell(records, table).items():
        common = next(iter(found.values())).fidelity
        lines.append(Line(f"{display(row)}, {column}", entries_of(found, names), fidelity=common))
    parts = (Group("", "", tuple(lines)),) if lines else ()
    return Table(id, title, text, tuple(names.values()), parts, ("", "minimum"))


def _each(found: dict[str, list[Minima]]) -> list[Table]:
    """Every network, one line each."""
    left_out = ("reached", "log10_low", "log10_high", "shortfall")
    wanted = [m for m in METRICS if m not in left_out]
    names = {**{m: m.replace("_", " ") for m in METRICS}, **RADII, **COMPARED}
    parts = []
    for mine in found.values():
        lines = [
            Line(
                f"{g.variant}, seed {_first(m).config['seed']}",
                tuple(_entry(m, name) for name in wanted),
                _first(m).note or "",
            )
            for g in mine
            for m in g.tried
        ]
        parts.append(Group(_name(mine[0]), _settings(mine[0]), tuple(lines), mine[0].fidelity))
    if not parts:
        return []
    columns = tuple(names[m] + (" [95 %]" if m == INDEX else "") for m in wanted)
    return [
        Table("minima-each", "Every minimum", legend(__file__, "each"), columns, tuple(parts),
              ("task", "network"), True)
    ]  # fmt: skip


def _entry(metrics: Metrics, name: str) -> Entry | None:
    if name not in metrics:
        return None
    record = metrics[name]
    if name != INDEX:
        return measured_entry(record, common=record.fidelity)
    low, high = (value_of(metrics[end]) for end in ("log10_low", "log10_high"))
    return Entry(f"{record.value:.6g} [{low:.6g}, {high:.6g}]", traces=(trace(record),))


def _first(metrics: Metrics) -> Record:
    return next(iter(metrics.values()))


def _name(group: Minima) -> str:
    return f"{display(group.row)}, {NETWORKS[group.row]}"


def _settings(group: Minima) -> str:
    config = _first(group.tried[0]).config
    training = config["training"]
    return (
        f"measured on at most {config['images']} training examples, {config['directions']} "
        f"directions, cutoff {config['cutoff']:g}, trained to a loss of {training['loss_bound']:g}"
    )
