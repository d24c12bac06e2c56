import itertools

import pytest

from paper_tables.paper import paper_columns, paper_rows
from paper_tables.paper.explosion import (
    METHODS,
    PAPER_METHODS,
    RECOMMENDED,
    category,
    expected,
    judged,
    notation,
    options,
    printed,
)

# Table 1 as printed, typed from the paper.
PRINTED = {
    "lenet": ("yes 1,3,4", "no 2,3,4", "yes 1,3,4", "no 2,3,4"),
    "resnet18": ("no", "no", "yes", "yes 2,3,4"),
    "alexnet": ("yes 1,3,4", "yes 2,4", "yes 1,3,4", "yes 2,4"),
    "squeezenet": ("yes 1,2,4", "yes 2,4", "yes 1,2,4", "yes 2,4"),
    "mobilenet": ("no", "no", "no", "no"),
    "vit": ("no", "no", "no", "no"),
}
COLUMNS = ("train/random", "train/hessian", "eval/random", "eval/hessian")
ENTRIES = [(row, column) for row in PRINTED for column in COLUMNS]

# What each printed text says of methods 1 to 4: x explodes, r rises, . neither, - no explosion.
MEANING = {
    "yes": "xxxx",
    "no": "....",
    "yes 1,3,4": "x-xx",
    "yes 2,4": "-x-x",
    "yes 1,2,4": "xx-x",
    "yes 2,3,4": "-xxx",
    "no 2,3,4": ".rrr",
}
CATEGORIES = {
    "x": ("explodes",),
    "r": ("rises",),
    ".": ("none",),
    "-": ("none", "rises"),
}


def text(row, column):
    return PRINTED[row][COLUMNS.index(column)]


def test_the_paper_has_these_entries():
    assert paper_rows("table1") == tuple(PRINTED)
    assert paper_columns("table1") == COLUMNS
    assert {entry: str(printed(*entry)) for entry in ENTRIES} == {e: text(*e) for e in ENTRIES}


@pytest.mark.parametrize(
    ("row", "column", "number"),
    [(*entry, number) for entry in ENTRIES for number in PAPER_METHODS],
)
def test_each_of_the_96_planes_has_its_categories(row, column, number):
    letter = MEANING[text(row, column)][int(number) - 1]
    wanted = CATEGORIES[letter]
    assert expected(row, column, number) == wanted
    for ours in ("none", "rises", "explodes"):
        verdict = "reproduced" if ours in wanted else "differs"
        assert judged(ours, expected(row, column, number), "reduced") == verdict
        assert judged(ours, expected(row, column, number), "substitute") is None


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_notation_comes_back(entry):
    found = {number: expected(*entry, number)[0] for number in PAPER_METHODS}
    assert notation(found) == text(*entry)


def test_notation_of_every_combination_says_it_all():
    seen = {}
    for found in itertools.product(("none", "rises", "explodes"), repeat=4):
        named = dict(zip(PAPER_METHODS, found, strict=True))
        written = notation(named)
        word, _, numbers = written.partition(" ")
        exploding = {n for n, c in named.items() if c == "explodes"}
        assert (word == "yes") == bool(exploding)
        if exploding:
            assert (set(numbers.split(",")) if numbers else set(PAPER_METHODS)) == exploding
        else:
            seen.setdefault(written, found)
            assert seen[written] == found


def test_what_was_not_measured_stands_behind_a_question_mark():
    assert notation({}) == "—"
    assert notation({"1": "explodes", "4": "none"}) == "yes 1 ?2,3"
    assert notation({"1": "none"}) == "no ?2,3,4"


def test_signed_sums_are_compared_as_method_3_and_ours_with_nothing():
    assert expected("squeezenet", "eval/random", "3s") == ("none", "rises")
    assert expected("squeezenet", "eval/random", RECOMMENDED) is None
    assert judged("none", None, "paper") is None


@pytest.mark.parametrize(
    ("ratio", "nonfinite", "found"),
    [
        (9.999, 0, "none"),
        (10.0, 0, "rises"),
        (99.999, 0, "rises"),
        (100.0, 0, "explodes"),
        (0.1, 1, "explodes"),
    ],
)
def test_categories(ratio, nonfinite, found):
    assert category(ratio, nonfinite) == found


def test_thresholds_are_arguments():
    assert category(500.0, 0, explodes=1e3, rises=1e3) == "none"
    assert category(500.0, 0, explodes=1e3, rises=100.0) == "rises"


def test_methods_are_what_loss_plane_takes():
    assert options("1") == {"normalization": None, "order": 2, "signed": False}
    assert options("3s") == {"normalization": "filter", "order": 1, "signed": True}
    assert list(METHODS) == ["1", "2", "3", "4", "3s", RECOMMENDED]
