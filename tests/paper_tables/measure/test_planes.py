import numpy as np
import pytest
import torch

import lla
from lla import data, landscape
from paper_tables.engine.profiles import PROFILES
from paper_tables.inputs import networks
from paper_tables.measure import planes


@pytest.fixture(scope="module")
def problem(digits):
    model = lla.models.build("lenet", seed=0)
    return lla.Problem(model, data.batches(digits, 16, 1, seed=0, size=32))


def test_a_nested_grid_is_part_of_the_papers(problem):
    rows = landscape.plane_directions(problem, "random", normalization="filter")
    found, stopped = planes.evaluate(problem, rows, 5, stop=1e9)
    assert not stopped
    full = landscape.loss_plane(problem, rows, normalization=None, route="loop")
    chosen = [0, 10, 20, 30, 40]
    assert np.array_equal(found.loss, full.loss[np.ix_(chosen, chosen)])
    assert np.array_equal(found.a, full.a[chosen])
    assert np.array_equal(found.b, full.b[chosen])
    at_once, _ = planes.evaluate(problem, rows, 5)
    assert np.array_equal(at_once.loss, found.loss)
    assert found.evaluated.all()


def test_a_plane_that_explodes_is_stopped_at_its_corners(problem):
    rows = 100 * landscape.plane_directions(problem, "random", normalization=None)
    found, stopped = planes.evaluate(problem, rows, 5, stop=100.0)
    assert stopped
    assert found.loss.shape == (2, 2)
    assert found.explosion().verdict == "explodes"
    full, _ = planes.evaluate(problem, rows, 5)
    assert found.explosion().ratio <= full.explosion().ratio, "a lower bound"


def test_frozen_batchnorm_parameters_are_named():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.BatchNorm2d(2),
        torch.nn.Sequential(torch.nn.Linear(2, 2)),
    )
    assert planes._batchnorm_parameters(model) == ["1.weight", "1.bias"]


def test_the_network_of_the_paper_costs_more_than_the_one_in_its_place():
    tiny, base = (networks.network(PROFILES[name], "vit") for name in ("quick", "paper"))
    config = {"side": 224, "images": 4}
    assert planes.seconds(base, config, 5) > 10 * planes.seconds(tiny, config, 5)
    assert planes.memory(base) > 4 * planes.memory(tiny)
