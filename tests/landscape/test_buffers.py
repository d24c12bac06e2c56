"""Issue 14, item 8: buffers go along to another model."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

import lla
from lla.landscape import accuracy


def batch(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(24) % 3
    x = torch.randn(24, 4, generator=generator, dtype=torch.float64) + 2.0 * y[:, None]
    return x.to(dtype), y


def trained(seed, steps, dtype=torch.float64):
    """A network with BatchNorm, trained in train mode, so that its statistics have moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    model.to(dtype)
    x, y = batch(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def own_loss(model, data):
    """The loss of a model by itself, in eval mode."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        return F.cross_entropy(model(data[0]), data[1]).item()


def between(models, coefficients):
    """A model with all floating tensors on the way, written out."""
    found = copy.deepcopy(models[0])
    states = [model.state_dict() for model in models]
    state = {}
    for name, start in states[0].items():
        state[name] = start.clone()
        if start.is_floating_point():
            for c, other in zip(coefficients, states[1:], strict=True):
                state[name] = state[name] + c * (other[name] - start)
            if name.endswith("running_var"):
                state[name] = state[name].clamp(min=0)
    found.load_state_dict(state)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("route", ["loop", "slices", None])
def test_a_line_ends_at_the_other_model(route, dtype):
    model, other = trained(0, 0, dtype), trained(1, 60, dtype)
    problem = lla.Problem(model, batch(dtype))
    line = lla.loss_plane(
        problem, [other], distance=4.0, steps=16, route=route, scalars={"accuracy": accuracy}
    )
    rtol = 1e-5 if dtype == torch.float32 else 1e-12
    place = line.a.tolist().index(1.0)
    assert line.loss[place] == pytest.approx(own_loss(other, batch(dtype)), rel=rtol)
    x, y = batch(dtype)
    right = (copy.deepcopy(other).eval()(x).argmax(1) == y).double().mean().item()
    assert line.scalar("accuracy")[place] == pytest.approx(right)
    assert line.batchnorm == "interpolated"
    for c, loss in zip(line.a, line.loss, strict=True):  # beyond both ends too
        assert loss == pytest.approx(own_loss(between([model, other], [c]), batch(dtype)), rel=rtol)
    # without its statistics the other model is another one: what was returned before
    halfway = between([model, other], [1.0])
    halfway[1].load_state_dict(
        {**model[1].state_dict(), "weight": other[1].weight, "bias": other[1].bias}
    )
    assert abs(own_loss(halfway, batch(dtype)) / line.loss[place] - 1) > 0.5


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_plane_to_two_models(in_memory):
    models = [trained(seed, 15 * seed) for seed in range(3)]
    x, y = batch()
    batches = (x, y) if in_memory else DataLoader(TensorDataset(x, y), batch_size=10)
    problem = lla.Problem(models[0], batches)
    plane = lla.loss_plane(problem, models[1:], coordinates=([-0.5, 0.0, 1.0], [0.0, 0.7, 1.0]))
    for i, a in enumerate(plane.a):
        for j, b in enumerate(plane.b):
            expected = own_loss(between(models, [a, b]), (x, y))
            assert plane.loss[i, j] == pytest.approx(expected, rel=1e-12)
    assert plane.loss[1, 0] == problem.loss()


def test_along_vectors_and_with_a_normalization_the_buffers_stay():
    model, other = trained(0, 0), trained(1, 20)
    problem = lla.Problem(model, batch())
    vector = lla.ParameterSpace.of(other).read(other) - problem.theta()
    end = between([model, other], [1.0])
    end[1].load_state_dict(
        {**model[1].state_dict(), "weight": other[1].weight, "bias": other[1].bias}
    )
    line = lla.loss_plane(problem, [vector], coordinates=([0.0, 1.0],))
    assert line.loss[1] == pytest.approx(own_loss(end, batch()), rel=1e-12)
    assert line.batchnorm == "stored"
    mixed = lla.loss_plane(problem, [vector, trained(2, 9)], coordinates=([0.0, 1.0], [0.0, 1.0]))
    assert mixed.loss[1, 0] == pytest.approx(line.loss[1], rel=1e-12)
    assert mixed.loss[0, 1] == pytest.approx(own_loss(trained(2, 9), batch()), rel=1e-12)
    scaled = lla.loss_plane(problem, [other], normalization="filter", steps=2)
    same = lla.loss_plane(problem, [vector], normalization="filter", steps=2)
    assert np.array_equal(scaled.loss, same.loss)


def test_recalibration_takes_the_place_of_the_other_statistics():
    model, other = trained(0, 0), trained(1, 20)
    line = lla.loss_plane(
        lla.Problem(model, batch()), [other], coordinates=([0.0, 1.0],), recalibrate=True
    )
    expected = copy.deepcopy(other)
    update_bn([batch()], expected)
    assert line.loss[1] == pytest.approx(own_loss(expected, batch()), rel=1e-12)
    assert line.batchnorm == "recalibrated"


@pytest.mark.parametrize("route", ["vmap:4", "stacked:4"])
def test_other_routes_are_refused_by_name(route):
    problem = lla.Problem(trained(0, 0), batch())
    with pytest.raises(lla.InputError, match=f"'{route}' cannot move buffers .*take route='loop'"):
        lla.loss_plane(problem, [trained(1, 5)], steps=2, route=route)
    lla.loss_plane(problem, [trained(0, 0), trained(1, 0)][1:], steps=2, route=route)  # all equal


class Masked(nn.Module):
    """Floating, integer and frozen tensors beside the weights."""

    def __init__(self, scale=1.0, shift=0, fixed=1.0):
        super().__init__()
        self.layer = nn.Linear(4, 3).double()
        self.fixed = nn.Parameter(torch.full((3,), fixed).double(), requires_grad=False)
        self.register_buffer("mask", torch.tensor([0.0, 0.0, -torch.inf]).double())
        self.register_buffer("scale", torch.tensor(scale).double())
        self.register_buffer("shift", torch.tensor(shift))

    def forward(self, x):
        scores = self.layer(x).roll(int(self.shift), 0) * self.scale * self.fixed
        return (scores + self.mask).clamp(min=-10)


def test_equal_infinite_elements_stay():
    model, other = Masked(), Masked(scale=3.0)
    line = lla.loss_plane(lla.Problem(model, batch()), [other], coordinates=([0.0, 0.5, 1.0],))
    expected = [own_loss(between_finite(model, other, c), batch()) for c in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(line.loss, expected, rtol=1e-12)


def between_finite(model, other, c):
    found = copy.deepcopy(model)
    with torch.no_grad():
        for kind in ("weight", "bias"):
            here, there = getattr(found.layer, kind), getattr(other.layer, kind)
            here += c * (there - here)
        found.scale += c * (other.scale - found.scale)
    return found


class NoStatistics(Masked):
    def __init__(self):
        super().__init__()
        del self.scale
        self.scale = 1.0


class OtherShape(Masked):
    def __init__(self):
        super().__init__()
        self.scale = torch.ones(3).double()


class NotFinite(Masked):
    def __init__(self):
        super().__init__()
        self.scale = torch.tensor(torch.nan).double()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            NoStatistics,
            r"buffer scale is missing in .* and of shape \(\) in this one: give a model of",
        ),
        (OtherShape, r"buffer scale is of shape \(3,\) in .* and of shape \(\) in this"),
        (NotFinite, "the buffer scale of the model that an axis points to differs by NaN or infin"),
        (lambda: Masked(shift=1), "the torch.int64 buffer shift .* none lie between: give"),
        (lambda: Masked(fixed=2.0), "the parameter fixed, which is not trained, differs in the mo"),
    ],
)
def test_models_that_are_no_end_of_a_line(other, message):
    with pytest.raises(lla.InputError, match=message):
        lla.loss_plane(lla.Problem(Masked(), batch()), [other()], steps=2)


def test_the_checkpoint_of_a_plane_to_other_statistics_is_refused(tmp_path):
    model, other = trained(0, 0), trained(1, 5)
    again = copy.deepcopy(other)
    again[1].running_mean += 1
    problem, file = lla.Problem(model, batch()), tmp_path / "line.npz"
    first = lla.loss_plane(problem, [other], steps=2, checkpoint=file)
    assert np.array_equal(
        lla.loss_plane(problem, [other], steps=2, checkpoint=file).loss, first.loss
    )
    with pytest.raises(lla.InputError, match="holds the values of another plane"):
        lla.loss_plane(problem, [again], steps=2, checkpoint=file)


def test_neither_model_changes():
    model, other = trained(0, 3), trained(1, 5)
    before = [copy.deepcopy(m.state_dict()) for m in (model, other)]
    lla.loss_plane(lla.Problem(model, batch()), [other], steps=4, scalars={"accuracy": accuracy})
    for m, state in zip((model, other), before, strict=True):
        assert all(torch.equal(t, state[name]) for name, t in m.state_dict().items())
