"""How records are published, whatever the benchmark."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from benchmarks import publish, view
from benchmarks.exhibits import EXHIBITS
from lla.report import pages
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine.exhibit import Exhibit
from paper_tables.engine.records import Record, read_records

RESULTS = Path(__file__).parents[2] / "results"


def record(value=1.0, row="lenet", column="a", **config):
    facts = {"verdict": "not_run", "reason": "is away"} if value is None else {}
    return Record(table="peers", row=row, column=column, metric="seconds", value=value,
                  fidelity="substitute", config=config, **facts)  # fmt: skip


def table(records):
    lines = tuple(Line(r.column, (Entry(str(r.value)),)) for r in records)
    return [Table("peers", "Peers", "", ("seconds",), (Group("", "", lines),))]


@pytest.fixture
def values(tmp_path):
    """Publishes records, and gives all that are there by column."""
    exhibit = Exhibit("peers", "benchmarks", tables=table)

    def put(*new):
        publish.publish(exhibit, new, tmp_path)
        path = tmp_path / "records" / "peers.jsonl"
        return {(r.row, r.column, *r.config.values()): r.value for r in read_records(path)}

    return put


def test_a_measurement_takes_the_place_of_its_earlier_one(values):
    values(record(1.0), record(2.0, column="b"), record(3.0, row="resnet"), record(4.0, side=32))
    assert values(record(5.0)) == {
        ("resnet", "a"): 3.0, ("lenet", "a", 32): 4.0, ("lenet", "a"): 5.0,
    }  # fmt: skip


def test_a_reason_gives_way_to_a_measurement_and_never_the_other_way_round(values):
    assert values(record(None)) == {("lenet", "a"): None}
    assert values(record(1.0)) == {("lenet", "a"): 1.0}
    assert values(record(None)) == {("lenet", "a"): 1.0}


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_committed_pages_are_those_of_the_committed_records(exhibit, tmp_path):
    shutil.copytree(RESULTS / "records", tmp_path / "records")
    publish.write(dataclasses.replace(exhibit, figures=lambda _: []), tmp_path)
    written = (tmp_path / "benchmarks" / f"{exhibit.name}.md").read_text()
    committed = (RESULTS / "benchmarks" / f"{exhibit.name}.md").read_text()
    without = [line for line in committed.splitlines() if not line.startswith("![")]
    assert [line for line in written.splitlines() if line] == [line for line in without if line]


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_any_writer_can_write_them(exhibit):
    (table,) = exhibit.sources or (exhibit.name,)
    found = exhibit.tables(read_records(RESULTS / "records" / f"{table}.jsonl"))
    assert found
    assert pages.latex(found).count("\\begin{table}") == len(found)
    assert exhibit.work == "benchmarks"
    assert view.page(exhibit.name).is_file()
