import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla
from lla.probes import rademacher

NAMES = ("re", "kh1", "kh05", "negative_share")
WITH_POSITIVE = [
    "mlp_mse", "cnn_bn_eval", "cnn_bn_train", "residual_train", "encoder_eval", "dropout_train",
    "tied", "frozen_and_unused", "tuple_input", "dict_input", "output_with_logits", "quadratic",
]  # fmt: skip


def spectrum(values, weights, dtype="float64", legacy=False):
    """A spectrum of given nodes [probes, n] and weights."""
    values, weights = np.atleast_2d(values), np.atleast_2d(weights)
    values, weights = (np.asarray(a, dtype=float) for a in (values, weights))
    return lla.Spectrum(
        eigenvalues=values, weights=weights, counts=np.full(len(values), values.shape[1]), size=99,
        steps=values.shape[1], seed=0, dtype=dtype, legacy=legacy, matvecs=values.size,
    )  # fmt: skip


def values_of(crit):
    return np.array([getattr(crit, name).value for name in NAMES])


def lenet(seed, cases, sharpen=1.0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = cases.lenet_like().double()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(sharpen)
    return model


def image_batches(cases, sizes):
    return cases.BY_NAME["cnn_bn_eval"].batches(sizes)


def test_definitions_by_hand():
    values = [[-3.0, -1.0, 0.0, 2.0, 4.0], [-1.0, 0.5, 1.0, 2.0, 8.0]]
    weights = [[0.1, 0.2, 0.3, 0.3, 0.1], [0.5, 0.1, 0.1, 0.2, 0.1]]
    found = lla.spectrum_criteria(spectrum(values, weights))
    np.testing.assert_allclose(found.re, [3 / 4, 1 / 8])
    np.testing.assert_allclose(found.kh1, [(0.3 + 0.2) / (0.6 + 0.4), 0.5 / (0.15 + 0.4 + 0.8)])
    root = np.sqrt
    first = (root(0.3) + root(0.2)) / (root(0.6) + root(0.4))
    second = root(0.5) / (root(0.05) + root(0.1) + root(0.4) + root(0.8))
    np.testing.assert_allclose(found.kh05, [first, second])
    np.testing.assert_allclose(found.negative_share, [0.5 / 1.5, 0.5 / 1.85])
    density = lla.spectrum_criteria(spectrum(values, weights), "density")
    first = (0.1 * root(3) + 0.2) / (0.3 * root(2) + 0.2)
    assert density.kh05[0] == pytest.approx(first)
    np.testing.assert_allclose(density.kh1, found.kh1)
    np.testing.assert_allclose(density.re, found.re)


def test_padding_counts_for_nothing():
    plain = spectrum([[-1.0, 2.0]], [[0.4, 0.6]])
    padded = dataclasses.replace(
        plain,
        eigenvalues=np.array([[-1.0, 2.0, 0.0]]),
        weights=np.array([[0.4, 0.6, 0.0]]),
        steps=3,
    )
    for field in dataclasses.fields(lla.spectrum_criteria(plain)):
        a, b = (getattr(lla.spectrum_criteria(s), field.name) for s in (plain, padded))
        assert np.array_equal(a, b)


@pytest.mark.parametrize("reading", ["product", "density"])
def test_a_symmetrised_spectrum_gives_one(reading):
    values = np.array([0.3, 1.0, 2.0, 70.0])
    weights = np.array([0.1, 0.2, 0.15, 0.05])
    found = lla.spectrum_criteria(
        spectrum(np.r_[-values, values], np.r_[weights, weights]), reading
    )
    for name in ("re", "kh1", "kh05"):
        assert getattr(found, name)[0] == pytest.approx(1, rel=1e-12)
    assert found.negative_share[0] == pytest.approx(0.5)


def test_a_model_with_its_negative_beside_it_gives_one(cases):
    A, _ = cases.matrix(np.linspace(0.5, 3, 60))
    zero = np.zeros_like(A)
    H = cases.quadratic(np.block([[A, zero], [zero, -A]]))
    found = lla.spectrum_criteria(lla.spectral_density(H, probes=20, steps=100))
    np.testing.assert_allclose(found.re, 1, rtol=1e-6)
    for ratios in (found.kh1, found.kh05):
        assert abs(ratios.mean() - 1) < 4 * ratios.std() / np.sqrt(20) + 1e-3


@pytest.mark.parametrize("bound", ["inside", "outside"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nodes_within_rounding_of_zero_belong_to_no_side(dtype, bound):
    eps = np.finfo(dtype).eps
    small = 10 * eps * (0.9 if bound == "inside" else 1.1)
    values, weights = [[-small, small, 10.0]], [[0.5, 0.4, 0.1]]
    found = lla.spectrum_criteria(spectrum(values, weights, dtype))
    legacy = lla.spectrum_criteria(spectrum(values, weights, dtype, legacy=True))
    assert (found.kh1[0] == 0) == (bound == "inside")
    assert (found.kh05[0] == 0) == (bound == "inside")
    assert (found.re[0] == 0) == (bound == "inside")
    assert legacy.kh1[0] > 0
    assert legacy.re[0] == pytest.approx(small / 10)


@pytest.mark.parametrize("steps", [5, 15, None])
@pytest.mark.parametrize("case", WITH_POSITIVE, indirect=True)
def test_kh1_is_one_minus_the_quadratic_form_over_the_positive_part(cases, case, steps):
    model, batches = case.make(), case.batches((5, 3))
    size = lla.ParameterSpace.of(model).size
    steps = min(size, 60) if steps is None else min(size, steps)
    crit = lla.criteria(model, batches, case.mode, 2, steps, seed=cases.SEED, loss=case.loss)
    for b, batch in enumerate(batches):
        H = cases.plain_hessian(model, [batch], case.loss, case.mode)
        found = lla.spectrum_criteria(crit.spectra[b])
        np.testing.assert_allclose(crit.spectra[b].weights.sum(1), 1, atol=1e-12)
        for i in range(2):
            v = rademacher(size, H, cases.SEED, b, i) / np.sqrt(size)
            values, weights = crit.spectra[b].eigenvalues[i], crit.spectra[b].weights[i]
            positive = (values * weights)[values > 0].sum()
            assert found.kh1[i] == pytest.approx(1 - float(v @ H @ v) / positive, abs=1e-9)


@pytest.mark.parametrize("case", WITH_POSITIVE, indirect=True)
def test_re_is_that_of_numpy(cases, case):
    model, batch = case.make(), case.batch(5)
    eigenvalues = np.linalg.eigvalsh(cases.hessian(case))
    crit = lla.criteria(model, [batch], case.mode, 2, len(eigenvalues), seed=cases.SEED,
                        loss=case.loss)  # fmt: skip
    expected = max(0, -eigenvalues[0]) / eigenvalues[-1]
    assert crit.re.value == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("factor", [1e-4, 1e4, 2.0**-30])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-2)])
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_scale_of_the_loss_does_not_matter(cases, factor, dtype, tolerance, mode):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batches = case.make(dtype), case.batches((6, 4), dtype)

    def scaled(output, y):
        return factor * F.cross_entropy(output, y)

    one = lla.criteria(model, batches, mode, 3, 20, route="retained")
    other = lla.criteria(model, batches, mode, 3, 20, loss=scaled, route="retained")
    np.testing.assert_allclose(values_of(other), values_of(one), rtol=tolerance)
    if factor == 2.0**-30:
        assert np.array_equal(values_of(other), values_of(one))


def test_legacy_depends_on_the_scale_of_the_loss(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batches = case.make(torch.float32), case.batches((6, 4), torch.float32)

    def scaled(output, y):
        return 1e-6 * F.cross_entropy(output, y)

    one = lla.criteria(model, batches, probes=3, steps=40, legacy=True)
    other = lla.criteria(model, batches, probes=3, steps=40, legacy=True, loss=scaled)
    assert one.legacy
    assert np.abs(values_of(other) / values_of(one) - 1).max() > 0.1


@pytest.mark.parametrize(("seed", "sharpen"), [(0, 0.5), (1, 1.0), (2, 3.0), (3, 1.0)])
def test_exact_kh1_of_a_piecewise_linear_network_is_at_most_one(cases, seed, sharpen):
    model, batch = lenet(seed, cases, sharpen), image_batches(cases, (8,))
    H = cases.plain_hessian(model, batch)
    eigenvalues = np.linalg.eigvalsh(H)
    exact = lla.spectrum_criteria(
        spectrum(eigenvalues, np.full(len(eigenvalues), 1 / len(eigenvalues)))
    )
    assert eigenvalues[0] < -1e-3
    assert 0 < exact.kh1[0] <= 1
    probed = lla.criteria(model, batch, probes=40, steps=30, seed=seed)
    assert probed.kh1.value <= 1 + 3 * probed.kh1.stderr


def test_trace_of_a_piecewise_linear_network_is_that_of_the_fisher_matrix(cases):
    model, ((x, y),) = lenet(0, cases), image_batches(cases, (6,))
    parameters = list(model.parameters())
    fisher = 0.0
    log_p = F.log_softmax(model(x), 1)
    for row in log_p:
        for value in row:
            gradient = torch.autograd.grad(value, parameters, retain_graph=True)
            fisher += (
                float(value.detach().exp())
                * sum(float(g.square().sum()) for g in gradient)
                / len(x)
            )
    exact = lla.HessianOperator(lla.Problem(model, (x, y)))
    assert float((exact @ torch.eye(exact.shape[0]).double()).trace()) == pytest.approx(fisher)


@pytest.mark.parametrize("legacy", [False, True])
def test_network_without_batchnorm_and_dropout_has_one_mode(cases, legacy):
    model, batches = lenet(1, cases), image_batches(cases, (5, 4))
    both = [
        lla.criteria(model, batches, mode, 2, 20, seed=4, legacy=legacy, route="retained")
        for mode in ("eval", "train")
    ]
    assert np.array_equal(values_of(both[0]), values_of(both[1]))
    assert both[0].loss == both[1].loss


def test_negative_definite_hessian_is_an_error(cases):
    A, _ = cases.matrix(-np.linspace(1, 2, 10))
    model = cases.Quadratic(torch.as_tensor(A))
    batch = (torch.zeros(1, 1).double(), torch.zeros(1))
    with pytest.raises(lla.InputError, match=r"no eigenvalue is positive .*a maximum, or the loss"):
        lla.criteria(model, batch, steps=5, loss=cases.take_output)


def test_zero_hessian_is_an_error(cases):
    model = cases.Quadratic(torch.zeros(8, 8).double())
    batch = (torch.zeros(1, 1).double(), torch.zeros(1))
    with pytest.raises(lla.InputError, match="every eigenvalue that a probe sees is 0"):
        lla.criteria(model, batch, steps=5, loss=cases.take_output)


def test_density_reading_converges_with_the_steps_and_product_reading_does_not(cases):
    rng = np.random.default_rng(0)
    bulk = np.concatenate([rng.normal(size=230), rng.uniform(0, 4, size=60)])
    H = cases.spectrum_of(np.concatenate([[400.0, 300, 200, 100, 80, 60, 50, 40, 30, 20], bulk]))
    found = {}
    for steps in (20, 50, 100, 200):
        spectrum = lla.spectral_density(H, 4, steps)
        for reading in ("product", "density"):
            found[reading, steps] = lla.spectrum_criteria(spectrum, reading).kh05.mean()
    assert found["density", 200] == pytest.approx(found["density", 100], rel=0.02)
    assert found["density", 100] == pytest.approx(found["density", 50], rel=0.05)
    product = [found["product", steps] for steps in (20, 50, 100, 200)]
    assert product[0] < 0.9 * product[1] < 0.9**2 * product[2]
    assert abs(product[2] / product[3] - 1) > 0.05


def test_density_reading_is_that_of_the_exact_spectrum(cases):
    eigenvalues = np.concatenate([np.linspace(-2, -0.1, 80), np.linspace(0.1, 5, 120)])
    H = cases.spectrum_of(eigenvalues)
    found = lla.spectrum_criteria(lla.spectral_density(H, 30, 60), "density").kh05
    negative, positive = eigenvalues[eigenvalues < 0], eigenvalues[eigenvalues > 0]
    exact = np.sqrt(-negative).sum() / np.sqrt(positive).sum()
    assert abs(found.mean() - exact) < 4 * found.std() / np.sqrt(30) + 0.01 * exact


@pytest.mark.parametrize("sizes", [(6,), (6, 4, 3)])
def test_averages_and_standard_errors_by_hand(cases, sizes):
    model, batches = lenet(0, cases), image_batches(cases, sizes)
    crit = lla.criteria(model, batches, probes=4, steps=15)
    assert len(crit.spectra) == crit.batches == len(sizes)
    assert crit.stderr_kind == ("probes" if len(sizes) == 1 else "batches")
    parts = [lla.spectrum_criteria(s) for s in crit.spectra]
    for name in NAMES:
        samples = np.array([getattr(part, name) for part in parts])
        if len(sizes) > 1:
            samples = samples.mean(1)
        estimate = getattr(crit, name)
        assert estimate.value == pytest.approx(samples.mean())
        assert estimate.stderr == pytest.approx(samples.std(ddof=1) / np.sqrt(samples.size))
        assert estimate.n == samples.size
        assert estimate.matvecs == 4 * 15 * len(sizes)
    assert crit.matvecs == 4 * 15 * len(sizes)
    expected = float(cases.plain_loss(model, batches, F.cross_entropy)[0].detach())
    assert crit.loss == pytest.approx(expected)
    assert (crit.probes, crit.steps, crit.dtype, crit.scope) == (4, 15, "float64", "batches")
    assert (crit.reading, crit.legacy, crit.route in ("linearized", "retained")) == (
        "product", False, True
    )  # fmt: skip


def test_one_probe_on_one_batch_has_no_standard_error(cases):
    crit = lla.criteria(lenet(0, cases), image_batches(cases, (6,)), probes=1, steps=5)
    assert crit.kh1.stderr is None
    assert crit.kh1.n == 1


def test_batches_have_hessians_and_probes_of_their_own(cases):
    model, (batch,) = lenet(0, cases), image_batches(cases, (6,))
    crit = lla.criteria(model, [batch, batch], probes=2, steps=10)
    first, second = crit.spectra
    alone = lla.criteria(model, batch, probes=2, steps=10)
    np.testing.assert_allclose(first.eigenvalues, alone.spectra[0].eigenvalues, atol=1e-10)
    assert not np.allclose(first.weights, second.weights)


def test_pooled_scope_is_the_hessian_of_all_batches(cases):
    model, batches = lenet(0, cases), image_batches(cases, (6, 4, 1))
    crit = lla.criteria(model, batches, probes=3, steps=12, scope="pooled", seed=2)
    H = lla.HessianOperator(lla.Problem(model, batches))
    expected = lla.spectral_density(H, 3, 12, 2)
    np.testing.assert_allclose(crit.spectra[0].eigenvalues, expected.eigenvalues, atol=1e-9)
    assert len(crit.spectra) == 1
    assert (crit.scope, crit.stderr_kind, crit.batches) == ("pooled", "probes", 3)
    assert crit.kh05.n == 3
    assert crit.matvecs == 36
    expected = float(cases.plain_loss(model, batches, F.cross_entropy)[0].detach())
    assert crit.loss == pytest.approx(expected)


def test_another_reading_comes_from_the_same_spectra(cases):
    model, batches = lenet(0, cases), image_batches(cases, (6, 4))
    product = lla.criteria(model, batches, probes=2, steps=15)
    density = lla.criteria(model, batches, probes=2, steps=15, reading="density",
                           route=product.route)  # fmt: skip
    again = product.reread("density")
    assert again.reading == density.reading == "density"
    np.testing.assert_allclose(values_of(again), values_of(density), rtol=1e-10)
    assert again.spectra is product.spectra
    assert again.kh05.value != product.kh05.value
    assert values_of(again.reread("product")).tolist() == values_of(product).tolist()


@pytest.mark.parametrize("parameters", ["0.*", ["4.*", "6.bias"]])
def test_criteria_of_chosen_parameters(cases, parameters):
    model, batches = lenet(0, cases), image_batches(cases, (6,))
    crit = lla.criteria(model, batches, probes=1, steps=6, parameters=parameters)
    H = lla.HessianOperator(lla.Problem(model, batches), parameters)
    expected = lla.spectral_density(H, 1, 6)
    assert crit.spectra[0].size == H.shape[0]
    np.testing.assert_allclose(crit.spectra[0].eigenvalues, expected.eigenvalues, atol=1e-10)


@pytest.mark.parametrize("route", ["linearized", "retained", "fresh"])
def test_routes_agree_and_are_named(cases, route):
    model, batches = lenet(0, cases), image_batches(cases, (6, 4))
    crit = lla.criteria(model, batches, probes=2, steps=10, route=route)
    default = lla.criteria(model, batches, probes=2, steps=10)
    assert crit.route == route
    np.testing.assert_allclose(values_of(crit), values_of(default), rtol=1e-7)


def test_same_seed_same_numbers(cases):
    model, batches = lenet(0, cases), image_batches(cases, (6, 4))
    one, same, other = (
        lla.criteria(model, batches, probes=2, steps=10, seed=seed, route="retained")
        for seed in (0, 0, 1)
    )
    assert np.array_equal(values_of(one), values_of(same))
    assert not np.array_equal(values_of(one), values_of(other))


def test_pair_list_and_loader_are_the_same(cases):
    model, batches = lenet(0, cases), image_batches(cases, (4, 4))
    data = torch.utils.data.TensorDataset(*(torch.cat(t) for t in zip(*batches, strict=True)))
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    found = [
        values_of(lla.criteria(model, source, probes=2, steps=8, route="retained"))
        for source in (batches, tuple(batches), loader)
    ]
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_clamped_steps_are_said_once(cases):
    model = nn.Linear(36, 2, bias=False).double()
    batches = [(x.flatten(1), y % 2) for x, y in image_batches(cases, (6, 4, 3))]
    with pytest.warns(UserWarning, match="steps=500 exceeds the 72 parameters") as caught:
        crit = lla.criteria(model, batches, probes=1, steps=500)
    assert len(caught) == 1
    assert crit.steps == 72


def test_bad_batch_is_named_before_any_product(cases, monkeypatch):
    model, batches = lenet(0, cases), image_batches(cases, (4, 4, 4))
    monkeypatch.setattr(lla.HessianOperator, "rows", lambda *_: pytest.fail("a product was made"))
    for scope in ("batches", "pooled"):
        nan = [*batches[:2], (batches[2][0] * float("nan"), batches[2][1])]
        with pytest.raises(lla.NonFiniteError, match="batch 2 is nan"):
            lla.criteria(model, nan, steps=5, scope=scope)
        wrong = [*batches[:2], (batches[2][0], batches[2][1] + 7)]
        with pytest.raises(lla.InputError, match="batch 2"):
            lla.criteria(model, wrong, steps=5, scope=scope)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "test"}, "mode is 'test': choose 'eval' or 'train'"),
        ({"scope": "all"}, "scope is 'all': choose 'batches' or 'pooled'"),
        ({"reading": "sum"}, "reading is 'sum': choose 'product' or 'density'"),
        ({"route": "quick"}, "route is 'quick': choose one of"),
        ({"probes": 0}, "probes is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"parameters": "nothing*"}, "pattern 'nothing\\*' matches none"),
    ],
)
def test_options_that_cannot_be_are_named_before_any_product(cases, monkeypatch, options, message):
    monkeypatch.setattr(lla.HessianOperator, "rows", lambda *_: pytest.fail("a product was made"))
    with pytest.raises(lla.InputError, match=message):
        lla.criteria(lenet(0, cases), image_batches(cases, (4,)), **{"steps": 5, **options})


def test_unknown_reading_of_a_spectrum():
    with pytest.raises(lla.InputError, match="reading is 'sum'"):
        lla.spectrum_criteria(spectrum([1.0], [1.0]), "sum")


def test_spectrum_without_positive_node():
    with pytest.raises(lla.InputError, match=r"no eigenvalue is positive .*the largest of 2 is -1"):
        lla.spectrum_criteria(spectrum([-2.0, -1.0], [0.5, 0.5]))
