import csv
import re

import pytest

from lla.report.text import latex_text, markdown_table, measured
from paper_tables.engine import publish as render

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
    rows, headers, notes = render.layout(records, "table2")
    return [dict(zip(headers, row, strict=True)) for row in rows], notes


def test_a_cell_shows_value_error_paper_verdict_and_fidelity(records):
    rows, _ = table(records)
    plain = rows[0]
    assert plain["network"] == "LeNet"
    assert plain["input and settings"] == (
        "MNIST, 2 x 512 images, m 100, 3 probes, seed 0, float32, plain, torch init"
    )
    assert plain["pretrained/eval"] == "0.370000 ± 0.000010 (0.18) differs [reduced]"
    assert plain["random/train"] == "0.370 ± 0.010 (0.99) differs [reduced]"
    assert plain["random/eval"] == "—"
    assert plain["accuracy (%)"] == "99.60 ± 0.20 (99) reproduced [reduced]"


def test_inputs_and_variants_stand_apart_the_most_faithful_first(records):
    rows, _ = table(records)
    blocks = [row["input and settings"] for row in rows if row["input and settings"]]
    assert [b.split(", ")[0] for b in blocks] == ["MNIST", "MNIST", "MNIST", "digits"]
    assert [", ".join(b.split(", ")[-2:]) for b in blocks] == [
        "plain, torch init", "plain, uniform init", "legacy, torch init", "plain, torch init",
    ]  # fmt: skip
    stand_in = next(row for row in rows if row["input and settings"].startswith("digits"))
    assert stand_in["random/eval"] == "0.370 ± 0.010 (0.98) [substitute]"


def test_each_metric_has_a_line_and_the_unprinted_one_no_verdict(records):
    rows, _ = table(records)
    assert [row["criterion"] for row in rows[:4]] == ["K_H1", "K_H05", "r_e", "K_H05 (density)"]
    assert rows[3]["random/train"] == "0.300 ± 0.010 [reduced]"


def test_what_did_not_run_says_why(records):
    rows, notes = table(records)
    (line, *_) = [row for row in rows if row["network"] == "ViT"]
    assert line["random/train"] == "not run, note 1 (0.99)"
    assert notes == ["no weights & no 100 % of_the data"]
    assert rows.index(line) == len(rows) - 3, "in the paper's order, after LeNet"


def test_the_files(records, tmp_path):
    render.write_table(records, "table2", tmp_path)
    markdown = (tmp_path / "table2.md").read_text()
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert "1. no weights & no 100 % of_the data" in markdown
    with (tmp_path / "table2.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(records)
    (accuracy,) = [row for row in rows if row["metric"] == "accuracy"]
    assert (accuracy["value"], accuracy["paper_value"]) == ("99.6", "99")
    printed = {row["paper_value"] for row in rows if row["metric"] == "re"}
    assert printed == {"0.8", "0.88", "3e-4", "0.9"}


def test_the_latex_has_the_shape_that_compiles(records, tmp_path):
    render.write_table(records, "table2", tmp_path)
    text = (tmp_path / "table2.tex").read_text()
    for part in (r"\begin{table}", r"\toprule", r"\bottomrule", r"\end{tabular}", r"\end{table}"):
        assert text.count(part) == 1
    body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(render.layout(records, "table2")[0])
    bare = [re.findall(r"(?<!\\)&", row) for row in rows]
    assert {len(found) for found in bare} == {7}
    uncommented = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    without = re.sub(r"\$[^$\n]*\$", "", uncommented).replace("{%\n", "{")
    assert not re.search(r"(?<!\\)[%#_^~]", without)
    assert "$" not in without.replace(r"\$", "")
    assert not re.search(r"[^\x00-\x7f]", text), "plain ASCII needs no input encoding"
    braces = re.sub(r"\\[{}]", "", text)
    assert braces.count("{") == braces.count("}")
    assert r"no weights \& no 100 \% of\_the data" in text


def test_an_empty_table_renders(tmp_path):
    render.write_all(tmp_path)
    assert "Values by verdict: 0 not run." in (tmp_path / "table2.md").read_text()


def test_the_overview_is_one_line_a_cell(records):
    text = render.overview(records)
    assert "0.37 ± 0.01" not in text
    (line,) = [
        line for line in text.splitlines() if "LeNet random/train" in line and "torch" in line
    ]
    assert "0.370 ± 0.010 [0.99] x" in line
    assert "LeNet accuracy" in text


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
