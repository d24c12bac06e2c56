import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla import models
from lla.landscape import layer_changes, normalize, output_change, random_directions
from paper_tables.engine.cells import Cell
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.suite import Suite
from paper_tables.exhibits import find
from paper_tables.exhibits.normalization import EXHIBIT, page
from paper_tables.exhibits.normalization import cells as normalization
from paper_tables.exhibits.normalization.candidates import CANDIDATES, candidate_plane, points
from paper_tables.exhibits.normalization.study import Study, marks, passes
from paper_tables.paper.explosion import RECOMMENDED


@pytest.fixture
def settings(without_data):
    return without_data(adjusted(PROFILES["quick"], images=1, study=True))


@pytest.fixture
def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                          nn.Linear(4 * 36, 3)).double()  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(12, 1, 8, 8, generator=generator, dtype=torch.float64)
    return lla.Problem(model, (x, torch.arange(12) % 3))


def test_a_filter_in_which_the_direction_is_almost_zero_stays_so(problem):
    direction = random_directions(problem.theta(), 1)[0]
    (_, shape, place) = next(iter(problem.space))
    direction[place].view(shape)[1] *= 1e-6
    plain, floored = (
        CANDIDATES[name].scale(problem, direction) for name in ("filter", "filter, floored")
    )
    weights = problem.theta()[place].view(shape)
    assert plain[place].view(shape)[1].norm() == pytest.approx(float(weights[1].norm()))
    assert floored[place].view(shape)[1].norm() < 1e-5 * weights[1].norm()
    even = torch.ones_like(direction)  # every filter has just its share
    torch.testing.assert_close(
        CANDIDATES["filter, floored"].scale(problem, even),
        CANDIDATES["filter"].scale(problem, even),
    )


def test_layer_output_gives_every_tensor_the_same_share(problem):
    scaled = CANDIDATES["layer output"].scale(problem, random_directions(problem.theta(), 1)[0])
    changes = layer_changes(problem, scaled).values()
    assert list(changes) == pytest.approx([1 / math.sqrt(len(changes))] * len(changes))


def test_network_output_changes_the_output_by_its_norm(problem):
    scaled = CANDIDATES["network output"].scale(problem, random_directions(problem.theta(), 1)[0])
    assert output_change(problem, scaled) == pytest.approx(1.0)


def test_steps_on_spheres_keep_the_norm_of_every_filter(problem):
    candidate, theta = CANDIDATES["filter, on spheres"], problem.theta()
    rows = torch.stack([candidate.scale(problem, d) for d in random_directions(theta, 2)])
    grid = torch.tensor([[0.0, 0.0], [0.5, -0.3]], dtype=torch.float64)
    (here, _), (moved, _) = points(problem, candidate, rows, grid)
    torch.testing.assert_close(here, theta)
    assert (moved - theta).norm() > 0.1 * theta.norm()
    for _, shape, place in problem.space:
        rows = (shape[0], -1) if len(shape) > 1 else (1, -1)
        torch.testing.assert_close(moved[place].view(rows).norm(dim=1),
                                   theta[place].view(rows).norm(dim=1))  # fmt: skip


def test_recalibrated_statistics_are_those_of_the_batch_at_the_moved_weights(problem):
    candidate, theta = CANDIDATES["filter, recalibrated"], problem.theta()
    rows = torch.stack([candidate.scale(problem, d) for d in random_directions(theta, 2)])
    ((moved, state),) = points(problem, candidate, rows, torch.tensor([[0.4, 0.1]]))
    (batch,) = problem.batches
    with problem.deterministic(), problem.holding(moved) as network:
        expected = network[0](batch.x).mean((0, 2, 3))
    torch.testing.assert_close(state["1.running_mean"], expected.detach())


def test_a_plane_of_the_study_is_that_of_the_library(problem):
    raw = random_directions(problem.theta(), 2)
    found = candidate_plane(problem, "filter", raw)
    line = [-0.5, -0.25, 0.0, 0.25, 0.5]
    plane = lla.loss_plane(problem, raw, normalization="filter", coordinates=(line, line))
    np.testing.assert_allclose(found.losses, plane.loss, rtol=1e-12)
    assert found.center == pytest.approx(plane.center)
    assert found.ratio == pytest.approx(plane.explosion().ratio)
    assert found.changes.shape == (16,)
    corner = problem.theta() + 0.5 * (found.losses[0, 0] * 0 - 1) * sum(
        normalize(d, problem.theta(), problem.space, "filter") for d in raw
    )
    (start, _), (end, _) = (next(problem.outputs(t)) for t in (problem.theta(), corner))
    assert found.changes[0] == pytest.approx(float((end - start).norm() / start.norm()))


def test_points_that_are_not_finite_are_counted(problem):
    raw = random_directions(problem.theta(), 2) * 1e200
    found = candidate_plane(problem, "none", raw)
    assert found.nonfinite == 24
    assert found.ratio < 2
    assert not np.isfinite(found.changes).any()


@pytest.mark.parametrize("kind", normalization.RESCALINGS)
def test_rescaled_networks_are_the_same_function(kind):
    model = models.build("lenet", seed=3).double()
    kept = copy.deepcopy(model.state_dict())
    other = normalization.rescaled(model, kind)
    x = torch.randn(4, 1, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(other(x), model(x), rtol=1e-12, atol=1e-14)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, kept[name])
    ratios = [
        (b / a).detach().flatten()
        for a, b in zip(model.parameters(), other.parameters(), strict=True)
    ]
    assert all((ratio[0] - 1).abs() > 0.01 for ratio in ratios[:-1])
    spread = [float(ratio.max() / ratio.min()) for ratio in ratios[:-1]]
    assert max(spread) < 1 + 1e-9 if kind == "layers" else min(spread) > 1.5


def test_cells_are_distinct_and_only_where_they_are_asked_for(settings):
    cells = EXHIBIT.cells(settings)
    assert len({(cell.row, cell.column, cell.hash) for cell in cells}) == len(cells)
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.row for cell in cells if cell.name.startswith("resnet20")} == set()  # no CIFAR-10
    quick = dataclasses.replace(settings, profile=PROFILES["quick"])
    assert EXHIBIT.cells(quick) == []


def test_a_cell_of_each_kind_is_computed(settings, monkeypatch):
    monkeypatch.setattr(normalization, "TRAININGS", 2)
    monkeypatch.setattr(normalization, "PLANES", 1)
    monkeypatch.setattr(normalization, "MINIMA", {
        name: {**how, "epochs": 1} for name, how in normalization.MINIMA.items()
    })  # fmt: skip
    cells = {cell.name: cell for cell in normalization.cells(settings)}
    suite = Suite(find(), settings)
    for name in ("lenet-random-eval-uniform-output", "lenet-poisoned-output",
                 "lenet-poisoned-reference", "lenet-layers-output"):  # fmt: skip
        records = suite.run(cells[name])
        assert all(record.value is not None and record.verdict is None for record in records)
    plane = suite.run(cells["lenet-random-eval-uniform-output"])
    assert plane[0].n == 3
    ratios = map(float, plane[0].note.partition(": ")[2].split(", "))
    assert plane[0].value == pytest.approx(max(ratios), rel=1e-3)
    assert "# A normalization" in (settings.results / "normalization.md").read_text()


def planted(column, row="lenet", stderr=None, n=None, **values):
    config = {"model": row, "images": 16, "side": 64, "data": "mnist", "examples": 1000,
              "training_examples": 10, "trainings": 4}  # fmt: skip
    cell = Cell(normalization.TABLE, row, column, "", tuple(values), config, "reduced", "")
    return [cell.record(metric, value, stderr, n=n) for metric, value in values.items()]


def good(name):
    """Records of a candidate that meets every demand."""
    found = []
    for axes in ("uniform", "normal", "hessian"):
        found += planted(f"random/eval/{axes}/{name}", ratio=5.0, nonfinite=0.0, change=0.4)
    for minimum, rise in (("small batch", 1.0), ("large batch", 3.0), ("poisoned", 5.0)):
        found += planted(f"minima/{minimum}/{name}", stderr=0.1, n=4, rise=rise)
    found += planted(f"rescaling/layers/{name}", difference=1e-9)
    return found + planted(f"rescaling/filters/{name}", difference=0.3)


def replaced(records, column, metric, value):
    return [
        dataclasses.replace(r, value=value) if (r.column, r.metric) == (column, metric) else r
        for r in records
    ]


@pytest.mark.parametrize(
    ("column", "metric", "value", "mark"),
    [
        ("random/eval/uniform/output", "ratio", 99.0, None),
        ("random/eval/uniform/output", "ratio", 101.0, 0),
        ("random/eval/hessian/output", "nonfinite", 1.0, 0),
        ("random/eval/normal/output", "change", 0.09, 1),
        ("minima/large batch/output", "rise", 1.1, 2),  # within the error bar
        ("minima/poisoned/output", "rise", 0.5, 2),
        ("rescaling/layers/output", "difference", 1e-3, 3),
        ("rescaling/filters/output", "difference", 1e3, None),
    ],
)
def test_each_demand_is_judged(column, metric, value, mark):
    records = replaced(good(RECOMMENDED), column, metric, value)
    found = marks(Study.of(records), RECOMMENDED)
    assert found == ["no" if i == mark else "yes" for i in range(4)]
    text = page.pages(records)["normalization.md"]
    word = "none." if mark is not None else f"{RECOMMENDED} (largest ratio "
    assert f"Candidates that meet every demand: {word}" in text


def test_what_was_not_measured_is_not_met():
    found = marks(Study.of(good(RECOMMENDED)), "filter")
    assert found == ["—"] * 4
    assert not passes(Study.of(good(RECOMMENDED)), "filter")


def test_contrast_is_welchs():
    # two groups of 4 with means 3 and 1 and standard errors .1: t = 2 / .1414 on 6 degrees
    ratio, stderr, clear = Study.of(good("output")).contrast("large batch", "output")
    assert ratio == pytest.approx(3.0)
    assert stderr == pytest.approx(3 * math.hypot(0.1 / 3, 0.1 / 1))
    assert clear


def test_without_records_there_is_no_page_of_its_own():
    assert page.pages([]) == {}
