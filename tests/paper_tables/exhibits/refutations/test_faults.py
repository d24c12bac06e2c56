"""The right number of each fault against something else, and how far the wrong one is from it."""

import inspect

import numpy as np
import pytest
import torch

import lla
from lla.hessian.ratios import spectrum_criteria
from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import PROFILES
from paper_tables.exhibits.refutations import cells, faults, tables
from paper_tables.exhibits.refutations.faults import FAULTS

BY_NAME = {fault.name: fault for fault in FAULTS}


def both(name):
    return BY_NAME[name].numbers()


def explicit(model, batches, weights=None):
    """The Hessian of the mean loss, by torch.func."""
    names = [name for name, _ in model.named_parameters()]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    shapes = [p.shape for p in model.parameters()]
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))

    def loss(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        state = dict(
            zip(names, [p.view(s) for p, s in zip(parts, shapes, strict=True)], strict=True)
        )
        return torch.nn.functional.cross_entropy(torch.func.functional_call(model, state, x), y)

    return torch.func.hessian(loss)(flat if weights is None else weights)


def test_a_window_gives_ghosts():
    assert both("windowed reorthogonalisation")[0] == 1
    assert both("windowed reorthogonalisation")[1] >= 3


def test_batches_of_unequal_sizes():
    right, wrong = both("batches without their sizes")
    H = explicit(*faults._network())
    assert right == pytest.approx(H.trace().item(), rel=1e-12)
    assert abs(wrong / right - 1) > 0.05


def test_the_axes_of_a_block():
    right, wrong = both("wrong axes")
    model, batches = faults._network()
    (layer,) = lla.flatness(model, batches, layers=["2"])
    assert right == pytest.approx(layer.kappa.value, rel=1e-10)
    assert wrong < 0.2 * right


def test_points_that_are_dropped():
    right, wrong = both("dropped points")
    assert abs(right) < 0.3, "there is nothing to find"
    assert wrong > right + 0.3


def test_an_offset_depends_on_the_scale():
    right, wrong = both("an offset in a norm")
    unit = lla.spectral_density(faults.Diagonal(faults.spectrum()), 4, 30)
    assert right == pytest.approx(spectrum_criteria(unit).kh1.mean(), rel=1e-9)
    assert wrong > 5 * right


def test_the_weights_of_a_quadrature():
    right, wrong = both("weights of all rows")
    assert right == pytest.approx(faults.spectrum().mean().item())  # of a probe of +-1
    assert wrong > 10 * right


def test_where_a_product_is_taken():
    right, wrong = both("a product at the direction")
    model, batches = faults._network()
    H = explicit(model, batches)
    v = faults.gaussian(len(H), H[0], 1)
    assert right == pytest.approx((v @ H @ v / (v @ v)).item(), rel=1e-10)
    at_v = explicit(model, batches, v)
    assert wrong == pytest.approx((v @ at_v @ v / (v @ v)).item(), rel=1e-10)
    assert abs(wrong / right - 1) > 0.5


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_is_short_and_on_the_page(fault, tmp_path):
    assert len(inspect.getsource(fault.numbers).splitlines()) <= 20
    settings = Settings(PROFILES["quick"], tmp_path, tmp_path)
    (cell,) = (each for each in cells.cells(settings) if each.row == fault.name)
    records = cell.compute(cell, settings)
    # the same every time, but for the last bit, which depends on where a tensor lies in memory
    assert [r.value for r in records] == pytest.approx(list(fault.numbers()), rel=1e-12)
    (table,) = tables.tables(records)
    (group,) = table.groups
    shown = [entry.text for entry in group.lines[0].entries]
    assert shown[:2] == [fault.fault, fault.quantity]
    np.testing.assert_allclose([float(text) for text in shown[2:]], fault.numbers(), rtol=1e-3)
