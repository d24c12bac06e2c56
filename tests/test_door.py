"""The check of derivatives before the first product: issue 14, item 4 and "the door".

The right values are those of double backward on the user's own model (`cases.own_hessian`) where
PyTorch has them right, of written-out formulas, and of central differences of plain gradients.
"""

import copy
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrizations

import lla
from lla.errors import InputError

X = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3).sin()
Y = torch.tensor([0, 1, 1, 0, 1])


def hessian(problem, route="retained"):
    """The Hessian [P, P] by lla; to measure the routes takes longer than all products."""
    eye = torch.eye(problem.space.size, dtype=problem.dtype)
    return lla.HessianOperator(problem, route=route) @ eye


def assert_close(found, expected):
    """Within the error of central differences."""
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


# ---- 4: right by formulas

WEIGHT_NORMS = {
    "old": nn.utils.weight_norm,
    "old, one norm": lambda layer: nn.utils.weight_norm(layer, dim=None),
    "new": parametrizations.weight_norm,
    "new, dim 1": lambda layer: parametrizations.weight_norm(layer, dim=1),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", WEIGHT_NORMS)
def test_4_weight_norm(cases, kind):
    model = nn.Sequential(WEIGHT_NORMS[kind](nn.Linear(3, 2)), nn.Tanh(), nn.Linear(2, 2)).double()
    problem = lla.Problem(model, (X, Y))
    H = hessian(problem, route=None)
    assert_close(H, cases.differenced_hessian(model, lambda: F.cross_entropy(model(X), Y)))
    torch.testing.assert_close(H, H.T)


class Force(nn.Module):
    """The derivative of an energy by the input, as force models have it."""

    def __init__(self, norm):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 4), norm, nn.Linear(4, 1)

    def forward(self, x):
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            energy = self.last(torch.tanh(self.norm(self.first(x)))).sum()
            return torch.autograd.grad(energy, x, create_graph=True)[0]


NORMS = {
    "LayerNorm": (lambda: nn.LayerNorm(4), "eval"),
    "LayerNorm without weights": (lambda: nn.LayerNorm(4, elementwise_affine=False), "eval"),
    "BatchNorm, train": (lambda: nn.BatchNorm1d(4), "train"),
    "BatchNorm, eval": (lambda: nn.BatchNorm1d(4), "eval"),
}


@pytest.mark.parametrize("kind", NORMS)
def test_4_normalization_in_a_force_model(cases, kind):
    make, mode = NORMS[kind]
    model = Force(make()).double()
    model.train(mode == "train")
    target = torch.full_like(X, 0.1)
    problem = lla.Problem(model, (X, target), loss=F.mse_loss, mode=mode)
    found = hessian(problem)
    twin = copy.deepcopy(model)
    expected = cases.differenced_hessian(twin, lambda: F.mse_loss(twin(X), target))
    assert expected.norm() > 0.01
    assert_close(found, expected)


# ---- 4: refused with the module's name


class OnceSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class StoredSquare(torch.autograd.Function):
    """Its derivative is a constant for autograd: the product is symmetric and wrong."""

    @staticmethod
    def forward(ctx, x):
        ctx.derivative = 2 * x.detach()
        return x**2

    @staticmethod
    def backward(ctx, g):
        return ctx.derivative * g


class FarTanh(torch.autograd.Function):
    """Its second derivative is lost where |x| > 1, so that smaller weights do not show it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        derivative = 1 - torch.tanh(x) ** 2
        return g * torch.where(x.abs() > 1, derivative.detach(), derivative)


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Doubled(torch.autograd.Function):
    """A gradient that is twice the derivative, and has a right derivative of its own."""

    @staticmethod
    def forward(ctx, x):
        return x**2

    @staticmethod
    def backward(ctx, g):
        return 2 * g


@pytest.mark.parametrize("function", [StoredSquare.apply, lambda x: x * x.detach()])
def test_4_a_derivative_that_is_kept_as_a_constant_is_refused_by_name(function):
    model = nn.Sequential(nn.Linear(3, 2), Apply(function), nn.Linear(2, 2)).double()
    with pytest.raises(InputError, match=r"(differs by|not symmetric).* in 1 \(Apply\)"):
        lla.HessianOperator(lla.Problem(model, (X, Y)))


def test_4_once_differentiable_is_refused():
    model = nn.Sequential(nn.Linear(3, 2), Apply(OnceSquare.apply), nn.Linear(2, 2)).double()
    with pytest.raises(InputError, match=r"once_differentiable|in 1 \(Apply\)"):
        lla.HessianOperator(lla.Problem(model, (X, Y)))


class Detaches(nn.Module):
    """A scale that depends on the weights and is detached."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        out = self.linear(x)
        return out / out.detach().norm()


def test_4_a_detached_part_is_refused():
    with pytest.raises(InputError, match=r"not symmetric|differs by"):
        lla.HessianOperator(lla.Problem(Detaches().double(), (X, Y)))


def test_4_a_detached_branch_without_parameters_is_right(cases):
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 2)

        def forward(self, x):
            return self.linear(x) * x.detach().mean(1, keepdim=True)

    model = Gate().double()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    torch.testing.assert_close(hessian(lla.Problem(model, (X, Y))), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_door_finds_it_in_both_types(dtype):
    model = nn.Sequential(nn.Linear(3, 2), Apply(StoredSquare.apply), nn.Linear(2, 2)).to(dtype)
    with pytest.raises(InputError, match=r"in 1 \(Apply\)"):
        lla.HessianOperator(lla.Problem(model, (X.to(dtype), Y)))


def test_the_door_finds_a_hook_that_changes_gradients():
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()
    model[0].weight.register_hook(lambda g: 2 * g)
    with pytest.raises(InputError, match=r"gradient differs by .* plain backward"):
        lla.HessianOperator(lla.Problem(model, (X, Y)))


class Silent(torch.autograd.Function):
    """Its derivative raises an error without a message."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError


def test_an_error_without_a_message_is_named_by_its_type():
    model = nn.Sequential(nn.Linear(3, 2), Apply(Silent.apply))
    with pytest.raises(InputError, match=r"has no Hessian \(RuntimeError\): use operations"):
        lla.HessianOperator(lla.Problem(model, (X.float(), Y)))


# ---- the door itself


def test_check_false_turns_the_door_off(cases):
    model = nn.Sequential(nn.Linear(3, 2), Apply(StoredSquare.apply), nn.Linear(2, 2)).double()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    torch.testing.assert_close(hessian(lla.Problem(model, (X, Y), check=False)), expected)


class Counts(nn.Module):
    """Counts its calls, and the examples that it was given."""

    calls = examples = 0

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x):
        Counts.calls += 1
        Counts.examples += len(x)
        return self.linear(x).sin()


def counted(function):
    """Calls of the model during a function, its examples, and what the function gives."""
    Counts.calls = Counts.examples = 0
    found = function()
    return Counts.calls, Counts.examples, found


def test_the_door_runs_once_a_problem():
    problem = lla.Problem(Counts().double(), (X, Y))
    first, _, _ = counted(lambda: lla.HessianOperator(problem, route="fresh"))
    second, _, _ = counted(lambda: lla.HessianOperator(problem, route="fresh"))
    unchecked = lla.Problem(problem.model, (X, Y), check=False)
    without, _, _ = counted(lambda: lla.HessianOperator(unchecked, route="fresh"))
    assert second == without == 1  # the loss
    assert 1 < first <= 1 + 12


def test_the_door_and_the_problem_take_a_constant_number_of_passes():
    def passes(count):
        batches = [(X, Y)] * count
        made, _, problem = counted(lambda: lla.Problem(Counts().double(), batches))
        used, _, _ = counted(lambda: lla.HessianOperator(problem, route="fresh"))
        return made, used - count  # the loss calls the model once a batch

    assert passes(1) == passes(7)


def test_the_door_looks_at_few_examples():
    x, y = X.repeat(40, 1), Y.repeat(40)
    problem = lla.Problem(Counts().double(), (x, y))
    _, examples, _ = counted(lambda: lla.HessianOperator(problem, route="fresh"))
    assert examples <= len(x) + 50


def test_criteria_of_many_batches_pass_the_door_once():
    model, batches = Counts().double(), [(X, Y)] * 5
    options = {"probes": 1, "steps": 2, "route": "fresh"}
    few, _, _ = counted(lambda: lla.criteria(model, batches[:2], **options))
    many, _, _ = counted(lambda: lla.criteria(model, batches, **options))
    one, _, _ = counted(lambda: lla.criteria(model, batches[:1], **options))
    assert many - few <= 3 * (few - one)  # what a further batch takes, and no more


class Writes(nn.Module):
    """Draws from every generator, and counts its calls in a buffer."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        noise = random.random() + np.random.rand() + torch.rand(())  # noqa: NPY002
        return self.drop(self.norm(self.linear(x))) * noise


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_door_restores_what_its_passes_change(mode):
    model = Writes().double()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [module.training for module in model.modules()]

    def states():
        return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002

    drawn = states()
    lla.HessianOperator(lla.Problem(model, (X, Y), mode=mode))
    assert states() == drawn
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert [module.training for module in model.modules()] == flags
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_the_door_restores_the_model_when_it_refuses():
    model = nn.Sequential(nn.Linear(3, 2), Apply(StoredSquare.apply), nn.Linear(2, 2)).double()
    before = {name: (id(p), p.detach().clone()) for name, p in model.named_parameters()}
    keys = [sorted(vars(module)) for module in model.modules()]
    with pytest.raises(InputError):
        lla.HessianOperator(lla.Problem(model, (X, Y)))
    for name, p in model.named_parameters():
        assert id(p) == before[name][0]
        assert torch.equal(p, before[name][1])
    assert [sorted(vars(module)) for module in model.modules()] == keys
    assert not any(module._forward_hooks for module in model.modules())


def test_kinks_are_no_fault(cases):
    """ReLUs whose inputs are zero exactly, as at the biases of a fresh network."""
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        model[0].bias.zero_()
    x = torch.cat([X[:3], torch.zeros(2, 3, dtype=torch.float64)])
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(x), Y))
    torch.testing.assert_close(hessian(lla.Problem(model, (x, Y))), expected)


def test_a_gradient_that_is_not_that_of_the_loss_but_consistent_is_seen():
    """Its derivative is half of what the difference of gradients is, up to a factor."""
    model = nn.Sequential(nn.Linear(3, 2), Apply(Doubled.apply), nn.Linear(2, 2)).double()
    with pytest.raises(InputError, match=r"in 1 \(Apply\)"):
        lla.HessianOperator(lla.Problem(model, (X, Y)))


def fitted(activation, margin, seed, middle=None):
    """A network, two examples and their targets: the largest output leads by the margin at least.

    The loss and its derivatives fall with exp(-margin), and the gradient of a cross-entropy keeps
    the rounding of numbers around 1.
    """
    torch.manual_seed(seed)
    layers = [nn.Linear(10, 20), activation(), nn.Linear(20, 20), middle or activation()]
    model, x = nn.Sequential(*layers, nn.Linear(20, 5)), torch.randn(2, 10).double()
    model.double().requires_grad_(False)
    first, second = model(x).topk(2).values.T
    for parameter in model[4].parameters():
        parameter *= margin / (first - second).min()
    return model.requires_grad_(), (x, model(x).argmax(1))


# each was refused before 2026-12: by symmetry, by a difference, and next to a point without a loss
ROUNDED = [
    (nn.Tanh, 13, 39), (nn.Tanh, 13, 62), (nn.Tanh, 19, 90), (nn.ReLU, 10, 28), (nn.ReLU, 13, 16),
    (nn.ReLU, 16, 8), (nn.ReLU, 22, 8), (nn.ReLU, 30, 16),
]  # fmt: skip


@pytest.mark.parametrize(("activation", "margin", "seed"), ROUNDED)
def test_the_rounding_of_a_network_that_fits_its_data_is_no_fault(activation, margin, seed):
    model, batch = fitted(activation, margin, seed)
    lla.HessianOperator(lla.Problem(model, batch))


@pytest.mark.parametrize("margin", [10, 16, 22])
@pytest.mark.parametrize("seed", range(3))
def test_a_wrong_derivative_in_a_network_that_fits_its_data_is_refused(margin, seed):
    model, batch = fitted(nn.Tanh, margin, seed, Apply(StoredSquare.apply))
    with pytest.raises(InputError, match=r"in 3 \(Apply\)"):
        lla.HessianOperator(lla.Problem(model, batch))


@pytest.mark.parametrize("margin", [10, 16])
@pytest.mark.parametrize("seed", [1, 5])
def test_a_derivative_that_is_right_at_smaller_weights_is_refused(margin, seed):
    model, (x, _) = fitted(nn.Tanh, margin, seed, Apply(FarTanh.apply))
    with torch.no_grad():
        model[2].weight *= 3
    with pytest.raises(InputError, match=r"in 3 \(Apply\)"):
        lla.HessianOperator(lla.Problem(model, (x, model(x).argmax(1))))
