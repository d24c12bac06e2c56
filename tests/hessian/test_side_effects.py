"""Nothing of the caller's changes, whatever is computed and however it ends."""

import contextlib
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lla

ROUTES = ("linearized", "retained", "fresh", None)


def snapshot(model, batches=()):
    """All that must stay, as a list of (name, value)."""
    state = []
    for name, p in model.named_parameters():
        grad = None if p.grad is None else p.grad.clone()
        state += [(name, p.detach().clone()), (f"{name}.grad", grad)]
        state += [(f"{name}.requires_grad", p.requires_grad), (f"{name}.id", id(p))]
    for name, buffer in model.named_buffers():
        state += [(name, buffer.clone()), (f"{name}.id", id(buffer))]
    for name, module in model.named_modules():
        state += [(f"{name}.training", module.training), (f"{name}.keys", sorted(vars(module)))]
        state.append((f"{name}.hooks", list(module._forward_hooks)))
        for key in ("track_running_stats", "momentum"):
            state.append((f"{name}.{key}", getattr(module, key, None)))
    for i, (x, y) in enumerate(batches):
        state += [(f"x{i}", x.clone()), (f"y{i}", y.clone())]
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  (the global state is what is tested)
    sdp = torch.backends.cuda
    state += [
        ("torch rng", torch.get_rng_state()),
        ("cuda rng", torch.cuda.get_rng_state() if torch.cuda.is_available() else None),
        ("numpy rng", (kind, tuple(keys), tuple(rest))),
        ("python rng", random.getstate()),
        ("grad mode", torch.is_grad_enabled()),
        ("inference mode", torch.is_inference_mode_enabled()),
        ("deterministic", torch.are_deterministic_algorithms_enabled()),
        ("deterministic warn", torch.is_deterministic_algorithms_warn_only_enabled()),
        ("cudnn", (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)),
        ("dtype", torch.get_default_dtype()),
        ("sdp", (sdp.flash_sdp_enabled(), sdp.mem_efficient_sdp_enabled(), sdp.math_sdp_enabled())),
        ("threads", torch.get_num_threads()),
        ("print", torch.get_default_device()),
    ]
    return state


def assert_same(before, after):
    assert [name for name, _ in before] == [name for name, _ in after]
    for (name, a), (_, b) in zip(before, after, strict=True):
        same = torch.equal(a, b) if isinstance(a, torch.Tensor) and b is not None else a == b
        assert same, name


def mixed_flags(model):
    """Training flags that are neither all on nor all off, gradients that are there in part."""
    for i, module in enumerate(model.modules()):
        module.training = i % 2 == 0
    for i, p in enumerate(model.parameters()):
        if i % 2:
            p.grad = torch.full_like(p, 7.0)
    return model


def use_everything(model, batches, loss, mode, route):
    problem = lla.Problem(model, batches, loss, mode)
    problem.loss()
    problem.gradient()
    H = lla.HessianOperator(problem, route=route)
    H @ torch.ones(H.shape[0], 3, dtype=H.dtype)
    lla.spectral_density(H, probes=1, steps=3)
    lla.spectral_density(H, probes=1, steps=3, legacy=True)
    lla.top_eigenpairs(H, tol=0.5)
    lla.trace(H, rtol=10.0)
    lla.criteria(model, batches, mode, probes=1, steps=3, loss=loss, route=route)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "case",
    ["cnn_bn_eval", "cnn_bn_train", "residual_train", "encoder_eval", "dropout_train", "tied",
     "frozen_and_unused"],
    indirect=True,
)  # fmt: skip
def test_a_whole_analysis_leaves_no_trace(case, route):
    model, batches = mixed_flags(case.make()), case.batches((4, 3))
    hits = []
    model.register_forward_hook(lambda *_: hits.append(1))
    before = snapshot(model, batches)
    try:
        use_everything(model, batches, case.loss, case.mode, route)
    except lla.InputError as error:  # the ratios of a spectrum without positive node
        if "positive" not in str(error):
            raise
    assert_same(before, snapshot(model, batches))


@pytest.mark.parametrize("grad", [True, False])
def test_grad_mode_and_deterministic_flags_stay(cases, grad):
    case = cases.BY_NAME["cnn_bn_train"]
    model, batches = case.make(), case.batches((4, 3))
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with torch.set_grad_enabled(grad):
            before = snapshot(model)
            use_everything(model, batches, case.loss, case.mode, None)
            assert_same(before, snapshot(model))
    finally:
        torch.use_deterministic_algorithms(False)


class Fuse(nn.Module):
    """Raises at the call that `burn` chooses."""

    def __init__(self, burn):
        super().__init__()
        self.layer, self.norm, self.burn = nn.Linear(3, 3), nn.BatchNorm1d(3), burn

    def forward(self, x):
        x = F.dropout(self.norm(self.layer(x)), 0.5, self.training)
        self.burn()
        return x


@pytest.mark.parametrize("route", ROUTES)
def test_an_exception_in_the_middle_leaves_no_trace(route):
    calls, last = 0, None

    def burn():
        nonlocal calls
        calls += 1
        if calls == last:
            raise KeyError("burnt")

    x, y = torch.rand(4, 3), torch.tensor([0, 1, 2, 0])

    def analyse():
        problem = lla.Problem(model, [(x, y), (x + 1, y)], mode="train")
        problem.gradient()
        H = lla.HessianOperator(problem, route=route)
        lla.spectral_density(H, probes=1, steps=2)

    model = mixed_flags(Fuse(burn))
    before = snapshot(model)
    analyse()
    assert_same(before, snapshot(model))
    for last in range(1, calls + 1):  # noqa: B007  (read by burn)
        calls = 0
        with pytest.raises(KeyError, match="burnt"):
            analyse()
        assert_same(before, snapshot(model))


def test_a_product_that_is_not_finite_leaves_no_trace():
    class Cusp(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return self.theta.abs().sqrt().sum()

    model = Cusp()
    before = snapshot(model)
    H = lla.HessianOperator(
        lla.Problem(model, (torch.zeros(1, 1), torch.zeros(1)), lambda out, y: out)
    )
    with pytest.raises(lla.NonFiniteError, match="not finite"):
        lla.spectral_density(H, probes=1, steps=2)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("parameters", [None, "0.*", ["7.*", "1.*"]])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", ["cnn_bn_eval", "cnn_bn_train"], indirect=True)
def test_training_on_does_not_change_the_products(case, route, parameters):
    model, batches = case.make(), case.batches((4, 3))
    problem = lla.Problem(model, batches, case.loss, case.mode)
    H = lla.HessianOperator(problem, parameters, route=route)
    V = torch.randn(H.shape[0], 3, generator=torch.Generator().manual_seed(0)).double()
    before = H @ V
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    model.train()
    for x, y in batches:
        optimizer.zero_grad()
        case.loss(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        model[1].running_var.mul_(3)
    torch.testing.assert_close(H @ V, before, rtol=1e-12, atol=0)
    again = lla.HessianOperator(problem, parameters, route=route) @ V
    assert not torch.allclose(again, before, rtol=1e-3)


@pytest.mark.parametrize("freeze", ["weights", "statistics"])
@pytest.mark.parametrize("route", ROUTES)
def test_freezing_or_other_flags_set_later_do_not_change_the_products(cases, route, freeze):
    case = cases.BY_NAME["cnn_bn_eval"]
    model = case.make()
    H = lla.HessianOperator(lla.Problem(model, case.batch(4), case.loss), route=route)
    V = torch.ones(H.shape[0], 2).double()
    before = H @ V
    if freeze == "weights":
        model.requires_grad_(False)
    else:
        model.train()
        model[1].track_running_stats = False
    assert torch.equal(H @ V, before)


def test_gradients_set_before_are_neither_read_nor_changed(cases):
    case = cases.BY_NAME["mlp_mse"]
    model, batch = case.make(), case.batch(4)
    clean = lla.Problem(model, batch, case.loss).gradient()
    for p in model.parameters():
        p.grad = torch.full_like(p, float("nan"))
    problem = lla.Problem(model, batch, case.loss)
    assert torch.equal(problem.gradient(), clean)
    assert all(p.grad.isnan().all() for p in model.parameters())


@pytest.mark.parametrize("route", ROUTES)
def test_a_network_that_overwrites_its_input_leaves_the_data_alone(route):
    class Normalises(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x):
            return torch.tanh(self.layer(x.sub_(0.5).div_(0.25)))

    x, y = torch.rand(6, 3).double(), torch.tensor([0, 1, 2, 0, 1, 2])
    kept = x.clone()
    problem = lla.Problem(Normalises().double(), (x, y))
    first = problem.loss()
    H = lla.HessianOperator(problem, route=route)
    products = [H @ torch.ones(12).double() for _ in range(3)]
    assert torch.equal(x, kept)
    assert torch.equal(problem.loss(), first)
    assert torch.equal(products[0], products[2])


@pytest.mark.parametrize("route", ROUTES)
def test_tensors_that_are_not_registered_stay(route):
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.seen = torch.zeros(())

        def forward(self, x):
            self.seen += len(x)
            return self.layer(x)

    model = Counts()
    problem = lla.Problem(model, (torch.rand(4, 3), torch.tensor([0, 1, 2, 0])))
    with contextlib.suppress(lla.InputError):  # linearisation may refuse what writes elsewhere
        lla.HessianOperator(problem, route=route)
    assert model.seen == 0


def test_a_loader_costs_no_random_numbers_of_the_caller():
    x, y = torch.rand(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    model = nn.Linear(3, 3)
    before = snapshot(model)
    problem = lla.Problem(model, loader)
    problem.loss()
    problem.gradient()
    H = lla.HessianOperator(problem, route="fresh")
    H @ torch.ones(12)
    lla.criteria(model, loader, probes=1, steps=2)
    assert_same(before, snapshot(model))


def test_random_numbers_of_the_caller_do_not_matter(cases):
    case = cases.BY_NAME["dropout_train"]
    model, batch = case.make(), case.batch(4)
    found = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 1):
            torch.manual_seed(seed)
            problem = lla.Problem(model, batch, mode="train")
            H = lla.HessianOperator(problem, route="fresh")
            found.append((problem.loss(), H @ torch.ones(H.shape[0]).double()))
            found.append((lla.spectral_density(H, 1, 5).eigenvalues, 0))
    assert torch.equal(found[0][0], found[2][0])
    assert torch.equal(found[0][1], found[2][1])
    assert np.array_equal(found[1][0], found[3][0])


def test_another_default_device_does_not_matter(cases):
    H = lla.HessianOperator(cases.BY_NAME["mlp_mse"].problem(), route="retained")
    expected = lla.spectral_density(H, 1, 5), lla.trace(H), lla.top_eigenpairs(H)
    with torch.device("meta"):
        assert np.array_equal(lla.spectral_density(H, 1, 5).eigenvalues, expected[0].eigenvalues)
        assert lla.trace(H).value == expected[1].value
        assert lla.top_eigenpairs(H).values == expected[2].values


def test_old_style_weight_norm_and_hooks_are_carried():
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = nn.utils.weight_norm(nn.Linear(3, 3))
    model = nn.Sequential(layer)
    x, y = torch.rand(4, 3), torch.tensor([0, 1, 2, 0])
    model(x)
    before = snapshot(model)
    problem = lla.Problem(model, (x, y))
    torch.testing.assert_close(problem.loss(), F.cross_entropy(model(x), y))
    assert problem.gradient().shape == (15,)
    assert_same(before, snapshot(model))


@pytest.mark.hard_use("Four threads with one model in train mode give what one gives, bit for bit")
def test_two_threads_with_one_model_are_as_one(cases):
    """Each call puts tensors, flags and random states of its own into one and the same model."""
    case = cases.BY_NAME["dropout_train"]
    model, batch = case.make(), case.batch(5)

    def analyse(seed):
        problem = lla.Problem(model, batch, mode="train", seed=seed)
        H = lla.HessianOperator(problem, route="fresh")
        v = torch.ones(H.shape[0]).double()
        return [problem.loss(problem.theta() * (1 + 0.1 * seed)), *(H @ v for _ in range(5))]

    expected = [analyse(seed) for seed in range(4)]
    before = snapshot(model)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(analyse, range(4)))
    assert_same(before, snapshot(model))
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
