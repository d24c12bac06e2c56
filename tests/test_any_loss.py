"""Losses of every kind and forms of batches: issue 14, items 3, 5, 6, 14 and 17.

The right values are those of double backward on the user's own model (`cases.own_hessian`) with
all examples in one batch.
"""

import copy
import re
from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

import lla
from lla.errors import InputError

X = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3).sin()
Y = torch.tensor([0, 1, 1, 0, 1])
BATCHES = [(X[:3], Y[:3]), (X[3:], Y[3:])]


def hessian(problem, route="retained"):
    """The Hessian [P, P] by lla; to measure the routes takes longer than all products."""
    eye = torch.eye(problem.space.size, dtype=problem.dtype)
    return lla.HessianOperator(problem, route=route) @ eye


def mlp():
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()


def assert_right(problem, expected, value):
    """Loss, Hessian, trace and the centre of a plane are the right ones."""
    torch.testing.assert_close(problem.loss(), value.detach())
    torch.testing.assert_close(hessian(problem), expected)
    trace = lla.trace(lla.HessianOperator(problem, route="retained"))
    assert trace.value == pytest.approx(expected.trace().item(), rel=1e-8)
    plane = lla.loss_plane(problem, steps=2)
    assert plane.center == pytest.approx(value.item(), rel=1e-12)


# ---- 3: losses that read the model by closure


def penalty_of_the_model(model):
    return lambda: sum(p.square().sum() for p in model.parameters())


def penalty_where_trained(model):
    return lambda: sum(p.square().sum() for p in model.parameters() if p.requires_grad)


def penalty_of_a_list(model):
    made_before = list(model.parameters())
    return lambda: sum(p.square().sum() for p in made_before)


def penalty_of_one_tensor(model):
    weight = model[0].weight
    return lambda: torch.linalg.matrix_norm(weight) ** 4


def penalty_of_a_stack(model):
    made_before = dict(model.named_parameters())
    return lambda: torch.cat([p.flatten() for p in made_before.values()]).square().sum()


def penalty_by_operators(model):
    weight = model[2].weight
    return lambda: (weight**2 + 1 - 1).sum() + (2 * weight[0] @ weight[1]) ** 2


def penalty_of_the_state(model):
    return lambda: sum(p.square().sum() for p in model.state_dict(keep_vars=True).values())


def penalty_of_an_optimiser(model):
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    return lambda: sum(p.square().sum() for g in optimiser.param_groups for p in g["params"])


PENALTIES = [
    penalty_of_the_model, penalty_where_trained, penalty_of_a_list, penalty_of_one_tensor,
    penalty_of_a_stack, penalty_by_operators, penalty_of_the_state, penalty_of_an_optimiser,
]  # fmt: skip


@pytest.mark.parametrize("make", PENALTIES)
def test_3_a_penalty_by_closure_is_part_of_everything(cases, make):
    model = mlp()
    penalty = make(model)
    plain = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    value = F.cross_entropy(model(X), Y) + 0.3 * penalty()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y) + 0.3 * penalty())
    assert (expected - plain).norm() > 0.1

    def loss(output, y):
        return F.cross_entropy(output, y) + 0.3 * penalty()

    problem = lla.Problem(model, (X, Y), loss=loss)
    assert_right(problem, expected, value)
    # and elsewhere
    theta = problem.theta() + 0.5
    found = problem.loss(theta)
    nn.utils.vector_to_parameters(theta.clone(), model.parameters())
    torch.testing.assert_close(found, loss(model(X), Y).detach())


def test_3_a_penalty_in_a_module_that_holds_the_model(cases):
    class Loss(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, output, y):
            return F.cross_entropy(output, y) + sum(
                p.square().sum() for p in self.model.parameters()
            )

    model = mlp()
    loss = Loss(model)
    expected = cases.own_hessian(model, lambda: loss(model(X), Y))
    assert_right(lla.Problem(model, (X, Y), loss=loss), expected, loss(model(X), Y))


def test_3_a_penalty_by_closure_of_a_float32_model_in_float64(cases):
    model = mlp().float()
    penalty = penalty_of_a_list(model)
    twin = copy.deepcopy(model).double()
    expected = cases.own_hessian(
        twin,
        lambda: (
            F.cross_entropy(twin(X.float().double()), Y)
            + sum(p.square().sum() for p in twin.parameters())
        ),
    )
    problem = lla.Problem(
        model,
        (X.float(), Y),
        loss=lambda out, y: F.cross_entropy(out, y) + penalty(),
        precision="float64",
    )
    torch.testing.assert_close(hessian(problem), expected)


class Field(nn.Module):
    """u(x) of a differential equation."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(1, 3), nn.Linear(3, 1)

    def forward(self, x):
        return self.last(torch.tanh(self.first(x)))


POINTS = torch.linspace(0, 1, 4, dtype=torch.float64).reshape(4, 1)


def residual(model, batch):
    """Mean of (u'' + u)^2."""
    x = batch.clone().requires_grad_()
    u = model(x)
    (du,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    (ddu,) = torch.autograd.grad(du.sum(), x, create_graph=True)
    return (ddu + u).square().mean()


def test_3_a_residual_of_model_and_batch(cases):
    model = Field().double()
    expected = cases.own_hessian(model, lambda: residual(model, POINTS))
    problem = lla.Problem(model, POINTS, loss=residual)
    unchecked = lla.Problem(model, POINTS, loss=residual, check=False)
    assert unchecked.loss() == problem.loss()
    assert_right(problem, expected, residual(model, POINTS))
    three = lla.Problem(model, [POINTS[:2], POINTS[2:3], POINTS[3:]], loss=residual)
    torch.testing.assert_close(hessian(three), expected)


def test_3_a_residual_by_closure(cases):
    model = Field().double()
    expected = cases.own_hessian(model, lambda: residual(model, POINTS))
    problem = lla.Problem(
        model, (POINTS, torch.zeros_like(POINTS)), loss=lambda u, y: residual(model, POINTS)
    )
    assert_right(problem, expected, residual(model, POINTS))


@pytest.mark.parametrize("before", [False, True])
def test_3_a_penalty_of_the_gradient_by_the_parameters(cases, before):
    model = mlp()
    made_before = list(model.parameters())

    def loss(output, y):
        value = F.cross_entropy(output, y)
        parameters = made_before if before else list(model.parameters())
        parts = torch.autograd.grad(value, parameters, create_graph=True)
        return value + sum(part.square().sum() for part in parts)

    expected = cases.own_hessian(model, lambda: loss(model(X), Y))
    assert_right(lla.Problem(model, (X, Y), loss=loss), expected, loss(model(X), Y))


def penalty_by_numpy(model):
    weight = model[0].weight
    return lambda: float((weight.detach().numpy() ** 2).sum())


def penalty_without_graph(model):
    made_before = list(model.parameters())

    def penalty():
        with torch.no_grad():
            return sum(p.square().sum() for p in made_before)

    return penalty


@pytest.mark.parametrize("make", [penalty_by_numpy, penalty_without_graph])
def test_3_what_plain_backward_takes_as_a_constant_moves_on_a_plane(cases, make):
    """It is no part of the Hessian, by plain double backward either."""
    model = mlp()
    penalty = make(model)

    def loss(output, y):
        return F.cross_entropy(output, y) + penalty()

    expected = cases.own_hessian(model, lambda: loss(model(X), Y))
    problem = lla.Problem(model, (X, Y), loss=loss)
    torch.testing.assert_close(hessian(problem), expected)
    theta = problem.theta() + 0.5
    found = problem.loss(theta)
    nn.utils.vector_to_parameters(theta.clone(), model.parameters())
    torch.testing.assert_close(found, loss(model(X), Y).detach())


def stale_penalty(model):
    """Computed once, from the parameters at this time."""
    kept = model[0].weight.square().sum()
    return lambda: kept


def penalty_of_an_alias(model):
    """A tensor with the parameter's memory that torch knows nothing of."""
    alias = model[0].weight.detach().requires_grad_()
    return lambda: alias.square().sum()


def penalty_of_a_view(model):
    view = model[0].weight.view(-1)
    return lambda: view.square().sum()


@pytest.mark.parametrize("make", [stale_penalty, penalty_of_a_view, penalty_of_an_alias])
def test_3_what_was_taken_from_the_model_before_is_refused_by_name(make):
    model = mlp()
    penalty = make(model)
    with pytest.raises(InputError, match=r"0\.weight as a tensor that was taken or computed"):
        lla.Problem(model, (X, Y), loss=lambda out, y: F.cross_entropy(out, y) + penalty())


# ---- 5: half precision inside


class Autocast(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.linear(x).float()


def test_5_autocast_inside_of_forward_is_refused():
    with pytest.raises(InputError, match=r"computes .* in torch\.bfloat16.* leave out autocast"):
        lla.Problem(Autocast(), (X.float(), Y))


def test_5_a_loss_in_bfloat16_is_refused():
    def loss(output, y):
        return F.cross_entropy(output.bfloat16(), y).float()

    with pytest.raises(InputError, match=r"computes .* in torch\.bfloat16.* too imprecise"):
        lla.Problem(mlp().float(), (X.float(), Y), loss=loss)
    with pytest.raises(InputError, match=r"bfloat16"):
        lla.Problem(
            mlp().float(), (X.float(), Y), loss=lambda o, y: F.cross_entropy(o.bfloat16(), y)
        )


# ---- 6: how batches are put together

WEIGHT = torch.tensor([1.0, 5.0], dtype=torch.float64)
IGNORED = torch.tensor([0, -100, -100, 0, 1])
LOSSES_6 = {
    "class weights": (nn.CrossEntropyLoss(weight=WEIGHT), Y),
    "class weights, called": (lambda out, y: F.cross_entropy(out, y, weight=WEIGHT), Y),
    "ignore_index": (None, IGNORED),
    "another ignore_index": (nn.CrossEntropyLoss(ignore_index=0), Y),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), Y),
    "sum of another": (lambda out, y: (out**4).sum(), Y),
    "mean of another": (lambda out, y: (out**4).mean(), Y),
    "nll of log_softmax": (
        lambda out, y: F.nll_loss(F.log_softmax(out, 1), y, weight=WEIGHT),
        Y,
    ),
}


@pytest.mark.parametrize("kind", LOSSES_6)
def test_6_unequal_batches_give_what_all_examples_at_once_give(cases, kind):
    loss, y = LOSSES_6[kind]
    model = mlp()
    plain = F.cross_entropy if loss is None else loss
    expected = cases.own_hessian(model, lambda: plain(model(X), y))
    problem = lla.Problem(model, [(X[:3], y[:3]), (X[3:], y[3:])], loss=loss)
    assert_right(problem, expected, plain(model(X), y))


def root_mean_square(output, y):
    return (output - y[:, None]).square().mean().sqrt()


def test_6_a_loss_that_is_no_mean_and_no_sum_is_refused_and_may_be_weighed(cases):
    model = mlp()
    with pytest.raises(InputError, match=r"neither the mean nor the sum .* give weights="):
        hessian(lla.Problem(model, BATCHES, loss=root_mean_square))
    expected = cases.own_hessian(
        model,
        lambda: (
            0.25 * root_mean_square(model(X[:3]), Y[:3])
            + 0.75 * root_mean_square(model(X[3:]), Y[3:])
        ),
    )
    problem = lla.Problem(model, BATCHES, loss=root_mean_square, weights=[1, 3])
    torch.testing.assert_close(hessian(problem), expected)
    # one batch has no such question
    one = cases.own_hessian(model, lambda: root_mean_square(model(X), Y))
    torch.testing.assert_close(hessian(lla.Problem(model, (X, Y), loss=root_mean_square)), one)


class OwnLoss(nn.Module):
    """A model in the manner of Hugging Face's: tokens and labels to loss and logits."""

    def __init__(self, give=SimpleNamespace):
        super().__init__()
        self.embedding = nn.Embedding(4, 2)
        self.last = nn.Linear(2, 4)
        self.give = give

    def forward(self, input_ids, labels=None):
        logits = self.last(torch.tanh(self.embedding(input_ids)))
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return self.give(loss=loss, logits=logits)


IDS = torch.tensor([[0, 1, 2], [3, 2, 1], [1, 1, 0], [2, 0, 3], [0, 3, 3]])
LABELS = torch.tensor([[1, 2, -100], [2, 1, 3], [-100, -100, 1], [0, 3, 0], [3, -100, -100]])


def parts(*places):
    return [{"input_ids": IDS[part], "labels": LABELS[part]} for part in places]


WHOLE, HALVES = parts(slice(None)), parts(slice(0, 3), slice(3, 5))


@pytest.mark.parametrize("give", [SimpleNamespace, dict])
def test_6_and_14_a_model_that_returns_its_own_loss(cases, give):
    model = OwnLoss(give).double()

    def value():
        found = model(IDS, LABELS)
        return found["loss"] if give is dict else found.loss

    expected = cases.own_hessian(model, value)
    assert_right(lla.Problem(model, HALVES), expected, value())


# ---- 14: mappings as batches


class Tokens(Dataset):
    def __len__(self):
        return len(IDS)

    def __getitem__(self, i):
        return {"input_ids": IDS[i], "labels": LABELS[i]}


SOURCES = {
    "a list of dicts": lambda: HALVES,
    "a bare dict": lambda: WHOLE[0],
    "a DataLoader of dicts": lambda: DataLoader(Tokens(), batch_size=3),
    "a list of UserDicts": lambda: [UserDict(each) for each in HALVES],
    "a bare UserDict": lambda: UserDict(WHOLE[0]),
    "pairs": lambda: [(each, each["labels"]) for each in HALVES],
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "loss", [None, lambda out, y: out.loss, lambda output, labels: output["loss"]]
)
def test_14_batches_that_are_mappings(cases, source, loss):
    by_key = loss is not None and "labels" in loss.__code__.co_varnames
    model = OwnLoss(dict if by_key else SimpleNamespace).double()

    def value():
        return F.cross_entropy(
            model.last(torch.tanh(model.embedding(IDS))).flatten(0, 1), LABELS.flatten()
        )

    expected = cases.own_hessian(model, value)
    problem = lla.Problem(model, SOURCES[source](), loss=loss)
    torch.testing.assert_close(problem.loss(), value().detach())
    torch.testing.assert_close(hessian(problem), expected)


def test_14_a_loss_of_logits_and_labels(cases):
    model = OwnLoss().double()

    def loss(logits, labels):
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())

    expected = cases.own_hessian(model, lambda: loss(model(IDS).logits, LABELS))
    torch.testing.assert_close(hessian(lla.Problem(model, HALVES, loss=loss)), expected)


def test_14_a_loss_of_model_and_batch(cases):
    model = OwnLoss().double()

    def loss(model, batch):
        return model(**batch).loss

    expected = cases.own_hessian(model, lambda: model(IDS, LABELS).loss)
    torch.testing.assert_close(hessian(lla.Problem(model, HALVES, loss=loss)), expected)
    plane = lla.loss_plane(lla.Problem(model, HALVES, loss=loss), steps=2)
    assert plane.center == pytest.approx(model(IDS, LABELS).loss.item(), rel=1e-12)
    assert np.isfinite(plane.loss).all()


# ---- 12: losses without a second derivative


def ctc(output, y):
    scores = F.log_softmax(output, 1)[:, None]
    return F.ctc_loss(
        scores, torch.ones(1, 1, dtype=torch.long), torch.tensor([5]), torch.tensor([1])
    )


WITHOUT = {
    "ctc_loss": ctc,
    "cdist": lambda out, y: torch.cdist(out, out + 1).mean(),
    "multi_margin_loss": F.multi_margin_loss,
}


@pytest.mark.parametrize("name", WITHOUT)
def test_12_losses_without_a_second_derivative_are_named(name):
    problem = lla.Problem(mlp(), (X, Y), loss=WITHOUT[name])
    with pytest.raises(InputError, match=rf"PyTorch has no second derivative of {name}"):
        lla.HessianOperator(problem)


def test_12_an_embedding_bag_is_named():
    model = nn.Sequential(nn.EmbeddingBag(4, 2, mode="max"), nn.Linear(2, 2)).double()
    problem = lla.Problem(model, (IDS, Y))
    with pytest.raises(InputError, match=r"(?i)no second derivative of .*embedding_?bag"):
        lla.HessianOperator(problem)


# ---- 17: cross entropy of one output

ONE = [None, F.cross_entropy, nn.CrossEntropyLoss()]


@pytest.mark.parametrize("loss", ONE)
def test_17_cross_entropy_of_one_output_hints_at_the_binary_one(loss):
    """It is 0 whatever the weights."""
    model = nn.Linear(3, 1).double()
    with pytest.raises(InputError, match=re.escape("binary_cross_entropy_with_logits")):
        lla.Problem(model, (X, torch.zeros(5, dtype=torch.long)), loss=loss)


def test_17_other_losses_of_one_output_are_taken(cases):
    model = nn.Linear(3, 1).double()

    def binary(output, y):
        return F.binary_cross_entropy_with_logits(output[:, 0], y.double())

    expected = cases.own_hessian(model, lambda: binary(model(X), Y))
    torch.testing.assert_close(hessian(lla.Problem(model, (X, Y), loss=binary)), expected)


def test_a_loss_that_differentiates_by_the_parameters(cases):
    """One step of gradient descent inside of the loss (MAML)."""

    def after_a_step(model, batch):
        x, y = batch
        names, own = zip(*model.named_parameters(), strict=True)
        loss = F.cross_entropy(model(x[:4]), y[:4])
        steps = torch.autograd.grad(loss, own, create_graph=True)
        moved = {n: p - 0.1 * g for n, p, g in zip(names, own, steps, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, moved, (x[4:],)), y[4:])

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        x = torch.randn(8, 3).double()
    batch = x, torch.arange(8) % 3
    problem = lla.Problem(model, batch, after_a_step)
    H = lla.HessianOperator(problem)
    expected = cases.own_hessian(model, lambda: after_a_step(model, batch))
    torch.testing.assert_close(H @ torch.eye(len(expected)).double(), expected)
    plane = lla.loss_plane(problem, steps=2)
    assert plane.loss[1, 1] == pytest.approx(after_a_step(model, batch).item())


def test_modules_that_the_loss_has_captured_are_as_before(cases):
    """A discriminator in train mode has statistics, and vectors of a power iteration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = nn.Linear(3, 3).double(), torch.randn(6, 3).double()
        last = nn.utils.parametrizations.spectral_norm(nn.Linear(4, 1))
        judge = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), last).double()
    before = {name: tensor.clone() for name, tensor in judge.state_dict().items()}

    def loss(output, y):
        return F.softplus(judge(output)).mean()

    problem = lla.Problem(model, (x, torch.zeros(6)), loss)
    assert problem.loss() == problem.loss()
    H = lla.HessianOperator(problem)
    found = H @ torch.eye(12).double()
    assert all(torch.equal(before[name], t) for name, t in judge.state_dict().items())
    expected = cases.own_hessian(model, lambda: copy.deepcopy(loss_of(judge))(model(x)))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def loss_of(judge):
    """The judge's loss as a module, of which a copy can be made."""
    return nn.Sequential(judge, nn.Softplus(), Mean())


class Mean(nn.Module):
    def forward(self, x):
        return x.mean()


def masked(output, y):
    """A mean over the targets that are not padding, written by hand."""
    keep = (y >= 0).to(output.dtype)
    return (F.cross_entropy(output, y.clamp(min=0), reduction="none") * keep).sum() / keep.sum()


@pytest.mark.parametrize("padded", [1, 2])
def test_6_a_first_batch_that_hides_what_the_loss_is_a_mean_over(padded):
    batches = [(X[:3], Y[:3].clone()) for _ in range(3)]
    batches[padded][1][0] = -1
    problem = lla.Problem(mlp(), batches, masked)
    with pytest.raises(InputError, match=rf"the loss of batch {padded} is not the mean"):
        problem.loss()
    assert lla.Problem(mlp(), batches, masked, weights=[3, 2, 3]).loss().isfinite()
