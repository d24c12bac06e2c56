import dataclasses
import hashlib

import numpy as np
import pytest
from PIL import Image

from lla.errors import ChecksumError
from lla.landscape import Plane, grid
from paper_tables.engine import store
from paper_tables.engine.figures import write
from paper_tables.engine.records import Source, write_records
from paper_tables.exhibits.table1 import figures as figures_landscape
from paper_tables.exhibits.table1.figures import FIGURES
from paper_tables.exhibits.table1.planes import pictured
from tests.paper_tables.planted import plane

NAME = "landscape_lenet_random_axes"


def bowl(height, points=21):
    a = grid(points - 1)
    loss = (0.1 + height * (a[:, None] ** 2 + 3 * a[None] ** 2)).astype(np.float32)
    return Plane(
        loss=loss, a=a, b=a, evaluated=np.ones(loss.shape, bool),
        scalars=np.empty((0, *loss.shape)), names=(), center=float(loss[points // 2, points // 2]),
        classes=10, axes="random", distribution="uniform", normalization="filter", order=2,
        signed=False, update="add", mode="eval", batchnorm="stored", frozen=(), seed=0,
        norms=(1.0, 1.0), route="loop",
    )  # fmt: skip


def publish(folder, panel, height, points=21, **facts):
    """The records of a panel's plane, and its file."""
    name = f"planes/{panel.place.axes}-{panel.place.method}-{points}.npz"
    (folder / "planes").mkdir(exist_ok=True)
    bowl(height, points).save(folder / name)
    source = Source(name, hashlib.sha256((folder / name).read_bytes()).hexdigest())
    place = panel.place
    records = plane(
        panel.row, panel.state, place.mode, place.axes, place.method, 2.0, points=points,
        artifact=source, **facts,
    )  # fmt: skip
    write_records(store.records_file(folder, "table1", panel.row), records)


@pytest.fixture
def results(tmp_path):
    for panel in FIGURES[NAME]:
        publish(tmp_path, panel, 1e6 if panel.place.axes == "uniform" else 5.0)
    return tmp_path


def test_the_figure_is_small_readable_and_drawn_once(results):
    path = results / "figures" / f"{NAME}.png"
    write(figures_landscape.figures(store.published(results)), results)
    assert path.stat().st_size < 200_000
    with Image.open(path) as image:
        assert 800 <= image.width <= 1400
    before = path.stat().st_mtime_ns
    write(figures_landscape.figures(store.published(results)), results)
    assert path.stat().st_mtime_ns == before
    changed = [dataclasses.replace(r, note="changed") for r in store.published(results)]
    write(figures_landscape.figures(changed), results)
    assert path.stat().st_mtime_ns > before
    assert [p.name for p in (results / "figures").glob("*.png")] == [path.name]


def test_it_says_what_it_shows(results):
    best = pictured(store.published(results))
    panels = FIGURES[NAME]
    planes = [best[panel.row, panel.column] for panel in panels]
    figure = figures_landscape.draw(panels, planes, results)
    title = figure.get_suptitle()
    assert "LeNet, trained weights, 64 images of ImageNet, filter L2, 21 x 21 points" in title
    assert "[fidelity: reduced]" in title
    titles = [ax.get_title() for ax in figure.axes]
    assert any(t.startswith("uniform axes: ratio 4.3e+05, explodes") for t in titles)
    assert any("capped" in text for ax in figure.axes for text in (ax.get_title(), ax.get_ylabel()))


def test_the_finest_plane_is_drawn_and_a_coarse_or_stopped_one_never(results):
    panel = FIGURES[NAME][0]
    key = (panel.row, panel.column)
    publish(results, panel, 1e6, points=5)
    best = pictured(store.published(results))
    assert best[key].points == 21
    publish(results, panel, 1e6, points=41)
    assert pictured(store.published(results))[key].points == 41
    publish(results, panel, 1e6, points=41, stopped=True)
    assert not pictured(store.published(results))[key].stopped


def test_a_plane_that_is_not_the_records_is_refused(results):
    for path in (results / "planes").glob("uniform*"):
        path.write_bytes(b"other")
    with pytest.raises(ChecksumError, match="recompute"):
        write(figures_landscape.figures(store.published(results)), results)


def test_without_all_planes_there_is_no_figure(tmp_path):
    publish(tmp_path, FIGURES[NAME][0], 1.0)
    write(figures_landscape.figures(store.published(tmp_path)), tmp_path)
    assert not (tmp_path / "figures").exists()
