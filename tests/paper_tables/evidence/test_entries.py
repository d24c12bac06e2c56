import dataclasses

import pytest

from lla.report.view import absences
from paper_tables.evidence import criteria_table
from paper_tables.evidence.entries import bars, measured_entry


def settings(table):
    return [(group.name, group.settings) for group in table.groups]


def cells(table, group=0):
    """Line and column -> cell."""
    return {
        (line.name, column): cell
        for line in table.groups[group].lines
        for column, cell in zip(table.columns, line.entries, strict=True)
        if cell is not None
    }


def test_settings_are_kept_apart_and_the_most_faithful_comes_first(make_records):
    small = make_records({"kh1": 0.9}, config={"batch_size": 64})
    large = make_records({"kh1": 0.8}, config={"batch_size": 2048}, fidelity="paper")
    legacy = make_records({"kh1": 0.7}, config={"batch_size": 2048, "legacy": True})
    table = criteria_table.table([*small, *legacy, *large], "table2")
    mine = [text for name, text in settings(table) if name == "LeNet"]
    assert ["plain" in text for text in mine] == [True, False, True]
    assert [text.split(" images")[0].split(" x ")[1] for text in mine] == ["2048", "2048", "64"]
    assert cells(table)["K_H1", "random/eval"].text.startswith("0.800")


def test_an_accuracy_stands_with_the_plain_criteria_on_its_images(make_records):
    criteria = make_records({"kh1": 0.3}, column="pretrained/eval")
    (accuracy,) = make_records({"accuracy": 99.0}, column="accuracy", config={"m": None})
    table = criteria_table.table([accuracy, *criteria], "table2")
    assert {key for key in cells(table) if key[0].startswith("accuracy")} == {
        ("accuracy (%)", "accuracy (%)")
    }
    other = dataclasses.replace(accuracy, batch_size=7)
    assert [name for name, _ in settings(criteria_table.table([other, *criteria], "table2"))][
        :2
    ] == ["LeNet", "LeNet"]


def test_what_a_network_lacks_stands_beside_what_it_has(make_records):
    there = make_records({"kh1": 0.9})
    absent = make_records(
        {"kh1": 0.0},
        column="pretrained/eval",
        compute=None,
        reason="no weights",
        config={"m": None},
    )
    table = criteria_table.table([*absent, *there], "table2")
    assert absences(table, table.groups[0]) == ["pretrained/eval not run: no weights"]
    found = cells(table)
    assert found["K_H1", "pretrained/eval"].verdict == "not_run"
    assert found["K_H1", "pretrained/eval"].paper == "0.18"
    assert [name for name, _ in settings(table)].count("LeNet") == 1


def test_table_4_has_a_column_a_data_set(make_records):
    facts = {"row": "resnet50", "table": "table4"}
    values = {"accuracy": 80.0, "kh1": 0.8}
    imagenet = make_records(values, column="imagenet", data="imagenet", **facts)
    new = make_records(
        values,
        column="ni",
        data="sample-crops",
        fidelity="substitute",
        config={"batches": 1},
        **facts,
    )
    table = criteria_table.table([*imagenet, *new], "table4")
    assert table.columns == ("ImageNet", "NI")
    found = cells(table)
    assert {"K_H1", "accuracy (%)"} == {line for line, _ in found}
    assert found["K_H1", "NI"].verdict is None
    assert found["K_H1", "NI"].fidelity == "substitute"
    assert found["K_H1", "ImageNet"].verdict == "close"
    assert "ImageNet 2 x 512 images and sample-crops 1 x 512 images" in settings(table)[0][1]


def test_a_table_that_the_paper_lacks_shows_all_that_was_measured(make_records):
    table = criteria_table.table(make_records({"loss": 0.1}, table="hesd"), "hesd")
    assert table.folded
    assert cells(table)["loss", "random/eval"].text == "0.100 ± 0.010"


def test_error_bars_of_a_line_share_a_scale(make_records):
    first, second = make_records({"kh1": 0.5}) + make_records({"kh1": 0.9}, column="random/train")
    one, two, none = bars([first, second, None])
    assert none is None
    assert one.low < one.value < one.high < two.value < two.high
    assert one.paper == pytest.approx(two.paper, abs=2)  # 0.98 and 0.99
    assert max(two.high, two.paper) <= 96
    assert measured_entry(first, one).verdict == "differs"


def test_small_and_large_values_are_drawn_on_a_logarithmic_scale(make_records):
    (record,) = make_records({"re": 0.03}, column="pretrained/eval", stderr=0.02)  # paper 3e-4
    (bar,) = bars([record])
    assert bar.scale.startswith("logarithmic, 0.0003 to 0.07")
    assert bar.low == bar.paper == 4.0  # the error bar reaches below 0


def test_nothing_to_compare_has_no_bar(make_records):
    (record,) = make_records({"loss": 0.1}, stderr=None)
    assert bars([record]) == [None]
