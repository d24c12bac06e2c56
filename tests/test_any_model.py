"""Models of every kind are right, and stay as they were: issue 14, items 1, 2, 7, 10, 11 and 12.

The right values are those of double backward on the user's own model (`cases.own_hessian`).
"""

import copy
import functools
import io
import itertools
import random
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import lla
from lla.errors import InputError

X = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)
Y = torch.tensor([0, 1, 1, 0])


def hessian(problem, route="retained"):
    """The Hessian [P, P] by lla; to measure the routes takes longer than all products."""
    eye = torch.eye(problem.space.size, dtype=problem.dtype)
    return lla.HessianOperator(problem, route=route) @ eye


def assert_close(found, expected):
    """Within the error of central differences."""
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def mlp():
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2)).double()


class TwoNames(nn.Module):
    """A layer that two names reach, as `self.features` often does."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.features = nn.Sequential(self.first, nn.Tanh())
        self.last = nn.Linear(2, 2)

    def forward(self, x):
        return self.last(self.features(x)) + self.first(x)


# ---- 1: a layer that two names reach


def test_1_a_layer_of_two_names_has_one_loss_and_hessian(cases):
    model = TwoNames().double()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    problem = lla.Problem(model, (X, Y))
    before = problem.loss()
    problem.loss(problem.theta() + 1)
    assert problem.loss() == before
    torch.testing.assert_close(before, F.cross_entropy(model(X), Y).detach())
    torch.testing.assert_close(hessian(problem), expected)
    torch.testing.assert_close(hessian(problem, route=None), expected)


def test_1_a_second_plane_has_the_same_centre():
    model = TwoNames().double()
    problem = lla.Problem(model, (X, Y))
    planes = [lla.loss_plane(problem, steps=2, seed=seed) for seed in (0, 1)]
    assert planes[0].center == planes[1].center
    assert planes[0].center == pytest.approx(F.cross_entropy(model(X), Y).item(), abs=1e-14)


def test_1_criteria_by_micro_batches_are_those_of_the_whole_batch():
    model = TwoNames().double()
    whole, parts = (
        lla.criteria(model, (X, Y), probes=2, steps=14, micro_batch=size) for size in (None, 2)
    )
    assert parts.re.value == pytest.approx(whole.re.value, rel=1e-8)
    assert parts.kh1.value == pytest.approx(whole.kh1.value, rel=1e-8)


def test_1_training_is_seen_after_the_first_loss(cases):
    model = TwoNames().double()
    problem = lla.Problem(model, (X, Y))
    problem.loss(problem.theta() + 1)
    with torch.no_grad():
        model.first.weight.mul_(2)
    torch.testing.assert_close(problem.loss(), F.cross_entropy(model(X), Y).detach())
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    torch.testing.assert_close(hessian(problem), expected)


def test_1_nothing_is_left_in_the_places_of_the_modules():
    model = TwoNames().double()
    before = [
        (name, key, value, {n: id(v) for n, v in value.items()})
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, dict)
    ]
    problem = lla.Problem(model, (X, Y))
    problem.loss(problem.theta() + 1)
    hessian(problem)
    lla.loss_plane(problem, steps=2)
    modules = dict(model.named_modules())
    for name, key, value, content in before:
        assert vars(modules[name])[key] is value
        assert {n: id(v) for n, v in value.items()} == content
    assert all(p.grad is None and p.is_leaf for p in model.parameters())
    assert model.features[0] is model.first


# ---- 2: a forward replaced on the instance, attributes that capture the module


class Slope(nn.Module):
    """An activation whose function captures the module."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.3))
        self.linear = nn.Linear(3, 2)
        self.act = lambda z: torch.where(z > 0, z, self.slope * z) + self.slope**2

    def forward(self, x):
        return self.act(self.linear(x))


def replaced_on_the_root():
    model = mlp()
    old = model.forward
    model.forward = lambda x: old(x) ** 2
    return model


def replaced_on_a_layer():
    model = mlp()
    old = model[0].forward
    model[0].forward = lambda x: old(x).sin()
    return model


def replaced_by_a_wrapper():
    model = mlp()

    @functools.wraps(model.forward)
    def forward(x):
        return type(model).forward(model, x) * model[0].weight.sum()

    model.forward = forward
    return model


MAKERS_2 = [
    replaced_on_the_root,
    replaced_on_a_layer,
    replaced_by_a_wrapper,
    lambda: Slope().double(),
    lambda: nn.Sequential(Slope(), nn.Linear(2, 2)).double(),
]


@pytest.mark.parametrize("make", MAKERS_2)
def test_2_replaced_functions_and_functions_that_capture_the_module(cases, make):
    model = make()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    problem = lla.Problem(model, (X, Y))
    torch.testing.assert_close(hessian(problem, route=None), expected)
    exact = lla.trace(lla.HessianOperator(problem, route="retained"))
    assert exact.value == pytest.approx(expected.trace().item(), rel=1e-8)
    # and elsewhere, where a call of the original's tensors would be seen
    theta = problem.theta() + 0.3
    other = make()
    nn.utils.vector_to_parameters(theta, other.parameters())
    torch.testing.assert_close(problem.loss(theta), F.cross_entropy(other(X), Y).detach())


class Attribute(nn.Module):
    """A tensor that was made from the weight when the module was made."""

    def __init__(self, made, buffer=False):
        super().__init__()
        self.linear = nn.Linear(3, 2).double()
        if buffer:
            self.register_buffer("made", made(self.linear.weight))
        else:
            self.made = made(self.linear.weight)

    def forward(self, x):
        return self.linear(x) * self.made.sum()


def test_2_a_view_of_a_parameter_is_that_parameter(cases):
    model = Attribute(lambda weight: weight.view(-1)[1:])
    problem = lla.Problem(model, (X, Y))
    found = hessian(problem)
    theta = problem.theta()
    found_loss = problem.loss(theta + 0.3)
    assert_close(found, cases.differenced_hessian(model, lambda: F.cross_entropy(model(X), Y)))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3)  # in place, as an optimiser does
    torch.testing.assert_close(found_loss, F.cross_entropy(model(X), Y).detach())


@pytest.mark.parametrize("buffer", [False, True])
def test_2_a_detached_view_moves_with_its_parameter_and_has_no_gradient(buffer):
    model = Attribute(lambda weight: weight.data.T[1:], buffer)
    problem = lla.Problem(model, (X, Y))
    found = problem.loss(problem.theta() + 0.3)
    with pytest.raises(InputError, match=r"not symmetric|differs by"):
        lla.HessianOperator(problem)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3)
    torch.testing.assert_close(found, F.cross_entropy(model(X), Y).detach())


def test_2_a_tensor_that_was_computed_from_a_parameter_is_refused_by_name():
    model = Attribute(lambda weight: weight**2)
    with pytest.raises(InputError, match=r"linear\.weight as a tensor that was taken or computed"):
        lla.Problem(model, (X, Y))


# ---- 7: frozen layers, and random numbers


def test_7_a_layer_that_the_user_froze_stays_in_eval_mode(cases):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2), nn.Tanh(), nn.BatchNorm1d(2)).double()
    model(X), model(X * 2 + 1)
    model.train()
    model[1].eval()
    twin = copy.deepcopy(model)
    expected = cases.own_hessian(twin, lambda: F.cross_entropy(twin(X), Y))
    problem = lla.Problem(model, (X, Y), mode="train")
    torch.testing.assert_close(hessian(problem), expected)
    assert model.training
    assert not model[1].training


class Noise(nn.Module):
    """Adds noise that `draw` makes, times a parameter."""

    def __init__(self, draw, **held):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.draw = draw
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x):
        out = self.linear(x)
        return out * (1 + torch.as_tensor(self.draw(self, out.shape), dtype=out.dtype))


NOISES = {
    "numpy": (lambda m, shape: np.random.randn(*shape), {}),  # noqa: NPY002
    "python": (lambda m, shape: random.gauss(0, 1), {}),
    "torch": (lambda m, shape: torch.randn(shape), {}),
    "torch.Generator": (
        lambda m, shape: torch.randn(shape, generator=m.rng),
        {"rng": torch.Generator},
    ),
    "numpy.Generator": (
        lambda m, shape: m.rng.standard_normal(shape),
        {"rng": lambda: np.random.default_rng(3)},
    ),
    "RandomState": (
        lambda m, shape: m.rng.randn(*shape),
        {"rng": lambda: np.random.RandomState(3)},
    ),
    "random.Random": (lambda m, shape: m.rng.gauss(0, 1), {"rng": lambda: random.Random(3)}),
}


def global_states():
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def own_state(model):
    rng = getattr(model, "rng", None)
    if rng is None:
        return None
    for name in ("get_state", "getstate"):
        if hasattr(rng, name):
            return str(getattr(rng, name)())
    return str(rng.bit_generator.state)


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_7_noise_is_the_same_from_call_to_call(kind, mode):
    draw, held = NOISES[kind]
    model = Noise(draw, **{name: make() for name, make in held.items()}).double()
    own, states = own_state(model), global_states()
    problem = lla.Problem(model, (X, Y), mode=mode)
    loss = problem.loss()
    # the gradient of one function: the differences of its losses
    theta = problem.theta()
    v = torch.linspace(-1, 1, len(theta), dtype=torch.float64)
    difference = (problem.loss(theta + 1e-6 * v) - problem.loss(theta - 1e-6 * v)) / 2e-6
    torch.testing.assert_close(problem.gradient() @ v, difference, rtol=1e-7, atol=1e-9)
    H = hessian(problem)
    plane = lla.loss_plane(problem, steps=2)
    assert problem.loss() == loss == plane.center
    torch.testing.assert_close(hessian(problem), H, rtol=1e-10, atol=1e-12)
    assert own_state(model) == own
    assert global_states() == states


def test_7_noise_of_a_generator_that_cannot_be_seen_is_refused():
    rng = np.random.default_rng(0)
    model = Noise(lambda m, shape: rng.standard_normal(shape)).double()
    with pytest.raises(InputError, match=r"generator of its own"):
        lla.Problem(model, (X, Y))


@pytest.mark.parametrize("own", [False, True])
def test_7_no_generator_is_advanced(own):
    generator = torch.Generator().manual_seed(5) if own else None
    loader = DataLoader(TensorDataset(X, Y), batch_size=2, generator=generator)
    states = global_states()
    kept = generator.get_state() if own else None
    problem = lla.Problem(mlp(), loader)
    model_states = global_states()[:2]
    assert model_states == states[:2]
    states = global_states()
    lla.Problem(problem.model, loader).loss()
    lla.criteria(problem.model, loader, probes=1, steps=3)
    lla.loss_plane(problem, steps=2)
    assert global_states() == states
    if own:
        assert torch.equal(generator.get_state(), kept)


# ---- 10: forward passes that write into parameters


class MaxNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3, max_norm=1.0)
        self.last = nn.Linear(3, 2)

    def forward(self, tokens):
        return self.last(self.embedding(tokens).mean(1))


TOKENS = torch.tensor([[0, 1], [2, 3], [4, 0], [1, 1]])


def test_10_max_norm_leaves_the_weight_as_it_is(cases):
    model = MaxNorm().double()
    with torch.no_grad():
        model.embedding.weight.mul_(3)
    kept = model.embedding.weight.detach().clone()
    problem = lla.Problem(model, (TOKENS, Y))
    problem.loss()
    H = hessian(problem)
    lla.loss_plane(problem, steps=2)
    lla.criteria(model, (TOKENS, Y), probes=1, steps=3)
    assert torch.equal(model.embedding.weight, kept)
    twin = copy.deepcopy(model)
    twin(TOKENS)  # writes the rows of norm 1
    loss = F.cross_entropy(twin(TOKENS), Y)
    torch.testing.assert_close(problem.loss(), loss.detach())
    twin.embedding.max_norm = None  # the same values, and a graph
    expected = cases.own_hessian(twin, lambda: F.cross_entropy(twin(TOKENS), Y))
    torch.testing.assert_close(H, expected)


class Clamps(nn.Module):
    """Clamps its weight before each use, as a WGAN does."""

    def __init__(self, most):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.most = most

    def forward(self, x):
        self.linear.weight.data.clamp_(-self.most, self.most)
        return self.linear(x)


def test_10_a_forward_pass_that_clamps_its_weights(cases):
    model = Clamps(1.0).double()
    kept = model.linear.weight.detach().clone()
    problem = lla.Problem(model, (X, Y))
    theta = problem.theta() + 3
    given = theta.clone()
    twin = copy.deepcopy(model)
    nn.utils.vector_to_parameters(theta.clone(), twin.parameters())
    torch.testing.assert_close(problem.loss(theta), F.cross_entropy(twin(X), Y).detach())
    problem.gradient(theta)
    H = hessian(problem)
    lla.loss_plane(problem, steps=2)
    assert torch.equal(theta, given)
    assert torch.equal(model.linear.weight, kept)
    expected = cases.own_hessian(model.linear, lambda: F.cross_entropy(model.linear(X), Y))
    torch.testing.assert_close(H, expected)


def test_10_where_the_clamp_bites_the_gradient_is_that_of_no_function():
    """The loss does not depend on a clamped weight, and plain backward says that it does."""
    model = Clamps(0.1).double()
    kept = model.linear.weight.detach().clone()
    problem = lla.Problem(model, (X, Y))
    with pytest.raises(InputError, match=r"differs by .* from the difference of gradients"):
        lla.HessianOperator(problem)
    assert torch.equal(model.linear.weight, kept)


# ---- 11: models that differentiate themselves


def energy(model, x):
    return model.last(torch.tanh(model.first(x))).sum(-1)


class Differentiates(nn.Module):
    """dE/dx of an energy E(x), by one of several ways."""

    def __init__(self, way):
        super().__init__()
        self.first = nn.Linear(3, 2)
        self.last = nn.Linear(2, 1)
        self.way = way

    def forward(self, x):
        if self.way == "grad":
            return torch.func.vmap(torch.func.grad(lambda z: energy(self, z)))(x)
        if self.way == "jacrev":
            return torch.func.vmap(torch.func.jacrev(lambda z: energy(self, z)))(x)
        if self.way == "jvp":
            return torch.func.jvp(lambda z: energy(self, z), (x,), (torch.ones_like(x),))[1]
        if self.way == "vmap":
            return torch.func.vmap(lambda z: energy(self, z))(x)
        x = x.clone().requires_grad_()
        return torch.autograd.grad(energy(self, x).sum(), x, create_graph=True)[0]


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("way", ["grad", "jacrev", "jvp", "vmap", "autograd"])
def test_11_models_that_differentiate_themselves(cases, way):
    model = Differentiates(way).double()
    target = torch.zeros_like(model(X)) + 0.2
    expected = cases.own_hessian(model, lambda: F.mse_loss(model(X), target))
    assert expected.norm() > 1e-3
    problem = lla.Problem(model, (X, target), loss=F.mse_loss)
    torch.testing.assert_close(hessian(problem, route=None), expected)
    plane = lla.loss_plane(problem, steps=4)
    assert plane.center == pytest.approx(F.mse_loss(model(X), target).item(), rel=1e-12)
    assert np.isfinite(plane.loss).all()
    found = lla.criteria(model, (X, target), loss=F.mse_loss, probes=1, steps=3)
    assert np.isfinite(found.re.value)


# ---- 12: what plain PyTorch can do


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3, sparse=True)
        self.last = nn.Linear(3, 2)

    def forward(self, tokens):
        return self.last(self.embedding(tokens).mean(1))


def test_12_sparse_gradients_of_an_embedding(cases):
    model = Bag().double()
    dense = copy.deepcopy(model)
    dense.embedding.sparse = False
    expected = cases.own_hessian(dense, lambda: F.cross_entropy(dense(TOKENS), Y))
    problem = lla.Problem(model, (TOKENS, Y))
    torch.testing.assert_close(hessian(problem), expected)
    assert model.embedding.sparse
    lla.loss_plane(problem, steps=2)


class Waves(nn.Module):
    """A complex filter that is stored as a real parameter, after an odd number of others."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([0.1, 0.2, 0.3]))
        self.filter = nn.Parameter(torch.tensor([[1.0, 0.5], [0.2, -0.3]]))
        self.last = nn.Linear(2, 2)

    def forward(self, x):
        spectrum = torch.fft.rfft(x + self.shift) * torch.view_as_complex(self.filter)
        return self.last(spectrum.abs() ** 2)


def test_12_view_as_complex_at_an_odd_offset_of_the_flat_vector(cases):
    model = Waves().double()
    expected = cases.differenced_hessian(model, lambda: F.cross_entropy(model(X), Y))
    problem = lla.Problem(model, (X, Y))
    assert_close(hessian(problem), expected)
    assert np.isfinite(lla.loss_plane(problem, steps=4).loss).all()


class ComplexWeight(nn.Module):
    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.ones(2, dtype=torch.complex128))

    def forward(self, x):
        return (torch.fft.rfft(x) * self.filter).abs()


def test_12_complex_parameters_are_refused_with_advice_that_works(cases):
    with pytest.raises(InputError, match=r"view_as_complex"):
        lla.Problem(ComplexWeight(), (X, Y))

    class Real(nn.Module):  # the advice
        def __init__(self):
            super().__init__()
            complex_weight = torch.ones(2, dtype=torch.complex128)
            self.filter = nn.Parameter(torch.view_as_real(complex_weight).clone())

        def forward(self, x):
            return (torch.fft.rfft(x) * torch.view_as_complex(self.filter)).abs()

    model = Real()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    torch.testing.assert_close(hessian(lla.Problem(model, (X, Y))), expected)


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 2, batch_first=True)

    def forward(self, x):
        return self.rnn(x)[1][0]


def test_12_a_packed_sequence_as_input(cases):
    model = Packed().double()
    x = torch.sin(torch.arange(24, dtype=torch.float64)).reshape(4, 2, 3)
    packed = pack_padded_sequence(x, torch.tensor([2, 1, 2, 1]), True, enforce_sorted=False)
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(packed), Y))
    problem = lla.Problem(model, (packed, Y))
    torch.testing.assert_close(hessian(problem), expected)
    assert np.isfinite(lla.loss_plane(problem, steps=2).loss).all()


def test_12_data_parallel_is_taken_off(cases):
    model = mlp()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    problem = lla.Problem(nn.DataParallel(model), (X, Y))
    assert problem.model is model
    torch.testing.assert_close(hessian(problem), expected)


def test_12_distributed_data_parallel_is_taken_off(cases, tmp_path):
    model = mlp()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        problem = lla.Problem(nn.parallel.DistributedDataParallel(model), (X, Y))
        torch.testing.assert_close(hessian(problem), expected)
    finally:
        torch.distributed.destroy_process_group()
    assert problem.model is model


@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated:DeprecationWarning")
@pytest.mark.parametrize("inside", [False, True])
def test_12_scripted_models_name_the_remedy(inside):
    scripted = torch.jit.script(mlp())
    model = nn.Sequential(nn.Linear(3, 3).double(), scripted) if inside else scripted
    with pytest.raises(InputError, match=r"TorchScript module.*give the Python module"):
        lla.Problem(model, (X, Y))


@pytest.mark.parametrize(
    "make", [threading.Lock, io.BytesIO, lambda: iter([1]), lambda: (i for i in [1])]
)
def test_12_attributes_that_cannot_be_copied(cases, make):
    model = mlp()
    model[0].thing = thing = make()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    problem = lla.Problem(model, (X, Y))
    torch.testing.assert_close(hessian(problem), expected)
    assert np.isfinite(lla.loss_plane(problem, steps=2).loss).all()
    assert model[0].thing is thing


def test_12_an_open_file_as_attribute(cases, tmp_path):
    model = mlp()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    with open(tmp_path / "log", "w") as model.log:
        problem = lla.Problem(model, (X, Y))
        torch.testing.assert_close(hessian(problem), expected)
        lla.loss_plane(problem, steps=2)


class LazyBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2).double()
        self.register_buffer("mean", nn.parameter.UninitializedBuffer())

    def forward(self, x):
        return self.linear(x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.LazyLinear(2)), r"0\.weight has no shape yet.*call the model"),
        (LazyBuffer, r"mean has no shape yet.*call the model"),
        (lambda: mlp().to("meta"), r"0\.weight is on the meta device.*load the weights"),
        (
            lambda: nn.Sequential(nn.Linear(3, 2, device="meta"), nn.Linear(2, 2)).double(),
            r"torch\.float64 on cpu, torch\.float64 on meta",
        ),
    ],
)
def test_12_parameters_without_shape_or_values(make, message):
    with pytest.raises(InputError, match=message):
        lla.Problem(make(), (X, Y))


class Endless:
    def __iter__(self):
        return itertools.repeat((X, Y))


def test_12_an_endless_loader_returns():
    with pytest.raises(InputError, match=r"endless.*islice"):
        lla.Problem(mlp(), Endless())


# ---- compiled and checkpointed models, cached parametrizations


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("whole", [True, False])
def test_compiled_models(cases, backend, whole):
    model = mlp()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    loss = F.cross_entropy(model(X), Y).item()
    if whole:
        compiled = torch.compile(model, backend=backend)
    else:
        compiled = nn.Sequential(
            torch.compile(nn.Sequential(model[0], model[1]), backend=backend), model[2]
        )
    compiled(X)
    problem = lla.Problem(compiled, (X, Y))
    torch.testing.assert_close(hessian(problem), expected)
    plane, plain = (lla.loss_plane(p, steps=4) for p in (problem, lla.Problem(model, (X, Y))))
    assert plane.center == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(plane.loss, plain.loss, rtol=1e-12)
    compiled(X)  # still works


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_model_compiled_in_place(cases):
    model = mlp()
    expected = cases.own_hessian(model, lambda: F.cross_entropy(model(X), Y))
    model.compile(backend="aot_eager")
    model(X)
    problem = lla.Problem(model, (X, Y))
    torch.testing.assert_close(hessian(problem), expected)
    problem.loss(problem.theta() + 1)
    torch.testing.assert_close(problem.loss(), F.cross_entropy(model(X), Y).detach())


class Checkpointed(nn.Module):
    """Blocks that are computed again in backward; in train mode they have dropout."""

    def __init__(self, reentrant=False, dropout=0.0):
        super().__init__()
        self.block = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Dropout(dropout))
        self.last = nn.Linear(3, 2)
        self.reentrant = reentrant

    def forward(self, x):
        if self.reentrant is None:
            return self.last(self.block(x))
        return self.last(checkpoint(self.block, x, use_reentrant=self.reentrant))


@pytest.mark.parametrize("route", [None, "retained", "fresh"])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_checkpoints_at_other_weights_than_the_models(cases, route, mode):
    """Training between the operator's construction and its products."""
    model = Checkpointed(dropout=0.3).double()
    plain = Checkpointed(reentrant=None, dropout=0.3).double()
    plain.load_state_dict(model.state_dict())
    plain.train(mode == "train")

    def seeded_loss():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return F.cross_entropy(plain(X), Y)

    expected = cases.own_hessian(plain, seeded_loss)
    problem = lla.Problem(model, (X, Y), mode=mode)
    H = lla.HessianOperator(problem, route=route)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    torch.testing.assert_close(H @ torch.eye(H.shape[0], dtype=H.dtype), expected)
    back = problem.at(H.theta)
    assert np.isfinite(lla.loss_plane(back, steps=2).loss).all()
    torch.testing.assert_close(hessian(back), expected)


class CheckpointedLater(Checkpointed):
    """The input of the block needs gradients."""

    def forward(self, x):
        return super().forward(x * self.last.bias.sum())


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_reentrant_checkpoints_name_the_remedy():
    with pytest.raises(InputError, match=r"use_reentrant=False"):
        lla.HessianOperator(lla.Problem(CheckpointedLater(reentrant=True).double(), (X, Y)))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
def test_reentrant_checkpoints_without_gradients_are_refused():
    """Of a block whose input needs no gradient PyTorch gives none, in training either."""
    with pytest.raises(InputError, match=r"differs by .* from the difference of gradients"):
        lla.HessianOperator(lla.Problem(Checkpointed(reentrant=True).double(), (X, Y)))


def test_cached_parametrizations_are_refused_inside_and_right_before_and_after(cases):
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(3, 2)), nn.Tanh()).double()
    problem = lla.Problem(model, (X, Y))
    before = problem.loss()
    with parametrize.cached():
        model(X)
        with pytest.raises(InputError, match=r"parametrize.cached\(\) is on"):
            lla.Problem(model, (X, Y))
        with pytest.raises(InputError, match=r"parametrize.cached\(\) is on"):
            problem.loss()
    problem.loss(problem.theta() + 1)
    assert problem.loss() == before


def test_parameters_that_share_memory_are_refused():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight.data = model[0].weight.data
    with pytest.raises(lla.InputError, match=r"0\.weight and 1\.weight share memory"):
        lla.Problem(model, (X, Y))


def test_containers_in_containers_are_as_before():
    class Notes(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.notes = {"a": {"b": []}, "c": [[]]}
            self.kept = (torch.zeros(2), [torch.zeros(2)])

        def forward(self, x):
            self.notes["a"]["b"].append(1)
            self.notes["c"][0].append(2)
            self.kept[1][0].add_(1)
            return self.layer(x)

    model = Notes()
    problem = lla.Problem(model, (X.float(), Y))
    lla.HessianOperator(problem)
    lla.loss_plane(problem, steps=2)
    assert model.notes == {"a": {"b": []}, "c": [[]]}
    assert not model.kept[1][0].any()


@pytest.mark.parametrize("dim", [-2, 0, 1])
def test_4_weight_norm_along_any_dimension(cases, dim):
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3).double(), dim=dim)
    problem = lla.Problem(layer, (X, Y))
    torch.testing.assert_close(problem.loss(), F.cross_entropy(layer(X), Y).detach())


def test_attributes_that_share_memory_with_a_parameter_in_another_form_are_refused():
    model = mlp()
    model.bits = model[0].weight.data.view(torch.int64)
    with pytest.raises(lla.InputError, match="shares memory with a parameter"):
        lla.Problem(model, (X, Y))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_criteria_of_a_checkpointed_model_are_those_without_checkpoints(mode, training):
    """A backward pass calls the model again: with its tensors and flags of the call."""

    class Segment(nn.Module):
        def __init__(self, kept):
            super().__init__()
            self.first, self.last, self.kept = nn.Linear(3, 4), nn.Linear(4, 3), kept
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Tanh())

        def forward(self, x):
            x = torch.tanh(self.first(x))
            x = checkpoint(self.inner, x, use_reentrant=False) if self.kept else self.inner(x)
            return self.last(x)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, x = Segment(True), torch.randn(8, 3)
    other = Segment(False)
    other.load_state_dict(model.state_dict())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found, expected = (
        lla.criteria(m.train(training), (x, torch.arange(8) % 3), mode, probes=2, steps=5,
                     route="retained")
        for m in (model, other)
    )  # fmt: skip
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert found.re.value == pytest.approx(expected.re.value, rel=1e-5)
    assert found.kh1.value == pytest.approx(expected.kh1.value, rel=1e-5)
    assert found.rounding < 1e-4
