import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks import history
from benchmarks.timing import Ratio
from lla.errors import InputError
from lla.report.pages import grid

ROOT = Path(__file__).parents[2]
RATIO = Ratio(2.0, 1.9, 2.2, 15)
FACTS = {"device": "cpu", "dtype": "float32", "threads": 2, "allocator_tuned": True,
         "torch": "2.13.0", "code": "0.1.0", "cpu": "AVX512, 2 cores"}  # fmt: skip
EARLY, LATE = "2026-01-01T10:00:00.5+00:00", "2026-02-01T10:00:00.5+00:00"


def save(results, date=EARLY, ratio=RATIO):
    """A session with two benchmarks that are tracked, and one that is not."""
    infos = [
        history.tracked("product default", "lenet 512", ratio, products=1, peak_bytes=2**28),
        history.tracked("line of 41 points", "lenet 512", ratio),
    ]
    benchmarks = [{"extra_info": info | FACTS} for info in infos] + [{"extra_info": {}}]
    path = results / "benchmarks" / "sessions" / "a-platform" / f"0001_{date[:10]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"datetime": date, "benchmarks": benchmarks}))


def test_rows_come_back_in_the_order_of_their_sessions(tmp_path):
    save(tmp_path, LATE, Ratio(2.1, 1.9, 2.2, 15))
    save(tmp_path)
    read = history.read(tmp_path / "benchmarks")
    assert read.date.tolist() == [EARLY] * 2 + [LATE] * 2
    assert read.ratio.tolist() == [2.0, 2.0, 2.1, 2.1]
    assert read.products.isna().tolist() == [False, True] * 2
    assert read.peak_bytes.iloc[0] == 2**28
    assert read.threads.tolist() == [2] * 4


def test_a_broken_session_is_named(tmp_path):
    save(tmp_path)
    path = tmp_path / "benchmarks" / "sessions" / "20250101T000000.json"
    for text in ('[{"benchmark": "x"}]', '{"datetime": "2025", "benchmarks": 3}', "{"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"20250101T000000\.json is no session"):
            history.read(tmp_path / "benchmarks")


@pytest.mark.hard_use(
    "A session of benchmarks with a negative ratio, NaN, a number of 400 digits or text in place "
    "of a number is refused by the name of its file"
)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"ratio": 2.0', '"ratio": -2.0'), ('"ratio": 2.0', '"ratio": NaN'),
        ('"ratio": 2.0', '"ratio": "2"'), ('"ratio": 2.0', f'"ratio": 1{"0" * 400}'),
        ('"high": 2.2', '"high": 1e999'), ('"rounds": 15', '"rounds": -15'),
        ('"products": 1', f'"products": 1{"0" * 400}'), ('"products": 1', '"products": 1.5'),
        ('"threads": 2', '"threads": "two"'), ('"allocator_tuned": true', '"allocator_tuned": 1'),
        ('"torch": "2.13.0"', '"torch": 2.13'), ('"datetime": "2026', '"datetime": "26'),
        ('"extra_info": {}', f'"extra_info": {"[" * 10**5}'),
    ],
    ids=lambda text: text[:24],
)  # fmt: skip
def test_a_row_that_cannot_be_is_refused(tmp_path, old, new):
    save(tmp_path)
    (path,) = tmp_path.rglob("*.json")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=r"^0001_2026-01-01\.json is no session") as refusal:
        history.read(tmp_path / "benchmarks")
    assert "\n" not in str(refusal.value)


def test_a_row_without_what_it_is_compared_by_is_refused(tmp_path):
    save(tmp_path)
    (path,) = tmp_path.rglob("*.json")
    path.write_text(path.read_text().replace('"torch"', '"tensor"'))
    with pytest.raises(InputError, match="torch"):
        history.read(tmp_path / "benchmarks")


def test_no_session_gives_an_empty_table_and_no_page(tmp_path):
    assert history.read(tmp_path / "benchmarks").empty
    history.write(tmp_path)
    assert not list(tmp_path.iterdir())


def test_committed_sessions_are_read():
    rows = history.read(ROOT / "results" / "benchmarks")
    assert rows.date.nunique() >= 11
    assert {"product default", "line of 41 points"} <= set(rows.benchmark)


def test_the_table_shows_the_last_session_and_counts_them(tmp_path):
    save(tmp_path)
    save(tmp_path, LATE, Ratio(3.0, 2.9, 3.2, 15))
    table = history.table(history.read(tmp_path / "benchmarks"))
    (line,) = [line for line in grid(table).splitlines() if "product default" in line]
    assert [cell.strip() for cell in line.split("|")][3:7] == [
        "3 (2.9 to 3.2)", "1", "256", "cpu (AVX512, 2 cores), 2 threads, float32",
    ]  # fmt: skip
    assert line.rstrip(" |").endswith("2026-02-01 | 2")


def test_the_page_shows_the_figure(tmp_path):
    save(tmp_path)
    history.write(tmp_path)
    assert "(history.png)" in (tmp_path / "benchmarks" / "history.md").read_text()
    assert (tmp_path / "benchmarks" / "history.png").stat().st_size > 1000


def test_the_figure_has_a_line_a_benchmark(tmp_path):
    save(tmp_path)
    save(tmp_path, LATE)
    drawing = history.figure(history.read(tmp_path / "benchmarks"))
    assert isinstance(drawing, Figure)
    (ax,) = drawing.axes
    assert sorted(text.get_text() for text in ax.get_legend().get_texts()) == [
        "line of 41 points, lenet 512",
        "product default, lenet 512",
    ]


def test_ratio_is_of_pairs():
    # the machine is twice as slow in the second half: pairs do not see it, medians apart might
    second = np.array([1.0, 1.0, 1.0, 2.0, 2.0])
    assert Ratio.of(1.3 * second, second) == Ratio(1.3, 1.3, 1.3, 5)


def test_a_session_of_before_processors_were_recorded(tmp_path, monkeypatch):
    monkeypatch.delitem(FACTS, "cpu")
    save(tmp_path)
    assert set(history.read(tmp_path / "benchmarks").cpu) == {history.UNKNOWN}
