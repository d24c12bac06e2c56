import dataclasses

import numpy as np
import pytest
from PIL import Image

from paper_tables.engine.figures import write
from paper_tables.exhibits.generalization import figures as figures_generalization
from paper_tables.exhibits.generalization.runs import runs
from tests.paper_tables.planted_runs import absent, run, series

NAMES = {
    f"generalization_lenet_digits-rendered_{what}.png" for what in ("accuracy", "kh05", "kh1_re")
}


@pytest.fixture
def records():
    values = series(np.random.default_rng(0))
    return run(values, used=("digits", "rendered"), fidelity="substitute")


def test_the_figures_are_small_readable_and_drawn_once(records, tmp_path):
    write(figures_generalization.figures(records), tmp_path)
    paths = sorted((tmp_path / "figures").glob("*.png"))
    assert {path.name for path in paths} == NAMES
    for path in paths:
        assert path.stat().st_size < 100_000
        with Image.open(path) as image:
            assert 800 <= image.width <= 1000
    before = [path.stat().st_mtime_ns for path in paths]
    write(figures_generalization.figures(records[::-1]), tmp_path)
    assert [path.stat().st_mtime_ns for path in paths] == before
    changed = [dataclasses.replace(r, note="other") if r.metric == "kh05" else r for r in records]
    write(figures_generalization.figures(changed), tmp_path)
    drawn = [path.stat().st_mtime_ns > old for path, old in zip(paths, before, strict=True)]
    assert [p.name for p, new in zip(paths, drawn, strict=True) if new] == [paths[1].name]


def test_the_same_records_give_the_same_bytes(records, tmp_path):
    for folder in ("one", "two"):
        write(figures_generalization.figures(records), tmp_path / folder)
    for name in NAMES:
        first, second = (tmp_path / folder / "figures" / name for folder in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_a_figure_says_what_it_shows(records):
    (found,) = runs(records)
    figure = figures_generalization.draw(found, "kh05")
    title = figure.get_suptitle()
    assert "LeNet, digits to rendered (for mnist-svhn)" in title
    assert "50 epochs, m = 100, 3 x 120 images, 1 probe [fidelity: substitute]" in title
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["training: digits", "generalization: rendered"]
    (ax,) = figure.axes
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("K_H05", "epoch (0: before training)")


def test_the_lines_are_the_values_and_the_bands_their_errors(records):
    (found,) = runs(records)
    accuracy, loss = figures_generalization.draw(found, "accuracy").axes
    assert [len(ax.lines) for ax in (accuracy, loss)] == [3, 2], "the test split has no loss"
    assert (accuracy.get_yscale(), loss.get_yscale()) == ("linear", "log")
    (ax,) = figures_generalization.draw(found, "kh05").axes
    for side, line, band in zip(
        ("training", "generalization"), ax.lines, ax.collections, strict=True
    ):
        mine = [r for r in records if r.column.endswith(side) and r.metric == "kh05"]
        np.testing.assert_allclose(line.get_xdata(), [r.config["epoch"] for r in mine])
        np.testing.assert_allclose(line.get_ydata(), [r.value for r in mine])
        edges = band.get_paths()[0].vertices
        for record in mine:
            y = edges[edges[:, 0] == record.config["epoch"], 1]
            np.testing.assert_allclose(y.min(), record.value - record.stderr)
            np.testing.assert_allclose(y.max(), record.value + record.stderr)


def test_epoch_0_has_a_place_on_the_axis(records):
    (found,) = runs(records)
    figure = figures_generalization.draw(found, "kh05")
    figure.draw_without_rendering()
    (ax,) = figure.axes
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert labels == ["0", "1", "2", "5", "10", "20", "50"]
    places = ax.transData.transform([(tick, 0.5) for tick in ax.get_xticks()])[:, 0]
    assert (np.diff(places) > 20).all()
    low, high = ax.get_xlim()
    assert low < 0 < 50 < high


def test_the_most_faithful_run_is_drawn(records, tmp_path):
    values = {("training", "kh05"): (0.5, 0.4)}
    shared = {"epochs": (0, 1), "training": 1}
    paper = run(values, fidelity="paper", used=("digits", "rendered"), **shared)
    write(figures_generalization.figures(paper), tmp_path / "alone")
    write(figures_generalization.figures([*records, *paper]), tmp_path / "both")
    name = "generalization_lenet_digits-rendered_kh05.png"
    alone, both = (tmp_path / folder / "figures" / name for folder in ("alone", "both"))
    assert alone.read_bytes() == both.read_bytes()
    # nothing else was measured, and no panel is empty
    assert [p.name for p in (tmp_path / "alone" / "figures").glob("*.png")] == [name]


def test_without_values_there_is_no_figure(tmp_path):
    write(figures_generalization.figures([]), tmp_path)
    write(figures_generalization.figures([absent()]), tmp_path)
    assert not (tmp_path / "figures").exists()


def test_values_without_errors_and_gaps_are_drawn():
    values = {("training", "kh1"): (1.0, None, 0.4), ("training", "re"): (0.0, 0.1, 0.2)}
    (found,) = runs(run(values, epochs=(0, 1, 3), stderr=None))
    kh1, re = figures_generalization.draw(found, "kh1_re").axes
    np.testing.assert_allclose(kh1.lines[0].get_xdata(), [0, 3])
    assert re.get_yscale() == "linear", "0 has no place on a logarithmic axis"
