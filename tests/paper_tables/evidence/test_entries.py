import dataclasses
import math

import pytest

from lla.report.view import absences
from paper_tables.engine.records import Source
from paper_tables.evidence import criteria_table
from paper_tables.evidence.entries import bars, differing, measured_entry, pictures, trace


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


@pytest.mark.parametrize(
    ("values", "stderrs", "places", "scale"),
    [
        # 0.5 to 0.9 and the paper's 0.98: a share of the way, from 4 to 96
        ((0.5, 0.9), (None, None), ((4.0, 4.0, 4.0), (80.7, 80.7, 80.7)), "0.5 to 0.98"),
        ((0.5, 0.9), (0.05, None), ((19.9, 4.0, 35.7), (83.3, 83.3, 83.3)), "0.4 to 0.98"),
        ((-1.0, 1.0), (None, None), ((4.0, 4.0, 4.0), (96.0, 96.0, 96.0)), "-1 to 1"),
        # beyond a factor of 20, by the logarithm
        ((0.0098, 0.98), (None, None), ((4.0,) * 3, (96.0,) * 3), "logarithmic, 0.0098 to 0.98"),
        ((0.049, 0.98), (None, None), ((4.0,) * 3, (96.0,) * 3), "0.049 to 0.98"),
    ],
)
def test_places_of_error_bars(make_records, values, stderrs, places, scale):
    records = [
        make_records({"kh1": value}, stderr=stderr)[0]
        for value, stderr in zip(values, stderrs, strict=True)
    ]
    found = bars(records)
    assert tuple((bar.value, bar.low, bar.high) for bar in found) == places
    assert {bar.scale for bar in found} == {scale}
    low, high = (float(word) for word in scale.removeprefix("logarithmic, ").split(" to "))
    share = (0.98 - low) / (high - low)
    if scale.startswith("log"):
        share = math.log(0.98 / low) / math.log(high / low)
    assert {bar.paper for bar in found} == {round(4 + 92 * share, 1)}


def test_a_value_below_0_is_never_on_a_logarithmic_scale(make_records):
    (small,) = make_records({"kh1": 1e-4}, stderr=None)
    (below,) = make_records({"kh1": -0.1}, stderr=None)
    assert bars([small])[0].scale == "logarithmic, 0.0001 to 0.98"
    assert bars([small, below])[0].scale == "-0.1 to 0.98"


def test_one_number_and_the_same_one_in_the_paper_have_no_bar(make_records):
    (record,) = make_records({"kh1": 0.98}, stderr=None)
    assert bars([record, None]) == [None, None]
    assert bars([]) == []


def test_a_record_that_was_not_run_has_no_bar_but_its_paper_value_counts(make_records, make_cell):
    (there,) = make_records({"kh1": 0.5}, stderr=None)
    (absent,) = make_cell({"kh1": 0.0}, column="random/train").absent("no data").not_run()
    one, none = bars([there, absent])
    assert none is None
    assert one.scale == "0.5 to 0.99"


def test_an_entry_says_its_fidelity_unless_it_is_that_of_its_line(make_records, make_cell):
    (record,) = make_records({"kh1": 0.5})
    assert measured_entry(record).fidelity == "reduced"
    assert measured_entry(record, common="paper").fidelity == "reduced"
    assert measured_entry(record, common="reduced").fidelity is None
    assert (differing("reduced", "reduced"), differing("reduced", "paper")) == (None, "reduced")
    assert (measured_entry(record).reason, len(measured_entry(record).traces)) == ("", 1)
    (absent,) = make_cell().absent("no data").not_run()
    entry = measured_entry(absent)
    assert (entry.text, entry.reason, entry.traces) == ("not run", "no data", ())


def test_a_trace_has_every_fact_of_a_record(make_records):
    (record,) = make_records(
        {"kh05": 0.5}, weights=Source("lenet.pth", "cd" * 32),
        config={"mode": "eval", "points": 41},
    )  # fmt: skip
    whole = dataclasses.replace(
        record, reading="product", route="linearized", profile="quick", code_version="0.1",
        torch="2.13", device="cpu", threads=2, seconds=12.345, matvecs=600, note="a note",
        batch_sha256="ef" * 32,
    )  # fmt: skip
    found = trace(whole, "a title")
    assert found.title == "a title"
    assert dict(found.facts) == {
        "fidelity": "reduced",
        "data": "mnist, sha256 abababababab, drawn examples sha256 efefefefefef",
        "weights": "lenet.pth, sha256 cdcdcdcdcdcd",
        "settings": "m 100, 3 probes, 2 x 512 examples, seed 0, float32, product reading, plain, "
        "eval mode, route linearized, 41 points an axis",
        "± (1 standard error)": "over 2 batches",
        "run": "quick profile, code 0.1, torch 2.13, cpu, 2 threads, 12.3 s, 600 products",
        "note": "a note",
        "record": f"table2 lenet random/eval kh05, config {record.config_hash}",
    }


def test_a_trace_leaves_out_what_a_record_lacks(make_records):
    (record,) = make_records(
        {"loss": 0.5}, stderr=None,
        config=dict.fromkeys(["m", "probes", "batches", "batch_size", "seed", "dtype", "legacy"])
        | {"images": 64},
    )  # fmt: skip
    bare = dataclasses.replace(
        record, profile=None, code_version=None, torch=None, device=None, threads=None,
        seconds=None, matvecs=None, data=None,
    )  # fmt: skip
    assert dict(trace(bare).facts) == {
        "fidelity": "reduced",
        "settings": "64 images",
        "record": f"table2 lenet random/eval loss, config {record.config_hash}",
    }
    assert (
        dict(trace(dataclasses.replace(bare, stderr=0.1, stderr_kind=None)).facts)[
            "± (1 standard error)"
        ]
        == "over 2 samples"
    )
    instant = dataclasses.replace(bare, seconds=0.0, seed=0, config={}, config_hash="")
    assert dict(trace(instant).facts)["run"] == "0 s"
    assert dict(trace(instant).facts)["settings"] == "seed 0"


def test_pictures_of_a_plane_in_words(make_records):
    config = {"model": "vit_tiny", "images": 64, "side": 224, "data": "imagenet"}
    (record,) = make_records(config=config)
    assert pictures(record) == "vit_tiny, 64 x 224 px ImageNet"
    (record,) = make_records(config={name: config[name] for name in ("images", "side", "data")})
    assert pictures(record) == "lenet, 64 x 224 px ImageNet"
