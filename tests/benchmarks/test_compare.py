"""Planted slow-downs are caught, the noise of the machine is not."""

import json
import math
import time

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import compare, history
from benchmarks.timing import Ratio, in_turn
from lla.errors import InputError

REPEATS = 10


def row(ratio=2.0, session=0, *, spread=0.05, rounds=15, products=100, peak=2**30, **facts):
    return {
        "benchmark": "product default", "size": "lenet 512", "device": "cpu",
        "cpu": "AVX2, 2 cores", "dtype": "float32", "threads": 2, "allocator_tuned": True,
        "ratio": ratio,
        "low": ratio * (1 - spread), "high": ratio * (1 + spread), "rounds": rounds,
        "products": products, "peak_bytes": peak, "torch": "2.13.0",
        "date": f"2026-01-{session + 1:02}T00:00:00+00:00",
    } | facts  # fmt: skip


def table(*rows):
    return pd.DataFrame(rows)


def worse(*rows, **options):
    return [f.quantity for f in compare.compare(table(*rows), **options) if f.worse]


def test_a_ratio_within_tolerance_and_noise_passes():
    assert worse(row(2.0), row(2.25, 1)) == []
    assert worse(row(2.0), row(1.0, 1)) == []  # faster


def test_a_ratio_beyond_both_fails():
    assert worse(row(2.0), row(3.0, 1)) == ["ratio"]
    assert worse(row(2.0), row(2.3, 1), tolerance=0.05) == ["ratio"]


def test_a_noisy_session_has_more_room():
    assert worse(row(2.0), row(2.6, 1)) == ["ratio"]
    assert worse(row(2.0, spread=0.4), row(2.6, 1, spread=0.4)) == []


def test_scatter_between_sessions_counts_as_noise():
    steady = [row(2.0, i) for i in range(5)]
    scattered = [row(ratio, i) for i, ratio in enumerate((1.6, 2.5, 2.0, 1.5, 2.6))]
    assert worse(*steady, row(2.9, 9)) == ["ratio"]
    assert worse(*scattered, row(2.9, 9)) == []


def test_the_baseline_is_a_median():
    outlier = [row(ratio, i) for i, ratio in enumerate((2.0, 2.0, 9.0))]
    assert worse(*outlier, row(3.0, 9)) == ["ratio"]


@pytest.mark.parametrize(
    "other",
    [{"torch": "2.11.0"}, {"device": "cuda (a GPU)"}, {"threads": 8}, {"dtype": "float64"},
     {"size": "lenet 64"}, {"allocator_tuned": False}, {"cpu": "AVX512, 2 cores"}],
)  # fmt: skip
def test_only_like_is_compared_with_like(other):
    found = compare.compare(table(row(1.0, **other), row(9.0, 1)))
    assert len(found) == 3
    assert all(math.isnan(f.baseline) for f in found)
    assert not any(f.worse for f in found)


def test_more_products_fail_and_fewer_do_not():
    assert worse(row(), row(session=1, products=101)) == ["products"]
    assert worse(row(), row(session=1, products=99)) == []


def test_more_memory_fails_beyond_the_slack():
    assert worse(row(), row(session=1, peak=int(1.2 * 2**30))) == ["memory"]
    assert worse(row(), row(session=1, peak=int(1.05 * 2**30))) == []
    assert worse(row(peak=2**20), row(session=1, peak=2**23)) == []  # small, but below the slack


def test_what_was_not_measured_is_not_compared():
    found = compare.compare(table(row(), row(session=1, products=None, peak=None)))
    assert [f.quantity for f in found] == ["ratio"]


def test_without_sessions_it_says_so():
    with pytest.raises(InputError, match="no session to compare"):
        compare.compare(table(row())[:0])


def alarms(last, scatter):
    """In how many of 50 histories the last session is called worse, `last` times as slow.

    Repetitions scatter by a share, and sessions by 3 % beside that.
    """
    random = np.random.default_rng(0)
    found = 0
    for _ in range(50):
        rows = []
        for session, slow in enumerate((1, 1, 1, 1, 1, last)):
            times = slow * random.normal(1, 0.03) * random.lognormal(0, scatter, 15)
            ratio = Ratio.of(times, np.ones(15))
            rows.append(row(ratio.median, session, low=ratio.low, high=ratio.high))
        found += bool(worse(*rows))
    return found


@pytest.mark.parametrize("scatter", [0.05, 0.1, 0.2, 0.4])
def test_noise_of_known_size_is_not_taken_for_a_slow_down(scatter):
    assert alarms(1.0, scatter) == 0


@pytest.mark.parametrize(("scatter", "least"), [(0.05, 50), (0.1, 49), (0.2, 40)])
def test_a_slow_down_by_half_is_seen_through_it(scatter, least):
    assert alarms(1.5, scatter) >= least


# --- on the machine itself, with a small network


@pytest.fixture
def one_thread(monkeypatch):
    """Timed by what the thread computed: a busy machine would make the wall's clock fail."""
    monkeypatch.setattr(time, "perf_counter", time.thread_time)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network():
    """One forward and backward pass, and one product by double backward."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(96, 96, generator=generator).div_(8).requires_grad_() for _ in range(3)]
    x = torch.randn(64, 96, generator=generator)
    vectors = [torch.ones_like(weight) for weight in weights]

    def gradient(create_graph):
        y = x
        for weight in weights:
            y = torch.tanh(y @ weight)
        return torch.autograd.grad(y.square().mean(), weights, create_graph=create_graph)

    return lambda: gradient(False), lambda: torch.autograd.grad(gradient(True), weights, vectors)


def measured(amount, date):
    """A session that times so many products against two passes."""
    step, product = network()

    def twice():
        step(), step()

    def work():
        for _ in range(amount):
            product()

    times = in_turn([work, twice], rounds=41, warmup=2)
    ratio = Ratio.of(*times.T)
    return row(date=date, low=ratio.low, high=ratio.high, rounds=41, products=None, peak=None,
               ratio=ratio.median)  # fmt: skip


def test_ten_sessions_of_the_same_code_raise_no_alarm(one_thread):
    rows = [measured(2, f"2026-01-{i + 1:02}T00:00:00+00:00") for i in range(REPEATS)]
    for last in range(1, REPEATS):
        found = compare.compare(table(*rows[: last + 1]))
        assert not [f for f in found if f.worse], compare.describe(found)


def test_twice_the_work_is_caught(one_thread):
    rows = [measured(2, f"2026-01-{i + 1:02}T00:00:00+00:00") for i in range(3)]
    slow = measured(4, "2026-02-01T00:00:00+00:00")
    (found,) = compare.compare(table(*rows, slow))
    assert found.worse, compare.describe([found])


# --- the command


def save(folder, rows):
    """One session in the form of pytest-benchmark."""
    sessions = folder / history.SESSIONS
    sessions.mkdir(exist_ok=True)
    benchmarks = [{"extra_info": row} for row in rows]
    session = {"datetime": rows[0]["date"], "benchmarks": benchmarks}
    (sessions / f"{rows[0]['date'][:10]}.json").write_text(json.dumps(session))


def test_the_command_fails_on_a_planted_slow_down(tmp_path, capsys):
    save(tmp_path, [row(2.0)])
    save(tmp_path, [row(2.05, 1)])
    assert compare.main([str(tmp_path)]) == 0
    assert "0 of 3 compared quantities are worse" in capsys.readouterr().out
    save(tmp_path, [row(3.0, 2)])
    assert compare.main([str(tmp_path)]) == 1
    assert "WORSE" in capsys.readouterr().out
    assert compare.main([str(tmp_path), "--tolerance", "0.8"]) == 0


def test_the_command_names_what_is_missing(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main([str(tmp_path)])
    assert "run the benchmarks with --save" in capsys.readouterr().err


def test_a_first_session_has_nothing_to_compare_with(tmp_path, capsys):
    save(tmp_path, [row(2.0)])
    assert compare.main([str(tmp_path)]) == 0
    assert "no earlier session" in capsys.readouterr().out
