import contextlib

import pytest
import torch
import torch.nn.functional as F

import lla
from lla.hessian.products import calls, linearize
from lla.hessian.products.linearize import LinearizationError, _Recorder, linearize_gradient
from lla.hessian.products.routes import Linearized

THETA = torch.linspace(-1, 1, 6, dtype=torch.float64)


@contextlib.contextmanager
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


def linearized(function):
    return linearize_gradient(function, THETA, seeded)


def hessian(function):
    with seeded():
        return torch.autograd.functional.hessian(function, THETA)


def check(function):
    linear_map, expected = linearized(function), hessian(function)
    for _ in range(3):
        for v in (torch.eye(6).double()[2], THETA, torch.zeros(6).double()):
            torch.testing.assert_close(linear_map(v), expected @ v, rtol=1e-11, atol=1e-12)


def in_place_views(theta):
    h = theta.clone()
    h[:3].mul_(2)
    h[1] = theta[0] * theta[4]
    h[4:].add_(h[:2].detach())
    return (h**3).sum()


def overwritten_constants(theta):
    scale = torch.ones(6, dtype=theta.dtype)
    first = (theta**2 + scale).prod()
    scale.mul_(3)
    return first + (theta**3 + scale).prod()


def constants_that_begin_alike(theta):
    one, two = torch.zeros(6, dtype=theta.dtype), torch.zeros(6, dtype=theta.dtype)
    one[:2].fill_(1)
    two[2:].fill_(4)
    return (theta**2 * one + theta**3 * two).sum()


def equal_operations(theta):
    return (torch.sin(theta) * torch.sin(theta) + torch.sin(theta * 1) * torch.exp(theta)).sum()


def zeros_and_ones(theta):
    zero = torch.zeros(6, dtype=theta.dtype)
    return ((theta + zero) ** 2 * zero + (theta * torch.ones_like(theta)) ** 2 - zero).sum()


def broadcasting_zeros(theta):
    grown = theta[:2] + torch.zeros(3, 2, dtype=theta.dtype)
    return (grown**2).sum() + (theta[0] ** 3 + torch.zeros(4, dtype=theta.dtype)).sum()


def broadcasting_copy(theta):
    grown = torch.ones(3, 6, dtype=theta.dtype)
    grown.copy_(theta.square())
    grown[1] = theta
    return (grown * torch.arange(18, dtype=theta.dtype).reshape(3, 6)).square().sum()


def nested_factors(theta):
    a, b = torch.arange(1.0, 7, dtype=theta.dtype), torch.tensor(2.0, dtype=theta.dtype)
    column = torch.arange(1.0, 4, dtype=theta.dtype)[:, None]
    return ((theta**2 * a) * b).sum() + ((theta**2 * a) * column * theta).sum()


def several_outputs(theta):
    a, b, c = torch.split(torch.tanh(theta), 2)
    value, _ = torch.max(theta * a.repeat(3), 0)
    return (a * b * c).sum() + value + theta.reshape(2, 3).sort(1).values[:, 1].prod()


def random_constants(theta):
    return (F.dropout(theta**2, 0.5) * torch.rand(6, dtype=theta.dtype) + torch.randn(6)).sum()


def two_random_constants(theta):
    return (theta**2 * torch.rand(6).double() + theta**3 * torch.rand(6).double()).sum()


def mean_squared_error(theta):
    return F.mse_loss(torch.tanh(theta), torch.zeros(6).double())


TARGET = torch.linspace(0, 1, 6, dtype=torch.float64)


def binary_cross_entropy(theta):
    return F.binary_cross_entropy_with_logits(theta, TARGET)


def divergence(theta):
    return F.kl_div(F.log_softmax(theta, 0), TARGET, reduction="sum")


def smoothed_labels(theta):
    return F.cross_entropy(theta.reshape(2, 3), torch.tensor([1, 2]), label_smoothing=0.1)


def ignored_and_weighted_labels(theta):
    weight = torch.tensor([1.0, 2, 3], dtype=theta.dtype)
    labels = torch.tensor([1, -100])
    return F.cross_entropy(theta.reshape(2, 3), labels, weight=weight)


@pytest.mark.parametrize(
    "function",
    [in_place_views, overwritten_constants, equal_operations, zeros_and_ones, broadcasting_zeros,
     broadcasting_copy, nested_factors, several_outputs, random_constants, two_random_constants,
     mean_squared_error, binary_cross_entropy, divergence, ignored_and_weighted_labels],
)  # fmt: skip
def test_maps_are_the_hessian_on_every_call(function):
    check(function)


def test_constants_that_begin_alike_are_told_apart():
    check(constants_that_begin_alike)


def test_captured_constants_that_begin_alike_are_told_apart():
    captured = torch.zeros(6, dtype=torch.float64)

    def function(theta):
        one, two = captured.clone(), captured.clone()
        one[:2].fill_(1)
        two[2:].fill_(4)
        return (theta**2 * one + theta**3 * two).sum()

    check(function)


def test_smoothed_labels_are_right_or_refused():
    try:
        linearized(smoothed_labels)
    except RuntimeError:
        return
    check(smoothed_labels)


def test_captured_constant_that_is_overwritten_after_its_use_is_refused():
    captured = torch.ones(6, dtype=torch.float64)

    def function(theta):
        scale = captured.clone()
        first = (theta**2 * scale.clone()).sum() + (theta**3 * scale[:]).sum().detach()
        value = first + (theta**3 + scale).prod()
        scale.mul_(3)
        return value

    try:
        linear_map = linearized(function)
    except LinearizationError:
        return
    torch.testing.assert_close(linear_map(THETA), hessian(function) @ THETA)


def test_change_of_type_is_kept():
    def function(theta):
        return (theta.float().double() ** 2 * theta).sum()

    torch.testing.assert_close(
        linearized(function)(THETA), hessian(function) @ THETA, rtol=1e-6, atol=1e-6
    )


def test_the_map_is_linear_and_takes_zero_and_large_vectors():
    linear_map = linearized(lambda theta: torch.sigmoid(theta).prod())
    v, w = torch.ones(6).double(), THETA
    torch.testing.assert_close(linear_map(2e8 * v - w), 2e8 * linear_map(v) - linear_map(w))
    assert not linear_map(torch.zeros(6).double()).any()


def test_vectorised_map_is_the_same():
    linear_map = linearized(nested_factors)
    V = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(torch.func.vmap(linear_map)(V), torch.stack([*map(linear_map, V)]))


@pytest.mark.parametrize("power", [0, 1])
def test_constant_and_linear_functions_map_to_zero(power):
    linear_map = linearized(lambda theta: (theta**power).sum())
    assert not linear_map(THETA).any()


def test_a_parameter_that_does_not_matter_has_a_zero_row():
    assert linearized(lambda theta: (theta[:3] ** 2).sum())(THETA)[3:].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "operation", [torch.rand_like, torch.bernoulli, torch.nonzero, lambda v: v.max().item()]
)
def test_random_numbers_and_decisions_on_the_path_of_the_vector_are_refused(operation):
    vector = torch.full((3,), 0.5)
    recorder = _Recorder(vector)
    with recorder, pytest.raises(LinearizationError, match="depends on the vector"):
        operation(vector * 1)


def test_in_place_work_on_the_path_of_the_vector_is_refused():
    vector = torch.full((3,), 0.5)
    with _Recorder(vector), pytest.raises(LinearizationError, match="in place"):
        (vector * 2).add_(1)


def test_masks_are_drawn_once_and_by_the_context():
    def function(theta):
        return F.dropout(theta**2, 0.5).sum()

    found = [linearized(function)(THETA) for _ in range(2)]
    assert torch.equal(*found)
    torch.testing.assert_close(found[0], hessian(function) @ THETA)
    assert 0 < int((found[0] == 0).sum()) < 6


def test_kept_bytes_count_shared_storage_once():
    big = torch.rand(1000, 6, dtype=torch.float64)
    product = Linearized(lambda theta: ((big @ theta) ** 2).sum(), THETA, contextlib.nullcontext)
    assert big.nbytes <= product.kept_bytes < 1.2 * big.nbytes


def test_equal_operations_are_recorded_once():
    once = linearized(lambda theta: torch.sin(theta).prod())
    twice = linearized(lambda theta: (torch.sin(theta).prod() + torch.sin(theta).prod()) / 2)
    nodes = [len(m.graph.nodes) for m in (once, twice)]
    assert nodes[1] <= nodes[0] + 6


@pytest.mark.parametrize(
    "name",
    ["mlp_mse", "cnn_bn_train", "mobile_train", "encoder_eval", "channels_last_train", "tied"],
)
def test_what_is_not_computed_has_the_shape_of_what_would_be(cases, monkeypatch, name):
    case, seen = cases.BY_NAME[name], []
    guess = linearize._Uncomputed.__call__

    def compared(self, func, leaves, structure):
        found = guess(self, func, leaves, structure)
        if found is not None:
            args, kwargs = calls.arguments(leaves, structure)
            computed = calls.leaves_of(func(*args, **kwargs))
            for ours, theirs in zip(calls.leaves_of(found), computed, strict=True):
                seen.append(func)
                assert (ours is None) == (theirs is None), func
                if ours is not None:
                    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), func
        return found

    monkeypatch.setattr(linearize._Uncomputed, "__call__", compared)
    lla.HessianOperator(case.problem((3,)), route="linearized")
    assert seen


def test_arguments_are_put_together_as_they_were():
    args, kwargs = (1, [2.0, None], (3, 4), "mean"), {"dim": [0, 1], "keepdim": True}
    leaves, structure = calls.flat(args, kwargs)
    assert leaves == [1, 2.0, None, 3, 4, "mean", 0, 1, True]
    assert calls.arguments(leaves, structure) == (args, kwargs)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, dtype=torch.complex64).conj(),
        torch._neg_view(torch.ones(2)),
        torch.eye(2).to_sparse(),
    ],
)
def test_results_that_shape_and_strides_do_not_describe_are_computed(tensor):
    leaves, structure = calls.flat((tensor,), {})
    assert linearize._Uncomputed()(torch.ops.aten.clone.default, leaves, structure) is None


def test_an_operation_without_a_shape_function_is_computed():
    leaves, structure = calls.flat((torch.ones(3),), {})
    assert linearize._Uncomputed()(torch.ops.aten.nonzero.default, leaves, structure) is None


def eigenvalues(theta):
    """Forward mode of eigvals reads integers (whether LAPACK succeeded) that follow the vector."""
    A = torch.diag(theta) + torch.outer(theta, theta).tril()
    return torch.linalg.eigvals(A).abs().square().sum() * theta.sin().sum()


def residuals(theta):
    """The tangent of residuals has as large a storage as these, which are a part of a tensor."""
    A, B = theta.reshape(3, 2), torch.tensor([[1.0, 2.0], [0.5, -1.0], [2.0, 0.0]]).double()
    found = torch.linalg.lstsq(A + torch.eye(3, 2).double(), B, driver="gels")
    return found.solution.square().sum() + found.residuals.square().sum()


@pytest.mark.parametrize("function", [eigenvalues, residuals])
def test_what_forward_mode_asks_of_uncomputed_tensors(function):
    expected = hessian(function)
    for _ in range(5):  # memory that nobody has written differs from time to time
        torch.testing.assert_close(
            linearized(function)(THETA), expected @ THETA, rtol=1e-9, atol=1e-10
        )


def test_a_row_of_a_matrix_is_read_from_its_own_beginning():
    def loss(theta):
        return (theta.as_strided((2, 2), (1, 2), 2) ** 3).sum() + theta.prod()

    product = Linearized(loss, THETA, seeded)
    rows = torch.eye(6).double()
    torch.testing.assert_close(
        torch.cat([product(rows[i : i + 1]) for i in range(6)]), hessian(loss)
    )


def test_what_an_operation_writes_into():
    x, y = torch.zeros(3), torch.ones(3)
    for func, args, kwargs, expected in (
        (torch.ops.aten.add_.Tensor, (x, y), {}, [x]),
        (torch.ops.aten.add.Tensor, (x, y), {}, []),
        (torch.ops.aten.add.out, (y, y), {"alpha": 2, "out": x}, [x]),
        (torch.ops.aten._foreach_add_.List, ([x, y], [y, x]), {}, [x, y]),
    ):
        leaves, structure = calls.flat(args, kwargs)
        found = calls.written(func, leaves, structure)
        assert [id(each) for each in found] == [id(each) for each in expected]
