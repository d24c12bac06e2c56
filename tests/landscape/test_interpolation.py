"""The line between two checkpoints: its ends are the losses of both."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla.landscape import interpolate


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2)
    return model.double()


ONE, OTHER = network(0), network(1)
BATCH = (
    torch.randn(12, 3, generator=torch.Generator().manual_seed(0)).double(),
    torch.arange(12) % 3,
)
PROBLEM = lla.Problem(ONE, BATCH)


def as_model(tmp_path):
    return OTHER


def as_state(tmp_path):
    return OTHER.state_dict()


def as_file(tmp_path):
    torch.save(OTHER.state_dict(), tmp_path / "other.pt")
    return tmp_path / "other.pt"


def as_checkpoint(tmp_path):
    state = {f"module.{name}": tensor for name, tensor in OTHER.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "checkpoint.pt")
    return str(tmp_path / "checkpoint.pt")


def as_old_state(tmp_path):
    state = OTHER.state_dict()
    return {name: t for name, t in state.items() if not name.endswith("num_batches_tracked")}


KINDS = (as_model, as_state, as_file, as_checkpoint, as_old_state)


@pytest.mark.parametrize("kind", KINDS)
def test_every_point_is_the_loss_of_the_model_with_the_weights_between(kind, tmp_path):
    before = copy.deepcopy(ONE.state_dict())
    line = interpolate(PROBLEM, kind(tmp_path), steps=4, beyond=0.25)
    assert line.a.tolist() == [-0.25, 0, 0.25, 0.5, 0.75, 1, 1.25]
    assert line.loss[1] == PROBLEM.loss().item()
    between = copy.deepcopy(ONE)
    for a, loss in zip(line.a, line.loss, strict=True):
        state = {
            name: value + a * (OTHER.state_dict()[name] - value) if value.is_floating_point()
            else value
            for name, value in ONE.state_dict().items()
        }  # fmt: skip
        state["1.running_var"].clamp_(min=0)
        between.load_state_dict(state)
        assert loss == pytest.approx(lla.Problem(between, BATCH).loss().item(), rel=1e-12)
    assert line.loss[5] == pytest.approx(lla.Problem(OTHER, BATCH).loss().item(), rel=1e-12)
    for name, value in ONE.state_dict().items():
        assert torch.equal(value, before[name])


def test_along_a_flat_vector_the_buffers_stay():
    vector = lla.ParameterSpace.of(OTHER).read(OTHER)
    line = interpolate(PROBLEM, vector, steps=2, beyond=0)
    assert line.loss[-1] == pytest.approx(PROBLEM.at(vector).loss().item(), rel=1e-12)
    assert line.batchnorm == "stored"


def test_the_picture_marks_both_ends(tmp_path):
    line = interpolate(PROBLEM, OTHER, steps=4)
    line.save(tmp_path / "line.npz")
    for each in (line, lla.Plane.load(tmp_path / "line.npz")):
        ax = each.plot().axes[0]
        ends = [line.get_xdata()[0] for line in ax.get_lines() if len(line.get_xdata()) == 2]
        assert ends == [0.0, 1.0]
        assert ax.get_xlabel() == "share of the way to the other weights"
    assert "Line of Sequential, 12 examples, eval mode: 7 points" in repr(line)


def changed(**tensors):
    return OTHER.state_dict() | tensors


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        (ONE, {}, "direction 0 is zero"),
        (changed(**{"0.bias": torch.full((5,), torch.nan)}), {}, "the other weights hold NaN"),
        (changed(**{"0.bias": torch.ones(4)}), {}, "the state dict does not fit Sequential"),
        (changed(extra=torch.ones(4)), {}, "the state dict has besides extra"),
        ({"0.weight": torch.ones(5, 3)}, {}, "the state dict lacks 0.bias"),
        (nn.Linear(2, 2), {}, "Linear|4 elements|parameters"),
        (torch.ones(3).double(), {}, "weights 0 have 3 elements, not"),
        (OTHER, {"steps": 0}, "steps is 0"),
        (OTHER, {"beyond": -1}, "beyond is -1: give a number from 0 to 10"),
        (OTHER, {"beyond": float("nan")}, "beyond is nan"),
        (OTHER, {"normalization": "filter"}, "interpolate has no option normalization"),
    ],
)  # fmt: skip
def test_bad_lines(other, options, message):
    with pytest.raises(lla.InputError, match=message):
        interpolate(PROBLEM, other, **options)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(lla.MissingDataError, match=r"there is no weight file .*none\.pt"):
        interpolate(PROBLEM, tmp_path / "none.pt")
    with pytest.raises(lla.InputError, match=r"not a lla\.Problem"):
        interpolate(ONE, OTHER)


def test_ctrl_c_keeps_what_was_finished(tmp_path):
    file, seen = tmp_path / "line.npz", []

    def interrupted(problem):
        seen.append(1)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return 1.0

    with pytest.raises(KeyboardInterrupt):
        interpolate(PROBLEM, OTHER, steps=4, scalars={"s": interrupted}, checkpoint=file)
    seen += [1]  # so that it is not interrupted again
    line = interpolate(PROBLEM, OTHER, steps=4, scalars={"s": interrupted}, checkpoint=file)
    assert len(seen) == 4 + 1 + (len(line.a) - 3)  # three points were finished
    np.testing.assert_array_equal(line.loss, interpolate(PROBLEM, OTHER, steps=4).loss)
