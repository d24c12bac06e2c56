import itertools
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import torch

import lla
from lla.layer_plots import plot_two_spectra
from lla.plane_plots import plot_path, plot_plane


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


def labels_of(axis):
    """The boxes of the tick labels that are drawn, along their axis."""
    return [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]


@pytest.mark.parametrize("distance", [0.02, 1.0, 2.0, 2.5, 20.0])
@pytest.mark.parametrize("size", [(5.2, 4.2), (3.0, 2.6)])
def test_tick_labels_of_a_plane_do_not_touch(distance, size):
    along = np.linspace(-distance / 2, distance / 2, 5)
    figure = mpl.figure.Figure(figsize=size, layout="constrained")
    ax = figure.add_subplot()
    plot_plane(np.add.outer(along**2, along**2), (along, along), ("a", "b"), ax=ax)
    figure.draw_without_rendering()
    x, y = labels_of(ax.xaxis), labels_of(ax.yaxis)
    assert len(x) >= 2
    assert all(one.x1 < next_.x0 for one, next_ in itertools.pairwise(x))
    assert all(one.y1 < next_.y0 for one, next_ in itertools.pairwise(y))


def bowl(rise):
    """A shallow basin in the middle and steep walls; its share of the area is above a half."""
    along = np.linspace(-1, 1, 41)
    radius = np.hypot(*np.meshgrid(along, along))
    return along, 0.5 + 0.1 * radius**2 + rise * np.maximum(0, radius - 0.9) ** 2


@pytest.mark.parametrize("shift", [0.0, -0.5, -3.0, 1e6])
def test_a_basin_has_several_colours(shift):
    along, values = bowl(30.0)
    figure = plot_plane(values + shift, (along, along), ("a", "b"))
    levels = figure.axes[0].collections[0].levels
    assert levels[0] == values.min() + shift
    assert levels[-1] == pytest.approx(values.max() + shift)
    assert (np.diff(levels) > 0).all()
    assert (levels < 0.6 + shift).sum() >= 5
    assert "levels logarithmic above the smallest" in figure.axes[1].get_ylabel()
    figure.draw_without_rendering()
    texts = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    ticks = [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]
    assert len(ticks) >= 4
    assert ticks[0] == pytest.approx(levels[0], rel=1e-2, abs=1e-2)


def test_levels_are_equally_far_apart_where_that_shows_the_basin_or_is_asked_for():
    along, values = bowl(30.0)
    for figure in (
        plot_plane(values, (along, along), ("a", "b"), log=False),
        plot_plane(bowl(0.0)[1], (along, along), ("a", "b")),
    ):
        levels = figure.axes[0].collections[0].levels
        np.testing.assert_allclose(np.diff(levels), levels[1] - levels[0])
        assert figure.axes[1].get_ylabel() == "loss"


WAY = np.array([[4.0, 1.0], [3.0, -1.0], [2.0, -2.0], [1.0, -1.0], [0.0, 0.0]])


@pytest.mark.parametrize("below", [False, True])
def test_a_path_has_its_ends_marked_and_arrows_towards_the_end(below):
    figure = plot_path(WAY, np.array([0.8, 0.2]), below=below)
    ax = figure.axes[0]
    lines = {line.get_label(): np.stack(line.get_data(), -1) for line in ax.get_lines()}
    np.testing.assert_array_equal(lines["path"], WAY)
    np.testing.assert_array_equal(lines["start"], WAY[:1])
    np.testing.assert_array_equal(lines["end"], WAY[-1:])
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["path", "start", "end"]
    arrows = [text for text in ax.texts if text.arrow_patch is not None]
    assert len(arrows) == 4
    for arrow in arrows:  # each along a segment of the path, and in its direction
        along = np.array(arrow.xy) - np.array(arrow.xyann)
        fits = [
            np.allclose(along, 0.2 * step) and np.allclose(arrow.xyann, begin + 0.4 * step)
            for begin, step in zip(WAY[:-1], np.diff(WAY, axis=0), strict=True)
        ]
        assert sum(fits) == 1
    # in the legend a white line would not be seen without its rim
    (line,) = [line for line in ax.get_lines() if line.get_label() == "path"]
    assert bool(line.get_path_effects()) == below == (line.get_color() == "w")


def test_over_a_plane_the_end_of_a_path_is_the_mark_of_the_weights(cases):
    way = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).double()
    path = lla.landscape.pca_path([*way, torch.zeros(2).double()])
    model = cases.Quadratic(torch.eye(2, dtype=torch.float64))
    model.theta.data = torch.zeros(2, dtype=torch.float64)
    problem = lla.Problem(model, (torch.zeros(1, 1), torch.zeros(1)), cases.take_output)
    plane = lla.loss_plane(problem, path.directions, normalization=None, coordinates=path.grid(5))
    labels = [text.get_text() for text in path.plot(plane).axes[0].get_legend().get_texts()]
    assert labels == ["minimum", "path", "start", "end"]
    assert path.plot(plane, title="mine").get_suptitle() == "mine"
    assert path.plot(plane).get_suptitle() == "Quadratic, 1 examples, eval mode"


def test_ranks_of_a_single_eigenvalue_are_whole_numbers():
    ax = plot_two_spectra(np.ones(1), np.ones(1), ("a", "b")).axes[0]
    low, high = ax.get_xlim()
    ticks = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert ticks == [1]
