import csv
import re

import pytest

from paper_tables.engine import publish as render
from paper_tables.exhibits.table1 import planes
from paper_tables.exhibits.table1 import text_table as render_table1
from paper_tables.paper.explosion import METHODS, RECOMMENDED

from .planted import absent, paper_picture, plane

COLUMNS = ("train/random", "train/hessian", "eval/random", "eval/hessian")


def lines(records):
    rows, headers, notes = render_table1.layout(records)
    return [dict(zip(headers, row, strict=True)) for row in rows], notes


def of(row, records):
    """The lines of one network, the paper's first."""
    found, _ = lines(records)
    first = next(i for i, line in enumerate(found) if line["network"] == row)
    rest = [i for i, line in enumerate(found) if i > first and line["network"]]
    return found[first : rest[0] if rest else len(found)]


def test_the_papers_notation_comes_out_of_the_papers_picture():
    for name in ("LeNet", "ResNet18", "AlexNet", "SqueezeNet", "MobileNet", "ViT"):
        theirs, ours, *_ = of(name, paper_picture())
        for column in COLUMNS:
            assert ours[column] == f"**{theirs[column]}** (4)"
    assert of("LeNet", [])[0]["train/hessian"] == "no 2,3,4"


def test_an_entry_that_differs_counts_the_methods_that_agree():
    records = [*paper_picture(rows=["vit"])]
    records = [r for r in records if r.column != "random/eval/uniform/2"]
    records += plane("vit", method="2", ratio=1e5)
    ours = of("ViT", records)[1]
    assert ours["eval/random"] == "yes 2 (3)"


def test_a_coarse_grid_is_marked_unless_all_is_safe():
    ours = of("ResNet18", paper_picture(rows=["resnet18"], points=5))[1]
    assert ours["eval/random"] == "**yes** (4)"
    assert ours["train/random"] == "**no ~** (4)"
    assert "5 points an axis" in ours["input"]


def test_signed_gaussian_and_recommended_have_places_of_their_own():
    records = paper_picture(rows=["squeezenet"])
    records += plane("squeezenet", method="3s", ratio=1e5)
    for method in "1234":
        records += plane("squeezenet", axes="normal", method=method, ratio=20.0)
    records += plane("squeezenet", method=RECOMMENDED, ratio=1.0)
    records += plane("squeezenet", axes="hessian", method=RECOMMENDED, ratio=50.0)
    _, uniform, signed, normal, other = of("SqueezeNet", records)
    assert uniform["random axes"] == "uniform"
    assert uniform["recommended"] == "eval/hessian rises"
    assert signed["random axes"] == "uniform, signed"
    assert signed["eval/random"] == "yes (3)", (
        "3 explodes with signed sums, in the paper it does not"
    )
    assert normal["eval/random"] == "no 1,2,3,4", "not judged"
    assert normal["eval/hessian"] == ""
    assert (other["weights"], other["random axes"]) == ("pre-trained", "—")


def test_what_did_not_run_says_why():
    records = absent("vit", "pretrained", "no weights: put some there")
    found, notes = lines(records)
    assert found[-1]["random axes"] == "not run, note 1"
    assert notes == ["no weights: put some there"]


def test_a_substitute_is_shown_and_not_judged():
    ours = of("ViT", paper_picture(rows=["vit"], fidelity="substitute"))[1]
    assert ours["eval/random"] == "no"
    assert ours["fidelity"] == "substitute"


def test_ratios_of_every_plane():
    records = [*plane(ratio=3e5, points=5, nonfinite=2), *plane(method="2", ratio=12.0)]
    records += plane(method="1", ratio=2.0) + plane(method="1", ratio=8.0, seed=1)
    rows, headers = render_table1.ratios(planes.blocks(records))
    (row,) = [dict(zip(headers, row, strict=True)) for row in rows]
    assert row["4"] == "≥3e+05, 2 inf E"
    assert row["2"] == "12 r"
    assert row["1"] == "4 [2, 8; 2]"
    assert row["3"] == "—"
    assert row["points"] == "5/41 points an axis"


def test_agreement_by_threshold():
    found = planes.blocks(paper_picture())
    rows, headers = render_table1.agreement(found, (10.0, 100.0, 1e7))
    table = {row[0]: row[1:] for row in rows}
    assert headers[1:] == ["random weights", "pre-trained weights"]
    assert table["100"] == ["96 of 96", "—"]
    exploding = sum(r.value >= 100 for r in paper_picture() if r.metric == "ratio")
    rising = sum(10 <= r.value < 100 for r in paper_picture() if r.metric == "ratio")
    assert table["10"][0] == f"{96 - rising} of 96"
    assert table["1e+07"][0] == f"{96 - exploding} of 96"


def test_summary_by_method():
    rows, headers = render_table1.summary(planes.blocks(paper_picture()))
    table = {row[0]: dict(zip(headers[1:], row[1:], strict=True)) for row in rows}
    assert set(table) == set(METHODS)
    # along random axes 4 explodes for LeNet, AlexNet and SqueezeNet twice, and ResNet in eval mode
    assert table["4"]["random, uniform: explode / rise"] == "7 / 0 of 12"
    assert table["2"]["random, hessian: explode / rise"] == "5 / 2 of 12"
    assert table["4"]["random, normal: explode / rise"] == "—"


def test_the_files(tmp_path):
    from paper_tables.engine.records import write_records
    from paper_tables.engine.store import records_file

    records = [*paper_picture(), *absent("vit", "pretrained", "no weights & no 100 % of_it")]
    for row in {record.row for record in records}:
        mine = [record for record in records if record.row == row]
        write_records(records_file(tmp_path, "table1", row), mine)
    render.write_all(tmp_path)
    markdown = (tmp_path / "table1.md").read_text()
    for heading in ("# Table 1", "## Planes that explode", "## Agreement", "## Ratios"):
        assert heading in markdown
    with (tmp_path / "table1.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(records)
    latex = (tmp_path / "table1.tex").read_text()
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 2
    assert r"no weights \& no 100 \% of\_it" in latex
    assert "**" not in latex
    assert not re.search(r"[^\x00-\x7f]", latex), "plain ASCII needs no input encoding"
    braces = re.sub(r"\\[{}]", "", latex)
    assert braces.count("{") == braces.count("}")


def test_the_terminal_gets_a_short_table(make_records):
    text = render.overview([*paper_picture(), *make_records()])
    assert "LeNet random/eval" in text
    assert re.search(r"LeNet +the paper's +yes 1,3,4", text)
    assert "**" not in text
    assert "imagenet" not in text


@pytest.mark.parametrize("records", [[], absent("vit", "random")])
def test_without_planes_it_renders(records, tmp_path):
    render_table1.write(records, tmp_path, "")
    assert "yes 2,3,4" in (tmp_path / "table1.md").read_text()
