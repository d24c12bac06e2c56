"""Pictures of several spectra: densities integrate to one, one floor, one axis."""

import numpy as np
import pytest
from matplotlib.figure import Figure

import lla
from lla.hessian.spectrum import curve_of
from lla.spectrum_plots import Curve, _Axis, plot_eigenvalues


def spectrum(values, size=100, weights=None, about=""):
    values = np.atleast_2d(np.asarray(values, dtype=float))
    count = values.shape[1]
    shares = np.full(values.shape, 1 / count) if weights is None else np.atleast_2d(weights)
    counts = np.full(len(values), count)
    return lla.Spectrum(
        values, shares, counts, size, count, 0, "float64", False, values.size, about=about
    )


WIDE = spectrum([-3.0, 1e-5, 0.5, 100.0], size=1000)
NARROW = spectrum([-1e-3, 0.0, 2.0], size=50)


def lines(figure):
    return {line.get_label(): line.get_data() for line in figure.axes[0].get_lines()}


def test_a_mean_of_spectra_is_that_of_their_probes():
    two = spectrum([[0.0, 1.0], [2.0, 3.0]], weights=[[0.25, 0.75], [0.5, 0.5]])
    one = spectrum([[5.0, 7.0]], weights=[[0.5, 0.5]])
    found = curve_of("mean", [two, one])
    assert found.weights.sum() == pytest.approx(1, abs=1e-15)
    mean = (found.nodes * found.weights).sum()
    assert mean == pytest.approx((two.moment(1).mean() + one.moment(1).mean()) / 2, abs=1e-14)


@pytest.mark.parametrize("linear", [None, 1e-2, 10.0])
def test_the_density_on_the_axis_integrates_to_one_and_is_where_the_weights_are(linear):
    axis = _Axis([curve_of("a", [WIDE]), curve_of("b", [NARROW])], linear)
    places = axis._place(axis.grid)
    assert (np.diff(axis.grid) > 0).all()
    np.testing.assert_allclose(np.diff(places), places[1] - places[0], rtol=1e-6)
    for each in (WIDE, NARROW):
        curve = curve_of("c", [each])
        density = axis.density(curve)
        assert np.trapezoid(density, places) == pytest.approx(1, abs=1e-6)
        mean = (axis._place(curve.nodes) * curve.weights).sum()
        assert np.trapezoid(density * places, places) == pytest.approx(mean, abs=1e-5)


def test_beyond_the_linear_part_a_unit_of_the_axis_is_a_decade():
    axis = _Axis([Curve("c", np.array([-1e3, 1e3]), np.array([0.5, 0.5]), 10)], 1.0)
    places = axis._place(np.array([-100.0, -10.0, 0.0, 10.0, 100.0, 1000.0]))
    assert places[2] == 0
    np.testing.assert_allclose(np.diff(places[3:]), 1)
    np.testing.assert_allclose(places[:2], -places[4:2:-1])


def test_the_floor_is_a_tenth_of_one_eigenvalue_of_the_largest_matrix():
    one = Curve("c", np.array([0.0, 1.0]), np.array([1 - 1e-3, 1e-3]), 1000)
    axis = _Axis([one, Curve("d", np.array([0.5]), np.array([1.0]), 10)], 1e-3)
    density = axis.density(one)
    peak = density[np.abs(axis.grid - 1.0).argmin()]
    assert axis.floor == pytest.approx(peak / 10, rel=1e-2)


def test_spectra_side_by_side_share_floor_axis_and_legend():
    figure = lla.spectra.compare({"before": WIDE, "after": NARROW}, title="both")
    ax = figure.axes[0]
    assert ax.get_xscale() == "symlog"
    assert figure.get_suptitle() == "both"
    found = lines(figure)
    lowest = {label: found[label][1].min() for label in ("before", "after")}
    assert lowest["before"] == lowest["after"]
    assert ax.get_ylim()[0] < lowest["before"]  # rows of nodes below
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["before", "after", "Ritz values, a row a spectrum"]
    nodes = [x for x, y in (line.get_data() for line in ax.get_lines()) if len(x) in (3, 4)]
    np.testing.assert_array_equal(nodes[0], WIDE.nodes)
    np.testing.assert_array_equal(nodes[1], NARROW.nodes)
    ticks = ax.get_xticks()
    assert 0 in ticks
    assert len(ticks) <= 11


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0], [-1e-30, 1e30], [1e-300, 2e-300], [-2.0]])
def test_spectra_of_any_kind_are_drawn(values):
    figure = lla.spectra.compare([spectrum(values), spectrum([1.0, 2.0])])
    figure.draw_without_rendering()
    figure = lla.spectra.over_training({0: spectrum(values), 1: spectrum(values)})
    figure.draw_without_rendering()


def test_a_list_and_criteria_are_named():
    crit = lla.Criteria(
        *[lla.Estimate(1.0, None, 1, 1)] * 4, spectra=(WIDE, NARROW), scope="batches",
        stderr_kind="probes", reading="product", legacy=False, probes=1, steps=4, batches=2,
        dtype="float64", route="fresh", plan="", loss=1.0, matvecs=7, about="LeNet",
    )  # fmt: skip
    assert {"1: LeNet", "2"} <= set(lines(lla.spectra.compare([crit, NARROW])))
    own = lines(crit.plot())
    assert {"batch 0", "batch 1"} <= set(own)


def test_over_training_colours_are_the_densities_in_the_order_of_time():
    figure = lla.spectra.over_training({10: NARROW, 0: WIDE, 2: NARROW}, name="step")
    ax, bar = figure.axes
    assert (ax.get_xlabel(), ax.get_yscale()) == ("step", "symlog")
    mesh = ax.collections[0]
    columns = mesh.get_array().reshape(-1, 3)
    np.testing.assert_array_equal(columns[:, 1], columns[:, 2])
    assert not np.array_equal(columns[:, 0], columns[:, 1])
    edges = mesh.get_coordinates()[0, :, 0]
    np.testing.assert_allclose(edges, [-1, 1, 6, 14])
    np.testing.assert_array_equal(lines(figure)["measured"][0], [0, 2, 10])
    assert bar.get_ylabel() == "density per decade of the axis"
    assert columns.min() == mesh.norm.vmin


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lla.spectra.compare([]), "there is no spectrum"),
        (lambda: lla.spectra.compare({"a": 3}), "'a' is int: give results of"),
        (lambda: lla.spectra.compare([WIDE], linear=0.0), "linear is 0.0: give a positive"),
        (lambda: lla.spectra.over_training({0: WIDE}), "two or more epochs"),
        (lambda: lla.spectra.over_training([WIDE, WIDE]), "as {epoch: spectrum}"),
        (lambda: lla.spectra.over_training({"a": WIDE, 1: WIDE}), "the epoch is 'a'"),
        (lambda: lla.spectra.over_training({float("nan"): WIDE, 1: WIDE}), "finite numbers"),
    ],
)
def test_bad_pictures_of_spectra(call, message):
    with pytest.raises(lla.InputError, match=message):
        call()


@pytest.mark.parametrize("k", [1, 2, 3, 12])
def test_ranks_of_eigenvalues_are_whole_numbers(k):
    figure = plot_eigenvalues(np.arange(k, 0.0, -1), np.zeros(k), "LA")
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    ticks = [t for t in figure.axes[0].get_xticks() if low <= t <= high]
    assert ticks
    assert all(t == round(t) and 1 <= t <= k for t in ticks)


def test_the_nodes_below_a_spectrum_are_in_the_legend_once():
    ax = Figure().add_subplot()
    WIDE.plot(ax=ax)
    assert ax.get_legend() is None  # its owner has none
    WIDE.plot(ax=ax, label="first")
    NARROW.plot(ax=ax, label="second")
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts.count("Ritz values") == 1
    assert {"first", "second"} <= set(texts)
    legend = WIDE.plot().axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["density", "Ritz values"]
