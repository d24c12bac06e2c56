import dataclasses
import math

import numpy as np
import pytest

from lla.errors import ChecksumError, InputError
from lla.minima import RadialIndex
from lla.minima.plots import plot_radii


def result(radii, n=3, reached=None, **facts):
    radii = np.asarray(radii, dtype=float)
    reached = np.ones(len(radii), dtype=bool) if reached is None else np.array(reached)
    return RadialIndex(**{
        "radii": radii, "reached": reached, "shortfalls": np.array([1.0, 2.0, 3.0]), "n": n,
        "cutoff": 0.1, "reach": 100.0, "loss": 0.01, "evaluations": 7, "scan": "full",
        "route": "loop", "seed": 0, "dtype": "float32", "examples": 5, "weights_hash": "a", **facts,
    })  # fmt: skip


BALL = 4 * math.pi / 3


def test_numbers_are_those_of_their_formulas():
    found = result([1.0, 2.0, 4.0, 5.0])
    assert found.log10_index == pytest.approx(math.log10(BALL * (1 + 8 + 64 + 125) / 4))
    assert found.log10_jensen == pytest.approx(math.log10(BALL * (40.0**3) ** 0.25))
    expected = [math.log10(BALL * 4.5), math.log10(BALL * 94.5)]
    assert found.halves == pytest.approx(expected)
    assert (found.mean.value, found.maximum, found.sd) == (
        3.0,
        5.0,
        pytest.approx(10**0.5 / 3**0.5),
    )
    assert found.mean.stderr == pytest.approx(found.sd / 2)


def test_large_powers_do_not_overflow():
    found = result([1e-3, 2e-3], n=10**7)
    assert math.isfinite(found.log10_index)
    assert found.log10_index - found.halves[0] > 3e6


def test_the_interval_covers_a_mean_of_the_known_law():
    rng = np.random.default_rng(0)
    # r uniform in (0, 1): E r^3 = 1/4
    inside = 0
    for seed in range(100):
        low, high = result(rng.uniform(size=80), seed=seed).interval
        inside += low <= math.log10(BALL / 4) <= high
    assert 88 <= inside <= 99


def test_one_direction_has_no_scatter():
    found = result([2.0])
    assert math.isnan(found.sd)
    assert found.mean.stderr is None
    assert found.halves[0] == found.halves[1] == found.interval[0] == found.interval[1]


def test_the_word_volume_never_stands_without_the_calibration():
    found = result([1.0, 2.0])
    for text in (repr(found), found.warning):
        assert text.count("volume") == 1
        assert "no volume: for ellipsoids in 3 dimensions" in text
        assert "1 (spread 0.5), 2 (spread 1), 3 (spread 2)" in text


def test_a_result_is_saved_and_loaded(tmp_path):
    found = result([1.0, 2.0, 100.0], reached=[True, True, False])
    found.save(tmp_path / "a.npz")
    again = RadialIndex.load(tmp_path / "a.npz")
    assert again.to_dict() == found.to_dict()
    assert again.censored == 1
    with pytest.raises((FileNotFoundError, InputError)):
        RadialIndex.load(tmp_path / "b.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"radii": np.array([1.0, math.nan])},
        {"radii": np.array([1.0, 0.0])},
        {"reached": np.ones(3, dtype=bool)},
        {"shortfalls": np.zeros(2)},
        {"n": 0},
    ],
)
def test_an_altered_file_is_refused(tmp_path, change):
    dataclasses.replace(result([1.0, 2.0]), **change).save(tmp_path / "a.npz")
    with pytest.raises(ChecksumError):
        RadialIndex.load(tmp_path / "a.npz")


def test_histograms_hold_every_radius_and_count_the_censored():
    found = result([0.1, 0.2, 0.2, 100.0], reached=[True, True, True, False])
    (ax,) = found.plot().axes
    assert sum(bar.get_height() for bar in ax.patches) == 4
    assert "1 of 4 do not reach the cutoff" in ax.get_legend().get_texts()[0].get_text()
    ones = np.ones(3), np.ones(3, dtype=bool)
    (ax,) = plot_radii({"good": ones, "bad": ones}).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["good", "bad"]
