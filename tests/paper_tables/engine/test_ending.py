import re

import pytest

from paper_tables.engine.claims import Judgement
from paper_tables.engine.ending import ending, kinds, merged
from paper_tables.paper import claims

WEIGHTS = "no weights: put {0}-1f.pth into weights/ of a data root, or call pretrained('{0}', x=1)"
DATA = "there are {1}: run `lla data fetch {0}`, or see `lla data list` for where to put the files"
TIME = "left out of profile quick for its time: {0} computes it"
PAIR = "nothing bundled stands in for {0}: --real-data takes what is found"


@pytest.fixture
def absent(make_cell):
    """Makes the records of cells that did not run for these reasons, by row."""

    def make(*reasons):
        return [
            make_cell(row=row, column=str(i)).absent(reason).not_run()[0]
            for i, (row, reason) in enumerate(reasons)
        ]

    return make


def lines(records, tmp_path):
    first, *others = ending([], records, tmp_path).splitlines()
    assert first == "not run, and what would make it run:"
    return others


@pytest.mark.parametrize(
    ("reasons", "line"),
    [
        ([TIME.format("--every-plane")] * 2, TIME.format("--every-plane")),
        ([WEIGHTS.format("one"), WEIGHTS.format("two")],
         "no weights: put one-1f.pth|two-1f.pth into weights/ of a data root, or call "
         "pretrained('one|two', x=1)"),
        ([DATA.format("svhn", "no training images"), DATA.format("cifar10", "3 of 4 images")],
         "run `lla data fetch svhn|cifar10`, or see `lla data list` for where to put the files"),
        ([PAIR.format("cifar10"), PAIR.format("cinic10-i")], PAIR.format("cifar10|cinic10-i")),
        (["it takes one batch"] * 2, "it takes one batch"),
    ],
    ids=["equal", "weights", "data", "pairs", "no remedy"],
)  # fmt: skip
def test_what_lacks_the_same_kind_of_thing_shares_a_line(reasons, line, absent, tmp_path):
    records = absent(*zip(("vit", "lenet"), reasons, strict=True))
    assert lines(records, tmp_path) == [f"- 2 cells of table2 (ViT, LeNet): {line}"]


def test_what_lacks_different_things_does_not(absent, tmp_path):
    reasons = [
        TIME.format("--variants"),
        TIME.format("--every-plane"),
        WEIGHTS.format("one"),
        DATA.format("svhn", "none"),
        "it takes one batch",
    ]
    records = absent(*(("lenet", reason) for reason in reasons))
    assert len(lines(records, tmp_path)) == 5


def test_the_largest_kind_comes_first(absent):
    found = kinds(absent(*[("lenet", "it takes one batch"), *[("lenet", "no weights")] * 2]))
    assert [len(kind) for kind in found] == [2, 1]


def test_the_end_counts_the_claims_and_says_where_the_report_lies(tmp_path):
    claim = claims()[0]
    verdicts = ["holds", "fails", "holds", "not_run"]
    text = ending([Judgement(claim, "", verdict) for verdict in verdicts], [], tmp_path)
    assert "1 claims in 4 scopes: 2 holds, 1 fails, 0 undecided, 1 not_run" in text
    assert re.search(r"^report: (\S+);", text, re.MULTILINE)[1] == str(tmp_path / "report.html")
    assert "not run" not in text


def test_a_session_without_cells_says_nothing(tmp_path):
    assert ending([], [], tmp_path) == ""


def test_alternatives_stand_side_by_side():
    assert merged(["take a.b-c now"]) == "take a.b-c now"
    assert merged(["take a.b-c now", "take d now", "take a.b-c now"]) == "take a.b-c|d now"
