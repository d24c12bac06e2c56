import dataclasses

import pytest

from paper_tables.engine import claims
from paper_tables.engine.cells import Cell
from paper_tables.exhibits import find
from paper_tables.exhibits.level_sets import cells, comparison, findings, tables, walks

VALUES = {
    "deviation": 1e-9, "rise": -1e-4, "test_change": -20.0, "lowest_change": -21.0,
    "after_lowest": 3.0, "lowest_at": 0.9, "off_curve": 2.0, "kkt": 0.1, "l2_change": 30.0,
    "jacobian_change": -80.0,
}  # fmt: skip
CONFIG = {"network": "lenet", "seeds": 10, "images": 300, "noise": 0.25, "level": 0.01}
EXTREME = ("deviation", "rise")


def records_of(walk, row="mnist", *, stderr=1.0, fidelity="reduced", **values):
    found = {**VALUES, **values}
    compared = (comparison.OFF,) if walk in comparison.COMPARED else ()
    found = {name: found.get(name, 1.0) for name in (*walks.metrics(walk), *compared)}
    cell = Cell(cells.TABLE, row, walk, "", tuple(found), {**CONFIG, "walk": walk}, fidelity, "")
    return [
        cell.record(name, value, None if name in EXTREME else stderr, n=10)
        for name, value in found.items()
    ]


def all_records(**values):
    free = values.pop("free", 50.0)
    return [
        *records_of(walks.L2, **values),
        *records_of(walks.JACOBIAN, **values),
        *records_of(walks.FREE, test_change=free),
    ]


def judged(records, claim, scope):
    (found,) = [j for j in claims.judge(records, find()) if (j.claim.id, j.scope) == (claim, scope)]
    return found


@pytest.mark.parametrize(
    ("claim", "values", "verdict"),
    [
        ("tolerance", {}, "holds"),
        ("tolerance", {"deviation": 0.021}, "fails"),
        ("monotone", {}, "holds"),
        ("monotone", {"rise": 0.0}, "fails"),
        ("control", {}, "holds"),
        ("control", {"free": -20.0}, "fails"),
        ("control", {"free": -9.0}, "undecided"),
        ("test_loss", {}, "holds"),
        ("test_loss", {"test_change": -11.0}, "undecided"),
        ("test_loss", {"test_change": 2.0}, "fails"),
        ("pareto", {}, "holds"),
        ("pareto", {"off_curve": 4.0}, "undecided"),
        ("pareto", {"off_curve": -9.0}, "undecided"),  # the walk has not ended
        ("pareto", {"off_curve": 1000.0, "kkt": 0.04}, "fails"),
        ("pareto", {"off_curve": -9.0, "kkt": 0.04}, "fails"),
        ("minimum", {"after_lowest": 9.0}, "holds"),
        ("minimum", {"after_lowest": 2.0}, "undecided"),
        ("minimum", {"after_lowest": 0.0, "stderr": 0.1}, "fails"),
    ],
)
def test_verdicts_follow_from_intervals(claim, values, verdict):
    one = claim in ("tolerance", "monotone", "control")
    scope = "mnist" if one else "mnist: jacobian"
    assert judged(all_records(**values), f"levelset.{claim}", scope).verdict == verdict
    assert judged([], f"levelset.{claim}", scope).verdict == "not_run"


def test_what_is_missing_or_has_no_error_gets_no_verdict():
    free = records_of(walks.FREE)  # has no regularizer that could fall
    assert judged(free, "levelset.monotone", "mnist").verdict == "not_run"
    exact = records_of(walks.L2, stderr=None, off_curve=0.0)
    assert judged(exact, "levelset.pareto", "mnist: l2").verdict == "undecided"


def test_networks_without_a_weighted_sum_leave_the_comparison_undecided():
    some = [
        dataclasses.replace(r, n=9) if r.metric == "off_curve" else r for r in records_of(walks.L2)
    ]
    found = judged(some, "levelset.pareto", "mnist: l2")
    assert (found.verdict, "9 of 10 networks" in found.note) == ("undecided", True)
    none = [r for r in some if r.metric != "off_curve"]
    found = judged(none, "levelset.pareto", "mnist: l2")
    assert (found.verdict, "no network has" in found.note) == ("undecided", True)


def test_stand_ins_are_never_judged():
    records = records_of(walks.L2, "digits", fidelity="substitute")
    found = judged(records, "levelset.test_loss", "digits: l2")
    assert (found.verdict, "it would be 'holds'" in found.note) == ("not_run", True)
    assert "95 % interval -22.3 to -17.7" in found.note


def test_the_table_has_a_line_a_walk():
    (table,) = tables.tables(all_records())
    (group,) = table.groups
    assert (group.name, [line.name for line in group.lines]) == (
        "MNIST", ["l2", "jacobian", "free exploration"],
    )  # fmt: skip
    column = table.columns.index("its change (%)")
    assert [line.entries[column].text for line in group.lines] == [
        "-20.0 ± 1.0", "-20.0 ± 1.0", "50.0 ± 1.0",
    ]  # fmt: skip
    assert group.lines[2].entries[0] is None
    assert tables.tables([])[0].groups == ()


def test_the_finding_tells_what_more_steps_do():
    (finding,) = findings.findings(all_records())
    assert "MNIST [reduced], over 10 networks" in finding.text
    assert "by 50.0 ± 1.0 % along random" in finding.text
    assert "twice the steps" not in finding.text
    longer = records_of(walks.LONGER, test_change=8.0, jacobian_change=-99.0)
    (finding,) = findings.findings([*all_records(), *longer])
    assert "has changed by 8.0 ± 1.0 % at the end" in finding.text
    assert findings.findings([]) == []
