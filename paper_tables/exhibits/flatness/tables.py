"""Tables of exact flatness: identities, invariance, families, networks, costs."""

from __future__ import annotations

from collections.abc import Sequence

from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.exhibit import Records
from paper_tables.engine.records import Record
from paper_tables.evidence.entries import entries_of, trace
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.flatness import costs, family, identities, networks
from paper_tables.exhibits.flatness.comparators import MEASURES
from paper_tables.exhibits.flatness.correlation import (
    RESAMPLES,
    Correlation,
    Members,
    correlations,
    members,
)
from paper_tables.paper.names import display

Cells = dict[tuple[str, str, str], dict[str, Record]]


def tables(records: Records) -> list[Table]:
    """All tables; those of families and of all layers only where there are records of them."""
    found = by_cell(records, networks.TABLE)
    return [
        _identities(by_cell(records, identities.TABLE)),
        _invariance(by_cell(records, identities.TABLE)),
        *(_family(each) for each in members(records)),
        _networks(found),
        *_layers(found),
        _costs(by_cell(records, costs.TABLE)),
    ]


def _plain(
    id: str, title: str, text: str, columns: dict[str, str], lines: Sequence[Line], head: str
) -> Table:
    groups = (Group("", "", tuple(lines)),) if lines else ()
    return Table(id, title, text, tuple(columns.values()), groups, ("", head))


def _lines(cells: Cells, column: str | None, metrics: Sequence[str]) -> list[Line]:
    """One line a cell of a column, one entry a metric."""
    found = []
    for (row, own, _), mine in cells.items():
        if column in (None, own):
            first = next(iter(mine.values()))
            name = display(row) if column else f"{display(row)}, {own}"
            found.append(Line(name, entries_of(mine, metrics), fidelity=first.fidelity))
    return found


def _identities(cells: Cells) -> Table:
    names = {
        "trace_error": "trace", "trace_bias_error": "trace of the bias", "kappa_error": "kappa",
        "kappa_diag_error": "diagonal part", "table_error": "table T",
    }  # fmt: skip
    lines = _lines(cells, "explicit Hessian", list(names))
    title = "Exact flatness against explicit Hessians: largest relative difference"
    text = legend(__file__, "identities")
    return _plain("flatness-identities", title, text, names, lines, "architecture")


def _invariance(cells: Cells) -> Table:
    names = {
        "output_change": "output", "kappa_change": "kappa", "trace_error": "trace x lambda^2",
        "next_ratio": "next layer: kappa after / before",
        "next_ratio_normalized": "next layer, inputs normalised: from 1",
    }  # fmt: skip
    mine = {place: found for place, found in cells.items() if place[1] in identities.KINDS}
    title = "What a change of weights that keeps the function does to flatness"
    text = legend(__file__, "invariance", factor=identities.FACTOR)
    lines = _lines(mine, None, list(names))
    return _plain("flatness-invariance", title, text, names, lines, "architecture, change")


def _family(each: Members) -> Table:
    found = correlations(each)
    training = each.records[0].config["training"]
    spread, accuracy = each.spread["gap_loss"], each.spread["gap_accuracy"]
    low, high = family.FACTORS
    text = legend(
        __file__, "family", target=training["target"], images=training["images"],
        resamples=RESAMPLES, low=low, high=high, spread=spread[0], error=spread[1],
        accuracy_spread=accuracy[0], accuracy_error=accuracy[1],
        change=each.values[family.CHANGE].max(),
    )  # fmt: skip
    columns = (
        "tau", "r", "against kappa", "follows more closely", "tau, rescaled",
        "tau, without three", "r, without three",
    )  # fmt: skip
    lines = tuple(_line(each, found, name) for name in MEASURES) if found else ()
    return Table(
        id=f"flatness-{each.name}",
        title=f"Flatness and the generalization gap: {len(each.values)} networks on "
        f"{display(each.name)}",
        legend=text,
        columns=columns,
        groups=(Group("", "", lines, each.fidelity),) if lines else (),
        heads=("", "measure"),
        absence="not run: too few networks yet",
    )


def _line(each: Members, found: Sequence[Correlation], name: str) -> Line:
    def one(rescaled: bool = False, filtered: bool = False) -> Correlation:
        return next(
            c for c in found if (c.measure, c.rescaled, c.filtered) == (name, rescaled, filtered)
        )

    plain, after, dropped = one(), one(rescaled=True), one(filtered=True)
    against = "" if plain.less_than_first is None else str(plain.less_than_first)
    winner = {"other": MEASURES[name]}.get(plain.winner, plain.winner)
    texts = (
        str(plain.tau), str(plain.r), against, winner, str(after.tau), str(dropped.tau),
        str(dropped.r),
    )  # fmt: skip
    used = next(r for r in each.records if r.metric == name)
    facts = (trace(used, "the first of the networks"),)
    entries = (Entry(texts[0], traces=facts), *map(Entry, texts[1:]))
    return Line(MEASURES[name], entries)


def _networks(cells: Cells) -> Table:
    names = {
        "kappa": "kappa", "kappa_diag": "diagonal part", "trace": "trace", "neuronwise": "trace / d"
    }  # fmt: skip
    mine = {place: found for place, found in cells.items() if place[1] == networks.LAST}
    lines = []
    order = [case.row for case in networks.CASES]
    for (row, _, _), found in sorted(mine.items(), key=lambda item: order.index(item[0][0])):
        first = found["kappa"]
        layer, _, how = (first.note or "").partition(", ")
        settings = (
            f"{layer}, {how.partition(':')[0]}; {first.config['weights']}; "
            f"{first.config['images']} x {first.config['side']} px of "
            f"{display(first.config['data'])}"
        )
        entries = entries_of(found, names)
        lines.append(Line(display(row), entries, settings, first.fidelity))
    title = "Flatness of the last layer of known networks"
    text = legend(__file__, "networks")
    return _plain("flatness-networks", title, text, names, lines, "network")


def _layers(cells: Cells) -> list[Table]:
    """One group a network, one line a layer."""
    groups = []
    for (row, column, _), found in cells.items():
        if column != networks.ALL:
            continue
        first = next(iter(found.values()))
        lines = tuple(
            Line(
                layer,
                (
                    *entries_of(found, (f"kappa {layer}", f"trace {layer}")),
                    Entry(found[f"kappa {layer}"].note or ""),
                ),
            )
            for layer in first.config["layers"]
            if f"kappa {layer}" in found
        )
        data = f"{first.config['images']} images of {display(first.config['data'])}"
        settings = f"{first.config['weights']}; {data}"
        groups.append(Group(display(row), settings, lines, first.fidelity))
    if not groups:
        return []
    title, text = "Flatness of every layer", legend(__file__, "layers")
    columns = ("kappa", "trace", "method")
    return [
        Table("flatness-layers", title, text, columns, tuple(groups), ("network", "layer"), True)
    ]


def _costs(cells: Cells) -> Table:
    names = {
        "seconds_exact": "exact (s)", "seconds_product": "product (s)",
        "products": "products to 1 %", "products_each": "to 1 % of each layer",
        "speedup": "times cheaper", "agreement": "apart",
    }  # fmt: skip
    title = "What exact flatness costs beside random products"
    text = legend(__file__, "cost", repeats=costs.REPEATS, probes=costs.PROBES)
    lines = _lines(cells, None, list(names))
    return _plain("flatness-cost", title, text, names, lines, "network, method")
