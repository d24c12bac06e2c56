import numpy as np
import pytest
import torch

import lla


@pytest.fixture(params=[torch.float64, torch.float32])
def pair(request, cases):
    """The same matrix as a Hessian and as another operator."""
    A = cases.matrix([-1.0, 0.5, 1.0, 1.0, 3.0, 10.0])[0]
    return cases.quadratic(A, request.param), cases.Matrix(A, request.param)


def test_an_operator_gives_what_the_hessian_gives(pair):
    H, A = pair
    close = {"rtol": 1e-4, "atol": 1e-5}
    V = torch.randn(6, 3, dtype=H.dtype)
    assert A.shape == H.shape
    assert (A.dtype, A.device) == (H.dtype, H.device)
    torch.testing.assert_close(A @ V, H @ V)
    torch.testing.assert_close(A @ V[:, 0], H @ V[:, 0])
    assert A.matvecs == 4
    for method in ("hutchinson", "hutch++"):
        one, other = (lla.trace(op, method, rtol=1e-3, max_matvecs=40) for op in pair)
        assert (one.n, one.matvecs, one.stderr) == (other.n, other.matvecs, other.stderr)
        assert one.value == pytest.approx(other.value, rel=1e-5)
    for which in ("LA", "SA", "LM"):
        one, other = (lla.top_eigenpairs(op, 2, which) for op in pair)
        np.testing.assert_allclose(one.values, other.values, **close)
        assert one.matvecs == other.matvecs
    one, other = (lla.spectral_density(op, probes=3, steps=4) for op in pair)
    np.testing.assert_allclose(one.eigenvalues, other.eigenvalues, **close)
    np.testing.assert_allclose(one.weights, other.weights, **close)
    found, expected = (lla.spectrum_criteria(s) for s in (other, one))
    np.testing.assert_allclose(found.kh1, expected.kh1, **close)


def test_scipy_takes_an_operator(pair):
    _, A = pair
    np.testing.assert_allclose(A.to_scipy() @ np.ones(6), A.matrix.sum(1).numpy(), rtol=1e-5)


def test_a_density_says_how_its_basis_fit_into_memory(cases):
    A = cases.Matrix(torch.eye(200))
    assert lla.spectral_density(A, 1, 10).plan == "basis"
    short = lla.Memory(basis_dtype=torch.bfloat16)
    assert lla.spectral_density(A, 1, 10, memory=short).plan == "bfloat16 basis"
    work, basis = 15 * 200 * 8, 10 * 200 * 8
    found = lla.spectral_density(A, 1, 10, memory=work + basis // 2)
    assert found.plan == "float32 basis (too large: basis)"
    with pytest.raises(lla.InsufficientMemoryError, match=r"the smallest \(bfloat16 basis\) takes"):
        lla.spectral_density(A, 1, 10, memory=work)


def test_a_target_is_reached_for_an_operator(pair):
    found = lla.spectral_density(pair[1], probes=200, steps=4, target_stderr=0.2)
    assert found.probes <= 200


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (lambda A: A @ torch.ones(5), "the vector has 5 elements, the operator 6"),
        (lambda A: A @ torch.ones(6, dtype=torch.int64), "the operator torch.float"),
        (lambda A: A @ np.ones(6), r"convert it with torch.from_numpy\(v\)"),
        (lambda A: lla.trace(A.matrix), "trace takes a HessianOperator, not Tensor"),
    ],
)
def test_slips_are_named(pair, slip, message):
    with pytest.raises(lla.InputError, match=message):
        slip(pair[1])
