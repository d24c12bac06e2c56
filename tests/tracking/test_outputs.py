"""Where rows go: files, writers, tables and pictures."""

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

import lla
from lla.tracking.rows import Row, frame_of_rows, read_rows


@pytest.fixture
def follow():
    """A function that makes a tracker of a small model, which measures at every step."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    batch = torch.randn(12, 4), torch.arange(12) % 3

    def make(**options):
        given = {"every": 1, "share": 1.0, "steps": 8, "probes": 3, "target_stderr": None}
        return lla.Tracker(model, batch, **{**given, **options})

    return make


class Writer:
    """Keeps what a SummaryWriter would write."""

    def __init__(self):
        self.kept = []

    def add_scalar(self, name, value, step):
        self.kept.append((name, value, step))


def test_the_file_has_all_rows_after_every_measurement(follow, tmp_path):
    path = tmp_path / "criteria.csv"
    following = follow(csv=path)
    assert not path.exists()
    for count in (1, 2, 3):
        following.step(epoch=0.5 * count)
        assert read_rows(path) == list(following.rows)
        assert len(following.rows) == count
    assert [each.name for each in tmp_path.iterdir()] == ["criteria.csv"]


def test_a_file_that_exists_is_not_written_over(follow, tmp_path):
    path = tmp_path / "criteria.csv"
    path.write_text("mine")
    with pytest.raises(lla.InputError, match=r"criteria.csv exists: name another file"):
        follow(csv=path)
    with pytest.raises(lla.InputError, match="holds no rows of a Tracker"):
        follow(csv=path, resume=True)
    assert path.read_text() == "mine"


def test_a_folder_that_cannot_be_written_is_found_before_the_training(follow, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(lla.WriteError, match="is no folder"):
        follow(csv=tmp_path / "file" / "criteria.csv")


def test_a_training_that_goes_on_keeps_the_earlier_rows(follow, tmp_path):
    path = tmp_path / "criteria.csv"
    first = follow(csv=path, resume=True)
    for step in (1, 2, 3, 4):
        first.step(step)
    again = follow(csv=path, resume=True)
    assert again.rows == first.rows
    again.step(3)  # from a checkpoint of step 2
    assert again.rows[:2] == first.rows[:2]
    assert [row.step for row in again.rows] == [1, 2, 3]
    assert read_rows(path) == list(again.rows)


def test_a_training_that_goes_on_has_to_say_where(follow, tmp_path):
    path = tmp_path / "criteria.csv"
    follow(csv=path).step()
    again = follow(csv=path, resume=True)
    with pytest.raises(lla.InputError, match="rows up to step 1 of an earlier run"):
        again.step()


def test_a_full_disk_ends_no_training(follow, small_disk, fill_disk):
    path = small_disk / "criteria.csv"
    following = follow(csv=path)
    following.step()
    fill_disk(small_disk)
    with pytest.warns(UserWarning, match=r"the rows are kept in memory, and .* cannot be written"):
        following.step()
    following.step()  # says it no more
    assert len(read_rows(path)) == 1
    (small_disk / "filler").unlink()
    following.step()
    assert read_rows(path) == list(following.rows)
    assert len(following.rows) == 4


def test_a_file_that_became_a_folder_ends_no_training(follow, tmp_path):
    path = tmp_path / "criteria.csv"
    following = follow(csv=path)
    path.mkdir()
    with pytest.warns(UserWarning, match="the rows are kept in memory"):
        assert following.step().re is not None
    with pytest.raises(lla.InputError, match="is no regular file"):
        follow_strictly(follow, tmp_path)


def follow_strictly(follow, folder):
    following = follow(csv=folder / "other.csv", strict=True)
    (folder / "other.csv").mkdir()
    following.step()


def test_a_writer_gets_the_values_that_were_measured(follow):
    writer = Writer()
    row = follow(writer=writer, every=4).step(4)
    assert writer.kept == [(name, value, 4) for name, value in row.scalars().items()]
    assert ("criteria/kh1", row.kh1, 4) in writer.kept


@pytest.mark.parametrize("strict", [False, True])
def test_a_writer_that_raises(follow, strict):
    class Full(Writer):
        def add_scalar(self, name, value, step):
            raise OSError("no space")

    following = follow(writer=Full(), strict=strict)
    if strict:
        with pytest.raises(OSError, match="no space"):
            following.step()
    else:
        with pytest.warns(UserWarning, match="the writer did not take step 1, OSError: no space"):
            following.step()
    assert following.rows[0].re is not None


def test_tensorboard_has_the_values(follow, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(tmp_path) as writer:
        row = follow(writer=writer).step()
    events = EventAccumulator(str(tmp_path)).Reload()
    (found,) = events.Scalars("criteria/kh1")
    assert (found.step, found.value) == (1, pytest.approx(row.kh1))


def test_a_tracker_as_a_table(follow):
    following = follow()
    following.step()
    row = following.step()
    frame = following.to_frame()
    assert frame.index.tolist() == [1, 2]
    assert frame.loc[2, "kh05"] == row.kh05
    assert frame.equals(frame_of_rows(following.rows))


def rows_into(following, *rows):
    following._rows = list(rows)
    return following


def curves_of(figure):
    ax = figure.axes[0]
    return {
        container.get_label(): [*map(list, container.lines[0].get_data())]
        for container in ax.containers
    }


def test_the_picture_shows_what_was_measured(follow):
    following = rows_into(
        follow(),
        Row(10, re=0.5, re_stderr=0.05, kh1=0.9, kh1_stderr=None),
        Row(20, note="NonFiniteError"),
        Row(30, re=0.25, re_stderr=0.01, kh1=0.8),
    )
    figure = following.plot()
    assert curves_of(figure) == {
        "r_e": [[10, 30], [0.5, 0.25]], "K_H1": [[10, 30], [0.9, 0.8]]
    }  # fmt: skip
    ax = figure.axes[0]
    bars = ax.containers[0].lines[2][0].get_segments()
    assert [tuple(bar[:, 1]) for bar in bars] == [
        pytest.approx((0.4, 0.6)), pytest.approx((0.23, 0.27))
    ]  # fmt: skip
    assert ax.get_yscale() == "log"
    assert figure.get_suptitle() == "Sequential in training"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["r_e", "K_H1"]


def test_a_criterion_that_is_zero_has_a_place_in_the_picture(follow):
    figure = rows_into(follow(), Row(1, re=0.0, re_stderr=0.0), Row(2, re=0.5)).plot()
    ax = figure.axes[0]
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] < 0 < 0.5 < ax.get_ylim()[1]


def test_an_error_larger_than_its_value_leaves_the_values_in_sight(follow):
    figure = rows_into(follow(), Row(1, re=0.1, re_stderr=0.2), Row(2, re=0.5)).plot()
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_ylim()
    assert 0 < low < 0.1
    assert 0.5 < high < 10


def test_a_picture_in_the_axes_of_somebody_else(follow):
    following = follow()
    following.step()
    ax = Figure().add_subplot()
    assert following.plot(ax, title="mine") is ax.figure
    assert ax.get_title() == "mine"


def test_there_is_no_picture_of_nothing(follow):
    with pytest.raises(lla.InputError, match="nothing was measured yet"):
        follow().plot()
    with pytest.raises(lla.InputError, match="nothing was measured yet"):
        rows_into(follow(), Row(1, note="NonFiniteError")).plot()


def test_a_tracker_in_words_and_in_a_notebook(follow):
    following = follow()
    assert repr(following) == "Tracker of Sequential: nothing measured yet"
    assert "nothing was measured yet" in following._repr_html_()
    row = following.step()
    assert f"1 rows, the last at step 1: r_e {row.re:.4g}, K_H1" in repr(following)
    assert f"{following.share_spent:.1%} of the time" in repr(following)
    assert "image/png" in following._repr_html_()
    rows_into(following, Row(3, note="NonFiniteError: the loss is nan"))
    assert "the last at step 3: NonFiniteError: the loss is nan" in repr(following)
