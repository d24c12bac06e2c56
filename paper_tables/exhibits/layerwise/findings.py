"""What was found of layer-wise Hessians, in paragraphs with numbers from records."""

from __future__ import annotations

from lla.report.text import measured
from paper_tables.engine.exhibit import Finding, MissingError, Records
from paper_tables.engine.fidelity import rank
from paper_tables.engine.records import Record
from paper_tables.evidence.criteria import value_of
from paper_tables.evidence.legends import legend
from paper_tables.evidence.selection import by_cell
from paper_tables.exhibits.layerwise import blocks, mlps
from paper_tables.exhibits.layerwise.claims import OFF_BLOCKS, first_overlap, ratio
from paper_tables.exhibits.layerwise.names import network_name


def findings(records: Records) -> list[Finding]:
    """Where the overlap comes from, and whether layers may be treated one by one."""
    return [*_centring(records), *_off_blocks(records)]


def _centring(records: Records) -> list[Finding]:
    """On the most faithful family that was measured."""
    for family in reversed(mlps.FAMILIES):
        try:
            raw, base = first_overlap(records, family.row, mlps.RAW.column)
            centred, moved = (
                first_overlap(records, family.row, variant.column)[0]
                for variant in (mlps.CENTRED, mlps.MOVED)
            )
        except MissingError:
            continue
        less, low, high = ratio(raw, centred)
        text = legend(
            __file__, "centring", name=f"{network_name(family.row)} [{raw.fidelity}]",
            raw=_shown(raw), times=value_of(raw) / value_of(base), centred=_shown(centred),
            less=less, low=low, high=high, moved=_shown(moved),
        )  # fmt: skip
        return [Finding("Why do top eigenspaces of different networks overlap?", text)]
    return []


def _off_blocks(records: Records) -> list[Finding]:
    found = [
        (row, column, next(iter(cell.values())))
        for (row, column, _), cell in by_cell(records, blocks.TABLE).items()
    ]
    if not found:
        return []
    found.sort(key=lambda item: rank(item[2].fidelity))
    large = sum(value_of(record) > OFF_BLOCKS for _, _, record in found)
    values = "; ".join(
        f"{network_name(row)}, {column}, {_shown(record)} (squared {value_of(record) ** 2:.2g}) "
        f"[{record.fidelity}]"
        for row, column, record in found
    )
    words = f"above {OFF_BLOCKS:g} of ||H||_F for {large} of {len(found)} networks measured"
    text = legend(__file__, "finding", words=words, values=values)
    return [Finding("May the layers of a network be treated one by one?", text)]


def _shown(record: Record) -> str:
    return measured(record.value, record.stderr)
