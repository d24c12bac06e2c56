import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla import level_sets
from lla.errors import ChecksumError, InputError, NonFiniteError
from lla.level_sets import LevelPath, progress, walk
from lla.level_sets.steps import projected, steepest
from lla.storage import load_result


def squared(output, y):
    return (output.squeeze(1) - y).square().mean()


@pytest.fixture
def ridge():
    """Linear regression: L is a quadratic form, and the shortest theta of each level is known."""
    g = torch.Generator().manual_seed(1)
    X = torch.randn(30, 5, generator=g, dtype=torch.float64)
    y = X @ torch.tensor([1.0, -2.0, 3.0, 0.5, 1.5], dtype=torch.float64) + torch.randn(
        30, generator=g, dtype=torch.float64
    )
    model = nn.Linear(5, 1, bias=False).double()
    model.weight.data[:] = 4.0
    return lla.Problem(model, (X, y), loss=squared)


def shortest(problem, level):
    """The shortest theta with L(theta) = level, by bisection in the multiplier, with NumPy."""
    (batch,) = problem.batches
    X, y = batch.x.numpy(), batch.y.numpy()
    A, b = X.T @ X / len(X), X.T @ y / len(X)

    def found(weight):
        theta = np.linalg.solve(A + weight * np.eye(5), b)
        return theta, ((X @ theta - y) ** 2).mean()

    low, high = 1e-12, 1e12
    while high / low > 1 + 1e-14:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if found(middle)[1] < level else (low, middle)
    return found(low)[0], low


def classifier(activation=nn.Tanh, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), activation(), nn.Linear(8, 3)).to(dtype)
    x = torch.randn(24, 6, dtype=dtype)
    return model, (x, torch.arange(24) % 3)


@pytest.fixture
def problem():
    return lla.Problem(*classifier())


def test_it_ends_at_the_shortest_weights_of_the_level(ridge):
    path = walk(ridge, 3.0, "l2", steps=400, kkt_tol=1e-4)
    expected, weight = shortest(ridge, 3.0)
    assert path.stopped == "the KKT residual is small enough"
    np.testing.assert_allclose(path.points[-1], expected, rtol=1e-3)
    assert path.regularizer[-1] == pytest.approx((expected**2).sum(), rel=1e-5)
    # the stationary point of L + lambda ||theta||^2
    assert path.multiplier[-1] == pytest.approx(weight, rel=1e-3)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("name", ["l2", "smooth_l1", "jacobian", "kappa", "trace"])
def test_every_point_is_on_the_level_and_lower_than_before(problem, name, momentum):
    path = walk(problem, 0.9, name, steps=8, momentum=momentum, measured=())
    assert len(path) == 9
    R = level_sets.regularizers.named(name)
    for k, theta in enumerate(torch.from_numpy(path.points)):
        assert float(problem.loss(theta)) == path.loss[k] == pytest.approx(0.9, rel=1.1e-9)
        assert R.value(problem, theta) == pytest.approx(path.regularizer[k], rel=1e-12)
    assert (np.diff(path.regularizer) < 0).all()
    assert path.deviation <= 1.1e-9


def test_a_level_below_the_minimum_is_refused(ridge):
    theta, _ = shortest(ridge, 1.5)
    with pytest.raises(InputError, match=r"the start has the loss .* but not to the level 0\.01"):
        walk(ridge.at(torch.from_numpy(theta)), 0.01)


def test_numbers_at_a_point_are_those_of_plain_autograd(problem):
    path = walk(problem, 0.9, "jacobian", steps=5, keep_every=3)
    assert path.kept.tolist() == [0, 3, 5]
    theta = path.theta().requires_grad_()
    (batch,) = problem.batches
    a, b, c, d = theta.split([48, 8, 24, 3])

    def network(x):
        return F.linear(torch.tanh(F.linear(x, a.view(8, 6), b)), c.view(3, 8), d)

    slope = torch.autograd.grad(F.cross_entropy(network(batch.x), batch.y), theta)[0]
    rows = [
        torch.autograd.functional.jacobian(network, x, create_graph=True).square().sum()
        for x in batch.x
    ]
    value = torch.stack(rows).mean()
    drive = torch.autograd.grad(value, theta)[0]
    value, theta = value.detach(), theta.detach()
    tau = drive - (drive @ slope) / (slope @ slope) * slope
    assert path.regularizer[-1] == pytest.approx(float(value))
    assert path.kkt[-1] == pytest.approx(float(tau.norm() / drive.norm()))
    assert path.multiplier[-1] == pytest.approx(float(slope.norm() / drive.norm()))
    assert path.other("l2")[-1] == pytest.approx(float(theta.square().sum()))


def test_lengths_of_steps_are_kept_to_and_gradients_counted(monkeypatch):
    problem, calls = lla.Problem(*classifier(), check=False), []
    real = lla.Problem.loss_and_gradient
    monkeypatch.setattr(lla.Problem, "loss_and_gradient", lambda *a: calls.append(1) or real(*a))
    path = walk(problem, 0.9, steps=20, step=0.01, max_step=0.02)
    norm = np.linalg.norm(path.points[0])
    assert path.step[0] == 0
    assert path.step[1] <= 0.01 * norm * (1 + 1e-12)
    assert path.step.max() <= 0.02 * norm * (1 + 1e-12)
    assert (path.stopped, path.rejected_last) == ("all steps were taken", 0)
    assert path.gradients[-1] == len(calls)
    smooth = path.rejected[1:] == 0
    assert smooth.any()
    assert (np.diff(path.gradients)[smooth] == 1 + path.corrections[1:][smooth]).all()
    assert (np.diff(path.regularizer_gradients)[smooth] == 1).all()


def test_the_present_loss_is_a_level(problem):
    path = walk(problem, steps=2)
    assert path.level == path.loss[0] == float(problem.loss())
    np.testing.assert_array_equal(path.points[0], problem.theta().numpy())


def test_several_batches_are_one_loss(problem):
    (batch,) = problem.batches
    parts = [(batch.x[:7], batch.y[:7]), (batch.x[7:], batch.y[7:])]
    whole, split = (
        walk(each, 0.9, "kappa", steps=4, measured=("jacobian",), test=parts)
        for each in (problem, problem.over(parts))
    )
    np.testing.assert_allclose(split.points, whole.points, rtol=1e-9)
    np.testing.assert_allclose(split.values, whole.values, rtol=1e-9)


def test_test_data_are_measured_at_each_point(problem):
    x, y = torch.randn(9, 6, dtype=torch.float64), torch.arange(9) % 3
    path = walk(problem, 0.9, steps=3, test=(x, y))
    a, b, c, d = path.theta().split([48, 8, 24, 3])
    output = F.linear(torch.tanh(F.linear(x, a.view(8, 6), b)), c.view(3, 8), d)
    assert path.test_loss[-1] == pytest.approx(float(F.cross_entropy(output, y)))
    assert path.test_accuracy[-1] == pytest.approx(float((output.argmax(1) == y).double().mean()))
    assert path.lowest_test == path.test_loss.argmin()
    with pytest.raises(InputError, match="no test data"):
        _ = walk(problem, 0.9, steps=1).lowest_test


def test_a_free_exploration_stays_on_the_level_and_goes_ahead(problem):
    path = walk(problem, 0.9, None, steps=30, step=0.01, max_step=0.01)
    assert path.free
    assert path.deviation < 1.1e-9
    assert np.isnan(path.kkt).all()
    assert np.isnan(path.regularizer).all()
    moves = np.diff(path.points, axis=0)
    moves /= np.linalg.norm(moves, axis=1, keepdims=True)
    assert (moves[1:] * moves[:-1]).sum(1).min() > 0.9
    for theta, move in zip(path.points, moves, strict=False):
        slope = problem.gradient(torch.from_numpy(theta)).numpy()
        assert abs(move @ slope) / np.linalg.norm(slope) < 0.1
    other = walk(problem, 0.9, None, steps=2, seed=1)
    assert abs((other.points[1] - other.points[0]) @ moves[0]) < 0.5 * other.step[1]


def test_tangent_directions_are_projections():
    g = torch.Generator().manual_seed(0)
    slope, drive = torch.randn(2, 40, generator=g, dtype=torch.float64)
    normal = slope / slope.norm()
    P = torch.eye(40, dtype=torch.float64) - torch.outer(normal, normal)
    direction, kkt = steepest(slope, drive)
    torch.testing.assert_close(direction, -(P @ drive) / (P @ drive).norm())
    assert kkt == pytest.approx(float((P @ drive).norm() / drive.norm()))
    torch.testing.assert_close(projected(drive, slope), -direction)


@pytest.mark.parametrize("name", ["l2", None])
def test_a_killed_walk_goes_on_and_ends_equal(problem, tmp_path, monkeypatch, name):
    (batch,) = problem.batches
    how = {"steps": 12, "measured": ("jacobian", "trace"), "test": (batch.x, batch.y)}
    whole = walk(problem, 0.9, name, **how)
    monkeypatch.setattr(progress, "SAVE_EVERY", -1.0)  # after each point
    file, calls = tmp_path / "walk.npz", []
    real = lla.Problem.loss_and_gradient

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(lla.Problem, "loss_and_gradient", killed)
        with pytest.raises(KeyboardInterrupt):
            walk(problem, 0.9, name, checkpoint=file, **how)
    short = load_result(progress._Values, file)
    assert 1 < len(short.numbers) < 13
    for path in (walk(problem, 0.9, name, checkpoint=file, **how) for _ in range(2)):
        for field, value in vars(whole).items():
            np.testing.assert_array_equal(getattr(path, field), value, err_msg=field)
    longer = walk(problem, 0.9, name, checkpoint=file, **{**how, "steps": 15})
    np.testing.assert_array_equal(longer.loss[:13], whole.loss)
    np.testing.assert_array_equal(
        longer.points, walk(problem, 0.9, name, **{**how, "steps": 15}).points
    )
    for changed, said in (({"steps": 3}, "has 15 steps already"), ({"tol": 0.1}, "another walk")):
        with pytest.raises(InputError, match=said):
            walk(problem, 0.9, name, checkpoint=file, **{**how, **changed})
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ChecksumError):
        walk(problem, 0.9, name, checkpoint=file, **how)


def shifted(problem, theta):
    return theta.square().sum() - 1


OTHER_WALKS = {
    "random vectors": (level_sets.trace(), {"regularizer": level_sets.trace(1)}),
    "function of the same name": (
        lambda p, t: t.square().sum(),
        {"regularizer": lambda p, t: t[0]},
    ),
    "measured": ("l2", {"measured": [level_sets.smooth_l1(0.5)]}),
    "residual": ("l2", {"kkt_tol": 1e-3}),
}


@pytest.mark.parametrize("case", OTHER_WALKS)
def test_another_walk_of_the_same_name_does_not_go_on(problem, tmp_path, case):
    first, change = OTHER_WALKS[case]
    how = {"regularizer": first, "measured": ["smooth_l1"], "checkpoint": tmp_path / "walk.npz"}
    walk(problem, 0.9, steps=2, **how)
    with pytest.raises(InputError, match="another walk"):
        walk(problem, 0.9, steps=4, **{**how, **change})


def test_other_test_data_or_a_frozen_layer_are_another_walk(problem, tmp_path):
    (batch,) = problem.batches
    parts = [(batch.x[:9], batch.y[:9]), (batch.x[9:], batch.y[9:])]
    how = {"test": parts, "checkpoint": tmp_path / "walk.npz"}
    walk(problem, 0.9, steps=2, **how)
    other = [parts[0], (2 * parts[1][0], parts[1][1])]
    with pytest.raises(InputError, match="another walk"):
        walk(problem, 0.9, steps=4, **{**how, "test": other})
    problem.model[0].weight.requires_grad_(False)
    with pytest.raises(InputError, match="another walk"):
        walk(lla.Problem(problem.model, (batch.x, batch.y)), 0.9, steps=4, **how)


def test_what_is_measured_is_not_taken_for_another_of_the_same_name(problem):
    shifted.__name__ = "l2"
    path = walk(problem, 0.9, shifted, steps=2)
    assert path.walked == "l2"
    np.testing.assert_allclose(path.other("l2"), (path.points**2).sum(1))
    np.testing.assert_allclose(path.regularizer, (path.points**2).sum(1) - 1)


@pytest.mark.parametrize("start", [1.0, 0.0])
def test_a_free_exploration_without_a_tangent_is_refused(start):
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, start)
    x, y = torch.tensor([[1.0], [-1.0]]).double(), torch.ones(2).double()
    with pytest.raises(InputError, match="no tangent direction at the start"):
        walk(lla.Problem(model, (x, y), loss=squared), regularizer=None)


def test_a_regularizer_of_minus_infinity_is_no_fall(problem):
    start = problem.theta().square().sum()

    def falls_to_nothing(problem, theta):
        square = theta.square().sum()
        return square if square >= 0.99 * start else square - torch.inf

    path = walk(problem, regularizer=falls_to_nothing, steps=60)
    assert np.isfinite(path.regularizer).all()


def test_networks_with_relu_walk_and_say_what_was_rejected():
    problem = lla.Problem(*classifier(nn.ReLU))
    path = walk(problem, 0.9, "l2", steps=60, step=0.05, max_step=0.2)
    assert (np.diff(path.regularizer) < 0).all()
    lost = path.rejected.sum() + path.rejected_last
    assert path.rejection_rate == lost / (lost + len(path) - 1) > 0
    assert path.deviation <= path.tol


def test_float32_and_the_callers_model():
    model, batch = classifier(dtype=torch.float32)
    before = [p.clone() for p in model.parameters()]
    model.train()
    path = walk(lla.Problem(model, batch), 0.9, "trace", steps=5)
    assert (path.points.dtype, path.dtype) == (np.float32, "float32")
    assert (np.diff(path.regularizer) < 0).all()
    assert model.training
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is None


def nan_at_the_end(problem, theta):
    return theta.square().sum() * float("nan")


def not_tangent(problem, theta):
    (batch,) = problem.batches
    return 3 * problem.batch_loss(batch)(theta)


REFUSED = {
    "level": ({"level": -1.0}, InputError, "level is -1.0: give a positive number"),
    "level word": ({"level": "now"}, InputError, "level is 'now': give a positive number"),
    "unreachable": ({"level": 1e-30}, InputError, "but not to the level 1e-30: train"),
    "name": ({"regularizer": "l3"}, InputError, "no regularizer 'l3': choose from l2, smooth_l1,"),
    "kind": ({"regularizer": 3}, InputError, "the regularizer is int: give a name"),
    "nan": ({"regularizer": nan_at_the_end}, NonFiniteError, "nan_at_the_end is nan at the start"),
    "zero tangent": ({"regularizer": not_tangent}, InputError, "no gradient along the level set"),
    "constant": ({"regularizer": lambda p, t: torch.ones(())}, InputError, "does not depend on"),
    "detached": ({"regularizer": lambda p, t: t.detach().sum()}, InputError, "does not depend on"),
    "vector": ({"regularizer": lambda p, t: t}, InputError, r"gives \[83\]: let it return"),
    "measured": ({"measured": "l2"}, InputError, "measured is 'l2': give a list"),
    "no list": ({"measured": level_sets.l2()}, InputError, "give a list of regularizers"),
    "twice": ({"measured": ["l2", "l2"]}, InputError, "a regularizer twice"),
    "measured nan": ({"measured": [nan_at_the_end]}, NonFiniteError, "is nan at the start"),
    "tol": ({"tol": 1.0}, InputError, "tol is 1: choose a number below 1"),
    "momentum": ({"momentum": 1.0}, InputError, "momentum is 1: choose a number below 1"),
    "negative momentum": ({"momentum": -0.1}, InputError, "momentum is -0.1"),
    "step": ({"step": 1.0}, InputError, "step is 1, above max_step 0.015"),
    "steps": ({"steps": 0}, InputError, "steps is 0"),
    "seed": ({"seed": -1}, InputError, "the seed -1 is negative"),
    "keep_every": ({"keep_every": 0}, InputError, "keep_every is 0"),
    "folder": ({"checkpoint": "nowhere/walk.npz"}, InputError, "does not exist: make it first"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_walked_is_refused(problem, case):
    options, error, said = REFUSED[case]
    with pytest.raises(error, match=said):
        walk(problem, **options)


def test_problems_that_cannot_be_walked_are_refused(problem):
    model, batch = classifier()
    with pytest.raises(InputError, match="in train mode"):
        walk(lla.Problem(model, batch, mode="train"))
    with pytest.raises(InputError, match="not a lla\\.Problem"):
        walk(model)
    with pytest.raises(InputError, match="the loss is -"):
        walk(lla.Problem(model, batch, loss=lambda z, y: F.cross_entropy(z, y) - 9))
    tokens = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3))
    words = torch.randint(5, (6, 2)), torch.arange(6) % 3
    with pytest.raises(InputError, match="floating-point numbers, not torch\\.int64"):
        walk(lla.Problem(tokens, words), regularizer="jacobian")
    last = nn.Sequential(nn.Linear(6, 3), nn.Tanh()).double()
    with pytest.raises(InputError, match="no layer gives them: name a layer"):
        walk(lla.Problem(last, batch), regularizer="kappa")


def test_results_are_saved_shown_and_drawn(problem, tmp_path):
    (batch,) = problem.batches
    path = walk(problem, 0.9, "jacobian", steps=4, test=(batch.x, batch.y), keep_every=2)
    path.save(tmp_path / "path.npz")
    again = LevelPath.load(tmp_path / "path.npz")
    for field, value in vars(path).items():
        np.testing.assert_array_equal(getattr(again, field), value, err_msg=field)
    assert list(path.to_frame().columns)[-2:] == ["l2", "smooth_l1"]
    assert "jacobian" in repr(path)
    labels = [line.get_label() for line in path.plot().axes[0].lines]
    assert labels[:4] == ["jacobian", "l2", "smooth_l1", "test loss"]
    with pytest.raises(InputError, match="choose among l2, smooth_l1"):
        path.other("kappa")
    off = dataclasses.replace(path, loss=path.loss * 1.1)
    off.save(tmp_path / "off.npz")
    with pytest.raises(ChecksumError, match="leaves the level"):
        LevelPath.load(tmp_path / "off.npz")
