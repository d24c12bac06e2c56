"""`lla.Tracker`: its rows are those of `lla.criteria`, and what goes wrong ends no training."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla

OPTIONS = {"steps": 8, "probes": 3, "target_stderr": None}


@pytest.fixture
def model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


@pytest.fixture
def batch():
    return torch.randn(12, 4, generator=torch.Generator().manual_seed(2)), torch.arange(12) % 3


def follow(model, batches, **options):
    return lla.Tracker(model, batches, **{"every": 1, "share": 1.0, **OPTIONS, **options})


def is_that_of(row, crit):
    values = [(each.value, each.stderr) for each in (crit.re, crit.kh1, crit.kh05)]
    pairs = [(row.re, row.re_stderr), (row.kh1, row.kh1_stderr), (row.kh05, row.kh05_stderr)]
    return pairs == values and (row.loss, row.products) == (crit.loss, crit.matvecs)


def broken(model):
    """The model with a weight that is NaN; a function that mends it."""
    good = model[0].weight.detach().clone()
    model[0].weight.data[0, 0] = math.nan
    return lambda: model[0].weight.data.copy_(good)


def said_in(*calls):
    """What functions give, and the warnings in all of them."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        return [*(call() for call in calls), said]


# what is measured


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_rows_are_the_criteria_at_their_steps(model, batch, mode):
    model.insert(1, nn.Dropout(0.2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    following = follow(model, batch, every=3, mode=mode, seed=4)
    expected = {}
    for step in range(1, 8):
        F.cross_entropy(model(batch[0]), batch[1]).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert (following.step() is not None) == (step in (3, 6))
        expected[step] = lla.criteria(model, batch, mode, seed=4, **OPTIONS)
    assert [row.step for row in following.rows] == [3, 6]
    assert all(is_that_of(row, expected[row.step]) for row in following.rows)
    assert following.rows[0].re != following.rows[1].re


def test_by_default_the_target_is_over_probes(model, batch):
    batches = [(batch[0][:6], batch[1][:6]), (batch[0][6:], batch[1][6:])]
    following = lla.Tracker(model, batches, every=1, probes=200, steps=40)
    row = following.step()
    direct = lla.criteria(
        model, batches, probes=200, steps=40, target_stderr=lla.Target(0.1, over="probes")
    )
    assert (row.re, row.kh1, row.kh1_stderr) == (
        direct.re.value, direct.kh1.value, direct.kh1.stderr
    )  # fmt: skip
    assert row.converged
    assert row.kh1_stderr < 0.1 * row.kh1
    assert row.kh05 is None


def test_steps_and_epochs_are_taken_as_given(model, batch):
    following = follow(model, batch, every=5)
    assert following.step(0, epoch=0).step == 0
    assert following.step(4, epoch=0.5) is None
    assert following.step(11, epoch=1.25).epoch == 1.25
    assert following.step(11) is None
    assert following.measure().step == 11
    assert [row.step for row in following.rows] == [0, 11]


def test_measuring_needs_no_step(model, batch):
    following = follow(model, batch)
    assert following.measure().step == 0
    assert following.share_spent == 1


# how much time it takes


def test_measurements_take_their_share_of_the_time(model, batch, clock):
    clock.cost = 2.0
    following = follow(model, batch, every=10, share=0.1)
    for _ in range(500):
        clock.now += 1.0
        following.step()
    steps = [row.step for row in following.rows]
    # a measurement takes the time of two steps, so one in twenty seconds, eighteen of them training
    assert steps[0] == 10
    assert len(steps) == 27
    assert following.share_spent == pytest.approx(54 / (499 + 54))
    assert following.share_spent < 0.1
    assert [row.seconds for row in following.rows] == [2.0] * 27


def test_one_in_ten_epochs_is_made_whatever_it_costs(model, batch, clock):
    clock.cost = 1000.0
    following = follow(model, batch, every=10, share=0.05)
    for step in range(1, 501):
        clock.now += 1.0
        following.step(step, epoch=step // 20)
    assert [(row.step, row.epoch) for row in following.rows] == [(10, 0), (200, 10), (400, 20)]


# a model that changes


def test_a_model_of_another_type_is_measured_as_it_is(model, batch):
    def loss(model, batch):
        x, y = batch
        return F.cross_entropy(model(x.to(next(model.parameters()).dtype)), y)

    following = follow(model, batch, loss=loss)
    single = following.step()
    model.double()
    row = following.step()
    assert is_that_of(row, lla.criteria(model, batch, loss=loss, **OPTIONS))
    assert row.re == pytest.approx(single.re, rel=1e-3)
    assert row.re != single.re


def test_a_model_of_another_type_than_its_batches_is_not_measured(model, batch):
    following = follow(model, batch)
    model.double()
    with pytest.warns(UserWarning, match="step 1 was not measured, InputError: "):
        row = following.step()
    assert row.re is None
    assert "float32" in row.note
    assert "\n" not in row.note


def test_half_precision_is_not_measured(model, batch):
    following = follow(model, batch)
    model.bfloat16()
    with pytest.warns(UserWarning, match="too imprecise for second derivatives"):
        assert following.step().re is None


def test_new_parameters_are_seen(model, batch):
    following = follow(model, batch)
    before = following.step()
    model[2] = nn.Linear(6, 3)
    row = following.step()
    assert is_that_of(row, lla.criteria(model, batch, **OPTIONS))
    assert row.re != before.re


def test_frozen_and_thawed_parameters_are_seen(model, batch):
    following = follow(model, batch)
    first = following.step()
    model[0].requires_grad_(False)
    frozen = following.step()
    assert is_that_of(frozen, lla.criteria(model, batch, **OPTIONS))
    model[0].requires_grad_(True)
    thawed = following.step()
    assert frozen.re != first.re == thawed.re
    assert thawed.kh1 == first.kh1


def test_a_model_without_values_is_not_measured(model, batch):
    following = follow(model, batch)
    model.to("meta")
    with pytest.warns(UserWarning, match="0.weight is on the meta device and has no values"):
        assert following.step().re is None


def test_a_model_that_moved_is_measured_where_it_is(model, batch, device):
    following = follow(model, torch.utils.data.DataLoader([*zip(*batch, strict=True)], 6))
    expected = following.step()
    row = follow(model.to(device), batch).step()
    assert following.step().kh1 == pytest.approx(expected.kh1, rel=1e-3)
    assert row.loss == pytest.approx(expected.loss, rel=1e-5)


def test_a_loader_is_read_without_a_trace(model, batch):
    generator = torch.Generator().manual_seed(7)
    loader = torch.utils.data.DataLoader([*zip(*batch, strict=True)], 6, generator=generator)
    following = follow(model, loader)
    before = generator.get_state()
    assert following.step().re == lla.criteria(model, list(loader), **OPTIONS).re.value
    list(loader)
    generator.set_state(before)
    following.step()
    assert torch.equal(generator.get_state(), before)


# what goes wrong


def test_a_loss_that_is_nan_is_noted_and_training_goes_on(model, batch):
    following = follow(model, batch)
    mend = broken(model)
    row, _, said = said_in(following.step, following.step)
    assert [str(each.message) for each in said] == [f"step 1 was not measured, {row.note}"]
    assert said[0].filename == __file__
    assert row.note.startswith("NonFiniteError: the loss of batch 0 is nan")
    assert (row.re, row.kh1, row.loss, row.products, row.converged) == (None,) * 5
    assert row.seconds > 0
    mend()
    assert is_that_of(following.step(), lla.criteria(model, batch, **OPTIONS))
    assert following.to_frame()["re"].isna().tolist() == [True, True, False]


def test_strict_raises(model, batch):
    following = follow(model, batch, strict=True)
    broken(model)
    with pytest.raises(lla.NonFiniteError):
        following.step()


def test_an_error_in_the_loss_is_noted(model, batch):
    calls = []

    def loss(output, y):
        if calls:
            raise KeyError("labels\nand more")
        return F.cross_entropy(output, y)

    following = follow(model, batch, loss=loss)
    calls.append(1)
    with pytest.warns(UserWarning, match="step 1 was not measured"):
        row = following.step()
    assert "labels" in row.note
    assert "\n" not in row.note


def test_ctrl_c_ends_the_training_and_leaves_the_model_as_it_was(model, batch):
    stop = []

    def loss(output, y):
        if stop:
            raise KeyboardInterrupt
        return F.cross_entropy(output, y)

    following = follow(model, batch, loss=loss)
    parameters = [*model.parameters()]
    called = []
    model[0].weight.register_hook(called.append)
    stop.append(1)
    with pytest.raises(KeyboardInterrupt):
        following.step()
    assert following.rows == ()
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert model.training
    F.cross_entropy(model(batch[0]), batch[1]).backward()
    assert len(called) == 1


def test_what_criteria_warns_of_is_noted_and_said_once(model, batch):
    following = follow(model, batch, target_stderr=1e-9)
    first, _, second, said = said_in(
        following.step, lambda: model[0].weight.data.mul_(1.5), following.step
    )
    assert len(said) == 1
    assert str(said[0].message) in first.note
    assert "1e-09 was asked for" in second.note != first.note
    assert (first.converged, second.converged) == (False, False)
    assert first.re is not None


def test_warnings_that_are_errors_leave_the_row(model, batch):
    following = follow(model, batch, target_stderr=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="1e-09"):
            following.step()
    assert following.rows[0].re is not None


def test_autocast_is_refused_and_no_grad_is_not(model, batch):
    following = follow(model, batch)
    expected = following.step()
    with torch.no_grad():
        assert following.step().re == expected.re
    context = torch.autocast("cpu", torch.bfloat16)
    with context, pytest.warns(UserWarning, match="autocast is on"):
        assert following.step().re is None


# arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"every": 1.5}, "every is 1.5: give a whole number"),
        ({"share": 0}, "share is 0"),
        ({"share": 1.5}, "share is 1.5: give a part of the time"),
        ({"share": math.nan}, "share is nan"),
        ({"share": "much"}, "share is 'much'"),
        ({"most_epochs": 0}, "most_epochs is 0"),
        ({"writer": 3}, "writer is int without add_scalar"),
        ({"resume": True}, "resume needs the file of the rows: give csv="),
        ({"step": 8}, "there is no option of lla.criteria 'step': did you mean 'steps'"),
        ({"model": None}, "got multiple values|there is no option"),
        ({"steps": 0}, "steps is 0"),
        ({"probes": 0}, "probes is 0"),
        ({"mode": "test"}, "mode is 'test'"),
        ({"reading": "x"}, "reading is 'x'"),
        ({"route": "x"}, "route is 'x'"),
        ({"seed": -1}, "the seed -1 is negative"),
        ({"target_stderr": 0}, "target_stderr is 0 for re"),
        ({"target_stderr": {"k": 0.1}}, "target_stderr names 'k'"),
        ({"target_stderr": 0.1, "legacy": True}, "legacy has no bounds"),
        ({"precision": "half"}, "precision is 'half'"),
    ],
)
def test_bad_arguments_are_refused_before_the_training(model, batch, options, message):
    with pytest.raises((lla.InputError, TypeError), match=message):
        follow(model, batch, **options)


def test_batches_that_do_not_fit_are_refused_before_the_training(model, batch):
    with pytest.raises(lla.InputError, match="the model rejects the input of batch 0"):
        follow(model, (batch[0][:, :2], batch[1]))
    with pytest.raises(lla.InputError, match="a one-shot generator"):
        follow(model, (pair for pair in [batch]))
    with pytest.raises(lla.InputError, match="no batch"):
        follow(model, [])


def test_steps_do_not_fall(model, batch):
    following = follow(model, batch, every=10)
    following.step(5)
    with pytest.raises(lla.InputError, match="the step is 4 after 5: make a new Tracker"):
        following.step(4)
    with pytest.raises(lla.InputError, match="step is -1"):
        follow(model, batch).step(-1)
    with pytest.raises(lla.InputError, match="epoch is nan"):
        following.step(6, epoch=math.nan)
