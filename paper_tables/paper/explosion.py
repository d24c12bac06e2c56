"""What Table 1 prints: which normalization methods explode, in the paper's own notation.

A column holds "yes" or "no" and numbers of methods. "yes" alone: every method explodes; with
numbers: only those do. "no" with numbers: those rise significantly without exploding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from paper_tables.paper import tables

Category = Literal["none", "rises", "explodes"]

# From these ratios on, a plane is called rising and exploding. The paper gives no ratios.
RISES = 10.0
EXPLODES = 100.0

MODES = ("train", "eval")

# The normalization that `lla.loss_plane` recommends; this is the one place that names it.
RECOMMENDED = "output"

# Method -> how directions are normalized. The paper prints the numbers without defining them;
# "3s" is method 3 as the authors' public code computes it, with sums for norms.
METHODS: dict[str, dict[str, Any]] = {
    "1": {"normalization": None},
    "2": {"normalization": "weight"},
    "3": {"normalization": "filter", "order": 1},
    "4": {"normalization": "filter", "order": 2},
    "3s": {"normalization": "filter", "order": 1, "signed": True},
    RECOMMENDED: {"normalization": RECOMMENDED},
}
PAPER_METHODS = ("1", "2", "3", "4")


@dataclass(frozen=True)
class Printed:
    """One of the 24 entries of Table 1."""

    explodes: bool
    methods: tuple[str, ...]  # those that explode (or rise); empty with `explodes`: all of them

    def __str__(self) -> str:
        return " ".join(["yes" if self.explodes else "no", *filter(None, [",".join(self.methods)])])


def printed(row: str, column: str) -> Printed:
    """What the paper prints for a network in a column, such as "eval/random".

    >>> str(printed("squeezenet", "eval/hessian"))
    'yes 2,4'
    """
    entry = tables()["table1"]["rows"][row][column]
    return Printed(entry["explodes"] == "yes", tuple(str(m) for m in entry["methods"]))


def expected(row: str, column: str, method: str) -> tuple[Category, ...] | None:
    """The categories that agree with what the paper prints about one plane.

    Where the paper lists the methods that explode, it does not say whether the others rise. So for
    these both other categories agree.

    Args:
        row: the network.
        column: "train/random", "train/hessian", "eval/random" or "eval/hessian".
        method: of `METHODS`; "3s" stands for the paper's method 3.

    Returns:
        Categories, or None for a network or a method that the paper does not have.

    >>> expected("lenet", "eval/random", "2"), expected("lenet", "eval/hessian", "2")
    (('none', 'rises'), ('rises',))
    """
    number = "3" if method == "3s" else method
    if number not in PAPER_METHODS or row not in tables()["table1"]["rows"]:
        return None
    entry = printed(row, column)
    listed = number in entry.methods
    if entry.explodes:
        return ("explodes",) if listed or not entry.methods else ("none", "rises")
    return ("rises",) if listed else ("none",)


def category(
    ratio: float, nonfinite: float, explodes: float = EXPLODES, rises: float = RISES
) -> Category:
    """The category of a plane.

    Args:
        ratio: largest finite loss on the plane / max(loss at the centre, ln C).
        nonfinite: points whose loss is infinite or NaN.
        explodes: from this ratio on, it is an explosion.
        rises: from this ratio on, it is a rise.

    >>> category(5.0, 0), category(50.0, 0), category(5.0, 1)
    ('none', 'rises', 'explodes')
    """
    if nonfinite > 0 or ratio >= explodes:
        return "explodes"
    return "rises" if ratio >= rises else "none"


def judged(
    measured: Category, wanted: tuple[Category, ...] | None, fidelity: str | None
) -> str | None:
    """The verdict on one plane; None for a stand-in, and where the paper prints nothing."""
    if wanted is None or fidelity == "substitute":
        return None
    return "reproduced" if measured in wanted else "differs"


def notation(categories: Mapping[str, Category]) -> str:
    """Write the categories of some methods as the paper does.

    Args:
        categories: of methods 1 to 4; a method that was not measured stands behind a question mark.

    >>> notation({"1": "explodes", "2": "none", "3": "explodes", "4": "explodes"})
    'yes 1,3,4'
    >>> notation({"1": "none", "2": "rises", "3": "none", "4": "none"})
    'no 2'
    """
    if not categories:
        return "—"
    for word, wanted in (("yes", "explodes"), ("no", "rises")):
        listed = [method for method in PAPER_METHODS if categories.get(method) == wanted]
        if listed or word == "no":
            break
    missing = [method for method in PAPER_METHODS if method not in categories]
    if word == "yes" and len(listed) == len(PAPER_METHODS):
        listed = []
    unknown = f" ?{','.join(missing)}" if missing else ""
    return " ".join([word, *filter(None, [",".join(listed)])]) + unknown


def options(method: str) -> dict[str, Any]:
    """The arguments of `lla.loss_plane` that normalize directions as a method does.

    >>> options("3")
    {'normalization': 'filter', 'order': 1, 'signed': False}
    """
    return {"normalization": None, "order": 2, "signed": False, **METHODS[method]}
