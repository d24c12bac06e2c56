"""Verdicts on the claims about loss planes: T1.*, X.uniform, F1.center, F3.asym.

A plane that explodes on a coarse grid explodes on the paper's; one that does not is provisional,
and the note of a verdict that rests on such a plane says so. What a claim says of all networks is
undecided while one is missing and none contradicts it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from paper_tables.engine.records import FIDELITIES, Record
from paper_tables.evidence.intervals import Verdict, combined, interval
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.table1.cells import CAPS, SHAPE
from paper_tables.exhibits.table1.planes import TABLE, Block, Place, Pool, blocks, reason, results
from paper_tables.paper import paper_rows
from paper_tables.paper.explosion import MODES, PAPER_METHODS, RECOMMENDED, expected
from paper_tables.paper.names import display

__all__ = ["ASYMMETRIC", "PREDICATES", "Finding", "asymmetric", "judge"]

# "asymmetric": more than this share of the points below the cap have a mirror image above it.
ASYMMETRIC = 0.1
FEWEST = 20  # points below the cap, fewer say nothing of a shape

UNKNOWN = "no plane was computed yet"  # why one is missing of which no record says so

STATES = {"random init": "random", "pretrained": "pretrained"}
AXES = ("uniform", "hessian")  # the paper's


@dataclass
class Finding:
    """A verdict and what it rests on."""

    verdict: Verdict
    note: str
    pools: list[Pool] = field(default_factory=list)
    missing: str = ""  # why some planes were left out

    @property
    def records(self) -> list[Record]:
        """The records that it rests on."""
        return [plane.record for pool in self.pools for plane in pool.planes]

    @property
    def fidelity(self) -> str | None:
        """Of the least faithful plane."""
        return max((pool.fidelity for pool in self.pools), key=FIDELITIES.index, default=None)


class _MissingError(Exception):
    """Planes that a predicate needs."""


@dataclass(frozen=True)
class Evidence:
    """The planes of all networks in one weight state, each of its most faithful input."""

    state: str
    blocks: dict[str, Block]  # by row
    reasons: dict[str, str]  # row -> why it has no planes that can be judged

    @classmethod
    def of(cls, records: Sequence[Record], state: str) -> Evidence:
        """Choose, for each network, the most faithful input with the paper's planes.

        Stand-ins are left out, with the reason.
        """
        chosen: dict[str, Block] = {}
        reasons: dict[str, str] = {}
        found = [block for block in blocks(records) if block.state == state]
        for row in paper_rows(TABLE):
            mine = [block for block in found if block.row == row]
            faithful = [block for block in mine if block.fidelity != "substitute"]
            if faithful:
                # the most complete one; the most faithful of those that are equally so
                chosen[row] = max(faithful, key=lambda block: len(_paper_pools(block)))
            elif mine:
                reasons[row] = "only a stand-in was computed"
            else:
                reasons[row] = reason(records, row, state) or UNKNOWN
        return cls(state, chosen, reasons)

    def pool(self, row: str, place: Place) -> Pool:
        """One plane.

        Raises:
            _MissingError: it was not computed, or is a stand-in.
        """
        if row not in self.blocks:
            raise _MissingError(f"{display(row)}: {self.reasons[row]}")
        if place not in self.blocks[row].pools:
            raise _MissingError(f"{display(row)} {place.column(self.state)}: not computed yet")
        return self.blocks[row].pools[place]

    def column(self, row: str, mode: str, axes: str) -> dict[str, Pool]:
        """The planes of the paper's four methods."""
        return {method: self.pool(row, Place(mode, axes, method)) for method in PAPER_METHODS}

    def absent(self) -> str:
        """The networks that are left out, in words."""
        return "; ".join(f"{display(row)}: {reason}" for row, reason in self.reasons.items())


def _cell(evidence: Evidence) -> Finding:
    wrong, used, total = [], [], 0
    signed, final = 0, False
    for row, block in evidence.blocks.items():
        for place, pool in _paper_pools(block).items():
            wanted = expected(row, place.paper_column, place.method)
            assert wanted is not None
            total += 1
            used.append(pool)
            agrees = pool.category() in wanted
            other = block.pools.get(place._replace(method="3s")) if place.method == "3" else pool
            signed += other is not None and other.category() in wanted
            if not agrees:
                wrong.append(f"{display(row)} {place.paper_column} {place.method}")
                final |= pool.safe
    if not used:
        raise _MissingError(evidence.absent() or "no plane was computed yet")
    note = f"{total - len(wrong)} of {total} planes agree; with signed L1 {signed}"
    if wrong:
        note += f"; differ: {', '.join(wrong)}"
    complete = total == 16 * len(paper_rows(TABLE))
    verdict: Verdict = "fails" if final else "holds" if complete and not wrong else "undecided"
    return Finding(verdict, note, used, evidence.absent())


def _batchnorm(evidence: Evidence) -> Finding:
    train, evaluated = (
        {(axes, m): p for axes in AXES for m, p in evidence.column("resnet18", mode, axes).items()}
        for mode in MODES
    )
    in_train = [" ".join(key) for key, pool in train.items() if pool.category() == "explodes"]
    by_axes = {
        axes: [m for (a, m), p in evaluated.items() if a == axes and p.category() == "explodes"]
        for axes in AXES
    }
    holds = not in_train and all(by_axes.values())
    note = f"train explodes: {', '.join(in_train) or 'none of 8'}; eval explodes: " + ", ".join(
        f"{axes} {','.join(ms) or 'none'}" for axes, ms in by_axes.items()
    )
    return Finding("holds" if holds else "fails", note, [*train.values(), *evaluated.values()])


def _safe(evidence: Evidence) -> Finding:
    used: list[Pool] = []
    exploding: list[str] = []
    missing: list[str] = []
    for row in ("mobilenet", "vit"):
        try:
            columns = [
                (mode, axes, evidence.column(row, mode, axes)) for mode in MODES for axes in AXES
            ]
        except _MissingError as error:
            missing.append(str(error))
            continue
        for mode, axes, column in columns:
            used += column.values()
            exploding += [
                f"{display(row)} {mode}/{axes} {method}"
                for method, pool in column.items()
                if pool.category() == "explodes"
            ]
    if not used:
        raise _MissingError("; ".join(missing))
    note = (
        f"explode: {', '.join(exploding)}" if exploding else f"none of {len(used)} planes explodes"
    )
    verdict: Verdict = "fails" if exploding else "undecided" if missing else "holds"
    return Finding(verdict, note, used, "; ".join(missing))


def _filter(evidence: Evidence) -> Finding:
    """Whoever explodes anywhere in a mode explodes under filter L2; L1 avoids it somewhere."""
    seen: list[Pool] = []
    used, exceptions = [], []
    avoided: dict[str, list[str]] = {"3": [], "3s": []}
    for row, mode, columns in _modes(evidence):
        pools = [pool for column in columns.values() for pool in column.values()]
        seen += pools
        if all(pool.category() != "explodes" for pool in pools):
            continue
        used += pools
        for axes, column in columns.items():
            name = f"{display(row)} {mode}/{axes}"
            if column["4"].category() != "explodes":
                exceptions.append(name)
                continue
            for method, names in avoided.items():
                pool = evidence.blocks[row].pools.get(Place(mode, axes, method))
                if pool is not None and pool.category() != "explodes":
                    names.append(name)
    if not seen:
        raise _MissingError(evidence.absent() or "no plane was computed yet")
    if not used:
        return Finding("undecided", "no network explodes anywhere", seen, evidence.absent())
    note = (
        f"filter L2 does not explode for {', '.join(exceptions) or 'none that is prone to it'}; "
        f"true L1 avoids it for {', '.join(avoided['3']) or 'none'}; signed L1 for "
        f"{', '.join(avoided['3s']) or 'none'}"
    )
    verdict: Verdict = "holds" if not exceptions and avoided["3"] else "fails"
    if verdict == "holds" and evidence.reasons:
        verdict = "undecided"
    if verdict == "fails" and not exceptions and avoided["3s"]:
        note += ": that L1 helps is an effect of the signs"
    return Finding(verdict, note, used, evidence.absent())


def _hessian(evidence: Evidence) -> Finding:
    used, removed, added = [], [], []
    for row, mode, columns in _modes(evidence):
        for method in PAPER_METHODS:
            random, hessian = (columns[axes][method] for axes in AXES)
            used += [random, hessian]
            explode = (random.category() == "explodes", hessian.category() == "explodes")
            if explode == (True, False):
                removed.append(f"{display(row)} {mode} {method}")
            elif explode == (False, True):
                added.append(f"{display(row)} {mode} {method}")
    if not used:
        raise _MissingError(evidence.absent() or "no plane was computed yet")
    note = f"removed: {', '.join(removed) or 'nowhere'}; added: {', '.join(added) or 'nowhere'}"
    return Finding("holds" if removed else "fails", note, used, evidence.absent())


def _frozen(evidence: Evidence) -> Finding:
    free = evidence.column("resnet18", "eval", "uniform")
    frozen = {
        method: evidence.pool("resnet18", Place("eval", "uniform", method, True)) for method in free
    }
    before, after = (
        [method for method, pool in pools.items() if pool.category() == "explodes"]
        for pools in (free, frozen)
    )
    ratios = ", ".join(
        f"{method}: {free[method].ratio:.2g} free, {frozen[method].ratio:.2g} frozen"
        for method in free
    )
    note = (
        f"explode when free: {','.join(before) or 'none'}; when frozen: "
        f"{','.join(after) or 'none'}; ratios {ratios}"
    )
    verdict: Verdict = "holds" if after else "fails" if before else "undecided"
    return Finding(verdict, note, [*free.values(), *frozen.values()])


def _none(evidence: Evidence) -> Finding:
    used = []
    exploding: dict[str, list[str]] = {method: [] for method in PAPER_METHODS}
    for row, mode, columns in _modes(evidence):
        for axes, column in columns.items():
            for method, pool in column.items():
                used.append(pool)
                if pool.category() == "explodes":
                    exploding[method].append(f"{display(row)} {mode}/{axes}")
    if not used:
        raise _MissingError(evidence.absent() or "no plane was computed yet")
    ours = [
        (f"{display(row)} {place.mode}/{place.axes}", pool)
        for row, block in evidence.blocks.items()
        for place, pool in block.pools.items()
        if place.method == RECOMMENDED and not place.frozen
    ]
    bad = [name for name, pool in ours if pool.category() == "explodes"]
    counts = ", ".join(f"{method} in {len(names)}" for method, names in exploding.items())
    note = (
        f"of {len(used) // 4} columns explode under method {counts}; {RECOMMENDED!r} in "
        f"{len(bad)} of {len(ours)}"
    )
    if bad:
        note += f" ({', '.join(bad)})"
    holds = all(exploding.values())
    missing = evidence.absent()
    verdict: Verdict = "holds" if holds else "undecided" if missing else "fails"
    return Finding(verdict, note, used, missing)


def _uniform(evidence: Evidence) -> Finding:
    """Every plane that explodes along uniform axes under filter L2, again along Gaussian ones."""
    used, left, open_, texts = [], [], [], []
    for row, block in evidence.blocks.items():
        for mode in MODES:
            pair = [block.pools.get(Place(mode, axes, "4")) for axes in ("uniform", "normal")]
            uniform, normal = pair
            if uniform is None or normal is None:
                continue
            used += [uniform, normal]
            name = f"{display(row)} {mode}"
            texts.append(f"{name} {uniform.ratio:.2g} / {normal.ratio:.2g}")
            if uniform.category() == "explodes" and normal.category() == "explodes":
                left.append(name)
            elif normal.category() == "rises" and not normal.safe:
                open_.append(name)  # a finer grid may show an explosion
    if not used:
        raise _MissingError(evidence.absent() or "no plane was computed yet")
    note = f"ratios under filter L2, uniform / Gaussian: {', '.join(texts)}"
    exploding = any(pool.category() == "explodes" for pool in used[::2])
    if not exploding:
        return Finding("undecided", f"nothing explodes along uniform axes; {note}", used)
    if left:
        note += f"; still explode: {', '.join(left)}"
    if open_:
        note += f"; open, as they rise on a coarse grid: {', '.join(open_)}"
    verdict: Verdict = "fails" if left else "undecided" if open_ or evidence.reasons else "holds"
    return Finding(verdict, note, used, evidence.absent())


def _modes(
    evidence: Evidence,
) -> Iterable[tuple[str, str, dict[str, dict[str, Pool]]]]:
    """Network, mode, and the paper's methods by axes, where all of them were computed."""
    for row in evidence.blocks:
        for mode in MODES:
            try:
                yield row, mode, {axes: evidence.column(row, mode, axes) for axes in AXES}
            except _MissingError:
                continue


def asymmetric(shares: Sequence[float], threshold: float = ASYMMETRIC) -> Verdict:
    """Whether a sublevel set is asymmetric, by the 95 % interval over planes.

    Args:
        shares: of the points below the cap whose mirror image lies above it, one a plane.
        threshold: share from which on it is called asymmetric.

    >>> asymmetric([0.5, 0.52, 0.48]), asymmetric([0.5])
    ('holds', 'undecided')
    """
    found = interval(shares)
    if found is None or found[0] <= threshold <= found[1]:
        return "undecided"
    return "holds" if found[0] > threshold else "fails"


def _asymmetry(records: Sequence[Record], row: str) -> Finding:
    place = Place("eval", "uniform", "4")
    cells = by_cell(records, TABLE)
    candidates = [b for b in blocks(records) if (b.row, b.state) == (row, "pretrained")]
    for block in candidates:
        pool = block.pools.get(place)
        if pool is None:
            continue
        found = []
        for plane in pool.planes:
            key = (row, plane.record.column, plane.record.config_hash)
            if {*SHAPE} <= cells[key].keys():
                found.append((plane, {name: cells[key][name].value or 0.0 for name in SHAPE}))
        if not found:
            continue
        used = Pool(tuple(plane for plane, _ in found))
        verdicts, texts = [], []
        for suffix, cap in CAPS.items():
            shares = [values[f"asymmetry{suffix}"] for _, values in found]
            counts = [int(values[f"sublevel_points{suffix}"]) for _, values in found]
            texts.append(
                f"capped at {cap:g} max(L, ln C): share without a mirror image "
                f"{', '.join(f'{share:.2f}' for share in shares)} of {min(counts)} to "
                f"{max(counts)} points"
            )
            few = min(counts) < FEWEST
            verdicts.append("undecided" if few else asymmetric(shares))
        note = f"filter L2, uniform axes; {'; '.join(texts)}"
        return Finding(combined(verdicts), note, [used])
    raise _MissingError(reason(records, row, "pretrained") or UNKNOWN)


def _center(records: Sequence[Record]) -> Finding:
    planes = results(records)
    if not planes:
        raise _MissingError("no plane was computed yet")
    wrong = [f"{p.row} {p.record.column}" for p in planes if p.center_error != 0]
    note = (
        f"on {len(planes)} planes the loss in the middle, [20, 20] of the 41 x 41 points, is that "
        f"of the unmodified weights bit for bit"
    )
    if wrong:
        note = f"not the loss of the unmodified weights: {', '.join(wrong)}"
    # which data they are on does not matter: the claim is about the grid
    faithful = [p for p in planes if p.record.fidelity != "substitute"] or planes
    return Finding("fails" if wrong else "holds", note, [Pool((p,)) for p in faithful])


_BY_STATE: dict[str, Callable[[Evidence], Finding]] = {
    "T1.cell": _cell,
    "T1.bn": _batchnorm,
    "T1.safe": _safe,
    "T1.filter": _filter,
    "T1.hessian": _hessian,
    "T1.bnfrozen": _frozen,
    "T1.none": _none,
    "X.uniform": _uniform,
}


def _of_state(predicate: Callable[[Evidence], Finding], state: str) -> Predicate:
    return lambda records: predicate(Evidence.of(records, state))


def _of_row(row: str) -> Predicate:
    return lambda records: _asymmetry(records, row)


Predicate = Callable[[Sequence[Record]], Finding]

PREDICATES: dict[tuple[str, str], Predicate] = {
    **{
        (claim, scope): _of_state(predicate, state)
        for claim, predicate in _BY_STATE.items()
        for scope, state in STATES.items()
    },
    **{("F3.asym", row): _of_row(row) for row in ("lenet", "alexnet", "squeezenet")},
    ("F1.center", "all"): _center,
}


def judge(claim: str, scope: str, records: Sequence[Record]) -> Finding:
    """Judge one claim in one scope of `PREDICATES`.

    Args:
        claim: its id.
        scope: one of its scopes.
        records: all published records.

    Returns:
        The finding; without the planes that it needs it is `not_run`, with the reason.
    """
    try:
        found = PREDICATES[claim, scope](records)
    except _MissingError as error:
        return Finding("not_run", str(error))
    if found.fidelity == "substitute":
        note = f"only stand-in data, on which it would be {found.verdict!r}: {found.note}"
        return Finding("not_run", note, found.pools)
    if found.missing:
        found.note += f"; left out: {found.missing}"
    coarse = sum(not pool.safe for pool in found.pools)
    if coarse and claim != "F1.center":
        found.note += f"; provisional: {coarse} planes that do not explode are on a coarse grid"
    return found


def _paper_pools(block: Block) -> dict[Place, Pool]:
    return {
        place: pool
        for place, pool in block.pools.items()
        if place.axes in AXES and place.method in PAPER_METHODS and not place.frozen
    }
