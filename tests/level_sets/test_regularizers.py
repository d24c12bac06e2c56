import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.errors import InputError
from lla.level_sets import regularizers
from lla.probes import rademacher


@pytest.fixture(params=["linear", "convolution"])
def problem(request):
    if request.param == "linear":
        model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
        x = torch.randn(9, 5, dtype=torch.float64)
    else:
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Flatten(), nn.Linear(18, 3))
        x = torch.randn(9, 1, 5, 5, dtype=torch.float64)
    y = torch.arange(9) % 3
    return lla.Problem(model.double(), [(x[:4], y[:4]), (x[4:], y[4:])])


def explicit_hessian(problem):
    theta = problem.theta()

    def loss(vector):
        parts = problem.space.unflatten(vector)
        values = [
            F.cross_entropy(torch.func.functional_call(problem.model, parts, b.x), b.y) * b.size
            for b in problem.batches
        ]
        return sum(values) / problem.examples

    return torch.autograd.functional.hessian(loss, theta)


ALL = {
    "l2": regularizers.l2(),
    "smooth_l1": regularizers.smooth_l1(0.2),
    "jacobian": regularizers.jacobian(),
    "kappa": regularizers.kappa(),
    "kappa 0": regularizers.kappa("0", probes=2),
    "trace": regularizers.trace(probes=2),
}


@pytest.mark.parametrize("name", ALL)
def test_gradients_are_differences_of_values(problem, name):
    R, theta = ALL[name], problem.theta()
    assert R.name == name
    value, gradient = R.value_and_gradient(problem, theta)
    assert R.value(problem, theta) == value
    u = torch.randn_like(theta)
    h = 1e-5
    difference = (R.value(problem, theta + h * u) - R.value(problem, theta - h * u)) / (2 * h)
    assert float(gradient @ u) == pytest.approx(difference, rel=1e-6)


def test_norms_are_those_of_the_parameters(problem):
    theta = problem.theta()
    assert regularizers.l2().value(problem, theta) == pytest.approx(float(theta @ theta))
    size = theta.abs()
    expected = torch.where(size < 0.2, size**2 / 0.4, size - 0.1).sum()
    assert regularizers.smooth_l1(0.2).value(problem, theta) == pytest.approx(float(expected))


def test_the_jacobian_is_that_of_each_example(problem):
    found = [
        torch.autograd.functional.jacobian(problem.model, x[None]).square().sum()
        for batch in problem.batches
        for x in batch.x
    ]
    value = regularizers.jacobian().value(problem, problem.theta())
    assert value == pytest.approx(float(torch.stack(found).mean()))


def test_kappa_is_that_of_flatness(problem):
    pairs = [(batch.x, batch.y) for batch in problem.batches]
    last = [name for name, m in problem.model.named_modules() if isinstance(m, nn.Linear)][-1]
    expected = lla.flatness(problem.model, pairs, last)[last].kappa
    assert expected.stderr == 0
    assert regularizers.kappa().value(problem, problem.theta()) == pytest.approx(expected.value)


def test_sampled_ones_are_products_with_the_explicit_hessian(problem):
    H, theta = explicit_hessian(problem), problem.theta()
    probes = [rademacher(len(theta), theta, 5, 41, i) for i in range(3)]
    expected = sum(v @ H @ v for v in probes) / 3
    assert regularizers.trace(3, seed=5).value(problem, theta) == pytest.approx(float(expected))
    # kappa of layer 0 is the mean of v' H v over v = W U
    W = problem.model[0].weight.detach().flatten(1)
    size = W.shape[1]
    values = []
    for i in range(3):
        U = rademacher(size * size, theta, 5, 42, i).reshape(size, size)
        v = torch.zeros_like(theta)
        v[: W.numel()] = (W @ U).flatten()
        values.append(v @ H @ v)
    found = regularizers.kappa("0", 3, seed=5).value(problem, theta)
    assert found == pytest.approx(float(sum(values) / 3))
    # the mean over all U is sum_fg <w_f, w_g> T_fg
    block = H[: W.numel(), : W.numel()]
    signs = torch.randint(2, (20000, size, size)).double() * 2 - 1
    v = (W @ signs).flatten(1)
    T = block.reshape(len(W), size, len(W), size).diagonal(dim1=1, dim2=3).sum(-1)
    assert float(((v @ block) * v).sum(1).mean()) == pytest.approx(
        float((W @ W.T * T).sum()), rel=0.1
    )


def test_the_trace_is_measured_along_other_vectors_than_it_is_walked(problem):
    theta = problem.theta()
    walked, measured = (
        regularizers.named("trace", measured=choice).value(problem, theta) for choice in (0, 1)
    )
    assert walked != measured
    assert walked == regularizers.named("trace").value(problem, theta)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: regularizers.smooth_l1(0), "beta is 0: give a positive number"),
        (lambda: regularizers.trace(0), "probes is 0"),
        (lambda: regularizers.kappa(seed=-1), "the seed -1 is negative"),
    ],
)
def test_wrong_arguments_are_refused(make, said):
    with pytest.raises(InputError, match=said):
        make()


def test_layers_that_are_not_there_are_named(problem):
    with pytest.raises(InputError, match="no layer 'fc'"):
        regularizers.kappa("fc").value(problem, problem.theta())

    def squares(z, y):
        return (z - F.one_hot(y, 3)).square().mean()

    other = lla.Problem(problem.model, list(problem.batches), loss=squares)
    with pytest.raises(InputError, match="a mean cross-entropy; the loss is no mean"):
        regularizers.kappa().value(other, other.theta())
