"""Routes: models that differentiate inside, the padding row, operations without second derivative.

The issues' items are those of issue 14.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import lla
from lla.hessian.products import routes
from lla.hessian.products.routes import Retained

ROUTES = ("linearized", "retained", "fresh", None)


class Force(nn.Module):
    """The gradient of a small network by its input, example by example."""

    def __init__(self, transform):
        super().__init__()
        self.inner, self.outer, self.transform = nn.Linear(3, 5), nn.Linear(5, 1), transform

    def energy(self, z):
        return self.outer(torch.tanh(self.inner(z))).sum()

    def forward(self, x):
        if self.transform == "grad":  # without vmap: the energies are independent
            return torch.func.grad(self.energy)(x)
        return torch.func.vmap(getattr(torch.func, self.transform)(self.energy))(x)


class Checkpointed(nn.Module):
    calls = 0  # of all copies

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 40), nn.Linear(40, 3)

    def segment(self, x):
        Checkpointed.calls += 1
        return torch.tanh(self.first(x)).sin().exp()

    def forward(self, x):
        return self.last(checkpoint(self.segment, x, use_reentrant=False))


def pair(n=4):
    return torch.randn(n, 3).double(), torch.randn(n, 3).double()


def check_against_double_backward(cases, model, batches, loss, route):
    H = lla.HessianOperator(lla.Problem(model, batches, loss), route=route)
    expected = cases.plain_hessian(model, batches, loss)
    for _ in range(3):
        V = torch.randn(len(expected), 5).double()
        torch.testing.assert_close(H @ V, expected @ V, rtol=1e-10, atol=1e-12)
    return H, expected


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("transform", ["grad", "jacrev"])
def test_item_11_models_may_use_torch_func_inside(cases, transform, route):
    model = Force(transform).double()
    H, _ = check_against_double_backward(cases, model, [pair()], F.mse_loss, route)
    if route is None:
        assert [trial.reason for trial in H.trials] == [None, None]
        assert all(trial.kept_bytes > 0 for trial in H.trials)


def test_kept_bytes_are_those_that_saved_tensors_hooks_see():
    """Of a model that allows such hooks."""
    model = nn.Sequential(
        nn.Linear(3, 50), nn.Tanh(), nn.LayerNorm(50), nn.GELU(), nn.Linear(50, 3)
    )
    problem = lla.Problem(model, (torch.randn(8, 3), torch.randn(8, 3)), F.mse_loss)
    seen = {}

    def note(tensor):
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()

    function = problem.batch_loss(next(iter(problem.batches)))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        product = Retained(function, problem.theta(), problem.deterministic)
    assert 0.9 * sum(seen.values()) <= product.kept_bytes <= sum(seen.values())


def test_kept_bytes_do_not_compute_a_checkpoint_again():
    model = Checkpointed()
    problem = lla.Problem(model, (torch.randn(8, 3), torch.randn(8, 3)), F.mse_loss)
    function = problem.batch_loss(next(iter(problem.batches)))
    product = Retained(function, problem.theta(), problem.deterministic)
    before = Checkpointed.calls
    assert product.kept_bytes > 0
    assert Checkpointed.calls == before


def test_a_saved_tensor_that_is_overwritten_is_an_error():
    a = torch.ones(3)

    def function(theta):
        return (theta * a).pow(3).sum()

    product = Retained(function, torch.ones(3), torch.enable_grad)
    a.add_(1)
    assert product.kept_bytes > 0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product(torch.ones(1, 3))


class Tokens(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.embed, self.last = nn.Embedding(7, 4, **options), nn.Linear(4, 3)

    def forward(self, tokens):
        return self.last(torch.tanh(self.embed(tokens)).mean(1))


@pytest.mark.parametrize("options", [{"padding_idx": 2}, {"padding_idx": -1}])
@pytest.mark.parametrize("route", ROUTES)
def test_item_15_padding_idx_has_the_fast_route(cases, options, route):
    model = Tokens(**options).double()
    batches = [(torch.randint(0, 7, (5, 6)), torch.randint(0, 3, (5,)))]
    assert (batches[0][0] == model.embed.padding_idx).any()
    H, expected = check_against_double_backward(cases, model, batches, F.cross_entropy, route)
    assert all(trial.reason is None for trial in H.trials)
    row = slice(4 * model.embed.padding_idx, 4 * model.embed.padding_idx + 4)
    dense = H @ torch.eye(len(expected)).double()
    assert not dense[row].any()
    assert not dense[:, row].any()


def test_padding_idx_under_vmap(cases):
    """Several vectors in one pass, as the linearised product may take them."""
    model = Tokens(padding_idx=0).double()
    batches = [(torch.randint(0, 7, (5, 6)), torch.randint(0, 3, (5,)))]
    H = lla.HessianOperator(lla.Problem(model, batches), route="linearized")
    rows = torch.randn(4, H.shape[0]).double()
    expected = rows @ cases.plain_hessian(model, batches)
    torch.testing.assert_close(torch.func.vmap(H._kept[0]._map)(rows), expected)


class Distance(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)

    def forward(self, x):
        h = self.first(x)
        return torch.cdist(h, h.detach() + 1)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return 3 * ctx.saved_tensors[0] ** 2 * g


class WithOnce(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.last(torch.tanh(Once.apply(self.first(x))))


def ctc(output, target):
    scores = output.log_softmax(-1)[:, None].expand(-1, 2, -1)
    return F.ctc_loss(scores, target, torch.tensor([6, 6]), torch.tensor([2, 2]))


BAG = nn.Sequential(nn.EmbeddingBag(7, 4), nn.Tanh(), nn.Linear(4, 3))
X, CLASSES = torch.linspace(-1, 1, 18).reshape(6, 3), torch.tensor([0, 1, 2, 2, 0, 1])
WITHOUT = {
    "ctc_loss": (nn.Linear(3, 3), (X, torch.tensor([[1, 2], [2, 1]])), ctc),
    "cdist": (Distance(), (X, CLASSES), lambda output, y: output.mean()),
    "embedding_bag": (BAG, (torch.arange(18).reshape(6, 3) % 7, CLASSES), F.cross_entropy),
    "multi_margin_loss": (nn.Linear(3, 3), (X, CLASSES), F.multi_margin_loss),
    "multilabel_margin_loss": (
        nn.Linear(3, 3), (X, CLASSES[:, None].expand(6, 3)), F.multilabel_margin_loss),
}  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT)
@pytest.mark.parametrize("route", ROUTES)
def test_item_12_no_second_derivative_in_pytorch(name, route):
    model, batch, loss = WITHOUT[name]
    problem = lla.Problem(model, batch, loss)
    with pytest.raises(lla.InputError, match=f"no second derivative of {name}, so there is no"):
        lla.HessianOperator(problem, route=route) @ torch.ones(problem.space.size)
    with pytest.raises(lla.InputError, match=f"no second derivative of {name}, so there is no"):
        lla.criteria(model, batch, loss=loss, probes=1, steps=2, route=route)


@pytest.mark.parametrize("route", ROUTES)
def test_item_4_once_differentiable_is_refused(route):
    """By its node in the graph of the gradient, or by the problem's own check."""
    with pytest.raises(
        lla.InputError, match=r"marked @once_differentiable|wrong second derivative"
    ):
        lla.HessianOperator(lla.Problem(WithOnce(), (X, CLASSES)), route=route) @ torch.ones(31)


def test_item_4_once_differentiable_is_seen_in_the_graph():
    weights = torch.linspace(0.1, 1, 6)
    with pytest.raises(
        lla.InputError, match="second derivative of a function that is marked @once"
    ):
        Retained(lambda theta: (Once.apply(theta) ** 2 * weights).sum(), weights, torch.enable_grad)


def test_a_single_vector_is_multiplied_without_a_trial_of_several(cases, monkeypatch):
    case = cases.BY_NAME["mlp_mse"]
    H = lla.HessianOperator(case.problem(), route="linearized")
    expected = cases.hessian(case)
    (product,) = H._kept
    product._together = None
    monkeypatch.setattr(routes, "_measure_together", lambda *_: pytest.fail("a trial was made"))
    v = torch.randn(len(expected), dtype=torch.float64)
    for _ in range(2):
        torch.testing.assert_close(H @ v, expected @ v, rtol=1e-10, atol=1e-12)
