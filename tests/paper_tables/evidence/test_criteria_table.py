"""Beside the tests of whole tables in `test_entries`: what stands where, and in which words."""

import dataclasses

import pytest

from paper_tables.evidence import criteria_table


def titles(records, name="table2"):
    """The settings and the kind of every group that has some."""
    table = criteria_table.table(records, name)
    return [(group.settings, group.kind) for group in table.groups if group.settings]


def test_settings_name_what_the_values_of_a_group_share(make_records):
    config = {"model": "vit_tiny", "side": 224, "batch_size": 64}
    photographs = make_records(row="vit", data="imagenet", config=config)
    assert titles(photographs) == [(
        "vit_tiny, ImageNet 2 x 64 images at 224 px, m 100, 3 probes, seed 0, float32, plain, "
        "torch init",
        "plain, torch init",
    )]  # fmt: skip
    none = dict.fromkeys(["m", "probes", "seed", "dtype", "init", "legacy"])
    assert titles(make_records(config=none)) == [("MNIST 2 x 512 images", "")]


def test_groups_come_by_data_size_amount_fidelity_process_and_initialisation(make_records):
    def group(label, **facts):
        config = {"init": label} | facts.pop("config", {})
        return make_records(config=config, **facts)

    expected = [
        group("a", config={"batch_size": 2048}),
        group("b", config={"batches": 4}),
        group("c", config={"probes": 5}),
        group("d", fidelity="paper"),
        group("e"),
        group("f"),
        group("g", config={"legacy": True}),
        group("h", config={"batch_size": 4096}, fidelity="substitute"),
    ]
    shuffled = [record for i in (5, 2, 7, 0, 6, 3, 1, 4) for record in expected[i]]
    found = [kind[-6] for _, kind in titles(shuffled)]
    assert found == list("abcdefgh")


def test_networks_come_in_the_papers_order_and_others_last(make_records):
    rows = ("mine", "vit", "lenet", "resnet18")
    table = criteria_table.table([r for row in rows for r in make_records(row=row)], "table2")
    names = [group.name for group in table.groups]
    assert names[:2] == ["LeNet", "ResNet18"]
    assert names[-2:] == ["ViT", "mine"]
    assert len(names) == len(set(names))


def test_columns_and_metrics_that_the_paper_lacks_are_left_out_of_its_tables(make_records):
    records = [
        *make_records({"kh1": 0.5, "loss": 0.1}),
        *make_records(column="during/eval", config={"batch_size": 64}),
    ]  # fmt: skip
    table = criteria_table.table(records, "table2")
    lenet = table.groups[0]
    assert [line.name for line in lenet.lines] == ["K_H1"]
    assert sum(e is not None for line in lenet.lines for e in line.entries) == 1
    assert len([group for group in table.groups if group.settings]) == 1


def test_a_table_of_the_paper_and_another_one_differ_in_their_frame(make_records):
    ours = criteria_table.table(make_records(), "table2", "A remark.")
    assert ours.title.startswith("Table 2: ")
    assert ours.legend == f"{criteria_table.LEGEND} A remark."
    assert (ours.heads, ours.folded) == (("network", "criterion"), False)
    assert ours.files == ("table2.md", "table2.csv", "table2.tex")
    assert criteria_table.table([], "table2").files == ()
    records = make_records({"loss": 0.1, "kh1": 0.5}, table="hesd")
    other = criteria_table.table(records, "hesd", "A remark.", "Spectra")
    assert (other.title, other.legend) == ("Spectra", "A remark.")
    assert (other.heads, other.folded, other.files) == (("network", "metric"), True, ())
    assert [line.name for line in other.groups[0].lines] == ["K_H1", "loss"]
    assert criteria_table.other(records, "hesd", "Spectra")[0].title == "Spectra"
    assert criteria_table.other(records, "spread", "Spread") == []


def test_an_accuracy_joins_the_plain_criteria_of_trained_weights_on_its_images(make_records):
    (accuracy,) = make_records({"accuracy": 99.0}, column="accuracy", config={"m": None})
    trained = {"column": "pretrained/eval"}

    def hosts(*records):
        table = criteria_table.table([accuracy, *records], "table2")
        return [
            group.kind
            for group in table.groups
            if any(line.name == "accuracy (%)" and any(line.entries) for line in group.lines)
            and len(group.lines) > 1 and group.settings
        ]  # fmt: skip

    assert hosts(*make_records(**trained)) == ["plain, torch init"]
    assert hosts(*make_records(**trained, config={"legacy": True})) == []
    assert hosts(*make_records(column="random/eval")) == []
    assert hosts(*make_records(**trained, config={"batch_size": 64})) == []
    assert hosts(*make_records(**trained, config={"batches": 3})) == []
    assert hosts(*make_records(**trained, data="digits")) == []
    assert hosts(*make_records(**trained, config={"seed": 1})) == []


def test_table_4_keeps_apart_what_one_column_measured_twice(make_records):
    facts = {"row": "resnet50", "table": "table4"}
    first = make_records(column="imagenet", data="imagenet", **facts)
    second = make_records(column="imagenet", data="sample-crops", **facts)
    new = make_records(column="ni", data="ni", **facts)
    table = criteria_table.table([*first, *second, *new], "table4")
    found = [group.settings.split(", ")[0] for group in table.groups if group.settings]
    assert sorted(found) == ["ImageNet 2 x 512 images and NI 2 x 512 images",
                             "sample-crops 2 x 512 images"]  # fmt: skip


@pytest.mark.parametrize("name", ["table2", "table4"])
def test_a_network_without_records_shows_what_the_paper_prints(name):
    table = criteria_table.table([], name)
    entries = [e for g in table.groups for line in g.lines for e in line.entries if e]
    assert entries
    assert {(e.text, e.verdict, e.reason) for e in entries} == {
        ("not run", "not_run", criteria_table.NO_RECORDS)
    }
    assert all(e.paper for e in entries)
    assert all(any(line.entries) for g in table.groups for line in g.lines)


def test_what_was_not_run_hides_nothing_that_was(make_records, make_cell):
    there = make_records({"kh1": 0.9})
    absent = make_cell({"kh1": 0.0, "re": 0.0}).absent("no data").not_run()
    other = make_cell({"re": 0.0}, column="random/train").absent("no data").not_run()
    settings = [dataclasses.replace(r, m=None, batch_size=None) for r in (*absent, *other)]
    table = criteria_table.table([*settings, *there], "table2")
    lenet = table.groups[0]
    found = {
        (line.name, column): entry.text
        for line in lenet.lines
        for column, entry in zip(table.columns, line.entries, strict=True)
        if entry
    }
    assert found == {
        ("K_H1", "random/eval"): "0.900 ± 0.010", ("r_e", "random/train"): "not run",
    }  # fmt: skip
