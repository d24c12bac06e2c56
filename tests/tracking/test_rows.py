"""Rows: the same after they were written and read, and no row from another file."""

import math

import pytest

import lla
from lla.files import atomic_write
from lla.report.text import csv_table
from lla.tracking.rows import Row, frame_of_rows, read_rows

FULL = Row(
    10, 0.5, 1 / 3, 0.1, 0.2, 0.02, 2e-17, 0.0, 1.1, 0.25, 173, True, 'a "note", with\ntwo lines'
)
EMPTY = Row(20, seconds=0.1, note="NonFiniteError: the loss is nan")
PARTLY = Row(30, 2.0, 0.0, None, converged=False, products=7)


@pytest.mark.parametrize("rows", [[], [FULL], [EMPTY], [EMPTY, PARTLY], [FULL, EMPTY, PARTLY]])
def test_rows_are_the_same_after_writing_and_reading(rows, tmp_path):
    path = tmp_path / "rows.csv"
    atomic_write(path, csv_table(frame_of_rows(rows).reset_index()))
    assert read_rows(path) == rows


def test_a_file_without_values_has_no_word_in_their_place(tmp_path):
    text = csv_table(frame_of_rows([EMPTY]).reset_index())
    assert text.splitlines()[1] == "20,,,,,,,,,0.1,,,NonFiniteError: the loss is nan"


def test_no_file_has_no_rows(tmp_path):
    assert read_rows(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "",
        lambda text: "a,b\n1,2\n",
        lambda text: text.replace("step", "epoch", 1),
        lambda text: text.replace("10,", "ten,", 1),
        lambda text: text.replace("10,", ",", 1),
        lambda text: text.replace("0.5", "nan"),
        lambda text: text.replace("0.5", "inf"),
        lambda text: text.replace("True", "maybe"),
        lambda text: text.replace("173", "1.5"),
        lambda text: text + "20,1\n",
        lambda text: text.replace("\n", ",,\n"),
        lambda text: b"\xff\xfe".decode("latin1") + text,
    ],
)
def test_another_file_is_refused(tmp_path, change):
    path = tmp_path / "rows.csv"
    path.write_text(change(csv_table(frame_of_rows([FULL]).reset_index())), encoding="latin1")
    with pytest.raises(lla.InputError, match=r"rows.csv holds no rows of a Tracker \("):
        read_rows(path)


def test_a_row_of_criteria():
    def estimate(value, stderr, n=3):
        return lla.Estimate(value, stderr, n, 9)

    values = [estimate(0.5, 0.1), estimate(0.25, None), estimate(math.nan, None, 0)]
    spectrum = object()
    crit = lla.Criteria(
        *values, estimate(0.1, 0.1), spectra=(spectrum,), scope="batches", stderr_kind="probes",
        reading="product", legacy=False, probes=1, steps=4, batches=1, dtype="float64",
        route="fresh", plan="", loss=2.5, matvecs=9,
    )  # fmt: skip
    row = Row.of(crit, 7, 0.5, 0.2, "note")
    assert row == Row(7, 0.5, 0.5, 0.1, 0.25, None, None, None, 2.5, 0.2, 9, None, "note")
    assert row.scalars() == {
        "criteria/re": 0.5, "criteria/re_stderr": 0.1, "criteria/kh1": 0.25, "criteria/loss": 2.5,
        "criteria/seconds": 0.2,
    }  # fmt: skip


def test_the_frame_has_one_line_a_step():
    frame = frame_of_rows([FULL, EMPTY, PARTLY])
    assert frame.index.tolist() == [10, 20, 30]
    assert frame.index.name == "step"
    assert frame["re"].tolist()[::2] == [1 / 3, 0.0]
    assert frame["products"].isna().tolist() == [False, True, False]
    assert frame["converged"].fillna(False).tolist() == [True, False, False]
    assert str(frame["kh05"].dtype) == "float64"
    assert frame_of_rows([]).empty
