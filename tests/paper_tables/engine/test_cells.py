import math

import pytest

from lla.errors import InputError
from lla.estimate import Estimate
from paper_tables.engine.cells import Cell, half_unit, verdict
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.paper import claims, paper_columns, paper_rows, paper_value


@pytest.mark.parametrize(
    ("printed", "expected"),
    [("0.37", 0.005), ("0.8", 0.05), ("5e-4", 0.5e-4), ("451", 0.5), ("2.3", 0.05), ("1", 0.5)],
)
def test_half_a_unit_of_the_last_printed_digit(printed, expected):
    assert half_unit(printed) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("value", "stderr", "paper", "metric", "expected"),
    [
        # 2 stderr + half a unit: 0.02 + 0.005
        (0.395, 0.01, "0.37", "kh1", "reproduced"),
        (0.3951, 0.01, "0.37", "kh1", "close"),
        (0.375, None, "0.37", "kh1", "reproduced"),
        (0.3749, 0.0, "0.37", "kh1", "reproduced"),
        # 15 % of 0.37 is 0.0555
        (0.4255, 0.001, "0.37", "kh1", "close"),
        (0.4256, 0.001, "0.37", "kh1", "differs"),
        (0.3145, 0.001, "0.37", "kh1", "close"),
        (0.3144, 0.001, "0.37", "kh1", "differs"),
        # 30 % of 0.23 is 0.069
        (0.299, 0.001, "0.23", "kh05", "close"),
        (0.2991, 0.001, "0.23", "kh05", "differs"),
        # a factor of 3 either way
        (1.5e-3, 0.0, "5e-4", "re", "close"),
        (1.51e-3, 0.0, "5e-4", "re", "differs"),
        (1.67e-4, 0.0, "5e-4", "re", "close"),
        (1.66e-4, 0.0, "5e-4", "re", "differs"),
        (5.5e-4, 0.0, "5e-4", "re", "reproduced"),
        (0.0, 0.0, "5e-4", "re", "differs"),
        # sqrt(0.84 * 0.16 / 64) is 4.58 %; half a unit is 0.5
        (84.5, 0.0, "84", "accuracy", "reproduced"),
        (88.5, 0.0, "84", "accuracy", "close"),
        (88.6, 0.0, "84", "accuracy", "differs"),
        # sqrt(0.99 * 0.01 / 64) is 1.24 %
        (100.0, 0.0, "99", "accuracy", "close"),
    ],
)
def test_verdicts_by_hand(value, stderr, paper, metric, expected):
    assert verdict(value, stderr, paper, metric, "paper") == expected
    assert verdict(value, stderr, paper, metric, "reduced") == expected
    assert verdict(value, stderr, paper, metric, "substitute") is None


def test_what_has_no_value_or_nothing_to_be_compared_with():
    assert verdict(None, None, "0.37", "kh1", None) == "not_run"
    assert verdict(0.5, 0.1, None, "kh1", "paper") is None
    assert verdict(0.5, 0.1, "0.9", "loss", "paper") == "differs"


def test_a_cell_judges_its_records():
    cell = Cell(
        table="table2",
        row="lenet",
        column="pretrained/eval",
        name="x",
        metrics=("kh1",),
        config={"m": 100, "probes": 3, "seed": 7, "init": "torch", "legacy": False},
        fidelity="reduced",
        inputs="",
    )
    record = cell.record("kh1", 0.2, 0.001, n=2)
    assert (record.paper_value, record.verdict) == ("0.18", "close")
    assert (record.m, record.probes, record.seed, record.legacy) == (100, 3, 7, False)
    assert record.config_hash == cell.hash


def test_a_cell_that_cannot_run_must_say_why():
    cell = Cell("table2", "vit", "random/eval", "x", ("kh1",), {}, None, "")
    with pytest.raises(InputError, match="why"):
        cell.not_run()


def test_the_papers_values_are_complete():
    assert paper_rows("table2") == (
        "lenet", "resnet18", "alexnet", "squeezenet", "mobilenet", "vit",
    )  # fmt: skip
    values = [
        paper_value("table2", row, column, metric)
        for row in paper_rows("table2")
        for column in paper_columns("table2")[:4]
        for metric in ("kh1", "kh05", "re")
    ]
    assert len(values) == 72
    assert all(math.isfinite(float(value)) for value in values if value is not None)
    assert None not in values
    assert paper_value("table2", "resnet18", "random/train", "re") == "451"
    assert paper_value("table4", "vit", "ni", "kh05") == "0.82"
    assert paper_value("table2", "lenet", "random/train", "loss") is None


def test_every_claim_is_there_once():
    ids = [claim.id for claim in claims()]
    assert len(ids) == len(set(ids)) == 37
    assert all(claim.scopes and claim.statement and claim.where for claim in claims())


def test_profiles():
    paper, quick = PROFILES["paper"], PROFILES["quick"]
    assert (paper.batches, paper.batch_size, paper.probes, paper.steps) == (4, 2048, 10, 100)
    assert quick.steps == paper.steps, "K_H05 of other steps is another quantity"
    assert quick.batches > 1, "the error bar is over batches"
    assert paper.is_the_papers()
    assert adjusted(paper, probes=20, batches=8).is_the_papers()
    assert not adjusted(paper, steps=200).is_the_papers(), "K_H05 depends on m"
    assert not quick.is_the_papers()


def test_an_adjusted_profile_says_so():
    quick = PROFILES["quick"]
    assert adjusted(quick, probes=None) == quick
    assert adjusted(quick, points=quick.points) == quick
    assert adjusted(quick, probes=quick.probes + 1).name == "custom"
    assert adjusted(quick, epochs=1000).target_accuracy is None


def test_options_hold_for_planes_and_criteria():
    changed = adjusted(PROFILES["quick"], images=8, side=224, steps=50, probes=3, batches=1)
    of = changed.criteria
    assert (of.batch_size, of.side, of.steps, of.probes, of.batches) == (8, 224, 50, 3, 1)
    assert (changed.images, changed.side, changed.trained_side) == (8, 224, 224)
    assert (changed.steps, changed.probes, changed.batches) == (50, 3, 1)
    assert changed.batch_size == PROFILES["quick"].batch_size, "LeNet's"
    every = adjusted(PROFILES["quick"], variants=True)
    assert every.criteria.variants
    assert every.name == "custom"


def test_an_absent_cell_is_identified_by_its_place_and_says_why(make_cell):
    cell = make_cell({"kh1": 0.5, "loss": 0.1})
    absent = cell.absent("no weights", ("kh1",))
    (record,) = absent.not_run()
    assert (record.metric, record.verdict, record.reason) == ("kh1", "not_run", "no weights")
    assert (record.fidelity, absent.compute) == (None, None)
    assert record.config == {"row": "lenet", "column": "random/eval"}
    kept = cell.absent("no weights", config=cell.config)
    assert (kept.metrics, kept.hash) == (cell.metrics, cell.hash)


def test_an_estimate_becomes_a_record(make_cell):
    record = make_cell().estimated("kh1", Estimate(0.9, 0.1, 4, 12), matvecs=12)
    assert (record.value, record.stderr, record.n, record.matvecs) == (0.9, 0.1, 4, 12)
