import warnings

import numpy as np
import pytest
from torch import nn

import lla
from lla.layers.flatness import flatness
from lla.layers.flatness_result import QUANTITIES, Flatness


@pytest.fixture
def found(nets):
    model = nets.make(lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False), nn.SiLU(), nn.Conv2d(3, 4, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(36, 4), nn.ReLU(), nn.Linear(4, 3),
    ))  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return flatness(model, nets.pictures(), max_matvecs=4)


def test_a_file_gives_back_all_of_it(found, tmp_path):
    found.save(tmp_path / "f.npz")
    again = Flatness.load(tmp_path / "f.npz")
    assert repr(again) == repr(found)
    for one, other in zip(again, found, strict=True):
        assert one.trace == other.trace
        assert one.trace_bias == other.trace_bias
        assert (one.method, one.why, one.filters, one.size) == (
            other.method, other.why, other.filters, other.size
        )  # fmt: skip
        np.testing.assert_array_equal(one.table, other.table)
    assert (again.loss, again.examples, again.mode) == (found.loss, 8, "eval")
    with pytest.raises(lla.InputError, match="holds Flatness, not Spectrum"):
        lla.Spectrum.load(tmp_path / "f.npz")


def test_layers_are_found_by_name(found):
    assert found.names == ("0", "2", "5", "7")
    assert found["0"].trace_bias is None
    assert found["0"].table is None
    assert found["5"].table.shape == (4, 4)
    assert np.trace(found["5"].table) == pytest.approx(found["5"].trace.value)
    assert "by closed form" in repr(found["5"])
    with pytest.raises(lla.InputError, match="'9' was not measured: choose among 0, 2, 5, 7"):
        found["9"]


def test_a_frame_has_a_row_a_layer(found):
    frame = found.to_frame()
    assert list(frame.index) == list(found.names)
    assert frame.loc["5", "kappa"] == found["5"].kappa.value
    assert frame.loc["5", "kappa_stderr"] == 0
    assert frame.loc["0", "kappa_stderr"] > 0
    assert frame.loc["5", "neuronwise"] == found["5"].trace.value / 36
    assert np.isnan(frame.loc["0", "trace_bias"])


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_a_picture_has_a_row_a_layer(found, quantity):
    (axes,) = found.plot(quantity).axes
    assert axes.get_xlabel() == quantity
    assert [label.get_text() for label in axes.get_yticklabels()] == list(found.names)
    with pytest.raises(lla.InputError, match="quantity is 'curvature'"):
        found.plot("curvature")
