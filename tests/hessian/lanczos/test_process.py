import itertools

import numpy as np
import pytest
import torch

import lla
from lla.hessian.lanczos.process import Basis, Lanczos, coefficients

rng = np.random.default_rng(7)
SPECTRA = {
    "outliers": np.concatenate([[3e6, 1e6, -1e6], rng.normal(size=97)]),
    "close_outliers": np.concatenate([[1e6, 1e6 * (1 - 1e-9), 1e6 - 1e-4], rng.normal(size=97)]),
    "clustered": np.concatenate([1 + 1e-9 * rng.normal(size=50), 2 + 1e-9 * rng.normal(size=50)]),
    "low_rank": np.concatenate([[5.0, 3.0, 2.0, -1.0], np.zeros(96)]),
    "repeated": np.repeat([1.0, 2.0, 3.0, -4.0], 25),
    "geometric": np.geomspace(1e-8, 1e8, 100),
    "symmetric": np.concatenate([np.linspace(1, 2, 50), -np.linspace(1, 2, 50)]),
    "positive": np.linspace(1, 100, 100),
    "zero": np.zeros(100),
    "tiny": 1e-30 * rng.normal(size=100),
}


@pytest.fixture(params=SPECTRA)
def eigenvalues(request):
    return SPECTRA[request.param]


class Matrix:
    """A dense matrix as a row operator; `sabotage` may change its k-th product."""

    def __init__(self, A, dtype=torch.float64, sabotage=None):
        self.A = torch.as_tensor(np.asarray(A)).to(dtype)
        self.calls = 0
        self.sabotage = sabotage

    @property
    def shape(self):
        return tuple(self.A.shape)

    def rows(self, rows):
        self.calls += 1
        product = rows @ self.A
        return product if self.sabotage is None else self.sabotage(self.calls, product)


def start(size, runs=1, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(runs, size, generator=generator, dtype=torch.float64).to(dtype)


def run(A, steps, runs=1, dtype=torch.float64, seed=0, **options):
    lanczos = Lanczos(Matrix(A, dtype), start(len(A), runs, seed, dtype), steps, **options)
    lanczos.advance(steps)
    return lanczos


def nodes(tridiagonal, index=0):
    """Ritz values of one run."""
    n = tridiagonal.counts[index]
    alphas, betas = tridiagonal.alphas[index, :n], tridiagonal.betas[index, : n - 1]
    return np.linalg.eigvalsh(np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("runs", [1, 3])
def test_basis_is_orthonormal(cases, eigenvalues, dtype, bound, runs):
    A, _ = cases.matrix(eigenvalues)
    lanczos = run(A, 100, runs, dtype)
    counts = lanczos.tridiagonal().counts
    for i, n in enumerate(counts):
        V = lanczos.basis.vectors(0, int(n))[i].double()
        assert float((V @ V.T - torch.eye(int(n))).abs().max()) < bound


@pytest.mark.hard_use(
    "Lanczos vectors stay orthogonal to 1e-13 beside products with an error of a million times the "
    "operator along an earlier vector, which takes the second Gram-Schmidt pass, in one run of two"
)
def test_an_error_along_earlier_vectors_leaves_the_others_orthogonal(cases):
    A, _ = cases.matrix(np.linspace(-1, 1, 100))
    probes = start(100, 2)
    first = torch.nn.functional.normalize(probes[:1])
    error = torch.tensor([[1e6], [0.0]], dtype=torch.float64) * first  # the second run has none
    lanczos = Lanczos(Matrix(A, sabotage=lambda call, product: product + error), probes, 15)
    lanczos.advance(15)
    for V in lanczos.basis.vectors(0, 15):
        assert float((V @ V.T - torch.eye(15)).abs().max()) < 1e-13


@pytest.mark.parametrize(("error", "passes"), [(0.0, 4), (0.6, 4), (6.0, 5)])
def test_a_second_pass_is_made_only_where_the_first_removes_a_tenth(
    cases, monkeypatch, error, passes
):
    removed = []
    remove = Basis.remove

    def counted(basis, vectors, count):
        removed.append(count)
        return remove(basis, vectors, count)

    monkeypatch.setattr(Basis, "remove", counted)
    A, _ = cases.matrix(SPECTRA["positive"])
    probe = start(100)
    first = torch.nn.functional.normalize(probe)
    # the residual's norm is about 26
    operator = Matrix(A, sabotage=lambda call, product: product + (call == 4) * error * first)
    lanczos = Lanczos(operator, probe, 4)
    lanczos.advance(4)
    assert removed == [1, 2, 3, 4, 4][:passes]


@pytest.mark.hard_use(
    "A Lanczos process that continues from a vector almost among its earlier ones has a new vector "
    "that is orthogonal to them, which takes two passes"
)
def test_a_restart_almost_among_the_earlier_vectors_is_orthogonal_to_them(cases):
    A, _ = cases.matrix(SPECTRA["repeated"])
    lanczos = run(A, 20)
    count = int(lanczos.tridiagonal().counts[0])
    beside = start(100, seed=1)
    lanczos.restart(count, lanczos.basis.vectors(0, 1)[:, 0] + 1e-9 * beside)
    lanczos.advance(2)
    V = lanczos.basis.vectors(0, count + 2)[0]
    assert float((V @ V.T - torch.eye(count + 2)).abs().max()) < 1e-13
    assert lanczos.tridiagonal().betas[0, count - 1] == 0


@pytest.mark.parametrize("runs", [1, 4])
def test_long_inner_products_in_float32_lose_little(runs):
    block, lines = torch.rand(runs, 32, 120_000), torch.rand(runs, 1, 120_000)
    exact = lines.double() @ block.double().transpose(1, 2)
    # without chunks they are off by 3e-6
    torch.testing.assert_close(coefficients(block, lines).double(), exact, rtol=1e-6, atol=0)


def test_tridiagonal_is_the_projection(cases, eigenvalues):
    A, _ = cases.matrix(eigenvalues)
    lanczos = run(A, 30, 2)
    T = lanczos.tridiagonal()
    scale = np.abs(eigenvalues).max() or 1.0
    for i, n in enumerate(T.counts):
        V = lanczos.basis.vectors(0, int(n))[i].numpy()
        alphas, betas = T.alphas[i, :n], T.betas[i, : n - 1]
        expected = np.diag(alphas) + np.diag(betas, 1) + np.diag(betas, -1)
        np.testing.assert_allclose(V @ A @ V.T, expected, atol=1e-12 * scale)


def test_ritz_values_lie_in_the_spectrum_and_do_not_come_twice(cases, eigenvalues):
    A, _ = cases.matrix(eigenvalues)
    scale = np.abs(eigenvalues).max()
    found = nodes(run(A, 60).tridiagonal())
    assert found.min() >= eigenvalues.min() - 1e-12 * scale
    assert found.max() <= eigenvalues.max() + 1e-12 * scale
    # between two Ritz values there is an eigenvalue (Cauchy), so none is found twice
    for low, high in itertools.pairwise(found):
        inside = (eigenvalues >= low - 1e-12 * scale) & (eigenvalues <= high + 1e-12 * scale)
        assert inside.any()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_outlier_has_no_ghost_copies(cases, dtype):
    A, _ = cases.matrix(np.concatenate([[1e4], np.random.default_rng(0).normal(size=199)]))
    found = nodes(run(A, 150, dtype=dtype).tridiagonal())
    assert (found > 100).sum() == 1
    assert found.max() == pytest.approx(1e4, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "count"), [("repeated", 4), ("low_rank", 5), ("zero", 1), ("positive", 100)]
)
def test_run_ends_when_the_krylov_space_is_exhausted(cases, name, count):
    A, _ = cases.matrix(SPECTRA[name])
    for steps in (count, 100 if name == "positive" else 20):
        assert run(A, steps, 3).tridiagonal().counts.tolist() == [count] * 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rounding_does_not_grow_after_the_end(cases, dtype):
    A, _ = cases.matrix(SPECTRA["low_rank"])
    short, long = (run(A, steps, 20, dtype).tridiagonal() for steps in (8, len(A)))
    assert long.counts.tolist() == short.counts.tolist()
    assert long.counts.max() <= 8
    for j, count in enumerate(long.counts):
        np.testing.assert_allclose(long.alphas[j, :count], short.alphas[j, :count], rtol=1e-4)
        assert not long.alphas[j, count:].any()
        assert not long.betas[j, count - 1 :].any()


def test_overflow_is_not_taken_for_the_end():
    A = np.diag(np.linspace(1, 5, 50) * 1e20)  # squares overflow in float32
    with pytest.raises(lla.NonFiniteError, match="Lanczos step 0 is not finite"):
        run(A, 10, 1, torch.float32).tridiagonal()


def test_bulk_far_below_an_outlier_is_not_taken_for_rounding(cases):
    bulk = np.random.default_rng(0).normal(size=199)
    A, _ = cases.matrix(np.concatenate([[1e5], bulk]))
    for dtype in (torch.float64, torch.float32):
        T = run(A, 50, 2, dtype).tridiagonal()
        assert T.counts.tolist() == [50, 50]
        assert nodes(T)[0] == pytest.approx(bulk.min(), abs=0.2)


def test_start_that_is_an_eigenvector_ends_at_once(cases):
    A, vectors = cases.matrix(SPECTRA["positive"])
    both = torch.as_tensor(np.stack([vectors[:, -1], vectors.sum(1)]))
    lanczos = Lanczos(Matrix(A), both, 10)
    lanczos.advance(10)
    T = lanczos.tridiagonal()
    assert T.counts.tolist() == [1, 10]
    assert T.alphas[0, 0] == pytest.approx(100, rel=1e-12)


def test_scaling_by_a_power_of_two_scales_exactly(cases):
    A, _ = cases.matrix(SPECTRA["outliers"])
    one, other = run(A, 40).tridiagonal(), run(A * 2.0**-40, 40).tridiagonal()
    assert np.array_equal(one.alphas * 2.0**-40, other.alphas)
    assert np.array_equal(one.betas * 2.0**-40, other.betas)
    assert np.array_equal(one.counts, other.counts)


def test_length_of_the_start_does_not_matter(cases):
    A, _ = cases.matrix(SPECTRA["positive"])
    one = run(A, 10).tridiagonal()
    for factor in (2.0**-60, 2.0**60):
        lanczos = Lanczos(Matrix(A), start(100) * factor, 10)
        lanczos.advance(10)
        assert np.array_equal(lanczos.tridiagonal().alphas, one.alphas)


@pytest.mark.parametrize("options", [{}, {"basis_dtype": torch.float16}])
def test_continuing_is_the_same_bit_by_bit(cases, options):
    A, _ = cases.matrix(SPECTRA["outliers"])
    whole = run(A, 20, 2, **options).tridiagonal()
    lanczos = Lanczos(Matrix(A), start(100, 2), 20, **options)
    lanczos.advance(10)
    assert lanczos.done == 10
    half = lanczos.tridiagonal()
    lanczos.advance(10)
    rest = lanczos.tridiagonal()
    assert np.array_equal(half.alphas, whole.alphas[:, :10])
    assert np.array_equal(rest.alphas, whole.alphas)
    assert np.array_equal(rest.betas, whole.betas)


def test_runs_side_by_side_are_those_one_by_one(cases, eigenvalues):
    A, _ = cases.matrix(eigenvalues)
    scale = np.abs(eigenvalues).max() or 1.0
    probes = start(100, 3)
    together = Lanczos(Matrix(A), probes, 8)
    together.advance(8)
    T = together.tridiagonal()
    for i in range(3):
        alone = Lanczos(Matrix(A), probes[i : i + 1], 8)
        alone.advance(8)
        single = alone.tridiagonal()
        n = single.counts[0]
        assert n == T.counts[i]
        np.testing.assert_allclose(T.alphas[i, :n], single.alphas[0, :n], atol=1e-11 * scale)


@pytest.mark.parametrize("basis_device", [None, "cpu"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_slabs_and_devices_change_nothing(cases, dtype, basis_device, device):
    A, _ = cases.matrix(SPECTRA["outliers"])
    whole = run(A, 30, 2, dtype).tridiagonal()
    operator = Matrix(A, dtype)
    operator.A = operator.A.to(device)
    lanczos = Lanczos(operator, start(100, 2, 0, dtype).to(device), 30, None, basis_device)
    lanczos.basis._slab, lanczos.basis._direct = 7, False
    lanczos.advance(30)
    bound = (1e-11 if dtype == torch.float64 else 1e-4) * 3e6
    T = lanczos.tridiagonal()
    np.testing.assert_allclose(T.alphas[:, :5], whole.alphas[:, :5], atol=bound)
    count = int(T.counts[1])
    V = lanczos.basis.vectors(0, count)[1]
    loss = float((V @ V.T - torch.eye(count, device=device)).abs().max())
    assert loss < (1e-12 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("basis_dtype", "orthogonality"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)]
)
def test_half_precision_storage_keeps_the_ritz_values(cases, dtype, basis_dtype, orthogonality):
    A, _ = cases.matrix(np.concatenate([[1e3, 5e2], np.linspace(-1, 1, 298)]))
    exact = nodes(run(A, 60).tridiagonal())
    lanczos = run(A, 60, dtype=dtype, basis_dtype=basis_dtype)
    found = nodes(lanczos.tridiagonal())
    V = lanczos.basis.vectors(0, 60)[0].double()
    assert lanczos.basis._rows.dtype == basis_dtype
    assert float((V @ V.T - torch.eye(60)).abs().max()) < orthogonality
    np.testing.assert_allclose(found[-2:], exact[-2:], rtol=1e-4)
    assert (found > 100).sum() == 2
    assert found[0] == pytest.approx(exact[0], abs=1e-2)


def test_half_precision_storage_of_a_spike_does_not_overflow():
    spike = torch.zeros(1, 10**6)
    spike[0, 5] = 1.0
    basis = Basis(1, 1, spike, torch.float16)
    basis.store(0, spike)
    torch.testing.assert_close(basis.vectors(0, 1)[0], spike, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("runs", "ranges"), [(1, [(0, 16), (16, 20)]),
                                              (2, [(0, 8), (8, 16), (16, 20)])])  # fmt: skip
def test_slabs_take_64_mib(runs, ranges):
    like = torch.empty(runs, 2**20)  # 4 MiB a vector, in the type of the arithmetic
    assert Basis(runs, 20, like, torch.bfloat16).slabs(20) == ranges
    assert Basis(runs, 20, like).slabs(20) == [(0, 20)], "nothing is converted"


def test_combinations_use_all_slabs(cases):
    A, _ = cases.matrix(SPECTRA["positive"])
    lanczos = run(A, 20)
    weights = start(20, 3)
    expected = weights @ lanczos.basis.vectors(0, 20)[0]
    lanczos.basis._slab, lanczos.basis._direct = 6, False
    torch.testing.assert_close(lanczos.basis.combine(weights), expected)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_product_that_is_not_finite_names_its_step(cases, value):
    A, _ = cases.matrix(SPECTRA["positive"])

    def sabotage(call, product):
        return product + (value if call == 4 else 0)

    lanczos = Lanczos(Matrix(A, sabotage=sabotage), start(100, 2), 10)
    lanczos.advance(10)
    with pytest.raises(lla.NonFiniteError, match="Lanczos step 3 is not finite"):
        lanczos.tridiagonal()


@pytest.mark.parametrize("bad", [0.0, float("nan")])
def test_useless_start(bad):
    vectors = start(5, 2)
    vectors[1] = bad
    with pytest.raises(lla.InputError, match="start vector is zero or NaN"):
        Lanczos(Matrix(np.eye(5)), vectors, 3)


def test_no_steps():
    with pytest.raises(lla.InputError, match="steps is 0: at least one"):
        Lanczos(Matrix(np.eye(5)), start(5), 0)


def test_products_made_are_one_a_step(cases):
    operator = Matrix(cases.matrix(SPECTRA["positive"])[0])
    lanczos = Lanczos(operator, start(100, 4), 12)
    lanczos.advance(12)
    assert operator.calls == 12
