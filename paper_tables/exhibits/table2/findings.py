"""What Table 2 shows beside its cells, with numbers from records."""

from __future__ import annotations

from lla.report.text import measured
from paper_tables.engine.exhibit import Finding, Records
from paper_tables.evidence.criteria import every_evidence
from paper_tables.evidence.legends import legend
from paper_tables.paper import paper_value
from paper_tables.paper.names import display


def findings(records: Records) -> list[Finding]:
    """Printed K_H1 above 1 where that is impossible: piecewise-linear networks in eval mode."""
    parts = []
    for row in ("squeezenet", "mobilenet"):
        printed = paper_value("table2", row, "random/eval", "kh1")
        for record in every_evidence(records, "table2", row, "random/eval", "kh1")[:1]:
            parts.append(
                f"{display(row)} {measured(record.value, record.stderr)} (printed {printed}; "
                f"{record.batches} x {record.batch_size} pictures of "
                f"{record.config.get('side')} pixels, {record.probes} probes)"
            )
    if not parts:
        return []
    text = legend(__file__, "finding", networks="; ".join(parts))
    return [Finding("K_H1 above 1 in eval mode", text)]
