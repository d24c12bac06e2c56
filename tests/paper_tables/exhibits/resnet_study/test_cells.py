import dataclasses

import pytest
import torch

import lla
from lla import data, models
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.suite import Suite
from paper_tables.exhibits import find
from paper_tables.exhibits.resnet_study import cells as resnet_study
from paper_tables.exhibits.resnet_study.cells import Variant

TINY = adjusted(PROFILES["quick"], study=True)


@pytest.fixture
def settings(without_data, monkeypatch):
    monkeypatch.setattr(resnet_study, "STEPS", 3)
    return without_data(TINY)


def test_only_where_it_is_asked_for(settings):
    assert len(resnet_study.cells(settings)) == len(resnet_study.VARIANTS)
    without = dataclasses.replace(settings, profile=PROFILES["quick"])
    assert resnet_study.cells(without) == []
    cells = resnet_study.cells(settings)
    assert len({cell.hash for cell in cells}) == len(cells)


def test_a_cell_is_what_it_says(settings):
    variant = Variant(
        "many", init_seed=3, labels="one class", eps=1e-2, last_layer=0.5, images=4, side=40
    )
    records = Suite(find(), settings).run(resnet_study._cell(settings, variant))
    model = models.build("resnet18", 1000, 3, "torch")
    with torch.no_grad():
        model.fc.weight.mul_(0.5)
        model.fc.bias.mul_(0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-2
    pairs = data.picture_batches(
        data.load_pictures("sample-crops"),
        models.picture_preprocessing("resnet18", 40), 4, count=2, seed=0,
    ).pairs  # fmt: skip
    pairs = [(x, torch.zeros_like(y)) for x, y in pairs]
    expected = lla.criteria(model, pairs, mode="train", probes=1, steps=3, route="fresh")
    assert records[0].metric == "re"
    assert records[0].value == pytest.approx(expected.re.value, rel=1e-3)
    assert (records[0].n, records[0].fidelity) == (2, "substitute")


def test_labels_and_weights():
    y = torch.tensor([5, 6])
    assert torch.equal(resnet_study._labels(y, "true", 0), y)
    first, again, other = (
        resnet_study._labels(y.repeat(8), kind, batch)
        for kind, batch in (("random 1", 0), ("random 1", 0), ("random 1", 1))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    config = {"init_seed": 0, "init": "unit", "last_layer": 1.0, "eps": 1e-5}
    weights = torch.cat([p.detach().flatten() for p in resnet_study._model(config).parameters()])
    assert weights.min() >= 0
    assert weights.mean() == pytest.approx(0.5, abs=1e-3)
