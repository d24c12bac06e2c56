import dataclasses
import json
import platform
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import history
from benchmarks.history import Row, Session
from benchmarks.measure import Ratio
from lla.errors import InputError

RATIO = Ratio(2.0, 1.9, 2.2, 15)


def rows(date="2026-01-01T10:00:00+00:00", ratio=RATIO):
    session = Session(date, allocator_tuned=True)
    return [
        session.row("product default", "lenet 512", ratio, products=1, peak_bytes=2**28),
        session.row("line of 41 points", "lenet 512", ratio),
    ]


def test_rows_come_back_in_the_order_of_their_sessions(tmp_path):
    late = rows("2026-02-01T10:00:00+00:00", dataclasses.replace(RATIO, median=2.1))
    early = rows()
    history.write(late, tmp_path)
    path = history.write(early, tmp_path)
    assert path.relative_to(tmp_path).as_posix() == "sessions/20260101T100000.json"
    read = history.read(tmp_path)
    assert read.date.tolist() == [row.date for row in (*early, *late)]
    assert read.ratio.tolist() == [2.0, 2.0, 2.1, 2.1]
    assert read.products.isna().tolist() == [False, True] * 2
    assert read.peak_bytes.iloc[0] == 2**28
    assert {column.name for column in dataclasses.fields(Row)} == set(read.columns)


def test_a_session_says_nothing_of_the_machine(tmp_path):
    path = history.write(rows(), tmp_path)
    text = path.read_text() + (tmp_path / "history.md").read_text()
    assert platform.node() not in text
    assert str(tmp_path) not in text
    assert not re.search(r'"/|: "~', text)
    facts = json.loads(path.read_text())[0]
    assert facts["threads"] >= 1
    assert facts["device"].startswith(("cpu", "cuda"))
    assert facts["python"] == platform.python_version()


def test_a_broken_session_is_named(tmp_path):
    history.write(rows(), tmp_path)
    (tmp_path / "sessions" / "20250101T000000.json").write_text('[{"benchmark": "x"}]')
    with pytest.raises(InputError, match=r"20250101T000000\.json is no session"):
        history.read(tmp_path)


def test_no_session_gives_an_empty_table(tmp_path):
    assert history.read(tmp_path).empty


def test_the_table_shows_the_last_session_and_counts_them(tmp_path):
    history.write(rows(), tmp_path)
    history.write(rows("2026-02-01T10:00:00+00:00", Ratio(3.0, 2.9, 3.2, 15)), tmp_path)
    lines = (tmp_path / "history.md").read_text().splitlines()
    (line,) = [line for line in lines if "product default" in line]
    assert [cell.strip() for cell in line.split("|")][3:6] == ["3 (2.9 to 3.2)", "1", "256"]
    assert line.rstrip(" |").endswith("2026-02-01 | 2")
    assert line.split("|")[6].strip().endswith("threads, float32")


def test_the_figure_has_a_line_a_benchmark(tmp_path):
    history.write(rows(), tmp_path)
    history.write(rows("2026-02-01T10:00:00+00:00"), tmp_path)
    drawing = history.figure(history.read(tmp_path))
    assert isinstance(drawing, Figure)
    (ax,) = drawing.axes
    assert sorted(text.get_text() for text in ax.get_legend().get_texts()) == [
        "line of 41 points, lenet 512",
        "product default, lenet 512",
    ]
    assert (tmp_path / "history.png").stat().st_size > 1000


def test_ratio_is_of_pairs():
    # the machine is twice as slow in the second half: pairs do not see it, medians apart might
    second = np.array([1.0, 1.0, 1.0, 2.0, 2.0])
    assert Ratio.of(1.3 * second, second) == Ratio(1.3, 1.3, 1.3, 5)
