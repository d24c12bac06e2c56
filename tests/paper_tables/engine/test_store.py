import dataclasses
import time

import pytest

from lla.errors import InputError
from paper_tables.engine import publish as render
from paper_tables.engine import store
from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import PROFILES
from paper_tables.engine.progress import Lines
from paper_tables.engine.records import Source, read_records, write_records
from paper_tables.engine.suite import CellError, Suite
from paper_tables.exhibits import find


@pytest.fixture
def settings(tmp_path):
    return Settings(PROFILES["quick"], results=tmp_path / "results", work=tmp_path / "work")


def suite(settings, **changes):
    lines = []
    made = Suite(find(), dataclasses.replace(settings, **changes), Lines(lines.append))
    made.planned = 1
    return made, lines


def published(settings):
    return read_records(store.records_file(settings.results, "table2"))


def test_a_finished_cell_is_not_computed_again(settings, make_cell):
    calls = []
    first, lines = suite(settings)
    (record,) = first.run(make_cell(calls=calls))
    assert record.value == 0.97
    assert record.seconds is not None
    assert record.peak_memory > 0
    assert record.profile == "quick"
    assert published(settings) == [record]
    assert lines[-2] == "cell 1/1 lenet-random-eval (about 1 s) ... "
    assert lines[-1].startswith("done in")
    assert "K_H1 0.970 ± 0.010" in lines[-1]

    again, lines = suite(settings)
    again.run(make_cell(calls=calls))
    assert calls == ["lenet-random-eval"]
    assert "finished before" in lines[-1]

    asked, _ = suite(settings, recompute=True)
    asked.run(make_cell(calls=calls))
    asked.run(make_cell(calls=calls))  # shared by two test files: once a session
    assert len(calls) == 2


def test_another_configuration_is_another_cell(settings, make_cell):
    calls = []
    this, _ = suite(settings)
    this.run(make_cell(calls=calls))
    this.run(make_cell(calls=calls, config={"m": 50}))
    assert len(calls) == 2
    assert [r.m for r in published(settings)] == [100, 50]


def test_a_lost_artifact_makes_a_cell_unfinished(settings, make_cell):
    calls = []

    def artifact(cell, settings):
        return store.save_artifact(b"spectrum", f"spectra/{cell.hash}.bin", settings.work)

    cell = make_cell(column="random/train", calls=calls, artifact=artifact)
    suite(settings)[0].run(cell)
    name = published(settings)[0].artifact.name
    assert (settings.results / name).read_bytes() == b"spectrum"
    (settings.work / name).write_bytes(b"spoilt")
    suite(settings)[0].run(cell)
    assert len(calls) == 2
    assert (settings.work / name).read_bytes() == b"spectrum"


# 3 combined standard errors: 3 * sqrt(0.01^2 + 0.01^2) = 0.0424, and 0.001 for rounding
@pytest.mark.parametrize(("value", "agrees"), [(0.97 + 0.043, True), (0.97 + 0.045, False)])
def test_three_combined_standard_errors(settings, make_cell, value, agrees):
    suite(settings)[0].run(make_cell())
    this, _ = suite(settings, recompute=True)
    if agrees:
        this.run(make_cell({"kh1": value}))
        assert published(settings)[0].value == value
        return
    for session in (this, suite(settings)[0]):  # computed, then finished: it fails again
        with pytest.raises(CellError, match=r"table2 lenet random/eval kh1: measured 1\.015"):
            session.run(make_cell({"kh1": value}))
    assert published(settings)[0].value == 0.97, "the published record is left alone"


def test_a_published_record_that_was_altered_is_noticed(settings, make_cell):
    suite(settings)[0].run(make_cell({"kh1": 0.97, "re": 0.8}))
    path = store.records_file(settings.results, "table2")
    path.write_text(path.read_text().replace('"value": 0.8', '"value": 0.5'))
    with pytest.raises(CellError, match=r"re: measured 0\.8, but the published record"):
        suite(settings)[0].run(make_cell({"kh1": 0.97, "re": 0.8}))


def test_an_invalid_published_record_fails_by_file_and_line(settings, make_cell):
    suite(settings)[0].run(make_cell())
    path = store.records_file(settings.results, "table2")
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(InputError, match=r"table2.jsonl, line 2"):
        suite(settings)[0].run(make_cell())


def test_a_missing_record_fails_and_nothing_is_stored(settings, make_cell):
    cell = dataclasses.replace(make_cell(), metrics=("kh1", "re"))
    with pytest.raises(CellError, match="nothing was stored"):
        suite(settings)[0].run(cell)
    assert not store.records_file(settings.work, "table2").exists()


def test_a_paper_that_differs_fails_only_when_strict(settings, make_cell):
    cell = make_cell({"kh1": 0.5})
    suite(settings)[0].run(cell)
    assert published(settings)[0].verdict == "differs"
    with pytest.raises(CellError, match="differs from the paper in kh1"):
        suite(settings, strict_paper=True)[0].run(cell)


def test_a_reason_gives_way_to_a_value_and_never_the_reverse(settings, make_cell):
    absent = make_cell(compute=None, reason="no data", fidelity=None, config={"m": None})
    suite(settings)[0].run(absent)
    assert [(r.verdict, r.reason) for r in published(settings)] == [("not_run", "no data")]
    suite(settings)[0].run(make_cell())
    assert [r.value for r in published(settings)] == [0.97]
    suite(settings)[0].run(absent)
    assert [r.value for r in published(settings)] == [0.97]


def test_a_newer_reason_takes_the_place_of_an_older_one(settings, make_cell):
    def absent(reason, column="random/eval", **config):
        return make_cell(column=column, compute=None, reason=reason, fidelity=None, config=config)

    run = suite(settings)[0].run
    for cell in (absent("later", m=None), absent("other", "random/train"), absent("no data")):
        run(cell)
    assert [r.reason for r in published(settings)] == ["other", "no data"]
    run(absent("other", "random/train"))
    assert [r.reason for r in published(settings)] == ["other", "no data"], "the order stays"


def test_a_finished_cell_is_judged_by_todays_rules(settings, make_cell):
    (old,) = suite(settings)[0].run(make_cell())
    path = store.records_file(settings.work, "table2")
    write_records(path, [dataclasses.replace(old, verdict="differs")])
    (record,) = suite(settings)[0].run(make_cell())
    assert record.verdict == old.verdict == "reproduced"


def test_a_cell_finished_by_other_code_says_so(settings, make_cell):
    (old,) = suite(settings)[0].run(make_cell())
    write_records(
        store.records_file(settings.work, "table2"),
        [dataclasses.replace(old, code_version="0.0.1+other")],
    )
    this, lines = suite(settings)
    this.run(make_cell())
    assert "finished before by other code (--recompute" in lines[-1]


def test_another_training_is_another_network(settings, make_cell):
    """Equal training on another machine: its cells replace those of the other network."""

    def cell(column, weights, **facts):
        config = {"state": "trained", "training": {"lr": 1e-3}, **facts.pop("config", {})}
        return make_cell(
            facts, f"pretrained/{column}", weights=Source("lenet", weights * 32), config=config
        )

    first, _ = suite(settings)
    first.run(cell("eval", "aa", kh1=0.4))
    first.run(cell("train", "aa", kh1=0.4))
    first.run(cell("eval", "aa", kh1=0.4, config={"batch_size": 2048}))
    first.run(make_cell({"kh1": 0.98}, weights=Source("random", "cc" * 32)))

    other, lines = suite(settings, recompute=True)
    other.run(cell("eval", "bb", kh1=0.6))
    assert "another training" in lines[-1]
    left = [(r.column, r.batch_size, r.value) for r in published(settings)]
    assert left == [
        ("pretrained/eval", 2048, 0.4),  # other settings: not this network's place
        ("random/eval", 512, 0.98),
        ("pretrained/eval", 512, 0.6),
    ]
    again, _ = suite(settings, recompute=True)
    with pytest.raises(CellError, match="3 combined"):
        again.run(cell("eval", "bb", kh1=0.7))  # the same network: compared


def test_other_random_weights_are_no_excuse(settings, make_cell):
    suite(settings)[0].run(make_cell(weights=Source("random", "aa" * 32)))
    with pytest.raises(CellError, match="3 combined"):
        suite(settings, recompute=True)[0].run(
            make_cell({"kh1": 0.5}, weights=Source("random", "bb" * 32))
        )


def test_legacy_is_compared_as_coarsely_as_it_is_determined(make_records):
    def pair(value, **facts):
        return [
            make_records({"kh1": v}, stderr=0.0, **facts)[0] for v in (1.0, value)
        ]  # fmt: skip

    assert store.conflict(*pair(1.0005)) is None
    assert store.conflict(*pair(1.05))
    assert store.conflict(*pair(1.2, config={"legacy": True})) is None
    assert store.conflict(*pair(1.5, config={"legacy": True}))


@pytest.mark.parametrize(
    ("first", "second", "agree"),
    [(3.3e-16, 4.4e-16, True), (-2e-16, 1e-16, True), (1e-9, 1.1e-9, False)],
)
def test_rounding_alone_is_not_compared(make_records, first, second, agree):
    new, old = (make_records({"kh1": value}, stderr=None)[0] for value in (first, second))
    assert (store.conflict(new, old) is None) == agree


def test_every_cell_renders(settings, make_cell):
    this, _ = suite(settings)
    this.run(make_cell())
    assert (
        "0.970 ± 0.010 (0.98) reproduced [reduced]" in (settings.results / "table2.md").read_text()
    )
    assert (settings.results / "claims.md").exists()


@pytest.mark.parametrize(
    ("facts", "first", "second", "agree"),
    [
        ({}, 1e20, 1.04e20, True),
        ({}, 1e20, 1.1e20, False),
        ({"axes": "hessian"}, 1e20, 1.9e20, True),
        ({"axes": "hessian"}, 1e20, 2.1e20, False),
        ({"signed": True}, 1e20, 1e22, True),
    ],
)
def test_ratios_of_planes_agree_within_what_rounding_makes_of_them(
    make_records, facts, first, second, agree
):
    new, old = (
        make_records({"ratio": value}, table="table1", stderr=None, config=facts)[0]
        for value in (first, second)
    )
    assert (store.conflict(new, old) is None) == agree


def test_tables_with_many_records_have_a_file_a_network(tmp_path):
    assert store.records_file(tmp_path, "table1", "lenet").name == "table1-lenet.jsonl"
    assert store.records_file(tmp_path, "table2", "lenet").name == "table2.jsonl"


def test_published_records_are_read_anew_when_they_change(tmp_path, make_records):
    path = store.records_file(tmp_path, "table2")
    write_records(path, make_records({"kh1": 0.5}))
    assert [record.value for record in store.published(tmp_path)] == [0.5]
    write_records(path, make_records({"kh1": 0.25}))
    assert [record.value for record in store.published(tmp_path)] == [0.25]


def test_rendering_does_not_outweigh_many_quick_cells(settings, make_cell, monkeypatch):
    rendered = []

    def slow(exhibits, results):
        rendered.append(len(store.published(results)))
        time.sleep(0.02)

    monkeypatch.setattr(render, "write_all", slow)
    made, _ = suite(settings)
    for i in range(8):
        made.run(make_cell(column=f"c{i}"))
    assert rendered[0] == 1, "a first table comes at once"
    assert len(rendered) < 8
    made.finish()
    assert rendered[-1] == 8
    made.finish()
    assert rendered.count(8) == 1
