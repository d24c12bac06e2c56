import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.landscape import accuracy, negative_ratio, top_eigenvalue


def direct_accuracy(model, batches):
    right = sum(int((model(x).argmax(1) == y).sum()) for x, y in batches)
    return right / sum(len(y) for _, y in batches)


@pytest.mark.parametrize("name", ["cnn_bn_eval", "fire", "layer_norm_tanh", "tied"])
def test_accuracy_is_the_share_of_right_answers(cases, name):
    case = cases.BY_NAME[name]
    model, batches = case.make(), case.batches((31, 20, 7))
    expected = direct_accuracy(model.eval(), batches)
    assert accuracy(lla.Problem(model, batches, case.loss)) == pytest.approx(expected, abs=1e-15)
    assert 0 < expected < 1


def test_accuracy_in_train_mode_is_that_of_batch_statistics(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batches = case.make(), case.batches((31, 20))
    found = accuracy(lla.Problem(model, batches, case.loss, "train"))
    assert found == pytest.approx(direct_accuracy(model.train(), batches), abs=1e-15)


def test_accuracy_of_logits_and_of_pictures_of_classes():
    class Wide(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 1)

        def forward(self, x):
            return self.conv(x)

    model, x, y = Wide(), torch.randn(2, 1, 4, 4), torch.randint(0, 3, (2, 4, 4))
    expected = float((model(x).argmax(1) == y).double().mean())
    assert accuracy(lla.Problem(model, (x, y))) == pytest.approx(expected)


def test_nan_is_no_answer():
    model = nn.Linear(2, 3)
    x = torch.tensor([[1.0, 0.0], [torch.nan, 0.0], [1.0, 1.0]])
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    problem = lla.Problem(model, (x, torch.zeros(3, dtype=torch.long)))
    assert accuracy(problem) == pytest.approx(2 / 3)


def test_accuracy_needs_classes():
    problem = lla.Problem(nn.Linear(2, 2), (torch.ones(3, 2), torch.ones(3, 2)), F.mse_loss)
    with pytest.raises(lla.InputError, match="accuracy needs class indices as targets"):
        accuracy(problem)


def quadratic(cases, values, dtype=torch.float64):
    A, _ = cases.matrix(values)
    batch = (torch.zeros(1, 1, dtype=dtype), torch.zeros(1))
    return lla.Problem(cases.Quadratic(torch.as_tensor(A, dtype=dtype)), batch, cases.take_output)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_top_eigenvalue_of_a_quadratic(cases, dtype):
    values = [-50.0, *np.linspace(-1, 1, 30), 7.0]
    assert top_eigenvalue(quadratic(cases, values, dtype)) == pytest.approx(7.0, rel=1e-2)


def test_scalars_on_a_plane_are_those_at_its_points(cases):
    case = cases.BY_NAME["layer_norm_tanh"]
    model, batches = case.make(), case.batches((9, 4))
    problem = lla.Problem(model, batches, case.loss)
    plane = lla.loss_plane(
        problem, normalization="filter", steps=2, distance=4.0,
        scalars={"accuracy": accuracy, "loss": lambda there: there.loss().item(),
                 "e": top_eigenvalue},
    )  # fmt: skip
    assert plane.names == ("accuracy", "loss", "e")
    assert plane.scalars.shape == (3, 3, 3)
    assert plane.scalars.dtype == np.float64
    np.testing.assert_allclose(plane.scalar("loss"), plane.loss, rtol=1e-14)
    rows = lla.landscape.plane_directions(problem, normalization="filter")
    for i, a in enumerate(plane.a):
        for j, b in enumerate(plane.b):
            moved = case.make()
            theta = problem.theta() + a * rows[0] + b * rows[1]
            nn.utils.vector_to_parameters(theta, moved.parameters())
            right = direct_accuracy(moved, batches)
            assert plane.scalar("accuracy")[i, j] == pytest.approx(right, abs=1e-15)
            top = np.linalg.eigvalsh(cases.plain_hessian(moved, batches, case.loss).numpy())[-1]
            assert plane.scalar("e")[i, j] == pytest.approx(top, rel=0.02)


def test_top_eigenvalue_is_the_same_all_over_a_quadratic(cases):
    problem = quadratic(cases, [-2.0, 0.5, 1.0, 3.0])
    plane = lla.loss_plane(problem, normalization=None, steps=2, scalars={"top": top_eigenvalue})
    np.testing.assert_allclose(plane.scalar("top"), 3.0, rtol=1e-3)


def test_a_small_extreme_beside_a_large_one(cases):
    bulk = np.linspace(-1, 0.1, 200)
    assert top_eigenvalue(quadratic(cases, [-100.0, *bulk, 0.5])) == pytest.approx(0.5, rel=1e-2)
    found = negative_ratio(quadratic(cases, [-0.02, *np.linspace(0, 0.5, 100), 1.0]))
    assert found == pytest.approx(0.02, rel=2e-2)


@pytest.mark.parametrize(
    ("values", "expected"), [([-2.0, 0.5, 1.0, 8.0], 0.25), ([0.5, 1.0], 0.0), ([-9.0, 3.0], 3.0)]
)
def test_negative_ratio_of_a_quadratic(cases, values, expected):
    assert negative_ratio(quadratic(cases, values)) == pytest.approx(expected, rel=1e-3)


def test_negative_ratio_of_a_network(cases):
    case = cases.BY_NAME["layer_norm_tanh"]
    model, batches = case.make(), case.batches((9, 4))
    values = np.linalg.eigvalsh(cases.plain_hessian(model, batches, case.loss).numpy())
    found = negative_ratio(lla.Problem(model, batches, case.loss))
    assert found == pytest.approx(-values[0] / values[-1], rel=0.03)


def test_without_a_positive_eigenvalue_there_is_no_ratio(cases):
    problem = quadratic(cases, [-2.0, -1.0, -0.5])
    with pytest.raises(lla.NonFiniteError, match="r_e needs a positive one"):
        negative_ratio(problem)
    plane = lla.loss_plane(problem, normalization=None, steps=2, scalars={"r_e": negative_ratio})
    assert np.isnan(plane.scalar("r_e")).all()


def test_a_scalar_that_is_not_finite_somewhere_does_not_end_the_plane():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    problem = lla.Problem(model, (torch.ones(1, 1), torch.zeros(1)), lambda o, y: (o**4).sum())
    line = lla.loss_plane(
        problem, [torch.ones(1)], coordinates=([-1e15, 0.0, 1.0],), scalars={"top": top_eigenvalue}
    )
    assert line.loss.tolist() == [np.inf, 1.0, 16.0]
    assert np.isnan(line.scalar("top")[0])
    np.testing.assert_allclose(line.scalar("top")[1:], [12.0, 48.0], rtol=1e-5)


def test_an_error_in_a_scalar_is_raised(cases):
    def broken(problem):
        raise KeyError("broken")

    problem = quadratic(cases, [1.0, 2.0])
    with pytest.raises(KeyError, match="broken"):
        lla.loss_plane(problem, normalization=None, steps=2, scalars={"broken": broken})
