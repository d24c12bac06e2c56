import dataclasses

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

import lla
from lla.probes import rademacher

DISTINCT = np.sort(np.concatenate([[-3.0, -0.7, 12.0], np.linspace(0.1, 2.0, 37)]))


def probe(size, seed, index, stream=0):
    """The unit probe that a spectrum starts from."""
    v = rademacher(size, torch.zeros((), dtype=torch.float64), seed, stream, index).numpy()
    return v / np.sqrt(size)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
def test_with_as_many_steps_as_parameters_the_nodes_are_the_eigenvalues(cases, dtype, tolerance):
    A, vectors = cases.matrix(DISTINCT)
    spectrum = lla.spectral_density(cases.quadratic(A, dtype), probes=3, steps=len(DISTINCT))
    assert spectrum.counts.tolist() == [len(DISTINCT)] * 3
    for i in range(3):
        np.testing.assert_allclose(spectrum.eigenvalues[i], DISTINCT, atol=tolerance * 12)
        weights = (vectors.T @ probe(len(A), 0, i)) ** 2
        np.testing.assert_allclose(spectrum.weights[i], weights, atol=100 * tolerance)


def test_nodes_of_a_network_are_its_eigenvalues(cases):
    case = cases.BY_NAME["mlp_mse"]
    expected = np.linalg.eigvalsh(cases.hessian(case).numpy())
    spectrum = lla.spectral_density(lla.HessianOperator(case.problem()), 2, len(expected))
    for i, n in enumerate(spectrum.counts):
        distances = np.abs(spectrum.eigenvalues[i, :n, None] - expected).min(1)
        assert distances.max() < 1e-8


@pytest.mark.parametrize("steps", [3, 10, 40])
@pytest.mark.parametrize(
    "eigenvalues",
    [DISTINCT, np.repeat([-2.0, 1.0, 5.0, 9.0], 10), np.concatenate([[1e3, 30], np.zeros(38)])],
    ids=["distinct", "repeated", "low_rank"],
)
def test_moments_of_every_probe_are_exact(cases, eigenvalues, steps):
    A, _ = cases.matrix(eigenvalues)
    scale = np.abs(eigenvalues).max()
    spectrum = lla.spectral_density(cases.quadratic(A), probes=4, steps=steps, seed=5)
    for order in range(5):
        power = np.linalg.matrix_power(A / scale, order)
        expected = [probe(len(A), 5, i) @ power @ probe(len(A), 5, i) for i in range(4)]
        found = spectrum.moment(order) / scale**order
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_moments_of_a_network_are_those_of_its_hessian(cases, case):
    H = cases.hessian(case).numpy()
    steps = min(6, len(H))
    spectrum = lla.spectral_density(lla.HessianOperator(case.problem()), 2, steps, seed=1)
    scale = np.linalg.norm(H, 2)
    for order in range(5):
        power = np.linalg.matrix_power(H / scale, order)
        expected = [probe(len(H), 1, i) @ power @ probe(len(H), 1, i) for i in range(2)]
        np.testing.assert_allclose(spectrum.moment(order) / scale**order, expected, atol=1e-10)


@pytest.mark.parametrize(
    "distinct", [[-2.0, 1.0, 5.0, 9.0], [0.0, 1e3], [7.0], [0.0], [-1.0, 0.0, 1.0]], ids=str
)
def test_repeated_eigenvalues_come_once_and_short_runs_are_padded(cases, distinct):
    H = cases.spectrum_of(np.repeat(distinct, 12))
    spectrum = lla.spectral_density(H, probes=3, steps=10)
    k = len(distinct)
    assert spectrum.counts.tolist() == [k] * 3
    scale = max(np.abs(distinct).max(), 1)
    for values, weights in zip(spectrum.eigenvalues, spectrum.weights, strict=True):
        np.testing.assert_allclose(values[:k], distinct, atol=1e-8 * scale)
        assert not values[k:].any()
        assert not weights[k:].any()


def test_in_float32_what_follows_repeated_eigenvalues_has_no_weight(cases):
    distinct = np.array([-2.0, 1.0, 5.0, 9.0])
    spectrum = lla.spectral_density(
        cases.spectrum_of(np.repeat(distinct, 50), torch.float32), 3, 10
    )
    distances = np.abs(spectrum.eigenvalues[..., None] - distinct).min(-1)
    assert spectrum.weights[distances > 1e-4].sum() < 1e-8


def test_weights_are_positive_and_sum_to_one(cases, case):
    size = case.problem().space.size
    H = lla.HessianOperator(case.problem(dtype=torch.float32))
    for legacy in (False, True):
        spectrum = lla.spectral_density(H, probes=2, steps=min(12, size), legacy=legacy)
        np.testing.assert_allclose(spectrum.weights.sum(1), 1, atol=1e-12)
        assert (spectrum.weights >= 0).all()
        for values, n in zip(spectrum.eigenvalues, spectrum.counts, strict=True):
            assert (np.diff(values[:n]) >= 0).all()


def test_same_seed_same_spectrum_and_another_seed_another(cases):
    H = cases.spectrum_of(DISTINCT)
    one, same, other = (lla.spectral_density(H, 3, 8, seed) for seed in (0, 0, 1))
    assert np.array_equal(one.eigenvalues, same.eigenvalues)
    assert np.array_equal(one.weights, same.weights)
    assert not np.allclose(one.eigenvalues, other.eigenvalues)
    assert not np.allclose(one.eigenvalues[0], one.eigenvalues[1])
    stream = lla.spectral_density(H, 3, 8, 0, stream=1)
    assert not np.allclose(one.eigenvalues, stream.eigenvalues)


def test_a_probe_does_not_depend_on_their_number(cases):
    H = cases.spectrum_of(DISTINCT)
    few, many = lla.spectral_density(H, 2, 8), lla.spectral_density(H, 5, 8)
    assert np.array_equal(few.eigenvalues, many.eigenvalues[:2])
    assert np.array_equal(few.weights, many.weights[:2])


@pytest.mark.parametrize("together", [2, 3, 10])
def test_probes_side_by_side_are_those_one_by_one(cases, together):
    H = lla.HessianOperator(cases.BY_NAME["cnn_bn_eval"].problem())
    one = lla.spectral_density(H, 5, 12)
    side = lla.spectral_density(H, 5, 12, together=together)
    np.testing.assert_allclose(side.eigenvalues, one.eigenvalues, atol=1e-10)
    np.testing.assert_allclose(side.weights, one.weights, atol=1e-10)
    assert side.matvecs == one.matvecs == 60


@pytest.mark.parametrize(
    "options",
    [{"basis_device": "cpu"}, {"basis_dtype": torch.float32}, {"basis_dtype": torch.float16},
     {"basis_dtype": torch.bfloat16}],
    ids=str,
)  # fmt: skip
def test_storage_of_the_basis_does_not_change_the_criteria(cases, options):
    rng = np.random.default_rng(0)
    H = cases.spectrum_of(np.concatenate([[200.0, 90.0], rng.normal(size=198) + 0.5]))
    exact = lla.spectrum_criteria(lla.spectral_density(H, 2, 60))
    found = lla.spectrum_criteria(lla.spectral_density(H, 2, 60, memory=lla.Memory(**options)))
    exact_device = "basis_device" in options
    for field in dataclasses.fields(exact):
        a, b = getattr(exact, field.name), getattr(found, field.name)
        np.testing.assert_allclose(b, a, rtol=1e-10 if exact_device else 0.02)


def test_more_steps_than_parameters_are_clamped_and_said(cases):
    H = cases.spectrum_of(DISTINCT)
    with pytest.warns(UserWarning, match="steps=100 exceeds the 40 parameters: 40 steps"):
        spectrum = lla.spectral_density(H, 1, 100)
    assert spectrum.steps == 40
    assert spectrum.eigenvalues.shape == (1, 40)
    assert spectrum.matvecs == 40


def test_facts_of_a_spectrum(cases):
    H = cases.spectrum_of(DISTINCT, torch.float32)
    H @ torch.ones(40)
    spectrum = lla.spectral_density(H, probes=3, steps=7, seed=9)
    assert (spectrum.size, spectrum.steps, spectrum.seed, spectrum.probes) == (40, 7, 9, 3)
    assert (spectrum.dtype, spectrum.legacy, spectrum.matvecs) == ("float32", False, 21)
    assert H.matvecs == 22
    assert spectrum.eigenvalues.dtype == np.float64


@pytest.mark.parametrize("legacy", [False, True])
def test_product_that_is_not_finite(cases, legacy):
    H = cases.spectrum_of(DISTINCT)
    product = H._kept[0]
    H._kept[0] = lambda rows: product(rows) * float("nan")
    with pytest.raises(lla.NonFiniteError, match="not finite"):
        lla.spectral_density(H, 1, 5, legacy=legacy)


@pytest.mark.parametrize(("probes", "steps"), [(0, 5), (5, 0), (-1, 5)])
def test_too_few_probes_or_steps(cases, probes, steps):
    with pytest.raises(lla.InputError, match="give a whole number from 1"):
        lla.spectral_density(cases.spectrum_of(DISTINCT), probes, steps)


def test_negative_seed(cases):
    with pytest.raises(lla.InputError, match="seed"):
        lla.spectral_density(cases.spectrum_of(DISTINCT), 1, 5, seed=-1)


@pytest.mark.parametrize(
    "eigenvalues", [DISTINCT, np.repeat([2.0, 3.0], 10), np.zeros(20), np.full(20, -4.0)],
    ids=["distinct", "repeated", "zero", "one"],
)  # fmt: skip
def test_density_integrates_to_one(cases, eigenvalues):
    spectrum = lla.spectral_density(cases.spectrum_of(eigenvalues), 3, 10)
    grid = spectrum.grid()
    density = spectrum.density()
    assert density.shape == grid.shape == (2000,)
    assert trapezoid(density, grid) == pytest.approx(1, abs=1e-3)
    narrow = np.linspace(grid[0], grid[-1], 20001)
    sigma = (grid[-1] - grid[0]) / 500
    assert trapezoid(spectrum.density(narrow, sigma), narrow) == pytest.approx(1, abs=1e-3)


def test_density_is_a_sum_of_gaussians():
    spectrum = lla.Spectrum(
        eigenvalues=np.array([[-1.0, 2.0, 0.0], [0.5, 0.0, 0.0]]),
        weights=np.array([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0]]),
        counts=np.array([2, 1]), size=9, steps=3, seed=0, dtype="float64", legacy=False, matvecs=6,
    )  # fmt: skip
    grid = np.array([-1.0, 0.0, 0.7])

    def gauss(center):
        return np.exp(-((grid - center) ** 2) / 2 / 0.3**2) / np.sqrt(2 * np.pi) / 0.3

    expected = (0.25 * gauss(-1) + 0.75 * gauss(2) + gauss(0.5)) / 2
    np.testing.assert_allclose(spectrum.density(grid, 0.3), expected)
    np.testing.assert_allclose(spectrum.moment(2), [0.25 + 3, 0.25])


def test_grid_covers_the_nodes_and_not_the_padding(cases):
    spectrum = lla.spectral_density(cases.spectrum_of(np.repeat([100.0, 101.0], 10)), 2, 10)
    grid = spectrum.grid(points=50, margin=0.1)
    assert len(grid) == 50
    assert grid[0] == pytest.approx(99.9)
    assert grid[-1] == pytest.approx(101.1)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_broadening_must_be_positive(cases, sigma):
    spectrum = lla.spectral_density(cases.spectrum_of(DISTINCT), 1, 5)
    with pytest.raises(lla.InputError, match="broadening must be positive"):
        spectrum.density(sigma=sigma)


def test_save_and_load(cases, tmp_path):
    spectrum = lla.spectral_density(cases.spectrum_of(DISTINCT), 2, 5)
    for path in (tmp_path / "spectrum.npz", str(tmp_path / "other")):
        spectrum.save(path)
        again = lla.Spectrum.load(path)
        for field in dataclasses.fields(spectrum):
            a, b = getattr(spectrum, field.name), getattr(again, field.name)
            assert type(a) is type(b)
            assert np.array_equal(a, b)


def test_the_density_is_broadened_by_a_two_hundredth_of_the_grid(cases):
    spectrum = lla.spectral_density(cases.spectrum_of(DISTINCT), 2, 5)
    grid = np.linspace(-3.0, 7.0, 50)
    np.testing.assert_array_equal(spectrum.density(grid), spectrum.density(grid, sigma=0.05))
    expected = 0.1 / (len(DISTINCT) * 0.05 * np.sqrt(2 * np.pi))
    assert spectrum.floor(grid) == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_file(cases, tmp_path, share):
    path = tmp_path / "spectrum.npz"
    lla.spectral_density(cases.spectrum_of(DISTINCT), 2, 5).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(lla.ChecksumError, match=r"spectrum\.npz cannot be read"):
        lla.Spectrum.load(path)


def test_progress_bar_counts_products(cases, capsys):
    lla.spectral_density(cases.spectrum_of(DISTINCT), 2, 5, progress=True)
    assert "10/10" in capsys.readouterr().err
    lla.spectral_density(cases.spectrum_of(DISTINCT), 2, 5)
    assert capsys.readouterr().err == ""


def test_legacy_shows_ghost_copies_of_an_outlier_and_ours_does_not(cases):
    rng = np.random.default_rng(0)
    H = cases.spectrum_of(np.concatenate([[300.0], rng.normal(size=299)]), torch.float32)
    ours, legacy = (lla.spectral_density(H, 2, 100, legacy=legacy) for legacy in (False, True))
    assert ((ours.eigenvalues > 150).sum(1) == 1).all()
    assert ((legacy.eigenvalues > 150).sum(1) >= 3).all()
    assert legacy.legacy
    assert legacy.matvecs == ours.matvecs == 200
    assert (legacy.counts == 100).all()


def test_legacy_spectrum_is_right_while_orthogonality_lasts(cases):
    H = cases.spectrum_of(DISTINCT * 1e3)
    ours, legacy = (lla.spectral_density(H, 2, 8, legacy=legacy) for legacy in (False, True))
    np.testing.assert_allclose(legacy.eigenvalues, ours.eigenvalues, rtol=1e-4)


def test_legacy_depends_on_the_scale_of_the_loss(cases):
    A, _ = cases.matrix(np.random.default_rng(0).normal(size=60))
    scaled = [
        lla.spectral_density(cases.quadratic(A * c, torch.float32), 1, 30, legacy=legacy)
        .eigenvalues[0] / c
        for legacy in (False, True) for c in (1.0, 1e-5)
    ]  # fmt: skip
    np.testing.assert_allclose(scaled[0][[0, -1]], scaled[1][[0, -1]], rtol=1e-3)
    assert np.abs(scaled[2] - scaled[3]).max() > 0.05


def two_nodes():
    values, weights = np.array([[0.0, 1.0]]), np.array([[0.5, 0.5]])
    return lla.Spectrum(values, weights, np.array([2]), 2, 2, 0, "float64", False, 2)


@pytest.mark.hard_use("A broadening of 0, -1, NaN, infinity or 1e-320 is refused, not divided by")
@pytest.mark.parametrize("sigma", [0, -1.0, np.nan, np.inf, 1e-320])
@pytest.mark.parametrize("name", ["density", "floor", "plot"])
def test_a_wrong_broadening(name, sigma):
    with pytest.raises(lla.InputError, match=f"sigma is {sigma}: the broadening must be positive"):
        getattr(two_nodes(), name)(sigma=sigma)


@pytest.mark.parametrize("grid", [[], [np.nan], [[0.0, 1.0]]])
def test_a_wrong_grid(grid):
    with pytest.raises(lla.InputError, match="give a list of finite numbers"):
        two_nodes().density(grid, 0.1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s: s.grid(1), "points is 1"),
        (lambda s: s.grid(10**12), "points is 10"),
        (lambda s: s.grid(margin=-1), "the margin is -1"),
        (lambda s: s.grid(margin=np.nan), "the margin is nan"),
        (lambda s: s.moment(-1), "order is -1"),
        (lambda s: s.plot(floor=0), "floor is 0"),
    ],
)
def test_other_wrong_numbers(call, said):
    with pytest.raises(lla.InputError, match=said):
        call(two_nodes())


@pytest.mark.hard_use("`together=0` is refused; it was an endless or empty computation")
@pytest.mark.parametrize("together", [0, -1, 1.5])
def test_probes_advance_at_least_one_at_a_time(cases, together):
    with pytest.raises(lla.InputError, match=f"together is {together}: give a whole number"):
        lla.spectral_density(cases.spectrum_of(DISTINCT), 2, 3, together=together)


@pytest.mark.parametrize("memory", [-1, lla.Memory(-1), lla.Memory(basis_dtype=torch.int32)])
def test_a_wrong_memory(cases, memory):
    with pytest.raises(lla.InputError, match=r"memory is -1|basis_dtype is torch\.int32"):
        lla.spectral_density(cases.spectrum_of(DISTINCT), 2, 3, memory=memory)
