import csv
import re

import pytest

from paper_tables.engine import publish as render
from paper_tables.engine.publish import write_exhibit
from paper_tables.exhibits import find
from paper_tables.exhibits.table1 import EXHIBIT
from paper_tables.exhibits.table1 import tables as table1
from paper_tables.paper.explosion import METHODS, RECOMMENDED
from tests.paper_tables.planted import absent, paper_picture, plane

COLUMNS = ("train/random", "train/hessian", "eval/random", "eval/hessian")


def of(row, records):
    """The lines of one network, the paper's first: of each its entries' texts and its name."""
    table = table1.tables(records)[0]
    (group,) = [group for group in table.groups if group.name == row]
    return [
        {"name": line.name, "line": line}
        | {c: e for c, e in zip((*COLUMNS, "recommended"), line.entries, strict=True) if e}
        for line in group.lines
    ]


def grid(table):
    """Line and column -> text."""
    return {
        (line.name, column): entry.text
        for group in table.groups
        for line in group.lines
        for column, entry in zip(table.columns, line.entries, strict=True)
        if entry is not None
    }


def test_the_papers_notation_comes_out_of_the_papers_picture():
    for name in ("LeNet", "ResNet18", "AlexNet", "SqueezeNet", "MobileNet", "ViT"):
        theirs, ours, *_ = of(name, paper_picture())
        for column in COLUMNS:
            assert ours[column].text == theirs[column].text == ours[column].paper
            assert ours[column].verdict == "reproduced"
            assert ours[column].remark == "4 of 4 agree"
    assert of("LeNet", [])[0]["train/hessian"].text == "no 2,3,4"


def test_an_entry_that_differs_counts_the_methods_that_agree():
    records = [*paper_picture(rows=["vit"])]
    records = [r for r in records if r.column != "random/eval/uniform/2"]
    records += plane("vit", method="2", ratio=1e5)
    entry = of("ViT", records)[1]["eval/random"]
    assert (entry.text, entry.remark, entry.verdict) == ("yes 2", "3 of 4 agree", "differs")


def test_a_coarse_grid_is_marked_unless_all_is_safe():
    ours = of("ResNet18", paper_picture(rows=["resnet18"], points=5))[1]
    assert ours["eval/random"].text == "yes"
    assert ours["train/random"].text == "no ~"
    assert "5 points an axis" in ours["line"].remark


def test_signed_gaussian_and_recommended_have_places_of_their_own():
    records = paper_picture(rows=["squeezenet"])
    records += plane("squeezenet", method="3s", ratio=1e5)
    for method in "1234":
        records += plane("squeezenet", axes="normal", method=method, ratio=20.0)
    records += plane("squeezenet", method=RECOMMENDED, ratio=1.0)
    records += plane("squeezenet", axes="hessian", method=RECOMMENDED, ratio=50.0)
    _, uniform, signed, normal, other = of("SqueezeNet", records)
    assert uniform["name"] == "random weights, uniform axes"
    assert uniform["recommended"].text == "eval, hessian rises"
    assert signed["name"] == "random weights, uniform axes, signed L1"
    entry = signed["eval/random"]
    assert (entry.text, entry.remark) == ("yes", "3 of 4 agree"), (
        "3 explodes with signed sums, in the paper it does not"
    )
    assert normal["eval/random"].text == "no 1,2,3,4"
    assert normal["eval/random"].verdict is None, "not judged"
    assert "eval/hessian" not in normal
    assert (other["name"], other["line"].reason) == ("trained weights", "no record yet")


def test_what_did_not_run_says_why():
    records = absent("vit", "pretrained", "no weights: put some there")
    line = of("ViT", records)[-1]["line"]
    assert (line.name, line.reason) == ("trained weights", "no weights: put some there")
    assert line.entries == (None,) * 5


def test_a_substitute_is_shown_and_not_judged():
    ours = of("ViT", paper_picture(rows=["vit"], fidelity="substitute"))[1]
    assert ours["eval/random"].text == "no"
    assert ours["eval/random"].verdict is None
    assert ours["line"].fidelity == "substitute"


def test_ratios_of_every_plane():
    records = [*plane(ratio=3e5, points=5, nonfinite=2), *plane(method="2", ratio=12.0)]
    records += plane(method="1", ratio=2.0) + plane(method="1", ratio=8.0, seed=1)
    table = table1.tables(records)[3]
    (line,) = table.groups[0].lines
    found = dict(zip(table.columns, line.entries, strict=True))
    assert (found["4"].text, found["4"].remark) == (
        "≥ 3e+05", "explodes, 2 points not finite",
    )  # fmt: skip
    assert (found["2"].text, found["2"].remark) == ("12", "rises")
    assert (found["1"].text, found["1"].remark) == ("4", "2 seeds, 2 to 8")
    assert found["3"] is None
    assert line.remark == "5/41 points an axis"


def test_agreement_by_threshold():
    table = grid(table1.tables(paper_picture())[2])
    assert table["100", "random weights"] == "96 of 96"
    assert ("100", "trained weights") not in table
    rising = sum(10 <= r.value < 100 for r in paper_picture() if r.metric == "ratio")
    assert table["10", "random weights"] == f"{96 - rising} of 96"
    below = sum(100 <= r.value < 1e6 for r in paper_picture() if r.metric == "ratio")
    assert table["1e+06", "random weights"] == f"{96 - below} of 96"


def test_summary_by_method():
    found = table1.tables(paper_picture())[1]
    assert len(found.groups[0].lines) == len(METHODS)
    table = grid(found)
    # along random axes 4 explodes for LeNet, AlexNet and SqueezeNet twice, and ResNet in eval mode
    assert table["4", "random weights, uniform axes"] == "7 / 0 of 12"
    assert table["2", "random weights, Hessian axes"] == "5 / 2 of 12"
    assert ("4", "random weights, Gaussian axes") not in table


def test_the_files(tmp_path):
    from paper_tables.engine.records import write_records
    from paper_tables.engine.store import records_file

    records = [*paper_picture(), *absent("vit", "pretrained", "no weights & no 100 % of_it")]
    for row in {record.row for record in records}:
        mine = [record for record in records if record.row == row]
        write_records(records_file(tmp_path, "table1", row), mine)
    render.write_all(find(), tmp_path)
    markdown = (tmp_path / "table1.md").read_text()
    for heading in (
        "# Table 1",
        "## Table 1: planes that explode",
        "## Table 1: agreement",
        "## Table 1: the ratio",
    ):
        assert heading in markdown
    with (tmp_path / "table1.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(records)
    latex = (tmp_path / "table1.tex").read_text()
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") == 4
    assert r"no weights \& no 100 \% of\_it" in latex
    assert "**" not in latex
    assert not re.search(r"[^\x00-\x7f]", latex), "plain ASCII needs no input encoding"
    braces = re.sub(r"\\[{}]", "", latex)
    assert braces.count("{") == braces.count("}")


def test_the_terminal_gets_a_short_table(make_records):
    text = render.overview(find(), [*paper_picture(), *make_records()])
    assert "K_H1" in text
    assert re.search(r"LeNet\nthe paper +yes 1,3,4", text)
    assert "**" not in text


@pytest.mark.parametrize("records", [[], absent("vit", "random")])
def test_without_planes_it_renders(records, tmp_path):
    write_exhibit(EXHIBIT, records, tmp_path)
    assert "yes 2,3,4" in (tmp_path / "table1.md").read_text()
