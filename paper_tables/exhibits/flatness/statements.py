"""What is claimed of exact flatness, and where it is judged."""

from __future__ import annotations

from paper_tables.paper import Claim

WORK = "arXiv:2603.09016"

STATEMENTS = (
    Claim(
        "flatness.identities",
        "closed form, Jacobian blocks",
        "trace, trace of the bias, relative flatness, its diagonal part and the table T equal "
        "those of the explicit Hessian, whatever the architecture",
        "the largest relative difference on nine small networks in float64, at most 1e-10",
        {"all": None},
    ),
    Claim(
        "flatness.invariant",
        "relative flatness",
        "relative flatness stays the same if a layer is scaled and the next one divided by as "
        "much, as a whole or filter by filter, while the trace falls with the square",
        "relative changes on small networks in float64, at most 1e-12",
        {"layer scaled": None, "filters scaled": None},
    ),
    Claim(
        "flatness.channels",
        "relative flatness",
        "relative flatness changes if input channels are rescaled, and does not if inputs are "
        "divided by their standard deviation",
        "the ratio before and after, away from 1 by more than 10 percent; with normalised inputs "
        "at most 1e-10 from 1",
        {"all": None},
    ),
    Claim(
        "flatness.correlation",
        "experiments",
        "relative flatness follows the generalization gap over a family of trained networks",
        "the 95 % interval of Kendall's tau with the gap of the loss lies above 0 (bootstrap over "
        "networks, no network dropped)",
        {"digits": None, "mnist": None, "cifar10": None},
    ),
    Claim(
        "flatness.wins",
        "experiments",
        "relative flatness follows the generalization gap more closely than every other measure",
        "the 95 % interval of |tau| of kappa minus |tau| of each comparator lies above 0 (paired "
        "bootstrap over networks)",
        {"digits": None, "mnist": None, "cifar10": None},
    ),
    Claim(
        "flatness.cost",
        "closed form",
        "the closed form is at least 20 times cheaper than Hutchinson's estimate to one percent",
        "seconds in one run; the products needed are estimated from the scatter of a few",
        {"resnet20": None, "squeezenet": None},
    ),
    Claim(
        "flatness.cost_blocks",
        "Jacobian blocks",
        "Jacobian blocks of all layers are cheaper than random products to one percent of the "
        "trace of all layers together",
        "seconds in one run; the products needed are estimated from the scatter of a few",
        {"resnet20": None},
    ),
)  # fmt: skip
