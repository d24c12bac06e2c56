import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.layers import FisherOperator, GGNOperator, KroneckerOperator, moments
from lla.layers.kronecker import outliers

PIECEWISE = [("mlp", "0"), ("mlp", "2"), ("mlp", "4"), ("normed", "0"), ("normed", "3"),
             ("cnn", "0"), ("cnn", "4"), ("cnn", "7")]  # fmt: skip


def problem(networks, name, sizes=(4, 3), **options):
    make = getattr(networks, name)
    model, data = networks.seeded(make), networks.batches(make, sizes)
    return model, data, lla.Problem(model, data, **options)


@pytest.mark.parametrize(("name", "layer"), PIECEWISE)
def test_the_gauss_newton_block_is_that_of_the_hessian_of_a_relu_net(networks, name, layer):
    model, data, p = problem(networks, name)
    expected = networks.hessian(model, data, layer)
    assert networks.error(networks.dense(GGNOperator(p, layer)), expected) < 1e-10
    assert networks.error(networks.dense(FisherOperator(p, layer)), expected) < 1e-10


@pytest.mark.parametrize("loss", [F.cross_entropy, F.mse_loss])
@pytest.mark.parametrize("layer", ["0", "2"])
def test_a_smooth_net_has_its_gauss_newton_matrix(networks, loss, layer):
    model, data = networks.seeded(networks.smooth), networks.batches(networks.smooth, (4, 3))
    if loss is F.mse_loss:
        data = [(x, F.one_hot(y, 3).double()) for x, y in data]
    p = lla.Problem(model, data, loss)
    z, J = networks.jacobian(model, data, layer)
    n = len(z)
    soft = z.softmax(1)
    A = torch.diag_embed(soft) - soft[:, :, None] * soft[:, None]
    if loss is F.mse_loss:
        A = (2 / 3 * torch.eye(3).double()).expand(n, 3, 3)
    expected = torch.einsum("ncp,ncd,ndq->pq", J, A, J) / n
    assert networks.error(networks.dense(GGNOperator(p, layer)), expected) < 1e-10
    apart = networks.error(networks.hessian(model, data, layer, loss), expected)
    assert (apart > 1e-3) == (layer == "0")


@pytest.mark.parametrize(("name", "layer"), [("smooth", "0"), ("cnn", "0"), ("normed", "3")])
def test_the_fisher_matrix_of_predicted_probabilities_and_of_labels(networks, name, layer):
    model, data, p = problem(networks, name)
    ggn, fisher = GGNOperator(p, layer), FisherOperator(p, layer)
    assert networks.error(networks.dense(fisher), networks.dense(ggn)) < 1e-10
    z, J = networks.jacobian(model, data, layer)
    y = networks.together(data)[1]
    g = torch.einsum("nc,ncp->np", z.softmax(1) - F.one_hot(y, 3), J)
    empirical = FisherOperator(p, layer, empirical=True)
    assert networks.error(networks.dense(empirical), g.T @ g / len(g)) < 1e-10


def test_the_fisher_matrix_of_grouped_convolutions(networks):
    model = networks.seeded(lambda: nn.Sequential(
        nn.Conv2d(2, 4, 2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    ))  # fmt: skip
    data = [(torch.rand(5, 2, 3, 3, dtype=torch.float64), torch.arange(5) % 3)]
    expected = networks.hessian(model, data, "0")
    assert (
        networks.error(networks.dense(FisherOperator(lla.Problem(model, data), "0")), expected)
        < 1e-10
    )


@pytest.mark.parametrize(("name", "layer"), [("mlp", "0"), ("mlp", "2"), ("cnn", "0")])
def test_a_centred_block_is_that_of_a_network_whose_inputs_are_centred(networks, name, layer):
    model, data, p = problem(networks, name)
    mean = moments(p, [layer])[layer].mean
    found = networks.dense(GGNOperator(p, layer, mean))

    class Centred(nn.Module):
        """The layer on patches minus their mean, its bias larger by W mean."""

        def __init__(self, inner):
            super().__init__()
            self.inner, self.weight = inner, inner.weight
            self.extra = nn.Parameter((inner.weight.flatten(1) @ mean).detach())
            self.stored = mean

        def forward(self, x):
            shift = self.extra - self.weight.flatten(1) @ self.stored
            x = (
                self.inner(x) if isinstance(self.inner, nn.Linear)
                else F.conv2d(x, self.weight, self.inner.bias, padding=self.inner.padding)
            )  # fmt: skip
            return x + shift.reshape(-1, *[1] * (x.ndim - 2))

    other = copy.deepcopy(model)
    other[int(layer)] = Centred(other[int(layer)])
    x, _ = networks.together(data)
    torch.testing.assert_close(other(x), model(x))
    expected = networks.hessian(other, data, layer)
    if isinstance(model[int(layer)], nn.Linear):
        # the same by a batch that is centred itself, which only a first layer can have
        shown = networks.seeded(getattr(networks, name))
        with torch.no_grad():
            shown[int(layer)].bias += shown[int(layer)].weight @ mean
        if layer == "0":
            moved = [(x - mean, y) for x, y in data]
            assert networks.error(networks.hessian(shown, moved, layer), expected) < 1e-10
    assert networks.error(found, expected) < 1e-10
    assert networks.error(found, networks.hessian(model, data, layer)) > 0.05


@pytest.mark.parametrize("layer", ["0", "2", "4"])
def test_the_kronecker_product_is_exact_for_one_example_of_a_linear_layer(networks, layer):
    model, data, p = problem(networks, "mlp", sizes=(1,))
    found = moments(p, [layer])[layer]
    K = KroneckerOperator(found.M, found.xx)
    assert networks.error(networks.dense(K), networks.hessian(model, data, layer)) < 1e-10


def written_out(networks, model, data, layer):
    """E[M] and E[xx'] of a layer by loops over examples and positions."""
    x, _ = networks.together(data)
    M = xx = mean = 0.0
    for one in x:
        seen = {}
        handle = model[int(layer)].register_forward_hook(
            lambda _, given, out, seen=seen: seen.update(x=given[0], out=out)
        )
        z = model(one[None])[0]
        handle.remove()
        p = z.softmax(0).detach()
        A = torch.diag(p) - torch.outer(p, p)
        B = torch.stack([torch.autograd.grad(c, seen["out"], retain_graph=True)[0][0] for c in z])
        B = B.reshape(len(z), B.shape[1], -1)
        module = model[int(layer)]
        columns = seen["x"][0][:, None]
        if isinstance(module, nn.Conv2d):
            columns = F.unfold(
                seen["x"], module.kernel_size, padding=module.padding, stride=module.stride
            )[0]
        positions = columns.shape[1]
        for q in range(positions):
            M = M + B[:, :, q].T @ A @ B[:, :, q] / len(x)
            xx = xx + torch.outer(columns[:, q], columns[:, q]) / positions / len(x)
            mean = mean + columns[:, q] / positions / len(x)
    return M, xx.detach(), mean.detach()


@pytest.mark.parametrize(("name", "layer"), PIECEWISE)
def test_factors_are_those_of_written_out_sums(networks, name, layer):
    model, data, p = problem(networks, name)
    found = moments(p, [layer])[layer]
    M, xx, mean = written_out(networks, model, data, layer)
    assert networks.error(found.M, M) < 1e-12
    assert networks.error(found.xx, xx) < 1e-12
    assert networks.error(found.mean, mean) < 1e-12
    centred = xx - torch.outer(mean, mean)
    assert networks.error(found.covariance, centred) < 1e-10
    K = KroneckerOperator(found.M, found.xx)
    assert networks.error(networks.dense(K), torch.kron(M, xx)) < 1e-12
    assert found.why == ""


def test_why_says_where_the_gauss_newton_block_is_not_the_hessian(networks):
    _, _, p = problem(networks, "smooth")
    found = moments(p, ["0", "2"])
    assert "not piecewise linear" in found["0"].why
    assert found["2"].why == ""


@pytest.mark.parametrize("k", [1, 4, 12])
def test_top_pairs_of_a_kronecker_product_are_those_of_the_whole_matrix(cases, networks, k):
    left = torch.from_numpy(cases.matrix([5.0, 1.0, 0.4, 0.0])[0])
    right = torch.from_numpy(cases.matrix([3.0, 2.0, 0.1])[0])
    K = KroneckerOperator(left, right)
    values, u, v = K.top(k)
    whole = torch.kron(left, right)
    torch.testing.assert_close(values, torch.linalg.eigvalsh(whole).flip(0)[:k])
    vectors = torch.einsum("kf,kd->kfd", u, v).flatten(1)
    torch.testing.assert_close(vectors @ whole, values[:, None] * vectors)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(k).double())


def test_spectra_traces_and_eigenpairs_work_on_each_operator(networks):
    model, data, p = problem(networks, "mlp")
    found = moments(p, ["2"])["2"]
    H = networks.hessian(model, data, "2")
    K = torch.kron(found.M, found.xx)
    same = [lla.HessianOperator(p, "2.weight"), GGNOperator(p, "2"), FisherOperator(p, "2")]
    for operator, expected in [
        *((each, H) for each in same),
        (KroneckerOperator(found.M, found.xx), K),
    ]:
        assert isinstance(operator, lla.SymmetricOperator)
        assert lla.trace(operator).value == pytest.approx(float(expected.trace()))
        values = torch.linalg.eigvalsh(expected)
        pairs = lla.top_eigenpairs(operator, 2, tol=1e-9)
        assert pairs.values == pytest.approx(values.flip(0)[:2].numpy())
        spectrum = lla.spectral_density(operator, 2, 10)
        assert spectrum.eigenvalues.max() == pytest.approx(float(values[-1]))
        V = torch.randn(20, 2, dtype=torch.float64)
        torch.testing.assert_close(operator @ V, expected @ V)


def test_an_operator_keeps_the_weights_that_it_was_made_of(networks):
    model, _, p = problem(networks, "mlp")
    for make in (GGNOperator, FisherOperator):
        operator = make(p, "0")
        before = networks.dense(operator)
        kept = copy.deepcopy(model.state_dict())
        with torch.no_grad():
            model[0].weight.mul_(2)
        torch.testing.assert_close(networks.dense(operator), before)
        model.load_state_dict(kept)


def test_products_in_float32(networks):
    p = problem(networks, "cnn")[2]
    exact = networks.dense(GGNOperator(p, "4"))
    model = networks.seeded(networks.cnn).float()
    data = [(x.float(), y) for x, y in networks.batches(networks.cnn, (4, 3))]
    short = lla.Problem(model, data)
    for make in (GGNOperator, FisherOperator):
        assert networks.error(networks.dense(make(short, "4")).double(), exact) < 1e-5


@pytest.mark.parametrize(
    ("values", "count"),
    [([9.0, 8.0, 0.5, 0.4], 2), ([1.0], 0), ([0.0, 0.0], 0), ([4.0, 1e-9, 0.0], 1)],
)
def test_outliers_are_before_the_largest_gap(values, count):
    assert outliers(torch.tensor(values))[0] == count


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (lambda p: GGNOperator(p, "9"), "no layer '9'"),
        (lambda p: GGNOperator(p, "0", torch.zeros(3)), r"mean is \[3\]: 0 has patches of 4"),
        (lambda p: FisherOperator(p, "1"), "has no trainable weight"),
        (lambda p: KroneckerOperator(torch.eye(2), torch.ones(2, 3)), r"a factor is \[2, 3\]"),
        (lambda p: KroneckerOperator(torch.eye(2), torch.arange(4.0).view(2, 2)), "not symmetric"),
        (lambda p: KroneckerOperator(torch.eye(2), torch.eye(2).double()), "convert one with"),
        (lambda p: KroneckerOperator(torch.eye(2), torch.eye(2)).top(5), "k is 5: choose 1 to 4"),
    ],
)
def test_slips_are_named(networks, slip, message):
    with pytest.raises(lla.InputError, match=message):
        slip(problem(networks, "mlp")[2])


def test_a_loss_of_the_model_has_no_gauss_newton_matrix(networks):
    model, data, _ = problem(networks, "mlp")

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1])

    p = lla.Problem(model, data[0], loss)
    with pytest.raises(lla.InputError, match="loss of the network's output"):
        GGNOperator(p, "0")
    with pytest.raises(lla.InputError, match="mean cross-entropy"):
        FisherOperator(p, "0")


def test_a_model_that_computes_its_own_loss_has_no_gauss_newton_matrix(networks):
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = networks.seeded(networks.mlp)

        def forward(self, x, labels):
            z = self.net(x)
            return {"logits": z, "loss": F.cross_entropy(2 * z, labels)}

    x, y = networks.batches(networks.mlp)[0]
    p = lla.Problem(Own(), [{"x": x, "labels": y}])
    with pytest.raises(lla.InputError, match="computes its own loss"):
        GGNOperator(p, "net.0")
    with pytest.raises(lla.InputError, match="computes its own loss"):
        FisherOperator(p, "net.0")


def test_gradients_that_do_not_fit_into_memory_are_refused(networks, monkeypatch):
    monkeypatch.setattr("lla.free_memory.available_memory", lambda device: 100)
    with pytest.raises(lla.InsufficientMemoryError, match=r"by 3 classes take .* or GGNOperator"):
        FisherOperator(problem(networks, "mlp")[2], "0")
