import dataclasses

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import eigsh

import lla

INDEFINITE = np.concatenate([[-25.0, -9.0, 30.0, 12.0, 11.0], np.linspace(-2, 4, 95)])
WAYS = ["LA", "SA", "LM", "BE"]
ORDER = {"LA": lambda v: -v, "SA": lambda v: v, "LM": lambda v: -np.abs(v)}


def expected_values(eigenvalues, which, k):
    values = np.sort(eigenvalues)
    if which == "BE":  # the largest, the smallest, the second largest, ...
        return np.array([values[-1 - i // 2] if i % 2 == 0 else values[i // 2] for i in range(k)])
    return values[np.argsort(ORDER[which](values), kind="stable")][:k]


def check(pairs, A, eigenvalues, which, k, tolerance=1e-8):
    scale = np.abs(eigenvalues).max() or 1.0
    expected = expected_values(eigenvalues, which, k)
    np.testing.assert_allclose(np.sort(pairs.values), np.sort(expected), atol=tolerance * scale)
    if which == "BE":
        np.testing.assert_allclose(pairs.values, expected, atol=tolerance * scale)
    else:
        assert (np.diff(ORDER[which](pairs.values)) >= -1e-10 * scale).all()
    np.testing.assert_allclose(np.linalg.norm(pairs.vectors, axis=1), 1, atol=1e-6)
    measured = np.linalg.norm(pairs.vectors @ A - pairs.values[:, None] * pairs.vectors, axis=1)
    rounding = np.finfo(pairs.vectors.dtype).eps * len(A) * scale
    np.testing.assert_allclose(pairs.residuals, measured, rtol=1e-3, atol=rounding)


@pytest.mark.parametrize("which", WAYS)
@pytest.mark.parametrize("k", [1, 2, 5])
def test_pairs_of_a_prescribed_spectrum(cases, which, k):
    A, vectors = cases.matrix(INDEFINITE)
    H = cases.quadratic(A)
    pairs = lla.top_eigenpairs(H, k, which, tol=1e-9)
    assert pairs.converged
    assert pairs.which == which
    check(pairs, A, INDEFINITE, which, k)
    assert (pairs.residuals <= 1e-8 * 30).all()
    for value, vector in zip(pairs.values, pairs.vectors, strict=True):
        true = vectors[:, np.abs(INDEFINITE - value).argmin()]
        assert abs(true @ vector) == pytest.approx(1, abs=1e-9)
    assert pairs.matvecs == H.matvecs == pairs.steps + k


@pytest.mark.parametrize("which", WAYS)
def test_default_tolerance_gives_values_to_its_square(cases, which):
    H = cases.spectrum_of(INDEFINITE)
    pairs = lla.top_eigenpairs(H, 2, which)
    np.testing.assert_allclose(pairs.values, expected_values(INDEFINITE, which, 2), rtol=1e-6)
    assert pairs.steps < 60


@pytest.mark.parametrize("which", WAYS)
def test_pairs_of_networks_are_those_of_numpy(cases, case, which):
    A = cases.hessian(case).numpy()
    eigenvalues = np.linalg.eigvalsh(A)
    pairs = lla.top_eigenpairs(lla.HessianOperator(case.problem()), 2, which, tol=1e-8)
    assert pairs.converged
    check(pairs, A, eigenvalues, which, 2)


def test_float32(cases):
    A, _ = cases.matrix(INDEFINITE)
    pairs = lla.top_eigenpairs(cases.quadratic(A, torch.float32), 3, "LM")
    assert pairs.converged
    assert pairs.vectors.dtype == np.float32
    check(pairs, A.astype(np.float32), INDEFINITE, "LM", 3, tolerance=1e-5)


@pytest.mark.parametrize("which", WAYS)
def test_scipy_finds_the_same_through_the_operator(cases, which):
    case = cases.BY_NAME["cnn_bn_eval"]
    H = lla.HessianOperator(case.problem())
    pairs = lla.top_eigenpairs(H, 3, which, tol=1e-9)
    other = eigsh(H.to_scipy(), k=3, which=which, return_eigenvectors=False)
    np.testing.assert_allclose(np.sort(pairs.values), np.sort(other), atol=1e-8)


@pytest.mark.parametrize("copies", [3, 4, 20])
@pytest.mark.parametrize("which", WAYS)
@pytest.mark.parametrize("k", [1, 2, 5, 6])
def test_repeated_eigenvalues_come_as_often_as_they_are(cases, copies, which, k):
    eigenvalues = np.repeat([-4.0, -1.0, 1.5, 2.0, 3.0], copies)
    A, _ = cases.matrix(eigenvalues)
    pairs = lla.top_eigenpairs(cases.quadratic(A), k, which)
    assert pairs.converged
    check(pairs, A, eigenvalues, which, k)
    gram = pairs.vectors @ pairs.vectors.T
    np.testing.assert_allclose(gram, np.eye(k), atol=1e-8)


def test_repeated_outlier_over_a_bulk(cases):
    eigenvalues = np.concatenate([[10.0, 10.0, 10.0], np.linspace(-1, 1, 97)])
    A, _ = cases.matrix(eigenvalues)
    pairs = lla.top_eigenpairs(cases.quadratic(A), 1)
    check(pairs, A, eigenvalues, "LA", 1)


@pytest.mark.parametrize("which", WAYS)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("size", [30, 1200])
def test_zero_hessian(cases, which, size):
    H = cases.quadratic(np.zeros((size, size)))
    pairs = lla.top_eigenpairs(H, 2, which)
    assert pairs.converged
    assert pairs.values.tolist() == [0, 0]
    assert pairs.residuals.tolist() == [0, 0]
    np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(2), atol=1e-10)
    assert pairs.matvecs < 50


def test_low_rank_costs_no_more_than_its_rank_asks_for(cases):
    eigenvalues = np.concatenate([[5.0, 3.0], np.zeros(198)])
    A, _ = cases.matrix(eigenvalues)
    pairs = lla.top_eigenpairs(cases.quadratic(A), 2)
    assert pairs.converged
    check(pairs, A, eigenvalues, "LA", 2)
    assert pairs.matvecs < 60


@pytest.mark.parametrize("which", WAYS)
def test_all_pairs(cases, which):
    eigenvalues = np.concatenate([[2.0, 2.0, 0.0, 0.0], np.linspace(-3, 1, 16)])
    A, _ = cases.matrix(eigenvalues)
    pairs = lla.top_eigenpairs(cases.quadratic(A), 20, which)
    assert pairs.converged
    check(pairs, A, eigenvalues, which, 20)
    np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(20), atol=1e-8)
    np.testing.assert_allclose((pairs.vectors.T * pairs.values) @ pairs.vectors, A, atol=1e-8)


def test_one_parameter(cases):
    pairs = lla.top_eigenpairs(cases.quadratic([[-3.0]]))
    assert pairs.converged
    assert pairs.values.tolist() == [-3.0]


def test_what_does_not_converge_is_said(cases):
    H = cases.spectrum_of(np.linspace(0, 1, 300))
    with pytest.warns(
        UserWarning, match="after 8 steps the residuals are .*raise max_steps or tol"
    ):
        pairs = lla.top_eigenpairs(H, 2, max_steps=8, tol=1e-8)
    assert not pairs.converged
    assert pairs.steps == 8
    assert pairs.matvecs == 10
    assert pairs.residuals.max() > 1e-4
    assert 0.8 < pairs.values[0] <= 1


def test_steps_are_not_exceeded_where_the_space_is_exhausted(cases):
    H = cases.spectrum_of(np.repeat([1.0, 2.0], 50))
    pairs = lla.top_eigenpairs(H, 3, max_steps=20)
    assert pairs.matvecs <= 23
    assert pairs.values == pytest.approx([2, 2, 2])


@pytest.mark.filterwarnings("ignore:after")
@pytest.mark.parametrize("basis_dtype", [None, torch.float32, torch.float16, torch.bfloat16])
def test_residuals_that_are_said_to_have_converged_are_below_tol(cases, basis_dtype):
    H = cases.spectrum_of(INDEFINITE)
    pairs = lla.top_eigenpairs(H, 2, "LM", tol=1e-4, memory=lla.Memory(basis_dtype=basis_dtype))
    assert pairs.converged == bool((pairs.residuals <= 2e-4 * 30).all())


def test_same_seed_same_pairs(cases):
    H = cases.spectrum_of(INDEFINITE)
    one, same, other = (lla.top_eigenpairs(H, 2, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(one.vectors, same.vectors)
    assert not np.array_equal(one.vectors, other.vectors)
    np.testing.assert_allclose(one.values, other.values, rtol=1e-6)


def test_product_that_is_not_finite(cases):
    H = cases.spectrum_of(INDEFINITE)
    H._kept[0] = lambda rows: rows * float("nan")
    with pytest.raises(lla.NonFiniteError, match="not finite"):
        lla.top_eigenpairs(H)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0: choose 1 to 100"),
        ({"k": 101}, "k is 101: choose 1 to 100"),
        ({"which": "SM"}, "which is 'SM': choose 'LA', 'SA', 'LM' or 'BE'"),
        ({"tol": 0}, "tol is 0: give a positive number"),
        ({"tol": float("nan")}, "tol is nan: give a positive number"),
        ({"max_steps": 0}, "max_steps"),
    ],
)
def test_options_that_cannot_be(cases, options, message):
    H = cases.spectrum_of(INDEFINITE)
    with pytest.raises(lla.InputError, match=message):
        lla.top_eigenpairs(H, **options)
    assert H.matvecs == 0


def test_save_and_load(cases, tmp_path):
    pairs = lla.top_eigenpairs(cases.spectrum_of(INDEFINITE, torch.float32), 2)
    pairs.save(tmp_path / "pairs.npz")
    again = lla.Eigenpairs.load(tmp_path / "pairs.npz")
    for field in dataclasses.fields(pairs):
        a, b = getattr(pairs, field.name), getattr(again, field.name)
        assert type(a) is type(b)
        assert np.array_equal(a, b)
    assert again.vectors.dtype == np.float32


def test_another_result_than_was_saved(cases, tmp_path):
    lla.top_eigenpairs(cases.spectrum_of(INDEFINITE)).save(tmp_path / "pairs.npz")
    with pytest.raises(lla.InputError, match="holds Eigenpairs, not Spectrum"):
        lla.Spectrum.load(tmp_path / "pairs.npz")


@pytest.mark.parametrize("which", WAYS)
@pytest.mark.parametrize("size", [6, 12])
def test_a_bounded_basis_finds_the_prescribed_pairs(cases, which, size):
    A, _ = cases.matrix(INDEFINITE)
    H = cases.quadratic(A)
    pairs = lla.top_eigenpairs(H, 2, which, tol=1e-9, basis_size=size)
    assert pairs.converged
    assert pairs.steps > size  # it restarted
    check(pairs, A, INDEFINITE, which, 2)
    assert pairs.matvecs == H.matvecs == pairs.steps + 2


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("size", [8, 10, 20])
def test_a_bounded_basis_finds_every_copy(cases, k, size):
    values = np.array([5.0] * 3 + [2.0] * 2 + [1.0] * 55)
    A, _ = cases.matrix(values)
    pairs = lla.top_eigenpairs(cases.quadratic(A), k, basis_size=size)
    assert pairs.converged
    np.testing.assert_allclose(pairs.values, values[:k], atol=1e-10)
    np.testing.assert_allclose(pairs.vectors @ pairs.vectors.T, np.eye(k), atol=1e-10)


def test_a_basis_too_small_is_refused(cases):
    with pytest.raises(lla.InputError, match="at least k \\+ 2"):
        lla.top_eigenpairs(cases.spectrum_of(INDEFINITE), 3, basis_size=4)


def test_the_overlap_of_two_hessians_is_that_of_their_projections(cases):
    values = np.array([9.0, 7.0, 5.0, 1.0, -1.0, -2.0])
    matrices = [cases.matrix(values, seed=seed)[0] for seed in (0, 1)]
    pairs = [
        lla.top_eigenpairs(cases.quadratic(A), k, tol=1e-10)
        for A, k in zip(matrices, (3, 2), strict=True)
    ]
    found = pairs[0].overlap(pairs[1])
    assert found.shape == (2,)
    for k in (1, 2):  # tr(P Q) / k for the projectors on the k largest eigenvectors
        P, Q = (V[:, -k:] @ V[:, -k:].T for V in (np.linalg.eigh(A)[1] for A in matrices))
        assert found[k - 1] == pytest.approx(np.trace(P @ Q) / k)
    np.testing.assert_allclose(pairs[0].overlap(pairs[0]), 1)
    with pytest.raises(lla.InputError, match=r"overlap takes a result of lla\.top_eigenpairs, not"):
        pairs[0].overlap(pairs[1].vectors)
    other = lla.top_eigenpairs(cases.spectrum_of(np.arange(1.0, 6.0)), 1)
    with pytest.raises(lla.InputError, match="the vectors have 6 and 5 elements"):
        pairs[0].overlap(other)
