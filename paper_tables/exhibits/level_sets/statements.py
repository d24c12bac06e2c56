"""What is claimed of level sets of the training loss, and where it is judged."""

from __future__ import annotations

from paper_tables.exhibits.level_sets.comparison import COMPARED
from paper_tables.exhibits.level_sets.families import FAMILIES
from paper_tables.paper import Claim

WORK = "arXiv:2011.04189"
ROWS: dict[str, str | None] = {family.row: None for family in FAMILIES}
BOTH: dict[str, str | None] = {f"{row}: {walk}": None for row in ROWS for walk in COMPARED}

STATEMENTS = (
    Claim(
        "levelset.tolerance",
        "walks",
        "every point of every walk, and of the free exploration, is at the training loss that was "
        "asked for",
        "the largest |L / level - 1| of all points, at most 0.02; of every fifth by a plain call "
        "of the network, too",
        ROWS,
    ),
    Claim(
        "levelset.monotone",
        "walks",
        "the regularizer falls from each point to the next",
        "the largest relative change between two points, below 0",
        ROWS,
    ),
    Claim(
        "levelset.test_loss",
        "walks",
        "at the end of a walk the test loss is at least 10 % below that of the start",
        "the 95 % interval of the mean change over networks lies below -10 %",
        BOTH,
    ),
    Claim(
        "levelset.control",
        "free exploration",
        "the test loss does not fall by 10 % along a random direction on the level set",
        "the 95 % interval of the mean change over networks lies above -10 %",
        ROWS,
    ),
    Claim(
        "levelset.pareto",
        "weighted sum",
        "a walk ends on the curve of the minima of L + lambda R",
        "the 95 % interval of how far R at the end lies above the curve at the same loss, within "
        "5 % of it; undecided where a network has no minima around that loss, or where R is "
        "further off and the KKT residual above 0.05: then the walk was not finished",
        BOTH,
    ),
    Claim(
        "levelset.minimum",
        "walks",
        "the test loss passes a minimum before the walk ends",
        "the 95 % interval of how far the test loss at the end lies above its minimum, above 1 %",
        BOTH,
    ),
)
