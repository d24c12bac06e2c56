import csv
import re

import pytest

from lla.report import pages
from lla.report.text import latex_text, markdown_table, measured
from lla.report.view import Entry, Group, Line, Table
from paper_tables.engine import pages as pages_of_marks
from paper_tables.engine import publish as render
from paper_tables.engine.publish import write_exhibit
from paper_tables.exhibits import find
from paper_tables.exhibits.table2 import EXHIBIT
from paper_tables.exhibits.table2 import tables as table2

TRIPLE = {"kh1": 0.37, "kh05": 0.23, "re": 5.3e-4, "kh05_density": 0.3}


@pytest.fixture
def records(make_records):
    """Two data sets, two inits, plain and legacy, an accuracy, and a network that did not run."""
    return [
        *make_records(TRIPLE, "random/eval", data="digits", fidelity="substitute"),
        *make_records(TRIPLE, "random/train", config={"init": "uniform"}),
        *make_records(TRIPLE, "random/train"),
        *make_records(TRIPLE, "pretrained/eval", stderr=1e-5),
        *make_records(TRIPLE, "pretrained/eval", config={"legacy": True}),
        *make_records({"accuracy": 99.6}, "accuracy", stderr=0.2, config={"m": None}),
        *make_records(
            {"kh1": 0, "kh05": 0, "re": 0},
            "random/train",
            row="vit",
            compute=None,
            fidelity=None,
            reason="no weights & no 100 % of_the data",
            config=dict.fromkeys(["m", "probes", "batches", "batch_size", "seed", "dtype"]),
        ),
    ]


def table(records):
    return pages.grid(table2.tables(records)[0])


def rows(records):
    header, _, *body = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table(records).splitlines()
        if line.startswith("|")
    ]
    return [dict(zip(header, line, strict=True)) for line in body]


def test_a_cell_shows_value_error_paper_verdict_and_fidelity(records):
    plain = rows(records)[0]
    assert plain["network"] == "LeNet"
    assert plain["settings"] == (
        "MNIST 2 x 512 images, m 100, 3 probes, seed 0, float32, plain, torch init"
    )
    assert plain["pretrained/eval"] == "0.370000 ± 0.000010 (0.18) differs [reduced]"
    assert plain["random/train"] == "0.370 ± 0.010 (0.99) differs [reduced]"
    assert plain["random/eval"] == ""


def test_an_accuracy_stands_once_with_the_plain_criteria(records):
    found = [row for row in rows(records) if row["accuracy (%)"]]
    (accuracy,) = [row for row in found if row["criterion"] == "accuracy (%)"][:1]
    assert accuracy["accuracy (%)"] == "99.60 ± 0.20 (99) reproduced [reduced]"
    assert table(records).count("99.60 ± 0.20") == 1


def test_inputs_and_variants_stand_apart_the_most_faithful_first(records):
    blocks = [row["settings"] for row in rows(records) if row["settings"]]
    assert [b.split()[0] for b in blocks] == ["MNIST", "MNIST", "MNIST", "digits"]
    assert [", ".join(b.split(", ")[-2:]) for b in blocks] == [
        "plain, torch init", "plain, uniform init", "legacy, torch init", "plain, torch init",
    ]  # fmt: skip
    stand_in = next(row for row in rows(records) if row["settings"].startswith("digits"))
    assert stand_in["random/eval"] == "0.370 ± 0.010 (0.98) [substitute]"


def test_each_metric_has_a_line_and_the_unprinted_one_no_verdict(records):
    found = rows(records)
    assert [row["criterion"] for row in found[:4]] == ["K_H1", "K_H05", "r_e", "K_H05 (density)"]
    assert found[3]["random/train"] == "0.300 ± 0.010 [reduced]"


def test_what_did_not_run_says_why(records):
    found = rows(records)
    (line, *_) = [row for row in found if row["network"] == "ViT"]
    number = re.fullmatch(r"not run, note (\d) \(0.99\)", line["random/train"]).group(1)
    assert f"\n{number}. no weights & no 100 % of_the data" in table(records)
    assert found.index(line) == len(found) - 3, "in the paper's order, after LeNet"


def test_the_files(records, tmp_path):
    write_exhibit(EXHIBIT, records, tmp_path)
    markdown = (tmp_path / "table2.md").read_text()
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "no weights & no 100 % of_the data" in markdown
    assert "Under a value" not in markdown, "it has no error bars to look at"
    with (tmp_path / "table2.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert len(found) == len(records)
    (accuracy,) = [row for row in found if row["metric"] == "accuracy"]
    assert (accuracy["value"], accuracy["paper_value"]) == ("99.6", "99")
    printed = {row["paper_value"] for row in found if row["metric"] == "re"}
    assert printed == {"0.8", "0.88", "3e-4", "0.9"}
    latex = (tmp_path / "table2.tex").read_text()
    assert latex.isascii()
    assert r"no weights \& no 100 \% of\_the data" in latex


def test_an_empty_table_renders(tmp_path):
    render.write_all(find(), tmp_path)
    assert "no record yet" in (tmp_path / "table2.md").read_text()


def test_the_legend_of_marks_stands_where_printed_values_do(records):
    assert pages_of_marks.legend(table2.tables(records)) == pages_of_marks.LEGEND
    entry = Entry("0.5 ± 0.1", fidelity="reduced")
    plain = Table("a", "A", "", ("x",), (Group("", "", (Line("", (entry,)),)),))
    assert pages_of_marks.legend([plain]) == pages_of_marks.PLAIN_LEGEND
    assert "verdict" not in pages_of_marks.PLAIN_LEGEND.lower()
    bare = Table("a", "A", "", ("x",), (Group("", "", (Line("", (Entry("yes"),)),)),))
    assert pages_of_marks.legend([bare]) == ""


def test_the_overview_shows_what_was_measured(records):
    text = render.overview(find(), records)
    assert "0.370 ± 0.010 (0.99) x [reduced]" in text
    assert "99.60 ± 0.20 (99) = [reduced]" in text
    assert "not run" not in text
    assert "ViT" not in text


@pytest.mark.parametrize(
    ("value", "stderr", "text"),
    [
        (0.98123, 0.0043, "0.9812 ± 0.0043"),
        (5.312e-4, 4.2e-5, "(5.31 ± 0.42)e-4"),
        (99.615, 0.19, "99.61 ± 0.19"),
        (451.2, 63.0, "451 ± 63"),
        (0.5, None, "0.5"),
        (3e-4, None, "3e-4"),
        (0.0, None, "0"),
        (0.0, 0.0, "0 ± 0"),
        (0.0, 0.012, "0.000 ± 0.012"),
        (-0.25, 0.1, "-0.25 ± 0.10"),
        (None, None, "not run"),
    ],
)
def test_numbers(value, stderr, text):
    assert measured(value, stderr) == text


def test_text_is_escaped():
    assert latex_text("5 % of K_H1 ± {a\\b}") == (r"5 \% of $K_{H1}$ $\pm$ \{a\textbackslash{}b\}")
    assert r"\|x\|" in markdown_table([["|x|"]], ["a"])
