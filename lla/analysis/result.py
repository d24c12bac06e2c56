"""What an analysis found, as one result that can be saved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from lla.estimate import Estimate
from lla.hessian.criteria.criteria import Criteria
from lla.hessian.eigenpairs import Eigenpairs
from lla.landscape.plane import Plane
from lla.layers.flatness_result import Flatness
from lla.problem import Mode
from lla.saved import Saved
from lla.storage import INTEGERS, array_faults

Weight = Literal["good", "note", "warning"]


def other_mode(mode: Mode) -> Mode:
    """The mode that is not this one."""
    return "train" if mode == "eval" else "eval"


@dataclass(frozen=True)
class Finding:
    """Something that the numbers say, in words."""

    topic: str
    text: str  # whole sentences, with the numbers and their errors
    weight: Weight  # "warning" where other numbers are not to be believed, or a fault is likely
    code: str = ""  # what to call next
    command: str = ""  # the same on the command line; the page fills in {network} and {more}

    def __repr__(self) -> str:
        return f"{self.topic}: {self.text}"


@dataclass(frozen=True)
class Blocks(Saved):
    """The Hessian's diagonal blocks, one for each module that has parameters of its own."""

    names: tuple[str, ...]  # [B] as in `named_modules`; "" for the network itself
    sizes: np.ndarray  # [B] parameters
    traces: np.ndarray  # [B, samples] v_b' (H v)_b for vectors v of random signs
    unused: np.ndarray  # [B] parameters with a gradient of 0 and no curvature in any sample

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))  # a file has a list

    def trace(self, i: int) -> Estimate:
        """The trace of a block."""
        return Estimate.of(self.traces[i], self.traces.shape[1])

    @property
    def total(self) -> Estimate:
        """The trace of the whole Hessian."""
        return Estimate.of(self.traces.sum(0), self.traces.shape[1])

    def share(self, i: int) -> Estimate:
        """The part of the trace in a block; its error is that of a ratio of two means.

        sd(t_b - s t) / (sqrt(samples) |mean t|) with the share s, since both come from the same
        samples.
        """
        own, whole = self.traces[i], self.traces.sum(0)
        mean, count = whole.mean(), len(whole)
        if mean == 0:
            return Estimate(0.0, None, 0, count)
        share = own.mean() / mean
        error = np.std(own - share * whole, ddof=1) / (np.sqrt(count) * abs(mean))
        return Estimate(float(share), float(error), count, count)

    @property
    def unused_share(self) -> float:
        """The share of all parameters that the loss does not depend on."""
        return float(self.unused.sum() / self.sizes.sum())

    def to_frame(self) -> pd.DataFrame:
        """One row a block: parameters, trace, share of the trace, unused parameters."""
        rows = []
        for i, name in enumerate(self.names):
            trace, share = self.trace(i), self.share(i)
            rows.append((name, self.sizes[i], trace.value, trace.stderr, share.value,
                         share.stderr, self.unused[i]))  # fmt: skip
        columns = ["block", "parameters", "trace", "trace_stderr", "share", "share_stderr",
                   "unused"]  # fmt: skip
        return pd.DataFrame(rows, columns=columns).set_index("block")

    def _faults(self) -> Iterator[str]:
        count = len(self.names)
        yield from array_faults(
            self,
            sizes=((count,), INTEGERS),
            traces=((count, self.traces.shape[-1]), "float64"),
            unused=((count,), INTEGERS),
        )


@dataclass(frozen=True)
class Analysis(Saved):
    """What `lla.analyze` measured of a network, and what it says."""

    criteria: Criteria
    other: Criteria | None  # in the other mode; None where that changes nothing, or cannot be
    why_one_mode: str  # the reason, if so
    extremes: Eigenpairs  # largest, smallest, second largest; as all below, of all batches together
    gradient: float  # norm of the gradient of the loss
    blocks: Blocks
    flatness: Flatness | None  # where it is exact; None where it is not
    why_no_flatness: str
    plane: Plane
    findings: tuple[Finding, ...]
    mode: Mode
    about: str  # model, number of examples and mode in words
    seconds: float  # that it took

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(self.findings))  # a file has a list

    def __repr__(self) -> str:
        found = "\n".join(f"- {finding!r}" for finding in self.findings)
        return f"Analysis of {self.about}\n{found}"
