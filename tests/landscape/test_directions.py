import copy
import random
import re

import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.landscape import (
    HessianAxes,
    RandomAxes,
    adam_directions,
    hessian_directions,
    orthogonalized,
    plane_directions,
    random_directions,
)
from lla.landscape.directions import adameq_direction, check_axes, frozen, given_directions

LIKE = torch.zeros(20000, dtype=torch.float64)
X, Y = torch.rand(8, 3), torch.arange(8) % 3


def mlp():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))


def problem_of(model):
    return lla.Problem(model, (X, Y))


@pytest.mark.parametrize(("name", "law"), [("uniform", "uniform"), ("normal", "norm")])
def test_law_of_random_directions(name, law):
    first, second = random_directions(LIKE, 2, name, seed=4).numpy()
    assert scipy.stats.kstest(first, law).pvalue > 1e-3
    other = {"uniform": "norm", "normal": "uniform"}[name]
    assert scipy.stats.kstest(first, other).pvalue < 1e-6
    # without the part along the first, (u1.u2 / u1.u1) is what was taken from a draw like it
    share = {"uniform": 0.75, "normal": 0.0}[name]
    drawn = second + share * first
    assert np.abs(drawn.mean() - (0.5 if name == "uniform" else 0.0)) < 0.03
    if name == "uniform":
        assert 0 <= first.min() < 1e-3
        assert 0.999 < first.max() < 1
        taken = float(random_directions(LIKE, 1, name, seed=4)[0] @ torch.from_numpy(drawn))
        assert taken / float(first @ first) == pytest.approx(0.75, abs=1e-6)
        assert scipy.stats.kstest(drawn, "uniform").statistic < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["uniform", "normal"])
def test_random_directions_are_orthogonal(name, dtype):
    rows = random_directions(LIKE.to(dtype), 4, name).double()
    gram = rows @ rows.T
    scale = gram.diagonal().sqrt()
    cosines = (gram / scale / scale[:, None] - torch.eye(4)).abs()
    assert cosines.max() < (1e-7 if dtype == torch.float32 else 1e-14)


def test_a_random_direction_does_not_depend_on_how_many_there_are():
    four = random_directions(LIKE, 4, seed=2)
    for count in (1, 2, 3):
        assert torch.equal(random_directions(LIKE, count, seed=2), four[:count])
    assert not torch.equal(random_directions(LIKE, 1, seed=3)[0], four[0])
    single = random_directions(LIKE.float(), 2, seed=2)
    torch.testing.assert_close(single.double(), four[:2], rtol=1e-4, atol=1e-5)


def test_random_numbers_of_the_caller_stay():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    random_directions(LIKE, 2, "uniform")
    random_directions(LIKE, 2, "normal")
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_orthogonalized_is_the_qr_decomposition_up_to_lengths():
    rows = torch.as_tensor(np.random.default_rng(0).normal(size=(3, 10)))
    found = orthogonalized(rows)
    _, R = np.linalg.qr(rows.numpy().T)
    norms = found.norm(dim=1)
    np.testing.assert_allclose(norms, np.abs(np.diag(R)))
    gram = found @ found.T
    torch.testing.assert_close(gram, torch.diag(norms**2), rtol=0, atol=1e-13)
    assert torch.equal(found[0], rows[0])


def test_orthogonalized_passes_over_zero():
    rows = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    assert torch.equal(orthogonalized(rows), rows)


@pytest.mark.parametrize(("which", "chosen"), [("LA", (40.0, 15.0)), ("SA", (-60.0, -20.0)),
                                               ("LM", (-60.0, 40.0))])  # fmt: skip
def test_hessian_directions_are_eigenvectors(cases, which, chosen):
    values = [-60.0, -20.0, *np.linspace(-3.0, 2.0, 56).tolist(), 15.0, 40.0]
    A, vectors = cases.matrix(values)
    batch = (torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1))
    problem = lla.Problem(cases.Quadratic(torch.as_tensor(A)), batch, cases.take_output)
    rows = hessian_directions(problem, 2, which, tol=1e-8)
    assert rows.dtype == torch.float64
    for row, value in zip(rows.numpy(), chosen, strict=True):
        assert np.linalg.norm(row) == pytest.approx(1.0, rel=1e-12)
        assert abs(row @ vectors[:, values.index(value)]) == pytest.approx(1.0, abs=1e-10)
    restarted = hessian_directions(problem, 2, which, tol=1e-3, basis_size=20)
    assert (rows * restarted).sum(1).abs().tolist() == pytest.approx([1.0, 1.0], abs=1e-3)


def train(model, optimizer, steps=3):
    """Train, and return the moments of every parameter by name from the gradients that came."""
    moments = {name: [0.0, 0.0] for name, _ in model.named_parameters()}
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        for name, p in model.named_parameters():
            m, v = moments[name]
            moments[name] = [0.9 * m + 0.1 * p.grad, 0.99 * v + 0.01 * p.grad**2]
        optimizer.step()
    return moments


def in_reverse(model):
    """Adam that holds the parameters in another order than the model, in two groups."""
    last, *rest = reversed(list(model.parameters()))
    return torch.optim.Adam([{"params": rest}, {"params": [last], "lr": 0.1}], betas=(0.9, 0.99))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_adam_directions_are_the_moments_in_the_order_of_the_parameters(kind, reverse):
    model = mlp()
    optimizer = (
        in_reverse(model) if reverse
        else kind(model.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    )  # fmt: skip
    moments = train(model, optimizer)
    problem = problem_of(model)
    found = adam_directions(problem, optimizer)
    for row, k in zip(found, (0, 1), strict=True):
        expected = torch.cat([moments[name][k].flatten() for name in problem.space.names])
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-10)
    kept = found.clone()
    train(model, optimizer, 1)
    assert torch.equal(found, kept)  # a copy
    assert not torch.equal(adam_directions(problem, optimizer), kept)


def test_adameq_direction_is_the_step():
    moments = torch.tensor([[1.0, -2.0, 0.0, 3.0], [4.0, 1e-30, 0.0, 0.0]], dtype=torch.float64)
    m, v = moments.numpy()
    np.testing.assert_allclose(adameq_direction(moments)[0], m / (np.sqrt(v) + 1e-8), rtol=1e-14)


def test_adam_without_optimizer():
    with pytest.raises(lla.InputError, match="axes='adam' needs the optimizer that trained"):
        adam_directions(problem_of(mlp()), None)


@pytest.mark.parametrize("made", ["sgd", "momentum", "adamax", "no step"])
def test_adam_without_moments(made):
    model = mlp()
    optimizer = {
        "sgd": lambda: torch.optim.SGD(model.parameters(), lr=0.1),
        "momentum": lambda: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        "adamax": lambda: torch.optim.Adamax(model.parameters()),
        "no step": lambda: torch.optim.Adam(model.parameters()),
    }[made]()
    if made != "no step":
        train(model, optimizer)
    message = r"the optimizer holds no exp_avg(_sq)? of 0.weight: it must be Adam, and have made"
    with pytest.raises(lla.InputError, match=message):
        adam_directions(problem_of(model), optimizer)


def test_adam_of_another_model():
    model, other = mlp(), mlp()
    optimizer = torch.optim.Adam(other.parameters())
    train(other, optimizer)
    message = "the optimizer does not hold the parameter 0.weight: give the one that trained"
    with pytest.raises(lla.InputError, match=message):
        adam_directions(problem_of(model), optimizer)
    part = torch.optim.Adam(model[0].parameters())
    train(model, part)
    with pytest.raises(lla.InputError, match=r"does not hold the parameter 2\.weight"):
        adam_directions(problem_of(model), part)


def test_given_vectors_are_copied():
    problem = problem_of(mlp())
    rows = torch.randn(2, problem.space.size, generator=torch.Generator().manual_seed(0))
    for axes in (rows, list(rows), tuple(rows), rows.double()):
        found = given_directions(problem, axes)
        assert torch.equal(found, rows)
        assert found.dtype == torch.float32
    found.zero_()
    assert rows.any()
    assert not given_directions(problem, rows.clone().requires_grad_()).requires_grad
    assert given_directions(problem, rows[:1]).shape == (1, problem.space.size)


def test_other_models_are_the_way_to_them():
    model, *others = mlp(), mlp(), mlp()
    problem = problem_of(model)
    rows = given_directions(problem, others)
    for row, other in zip(rows, others, strict=True):
        flat = nn.utils.parameters_to_vector(other.parameters()).detach()
        torch.testing.assert_close(problem.theta() + row, flat)
    double = given_directions(problem, [copy.deepcopy(others[0]).double()])
    assert torch.equal(double, rows[:1])


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (torch.ones(31), "there are 31 axes: give two, or one for a line"),
        ([], "there are 0 axes"),
        (torch.ones(3, 31), "there are 3 axes"),
        (torch.ones(2, 30), r"a direction has shape \(30,\), the model 31 parameters: give one"),
        ([torch.ones(31), torch.ones(31, 1)], r"a direction has shape \(31, 1\)"),
        ([np.ones(31), np.ones(31)], "an axis is ndarray: give flat vectors or models"),
        (["0.weight"], "an axis is str"),
        ([nn.Linear(3, 4)], r"\(Linear, 16 parameters\) has other parameters than this one \(31\)"),
        (mlp(), "axes is Sequential: give a list of two vectors or models, or of one for a line"),
        (nn.Linear(3, 3), "axes is Linear: give a list"),
        (None, "axes is NoneType: give a list"),
    ],
)
def test_bad_axes(axes, message):
    with pytest.raises(lla.InputError, match=message):
        given_directions(problem_of(mlp()), axes)


def test_a_model_with_a_frozen_layer_is_another():
    other = mlp()
    other[0].requires_grad_(False)
    with pytest.raises(lla.InputError, match=r"15 parameters.*has other parameters"):
        given_directions(problem_of(mlp()), [other])


@pytest.mark.parametrize(
    ("freeze", "expected"),
    [
        (None, ()),
        ("0.*", ("0.weight", "0.bias")),
        ("re:bias$", ("0.bias", "2.bias")),
        (re.compile("^2"), ("2.weight", "2.bias")),
        (["0.bias", "2.b*"], ("0.bias", "2.bias")),
        (range(2), ("0.weight", "0.bias")),
        (range(3, 4), ("2.bias",)),
        (range(3, 0, -2), ("2.bias", "0.bias")),
    ],
)
def test_frozen_names(freeze, expected):
    assert frozen(problem_of(mlp()).space, freeze) == expected


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        ("conv*", "the parameter pattern 'conv\\*' matches none of the 4"),
        ([], "there is no parameter pattern"),
        (range(3, 5), r"freeze is range\(3, 5\) for 4 parameters: give positions from 0 to 3"),
        (range(-1, 2), "give positions from 0 to 3"),
        (range(0), "give positions from 0 to 3"),
        ("*", "freeze leaves no parameter to move"),
        (range(4), "freeze leaves no parameter to move"),
        ([0, 1], r"freeze is \[0, 1\]: give name patterns, or positions as a range"),
    ],
)
def test_bad_freeze(freeze, message):
    with pytest.raises(lla.InputError, match=message):
        frozen(problem_of(mlp()).space, freeze)


@pytest.mark.parametrize("freeze", ["0.*", range(2, 4), ["*.bias"]])
@pytest.mark.parametrize("normalization", [None, "weight", "filter", "layer", "model"])
@pytest.mark.parametrize("axes", ["random", "hessian", "given"])
def test_what_is_frozen_does_not_move(axes, normalization, freeze):
    problem = problem_of(mlp())
    given = torch.randn(2, problem.space.size, generator=torch.Generator().manual_seed(1))
    rows = plane_directions(
        problem, given if axes == "given" else axes, normalization=normalization, freeze=freeze
    )
    names = frozen(problem.space, freeze)
    for name, part in problem.space.unflatten(rows).items():
        assert bool(part.any()) == (name not in names)
    if normalization == "model":
        moving = [p.flatten() for n, p in problem.space.unflatten(problem.theta()).items()
                  if n not in names]  # fmt: skip
        expected = float(torch.cat(moving).norm())
        assert rows.norm(dim=1).tolist() == pytest.approx([expected] * 2, rel=1e-5)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
def test_random_axes_stay_orthogonal_after_freezing(distribution):
    problem = problem_of(mlp())
    rows = plane_directions(problem, RandomAxes(distribution), None, freeze="0.*").double()
    assert abs(float(rows[0] @ rows[1])) < 1e-6 * float(rows.norm(dim=1).prod())
    free = plane_directions(problem, RandomAxes(distribution), None)
    assert torch.equal(rows[0, 16:].float(), free[0, 16:])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 0.0], [0.0, 0.0]], "direction 1 is zero after normalization and freezing"),
        ([[0.0, 0.0]], "direction 0 is zero"),
        ([[1.0, 2.0], [2.0, 4.0]], r"the two directions are parallel \(cosine 1.0000000\)"),
        ([[1.0, 2.0], [-1.0, -2.0]], r"parallel \(cosine -1.0000000\): they span no plane"),
        ([[1e-30, 2e-30], [1.0, 2.0]], "parallel"),
    ],
)
def test_axes_that_span_no_plane(rows, message):
    with pytest.raises(lla.InputError, match=message):
        check_axes(torch.tensor(rows))
    check_axes(torch.tensor([[1e-30, 0.0], [0.0, 1e30]]))


def test_bad_random_directions():
    with pytest.raises(lla.InputError, match="distribution is 'gauss': choose 'normal' or 'unif"):
        random_directions(LIKE, 2, "gauss")
    with pytest.raises(lla.InputError, match="count is 0: give a whole number from 1"):
        random_directions(LIKE, 0)
    with pytest.raises(lla.InputError, match="the seed -1 is negative"):
        random_directions(LIKE, 2, seed=-1)


@pytest.mark.hard_use("More random directions than fit into their space, or memory, are refused")
def test_too_many_random_directions(monkeypatch):
    size = len(LIKE)
    for count in (size + 1, 10**400):
        with pytest.raises(lla.InputError, match=f"give a whole number from 1 to {size}"):
            random_directions(LIKE, count)
    monkeypatch.setattr("lla.free_memory.available_memory", lambda device: 10 * size)
    with pytest.raises(lla.InsufficientMemoryError, match=f"9 directions of {size} elements take"):
        random_directions(LIKE, 9)


class Ignored(nn.Module):
    """Computes with its input alone."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x.clone()


class Constant(nn.Module):
    """A loss that does not depend on the parameters, though the layer's output does."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        return x + 0 * self.layer(x)


@pytest.mark.parametrize("model", [Ignored, Constant])
@pytest.mark.parametrize("which", ["LA", "SA", "LM"])
def test_axes_of_a_hessian_that_is_zero(model, which):
    # issue 14, item 17: "direction 0 is zero" hid that the loss does not depend on the parameters
    problem = lla.Problem(model(), (torch.ones(4, 3), torch.arange(4) % 3))
    with pytest.raises(
        lla.InputError, match=r"the Hessian is zero, .* the loss does not depend on"
    ):
        lla.loss_plane(problem, HessianAxes(which), steps=2)


def test_a_zero_eigenvalue_of_a_hessian_that_is_not_zero(cases):
    A, _ = cases.matrix([-2.0, -1.0, 0.0, 0.0])
    batch = (torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1))
    problem = lla.Problem(cases.Quadratic(torch.as_tensor(A)), batch, cases.take_output)
    plane = lla.loss_plane(problem, "hessian", normalization=None, steps=2)
    assert plane.loss.shape == (3, 3)


def test_directions_that_change_no_output():
    problem = lla.Problem(Ignored(), (torch.ones(4, 3), torch.arange(4) % 3))
    said = "direction 0 changes no layer's output: the loss does not depend on the parameters"
    with pytest.raises(lla.InputError, match=said):
        lla.loss_plane(problem, steps=2)
    constant = lla.Problem(Constant(), (torch.ones(4, 3), torch.arange(4) % 3))
    assert np.ptp(lla.loss_plane(constant, steps=2).loss) == 0  # the layer's output changes


def test_axes_of_a_model_in_place_of_a_problem():
    for function in (lla.loss_plane, lambda model: lla.landscape.loss_planes(model, 2)):
        with pytest.raises(
            lla.InputError, match=r"is Sequential, not a lla.Problem: give lla.loss_plane\(lla.Prob"
        ):
            function(mlp())
