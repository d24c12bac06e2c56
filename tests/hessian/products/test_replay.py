"""Constants computed again for other data: the product has to be that of these data."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import lla
from lla.hessian import operator as operator_module
from lla.hessian.products import routes
from lla.hessian.products.linearize import linearize_gradient
from lla.hessian.products.replay import ReplayError, signature
from lla.models import build


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.first(x).sin()
        hidden += 0.5
        return self.last(F.relu(hidden, inplace=True) + F.softplus(hidden))


def pooled():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.SiLU(), nn.Dropout(0.4), nn.Flatten(),
        nn.Linear(5 * 4, 3),
    )  # fmt: skip


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 8, padding_idx=0)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.layer(self.embed(x)).mean(1))


CASES = {
    "in place": (InPlace, lambda g: torch.randn(5, 6, generator=g)),
    "pooled": (pooled, lambda g: torch.randn(5, 1, 8, 8, generator=g)),
    "words": (Words, lambda g: torch.randint(0, 9, (5, 7), generator=g)),
    "lenet": (lambda: build("lenet", seed=0), lambda g: torch.rand(4, 1, 32, 32, generator=g)),
    "resnet20": (
        lambda: build("resnet20", seed=0),
        lambda g: torch.rand(3, 3, 16, 16, generator=g),
    ),
}


def batches_of(draw, count, double=True):
    g = torch.Generator().manual_seed(1)
    found = []
    for _ in range(count):
        x = draw(g)
        found.append((x.double() if double and x.is_floating_point() else x,
                      torch.randint(0, 3, (len(x),), generator=g)))  # fmt: skip
    return found


@pytest.fixture
def recorded(monkeypatch):
    """The number of batches that were recorded."""
    calls = []
    real = routes.linearize_gradient

    def counted(*args):
        calls.append(1)
        return real(*args)

    monkeypatch.setattr(routes, "linearize_gradient", counted)
    return calls


def products(problem, route):
    H = lla.HessianOperator(problem, route=route)
    v = torch.randn(H.shape[0], generator=torch.Generator().manual_seed(2), dtype=H.dtype)
    return [product(v[None])[0] for product in H._kept]


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", CASES)
def test_products_of_later_batches_are_their_own(name, mode, recorded):
    torch.manual_seed(0)
    make, draw = CASES[name]
    problem = lla.Problem(make().double(), batches_of(draw, 4), mode=mode)
    expected = products(problem, "retained")
    recorded.clear()
    found = products(problem, "linearized")
    assert len(recorded) == 1, "only the first batch is recorded"
    for one, other in zip(found, expected, strict=True):
        assert torch.linalg.vector_norm(one - other) <= 1e-10 * torch.linalg.vector_norm(other)
    assert not torch.allclose(expected[0], expected[2], rtol=1e-3)


def test_double_backward_is_made_for_two_batches(monkeypatch):
    made = []
    real = routes.Retained.__init__

    def counted(self, *args):
        made.append(1)
        real(self, *args)

    torch.manual_seed(0)
    problem = lla.Problem(InPlace(), batches_of(CASES["in place"][1], 6, double=False))
    lla.HessianOperator(problem, route="linearized")  # the door has been passed
    problem.findings.recordings.clear()
    monkeypatch.setattr(routes.Retained, "__init__", counted)
    lla.HessianOperator(problem, route="linearized")
    assert len(made) == 2


def test_after_a_training_step_the_recording_is_replayed(recorded):
    torch.manual_seed(0)
    model = InPlace().double()
    (batch,) = batches_of(CASES["in place"][1], 1)
    problem = lla.Problem(model, batch)
    products(problem, "linearized")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    recorded.clear()
    (found,), (expected,) = products(problem, "linearized"), products(problem, "retained")
    assert recorded == []
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-14)


def test_batches_of_other_shapes_are_recorded(recorded):
    torch.manual_seed(0)
    draw = CASES["in place"][1]
    batches = batches_of(draw, 3)
    batches[1] = tuple(part[:4] for part in batches[1])
    products(lla.Problem(InPlace().double(), batches), "linearized")
    assert len(recorded) == 2


class Deciding(nn.Module):
    """A network that decides by its data, in one of several ways."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.layer = nn.Linear(6, 3)

    def forward(self, x):
        out = self.layer(x)
        if self.how == "item":
            return out * x.sum().item()
        if self.how == "branch":
            return out**2 if x.sum() > 0 else out.exp()
        if self.how == "list":
            return out * x[0].tolist()[0]
        if self.how == "array":
            return out * float(x.detach().numpy().sum())
        if self.how == "number":
            return out * torch.tensor(float(len(x)))
        return out[x[:, 0] > 0]


@pytest.mark.parametrize("how", ["item", "branch", "list", "array", "number"])
def test_what_decides_by_its_data_is_recorded_again(how, recorded):
    torch.manual_seed(0)
    problem = lla.Problem(Deciding(how).double(), batches_of(CASES["in place"][1], 3))
    expected = products(problem, "retained")
    recorded.clear()
    found = products(problem, None if how == "array" else "linearized")
    assert len(recorded) == 3 or how == "array"
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)


def replay_of(function, theta, first):
    """What computes the constants of function(theta, first) again from other data."""
    return linearize_gradient(lambda t: function(t, first), theta, torch.no_grad, (first,)).replay


def test_a_tensor_that_was_zero_is_checked():
    theta = torch.randn(4, dtype=torch.float64)

    def function(t, x):
        return (t * t * x + t**3).sum()

    zero, other = torch.zeros_like(theta), torch.randn_like(theta)
    replay = replay_of(function, theta, zero)
    with pytest.raises(ReplayError, match="was zero is not"):
        replay((theta, other), torch.no_grad)
    _, value, gradient = replay((theta, zero), torch.no_grad)
    assert value == function(theta, zero)
    assert torch.allclose(gradient, 3 * theta**2)


def test_loss_and_gradient_are_those_of_the_new_data():
    theta, first, second = torch.randn(3, 5, dtype=torch.float64)

    def function(t, x):
        return (t * x).exp().sum()

    linear = linearize_gradient(lambda t: function(t, first), theta, torch.no_grad, (first,))
    constants, value, gradient = linear.replay((theta, second), torch.no_grad)
    assert torch.allclose(value, (theta * second).exp().sum(), rtol=1e-14)
    assert torch.allclose(gradient, second * (theta * second).exp(), rtol=1e-14)
    v = torch.randn(5, dtype=torch.float64)
    expected = second**2 * (theta * second).exp() * v
    assert torch.allclose(linear.of(constants)(v), expected, rtol=1e-14)
    assert torch.allclose(linear(v), first**2 * (theta * first).exp() * v, rtol=1e-14)


def test_what_is_overwritten_unseen_is_not_repeated():
    theta, x = torch.randn(2, 4, dtype=torch.float64)

    def function(t):
        copy = x.clone()
        whole = copy.view(2, 2)
        whole.mul_(3.0)  # the number of `copy` is stale now
        return ((t * copy) ** 3).sum()

    linear = linearize_gradient(function, theta, torch.no_grad, (x,))
    v = torch.randn(4, dtype=torch.float64)
    assert torch.allclose(linear(v), 6 * (3 * x) ** 3 * theta * v, rtol=1e-12)
    assert linear.replay is None


def test_one_tensor_in_two_places_is_not_replaced():
    theta, x = torch.randn(2, 4)
    linear = linearize_gradient(lambda t: (t * x).exp().sum(), theta, torch.no_grad, (x, x))
    assert linear.replay is None


def test_a_wrong_recording_is_not_used(monkeypatch):
    """A second derivative alone that differs is found by the first replay."""
    torch.manual_seed(0)
    problem = lla.Problem(InPlace().double(), batches_of(CASES["in place"][1], 3))
    expected = products(problem, "retained")
    real = operator_module.Recording.__call__

    def wrong(self, *args):
        product = real(self, *args)
        name = max(product._map._buffers, key=lambda n: product._map._buffers[n].numel())
        product._map._buffers[name] = product._map._buffers[name] + 1
        return product

    monkeypatch.setattr(operator_module.Recording, "__call__", wrong)
    found = products(problem, "linearized")
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)
    assert not any(r.confirmed for r in problem.findings.recordings.values())


@pytest.mark.parametrize("power", [0, 1])
def test_losses_that_are_constant_or_linear(power):
    batches = [(torch.randn(4, 6, dtype=torch.float64), torch.zeros(4)) for _ in range(3)]
    model = nn.Linear(6, 1).double()
    problem = lla.Problem(model, batches, loss=lambda out, y: (out.mean() + 1.0) ** power)
    for product in products(problem, "linearized"):
        assert not product.any()


def test_a_replay_that_cannot_run_gives_way(monkeypatch, recorded):
    torch.manual_seed(0)
    problem = lla.Problem(InPlace().double(), batches_of(CASES["in place"][1], 2))

    def fails(self, *args):
        raise RuntimeError("index out of range")

    monkeypatch.setattr(operator_module.Recording, "__call__", fails)
    found, expected = products(problem, "linearized"), products(problem, "retained")
    assert len(recorded) == 2
    assert torch.allclose(found[1], expected[1], rtol=1e-10, atol=1e-14)


class Sparse(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("links", torch.eye(5, dtype=torch.float64).to_sparse())
        self.layer = nn.Linear(6, 3).double()

    def forward(self, x):
        return self.layer(x) ** 3  # even a buffer that is not read


class Drawing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.generator = nn.Linear(6, 3).double(), torch.Generator().manual_seed(5)

    def forward(self, x):
        return self.layer(x + torch.randn(x.shape, generator=self.generator, dtype=x.dtype)) ** 3


@pytest.mark.parametrize("make", [Sparse, Drawing])
def test_networks_that_are_recorded_batch_by_batch(make, recorded):
    torch.manual_seed(0)
    model = make()
    problem = lla.Problem(model, batches_of(CASES["in place"][1], 3))
    state = model.generator.get_state() if make is Drawing else None
    expected = products(problem, "retained")
    recorded.clear()
    found = products(problem, "linearized")
    assert len(recorded) == 3
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)
    if state is not None:
        assert torch.equal(model.generator.get_state(), state)


def test_slices_of_one_tensor_and_labels_in_a_mapping_are_replayed(recorded):
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(3)
    X, Y = torch.randn(20, 6, generator=g).double(), torch.randint(0, 3, (20,), generator=g)
    slices = list(zip(X.split(5), Y.split(5), strict=True))
    net = InPlace().double()

    class Labelled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, labels):
            return {"loss": F.cross_entropy(self.net(x), labels)}

    for problem in (
        lla.Problem(net, slices),
        lla.Problem(Labelled(), [{"x": x, "labels": y} for x, y in slices]),
    ):
        expected = products(problem, "retained")
        recorded.clear()
        found = products(problem, "linearized")
        assert len(recorded) == 1
        for one, other in zip(found, expected, strict=True):
            assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)


def test_a_gradient_of_zeros_confirms_nothing(recorded):
    torch.manual_seed(0)
    model = nn.Linear(6, 3).double()
    batches = [(x, model(x).detach()) for x, _ in batches_of(CASES["in place"][1], 4)]
    scale = [1.0]
    problem = lla.Problem(model, batches, lambda out, y: scale[0] * F.mse_loss(out, y))
    products(problem, "linearized")
    scale[0] = 5.0  # neither the loss nor its gradient, both 0, shows it
    found, expected = products(problem, "linearized"), products(problem, "retained")
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-10, atol=1e-14)


def test_signatures():
    x, y = torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)
    assert signature([x + 2], (x, y)) == signature([x + 3], (x + 1, y + 1))
    assert signature([], (x, y)) != signature([], (x[:2], y))
    assert signature([], (x, y)) != signature([], (x.t().contiguous().t(), y))
    assert signature([], (x, 1)) != signature([], (x, True))
    assert signature([], {"a": x}) != signature([], {"b": x})
    assert signature([], (x, object())) is None
    assert signature([], (x, x)) != signature([], (x, x.clone()))
    assert signature([x.to_sparse()], (x, y)) is None
