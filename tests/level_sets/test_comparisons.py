import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla import level_sets
from lla.errors import InputError, NonFiniteError
from lla.level_sets import weighted_sum


@pytest.fixture
def ridge():
    g = torch.Generator().manual_seed(1)
    X = torch.randn(30, 5, generator=g, dtype=torch.float64)
    y = X[:, 0] - 2 * X[:, 1] + torch.randn(30, generator=g, dtype=torch.float64)
    model = nn.Linear(5, 1, bias=False).double()
    return lla.Problem(model, (X, y), loss=lambda z, y: (z.squeeze(1) - y).square().mean())


def test_minima_are_those_of_ridge_regression(ridge):
    (batch,) = ridge.batches
    X, y = batch.x.numpy(), batch.y.numpy()
    weights = [0.1, 0.5, 2.0]
    curve = weighted_sum(ridge, "l2", weights, rtol=1e-6, test=(batch.x, batch.y))
    for k, weight in enumerate(weights):
        theta = np.linalg.solve(X.T @ X / 30 + weight * np.eye(5), X.T @ y / 30)
        np.testing.assert_allclose(curve.points[k], theta, rtol=1e-5)
        assert curve.loss[k] == pytest.approx(((X @ theta - y) ** 2).mean())
        assert curve.regularizer[k] == pytest.approx((theta**2).sum())
    assert curve.residual.max() <= 1e-6
    np.testing.assert_allclose(curve.test_loss, curve.loss)
    assert np.isnan(curve.test_accuracy).all()
    assert curve.gradients.min() > 1


def test_a_walk_ends_on_the_curve(ridge):
    path = level_sets.walk(ridge, 2.0, "l2", steps=300, kkt_tol=1e-3)
    weights = path.multiplier[-1] * np.array([0.9, 1.0, 1.1])
    curve = weighted_sum(ridge, "l2", weights, rtol=1e-4)
    assert curve.at(2.0) == pytest.approx(path.regularizer[-1], rel=2e-3)


def test_between_minima_logarithms_are_interpolated(ridge, tmp_path):
    curve = weighted_sum(ridge, "l2", [0.1, 0.2])
    curve = dataclasses.replace(curve, loss=np.array([4.0, 1.0]), regularizer=np.array([8.0, 32.0]))
    assert curve.at(2.0) == pytest.approx(16)
    assert curve.at(1.0) == 32
    with pytest.raises(InputError, match="add smaller weights"):
        curve.at(0.5)
    with pytest.raises(InputError, match="add larger weights"):
        curve.at(5.0)
    curve.save(tmp_path / "curve.npz")
    np.testing.assert_array_equal(
        level_sets.WeightedSum.load(tmp_path / "curve.npz").loss, curve.loss
    )


def test_too_few_gradients_leave_a_residual(ridge):
    curve = weighted_sum(ridge, "l2", [0.1], max_gradients=2, rtol=1e-6)
    assert curve.residual[0] > 1e-6


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"weights": []}, InputError, "there is no weight"),
        ({"weights": [0.0]}, InputError, "a weight is 0.0: give a positive number"),
        ({"weights": [1.0], "rtol": -1}, InputError, "rtol is -1"),
        ({"weights": [1.0], "max_gradients": 0}, InputError, "max_gradients is 0"),
    ],
)
def test_wrong_arguments_are_refused(ridge, options, error, said):
    with pytest.raises(error, match=said):
        weighted_sum(ridge, "l2", **options)


def test_a_regularizer_that_is_not_finite_is_refused(ridge):
    with pytest.raises(NonFiniteError, match="is inf at the start"):
        weighted_sum(ridge, lambda problem, theta: theta.exp().sum() * 1e308 * 10, [1.0])


def walks(problem):
    return [level_sets.walk(problem, 2.0, name, steps=6, step=0.01) for name in ("l2", "smooth_l1")]


def test_walks_in_one_basis_keep_their_distances(ridge):
    paths = walks(ridge)
    joint = level_sets.pca(paths)
    points = np.concatenate([path.points for path in paths])
    away = points - points[-1]
    _, s, V = np.linalg.svd(points - points.mean(0), full_matrices=False)
    np.testing.assert_allclose(joint.explained, s[:2] ** 2 / (s**2).sum(), rtol=1e-8)
    expected = away @ V[:2].T
    found = np.concatenate(joint.coordinates)
    np.testing.assert_allclose(abs(found), abs(expected), atol=1e-9)
    assert [len(part) for part in joint.coordinates] == [7, 7]
    labels = [line.get_label() for line in joint.plot(["a", "b"]).axes[0].lines]
    assert labels[0] == "a"
    with pytest.raises(InputError, match="1 names for 2 walks"):
        joint.plot(["a"])
    with pytest.raises(InputError, match="there is no walk"):
        level_sets.pca([])


def test_the_plane_goes_through_the_walks(ridge):
    paths = walks(ridge)
    joint = level_sets.pca(paths)
    plane = level_sets.plane(ridge, joint, points=5)
    assert plane.loss.shape == (5, 5)
    axes = joint.basis.directions.numpy()
    for i, j in ((0, 0), (4, 2)):
        theta = paths[-1].points[-1] + plane.a[i] * axes[0] + plane.b[j] * axes[1]
        assert plane.loss[i, j] == pytest.approx(float(ridge.loss(torch.from_numpy(theta))))
    low, high = joint.basis.coordinates.min(0), joint.basis.coordinates.max(0)
    assert plane.a[0] < low[0]
    assert plane.a[-1] > high[0]
    assert joint.plot(["a", "b"], plane).axes
