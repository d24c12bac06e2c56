import numpy as np
import pytest

from paper_tables.engine.figures import write
from paper_tables.exhibits.generalization import loss_figures
from paper_tables.exhibits.generalization.runs import runs
from tests.paper_tables.planted_runs import EPOCHS, run, series


@pytest.fixture
def records():
    return run(series(np.random.default_rng(0)))


def test_a_point_is_an_epoch_with_its_loss(records):
    (found,) = runs(records)
    ax, *_ = loss_figures.draw(found).axes
    assert (ax.get_ylabel(), ax.get_xscale()) == ("K_H1", "log")
    for side, container in zip(("training", "generalization"), ax.containers, strict=True):
        points = {r.config["epoch"]: {} for r in records}
        for record in records:
            if record.column == f"mnist-svhn/{side}":
                points[record.config["epoch"]][record.metric] = record.value
        wanted = [(points[epoch]["loss"], points[epoch]["kh1"]) for epoch in EPOCHS]
        assert np.array_equal(container.lines[0].get_xydata(), wanted)
    assert [text.get_text() for text in ax.texts] == [str(epoch) for epoch in EPOCHS] * 2
    assert any(set(line.get_ydata()) == {0.18} for line in ax.lines), "what the paper prints"


def test_it_is_drawn_from_the_records_that_it_shows(records, tmp_path):
    (drawing,) = loss_figures.figures(records)
    assert drawing.name == "generalization_lenet_mnist-svhn_by_loss"
    assert {r.metric for r in drawing.records} == {"kh1", "kh05", "re", "loss"}
    write([drawing], tmp_path)
    assert (tmp_path / "figures" / f"{drawing.name}.png").stat().st_size < 200_000


def test_what_the_paper_prints_is_for_mnist_alone():
    values = series(np.random.default_rng(0))
    (found,) = runs(run(values, pair="svhn-mnist"))
    for ax in loss_figures.draw(found).axes:
        assert "the paper, trained" not in ax.get_legend_handles_labels()[1]


def test_nothing_is_drawn_of_a_few_points():
    values = {key: numbers[:2] for key, numbers in series(np.random.default_rng(0)).items()}
    assert loss_figures.figures(run(values, epochs=EPOCHS[:2])) == []
