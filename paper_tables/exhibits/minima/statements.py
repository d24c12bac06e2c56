"""What is claimed of good and bad minima, and where it is judged."""

from __future__ import annotations

from paper_tables.exhibits.minima.tasks import CIRCLES, TASKS
from paper_tables.paper import Claim

WORK = "arXiv:1906.03291"
ROWS = tuple(each.name for each in TASKS if each.name != CIRCLES)
# networks without BatchNorm, whose layers can be rescaled
RESCALED = tuple(row for row in ROWS if row != "cifar10")


def _scopes(rows: tuple[str, ...]) -> dict[str, str | None]:
    return dict.fromkeys(rows)


STATEMENTS = (
    Claim(
        "minima.accuracy", "section 3",
        "networks that learn all training data differ in test accuracy by 30 points or more, by "
        "the poison alone",
        "natural minima minus those with the largest share of poison, means over seeds with a 95 % "
        "interval; all of them are right on every training example",
        _scopes(ROWS),
    ),
    Claim(
        "minima.radius", "section 4",
        "the mean radius of good minima is at least 3 times that of bad ones",
        "the ratio of geometric means over seeds and its 95 % interval; largest share of poison",
        _scopes(ROWS),
    ),
    Claim(
        "minima.index", "section 4",
        "the radial index of good and bad minima differs by more than 1000 orders of magnitude",
        "at equal n, directions and cutoff; means over seeds with a 95 % interval; largest share "
        "of poison",
        _scopes(ROWS),
    ),
    Claim(
        "minima.rescaled", "section 4",
        "radii stay the same if a layer is scaled and the next one divided by as much",
        "the largest relative change over all minima, at most 1e-6",
        _scopes(RESCALED),
    ),
    Claim(
        "minima.order", "section 4",
        "within the poisoned group the radial index does not order the test accuracy",
        "Spearman's correlation over all shares of poison: its 95 % interval (bootstrap over "
        "networks, which is too narrow for networks that are alike) ends below 0.5; it fails where "
        "the interval lies above 0",
        _scopes(ROWS),
    ),
    Claim(
        "minima.cheap", "not in the work",
        "kappa, the trace, the largest eigenvalue, r_e and K_H05 tell good from bad minima as well "
        "as the radial index does",
        "the share of pairs of a good and a bad minimum in the right order, over all shares of "
        "poison, not below that of the index; it fails where the 95 % interval of the difference "
        "(bootstrap over networks) of one measure lies below 0; undecided where the training "
        "losses differ tenfold",
        _scopes(ROWS),
    ),
    Claim(
        "minima.calibration", "not in the work",
        "the radial index is a volume for balls and far too small for ellipsoids",
        "within 1e-6 of the volume for balls; 1000 orders of magnitude too small or more at "
        "n = 3488 and a spread of 2 decades",
        {"all": None},
    ),
    Claim(
        "minima.scan", "not in the work",
        "a scan that is informed by earlier directions finds the same radii with fewer "
        "evaluations of the loss",
        "the largest relative difference of 250 radii, at most 1e-5 in float32, and both numbers "
        "of evaluations",
        {"digits": None},
    ),
    Claim(
        "minima.cost", "not in the work",
        "250 directions of a minimum of digits take less than 20 seconds",
        "seconds of one run on the machine of the record",
        {"digits": None},
    ),
)  # fmt: skip
