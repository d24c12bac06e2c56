import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader, TensorDataset

import lla
from lla.batches import Batches
from lla.landscape import accuracy
from lla.landscape.batchnorm import kind, recalibrated, statistics

CPU = torch.device("cpu")


def linear_and_norm():
    """The batch of a linear layer and BatchNorm, all in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).double()
        x, y = torch.randn(12, 3).double() + 1, torch.arange(12) % 4
    model[1].running_mean.fill_(5.0)
    model[1].running_var.fill_(7.0)
    return model, x, y


@pytest.mark.parametrize("sizes", [(12,), (6, 6), (7, 3, 2)])
def test_closed_form_after_a_linear_layer(sizes):
    model, x, y = linear_and_norm()
    problem = lla.Problem(model, (x, y))
    theta = problem.theta() * 1.5
    batches = Batches(list(zip(x.split(sizes), y.split(sizes), strict=True)), CPU)
    found = recalibrated(problem, theta, batches)
    weight, bias = theta[:12].view(4, 3).numpy(), theta[12:16].numpy()
    parts = [part.numpy() @ weight.T + bias for part in x.split(sizes)]
    share = np.array(sizes) / 12
    assert set(found) == {"1.running_mean", "1.running_var"}
    mean = sum(s * part.mean(0) for s, part in zip(share, parts, strict=True))
    var = sum(s * part.var(0, ddof=1) for s, part in zip(share, parts, strict=True))
    np.testing.assert_allclose(found["1.running_mean"], mean, rtol=1e-12)
    np.testing.assert_allclose(found["1.running_var"], var, rtol=1e-12)


def moved_model(case, factor=1.3):
    model = case.make()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(factor)
    return model


@pytest.mark.parametrize("sizes", [(8,), (5, 5, 5)])
@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("name", ["cnn_bn_eval", "residual_eval", "channels_last_eval"])
def test_is_what_swa_does_with_equal_batches(cases, name, momentum, sizes):
    case = cases.BY_NAME[name]
    model, batches = case.make(), case.batches(sizes)
    for layer in statistics(model).values():
        layer.momentum = momentum
    problem = lla.Problem(model, batches, case.loss)
    expected = moved_model(case)
    update_bn(batches, expected)
    found = recalibrated(problem, problem.theta() * 1.3, problem.batches)
    buffers = dict(expected.named_buffers())
    assert len(found) == 2 * len(statistics(model)) > 0
    for key, value in found.items():
        torch.testing.assert_close(value, buffers[key], rtol=1e-12, atol=1e-14)


def test_a_norm_that_is_the_whole_model():
    x = torch.randn(6, 3).double()
    problem = lla.Problem(nn.BatchNorm1d(3).double(), (x, torch.arange(6) % 3))
    found = recalibrated(problem, problem.theta(), problem.batches)
    torch.testing.assert_close(found["running_mean"], x.mean(0))
    torch.testing.assert_close(found["running_var"], x.var(0))


def test_dropout_stays_off():
    model = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3)).double()
    x = torch.randn(6, 3).double()
    problem = lla.Problem(model, (x, torch.arange(6) % 3))
    found = recalibrated(problem, problem.theta(), problem.batches)
    torch.testing.assert_close(found["1.running_mean"], x.mean(0))


def test_a_plane_with_recalibration_is_that_of_models_recalibrated_by_swa(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batches, other = case.make(), case.batches((6, 6)), case.batches((4, 4))
    other = [(x + 0.3, y) for x, y in other]
    problem = lla.Problem(model, batches, case.loss)
    row = torch.as_tensor(np.random.default_rng(0).normal(size=problem.space.size)) * 0.3
    for given, calibration in ((True, batches), (other, other)):
        for route in ("loop", "slices", None):
            line = lla.loss_plane(problem, [row], steps=4, recalibrate=given, route=route,
                                  scalars={"accuracy": accuracy})  # fmt: skip
            assert line.batchnorm == "recalibrated"
            for i, c in enumerate(line.a):
                expected = copy.deepcopy(model)
                moved = problem.theta() + c * row
                nn.utils.vector_to_parameters(moved, expected.parameters())
                update_bn(calibration, expected)
                loss, there = cases.plain_loss(expected, batches, case.loss)
                assert line.loss[i] == pytest.approx(loss.item(), rel=1e-11)
                x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
                right = (there(x).argmax(1) == y).double().mean()
                assert line.scalar("accuracy")[i] == pytest.approx(float(right))
            assert line.center == line.loss[2]
    plain = lla.loss_plane(problem, [row], steps=4)
    assert plain.batchnorm == "stored"
    assert not np.allclose(plain.loss, line.loss, rtol=1e-2)


def test_a_loader_of_calibration_batches():
    model, x, y = linear_and_norm()
    problem = lla.Problem(model, (x, y))
    row = torch.ones(problem.space.size).double()
    loader = DataLoader(TensorDataset(x, y), batch_size=6)
    held = list(zip(x.split(6), y.split(6), strict=True))
    lines = [lla.loss_plane(problem, [row], steps=2, recalibrate=r) for r in (loader, held)]
    assert np.array_equal(lines[0].loss, lines[1].loss)


def test_a_problem_whose_network_overwrites_its_input_keeps_its_batches():
    model, x, y = linear_and_norm()
    model = nn.Sequential(nn.ReLU(inplace=True), *model)
    kept = x.clone()
    problem = lla.Problem(model, (x, y))
    recalibrated(problem, problem.theta(), problem.batches)
    assert torch.equal(x, kept)


def test_without_batchnorm_it_says_so_and_goes_on():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    problem = lla.Problem(model, (torch.randn(4, 3), torch.tensor([0, 1, 2, 0])))
    row = torch.ones(problem.space.size)
    with pytest.warns(UserWarning, match="recalibrate: the model has no BatchNorm") as record:
        line = lla.loss_plane(problem, [row], steps=2, recalibrate=True)
    assert record[0].filename == __file__
    assert np.array_equal(line.loss, lla.loss_plane(problem, [row], steps=2).loss)
    assert line.batchnorm == "none"


def test_batchnorm_without_statistics_of_its_own_has_nothing_to_recalibrate():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False))
    problem = lla.Problem(model, (torch.randn(4, 3), torch.tensor([0, 1, 2, 0])))
    row = torch.ones(problem.space.size)
    with pytest.warns(UserWarning, match="no BatchNorm with stored statistics"):
        assert lla.loss_plane(problem, [row], steps=2, recalibrate=True).batchnorm == "batch"


def test_train_mode_is_refused():
    model, x, y = linear_and_norm()
    problem = lla.Problem(model, (x, y), mode="train")
    with pytest.raises(
        lla.InputError, match="in train mode BatchNorm takes the batch's statistics"
    ):
        lla.loss_plane(problem, steps=2, recalibrate=True)


def test_kind_of_statistics(cases):
    expected = {"cnn_bn_eval": "stored", "cnn_bn_train": "batch", "mlp_mse": "none"}
    assert {name: kind(cases.BY_NAME[name].problem()) for name in expected} == expected
    for mode, name in (("eval", "stored"), ("train", "batch")):
        model, x, y = linear_and_norm()
        problem = lla.Problem(model, (x, y), mode=mode)
        assert lla.loss_plane(problem, normalization="filter", steps=2).batchnorm == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, y: [(x, y), (x[:1], y[:1])],
            "batch 1 cannot recalibrate BatchNorm .Expected mo",
        ),
        (lambda x, y: (x[:, :2], y), "batch 0 cannot recalibrate BatchNorm .*give batches that"),
        (lambda x, y: [], "there is no batch"),
        (lambda x, y: iter([(x, y)]), "one-shot"),
        (lambda x, y: 3, "batches is int"),
    ],
)
def test_bad_calibration_batches(change, message):
    model, x, y = linear_and_norm()
    problem = lla.Problem(model, (x, y))
    with pytest.raises(lla.InputError, match=message):
        lla.loss_plane(problem, normalization="filter", steps=2, recalibrate=change(x, y))


def test_the_callers_model_stays(cases):
    case = cases.BY_NAME["residual_eval"]
    model = case.make()
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
    before = {name: t.clone() for name, t in model.state_dict().items()}
    flags = [(m.training, getattr(m, "momentum", None)) for m in model.modules()]
    state = torch.get_rng_state()
    problem = lla.Problem(model, case.batches((4, 3)), F.cross_entropy)
    recalibrated(problem, problem.theta() * 2, problem.batches)
    lla.loss_plane(problem, normalization="filter", steps=2, recalibrate=True)
    assert [(m.training, getattr(m, "momentum", None)) for m in model.modules()] == flags
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
