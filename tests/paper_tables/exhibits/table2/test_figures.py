import dataclasses
import hashlib
import operator

import numpy as np
import pytest
from PIL import Image

import lla
from lla.errors import ChecksumError
from paper_tables.engine import store
from paper_tables.engine.figures import write
from paper_tables.engine.records import Source, write_records
from paper_tables.exhibits.table2 import figures

COLUMN = operator.attrgetter("column")


def spectrum(seed, negative):
    values = np.sort(np.random.default_rng(seed).normal(size=(3, 40)), axis=1)
    values[values < 0] *= negative
    return lla.Spectrum(
        eigenvalues=values,
        weights=np.full((3, 40), 1 / 40),
        counts=np.full(3, 40),
        size=1000,
        steps=40,
        seed=0,
        dtype="float32",
        legacy=False,
        matvecs=120,
    )


@pytest.fixture
def results(tmp_path, make_records):
    """Published records of a network at three stages, and spectra that they name."""
    stages = ("random/eval", "during/eval", "pretrained/eval")
    (tmp_path / "spectra").mkdir()
    for i, column in enumerate(stages):
        name = f"spectra/{i}.npz"
        spectrum(i, 1 / (1 + 2 * i)).save(tmp_path / name)
        digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        source = Source(name, digest)
        table = "hesd" if column.startswith("during") else "table2"
        config = {"epoch": 1} if column.startswith("during") else {}
        records = make_records(
            column=column, table=table, config=config, artifact=lambda *_, source=source: source
        )
        write_records(store.records_file(tmp_path, table), records)
    return tmp_path


def test_the_figure_is_small_readable_and_drawn_once(results):
    path = results / "figures" / "hesd_lenet_mnist.png"
    write(figures.figures(store.published(results)), results)
    assert path.stat().st_size < 200_000
    with Image.open(path) as image:
        assert 800 <= image.width <= 1400
        assert image.height >= 300
    before = path.stat().st_mtime_ns
    write(figures.figures(store.published(results)), results)
    assert path.stat().st_mtime_ns == before
    records = store.published(results)
    changed = [dataclasses.replace(records[0], note="changed"), *records[1:]]
    write(figures.figures(changed), results)
    assert path.stat().st_mtime_ns > before


def test_the_figure_says_what_it_shows(results):
    (chosen,) = figures.series(store.published(results), COLUMN).values()
    figure = figures.hesd(chosen, results)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [
        "at initialisation, eval mode\n[fidelity: reduced]",
        "during training (epoch 1), eval mode\n[fidelity: reduced]",
        "after training, eval mode\n[fidelity: reduced]",
    ]
    assert all(ax.get_yscale() == "log" for ax in figure.axes)
    assert "LeNet on MNIST: 2 x 512 images, 3 probes, m = 100" in figure.get_suptitle()


def test_other_settings_are_not_mixed_in(results, make_records):
    records = store.published(results)
    source = records[0].artifact
    other = make_records(
        column="random/eval", config={"batch_size": 2048}, artifact=lambda *_: source
    )
    (chosen,) = figures.series([*other, *records], COLUMN).values()
    assert {record.batch_size for record in chosen} == {512}


def test_a_spectrum_that_is_not_the_records_is_refused(results):
    (results / "spectra" / "1.npz").write_bytes(b"other")
    with pytest.raises(ChecksumError, match="recompute"):
        write(figures.figures(store.published(results)), results)


def test_without_spectra_there_is_no_figure(tmp_path, make_records):
    write(figures.figures(make_records()), tmp_path)
    assert not (tmp_path / "figures").exists()
