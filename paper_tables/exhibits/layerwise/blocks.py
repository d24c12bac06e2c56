"""How much of ||H||_F lies off the diagonal blocks of the layers, for every network."""

from __future__ import annotations

import lla
from lla.estimate import Estimate
from lla.layers.blocks import off_block_share
from paper_tables.engine.cells import Cell, Settings
from paper_tables.engine.records import Record
from paper_tables.exhibits.layerwise import known, mlps
from paper_tables.exhibits.layerwise.mlps import Family, Variant

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
    for net in known.wanted(settings):
        facts = known.config_of(settings, net, 1)
        state = "trained" if known.weights_found(settings, net) else "random weights"
        found.append(
            Cell(
                TABLE, net.row, state, f"{net.row}-blocks", (SHARE,),
                {**facts, "probes": net.probes, "seed": SEED}, known.fidelity(settings, net),
                f"{net.name}, {facts['weights']}, on {net.images} images of {facts['data']}",
                _of_known, stage=2, seconds=net.seconds[1], memory=2 * 2**30,
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
    net = known.network(cell.row)
    model, weights = known.loaded(settings, net)
    drawn = known.batches(settings, net, 1)
    problem = lla.Problem(model, known.typed(net, drawn.pairs[0]))
    found = off_block_share(problem, net.probes, SEED, squared=False)
    facts = drawn.facts(weights)
    return [cell.estimated(SHARE, found, stderr_kind="probes", matvecs=found.matvecs, **facts)]
