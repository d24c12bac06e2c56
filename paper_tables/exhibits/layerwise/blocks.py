"""How much of ||H||_F lies off the diagonal blocks of the layers, for every network."""

from __future__ import annotations

import lla
from lla.estimate import Estimate
from lla.layers.blocks import off_block_share
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.exhibits.layerwise import fixed, mlps
from paper_tables.exhibits.layerwise.mlps import Family, Variant
from paper_tables.inputs import known

TABLE = "layerwise_blocks"
SHARE = "share"  # of ||H||_F, not squared
VARIANTS = tuple(variant for variant in mlps.VARIANTS if not variant.moved)
MLP_PROBES = 8
SEED = 0  # of the probes


def cells(settings: Settings) -> list[Cell]:
    """One cell a network, or a variant of networks."""
    found = [
        _of_mlps(settings, family, variant)
        for family, reason in mlps.families(settings)
        if reason is None
        for variant in VARIANTS
    ]
    for case in fixed.wanted(settings):
        net = case.network
        facts = fixed.config_of(settings, case, 1)
        state = "trained" if known.weights_found(settings, net) else "random weights"
        found.append(
            Cell(
                TABLE, case.row, state, f"{case.row}-blocks", (SHARE,),
                {**facts, "probes": case.probes, "seed": SEED}, known.fidelity(settings, net),
                f"{net.name}, {facts['weights']}, on {case.images} images of {facts['data']}",
                _of_known, stage=2, seconds=case.seconds[1], memory=2 * 2**30,
            )
        )  # fmt: skip
    return found


def _of_mlps(settings: Settings, family: Family, variant: Variant) -> Cell:
    config = {**mlps.config_of(settings, family, variant), "probes": MLP_PROBES, "seed": SEED}
    name = f"{family.row}-{variant.column.replace(' ', '-')}-blocks".lower()
    return Cell(
        TABLE, family.row, variant.column, name, (SHARE,), config, mlps.fidelity(settings, family),
        f"{family.seeds} MLPs trained on {family.data}, {variant.column}", _of_family, stage=2,
        seconds=family.seconds / 4, memory=2**30,
    )  # fmt: skip


def _of_family(cell: Cell, settings: Settings) -> list[Record]:
    family = next(family for family in mlps.FAMILIES if family.row == cell.row)
    variant = next(variant for variant in VARIANTS if variant.column == cell.column)
    models, _, _ = mlps.trained(settings, family, variant.centred, variant.batchnorm)
    batch = mlps.examples(settings, family, variant.centred)
    shares = [
        off_block_share(lla.Problem(model, batch), MLP_PROBES, SEED, squared=False).value
        for model in models
    ]
    facts = mlps.facts(settings, family, variant)
    found = Estimate.of(shares, 0)
    return [cell.estimated(SHARE, found, stderr_kind="networks", **facts)]


def _of_known(cell: Cell, settings: Settings) -> list[Record]:
    case = fixed.case(cell.row)
    model, weights = known.loaded(settings, case.network, case.type)
    drawn = known.batches(settings, case.network, case.images, 1, case.side)
    problem = lla.Problem(model, known.typed(drawn.pairs[0], case.type))
    found = off_block_share(problem, case.probes, SEED, squared=False)
    facts = drawn.facts(weights)
    return [cell.estimated(SHARE, found, stderr_kind="probes", matvecs=found.matvecs, **facts)]
