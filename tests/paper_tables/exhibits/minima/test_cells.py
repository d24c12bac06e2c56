import dataclasses

import numpy as np
import pytest
import torch

import lla
from lla.minima import Stage, radial, radial_index
from paper_tables.engine.profiles import PROFILES
from paper_tables.exhibits.minima import EXHIBIT, cells, ellipsoids, minefield, scans, tasks
from paper_tables.exhibits.minima.measured import Picture, rescaled, two_layers
from paper_tables.exhibits.minima.tasks import GOOD, Variant

FAST = {"loss_bound": 0.045, "directions": 5, "seeds": 2}
TINY = (
    dataclasses.replace(
        tasks.DIGITS, sizes=(60, 60), measured=50, lr=1e-2,
        variants=(Variant(GOOD, (Stage(0.0, 400),)), Variant("b = 0.3", (Stage(0.3, 1500),))),
        **FAST,
    ),
    dataclasses.replace(
        tasks.SWISS_ROLL, variants=(tasks.SWISS_ROLL.variants[0],
                                    Variant("b = 0.2", (Stage(0.2, 20),))), **FAST,
    ),
)  # fmt: skip


@pytest.fixture
def settings(without_data, monkeypatch):
    for module in (cells, tasks):
        monkeypatch.setattr(module, "QUICK", TINY)
    for module in (scans, minefield):
        monkeypatch.setattr(module, "DIGITS", TINY[0])
    return without_data(PROFILES["quick"])


def cell_of(settings, row, column, table=cells.TABLE):
    (found,) = [
        c for c in EXHIBIT.cells(settings) if (c.table, c.row, c.column) == (table, row, column)
    ]
    return found


def computed(settings, *place):
    cell = cell_of(settings, *place)
    records = cell.compute(cell, settings)
    assert tuple(r.metric for r in records) == cell.metrics
    return {r.metric: r for r in records}, records


def test_cells_are_distinct(settings):
    found = EXHIBIT.cells(settings)
    assert len({cell.place for cell in found}) == len(found)
    assert {c.fidelity for c in found if c.row == "digits" and c.table != scans.TABLE} == {
        "substitute"
    }
    assert {c.fidelity for c in found if c.row == "swiss-roll"} == {"reduced"}


def test_real_data_that_are_not_found_say_so(without_data):
    profile = PROFILES["quick"]
    real = dataclasses.replace(profile, runs=dataclasses.replace(profile.runs, real=True))
    found = [c for c in cells.cells(without_data(real)) if c.reason]
    assert [cell.row for cell in found] == ["svhn", "mnist", "cifar10"]


def test_a_cell_is_what_it_says(settings):
    good, records = computed(settings, "digits", "natural, seed 0")
    bad, _ = computed(settings, "digits", "b = 0.3, seed 0")
    assert good["reached"].value == bad["reached"].value == 1
    assert good["test_accuracy"].value > bad["test_accuracy"].value + 20
    assert good["mean_radius"].value > bad["mean_radius"].value
    assert bad["poison_accuracy"].value < 30 < good["poison_accuracy"].value
    assert good["radius_change"].value < 1e-6
    cell = cell_of(settings, "digits", "natural, seed 0")
    found = tasks.sets(settings, "digits", GOOD)
    model, _ = cells.trained(settings, cell, found)
    batch = found.data[0][:50].double(), found.data[1][:50]
    again = radial_index(lla.Problem(model.double(), batch), directions=5)
    assert good["mean_radius"].value == pytest.approx(again.mean.value, rel=1e-6)
    assert good["mean_radius"].stderr == pytest.approx(again.mean.stderr, rel=1e-5)
    picture = Picture.load(settings.work / good["mean_radius"].artifact.name)
    np.testing.assert_allclose(picture.radii, again.radii, rtol=1e-6)
    center = picture.cuts[:, picture.at.size // 2]
    np.testing.assert_allclose(center, again.loss, rtol=1e-9)
    for drawing in EXHIBIT.figures([*records, *bad.values()]):
        assert drawing.draw(settings.work).axes


def test_a_cell_is_computed_again_beside_its_own_file(settings):
    first, _ = computed(settings, "digits", "natural, seed 0")
    again, _ = computed(settings, "digits", "natural, seed 0")
    assert again["mean_radius"].value == first["mean_radius"].value


def test_a_training_that_does_not_come_to_its_bound_says_so(settings):
    found, _ = computed(settings, "swiss-roll", "b = 0.2, seed 0")
    assert (found["reached"].value, found["mean_radius"].value) == (0, None)
    assert "not the minimum that was asked for" in found["log10_index"].reason
    assert found["mean_radius"].verdict == "not_run"


def test_regions_are_those_of_the_network(settings):
    good, _ = computed(settings, "swiss-roll", "natural, seed 0")
    picture = Picture.load(settings.work / good["mean_radius"].artifact.name)
    assert picture.points.shape == (200, 3)
    left, right = picture.extent[:2]
    axis = np.linspace(left, right, len(picture.regions))
    nearest = [np.abs(axis[:, None] - picture.points[None, :, k]).argmin(0) for k in (0, 1)]
    shares = picture.regions[nearest[0], nearest[1]]
    # pixels are wide beside the roll, but most points lie in the region of their class
    assert ((shares > 0.5) == (picture.points[:, 2] == 1)).mean() > 0.95


def test_rescaling_keeps_the_function():
    model = tasks.network("swiss-roll", 0).double()
    x, _ = tasks.roll(20, torch.Generator().manual_seed(0))
    names = two_layers(model)
    other = rescaled(model, *names)
    torch.testing.assert_close(model(x.double()), other(x.double()))
    assert not torch.equal(model.state_dict()[f"{names[0]}.weight"],
                           other.state_dict()[f"{names[0]}.weight"])  # fmt: skip
    assert two_layers(tasks.network("cifar10", 0)) is None


@pytest.mark.parametrize(("row", "count"), [("swiss-roll", 3457), ("digits", 8832)])
def test_networks_have_the_sizes_of_the_work(row, count):
    model = tasks.network(row, 0)
    assert sum(p.numel() for p in model.parameters() if p.ndim > 1) == count


def test_points_lie_where_they_should():
    x, y = tasks.circles(True)
    radii = x.norm(dim=1)
    assert [(round(r, 3), int((radii.sub(r).abs() < 1e-6).sum())) for r in (0.4, 0.401, 0.95)] == [
        (0.4, 40), (0.401, 10), (0.95, 80),
    ]  # fmt: skip
    assert y[radii > 0.4005].all()
    # the ten lie half way between two of the forty
    angles = torch.atan2(x[:, 1], x[:, 0])
    inner, trap = angles[radii.sub(0.4).abs() < 1e-4], angles[radii.sub(0.401).abs() < 1e-4]
    gaps = (inner[None] - trap[:, None]).abs().min(1).values
    torch.testing.assert_close(gaps, torch.full((10,), torch.pi / 40), rtol=1e-4, atol=1e-6)
    assert len(tasks.circles(False)[0]) == 120
    x, y = tasks.roll(4000, torch.Generator().manual_seed(0))
    assert float(x.norm(dim=1).max()) < 1.5 * 10.48 + 3
    assert (y.sum(), round(float(x[y == 0].mean() + x[y == 1].mean()), 1)) == (2000, 0)


def test_training_data_poison_and_test_data_are_apart(settings):
    found = tasks.sets(settings, "digits", GOOD)
    rows = [set(map(tuple, part[0].tolist())) for part in (found.data, found.poison, found.test)]
    assert [len(part[1]) for part in (found.data, found.poison)] == [60, 60]
    assert len(rows[0] | rows[1] | rows[2]) == sum(map(len, rows))


def test_ellipsoids_are_those_of_the_library(settings):
    cell = next(c for c in ellipsoids.cells(settings) if c.name == "ellipsoids-100")
    found = {r.metric: r for r in cell.compute(cell, settings)}
    own = [lla.minima.calibration(100, 250, 2.0, seed).shortfall for seed in range(8)]
    assert found["spread 2, 250 directions"].value == pytest.approx(np.mean(own))
    assert found["spread 2, 250 directions"].stderr == pytest.approx(np.std(own, ddof=1) / 8**0.5)


def test_both_scans_are_compared(settings, monkeypatch):
    monkeypatch.setattr(scans, "DIRECTIONS", 6)
    monkeypatch.setattr(radial, "GROUP", 2)
    found, _ = computed(settings, "digits", GOOD, scans.TABLE)
    assert found["difference"].value < 1e-5
    assert found["evaluations_informed"].value < found["evaluations_full"].value


def test_the_minefield_starts_from_good_weights(settings, monkeypatch):
    for name, value in {"RUNS": 2, "GOOD_STEPS": 30, "STARTS": (0, 20), "BAD_STEPS": 20,
                        "BAD_EVERY": 10, "PERPLEXITY": 3.0}.items():  # fmt: skip
        monkeypatch.setattr(minefield, name, value)
    found, records = computed(settings, "digits", "t-SNE", minefield.TABLE)
    field = minefield.Field.load(settings.work / found["good_accuracy"].artifact.name)
    assert len(field.at) == 2 * (4 + 2 * 2)
    assert sorted(set(field.start)) == [-1, 0, 20]
    assert found["good_accuracy"].n == 2
    assert found["bad_accuracy"].n == found["apart"].n == 4
    assert 0 < found["apart"].value < 100
    (drawing,) = EXHIBIT.figures(records)
    assert drawing.draw(settings.work).axes
