"""Claims about loss planes: T1.*, X.uniform, F1.center, F3.asym.

A plane that explodes on a coarse grid explodes on the paper's; one that does not is provisional,
and the note of a verdict that rests on such a plane says so. A claim on all networks is undecided
while one is missing and none contradicts it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from paper_tables.engine.exhibit import (
    ClaimScope,
    Decision,
    MissingError,
    Predicate,
    Records,
    Verdict,
)
from paper_tables.evidence.intervals import combined, interval
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.table1 import panel, planes
from paper_tables.exhibits.table1.cells import CAPS, SHAPE
from paper_tables.exhibits.table1.planes import Evidence, Place, Pool
from paper_tables.paper import paper_rows
from paper_tables.paper.explosion import MODES, PAPER_METHODS, RECOMMENDED, expected
from paper_tables.paper.names import display

# "asymmetric": more than this share of the points below the cap have a mirror image above it.
ASYMMETRIC = 0.1
LEGEND = legend(__file__, "claims", asymmetric=ASYMMETRIC)
FEWEST = 20  # points below the cap; fewer do not show a shape

STATES = {"random init": "random", "pretrained": "pretrained"}

_OPEN = "; open, as they rise on a coarse grid: "

_Columns = dict[str, dict[str, Pool]]  # by axes, then by method


def _cell(evidence: Evidence) -> Decision:
    wrong, used, signed, final = [], [], 0, False
    for row, block in evidence.blocks.items():
        for place, pool in planes.paper_pools(block).items():
            wanted = expected(row, place.paper_column, place.method)
            assert wanted is not None
            used.append(pool)
            other = block.pools.get(place._replace(method="3s")) if place.method == "3" else pool
            signed += other is not None and other.category() in wanted
            if pool.category() not in wanted:
                wrong.append(f"{display(row)} {place.paper_column} {place.method}")
                final |= pool.safe
    if not used:
        raise evidence.nothing()
    total = len(used)
    note = f"{total - len(wrong)} of {total} planes agree; with signed L1 {signed}"
    if wrong:
        note += f"; differ: {', '.join(wrong)}"
    complete = total == 16 * len(paper_rows(planes.TABLE))
    verdict: Verdict = "fails" if final else "holds" if complete and not wrong else "undecided"
    return _decision(verdict, note, used, evidence.absent())


def _batchnorm(evidence: Evidence) -> Decision:
    train, evaluated = (evidence.columns("resnet18", mode) for mode in MODES)
    in_train = [f"{axes} {m}" for axes, column in train.items() for m in _exploding(column)]
    by_axes = {axes: _exploding(column) for axes, column in evaluated.items()}
    holds = not in_train and all(by_axes.values())
    note = f"train explodes: {', '.join(in_train) or 'none of 8'}; eval explodes: " + ", ".join(
        f"{axes} {','.join(methods) or 'none'}" for axes, methods in by_axes.items()
    )
    return _decision("holds" if holds else "fails", note, _flat(train) + _flat(evaluated))


def _safe(evidence: Evidence) -> Decision:
    found: dict[str, Pool] = {}
    missing = []
    for row in ("mobilenet", "vit"):
        try:
            found |= {
                f"{display(row)} {mode}/{axes} {method}": pool
                for mode in MODES
                for axes in planes.PAPER_AXES
                for method, pool in evidence.column(row, mode, axes).items()
            }
        except MissingError as error:
            missing.append(str(error))
    left_out = "; ".join(missing)
    if not found:
        raise MissingError(left_out)
    exploding, open_ = _exploding(found), _open(found)
    note = f"none of {len(found)} planes explodes"
    if exploding:
        note = f"explode: {', '.join(exploding)}"
    elif open_:
        note += f"{_OPEN}{', '.join(open_)}"
    verdict: Verdict = "fails" if exploding else "undecided" if missing or open_ else "holds"
    return _decision(verdict, note, list(found.values()), left_out)


def _filter(evidence: Evidence) -> Decision:
    """Networks that explode at all in a mode do so under filter L2; L1 avoids it somewhere."""
    modes = _modes(evidence)
    prone = {at: c for at, c in modes.items() if any(map(_exploding, c.values()))}
    if not prone:
        seen = [pool for columns in modes.values() for pool in _flat(columns)]
        return _decision("undecided", "no network explodes anywhere", seen, evidence.absent())
    exceptions: dict[str, Pool] = {}
    avoided: dict[str, list[str]] = {"3": [], "3s": []}
    for (row, mode), columns in prone.items():
        for axes, column in columns.items():
            name = f"{display(row)} {mode}/{axes}"
            if "4" not in _exploding(column):
                exceptions[name] = column["4"]
                continue
            for method, names in avoided.items():
                pool = evidence.blocks[row].pools.get(Place(mode, axes, method))
                if pool is not None and pool.category() != "explodes":
                    names.append(name)
    l2 = f"filter L2 does not explode for {', '.join(exceptions)}"
    note = (
        f"{l2 if exceptions else 'filter L2 explodes wherever anything does'}; true L1 avoids it "
        f"for {', '.join(avoided['3']) or 'none'}; signed L1 for "
        f"{', '.join(avoided['3s']) or 'none'}"
    )
    if not exceptions and not avoided["3"] and avoided["3s"]:
        note += ": that L1 helps is an effect of the signs"
    # a network that is missing may be the one where L1 helps, or another exception
    verdict: Verdict = "undecided"
    if any(pool.safe for pool in exceptions.values()):
        verdict = "fails"
    elif not exceptions and not evidence.reasons:
        verdict = "holds" if avoided["3"] else "fails"
    used = [pool for columns in prone.values() for pool in _flat(columns)]
    return _decision(verdict, note, used, evidence.absent())


def _hessian(evidence: Evidence) -> Decision:
    used: list[Pool] = []
    changed: dict[tuple[bool, bool], list[str]] = {}
    for (row, mode), columns in _modes(evidence).items():
        for method in PAPER_METHODS:
            pair = [columns[axes][method] for axes in planes.PAPER_AXES]
            used += pair
            before, after = (pool.category() == "explodes" for pool in pair)
            changed.setdefault((before, after), []).append(f"{display(row)} {mode} {method}")
    removed, added = (", ".join(changed.get(way, [])) for way in ((True, False), (False, True)))
    note = f"removed: {removed or 'nowhere'}; added: {added or 'nowhere'}"
    # where networks are missing, it may be one of them
    nowhere: Verdict = "undecided" if evidence.reasons else "fails"
    return _decision("holds" if removed else nowhere, note, used, evidence.absent())


def _frozen(evidence: Evidence) -> Decision:
    free = evidence.column("resnet18", "eval", "uniform")
    frozen = {
        method: evidence.pool("resnet18", Place("eval", "uniform", method, True)) for method in free
    }
    before, after = _exploding(free), _exploding(frozen)
    ratios = ", ".join(
        f"{method}: {free[method].ratio:.2g} free, {frozen[method].ratio:.2g} frozen"
        for method in free
    )
    note = (
        f"explode when free: {','.join(before) or 'none'}; when frozen: "
        f"{','.join(after) or 'none'}; ratios {ratios}"
    )
    verdict: Verdict = "holds" if after else "fails" if before else "undecided"
    return _decision(verdict, note, [*free.values(), *frozen.values()])


def _none(evidence: Evidence) -> Decision:
    modes = _modes(evidence)
    columns = [column for by_axes in modes.values() for column in by_axes.values()]
    exploding = {method: sum(method in _exploding(c) for c in columns) for method in PAPER_METHODS}
    ours = {
        f"{display(row)} {place.mode}/{place.axes}": pool
        for row, block in evidence.blocks.items()
        for place, pool in block.pools.items()
        if place.method == RECOMMENDED and not place.frozen
    }
    bad = _exploding(ours)
    counts = ", ".join(f"{method} in {count}" for method, count in exploding.items())
    note = (
        f"of {len(columns)} columns explode under method {counts}; {RECOMMENDED!r} in "
        f"{len(bad)} of {len(ours)}"
    )
    if bad:
        note += f" ({', '.join(bad)})"
    missing = evidence.absent()
    verdict: Verdict = "holds" if all(exploding.values()) else "undecided" if missing else "fails"
    used = [pool for by_axes in modes.values() for pool in _flat(by_axes)]
    return _decision(verdict, note, used, missing)


def _uniform(evidence: Evidence) -> Decision:
    """The planes that explode along uniform axes under filter L2, compared with Gaussian axes."""
    along: dict[str, dict[str, Pool]] = {"uniform": {}, "normal": {}}
    for row, block in evidence.blocks.items():
        for mode in MODES:
            for axes, pools in along.items():
                pool = block.pools.get(Place(mode, axes, "4"))
                if pool is not None:
                    pools[f"{display(row)} {mode}"] = pool
    uniform, normal = along.values()
    pairs = {name: (uniform[name], normal[name]) for name in uniform if name in normal}
    if not pairs:
        raise evidence.nothing()
    used = [pool for pair in pairs.values() for pool in pair]
    ratios = (f"{name} {u.ratio:.2g} / {n.ratio:.2g}" for name, (u, n) in pairs.items())
    note = f"ratios under filter L2, uniform / Gaussian: {', '.join(ratios)}"
    exploding = _exploding(uniform)
    if not exploding:
        return _decision("undecided", f"nothing explodes along uniform axes; {note}", used)
    alone = [name for name in exploding if name not in normal]
    still = _exploding(normal)
    left = [name for name in exploding if name in still]
    open_ = _open({name: normal[name] for name in pairs})
    if left:
        note += f"; still explode: {', '.join(left)}"
    if open_:
        note += f"{_OPEN}{', '.join(open_)}"
    if alone:
        note += f"; not computed along Gaussian axes: {', '.join(alone)}"
    lacking = open_ or alone or evidence.reasons
    verdict: Verdict = "fails" if left else "undecided" if lacking else "holds"
    return _decision(verdict, note, used, evidence.absent())


def _modes(evidence: Evidence) -> dict[tuple[str, str], _Columns]:
    """The paper's planes by network and mode, if all of them were computed.

    Raises:
        MissingError: there are none.
    """
    found: dict[tuple[str, str], _Columns] = {}
    for row in evidence.blocks:
        for mode in MODES:
            with contextlib.suppress(MissingError):
                found[row, mode] = evidence.columns(row, mode)
    if not found:
        raise evidence.nothing()
    return found


def _exploding(pools: Mapping[str, Pool]) -> list[str]:
    """The names of those that explode."""
    return [name for name, pool in pools.items() if pool.category() == "explodes"]


def _open(pools: Mapping[str, Pool]) -> list[str]:
    """The names of those that rise on a coarse grid: on a finer one they may explode."""
    return [name for name, pool in pools.items() if pool.category() == "rises" and not pool.safe]


def _flat(columns: _Columns) -> list[Pool]:
    return [pool for column in columns.values() for pool in column.values()]


def asymmetric(shares: Sequence[float], threshold: float = ASYMMETRIC) -> Verdict:
    """Whether a sublevel set is asymmetric, by the 95 % interval over planes.

    Args:
        shares: of the points below the cap whose mirror image lies above it, one a plane.
        threshold: from this share on, the set is called asymmetric.

    >>> asymmetric([0.5, 0.52, 0.48]), asymmetric([0.5])
    ('holds', 'undecided')
    """
    found = interval(shares)
    if found is None or found[0] <= threshold <= found[1]:
        return "undecided"
    return "holds" if found[0] > threshold else "fails"


def _asymmetry(row: str, records: Records) -> Decision:
    place, cells = Place("eval", "uniform", "4"), by_cell(records, planes.TABLE)
    for block in planes.blocks(records):
        if (block.row, block.state) != (row, "pretrained") or place not in block.pools:
            continue
        found = [
            (plane, shape)
            for plane in block.pools[place].planes
            if (shape := cells[row, plane.record.column, plane.record.config_hash]).keys()
            >= {*SHAPE}
        ]
        if not found:
            continue
        verdicts, texts = [], []
        for suffix, cap in CAPS.items():
            shares = [shape[f"asymmetry{suffix}"].value or 0.0 for _, shape in found]
            counts = [int(shape[f"sublevel_points{suffix}"].value or 0) for _, shape in found]
            texts.append(
                f"capped at {cap:g} max(L, ln C): share without a mirror image "
                f"{', '.join(f'{share:.2f}' for share in shares)} of {min(counts)} to "
                f"{max(counts)} points"
            )
            few = min(counts) < FEWEST
            verdicts.append("undecided" if few else asymmetric(shares))
        note = f"filter L2, uniform axes; {'; '.join(texts)}"
        used = Pool(tuple(plane for plane, _ in found))
        return _decision(combined(verdicts), note, [used])
    raise MissingError(planes.reason(records, row, "pretrained") or planes.UNKNOWN)


def _center(records: Records) -> Decision:
    found = planes.results(records)
    if not found:
        raise MissingError(planes.UNKNOWN)
    wrong = [f"{p.row} {p.record.column}" for p in found if p.center_error != 0]
    note = (
        f"on {len(found)} planes the loss in the middle, [20, 20] of the 41 x 41 points, is that "
        f"of the unmodified weights bit for bit"
    )
    if wrong:
        note = f"not the loss of the unmodified weights: {', '.join(wrong)}"
    # which data they are on does not matter: the claim is about the grid
    faithful = [p for p in found if p.record.fidelity != "substitute"] or found
    used = tuple(plane.record for plane in faithful)
    return Decision("fails" if wrong else "holds", used, note, many=True)


def _decision(verdict: Verdict, note: str, pools: Sequence[Pool], missing: str = "") -> Decision:
    """A decision with what qualifies it: planes that were left out, and coarse grids.

    Args:
        verdict: what the planes say.
        note: why.
        pools: the planes that are the evidence.
        missing: why some planes were left out.
    """
    if missing:
        note += f"; left out: {missing}"
    coarse = sum(not pool.safe for pool in pools)
    if coarse:
        note += f"; provisional: {coarse} planes that do not explode are on a coarse grid"
    used = tuple(plane.record for pool in pools for plane in pool.planes)
    return Decision(verdict, used, note, many=True)


_BY_STATE: dict[str, Callable[[Evidence], Decision]] = {
    "T1.cell": _cell,
    "T1.bn": _batchnorm,
    "T1.safe": _safe,
    "T1.filter": _filter,
    "T1.hessian": _hessian,
    "T1.bnfrozen": _frozen,
    "T1.none": _none,
    "X.uniform": _uniform,
}


def _on_state(rule: Callable[[Evidence], Decision], state: str, records: Records) -> Decision:
    return rule(Evidence.of(records, state))


def _on_panel(rule: Callable[[Evidence], Decision], records: Records) -> Decision:
    """A rule on the panel, where the note names networks of which planes are missing."""
    found = Evidence.of(records, panel.STATE, panel.TABLE, panel.ROWS)
    missing = {
        row: f"{len(panel.PLACES) - count} of {len(panel.PLACES)} planes are not computed"
        for row, block in found.blocks.items()
        if (count := len(set(panel.PLACES) & set(block.pools))) < len(panel.PLACES)
    }
    return rule(dataclasses.replace(found, reasons={**found.reasons, **missing}))


def _none_on_panel(records: Records) -> Decision:
    """Other networks can show that each method explodes somewhere, but not that one never does."""
    found = _on_panel(_none, records)
    verdict: Verdict = "undecided" if found.verdict == "fails" else found.verdict
    return dataclasses.replace(found, verdict=verdict)


CLAIMS: dict[ClaimScope, Predicate] = {
    ClaimScope(claim, scope): partial(_on_state, rule, state)
    for claim, rule in _BY_STATE.items()
    for scope, state in STATES.items()
}
CLAIMS |= {
    ClaimScope("F3.asym", row): partial(_asymmetry, row)
    for row in ("lenet", "alexnet", "squeezenet")
}
CLAIMS[ClaimScope("F1.center", "all")] = _center
# what the paper claims of every network
CLAIMS[ClaimScope("T1.none", "panel")] = _none_on_panel
CLAIMS[ClaimScope("X.uniform", "panel")] = partial(_on_panel, _uniform)
