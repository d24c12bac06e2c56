"""Issue 14, items 11 and 13: J d where forward mode fails is computed by backward passes."""

import pytest
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.func import jvp

import lla
from lla.landscape import normalize_output, output_change, random_directions
from lla.landscape.output import _derivative, _twice_backward


def inputs(n=6):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class OldSine(torch.autograd.Function):
    """Without setup_context, so that forward mode refuses it."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.cos()


class OnceSine(OldSine):
    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.cos()


class NumpySine(OldSine):
    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(gradient.detach().numpy() * x.detach().cos().numpy())


class StoredSine(OldSine):
    """With its derivative on ctx: wrong for a Hessian, right for J d."""

    @staticmethod
    def forward(ctx, x):
        ctx.slope = x.cos()
        return x.sin()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.slope


class Custom(nn.Module):
    def __init__(self, function):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(3, 5).double(), nn.Linear(5, 3).double()
        self.function = function.apply

    def forward(self, x):
        return self.last(self.function(self.first(x)))


class Force(nn.Module):
    """Forces: minus the derivative of an energy by the input."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(3, 5).double(), nn.Linear(5, 1).double()

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = self.last(torch.tanh(self.first(x))).sum()
            return -torch.autograd.grad(energy, x, create_graph=True)[0]


class ForceOfInput(Force):
    """Its forces are the gradient by what a function makes of the input."""

    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        with torch.enable_grad():
            x = self.wrap(x)
            energy = self.last(torch.tanh(self.first(x))).sum()
            return -torch.autograd.grad(energy, x, create_graph=True)[0]


def difference(problem, direction, step=1e-5):
    """||J d|| / ||f|| from central differences of the output."""
    theta = problem.theta()
    with torch.no_grad():
        before, here, after = (
            next(problem.outputs(theta + c * direction))[0] for c in (-step, 0.0, step)
        )
    return ((after - before).norm() / (2 * step) / here.norm()).item()


def problem_of(model):
    y = torch.zeros(6, 3, dtype=torch.float64)
    return lla.Problem(model, (inputs(), y), nn.functional.mse_loss)


@pytest.mark.parametrize(
    "model", [Custom(OldSine), Custom(StoredSine), Force()], ids=["old", "stored", "force"]
)
def test_networks_without_forward_mode(model):
    problem = problem_of(model)
    direction = random_directions(problem.theta(), 1)[0]
    assert output_change(problem, direction) == pytest.approx(
        difference(problem, direction), rel=1e-7
    )
    plane = lla.loss_plane(problem, steps=2)  # the default, "output"
    assert torch.isfinite(torch.from_numpy(plane.loss)).all()
    assert plane.center == problem.loss().item()


@pytest.mark.parametrize("kind", ["outside", "copy"])
def test_derivatives_inside_of_the_network(kind):
    outside = torch.zeros(6, 3, dtype=torch.float64, requires_grad=True)
    wrap = {
        "outside": lambda x: x.detach() + outside,
        "copy": lambda x: x.detach().clone().requires_grad_(),
    }[kind]
    problem = problem_of(ForceOfInput(wrap))
    direction = random_directions(problem.theta(), 1)[0]
    assert output_change(problem, direction) == pytest.approx(
        difference(problem, direction), rel=1e-7
    )


def test_an_old_function_scales_as_the_same_in_torch():
    class Sine:
        apply = staticmethod(torch.sin)

    problems = [problem_of(Custom(function)) for function in (OldSine, Sine)]
    direction = random_directions(problems[0].theta(), 1)[0]
    found, expected = (normalize_output(problem, direction) for problem in problems)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_a_compiled_network_scales_as_the_network():
    layers = [nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 3)]
    model = nn.Sequential(*layers).double()
    problem, compiled = problem_of(model), problem_of(torch.compile(model, backend="aot_eager"))
    direction = random_directions(problem.theta(), 1)[0]
    found = output_change(compiled, direction)
    assert found == pytest.approx(output_change(problem, direction), rel=1e-12)


class LoudNumpySine(NumpySine):
    @staticmethod
    def backward(ctx, gradient):
        return torch.from_numpy(gradient.numpy())  # raises, since it requires a gradient


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (OnceSine, "its backward cannot be differentiated, and does not say so"),
        (NumpySine, "its backward cannot be differentiated, and does not say so"),
        (LoudNumpySine, r"Can't call numpy\(\) on Tensor that requires grad"),
    ],
)
def test_functions_without_second_derivative_are_refused(function, reason):
    problem = problem_of(Custom(function))
    with pytest.raises(lla.InputError, match=f"{reason}.*: take normalization='filter'"):
        output_change(problem, torch.ones_like(problem.theta()))
    lla.loss_plane(problem, normalization="filter", steps=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_ways_are_the_same_for_every_test_network(case, dtype):
    batches = case.batches((5, 3), dtype)
    problem = lla.Problem(case.make(dtype), batches, case.loss, case.mode)
    direction = random_directions(problem.theta(), 1)[0]
    state, theta = problem.state(), problem.theta()
    for batch in problem.batches:
        function = problem.batch_output(batch, problem.space, state)
        results = []
        for method in (_derivative, _twice_backward):
            with torch.no_grad(), problem.deterministic():
                results.append(method(function, theta, direction))
        outputs, expected = (torch.utils._pytree.tree_leaves(r) for r in results[0])
        for i, (output, derivative) in enumerate(zip(outputs, expected, strict=True)):
            tol = 1e-4 if dtype == torch.float32 else 1e-10
            torch.testing.assert_close(results[1][0][i], output, rtol=tol, atol=tol)
            scale = max(1.0, derivative.abs().max().item())
            torch.testing.assert_close(results[1][1][i], derivative, rtol=tol, atol=tol * scale)


def test_several_outputs_and_one_that_does_not_depend():
    x = inputs()

    def function(weights):
        first = x @ weights[:3]
        return {"a": first.sin(), "n": torch.arange(3), "c": x.sum(), "b": (weights[3] * first)[:2]}

    at = torch.linspace(-1, 1, 5, dtype=torch.float64)
    along = torch.linspace(2, 3, 5, dtype=torch.float64)
    outputs, found = _twice_backward(function, at, along)
    a, c, b = (function(at)[name] for name in "acb")
    for output, expected in zip(outputs, (a, c, b), strict=True):
        assert torch.equal(output, expected)
    _, expected = jvp(lambda w: (function(w)["a"], function(w)["b"]), (at,), (along,))
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[2], expected[1])
    assert found[1] == 0
    closed = (x @ along[:3]) * (x @ at[:3]).cos()
    torch.testing.assert_close(found[0], closed)


def test_an_output_that_does_not_depend_at_all():
    at = torch.ones(2, dtype=torch.float64)
    outputs, found = _twice_backward(lambda w: torch.ones(3), at, at)
    assert (outputs[0].tolist(), found[0].tolist()) == ([1.0] * 3, [0.0] * 3)
    # one that seems to
    _, found = _twice_backward(lambda w: 0 * w, at, at)
    assert found[0].tolist() == [0.0, 0.0]


class Dropped(Custom):
    def forward(self, x):
        return nn.functional.dropout(super().forward(x), 0.5, self.training)


def test_the_dropout_mask_is_that_of_the_problem():
    data = inputs(), torch.zeros(6, 3, dtype=torch.float64)
    problem = lla.Problem(Dropped(OldSine), data, nn.functional.mse_loss, "train", seed=3)
    direction = random_directions(problem.theta(), 1)[0]
    assert output_change(problem, direction) == pytest.approx(
        difference(problem, direction), rel=1e-7
    )


def test_a_mask_that_forward_mode_draws_otherwise_is_not_taken(cases):
    # dropout of a transposed tensor: its mask depends on the layout in memory
    problem = cases.BY_NAME["encoder_train"].problem((5,))
    direction = random_directions(problem.theta(), 1)[0]
    assert output_change(problem, direction) == pytest.approx(
        difference(problem, direction), rel=1e-6
    )


def test_memory_that_runs_out_is_no_missing_derivative():
    def function(weights):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        _derivative(function, torch.ones(2), torch.ones(2))
