"""Planes of networks that the paper does not have: their cells, claims and table."""

import dataclasses
import os
from pathlib import Path

import pytest

from paper_tables.engine import claims
from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.exhibits import find
from paper_tables.exhibits.table1 import panel
from paper_tables.exhibits.table1 import tables as table1
from tests.paper_tables.planted import plane

ROOT = os.environ.get("LLA_DATA")
STUDY = adjusted(PROFILES["quick"], study=True)


def of_panel(row, *place, ratio=1.0, points=41):
    found = plane(row, panel.STATE, *place, ratio=ratio, points=points)
    return [dataclasses.replace(r, table=panel.TABLE, fidelity="replication") for r in found]


def whole(exploding, normal=1.0, rows=panel.ROWS):
    """Every plane of the panel; `exploding` has the methods that explode along uniform axes."""
    return [
        record
        for row in rows
        for mode in ("train", "eval")
        for axes, methods in panel.AXES.items()
        for method in methods
        for record in of_panel(
            row, mode, axes, method,
            ratio=1e4 if axes == "uniform" and method in exploding
            else normal if axes == "normal" else 1.0,
        )
    ]  # fmt: skip


def judged(records, claim):
    (found,) = [
        j for j in claims.judge(records, find()) if (j.claim.id, j.scope) == (claim, "panel")
    ]
    return found


def test_each_method_that_explodes_somewhere():
    found = judged(whole("1234"), "T1.none")
    assert (found.verdict, found.fidelity) == ("holds", "replication")
    assert "of 12 columns explode under method 1 in 6, 2 in 6" in found.note
    assert judged(whole("134"), "T1.none").verdict == "undecided", "others may explode under 2"


def test_uniform_axes_against_gaussian_ones():
    assert judged(whole("4"), "X.uniform").verdict == "holds"
    assert judged(whole("4", normal=1e4), "X.uniform").verdict == "fails"
    assert judged(whole(""), "X.uniform").verdict == "undecided"


def test_a_network_that_is_missing():
    found = judged(whole("4", rows=panel.ROWS[:2]), "X.uniform")
    assert found.verdict == "undecided"
    assert "left out: ResNet56: no plane was computed yet" in found.note
    assert judged([], "T1.none").verdict == "not_run"


def test_a_network_of_which_planes_are_missing():
    some = [r for r in whole("4") if not (r.row == "resnet56" and "/eval/" in r.column)]
    found = judged(some, "X.uniform")
    assert found.verdict == "undecided"
    assert "left out: ResNet56: 11 of 22 planes are not computed" in found.note


def test_the_papers_claims_do_not_count_them():
    assert judged([], "T1.none").claim.id == "T1.none"
    (own,) = [
        j for j in claims.judge(whole("1234"), find())
        if (j.claim.id, j.scope) == ("T1.none", "pretrained")
    ]  # fmt: skip
    assert own.verdict == "not_run"


def test_cells_run_when_they_are_asked_for(tmp_path):
    settings = Settings(PROFILES["quick"], tmp_path, tmp_path, data_root=tmp_path)
    assert {cell.reason for cell in panel.cells(settings)} == {panel.SKIPPED}
    study = panel.cells(dataclasses.replace(settings, profile=STUDY))
    assert len(study) == len(panel.ROWS) * 2 * 11
    assert all(cell.reason.startswith("no weights") for cell in study), "nothing stands in"
    assert len({cell.name for cell in study}) == len(study)


@pytest.mark.skipif(not ROOT, reason="LLA_DATA names no data root")
def test_a_cell_on_real_data(tmp_path, monkeypatch):
    monkeypatch.setattr(panel, "IMAGES", 2)
    monkeypatch.setattr(panel, "POINTS", 5)
    settings = Settings(STUDY, tmp_path, tmp_path, data_root=Path(ROOT))
    cells = {cell.name: cell for cell in panel.cells(settings)}
    cell = cells["panel-resnet44-pretrained-eval-normal-4-0"]
    found = {record.metric: record for record in cell.compute(cell, settings)}
    assert {record.table for record in found.values()} == {panel.TABLE}
    assert {record.fidelity for record in found.values()} == {"replication"}
    assert {record.verdict for record in found.values()} == {None}, "the paper prints nothing"
    assert found["ratio"].batch_size == 2
    assert found["center_error"].value == 0


def test_their_table():
    table = table1.tables(whole("4"))[-1]
    assert [group.name for group in table.groups] == ["ResNet20", "ResNet44", "ResNet56"]
    line = next(line for line in table.groups[0].lines if line.name == "eval, uniform")
    assert [entry and entry.text for entry in line.entries] == [
        "1", "1", "1", "1e+04", None, "1",
    ]  # fmt: skip
    assert {entry.verdict for entry in line.entries if entry} == {None}
