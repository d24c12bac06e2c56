import dataclasses

import pytest
import torch

import lla
from lla import data, models, training
from paper_tables.engine.profiles import PROFILES, adjusted
from paper_tables.engine.records import Record
from paper_tables.engine.suite import Suite
from paper_tables.exhibits import find
from paper_tables.exhibits.lenet_study import cells as lenet_study
from paper_tables.exhibits.lenet_study import findings, tables
from paper_tables.exhibits.lenet_study.cells import TRIALS, Training, Trial

TINY = adjusted(PROFILES["quick"], study=True)


@pytest.fixture
def settings(without_data, monkeypatch):
    monkeypatch.setattr(lenet_study, "IMAGES", 64)
    return without_data(TINY)


def test_only_where_it_is_asked_for(settings):
    cells = lenet_study.cells(settings)
    assert len({cell.place for cell in cells}) == len({cell.name for cell in cells}) == len(TRIALS)
    without = dataclasses.replace(settings, profile=PROFILES["quick"])
    assert lenet_study.cells(without) == []


def test_a_trial_is_what_it_says(settings):
    how = Training(inputs="normalised", weight_decay=0.01, batch_size=16, lr=0.002, epochs=2)
    trial = Trial("many", how, batch_size=8, steps=3)
    found = {r.metric: r for r in Suite(find(), settings).run(lenet_study._cell(settings, trial))}
    images = data.load("digits", "train")
    x = (data.to_input(images.images[:64], size=32) - 0.1307) / 0.3081
    model = models.build("lenet", seed=0)
    result = training.train(
        model, (x, images.labels[:64]), epochs=2, batch_size=16, lr=0.002, weight_decay=0.01
    )
    assert found["re"].weights.sha256 == result.weights_sha256
    first = dataclasses.replace(images, images=images.images[:64], labels=images.labels[:64])
    drawn = data.batches(first, 8, 4, seed=0, size=32)
    pairs = [((x - 0.1307) / 0.3081, y) for x, y in drawn]
    expected = lla.criteria(model, pairs, probes=1, steps=3, precision="float64", route="fresh")
    for metric in ("kh1", "kh05", "re", "loss"):
        value = expected.loss if metric == "loss" else getattr(expected, metric).value
        assert found[metric].value == pytest.approx(value, rel=1e-6)
    assert (found["re"].n, found["re"].fidelity) == (4, "substitute")


def test_ranges_of_inputs():
    x = torch.tensor([0.0, 1.0])
    assert lenet_study._scaled(x, "[0, 1]").tolist() == [0.0, 1.0]
    assert lenet_study._scaled(x, "[0, 255]").tolist() == pytest.approx([0.0, 255.0])
    assert lenet_study._scaled(x, "normalised").tolist() == pytest.approx(
        [-0.4242, 2.8215], abs=1e-4
    )


def record(column, metric, value, stderr, fidelity="reduced"):
    return Record(
        table="lenet_study", row="lenet", column=column, metric=metric, value=value, stderr=stderr,
        fidelity=fidelity, config={"column": column},
    )  # fmt: skip


def test_the_nearest_trial_is_named_with_its_verdict():
    records = [
        record("as it is", "kh1", 0.5, 0.01),
        record("float32", "kh1", 0.21, 0.02),  # the paper prints 0.18
        record("30 steps", "kh1", 0.02, 0.001),
        record("as it is", "re", 3e-3, 1e-4),
        record("float32", "re", 1e-3, 1e-4),
        record("200 steps", "kh1", 0.18, 0.001, "substitute"),
    ]
    (found,) = findings.findings(records)
    assert "K_H1 is 0.500 ± 0.010 at the start, and nearest to the printed 0.18" in found.text
    assert "'float32': 0.210 ± 0.020, which agrees" in found.text
    assert "printed 3e-4 with 'float32': (1.00 ± 0.10)e-3, which differs from it." in found.text
    assert findings.findings(records[-1:]) == []


def test_where_no_trial_is_nearer_it_says_so():
    records = [
        record("as it is", "kh1", 0.2, 0.02),
        record("float32", "kh1", 0.199, 0.02),
        record("as it is", "kh05", 0.2, 0.001),
        record("30 steps", "kh05", 0.3, 0.001),
        record("as it is", "re", 3e-3, 1e-4),
        record("30 steps", "re", 4.5e-4, 1e-5),
    ]
    (found,) = findings.findings(records)
    assert (
        "No trial brings K_H1 visibly nearer to the printed 0.18 than the start, 0.200 ± 0.020, "
        "which agrees within two standard errors."
    ) in found.text
    assert "the start, 0.2000 ± 0.0010, which is close." in found.text
    assert "'30 steps': (4.50 ± 0.10)e-4, which is close." in found.text


def test_a_line_is_a_trial():
    records = [record(name, "kh1", 0.5, 0.01) for name in ("float32", "as it is")]
    (table,) = tables.tables(records)
    (group,) = table.groups
    assert [line.name for line in group.lines] == ["as it is", "float32"]
    assert [e and e.text for e in group.lines[0].entries] == ["0.500 ± 0.010", None, None, None]
    assert "0.18" in table.legend
    assert tables.tables([]) == []
