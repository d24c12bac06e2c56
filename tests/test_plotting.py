import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch

import lla
from lla.plane_plots import plot_plane


def quadratic_plane(cases, shift=(0.25, 0.125), scale=1.0, **options):
    """A bowl whose lowest point lies beside the weights."""
    model = cases.Quadratic(torch.eye(2, dtype=torch.float64) * scale)
    model.theta.data = -torch.tensor(shift, dtype=torch.float64)
    problem = lla.Problem(model, (torch.zeros(1, 1), torch.zeros(1)), cases.take_output)
    rows = torch.eye(2, dtype=torch.float64)
    return lla.loss_plane(problem, rows, normalization=None, steps=8, **options)


def marks(figure):
    """Label -> place of what is drawn as single points."""
    lines = figure.axes[0].get_lines()
    return {line.get_label(): (line.get_xdata()[0], line.get_ydata()[0]) for line in lines}


@pytest.mark.parametrize("cap", [None, 0.5, 1e-9])
def test_the_minimum_is_marked_where_it_is(cases, cap):
    plane = quadratic_plane(cases)
    found = marks(plane.plot("contour", cap=cap))
    assert found["minimum"] == plane.minimum == (0.25, 0.125)
    assert found["weights"] == (0.0, 0.0)


def test_other_numbers_have_no_minimum(cases):
    plane = quadratic_plane(cases, scalars={"height": lambda p: -p.loss().item()})
    figure = plane.plot(scalar="height")
    assert "minimum" not in marks(figure)
    assert "height" in [ax.get_ylabel() for ax in figure.axes]


@pytest.mark.parametrize("kind", ["contour", "surface", "line"])
@pytest.mark.parametrize("cap", [None, 2.0])
def test_axes_are_in_units_of_the_directions_and_the_cap_is_said(cases, kind, cap):
    before = dict(mpl.rcParams)
    figure = quadratic_plane(cases, scale=100.0).plot(kind, cap=cap)
    text = [item.get_text() for item in figure.findobj(mpl.text.Text)]
    assert any("in units of direction 1" in word for word in text)
    assert kind == "line" or any("in units of direction 2" in word for word in text)
    assert any("capped at 2" in word for word in text) == (cap is not None)
    assert any("loss" in word for word in text)
    assert dict(mpl.rcParams) == before


def highest(figure):
    """The largest value that is drawn: the top of the colours, the height, or of the line."""
    ax = figure.axes[0]
    if hasattr(ax, "get_zlim"):
        return max(ax.zz_dataLim.intervalx)
    if ax.collections:
        return figure.axes[1].get_ylim()[1]
    return max(ax.get_lines()[0].get_ydata())


@pytest.mark.hard_use(
    "A picture that says 'capped at' shows no value above the cap, and otherwise it is as high as "
    "the values"
)
@pytest.mark.parametrize("kind", ["contour", "surface", "line"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("log", [False, True])
def test_what_is_capped_is_drawn_at_the_cap(kind, missing, log):
    along = np.linspace(-1, 1, 9)
    values = 1.0 + 49 * along[:, None] ** 2 + 50 * along[None] ** 2
    if missing:
        values[0, 4], values[2, 4], values[4, 0] = np.inf, np.nan, -np.inf
    finite = values[:, 4] if kind == "line" else values
    for cap in (2.5, 20.0, 1e6, None):
        drawn = highest(plot_plane(values, (along, along), ("a", "b"), kind=kind, cap=cap, log=log))
        top = min(cap or np.inf, finite[np.isfinite(finite)].max())
        if kind == "line" and missing:  # drawn at the top of the whole plane
            top = min(cap or np.inf, values[np.isfinite(values)].max())
        expected = np.log10(top) if log and kind == "surface" else top
        assert drawn == pytest.approx(expected, rel=1e-12)


def test_bad_pictures(cases):
    plane = quadratic_plane(cases)
    for cap in (0.0, -1.0, float("nan")):
        with pytest.raises(lla.InputError, match="cap is"):
            plane.plot(cap=cap)
    with pytest.raises(lla.InputError, match="kind is 'pie': choose"):
        plane.plot("pie")
    with pytest.raises(lla.InputError, match="there is no scalar 'height' on this plane"):
        plane.plot(scalar="height")


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0.0, 4.9, False), (-3.0, 1e-3, False), (0.074, 4.6, True), (6.8, 3e24, True),
     (1e-8, 1.0, True), (2.1, 2.2, True), (5.0, 700.0, True)],
)  # fmt: skip
def test_ticks_of_the_colours_are_few_inside_and_short(low, high, log):
    share = np.linspace(0, 1, 25).reshape(5, 5)
    values = low * (high / low) ** share if log else low + (high - low) * share
    along = np.linspace(-1, 1, 5)
    figure = plot_plane(values, (along, along), ("a", "b"), log=log)
    figure.draw_without_rendering()
    bar = figure.axes[1]
    ticks = [tick for tick in bar.get_yticks() if low <= tick <= high]
    assert 1 <= len(ticks) <= 10
    assert not log or high < 10 * low or len(ticks) >= 2
    assert all(len(label.get_text()) <= 30 for label in bar.get_yticklabels())  # with markup


def test_drawing_loads_matplotlib_and_importing_does_not():
    code = "import sys, lla; print([m for m in sys.modules if m.partition('.')[0] == 'matplotlib'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.hard_use("Plots are drawn under `np.seterr(all='raise')`")
def test_plots_under_strict_numpy(cases):
    plane = quadratic_plane(cases)
    spectrum = lla.spectral_density(cases.spectrum_of(np.geomspace(1e-12, 1e3, 20)), 2, 10)
    with np.errstate(all="raise"):
        for kind in ("contour", "surface", "line"):
            assert plane.plot(kind, cap=1e-9).axes
        assert spectrum.plot(sigma=1e-3).axes
        assert np.isfinite(spectrum.density(sigma=1e-6)).all()
        assert lla.spectrum_criteria(spectrum).re.shape == (2,)
