import dataclasses

import numpy as np
import pytest
import torch

import lla
from paper_tables.engine import store
from paper_tables.engine.profiles import PROFILES
from paper_tables.exhibits.layerwise import EXHIBIT, blocks, claims, figures, fixed, mlps
from paper_tables.exhibits.layerwise.measured import Curves, curvatures, numbers, of_pairs

TINY = dataclasses.replace(mlps.BUNDLED, hidden=(12, 10), images=40, seeds=3, epochs=2, k=3)


@pytest.fixture
def settings(without_data, monkeypatch):
    monkeypatch.setattr(mlps, "BUNDLED", TINY)
    monkeypatch.setattr(mlps, "FAMILIES", (TINY,))
    return without_data(PROFILES["quick"])


def cell_of(settings, row, column, table=mlps.TABLE):
    (found,) = [
        cell
        for cell in EXHIBIT.cells(settings)
        if (cell.table, cell.row, cell.column) == (table, row, column)
    ]
    return found


def test_cells_are_distinct_and_quick_ones_few(settings):
    cells = EXHIBIT.cells(settings)
    assert len({cell.place for cell in cells}) == len(cells)
    assert {cell.row for cell in cells} == {"digits-mlp", "lenet"}
    assert {cell.fidelity for cell in cells} == {"substitute"}


def test_a_cell_of_networks_is_what_it_says(settings, tmp_path):
    cell = cell_of(settings, "digits-mlp", "raw")
    records = {record.metric: record for record in cell.compute(cell, settings)}
    assert tuple(records) == cell.metrics
    networks, _, _ = mlps.trained(settings, TINY, False, False)
    batch = mlps.examples(settings, TINY, False)
    found = [lla.layerwise(model, batch, 3) for model in networks]
    shares = [each["fc2"].rank_one.mean() for each in found]
    record = records["rank_one fc2"]
    assert record.value == pytest.approx(np.mean(shares))
    assert record.stderr == pytest.approx(np.std(shares, ddof=1) / 3**0.5)
    assert (record.n, record.stderr_kind) == (3, "networks")
    pairs = [found[i].overlap(found[j])["fc1"][-1] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert records["overlap fc1"].value == pytest.approx(np.mean(pairs))
    assert records["random fc1"].value == pytest.approx(3 / (12 * 64))
    curves = Curves.load(store.artifact(records["overlap fc1"], settings.work))
    assert curves.part("overlap", "fc1")[-1] == pytest.approx(np.mean(pairs))
    assert curves.matrix(1).shape == (10, 12)
    drawn = figures.figures(list(records.values()))
    assert [drawing.name.split("_")[1] for drawing in drawn] == [
        "eigenvalues", "overlap", "eigenvectors",
    ]  # fmt: skip
    for drawing in drawn:
        assert drawing.draw(settings.work).axes


def test_variants_differ_in_what_they_say(settings):
    raw, centred = (mlps.inputs(settings, TINY, choice)[0] for choice in (False, True))
    assert float(raw.min()) == 0
    torch.testing.assert_close(centred.mean(0), torch.zeros_like(raw[0]), atol=1e-5, rtol=0)
    plain, with_norm = (mlps.perceptron(64, (12, 10), choice) for choice in (False, True))
    assert not any("bn" in name for name, _ in plain.named_modules())
    assert isinstance(with_norm.bn2, torch.nn.BatchNorm1d)


def test_a_share_off_the_blocks_is_the_mean_over_networks(settings):
    cell = cell_of(settings, "digits-mlp", "raw", blocks.TABLE)
    (record,) = cell.compute(cell, settings)
    networks, _, _ = mlps.trained(settings, TINY, False, False)
    batch = mlps.examples(settings, TINY, False)
    shares = [
        lla.layers.off_block_share(
            lla.Problem(model, batch), blocks.MLP_PROBES, blocks.SEED, squared=False
        ).value
        for model in networks
    ]
    assert record.value == pytest.approx(np.mean(shares))
    assert (record.n, record.stderr_kind) == (3, "networks")


def test_layers_with_few_outputs_have_few_eigenvectors():
    torch.manual_seed(0)
    model = mlps.perceptron(6, (4, 12), batchnorm=False).double()
    batch = torch.rand(8, 6, dtype=torch.float64), torch.arange(8) % 10
    found = curvatures(model, batch, 9)
    assert {name: len(layer.eigenvalues) for name, layer in found.items()} == {
        "fc1": 4, "fc2": 9, "fc3": 9,
    }  # fmt: skip
    assert list(curvatures(model, batch, 9, ("fc3", "fc1"))) == ["fc3", "fc1"]
    assert numbers([found] * 3)["overlap fc1"].value == pytest.approx(1)


def test_the_error_of_pairs_is_that_of_networks():
    generator = np.random.default_rng(0)
    # the value of a pair is the sum of what its networks bring
    own = generator.normal(size=(4000, 5))
    found = [of_pairs(each[:, None] + each[None, :]) for each in own]
    scatter = np.std([estimate.value for estimate in found])
    assert np.mean([estimate.stderr**2 for estimate in found]) ** 0.5 == pytest.approx(
        scatter, rel=0.05
    )


def test_every_scope_of_a_claim_is_judged():
    stated = {
        (claim.id, scope)
        for claim in EXHIBIT.statements
        for scope, lacking in claim.scopes.items()
        if lacking is None
    }
    assert stated == set(claims.CLAIMS)


def test_known_networks_without_their_weights_are_stand_ins(settings):
    cell = cell_of(settings, "lenet", fixed.COLUMN)
    assert (cell.fidelity, cell.config["weights"]) == ("substitute", "random, seed 0")
