"""How cost grows: the fit, the counts behind the prediction, the records, the page."""

import math

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import lla
from benchmarks.communication.prediction import NUMBER
from benchmarks.growth import measurement, prediction, processes
from benchmarks.growth.fit import slopes, upper
from benchmarks.growth.measurement import ALL, UPPER, Growth
from benchmarks.growth.prediction import ACTIVATIONS, PASS, PRODUCT, ROUTE, STEP, SUMMED, Speeds
from benchmarks.growth.settings import BATCHES, PARAMETERS, PROBES, RANKS, GrowthCase, Setting
from benchmarks.growth.view import EXHIBIT, agreement
from benchmarks.publish import publish
from lla.hessian.lanczos.process import Basis, Lanczos
from lla.probes import gaussian, rademacher
from paper_tables.engine.records import read_records

# --- the fit


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.37, 1.0, 2.0])
def test_a_power_law_gives_its_exponent_whatever_the_speed_of_a_round(exponent):
    sizes = [9834, 50_000, 1_000_000, 89_980_000]
    speeds = np.array([[1e-9], [3e-7], [2.0]])
    seconds = speeds * np.array(sizes, dtype=float) ** exponent
    assert slopes(sizes, seconds) == pytest.approx([exponent] * 3, abs=1e-10)


def test_the_upper_half_of_an_affine_cost_is_closer_to_linear():
    sizes = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    seconds = (3 + sizes)[None]
    for part in (slice(None), upper(5)):
        expected = np.polyfit(np.log(sizes[part]), np.log(seconds[0, part]), 1)[0]
        assert slopes(sizes[part], seconds[:, part]) == pytest.approx([expected])
    # the local exponent of 3 + x is x / (3 + x)
    assert 4 / 7 < slopes(sizes[upper(5)], seconds[:, upper(5)])[0] < 16 / 19
    assert 1 / 4 < slopes(sizes, seconds)[0] < 4 / 7


REACHED = {
    "flops": [5e10, 6e10, 9e10],
    "memory": [8e9] * 3,
    "product": [1e-3] * 3,
    "step": [5e-4] * 3,
}
SPEEDS = {name: np.array(values) for name, values in REACHED.items()} | {"link": np.full(3, np.inf)}
CASE = GrowthCase(PROBES, (1, 2, 4, 8))


def planted(exponent=1.0, predicted=1.0, noise=0.0, seed=0):
    """Five rounds of a power law, with noise that each call draws for itself."""
    random, sizes = np.random.default_rng(seed), np.array(CASE.points, dtype=float)
    drift = np.exp(random.normal(0, 0.2, (5, 1)))  # of the machine, from round to round
    run = drift * sizes**exponent * np.exp(random.normal(0, noise, (5, 4)))
    return Growth(run, np.ones((5, 4)), 2 * run, drift * 2 * sizes**predicted, SPEEDS)


def exponents(growth, column=ALL):
    return {r.metric: r for r in measurement.records(CASE, growth) if r.column == column}


def test_the_interval_of_the_exponent_holds_the_true_one_as_often_as_it_says():
    held, narrow = 0, 0
    for seed in range(200):
        found = exponents(planted(1.3, 1.3, noise=0.1, seed=seed))
        held += agreement(found["difference"]) == "yes"
        narrow += abs(found["exponent"].value - 1.3) <= found["exponent"].stderr
    assert 180 <= held <= 199  # 190 are expected, with a standard deviation of 3
    assert 105 <= narrow <= 145  # one standard error of five rounds holds 63 %


def test_the_standard_error_is_that_of_least_squares():
    # var(slope) = noise^2 / sum (log x - mean)^2, a round; the mean over 5 rounds has a fifth
    logs = np.log(CASE.points)
    exact = 0.1 / math.sqrt(5 * ((logs - logs.mean()) ** 2).sum())
    squares = [exponents(planted(noise=0.1, seed=s))["exponent"].stderr ** 2 for s in range(200)]
    assert math.sqrt(np.mean(squares)) == pytest.approx(exact, rel=0.15)


# --- the counts behind the prediction


class Moved(TorchDispatchMode):
    """Counts the numbers that operations read and write."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if not function.is_view:
            read = args[1:] if name == "copy_" else () if name.startswith("new_") else args
            tensors = pytree.tree_leaves((read, kwargs, out))
            self.numbers += sum(t.numel() for t in tensors if isinstance(t, torch.Tensor))
        return out


def moved(function):
    with Moved() as counter:
        function()
    return counter.numbers


def product_of(setting):
    problem = lla.Problem(setting.network(), setting.pairs())
    operator = lla.HessianOperator(problem, route=ROUTE)
    rows = rademacher(operator.shape[0], operator.theta, 0)[None]
    operator.rows(rows)
    return lambda: operator.rows(rows)


@pytest.mark.parametrize("setting", [Setting(width=8, batch=3), Setting(width=40, batch=16)])
def test_flops_of_a_product_are_the_counted_ones(setting):
    assert sum(p.numel() for p in setting.network().parameters()) == setting.parameters
    product = product_of(setting)
    with FlopCounterMode(display=False) as counter:
        product()
    assert counter.get_total_flops() == prediction.flops(setting)


def test_vectors_that_a_product_moves_are_the_counted_ones():
    # of a wide network, whose vectors are nearly all weights of the middle layer
    counted = [
        moved(product_of(Setting(width=1500, batch=1, batches=n))) / Setting(width=1500).parameters
        for n in (1, 2, 3)
    ]
    assert counted[0] == pytest.approx(PRODUCT, abs=0.5)
    assert counted[2] - counted[1] == pytest.approx(PRODUCT + SUMMED, abs=0.5)


def test_numbers_that_a_product_moves_for_an_example_are_the_counted_ones():
    width = 2048
    few, many = (moved(product_of(Setting(width=width, batch=n))) for n in (16, 48))
    assert (many - few) / 32 / width == pytest.approx(ACTIVATIONS, abs=0.5)


class Diagonal:
    """diag(values) of the start vector's length."""

    def __init__(self, values):
        self.values, self.shape = values, (len(values), len(values))

    def rows(self, rows):
        return rows * self.values


def test_vectors_that_a_lanczos_step_moves_are_the_counted_ones():
    values = gaussian(20_000, torch.zeros(1, dtype=torch.float64), 0)
    lanczos = Lanczos(Diagonal(values), gaussian(20_000, values, 1)[None], steps=6)
    for stored in range(1, 7):
        found = moved(lambda: lanczos.advance(1)) / 20_000
        own = 3  # of the diagonal itself
        assert found - own == pytest.approx(STEP + PASS + 2 * stored, abs=0.1)


def test_a_step_makes_one_pass_on_a_cpu(monkeypatch):
    calls = []
    remove = Basis.remove
    monkeypatch.setattr(Basis, "remove", lambda *args: calls.append(1) or remove(*args))
    setting = Setting(width=64, batch=32)
    problem = lla.Problem(setting.network(), setting.pairs())
    lla.spectral_density(lla.HessianOperator(problem, route=ROUTE), probes=2, steps=24)
    assert len(calls) == 2 * 24


def test_predicted_seconds_are_the_sums_over_steps():
    setting = Setting(width=10, batch=4, steps=7, probes=3, batches=2)
    P, infinite = setting.parameters, math.inf
    products = 3 * 7
    computing = prediction.seconds(setting, Speeds(flops=10.0, memory=infinite))
    assert computing == pytest.approx(products * 2 * prediction.flops(setting) / 10)
    vectors = 3 * sum(2 * (PRODUCT + SUMMED) + STEP + 2 * (PASS + 2 * j) for j in range(1, 8))
    activations = products * 2 * ACTIVATIONS * 4 * 10  # batches, examples, units
    reading = prediction.seconds(setting, Speeds(flops=infinite, memory=10.0), passes=2)
    assert reading == pytest.approx((vectors * P + activations) * NUMBER / 10)
    waiting = prediction.seconds(setting, Speeds(infinite, infinite, product=0.25, step=2.0))
    assert waiting == pytest.approx(products * (2 * 0.25 + 2.0))
    # two processes: a sum sends P numbers from each, and the next vector half of them
    shared = Setting(**{**vars(setting), "ranks": 2})
    sending = prediction.seconds(shared, Speeds(infinite, infinite, link=10.0))
    assert sending == pytest.approx(products * 1.5 * NUMBER * P / 10)
    assert prediction.seconds(shared, Speeds(10.0, infinite)) == pytest.approx(computing / 2)


def test_batches_that_stand_apart_cost_as_many_spectra():
    speeds = Speeds(1e9, 1e9, 1e-3, 1e-3)
    one, four = (
        prediction.seconds(Setting(batches=n, width=30), speeds, apart=True) for n in (1, 4)
    )
    assert four == pytest.approx(4 * one)
    assert prediction.seconds(Setting(batches=4, width=30), speeds) < four


# --- what is measured

TINY = Setting(width=8, batch=4, steps=2)


@pytest.mark.parametrize("axis", [PARAMETERS, BATCHES])
def test_all_points_of_an_axis_are_measured(axis):
    case = GrowthCase(axis, (1, 3), TINY, rounds=2)
    found = measurement.measure(case, tuned=False)
    for values in (found.run, found.cpu, found.predicted):
        assert values.shape == (2, 2)
        assert (values > 0).all()
    assert (found.setup > 0).all() == (axis == PARAMETERS)
    sizes = [64 + 1 + 1 + 1 + 10 + 10, 64 * 3 + 3 + 9 + 3 + 30 + 10]
    assert case.sizes == (sizes if axis == PARAMETERS else [1, 3])


def test_processes_are_measured_beside_one():
    case = GrowthCase(RANKS, (1, 2), Setting(width=8, batch=4, steps=2, batches=2), rounds=2)
    found = processes.measure(case.settings, case.rounds, tuned=False)
    assert [len(turn) for turn in found] == [2, 2]
    for (one, alone), (two, joined) in found:
        assert min(one.run, one.setup, two.run, two.setup) > 0
        assert alone.link == math.inf
        assert 0 < joined.link < math.inf


# --- records and page


def test_the_records_are_complete_and_say_what_was_measured():
    growth = planted(1.3, 1.0, noise=0.1)
    new = measurement.records(CASE, growth)
    assert {r.column for r in new} == {"1", "2", "4", "8", ALL, UPPER, "speeds"}
    assert len({r.key for r in new}) == len(new) == 4 * 4 + 2 * 4 + 4
    assert {(r.table, r.row, r.n, r.fidelity) for r in new} == {
        ("growth", "probes", 5, "substitute")
    }
    (second,) = [r for r in new if (r.column, r.metric) == ("4", "seconds")]
    assert second.value == np.median(growth.run[:, 2])
    found = exponents(growth, UPPER)
    ratios = np.log(growth.run[:, 3] / growth.run[:, 2]) / math.log(2)
    assert found["exponent"].value == pytest.approx(ratios.mean())
    assert found["predicted_exponent"].value == pytest.approx(1.0)
    assert found["difference"].value == pytest.approx(ratios.mean() - 1)
    whole = np.log((growth.run[:, 3] + 1) / (growth.run[:, 2] + 1)) / math.log(2)
    assert found["whole_exponent"].value == pytest.approx(whole.mean())


def test_two_points_have_no_upper_half():
    two = GrowthCase(RANKS, (1, 2))
    growth = Growth(*np.ones((4, 5, 2)), SPEEDS)
    new = measurement.records(two, growth)
    assert UPPER not in {r.column for r in new}
    assert {r.threads for r in new} == {1}


def lines(results):
    text = (results / "benchmarks" / "growth.md").read_text()
    rows = [row.strip("|").split("|") for row in text.splitlines() if row.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def test_the_page_says_whether_exponents_agree(tmp_path):
    publish(EXHIBIT, measurement.records(CASE, planted(1.0, 1.0, noise=0.01)), tmp_path)
    wider = GrowthCase(PROBES, CASE.points, Setting(width=16))
    publish(EXHIBIT, measurement.records(wider, planted(1.25, 1.0, noise=0.01)), tmp_path)
    pair = GrowthCase(RANKS, (1, 2))
    halved = np.tile([2.0, 1.0], (5, 1))
    publish(EXHIBIT, measurement.records(pair, Growth(*[halved] * 4, SPEEDS)), tmp_path)
    first, second, third = lines(tmp_path)
    assert (first[0], first[2], first[7], first[10]) == ("probes", "1 to 8", "yes", "yes")
    assert first[1].endswith("60 GFLOP/s, 8.0 GB/s, 1.00 ms a product, 0.50 ms a step")
    assert second[0] == ""
    assert second[7] == "differs by +0.25"
    assert third[0] == "processes"
    assert third[5:9] == ["-1 ± 0", "-1 ± 0", "yes", ""]
    picture = tmp_path / "benchmarks" / "growth.png"
    assert 10_000 < picture.stat().st_size < 200_000


def test_the_figure_shows_every_axis_and_every_range():
    pair = GrowthCase(RANKS, (1, 2))
    found = [
        *measurement.records(CASE, planted()),
        *measurement.records(GrowthCase(PROBES, CASE.points, Setting(width=16)), planted()),
        *measurement.records(pair, Growth(*np.ones((4, 5, 2)), SPEEDS)),
    ]
    (drawing,) = EXHIBIT.figures(found)
    panels = [ax for ax in drawing.draw(None).axes if ax.get_xlabel()]
    assert [ax.get_xlabel() for ax in panels] == ["probes", "processes"]
    assert [len(ax.containers) for ax in panels] == [2, 1]
    predicted = panels[0].lines[0]
    assert predicted.get_xdata().tolist() == [1, 2, 4, 8]
    ratios = predicted.get_ydata() / predicted.get_ydata()[0]
    assert ratios == pytest.approx([1, 2, 4, 8])
    assert EXHIBIT.figures([]) == []


def test_measuring_again_replaces_the_records(tmp_path):
    for exponent in (1.0, 2.0):
        publish(EXHIBIT, measurement.records(CASE, planted(exponent)), tmp_path)
    records = read_records(tmp_path / "records" / "growth.jsonl")
    (found,) = [r.value for r in records if (r.column, r.metric) == (ALL, "exponent")]
    assert found == pytest.approx(2.0)
