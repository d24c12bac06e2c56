import copy
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.layers.frobenius import frobenius_error
from lla.layers.kronecker import KroneckerOperator
from lla.layers.layerwise import first_singular
from lla.layers.layerwise_result import Layerwise, Overlaps

LAYERS = {"mlp": ("0", "2", "4"), "normed": ("0", "3", "6"), "cnn": ("0", "4", "7")}


def measured(networks, name, k=3, seed=0, sizes=(6, 5), **options):
    make = getattr(networks, name)
    model, data = networks.seeded(make, seed), networks.batches(make, sizes)
    return lla.layerwise(model, data, k, tol=1e-9, probes=64, **options)


@pytest.fixture(scope="module")
def results(networks):
    """Of a network of each kind."""
    return {name: measured(networks, name) for name in LAYERS}


@pytest.mark.parametrize("name", list(LAYERS))
def test_numbers_are_those_of_explicit_matrices(networks, results, name):
    found = results[name]
    make = getattr(networks, name)
    model, data = networks.seeded(make), networks.batches(make, (6, 5))
    assert found.names == LAYERS[name]
    for layer in found:
        H = networks.hessian(model, data, layer.name)
        values, vectors = torch.linalg.eigh(H)
        np.testing.assert_allclose(layer.eigenvalues, values.flip(0)[:3], rtol=1e-8)
        V = vectors.T.flip(0)[:3].numpy()
        np.testing.assert_allclose(lla.layers.overlap(layer.eigenvectors, V), 1, rtol=1e-8)
        K = torch.kron(torch.from_numpy(layer.M), torch.from_numpy(layer.xx))
        expected = float((H - K).norm() / H.norm())
        assert layer.frobenius_error.value == pytest.approx(expected, rel=1e-8)
        assert layer.frobenius_error.stderr == 0
        kronecker, axes = torch.linalg.eigh(K)
        np.testing.assert_allclose(
            layer.kronecker_eigenvalues, kronecker.flip(0)[:3], rtol=1e-8, atol=1e-12
        )
        np.testing.assert_allclose(
            layer.kronecker_overlap, lla.layers.overlap(V, axes.T.flip(0)[:3]), rtol=1e-6
        )
        np.testing.assert_allclose(
            layer.kronecker_overlap,
            lla.layers.overlap(layer.eigenvectors, layer.kronecker_eigenvectors),
        )
        for i in range(3):
            matrix = torch.from_numpy(layer.eigenvectors[i])
            U, S, Vh = torch.linalg.svd(matrix)
            assert layer.rank_one[i] == pytest.approx(float(S[0] ** 2 / S.square().sum()))
            mean = torch.from_numpy(layer.mean)
            assert layer.mean_cosine[i] == pytest.approx(float((Vh[0] @ mean).abs() / mean.norm()))
            own = torch.linalg.eigh(torch.from_numpy(layer.M))[1]
            assert layer.left_cosine[i] == pytest.approx(float((U[:, 0] @ own).abs().max()))
        np.testing.assert_allclose(layer.baseline, np.arange(1, 4) / len(H))
        assert layer.converged
        assert layer.why == ""
        assert layer.mean_square == pytest.approx(float(np.sum(layer.mean**2)))
        assert layer.input_eigenvalues[0] >= layer.mean_square * (1 - 1e-9)


def test_the_last_layer_has_one_outlier_less_than_classes(results):
    assert results["mlp"]["4"].outliers == 2


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_centred_numbers_are_those_of_the_centred_block(networks, name):
    found = measured(networks, name, centre=True)
    make = getattr(networks, name)
    problem = lla.Problem(networks.seeded(make), networks.batches(make, (6, 5)))
    assert found.centred
    assert found.matrix == "Gauss-Newton matrix, centred"
    for layer in found:
        H = networks.dense(
            lla.layers.GGNOperator(problem, layer.name, torch.from_numpy(layer.mean))
        )
        np.testing.assert_allclose(
            layer.eigenvalues, torch.linalg.eigvalsh(H).flip(0)[:3], rtol=1e-8
        )
        plain = lla.layers.moments(problem, [layer.name])[layer.name]
        np.testing.assert_allclose(layer.xx, plain.covariance.numpy())


def test_inputs_of_mean_zero_have_no_cosine_with_it(networks):
    x, y = networks.batches(networks.mlp)[0]
    found = lla.layerwise(
        networks.seeded(networks.mlp), (torch.cat([x, -x]), torch.cat([y, y])), 2, "0"
    )
    assert np.isnan(found["0"].mean_cosine).all() or (found["0"].mean_cosine <= 1).all()
    assert "nan" not in repr(found)


def test_probes_give_the_error_within_theirs(networks):
    model, data = networks.seeded(networks.cnn), networks.batches(networks.cnn, (6, 5))
    problem = lla.Problem(model, data)
    factors = lla.layers.moments(problem, ["4"])["4"]
    K = KroneckerOperator(factors.M, factors.xx)
    H = lla.layers.FisherOperator(problem, "4")
    exact, approximate = networks.dense(H), networks.dense(K)
    expected = networks.error(approximate, exact)
    best = torch.cat([torch.linalg.eigh(A)[1].T.flip(0)[:3] for A in (exact, approximate)])
    spreads = []
    for basis in (best, torch.linalg.eigh(exact)[1].T[:1]):
        found = [frobenius_error(H, K, basis, 16, seed) for seed in range(20)]
        assert all(each.stderr > 0 and each.n == 16 for each in found)
        assert all(each.matvecs == 16 + len(basis) for each in found)
        values = np.array([each.value for each in found])
        spread = values.std(ddof=1)
        assert abs(values.mean() - expected) < 4 * spread / np.sqrt(len(values))
        assert np.sqrt(np.mean([e.stderr**2 for e in found])) == pytest.approx(spread, rel=0.5)
        spreads.append(spread / expected)
    assert spreads[0] < 0.5 * spreads[1]  # the largest eigenvectors leave little to the probes
    assert spreads[0] < 0.1


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 1)])
def test_the_first_singular_value_is_that_of_the_decomposition(shape):
    matrices = torch.randn(2, *shape, dtype=torch.float64)
    share, left, right = first_singular(matrices)
    U, S, Vh = torch.linalg.svd(matrices)
    torch.testing.assert_close(share, S[:, 0] ** 2 / S.square().sum(1))
    torch.testing.assert_close((left * U[:, :, 0]).sum(1).abs(), torch.ones(2).double())
    torch.testing.assert_close((right * Vh[:, 0]).sum(1).abs(), torch.ones(2).double())


def test_two_networks_are_compared_layer_by_layer(networks, results):
    one, other = results["mlp"], measured(networks, "mlp", k=2, seed=1)
    found = one.overlap(other)
    assert found.names == one.names
    assert found.curves.shape == found.baselines.shape == (3, 2)
    expected = lla.layers.overlap(one["2"].eigenvectors, other["2"].eigenvectors)
    np.testing.assert_allclose(found["2"], expected)
    np.testing.assert_allclose(one.overlap(one).curves, 1)
    frame = found.to_frame()
    np.testing.assert_allclose(frame["ratio"], frame["overlap"] / frame["random"])
    assert repr(found).splitlines()[0] == "Overlap of 2 top eigenvectors, 3 layers"
    with pytest.raises(lla.InputError, match=r"layers are 0, 2, 4 and 0, 3, 6: compare networks"):
        one.overlap(results["normed"])
    wide = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))
    wide = lla.layerwise(wide.double(), networks.batches(networks.mlp), 2)
    with pytest.raises(lla.InputError, match="0 has a weight of 5 by 4 and layer 0 of 6 by 4"):
        one.overlap(wide)
    with pytest.raises(lla.InputError, match=r"takes a result of lla\.layerwise, not int"):
        one.overlap(3)
    with pytest.raises(lla.InputError, match="'9' was not measured: choose among 0, 2, 4"):
        found["9"]


@pytest.mark.parametrize("name", list(LAYERS))
def test_results_are_saved_and_loaded(tmp_path, results, name):
    found = results[name]
    found.save(tmp_path / "a.npz")
    other = Layerwise.load(tmp_path / "a.npz")
    for field in found.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found, field), getattr(other, field))
    for one, two in zip(found, other, strict=True):
        for field in one.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    curves = found.overlap(found)
    curves.save(tmp_path / "b.npz")
    np.testing.assert_array_equal(Overlaps.load(tmp_path / "b.npz").curves, curves.curves)
    assert Overlaps.load(tmp_path / "b.npz").names == curves.names


def test_a_result_shows_itself_in_a_few_lines(results):
    found = results["cnn"]
    lines = repr(found).splitlines()
    assert lines[0].startswith("Top 3 eigenvectors of 3 layers (Hessian), loss ")
    assert lines[2].startswith("4: largest eigenvalue ")
    assert "outliers of E[M]" in repr(found["4"])
    frame = found.to_frame()
    assert list(frame.index) == ["0", "4", "7"]
    assert list(frame["outputs"]) == [3, 4, 3]
    assert list(frame["inputs"]) == [9, 12, 4]
    assert frame["frobenius_error"].between(0, 2).all()
    with pytest.raises(lla.InputError, match="'1' was not measured: choose among 0, 4, 7"):
        found["1"]


def test_pictures(results):
    found = results["cnn"]
    figure = found.plot()
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["0", "4", "7", "random spaces"]
    assert found.overlap(found).plot().axes[0].get_ylabel() == "overlap"
    layer = found["4"]
    assert len(layer.plot().axes[0].get_lines()) == 2
    figure = layer.plot("eigenvector", 1)
    np.testing.assert_array_equal(figure.axes[0].get_images()[0].get_array(), layer.eigenvectors[1])
    with pytest.raises(lla.InputError, match="index is 3: choose 0 to 2"):
        layer.plot("eigenvector", 3)
    with pytest.raises(lla.InputError, match="kind is 'pie': choose"):
        layer.plot("pie")


def test_a_single_layer_by_name_and_a_model_in_float32(networks):
    data = [(x.float(), y) for x, y in networks.batches(networks.mlp, (6, 5))]
    model = networks.seeded(networks.mlp).float()
    before = copy.deepcopy(model.state_dict())
    short = lla.layerwise(model, data, 2, "2")
    exact = lla.layerwise(model, data, 2, "2", precision="float64")
    assert short.names == exact.names == ("2",)
    assert (short.dtype, exact.dtype) == ("float32", "float64")
    np.testing.assert_allclose(short["2"].eigenvalues, exact["2"].eigenvalues, rtol=1e-4)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_layer_that_is_not_piecewise_linear_says_so(networks):
    found = measured(networks, "smooth", k=2)
    assert "not piecewise linear" in found["0"].why
    model, data = networks.seeded(networks.smooth), networks.batches(networks.smooth, (6, 5))
    values = torch.linalg.eigvalsh(networks.hessian(model, data, "0")).flip(0)[:2]
    np.testing.assert_allclose(found["0"].eigenvalues, values, rtol=1e-8)


def test_convolutions_with_groups_are_left_out_unless_they_are_named():
    model = nn.Sequential(
        nn.Conv2d(2, 2, 2), nn.ReLU(), nn.Conv2d(2, 2, 2, groups=2), nn.Flatten(), nn.Linear(2, 2)
    )
    data = torch.rand(4, 2, 3, 3), torch.arange(4) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert lla.layerwise(model, data, 2).names == ("0", "4")
    with pytest.raises(lla.InputError, match="2 is a convolution with 2 groups"):
        lla.layerwise(model, data, 2, ["0", "2"])


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.b(F.relu(self.a(F.relu(self.a(x)))))


def test_sure_predictions_are_no_rounding(networks):
    """The probabilities of all other classes are 1e-12: differences of gradients lose that."""
    model, data = networks.seeded(networks.mlp), networks.batches(networks.mlp, (6,))
    with torch.no_grad():
        model[4].bias += torch.tensor([28.0, 0.0, 0.0])
    found = lla.layers.moments(lla.Problem(model, data), ["4"])["4"]
    p = model(data[0][0]).detach().double().softmax(1)
    A = p[:, 1] * (1 - p[:, 1])
    np.testing.assert_allclose(found.M[1, 1], A.mean(), rtol=1e-10)
    rows = p[:, 1] + p[:, 2]
    np.testing.assert_allclose(found.M[0, 0], (p[:, 0] * rows).mean(), rtol=1e-9)


def train_normed(networks, data):
    return lla.layerwise(networks.seeded(networks.normed), data, 2, mode="train")


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (lambda m, d, _: lla.layerwise(m, d, 4), "k is 4, but layer 4 has 3 outputs: take k=3"),
        (lambda m, d, _: lla.layerwise(m, d, 6, "0"), "k is 6, but layer 0 has 5 outputs"),
        (lambda m, d, _: lla.layerwise(m, d), "k is 10, but layer 0 has 5 outputs"),
        (lambda m, d, _: lla.layerwise(m, d, 0), "k is 0: it must be positive"),
        (lambda m, d, _: lla.layerwise(m, d, 2.0), "k is 2.0: give a whole number"),
        (lambda m, d, _: lla.layerwise(m, d, 2, probes=1), "probes is 1"),
        (lambda m, d, _: lla.layerwise(m, d, 2, "nought"), "no layer 'nought'"),
        (lambda m, d, _: lla.layerwise(m, d, 2, "1"), "1 .ReLU. has no trainable weight"),
        (lambda m, d, _: lla.layerwise(m, d, 2, []), "there is no layer"),
        (lambda m, d, _: lla.layerwise(m, (d[0][:1], d[1][:1]), 2), "there is one example"),
        (lambda m, d, _: lla.layerwise(m, (d[0], d[1] + 1), 2), "classes|labels|targets"),
        (
            lambda m, d, _: lla.layerwise(m, (d[0], torch.rand(6, 3).double()), 2, loss=F.mse_loss),
            "need a mean cross-entropy",
        ),
        (
            lambda m, d, _: lla.layerwise(m, d, 2, loss=nn.CrossEntropyLoss(reduction="sum")),
            "need a mean cross-entropy",
        ),
        (lambda m, d, _: lla.layerwise(Twice().double(), d, 2), "a has no curvature .* 2 times"),
        (
            lambda _, d, networks: train_normed(networks, d),
            "0 has no curvature .* affect each other",
        ),
    ],
)
def test_slips_are_named_before_any_work(networks, slip, message):
    model, (x, y) = networks.seeded(networks.mlp), networks.batches(networks.mlp)[0]
    y = torch.arange(6) % 3
    with pytest.raises(lla.InputError, match=message):
        slip(model, (x, y), networks)


def test_factors_that_do_not_fit_into_memory_are_refused(networks, monkeypatch):
    monkeypatch.setattr("lla.free_memory.available_memory", lambda device: 1500)
    with pytest.raises(lla.InsufficientMemoryError, match="factors of 0, 5 by 5 and 4 by 4, take"):
        measured(networks, "mlp")
