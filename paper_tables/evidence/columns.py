"""The parts of a record's column, for tables whose columns several exhibits or rooms read.

The column of a spectrum is `<state>/<mode>`, such as `random/eval`. That of a plane of Table 1 is
`<state>/<mode>/<axes>/<method>`, with `/frozen` behind it where BatchNorm's parameters do not move.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Which plane of a network and a weight state."""

    mode: str  # "train" | "eval"
    axes: str  # "uniform" | "normal" | "hessian"
    method: str  # of `explosion.METHODS`
    frozen: bool = False  # BatchNorm's parameters do not move

    def column(self, state: str) -> str:
        """The column of its records.

        >>> Place("eval", "uniform", "4").column("random")
        'random/eval/uniform/4'
        """
        parts = [state, self.mode, self.axes, self.method, *(["frozen"] if self.frozen else [])]
        return "/".join(parts)

    @property
    def paper_column(self) -> str:
        """The paper's column that it belongs to."""
        return f"{self.mode}/{'hessian' if self.axes == 'hessian' else 'random'}"


def place_of(column: str) -> tuple[str, Place]:
    """The state and the place that the column of a plane names.

    >>> place_of("pretrained/train/hessian/3s")
    ('pretrained', Place(mode='train', axes='hessian', method='3s', frozen=False))
    """
    state, mode, axes, method, *rest = column.split("/")
    return state, Place(mode, axes, method, bool(rest))


def state_of(column: str) -> str:
    """The weight state that the column of a spectrum or a plane names.

    >>> state_of("pretrained/eval"), state_of("accuracy")
    ('pretrained', 'accuracy')
    """
    return column.partition("/")[0]
