"""How faithful to the paper something is: the order of the words, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable

from paper_tables.engine.records import FIDELITIES


def rank(fidelity: str | None) -> int:
    """The position of a fidelity, from the most faithful on; None (not run) is last.

    >>> sorted(["substitute", "paper", None, "reduced"], key=rank)
    ['paper', 'reduced', 'substitute', None]
    """
    return len(FIDELITIES) if fidelity is None else FIDELITIES.index(fidelity)


def least_faithful(words: Iterable[str | None]) -> str:
    """The least faithful of some fidelities; None counts as a stand-in.

    >>> least_faithful(["paper", "reduced"])
    'reduced'
    """
    return max(words, key=rank) or FIDELITIES[-1]


def cell_fidelity(*inputs: str | None, whole: bool) -> str:
    """The fidelity of a cell.

    Args:
        inputs: fidelities of its weights and data.
        whole: whether it computes as much as the paper, or only a part of it.

    >>> cell_fidelity("paper", whole=False)
    'reduced'
    """
    return least_faithful((*inputs, "paper" if whole else "reduced"))
