"""The table of measurements with a target, from planted results."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.adaptive import measurement
from benchmarks.adaptive.measurement import BudgetCost, HonestyCase, Repetitions, SavingCase
from benchmarks.adaptive.view import EXHIBIT
from benchmarks.inputs import Input
from benchmarks.publish import publish
from benchmarks.timing import median
from paper_tables.engine.records import Source

RNG = np.random.default_rng(0)


def repeated(count=200, bias=0.0):
    """K_H1 around 2 with a standard error of 4 %, stated rightly."""
    values = 2 * (1 + bias + 0.04 * RNG.standard_normal(count))
    runs = {"kh1": values, "stderr": 0.08, "held": np.abs(values - 2) <= 1.96 * 0.08}
    runs |= {"re": 0.101, "products": 500}
    return Repetitions(pd.DataFrame(runs), 2.0, 0.1, 0.8, 334)


def line(tmp_path, start):
    text = (tmp_path / "benchmarks" / "adaptive.md").read_text()
    (found,) = [row for row in text.splitlines() if row.startswith(f"| {start} ")]
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_bias_coverage_and_products(tmp_path):
    case = HonestyCase("perceptron", 8, 200)
    publish(EXHIBIT, measurement.honesty_records(case, repeated()), tmp_path)
    publish(EXHIBIT, measurement.honesty_records(case, repeated(bias=0.1)), tmp_path)
    cells = line(tmp_path, "perceptron")
    assert cells[1:6] == ["334", "200", "500", "500", "8.0"]
    # (0.8 / 0.0364)^2 probes of a hundred steps
    assert float(cells[6]) == pytest.approx(48_400, rel=0.03)
    assert float(cells[8].split("%")[0]) == pytest.approx(10, abs=1)
    assert float(cells[11].split("%")[0]) < 50
    assert cells[12] == "1.0e-02"


def test_seconds_stand_beside_a_pass(tmp_path):
    given = Input(None, [], None, 60_000, Source("mnist", "0" * 64), Source("w", "1" * 64),
                  "reduced", "a note")  # fmt: skip
    passes = median([38.0 / 20.0, 40.0 / 20.0, 63.0 / 21.0])
    spent = {
        "fixed": BudgetCost(400.0, (20.0, None), 4000, 4, {}, None),
        "probes": BudgetCost(40.0, passes, 500, 4, {"kh1": 0.04, "re": 0.01}, True),
        "batches": BudgetCost(60.0, (3.0, None), 700, 40, {"kh1": 0.08, "re": 0.01}, False),
    }
    new = measurement.saving_records(SavingCase(64, 100), given, spent)
    publish(EXHIBIT, new, tmp_path)
    text = (tmp_path / "benchmarks" / "adaptive.md").read_text()
    (first, *others) = [row for row in text.splitlines() if "fixed  " in row or "target, " in row]
    assert first.split("|")[1].strip() == "lenet 64"
    rows = [row.split("|")[3:-1] for row in (first, *others)]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["fixed", "4", "4000", "400", "20", "", "", ""],
        ["target, over probes", "4", "500", "40", "2 ± 0.35", "4.0%", "1.0%", "yes"],
        ["target, over batches", "40", "700", "60", "3", "8.0%", "1.0%", "no"],
    ]


def test_exact_ratios_are_those_of_the_spectrum():
    """Eigenvectors along the axes leave nothing to chance."""
    values = np.array([-1.0, 0.5, 3.5])
    found = measurement._ratios(values, np.eye(3), 2000)
    np.testing.assert_allclose(found, 0.25)
