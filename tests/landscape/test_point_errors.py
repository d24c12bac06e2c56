"""Issue 14, item 13: a point at which an operation raises is one point that is not finite."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lla
from lla.landscape.point_errors import of_one_point

ROUTES = ["loop", "slices", "stacked:2", "vmap:3", None]
EYE = torch.eye(3, dtype=torch.float64)


class Cholesky(nn.Module):
    """Of theta + theta': positive definite for theta = c I with c > 0 only."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(EYE.clone())

    def forward(self, x):
        return x @ torch.linalg.cholesky(self.theta + self.theta.mT)


def mean_square(output, y):
    return (output**2).mean()


def cholesky_problem(loader=False, model=None):
    x = torch.arange(12.0, dtype=torch.float64).view(4, 3)
    data = (x, torch.zeros(4)) if not loader else DataLoader(TensorDataset(x, x), batch_size=3)
    return lla.Problem(Cholesky() if model is None else model, data, mean_square)


def expected(a):
    """The mean of (x sqrt(2 (1 + a)))^2; NaN where the matrix is not positive definite."""
    x = np.arange(12.0)
    return np.where(a > -1, 2 * (1 + a) * (x**2).mean(), np.nan)


@pytest.mark.parametrize("loader", [False, True])
@pytest.mark.parametrize("route", ROUTES)
def test_a_cholesky_factorisation(route, loader):
    line = lla.loss_plane(
        cholesky_problem(loader), [EYE.flatten()], distance=6.0, steps=12, route=route
    )
    np.testing.assert_allclose(line.loss, expected(line.a), rtol=1e-12)
    assert np.isnan(line.loss).sum() == 5
    assert line.explosion(1e9, 1e8).nonfinite == 5


def test_routes_are_measured_with_such_points():
    line = lla.loss_plane(cholesky_problem(), [EYE.flatten()], distance=6.0, steps=160)
    np.testing.assert_allclose(line.loss, expected(line.a), rtol=1e-10)
    assert np.isnan(line.loss).sum() > 50


class Normal(nn.Module):
    """A distribution, whose arguments are checked."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        return -torch.distributions.Normal(0.0, self.scale, validate_args=True).log_prob(x)


@pytest.mark.parametrize("route", ["loop", "slices", "stacked:2", None])
def test_an_argument_of_a_distribution(route):
    x = torch.ones(4, 1, dtype=torch.float64)
    problem = lla.Problem(Normal(), (x, torch.zeros(4)), lambda output, y: output.mean())
    row = torch.ones(1, dtype=torch.float64)
    line = lla.loss_plane(problem, [row], distance=4.0, steps=4, route=route)
    scale = 1 + line.a[2:]
    closed = np.log(scale) + 0.5 * math.log(2 * math.pi) + 0.5 / scale**2
    assert np.isnan(line.loss[:2]).all()
    np.testing.assert_allclose(line.loss[2:], closed, rtol=1e-12)


class Moved(nn.Module):
    """Raises an error where the weight is above 1, or everywhere but at 1."""

    def __init__(self, error):
        super().__init__()
        self.weight, self.error = nn.Parameter(torch.ones(1)), error

    def forward(self, x):
        if self.weight > 1:
            raise self.error
        return self.weight * x


@pytest.mark.parametrize("error", [ZeroDivisionError("zero"), OverflowError("large")])
def test_arithmetic(error):
    problem = lla.Problem(Moved(error), (torch.ones(2), torch.ones(2)), mean_square)
    line = lla.loss_plane(problem, [torch.ones(1)], steps=2)
    assert line.loss[:2].tolist() == [0.25, 1.0]
    assert np.isnan(line.loss[2])


@pytest.mark.parametrize(
    "error",
    [RuntimeError("shapes"), torch.OutOfMemoryError("full"), MemoryError("full"), KeyError("key"),
     lla.InputError("another argument")],
)  # fmt: skip
def test_other_errors_are_raised(error):
    problem = lla.Problem(Moved(error), (torch.ones(2), torch.ones(2)), mean_square)
    with pytest.raises(type(error), match=re.escape(str(error))):
        lla.loss_plane(problem, [torch.ones(1)], steps=2)


@pytest.mark.parametrize("route", ["loop", "slices", "stacked:2", "vmap:3"])
def test_the_centre_still_raises(route):
    model = Cholesky()
    problem = cholesky_problem(model=model)
    with torch.no_grad():
        model.theta.mul_(-1)
    with pytest.raises((torch.linalg.LinAlgError, lla.InputError), match="not positive-definite"):
        lla.loss_plane(problem, [EYE.flatten()], steps=2, route=route)


def test_scalars_at_such_a_point_are_not_finite():
    def largest(problem):
        return next(problem.outputs())[0].max().item()

    problem = cholesky_problem()
    options = {"coordinates": ([-2.0, 0.0, 1.0],)}
    line = lla.loss_plane(problem, [EYE.flatten()], scalars={"largest": largest}, **options)
    found = line.scalar("largest")
    assert np.isnan(found[0])
    np.testing.assert_allclose(found[1:], 11 * np.sqrt([2.0, 4.0]))

    def wrong(problem):
        raise ValueError("a mistake in a scalar")

    with pytest.raises(ValueError, match="a mistake in a scalar"):
        lla.loss_plane(problem, [EYE.flatten()], scalars={"wrong": wrong}, coordinates=([1.0],))


class Calibrated(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.norm = Cholesky(), nn.BatchNorm1d(3).double()

    def forward(self, x):
        return self.norm(self.inner(x))


def test_a_point_at_which_recalibration_raises():
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    problem = lla.Problem(Calibrated(), (x, torch.zeros(6)), mean_square)
    row = torch.cat([EYE.flatten(), torch.zeros(6, dtype=torch.float64)])
    line = lla.loss_plane(
        problem,
        [row],
        distance=4.0,
        steps=4,
        recalibrate=True,
        scalars={"loss": lambda p: p.loss()},
    )
    assert np.isnan(line.loss[:2]).all()
    assert np.isnan(line.scalar("loss")[:2]).all()
    assert np.isfinite(line.loss[2:]).all()
    np.testing.assert_allclose(line.scalar("loss")[2:], line.loss[2:], rtol=1e-12)


def test_errors_of_one_point():
    cause = torch.linalg.LinAlgError("not positive definite")
    said = lla.InputError("batch 0 cannot recalibrate")
    assert not of_one_point(said)
    said.__cause__ = cause
    assert of_one_point(said)
    assert of_one_point(cause)
    assert not of_one_point(RuntimeError("shapes"))
    assert not of_one_point(None)
