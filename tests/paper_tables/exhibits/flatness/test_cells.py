import dataclasses

import pytest
import torch

from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.suite import Suite
from paper_tables.exhibits.flatness import EXHIBIT, family, identities
from paper_tables.exhibits.flatness.architectures import FOLLOWED, build


@pytest.fixture
def settings(without_data):
    return without_data(adjusted(PROFILES["quick"], images=1))


def test_cells_are_distinct_and_enough(settings):
    cells = EXHIBIT.cells(settings)
    assert len({cell.place for cell in cells}) == len({cell.name for cell in cells}) == len(cells)
    assert sum(cell.row == "digits" for cell in cells) == 24
    assert not any(cell.row in ("mnist", "cifar10") for cell in cells)
    assert {c.fidelity for c in cells if c.table == family.TABLE} == {"substitute"}
    assert {c.fidelity for c in cells if c.table == identities.TABLE} == {"reduced"}


def test_real_families_are_large_and_say_what_is_missing(settings):
    assert all(len(each.trainings) >= 60 for each in family.REAL)
    real = dataclasses.replace(settings, profile=adjusted(settings.profile, real=True))
    absent = [c for c in EXHIBIT.cells(real) if c.row == "cifar10" and c.table == family.TABLE]
    assert [bool(cell.reason) for cell in absent] == [True]


@pytest.mark.parametrize(
    ("row", "column"), [("strided", "explicit Hessian"), ("strided", "filters scaled")]
)
def test_formulas_are_exact_and_invariant(settings, row, column):
    (cell,) = [c for c in identities.cells(settings) if (c.row, c.column) == (row, column)]
    values = {r.metric: r.value for r in cell.compute(cell, settings)}
    ratio = values.pop("next_ratio", 2.0)
    assert max(values.values()) < 1e-12
    assert abs(ratio - 1) > 0.1


@pytest.mark.parametrize("name", FOLLOWED)
def test_rescaled_filters_are_undone_in_the_next_layer(name):
    model, (x, _) = build(name, 3)
    for first, second in FOLLOWED[name]:
        count = len(model.get_submodule(first).weight)
        factors = identities.factors_of("filters scaled", count, 0)
        other = identities.rescaled(model, first, second, factors)
        torch.testing.assert_close(other(x), model(x), rtol=1e-12, atol=1e-14)
        assert not torch.equal(other.get_submodule(first).weight, model.get_submodule(first).weight)


def test_a_network_of_the_family_is_trained_measured_and_published(settings, monkeypatch):
    small = dataclasses.replace(
        family.BUNDLED, images=40, width=2, target=2.0, lrs=(0.1,), batch_sizes=(20,),
        weight_decays=(0.0,), seeds=1,
    )  # fmt: skip
    monkeypatch.setattr(family, "BUNDLED", small)
    (cell,) = family.cells(settings)
    records = Suite([EXHIBIT], settings).run(cell)
    values = {r.metric: r.value for r in records}
    assert values["training_loss"] == pytest.approx(2.0, rel=2e-3)
    assert values["output_change"] < 1e-12
    for name in ("kappa", "kappa_diag", "norm_trace", "fisher_rao"):
        assert values[f"rescaled_{name}"] == pytest.approx(values[name], rel=1e-9)
    for name in ("trace", "top_eigenvalue", "weight_norm"):
        assert values[f"rescaled_{name}"] != pytest.approx(values[name], rel=0.01)
    assert records[0].weights is not None
    assert (settings.results / "flatness.md").exists()
