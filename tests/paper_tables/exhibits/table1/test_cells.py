import dataclasses
import itertools

import numpy as np
import pytest
import torch

from lla import data
from lla.landscape import Plane
from paper_tables.engine import store
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.suite import Suite
from paper_tables.evidence.columns import Place, place_of
from paper_tables.exhibits import find
from paper_tables.exhibits.table1 import cells as table1
from paper_tables.exhibits.table1 import planes
from paper_tables.inputs import networks
from paper_tables.measure import planes as measure
from paper_tables.paper import paper_rows
from paper_tables.paper.explosion import METHODS, PAPER_METHODS

TINY = adjusted(PROFILES["quick"], images=1, points=5)


@pytest.fixture
def settings(without_data):
    """Tiny settings in a place without any data, so that the bundled images stand in."""
    return without_data(TINY)


def whole(settings):
    return dataclasses.replace(settings, profile=adjusted(settings.profile, every_plane=True))


def by_name(settings, *names):
    cells = {cell.name: cell for cell in table1.cells(settings)}
    return [cells[name] for name in names]


def test_every_plane_of_the_paper_has_a_cell_in_both_weight_states(settings):
    found = {(cell.row, cell.column) for cell in table1.cells(settings)}
    for row in paper_rows("table1"):
        for state in networks.STATES:
            for mode in ("train", "eval"):
                for axes in ("uniform", "normal", "hessian"):
                    for method in METHODS:
                        assert (row, Place(mode, axes, method).column(state)) in found


def test_cells_are_distinct(settings):
    cells = [*table1.cells(whole(settings)), *table1.fine_cells(settings)]
    ran = [cell for cell in cells if cell.compute]
    assert len({(cell.row, cell.column, cell.hash) for cell in ran}) == len(ran)
    assert len({cell.name for cell in ran}) == len(ran)


def test_what_cannot_run_or_is_left_out_says_why(settings):
    cells = table1.cells(settings)
    reasons = {(cell.row, cell.column): cell.reason for cell in cells if cell.compute is None}
    assert all(reasons.values())
    for row in ("resnet18", "alexnet", "vit"):
        assert reasons[row, "pretrained/eval/uniform/4"].startswith("no weights: put ")
    left_out = "left out of profile custom for its time: --every-plane computes it"
    assert reasons["alexnet", "random/eval/hessian/4"] == left_out
    assert reasons["resnet18", "random/eval/normal/1"] == left_out
    assert not any(str(settings.data_root) in reason for reason in reasons.values())
    every = [c for c in table1.cells(whole(settings)) if c.column.startswith("random")]
    assert all(cell.compute for cell in every)


def test_what_claims_need_is_not_left_out(settings, monkeypatch):
    found = networks.pictures(settings)
    monkeypatch.setattr(
        networks, "pictures", lambda settings: dataclasses.replace(found, fidelity="reduced")
    )
    ran = {(c.row, c.column) for c in table1.cells(settings) if c.compute}
    for mode in ("train", "eval"):
        for row in ("lenet", "resnet18", "squeezenet", "mobilenet"):
            for axes in ("uniform", "hessian"):
                for method in PAPER_METHODS:
                    assert (row, Place(mode, axes, method).column("random")) in ran
            assert (row, f"random/{mode}/normal/4") in ran, "X.uniform"
        for row in ("alexnet", "vit"):  # large, and a stand-in
            assert (row, "random/eval/normal/4") in ran
            assert (row, f"random/{mode}/hessian/4") not in ran
    for method in PAPER_METHODS:
        assert ("resnet18", f"random/eval/uniform/{method}/frozen") in ran


def test_without_data_everything_is_a_stand_in(settings):
    ran = [cell for cell in table1.cells(settings) if cell.compute]
    assert {cell.fidelity for cell in ran} == {"substitute"}
    assert {cell.config["data"] for cell in ran} == {"digits", "sample-crops"}


def test_fidelity_follows_model_images_and_grid(settings, monkeypatch, digits):
    pictures = data.load_pictures("sample-crops")
    monkeypatch.setattr(
        networks, "pictures", lambda settings: dataclasses.replace(pictures, fidelity="paper")
    )
    paper = dataclasses.replace(settings, profile=PROFILES["paper"])

    def fidelity(settings, row, points=None):
        net = networks.network(settings.profile, row)
        place = Place("eval", "uniform", "4")
        return table1.plane_cell(settings, net, "random", place, points=points).fidelity

    assert fidelity(paper, "resnet18") == "paper"
    assert fidelity(paper, "vit") == "paper"
    assert fidelity(paper, "resnet18", points=21) == "reduced"
    assert fidelity(settings, "resnet18", points=41) == "reduced", "fewer and smaller images"
    assert fidelity(settings, "vit", points=41) == "substitute", "a smaller network"
    assert fidelity(paper, "lenet") == "substitute", "digits for MNIST"


def test_cells_of_one_network_and_state_stand_together(settings):
    order = [(c.row, place_of(c.column)[0]) for c in table1.cells(settings)]
    changes = 1 + sum(a != b for a, b in itertools.pairwise(order))
    assert changes == len(set(order)) == 12


def test_a_first_table_comes_with_what_needs_no_training(settings):
    stages = {(c.row, place_of(c.column)[0]): c.stage for c in table1.cells(settings)}
    assert stages["lenet", "random"] == 0
    assert min(stage for key, stage in stages.items() if key != ("lenet", "random")) > 0


def test_what_determines_a_value_is_in_its_configuration(settings):
    net = networks.network(settings.profile, "resnet18")

    def cell(settings=settings, state="random", seed=0, points=None, **place):
        place = {"mode": "eval", "axes": "uniform", "method": "4"} | place
        return table1.plane_cell(settings, net, state, Place(**place), seed, points).hash

    def changed(**changes):
        return dataclasses.replace(settings, profile=adjusted(settings.profile, **changes))

    found = [
        cell(), cell(seed=1), cell(points=5), cell(points=9), cell(mode="train"),
        cell(axes="normal"), cell(axes="hessian"), cell(method="3"), cell(method="3s"),
        cell(frozen=True), cell(changed(images=2)), cell(changed(side=96)),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    assert cell(changed(planes=3)) == cell()


def test_planes_of_several_seeds(settings):
    three = dataclasses.replace(settings, profile=adjusted(settings.profile, planes=3))
    names = {cell.name for cell in table1.cells(three) if cell.row == "lenet"}
    assert {f"lenet-random-eval-uniform-4-{seed}-5x5" for seed in range(3)} <= names
    assert "lenet-random-eval-hessian-4-1-5x5" not in names, "eigenvectors have no seed"


def run(settings, *cells):
    suite = Suite(find(), settings)
    found = [{r.metric: r for r in suite.run(cell)} for cell in cells]
    suite.finish()
    return found


def test_a_plane_from_images_to_table(settings, monkeypatch):
    monkeypatch.setattr(measure, "KEPT_FROM", 0.0)
    before = torch.get_rng_state()
    cells = by_name(
        settings, "lenet-random-eval-normal-4-0-5x5", "lenet-random-train-normal-4-0-5x5"
    )
    evaluated, trained = run(settings, *cells)
    assert torch.equal(torch.get_rng_state(), before)
    record = evaluated["ratio"]
    assert trained["ratio"].value == record.value, "LeNet's modes are one function"
    plane = Plane.load(settings.results / record.artifact.name)
    assert (plane.loss.shape, plane.mode, plane.distribution) == ((5, 5), "eval", "normal")
    assert plane.normalization == "filter"
    assert plane.explosion().ratio == record.value
    assert plane.loss[2, 2] == np.float32(evaluated["center"].value) == plane.center
    assert evaluated["center_error"].value == 0
    assert (record.fidelity, record.verdict, record.paper_value) == ("substitute", None, None)
    assert "5 x 5 of 41 x 41 points: a lower bound" in record.note
    text = (settings.results / "table1.md").read_text()
    assert "32 x 32 px digits" in text
    assert "substitute" in text
    assert not list((settings.work / "partial").iterdir()), "nothing is left to go on from"


def test_a_finer_plane_supersedes_a_coarse_one_and_both_stay(settings):
    net = networks.network(settings.profile, "lenet")
    place = Place("eval", "uniform", "4")
    coarse = table1.plane_cell(settings, net, "random", place)
    fine = table1.plane_cell(settings, net, "random", place, points=9)
    first, second = run(settings, coarse, fine)
    assert second["ratio"].value >= first["ratio"].value
    assert second["sublevel_points"].value >= 0
    assert 0 <= second["asymmetry"].value <= 1
    published = store.published(settings.results)
    assert len(planes.results(published)) == 2
    (block,) = planes.blocks(published)
    assert block.pools[place].planes[0].points == 9


def test_hessian_axes_say_how_exact_they_are(settings):
    (cell,) = by_name(settings, "lenet-random-eval-hessian-1-0-5x5")
    (found,) = run(settings, cell)
    assert "residuals at most" in found["ratio"].note
    assert found["center_error"].value == 0


def test_a_finished_plane_is_judged_anew(settings, monkeypatch):
    (cell,) = by_name(settings, "lenet-random-eval-uniform-1-0-5x5")
    (first,) = run(settings, cell)
    assert first["ratio"].paper_value == "explodes"
    later = dataclasses.replace(cell, fidelity="reduced")
    (again,) = run(settings, later)
    assert again["ratio"].value == first["ratio"].value
    assert again["ratio"].verdict in ("reproduced", "differs")
