"""What was found of good and bad minima, in paragraphs with numbers from records."""

from __future__ import annotations

import math

from lla.report.text import measured
from paper_tables.engine.exhibit import Finding, MissingError, Records
from paper_tables.engine.fidelity import rank
from paper_tables.evidence.legends import legend
from paper_tables.exhibits.minima.groups import Group, groups, pair, telling, unequal_losses
from paper_tables.exhibits.minima.measured import COMPARED, INDEX
from paper_tables.paper.names import display


def findings(records: Records) -> list[Finding]:
    """Whether good minima are told from bad ones, on the most faithful task, digits besides."""
    rows = sorted(groups(records), key=lambda row: rank(groups(records)[row][0].fidelity))
    found = []
    for row in rows:
        try:
            good, bad, every = pair(records, row)
        except MissingError:
            continue
        tellings = telling(good, every)
        areas = ", ".join(f"{COMPARED[t.metric]} {t.area:.2f}" for t in tellings)
        index = tellings[0]
        words = (
            f"On {display(row)} [{good.fidelity}] natural minima have a test accuracy of "
            f"{_shown(good, 'test_accuracy')} %, and those with {bad.variant} one of "
            f"{_shown(bad, 'test_accuracy')} %; mean radii are {_shown(good, 'mean_radius')} and "
            f"{_shown(bad, 'mean_radius')}, the log10 radial index {_shown(good, INDEX)} and "
            f"{_shown(bad, INDEX)}. It is no volume: for an ellipsoid whose eigenvalues spread by "
            f"one decade it would be too small by {good.mean('shortfall').value:.4g} orders of "
            "magnitude."
        )
        areas += unequal_losses(good, every)
        text = legend(__file__, "finding", words=words, areas=areas)
        within = "order" if math.isfinite(index.rho.value) else "no order"
        text += " " + legend(__file__, within, rho=index.rho, n=index.n)
        found.append(text)
    if not found:
        return []
    return [Finding("Do good minima reach further than bad ones?", "\n\n".join(found))]


def _shown(group: Group, metric: str) -> str:
    mean = group.mean(metric)
    return measured(mean.value, mean.stderr)
