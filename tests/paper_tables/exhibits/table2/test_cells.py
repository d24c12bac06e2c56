import dataclasses

import pytest
import torch

import lla
from lla import data
from paper_tables.engine import store
from paper_tables.engine.cells import Settings
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.suite import Suite
from paper_tables.exhibits import find
from paper_tables.exhibits.table2 import cells as table2
from paper_tables.inputs import lenet
from paper_tables.paper import paper_columns, paper_rows

TINY = adjusted(PROFILES["quick"], batches=2, batch_size=16, probes=2, steps=4, epochs=1)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train")


@pytest.fixture
def settings(tmp_path, monkeypatch, digits):
    """Tiny settings without MNIST, so that the bundled digits stand in."""
    monkeypatch.setattr(lenet, "images", lambda settings: digits)
    return Settings(TINY, results=tmp_path / "results", work=tmp_path / "work")


def test_every_value_of_the_paper_has_a_cell(settings):
    cells = table2.cells(settings)
    places = {(cell.row, cell.column, metric) for cell in cells for metric in cell.metrics}
    for row in paper_rows("table2"):
        for column in paper_columns("table2"):
            for metric in ("accuracy",) if column == "accuracy" else ("kh1", "kh05", "re"):
                assert (row, column, metric) in places
    assert all(cell.reason for cell in cells if cell.compute is None)


def lenet_cells(settings):
    return [cell for cell in table2.cells(settings) if cell.row == "lenet"]


def test_cells_are_distinct_and_the_figures_are_among_them(settings):
    cells = table2.cells(settings)
    keys = [(cell.column, cell.row, cell.hash) for cell in cells]
    assert len(set(keys)) == len(keys)
    assert len({cell.name for cell in cells}) == len(cells)
    first, during, last = table2.figure_cells(settings)
    assert {first.hash, last.hash} <= {cell.hash for cell in cells}
    assert during.table == "hesd"
    assert during.hash not in {cell.hash for cell in cells}


def test_random_networks_come_before_any_training(settings):
    stages = {cell.config.get("state"): cell.stage for cell in lenet_cells(settings)}
    assert stages["random"] < stages["trained"]
    assert {c.stage for c in table2.cells(settings) if c.row != "lenet"} == {2}, "take longer"
    random = [c for c in lenet_cells(settings) if c.config.get("state") == "random"]
    assert all(cell.shared is None for cell in random)


def test_settings_that_determine_the_value_change_the_configuration(settings):
    def hashes(profile):
        changed = dataclasses.replace(settings, profile=profile)
        return {cell.name: cell.hash for cell in lenet_cells(changed)}

    before = hashes(TINY)
    for change in ({"probes": 3}, {"steps": 5}, {"batches": 3}, {"batch_size": 8}):
        after = hashes(adjusted(TINY, **change))
        assert all(before[n] != after[n] for n in before if n != "lenet-accuracy")
    longer = hashes(adjusted(TINY, epochs=2))
    assert longer["lenet-random-eval-torch-plain"] == before["lenet-random-eval-torch-plain"]
    assert longer["lenet-accuracy"] != before["lenet-accuracy"]
    renamed = hashes(dataclasses.replace(TINY, name="other"))
    assert renamed == before


def run(settings, *names):
    suite = Suite(find(), settings)
    cells = {cell.name: cell for cell in table2.cells(settings)}
    return [{r.metric: r for r in suite.run(cells[name])} for name in names]


def test_only_with_variants_there_are_legacy_and_uniform_cells(settings):
    def variants(profile):
        changed = dataclasses.replace(settings, profile=profile)
        return {cell.name.split("-", 3)[3] for cell in lenet_cells(changed) if "eval" in cell.name}

    assert variants(TINY) == {"torch-plain"}
    every = {"torch-plain", "uniform-plain", "torch-legacy"}
    assert variants(adjusted(TINY, variants=True)) == every


def test_a_random_cell_from_images_to_table(settings):
    before = torch.get_rng_state()
    evaluated, trained = run(
        settings, "lenet-random-eval-torch-plain", "lenet-random-train-torch-plain"
    )
    assert torch.equal(torch.get_rng_state(), before)
    for metric, record in evaluated.items():
        assert trained[metric].value == record.value, "computed once, see the test below"
    record = evaluated["kh05"]
    assert (record.n, record.stderr_kind, record.matvecs) == (2, "batches", 2 * 2 * 4)
    assert (record.fidelity, record.verdict, record.paper_value) == ("substitute", None, "0.98")
    assert record.data.name == "digits"
    assert record.weights.name == "lenet, torch init, seed 0"
    assert record.batch_sha256 == trained["kh05"].batch_sha256
    assert evaluated["kh05_density"].reading == "density"
    assert evaluated["kh05_density"].value != record.value
    assert (settings.results / record.artifact.name).exists()
    assert "[substitute]" in (settings.results / "table2.md").read_text()
    assert (settings.results / "figures" / "hesd_lenet_digits.png").exists()


def test_the_two_modes_of_lenet_are_one_function(digits):
    model = lenet.untrained(Settings(TINY, None, None), "torch")
    pairs = data.batches(digits, 16, 1, seed=0, size=32)
    found = [lla.criteria(model, pairs, mode=mode, probes=2, steps=4) for mode in ("eval", "train")]
    assert found[0].kh05.value == pytest.approx(found[1].kh05.value, rel=1e-6)
    assert found[0].loss == found[1].loss


def test_trained_cells_share_one_training(settings):
    settings = dataclasses.replace(settings, profile=adjusted(TINY, variants=True))
    legacy, accuracy = run(settings, "lenet-pretrained-eval-torch-legacy", "lenet-accuracy")
    assert legacy["kh1"].legacy
    assert set(legacy) == {"kh1", "kh05", "re", "negative_share", "loss"}
    assert legacy["kh1"].weights == accuracy["accuracy"].weights
    assert legacy["kh1"].weights.name == "lenet trained here, 1 epochs"
    assert 0 < accuracy["accuracy"].value <= 100
    assert accuracy["accuracy"].n == 32
    assert 0 < accuracy["training_accuracy"].value <= 100
    files = {path.name for path in (settings.work / "weights").glob("*.pt")}
    assert len(files) == 2, "one training, with the epoch kept for the figure"
    during = table2.figure_cells(settings)[1]
    records = Suite(find(), settings).run(during)
    assert records[0].config["epoch"] == 1
    assert len(store.published(settings.results)) == 7 + 6
