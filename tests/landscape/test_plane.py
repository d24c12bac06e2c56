import dataclasses

import numpy as np
import pytest
import torch

import lla
from lla.landscape import Plane, grid, join, nested


def plane_of(loss, a=None, b=None, **change):
    """A plane with these values."""
    loss = np.asarray(loss)
    line = loss.ndim == 1
    a = np.arange(len(loss)) - 1.0 if a is None else a
    b = (np.zeros(0) if line else np.arange(loss.shape[1]) - 1.0) if b is None else b
    fields = {
        "loss": loss, "a": a, "b": b, "evaluated": np.ones(loss.shape, dtype=bool),
        "scalars": np.stack([loss.astype(float) * 2, -loss.astype(float)]),
        "names": ("twice", "minus"),
        "center": 1.0, "classes": 10, "axes": "random", "distribution": "normal",
        "normalization": "filter", "order": 2, "signed": False, "update": "add", "mode": "eval",
        "batchnorm": "none", "frozen": ("0.weight",), "seed": 3,
        "norms": (1.5,) if line else (1.5, 2.5), "route": "loop",
    }  # fmt: skip
    return Plane(**{**fields, **change})


def test_grid_is_that_of_the_definition():
    found = grid()
    assert len(found) == 41
    assert found.dtype == np.float64
    assert found[20] == 0
    assert [float(c) for c in found] == [(i - 20) / 40 for i in range(41)]
    assert np.array_equal(found, -found[::-1])
    assert grid(2, 3.0).tolist() == [-1.5, 0.0, 1.5]
    for steps in (6, 14, 22, 100, 1000):
        found = grid(steps, 0.1)
        assert found[steps // 2] == 0
        assert np.array_equal(found, -found[::-1])
        np.testing.assert_allclose(found, np.linspace(-0.05, 0.05, steps + 1), atol=1e-16)


@pytest.mark.parametrize("steps", [1, 0, -2, 3, 41])
def test_bad_steps(steps):
    with pytest.raises(lla.InputError, match=f"steps is {steps}: give an even number from 2 on"):
        grid(steps)


@pytest.mark.parametrize("distance", [0.0, -1.0, np.nan, np.inf])
def test_bad_distances(distance):
    with pytest.raises(lla.InputError, match=f"distance is {distance}: give a positive number"):
        grid(4, distance)


@pytest.mark.parametrize("points", [3, 5, 9, 11, 21, 41])
def test_nested_grids_are_part_of_the_whole_one(points):
    indices = nested(points)
    assert len(indices) == points
    assert {0, 20, 40} <= set(indices)
    np.testing.assert_allclose(grid()[indices], grid(points - 1), atol=1e-16)


@pytest.mark.parametrize("points", [1, 2, 4, 7, 13, 43])
def test_grids_that_are_not_nested(points):
    with pytest.raises(lla.InputError, match=f"a grid of {points} points is not nested in 40 st"):
        nested(points)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("line", [False, True])
def test_saved_and_loaded_it_is_the_same(tmp_path, dtype, line):
    loss = np.array([[1.0, np.inf, 2.0], [np.nan, 1.0, -np.inf], [1 / 3, 3e38, 1e-40]], dtype)
    plane = plane_of(loss[1] if line else loss, order=None, distribution=None)
    plane.save(tmp_path / "plane.npz")
    found = Plane.load(tmp_path / "plane.npz")
    for field in dataclasses.fields(Plane):
        one, other = getattr(plane, field.name), getattr(found, field.name)
        assert type(one) is type(other), field.name
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)  # NaN equals NaN here
        else:
            assert one == other


def test_a_real_plane_saved_and_loaded(tmp_path, cases):
    plane = lla.loss_plane(
        cases.BY_NAME["fire"].problem(), normalization="filter", steps=2, freeze="head.*",
        scalars={"accuracy": lla.landscape.accuracy},
    )  # fmt: skip
    plane.save(tmp_path / "plane.npz")
    found = Plane.load(tmp_path / "plane.npz")
    assert np.array_equal(found.loss, plane.loss)
    assert found.frozen == ("head.weight", "head.bias")
    assert found.explosion() == plane.explosion()
    assert found.norms == plane.norms
    joined = lla.landscape.join([found])
    assert np.array_equal(joined.scalars, plane.scalars)


@pytest.mark.parametrize("damage", [lambda b: b[:200], lambda b: b"", lambda b: b"not a plane"])
def test_damaged_files(tmp_path, damage):
    file = tmp_path / "plane.npz"
    plane_of(np.ones((3, 3))).save(file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(lla.ChecksumError, match="cannot be read"):
        Plane.load(file)


def test_subset_takes_the_values_at_its_indices():
    loss = np.arange(25.0).reshape(5, 5)
    plane = plane_of(loss, evaluated=loss != 12)
    found = plane.subset([0, 2, 4], [1, 2])
    assert found.loss.tolist() == [[1, 2], [11, 12], [21, 22]]
    assert (found.a.tolist(), found.b.tolist()) == ([-1, 1, 3], [0, 1])
    assert np.array_equal(found.scalar("twice"), found.loss * 2)
    assert found.scalars.shape == (2, 3, 2)
    assert found.evaluated.tolist() == [[True, True], [True, False], [True, True]]
    assert found.center == plane.center
    assert plane.loss.shape == (5, 5)
    line = plane_of(loss[0]).subset(range(0, 5, 2))
    assert (line.loss.tolist(), line.a.tolist(), line.b.shape) == ([0, 2, 4], [-1, 1, 3], (0,))
    bare = plane_of(loss, scalars=np.zeros((0, 5, 5)), names=()).subset([0], [1, 2])
    assert bare.scalars.shape == (0, 1, 2)
    with pytest.raises(lla.InputError, match="subset takes 2 index lists, not 1"):
        plane.subset([0])


def test_a_nested_subset_of_a_plane_is_the_coarse_plane(cases):
    problem = cases.BY_NAME["mlp_mse"].problem()
    fine = lla.loss_plane(problem, normalization="filter", steps=40, route="loop")
    coarse = lla.loss_plane(problem, normalization="filter", steps=4, route="loop")
    found = fine.subset(nested(5), nested(5))
    np.testing.assert_allclose(found.loss, coarse.loss, rtol=1e-13)
    np.testing.assert_allclose(found.a, coarse.a, atol=1e-16)
    assert found.loss[2, 2] == coarse.loss[2, 2] == problem.loss()
    assert found.explosion().ratio <= fine.explosion().ratio


def test_minimum_is_where_the_smallest_finite_value_is():
    loss = np.array([[3.0, np.nan, 2.0], [-np.inf, 5.0, 1.0], [np.inf, 4.0, 0.5]])
    assert plane_of(loss).minimum == (1.0, 1.0)
    assert plane_of(loss[:, 2]).minimum == (1.0,)
    evaluated = np.ones((3, 3), dtype=bool)
    evaluated[2, 2] = False
    assert plane_of(loss, evaluated=evaluated).minimum == (0.0, 1.0)


def test_scalars_by_name():
    plane = plane_of(np.ones((3, 3)))
    assert np.array_equal(plane.scalar("twice"), np.full((3, 3), 2.0))
    with pytest.raises(lla.InputError, match="there is no scalar 'acc' on this plane: it has tw"):
        plane.scalar("acc")
    with pytest.raises(lla.InputError, match="it has none"):
        plane_of(np.ones(3), scalars=np.zeros((0, 3)), names=()).scalar("acc")


def test_explosion_and_asymmetry_are_those_of_the_values():
    loss = np.array([[1.0, 2.0, 400.0], [0.1, 0.05, 3.0], [5.0, 0.1, 2.0]])
    plane = plane_of(loss, center=0.05, classes=None)
    assert plane.explosion() == lla.landscape.explosion(loss, 0.05, None)
    assert plane.explosion().ratio == pytest.approx(8000)
    assert plane.explosion(1e4, 9e3).verdict == "none"
    found = plane.asymmetry(0.2)
    assert (found.points, found.share, found.offset) == (2, 1.0, (0.5, -0.5))
    assert plane_of(loss[1], a=np.array([-1.0, 0.0, 1.0])).asymmetry(0.2).share == 1.0
    with pytest.raises(lla.InputError, match="needs them symmetric about 0"):
        plane_of(loss, a=np.array([0.0, 1.0, 2.0])).asymmetry(0.2)


def test_a_negative_cap_is_refused():
    with pytest.raises(lla.InputError, match="cap is -1"):
        plane_of(np.ones((3, 3))).plot(cap=-1.0)


def test_parts_of_one_plane_have_the_same_weights_and_directions():
    first = plane_of([0.5, np.nan], evaluated=np.array([True, False]), weights_hash="a",
                     direction_hashes=("b",))  # fmt: skip
    loss, rest = np.array([np.nan, 0.25]), np.array([False, True])
    second = dataclasses.replace(first, loss=loss, evaluated=rest)
    assert join([first, second]).weights_hash == "a"
    for change in ({"weights_hash": "c"}, {"direction_hashes": ("c",)}):
        with pytest.raises(lla.InputError, match="the parts are of different planes"):
            join([first, dataclasses.replace(second, **change)])
    # one that an older version has made does not tell
    old = dataclasses.replace(second, weights_hash=None, direction_hashes=())
    assert join([first, old]).loss.tolist() == [0.5, 0.25]


def exploded():
    problem = lla.Problem(torch.nn.Linear(3, 2), (torch.ones(4, 3), torch.arange(4) % 2))
    plane = lla.loss_plane(problem, steps=2)
    return dataclasses.replace(plane, loss=np.full_like(plane.loss, np.nan))


@pytest.mark.hard_use("A plane without a finite value has no minimum, and says so")
def test_no_minimum_without_a_finite_value():
    with pytest.raises(lla.InputError, match="no value of the plane is finite"):
        _ = exploded().minimum
    with pytest.raises(lla.InputError, match="no value of the plane is finite"):
        exploded().plot()


@pytest.mark.parametrize("indices", [([0], []), ([0], [3]), ([0.5], [0]), ([10**400], [0])])
def test_indices_that_are_not_on_the_grid(indices):
    with pytest.raises(lla.InputError, match="index"):
        exploded().subset(*indices)
