import dataclasses
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.landscape import join
from lla.landscape.plane_values import PlaneValues, _Values
from lla.storage import load_result, save_result

X, Y = torch.linspace(-1, 1, 24).view(8, 3), torch.arange(8) % 3


class Fuse:
    """A loss that counts its calls and raises after some, as an interruption does."""

    def __init__(self, error=KeyboardInterrupt):
        self.calls, self.last, self.error = 0, None, error

    def __call__(self, output, target):
        self.calls += 1
        if self.last is not None and self.calls > self.last:
            raise self.error
        return F.cross_entropy(output, target)


def problem_of(fuse, seed=0, mode="eval"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
    return lla.Problem(model, (X, Y), fuse, mode)


OPTIONS = {"normalization": "filter", "steps": 10, "route": "loop"}
BEFORE = 4  # calls for the trial (two), the reduction and the centre


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_plane_goes_on_where_it_stopped(tmp_path, error):
    whole = lla.loss_plane(problem_of(F.cross_entropy), **OPTIONS)
    file, fuse = tmp_path / "plane.npz", Fuse(error)
    problem = problem_of(fuse)
    done = 0
    for more in (40, 30):
        fuse.calls, fuse.last = 0, 1 + more
        with pytest.raises(error):
            lla.loss_plane(problem, checkpoint=file, **OPTIONS)
        done += more // 16 * 16  # points are kept sixteen at a time
    fuse.calls, fuse.last = 0, None
    plane = lla.loss_plane(problem, checkpoint=file, **OPTIONS)
    assert fuse.calls == 1 + 120 - done
    assert np.array_equal(plane.loss, whole.loss)
    assert plane.evaluated.all()
    assert plane.center == whole.center
    fuse.calls = 0
    again = lla.loss_plane(problem, checkpoint=str(file), **OPTIONS)
    assert fuse.calls == 1  # the centre
    assert np.array_equal(again.loss, whole.loss)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plane.npz"]


def test_scalars_are_kept_point_by_point(tmp_path):
    calls, last = 0, 21

    def distance(problem):
        nonlocal calls
        calls += 1
        if last is not None and calls > last:
            raise KeyboardInterrupt
        return problem.theta().norm().item()

    problem = problem_of(F.cross_entropy)
    options = {**OPTIONS, "scalars": {"distance": distance}, "checkpoint": tmp_path / "plane.npz"}
    with pytest.raises(KeyboardInterrupt):
        lla.loss_plane(problem, **options)
    calls, last = 0, None
    plane = lla.loss_plane(problem, **options)
    assert calls == 121 - 21
    calls = 0
    whole = lla.loss_plane(problem, **{**options, "checkpoint": None})
    assert calls == 121
    assert np.array_equal(plane.scalars, whole.scalars)
    assert np.array_equal(plane.loss, whole.loss)
    assert len(np.unique(plane.scalar("distance"))) > 100


@pytest.mark.parametrize("route", ["slices", "vmap:4", None])
def test_a_finished_checkpoint_and_any_route(tmp_path, route):
    problem, options = problem_of(F.cross_entropy), {**OPTIONS, "route": route}
    first = lla.loss_plane(problem, checkpoint=tmp_path / "plane.npz", **options)
    again = lla.loss_plane(problem, checkpoint=tmp_path / "plane.npz", **options)
    assert np.array_equal(first.loss, again.loss)
    assert again.route == first.route


def test_values_that_are_not_finite_are_not_computed_again(tmp_path):
    calls = 0

    def power(output, target):
        nonlocal calls
        calls += 1
        return (output**40).sum()

    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    problem = lla.Problem(model, (torch.ones(1, 1), torch.zeros(1)), power)
    options = {"coordinates": ([-1e30, 0.0, 1.0],), "checkpoint": tmp_path / "line.npz"}
    first = lla.loss_plane(problem, [torch.ones(1)], **options)
    calls = 0
    again = lla.loss_plane(problem, [torch.ones(1)], **options)
    assert calls == 1
    assert first.loss[0] == again.loss[0] == np.inf


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"normalization": "layer"}, {"distance": 2.0}, {"steps": 8},
        {"freeze": "0.*"}, {"scalars": {"one": lambda problem: 1.0}}, {"part": (0, 2)},
        {"weights": 1}, {"mode": "train"}, {"loss": F.multi_margin_loss}, {"data": X + 1},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_the_checkpoint_of_another_plane_is_refused(tmp_path, change):
    file = tmp_path / "plane.npz"
    problem = problem_of(F.cross_entropy)
    lla.loss_plane(problem, checkpoint=file, **OPTIONS)
    before = file.read_bytes()
    other = dict(change)
    loss, mode = other.pop("loss", F.cross_entropy), other.pop("mode", "eval")
    problem = problem_of(loss, other.pop("weights", 0), mode)
    if "data" in other:
        problem = lla.Problem(problem.model, (other.pop("data"), Y))
    with pytest.raises(lla.InputError, match="holds the values of another plane: remove it, or"):
        lla.loss_plane(problem, checkpoint=file, **{**OPTIONS, **other})
    assert file.read_bytes() == before


@pytest.mark.parametrize("size", [0, 10, 400])
def test_a_truncated_file_is_refused(tmp_path, size):
    file = tmp_path / "plane.npz"
    problem = problem_of(F.cross_entropy)
    lla.loss_plane(problem, checkpoint=file, **OPTIONS)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(lla.ChecksumError, match="cannot be read"):
        lla.loss_plane(problem, checkpoint=file, **OPTIONS)


def test_a_file_of_another_kind_is_refused(tmp_path):
    file = tmp_path / "plane.npz"
    problem = problem_of(F.cross_entropy)
    lla.loss_plane(problem, **OPTIONS).save(file)
    with pytest.raises(lla.InputError, match="holds Plane, not _Values"):
        lla.loss_plane(problem, checkpoint=file, **OPTIONS)


def test_a_folder_that_does_not_exist_is_found_before_anything_is_computed(tmp_path):
    fuse = Fuse()
    problem = problem_of(fuse)
    with pytest.raises(lla.InputError, match="does not exist: make it first"):
        lla.loss_plane(problem, checkpoint=tmp_path / "none" / "plane.npz", **OPTIONS)
    assert fuse.calls == BEFORE - 1  # not even the centre


@pytest.mark.hard_use(
    "A checkpoint of a plane in a folder that is full or read-only, or that is a folder itself, is "
    "refused before the directions are computed"
)
def test_a_checkpoint_that_cannot_be_written_is_found_before_anything_is_computed(
    tmp_path, small_disk, fill_disk, make_read_only
):
    fuse = Fuse()
    problem = problem_of(fuse)
    with pytest.raises(lla.InputError, match="is no file: name another"):
        lla.loss_plane(problem, checkpoint=small_disk, **OPTIONS)
    fill_disk(small_disk)
    for change, reason in ((None, "No space left"), (make_read_only, "Read-only file system")):
        if change:
            change(small_disk)
        with pytest.raises(lla.WriteError, match=reason):
            lla.loss_plane(problem, checkpoint=small_disk / "plane.npz", **OPTIONS)
    assert fuse.calls == BEFORE - 1


@pytest.mark.hard_use("A checkpoint of a plane with arrays of another length or type is refused")
@pytest.mark.parametrize(
    "change",
    [
        {"loss": np.zeros(120, np.float32)}, {"loss": np.zeros(121)}, {"done": np.ones(3, bool)},
        {"done": np.ones(121)}, {"scalars": np.zeros((1, 121))}, {"route": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_checkpoint_whose_arrays_do_not_fit(tmp_path, change):
    file = tmp_path / "plane.npz"
    problem = problem_of(F.cross_entropy)
    lla.loss_plane(problem, checkpoint=file, **OPTIONS)
    values = load_result(_Values, file)
    save_result(dataclasses.replace(values, **change), file)
    with pytest.raises(lla.ChecksumError, match=rf"plane\.npz .*{next(iter(change))}"):
        lla.loss_plane(problem, checkpoint=file, **OPTIONS)


@pytest.mark.parametrize("n", [1, 3, 7])
@pytest.mark.parametrize("steps", [2, 10])
def test_parts_together_are_the_whole(tmp_path, n, steps):
    problem = problem_of(F.cross_entropy)
    options = {**OPTIONS, "steps": steps, "scalars": {"half": lambda p: p.loss().item() / 2}}
    whole = lla.loss_plane(problem, **options)
    parts = [
        lla.loss_plane(problem, part=(k, n), checkpoint=tmp_path / f"{k}.npz", **options)
        for k in range(n)
    ]
    assert (sum(part.evaluated.astype(int) for part in parts) == 1).all()
    for k, part in enumerate(parts):
        assert part.evaluated.ravel()[k::n].all()
        assert np.isnan(part.loss[~part.evaluated]).all()
        assert part.center == whole.center
    for order in (parts, parts[::-1]):
        joined = join(order)
        assert np.array_equal(joined.loss, whole.loss)
        assert np.array_equal(joined.scalars, whole.scalars)
        assert joined.evaluated.all()
    assert not parts[0].evaluated.all() or n == 1  # joining changes no part


def test_a_part_goes_on_too(tmp_path):
    fuse = Fuse()
    problem = problem_of(fuse)
    options = {**OPTIONS, "part": (1, 3), "checkpoint": tmp_path / "part.npz"}
    fuse.calls, fuse.last = 0, 1 + 20
    with pytest.raises(KeyboardInterrupt):
        lla.loss_plane(problem, **options)
    fuse.calls, fuse.last = 0, None
    part = lla.loss_plane(problem, **options)
    assert fuse.calls == 1 + 40 - 16
    whole = lla.loss_plane(problem, **OPTIONS)
    assert np.array_equal(part.loss.ravel()[1::3], whole.loss.ravel()[1::3])


def test_what_a_part_can_tell(tmp_path):
    problem = problem_of(F.cross_entropy)
    options = {**OPTIONS, "distance": 50.0}
    whole = lla.loss_plane(problem, **options)
    parts = [lla.loss_plane(problem, part=(k, 3), **options) for k in range(3)]
    found = [part.explosion() for part in parts]
    assert max(e.ratio for e in found) == whole.explosion().ratio
    assert all(e.nonfinite == 0 for e in found)
    assert sum(e.points for e in found) == 121
    with pytest.raises(lla.InputError, match="80 of 121 points are missing: join the parts"):
        parts[0].asymmetry(1.0)
    with pytest.raises(lla.InputError, match="81 of 121 points are missing: join the parts"):
        parts[1].plot()
    nothing = lla.loss_plane(problem, part=(200, 201), **options)
    with pytest.raises(lla.InputError, match="the plane has no evaluated point"):
        nothing.explosion()


def test_parts_that_do_not_belong_together():
    problem = problem_of(F.cross_entropy)
    one, other = (lla.loss_plane(problem, part=(k, 2), **OPTIONS) for k in (0, 1))
    with pytest.raises(lla.InputError, match="60 points are missing: give all parts"):
        join([one, one])
    with pytest.raises(lla.InputError, match="there are no parts to join"):
        join([])
    for change in ({"seed": 1}, {"distance": 2.0}, {"freeze": "0.*"}, {"normalization": "layer"}):
        foreign = lla.loss_plane(problem, part=(1, 2), **{**OPTIONS, **change})
        with pytest.raises(lla.InputError, match="the parts are of different planes"):
            join([one, foreign])
    assert join([one, other]).evaluated.all()
    rows = torch.eye(problem.space.size)  # other axes of the same norms
    parts = [
        lla.loss_plane(problem, [rows[i], rows[i + 1]], part=(k, 2), normalization=None, steps=10)
        for k, i in enumerate((0, 2))
    ]
    with pytest.raises(lla.InputError, match="the parts are of different planes"):
        join(parts)


def test_data_that_the_loss_at_the_centre_does_not_show(tmp_path):
    file, model = tmp_path / "plane.npz", nn.Linear(3, 4)
    nn.init.zeros_(model.weight)  # whatever the data, the loss is ln 4
    nn.init.zeros_(model.bias)
    axes = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    for i, seed in enumerate((0, 1)):
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
        problem = lla.Problem(model, (x, torch.arange(5) % 4))
        if i == 0:
            lla.loss_plane(problem, axes, steps=2, checkpoint=file)
    with pytest.raises(lla.InputError, match="holds the values of another plane"):
        lla.loss_plane(problem, axes, steps=2, checkpoint=file)


def test_hessian_axes_are_the_same_bits_in_another_process(tmp_path, cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    parts = []
    for k in range(2):
        problem = lla.Problem(case.make(), case.batches((9, 4)), case.loss)
        options = {"normalization": "filter", "steps": 2, "part": (k, 2)}
        parts.append(lla.loss_plane(problem, "hessian", **options))
    assert join(parts).evaluated.all()


@pytest.mark.parametrize("part", [(3, 3), (-1, 2), (0, 0), (1, -2)])
def test_parts_that_do_not_exist(part):
    problem = problem_of(F.cross_entropy)
    with pytest.raises(lla.InputError, match=r"give \(k, n\) with 0 <= k < n"):
        lla.loss_plane(problem, part=part, **OPTIONS)


def test_planes_have_checkpoints_of_their_own(tmp_path):
    fuse = Fuse()
    problem = problem_of(fuse)
    options = {**OPTIONS, "checkpoint": tmp_path / "planes.npz", "seed": 4}
    first = lla.landscape.loss_planes(problem, 2, **options)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["planes-4.npz", "planes-5.npz"]
    fuse.calls = 0
    again = lla.landscape.loss_planes(problem, 2, **options)
    assert fuse.calls == 2
    assert all(np.array_equal(a.loss, b.loss) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].loss, first[1].loss)


def test_a_checkpoint_in_the_present_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lla.loss_plane(problem_of(F.cross_entropy), checkpoint="plane.npz", **OPTIONS)
    shutil.move("plane.npz", "other.npz")
    assert not (tmp_path / "plane.npz").exists()


@pytest.mark.parametrize("part", [(0.5, 2), (1, 1), (0,), (0, "b")])
def test_impossible_parts(part):
    with pytest.raises(lla.InputError, match="part"):
        PlaneValues(4, 1, np.float32, None, part, "key")
