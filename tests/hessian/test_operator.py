import gc
import re
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lla
from lla.hessian import operator as operator_module
from lla.hessian.products import routes
from lla.hessian.products.routes import Linearized

ROUTES = ("linearized", "retained", "fresh")
# dropout of a tensor that is not contiguous, and constants written through views
MAY_BE_REFUSED = {"encoder_train", "masks_in_place"}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4}


def vectors(size, count, seed=0, dtype=torch.float64, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, count, generator=generator, dtype=torch.float64).to(device, dtype)


def relative_error(found, expected):
    expected = expected.to(found.device)
    error = torch.linalg.vector_norm(found.double() - expected)
    return float(error / (torch.linalg.vector_norm(expected) or 1.0))


def check_products(H, expected, calls=3):
    tolerance = TOLERANCE[H.dtype]
    for i in range(calls):
        V = vectors(len(expected), 16, i, H.dtype, H.device)
        reference = expected.to(H.device) @ V.double()
        assert relative_error(H @ V[:, 0], reference[:, 0]) < tolerance
        assert relative_error(H @ V[:, :1], reference[:, :1]) < tolerance
        assert relative_error(H @ V, reference) < tolerance


def operator_or_refusal(case, route, **options):
    """An operator; None where a network that linearisation may not take is refused."""
    problem = case.problem(**options)
    if route == "linearized" and case.name in MAY_BE_REFUSED:
        try:
            return lla.HessianOperator(problem, route=route)
        except lla.InputError:
            return None
    return lla.HessianOperator(problem, route=route)


@pytest.mark.parametrize("route", ROUTES)
def test_products_in_float64_are_those_of_the_explicit_hessian(cases, case, route, device):
    H = operator_or_refusal(case, route, device=device)
    if H is None:
        return
    expected = cases.hessian(case)
    assert H.route == route
    assert H.shape == tuple(expected.shape)
    assert H.dtype == torch.float64
    check_products(H, expected)


def test_vectorised_products_are_right_for_any_number_of_columns(cases, case, monkeypatch):
    clock = iter(range(10**6, 0, -1))
    monkeypatch.setattr(routes, "timed", lambda function, like: (next(clock), function()))
    H = operator_or_refusal(case, "linearized")
    if H is None:
        return
    expected = cases.hessian(case)
    for count in (3, 8, 13, 2, 1):
        V = vectors(len(expected), count)
        assert relative_error(H @ V, expected @ V) < 1e-10
    assert H._kept[0]._together in (1, 3)


def test_vectorised_products_that_are_wrong_are_not_taken(cases, monkeypatch):
    case = cases.BY_NAME["mlp_mse"]
    clock = iter(range(10**6, 0, -1))
    monkeypatch.setattr(routes, "timed", lambda function, like: (next(clock), function()))
    monkeypatch.setattr(
        routes, "vmap", lambda f, **_: lambda rows: 1.001 * torch.stack([f(row) for row in rows])
    )
    H = lla.HessianOperator(case.problem(), route="linearized")
    check_products(H, cases.hessian(case))


@pytest.mark.parametrize("route", ROUTES)
def test_products_in_float32(cases, case, route, device):
    H = operator_or_refusal(case, route, dtype=torch.float32, device=device)
    if H is not None:
        check_products(H, cases.hessian(case), calls=2)


def test_the_chosen_route_is_right_and_says_what_was_measured(cases, case):
    H = lla.HessianOperator(case.problem())
    check_products(H, cases.hessian(case))
    assert H.route in ROUTES
    assert {trial.route for trial in H.trials} == {"retained", "linearized"}
    assert all((trial.reason is None) == (trial.seconds is not None) for trial in H.trials)


def test_linearization_takes_nearly_every_case(case):
    H = lla.HessianOperator(case.problem())
    reasons = {trial.route: trial.reason for trial in H.trials}
    assert reasons["linearized"] is None or case.name in MAY_BE_REFUSED


@pytest.mark.parametrize("route", [*ROUTES, None])
@pytest.mark.parametrize(
    "case", ["mlp_mse", "cnn_bn_train", "residual_eval", "encoder_train", "tuple_input"],
    indirect=True,
)  # fmt: skip
def test_ragged_batches_are_weighted_by_size(cases, case, route):
    sizes = (5, 5, 2)
    H = operator_or_refusal(case, route, sizes=sizes)
    if H is None:
        return
    check_products(H, cases.hessian(case, sizes), calls=2)
    average = sum(cases.hessian(case, (n,)) for n in sizes) / 3
    assert relative_error(H @ torch.eye(len(average)).double(), average) > 1e-3


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", ["cnn_bn_eval", "attention", "softmax_regression"], indirect=True)
def test_batch_of_one_example(cases, case, route):
    H = lla.HessianOperator(case.problem((1,)), route=route)
    check_products(H, cases.hessian(case, (1,)), calls=2)


@pytest.mark.parametrize("route", ROUTES)
def test_linear_regression_has_the_hessian_of_its_closed_form(route):
    x = vectors(6, 3)
    problem = lla.Problem(
        nn.Linear(3, 1, bias=False).double(), (x, torch.ones(6, 1).double()), F.mse_loss
    )
    H = lla.HessianOperator(problem, route=route)
    torch.testing.assert_close(H @ torch.eye(3).double(), 2 / 6 * x.T @ x)


@pytest.mark.parametrize("route", ROUTES)
def test_softmax_regression_has_the_hessian_of_its_closed_form(cases, route):
    case = cases.BY_NAME["softmax_regression"]
    model, (x, y) = case.make(), case.batch(7)
    H = lla.HessianOperator(lla.Problem(model, (x, y)), route=route)
    check_products(H, cases.softmax_closed_form(model, x))


@pytest.mark.parametrize("route", ROUTES)
def test_quadratic_has_its_matrix_as_hessian(cases, route):
    A = cases.A_INDEFINITE
    H = lla.HessianOperator(cases.BY_NAME["quadratic"].problem(), route=route)
    torch.testing.assert_close(H @ torch.eye(len(A)).double(), A)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ("0.*", ["0.weight", "0.bias"]),
        ("*.bias", ["0.bias", "1.bias", "4.bias", "7.bias"]),
        (r"re:^[14]\.", ["1.weight", "1.bias", "4.weight", "4.bias"]),
        (re.compile("weight$"), ["0.weight", "1.weight", "3.weight", "4.weight", "7.weight"]),
        (["7.*", "1.weight"], ["1.weight", "7.weight", "7.bias"]),
    ],
)
def test_restriction_is_the_diagonal_block(cases, route, patterns, names):
    case = cases.BY_NAME["cnn_bn_eval"]
    problem = case.problem((4, 3))
    H = lla.HessianOperator(problem, patterns, route=route)
    assert list(H.space.names) == names
    chosen = torch.cat([torch.arange(s.start, s.stop) for n, _, s in problem.space if n in names])
    check_products(H, cases.hessian(case, (4, 3))[chosen][:, chosen], calls=2)


@pytest.mark.parametrize("route", ROUTES)
def test_tied_weight_restricted_alone(cases, route):
    case = cases.BY_NAME["tied"]
    H = lla.HessianOperator(case.problem(), "embed.*", route=route)
    check_products(H, cases.hessian(case)[:24, :24], calls=2)


@pytest.mark.parametrize("route", ROUTES)
def test_unused_parameter_has_zero_rows_and_frozen_ones_none(cases, route):
    case = cases.BY_NAME["frozen_and_unused"]
    problem = case.problem()
    H = lla.HessianOperator(problem, route=route)
    assert not any(name.startswith("frozen") for name in H.space.names)
    full = H @ torch.eye(H.shape[0]).double()
    for name, _, part in problem.space:
        assert bool((full[part] == 0).all()) == name.startswith("unused")


@pytest.mark.parametrize("route", [*ROUTES, None])
@pytest.mark.parametrize("loss", [lambda out, y: out.mean(), lambda out, y: 0 * y.double().mean()])
def test_linear_and_constant_losses_have_a_zero_hessian(route, loss):
    model = nn.Linear(3, 2).double()
    H = lla.HessianOperator(lla.Problem(model, (torch.ones(4, 3).double(), torch.ones(4)), loss),
                            route=route)  # fmt: skip
    for _ in range(2):
        assert not (H @ torch.ones(8).double()).any()
        assert not (H @ torch.ones(8, 3).double()).any()


@pytest.mark.parametrize("route", ROUTES)
def test_no_columns_give_no_columns(cases, route):
    H = lla.HessianOperator(cases.BY_NAME["mlp_mse"].problem(), route=route)
    assert (H @ torch.zeros(H.shape[0], 0).double()).shape == (H.shape[0], 0)


@pytest.mark.parametrize("route", ROUTES)
def test_dropout_mask_follows_the_seed_and_is_the_same_for_all_routes(cases, route):
    case = cases.BY_NAME["dropout_train"]
    model, batch = case.make(), case.batch(5)
    found = {}
    for seed in (0, 1):
        H = lla.HessianOperator(lla.Problem(model, batch, mode="train", seed=seed), route=route)
        found[seed] = H @ torch.eye(H.shape[0]).double()
        expected = cases.plain_hessian(model, [batch], mode="train", seed=seed)
        assert relative_error(found[seed], expected) < 1e-10
    assert relative_error(found[0], found[1]) > 1e-2


@pytest.mark.parametrize("route", ROUTES)
def test_products_do_not_depend_on_the_order_of_calls(cases, route):
    H = lla.HessianOperator(cases.BY_NAME["residual_train"].problem(), route=route)
    V = vectors(H.shape[0], 3)
    first = H @ V[:, 0]
    H @ V[:, 1], H @ V
    assert torch.equal(H @ V[:, 0], first)


def test_matvecs_count_columns():
    model = nn.Linear(2, 2)
    batches = [(torch.ones(3, 2), torch.zeros(3, dtype=torch.long))] * 2
    H = lla.HessianOperator(lla.Problem(model, batches))
    assert H.matvecs == 0
    H @ torch.ones(6)
    assert H.matvecs == 1
    H @ torch.ones(6, 5)
    assert H.matvecs == 6


def test_to_scipy_gives_numpy_products(cases):
    case = cases.BY_NAME["mlp_mse"]
    H = lla.HessianOperator(case.problem()).to_scipy()
    V = vectors(H.shape[0], 3).numpy()
    expected = cases.hessian(case).numpy()
    assert H.dtype == np.float64
    np.testing.assert_allclose(H @ V[:, 0], expected @ V[:, 0], atol=1e-10)
    np.testing.assert_allclose(H @ V, expected @ V, atol=1e-10)
    readonly = V[:, 0].copy()
    readonly.setflags(write=False)
    np.testing.assert_allclose(H @ readonly, expected @ readonly, atol=1e-10)


def test_without_memory_nothing_is_kept(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    H = lla.HessianOperator(case.problem((3, 2)), memory=0)
    assert H.route == "fresh"
    assert all(trial.reason for trial in H.trials)
    check_products(H, cases.hessian(case, (3, 2)), calls=2)


def test_kept_bytes_grow_with_the_batches(cases):
    case = cases.BY_NAME["cnn_bn_eval"]
    one, three = (
        {t.route: t.kept_bytes for t in lla.HessianOperator(case.problem((6,) * n)).trials}
        for n in (1, 3)
    )
    for route in ("linearized", "retained"):
        assert one[route] > 6 * 36 * 8
        assert three[route] == pytest.approx(3 * one[route], rel=0.2)


@pytest.mark.parametrize("route", ["linearized", "retained"])
def test_kept_routes_do_not_pass_over_the_data_again(cases, route):
    case = cases.BY_NAME["mlp_mse"]
    passes = []

    class Loader:
        def __iter__(self):
            passes.append(1)
            return iter(case.batches((3, 2)))

    problem = lla.Problem(case.make(), Loader(), case.loss)
    H = lla.HessianOperator(problem, route=route)
    before = len(passes)
    H @ torch.ones(H.shape[0]).double()
    assert len(passes) == before


@pytest.mark.parametrize("route", ROUTES)
def test_loader_that_refills_its_buffer(cases, route):
    case = cases.BY_NAME["mlp_mse"]
    batches = case.batches((4, 4))

    class Loader:
        def __iter__(self):
            x, y = (torch.empty_like(t) for t in batches[0])
            for new_x, new_y in batches:
                x.copy_(new_x)
                y.copy_(new_y)
                yield x, y

    H = lla.HessianOperator(lla.Problem(case.make(), Loader(), case.loss), route=route)
    check_products(H, cases.hessian(case, (4, 4)), calls=2)


class WrongLater(Linearized):
    """Right on the first call, as a graph is that overwrites its constants."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.calls = 0

    def __call__(self, rows):
        self.calls += 1
        return super().__call__(rows) * (1.0 if self.calls == 1 else 1.001)


class WrongThirdTime(WrongLater):
    def __call__(self, rows):
        self.calls += 1
        return Linearized.__call__(self, rows) * (1.0 if self.calls <= 2 else 1.001)


class Raising(Linearized):
    error: type[Exception] = RuntimeError

    def __init__(self, *arguments):
        raise self.error("no forward mode for aten::copy")


def use(monkeypatch, wrong):
    monkeypatch.setitem(operator_module.ROUTES, "linearized", wrong)


@pytest.mark.parametrize("wrong", [WrongLater, WrongThirdTime, Raising])
def test_wrong_route_is_not_taken(cases, monkeypatch, wrong):
    case = cases.BY_NAME["mlp_mse"]
    use(monkeypatch, wrong)
    H = lla.HessianOperator(case.problem((4, 2)))
    assert H.route == "retained"
    reason = {trial.route: trial.reason for trial in H.trials}["linearized"]
    assert re.search("differs from double backward|no forward mode", reason)
    check_products(H, cases.hessian(case, (4, 2)), calls=2)


@pytest.mark.parametrize("wrong", [WrongLater, WrongThirdTime, Raising])
def test_wrong_route_asked_for_by_name_is_refused(cases, monkeypatch, wrong):
    use(monkeypatch, wrong)
    with pytest.raises(lla.InputError, match=r"'linearized' fails for batch 0.*retained"):
        lla.HessianOperator(cases.BY_NAME["mlp_mse"].problem(), route="linearized")


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, TypeError, ValueError])
def test_whatever_a_route_raises_another_is_taken_or_named(cases, monkeypatch, error):
    use(monkeypatch, type("Fails", (Raising,), {"error": error}))
    problem = cases.BY_NAME["mlp_mse"].problem()
    assert lla.HessianOperator(problem).route == "retained"
    with pytest.raises(lla.InputError, match="'linearized' fails"):
        lla.HessianOperator(problem, route="linearized")


def test_route_that_is_wrong_for_a_later_batch_only(cases, monkeypatch):
    case = cases.BY_NAME["mlp_mse"]

    use(monkeypatch, type("Wrong", (WrongFromTheSecond,), {"made": 0}))
    clock(monkeypatch, made=0.0, linearized=0.0, retained=1.0)  # so that the choice falls on it
    H = lla.HessianOperator(case.problem((4, 2)))
    check_products(H, cases.hessian(case, (4, 2)), calls=2)


class WrongFromTheSecond(Linearized):
    """Right for the first batch only."""

    made = 0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        type(self).made += 1
        self.factor = 1.0 if self.made == 1 else 1.001

    def __call__(self, rows):
        return super().__call__(rows) * self.factor


def clock(monkeypatch, made, linearized, retained):
    """Seconds to record a linearised product, for one, and for one by double backward."""

    def timed(function, like):
        if "_choose" in function.__qualname__:
            return made, function()
        return (linearized if "_check" in function.__qualname__ else retained), function()

    monkeypatch.setattr(routes, "timed", timed)


@pytest.mark.parametrize(("products", "route"), [(10, "retained"), (100, "linearized")])
def test_item_15_the_choice_weighs_recording_against_products(cases, monkeypatch, products, route):
    case = cases.BY_NAME["mlp_mse"]
    clock(monkeypatch, made=0.03, linearized=1e-4, retained=1e-3)
    H = lla.HessianOperator(case.problem((2,) * 7), products=products)
    assert H.route == route
    retained, linearized = H.trials
    assert retained.cost(products) == pytest.approx(7 * (1e-3 + products * 1e-3))
    # the first batch: recording, the graph and the product that it is checked with, three calls;
    # the others: a replay and a pass; the second one also a graph, a product and a call
    setup = (0.03 + 2e-3 + 0.03) + 6 * 2e-3 + (2e-3 + 0.03 / 3)
    assert linearized.cost(products) == pytest.approx(setup + 7 * products * 1e-4)
    check_products(H, cases.hessian(case, (2,) * 7), calls=1)


def counted_calls(monkeypatch):
    """How often each product that is made is called; the newest last."""
    made = []

    class Counted(Linearized):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(0)
            self.place = len(made) - 1

        def __call__(self, rows):
            made[self.place] += 1
            return super().__call__(rows)

    use(monkeypatch, Counted)
    return made


def without_replay(monkeypatch):
    """Let no recording fit another batch, as where a model decides by its data."""
    monkeypatch.setattr(lla.HessianOperator, "_likeness", lambda self, batch: None)


def test_batches_of_equal_shape_share_a_recording(cases, monkeypatch):
    case, made = cases.BY_NAME["mlp_mse"], counted_calls(monkeypatch)
    H = lla.HessianOperator(case.problem((4, 4, 2, 4)), route="linearized")
    assert made == [3, 3], "two shapes"
    check_products(H, cases.hessian(case, (4, 4, 2, 4)), calls=1)


def test_batches_of_equal_shape_are_checked_once_more_each(cases, monkeypatch):
    without_replay(monkeypatch)
    case, made = cases.BY_NAME["mlp_mse"], counted_calls(monkeypatch)
    problem = case.problem((4, 4, 2, 4))
    lla.HessianOperator(problem, route="linearized")
    assert made == [3, 1, 3, 1], "two shapes, each with a graph of its own"
    lla.HessianOperator(problem.over([next(iter(problem.batches))]), route="linearized")
    assert made[-1] == 1, "what was found holds for all problems that are made from this one"


def test_a_later_batch_that_is_wrong_is_found(cases, monkeypatch):
    case = cases.BY_NAME["mlp_mse"]
    without_replay(monkeypatch)
    use(monkeypatch, type("Wrong", (WrongFromTheSecond,), {"made": 0}))
    with pytest.raises(lla.InputError, match="product 1 differs from double backward"):
        lla.HessianOperator(case.problem((4, 4)), route="linearized")


def test_item_15_many_small_batches_are_not_recorded_for_few_products(cases, monkeypatch):
    case, made = cases.BY_NAME["mlp_mse"], []

    class Counted(Linearized):
        def __init__(self, *arguments):
            made.append(1)
            super().__init__(*arguments)

    use(monkeypatch, Counted)
    clock(monkeypatch, made=0.03, linearized=1e-4, retained=1e-3)
    H = lla.HessianOperator(case.problem((2,) * 50), products=2)
    assert H.route == "retained"
    assert len(made) == 1


def test_item_5_a_route_that_one_batch_suggested_never_raises_for_another(cases, monkeypatch):
    case = cases.BY_NAME["mlp_mse"]
    arguments = case.make(), case.batches((4, 3, 2))
    options = {"loss": case.loss, "probes": 2, "steps": 4}
    expected = lla.criteria(*arguments, route="retained", **options)
    clock(monkeypatch, made=0.0, linearized=0.0, retained=1.0)
    for scope in ("batches", "pooled"):
        use(monkeypatch, type("Wrong", (WrongFromTheSecond,), {"made": 0}))
        found = lla.criteria(*arguments, scope=scope, **options)
        assert found.spectra[0].plan.startswith("whole batches, linearized")
        assert found.route == ("retained" if scope == "batches" else "linearized")
        if scope == "batches":
            for name in ("re", "kh1", "kh05"):
                value = getattr(expected, name).value
                assert getattr(found, name).value == pytest.approx(value, rel=1e-8)
    use(monkeypatch, type("Wrong", (WrongFromTheSecond,), {"made": 0}))
    with pytest.raises(lla.InputError, match=r"'linearized' fails for batch 0.*take route"):
        lla.criteria(*arguments, route="linearized", **options)


def test_unknown_route(cases):
    with pytest.raises(lla.InputError, match="route is 'exact': choose one of linearized"):
        lla.HessianOperator(cases.BY_NAME["mlp_mse"].problem(), route="exact")


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (torch.ones(7), "the vector has 7 elements, the Hessian 8"),
        (torch.ones(7, 2), "the vector has 7 elements, the Hessian 8"),
        (torch.ones(8).double(), r"float64 on cpu, the Hessian torch.float32 on cpu: convert"),
        (torch.ones(8, dtype=torch.long), "int64 on cpu, the Hessian torch.float32"),
        (torch.ones(8, device="meta"), "on meta, the Hessian torch.float32 on cpu"),
        (torch.ones(1, 1, 8), r"takes \[P\] or \[P, K\], not \(1, 1, 8\)"),
        (torch.tensor(1.0), r"takes \[P\] or \[P, K\], not \(\)"),
        (np.ones(8, dtype=np.float32), r"ndarray|numpy|Hessian torch.float32"),
        ([1.0] * 8, "list"),
    ],
)
def test_vector_that_does_not_fit(vector, message):
    model = nn.Linear(3, 2)
    H = lla.HessianOperator(lla.Problem(model, (torch.ones(2, 3), torch.tensor([0, 1]))))
    with pytest.raises(lla.InputError, match=message):
        H @ vector


def test_nan_loss_is_named_before_any_product(cases):
    case = cases.BY_NAME["mlp_mse"]
    batches = case.batches((3, 3, 3))
    batches[1][0][0, 0] = float("nan")
    problem = lla.Problem(case.make(), batches, case.loss)
    with pytest.raises(lla.NonFiniteError, match="batch 1 is nan"):
        lla.HessianOperator(problem)


@pytest.mark.parametrize("parameters", [[], ()])
def test_no_pattern_at_all(cases, parameters):
    with pytest.raises(lla.InputError, match="pattern"):
        lla.HessianOperator(cases.BY_NAME["mlp_mse"].problem(), parameters)


@pytest.mark.parametrize("route", [*ROUTES, None])
def test_gradients_switched_off_by_the_caller_do_not_matter(cases, route):
    case = cases.BY_NAME["cnn_bn_train"]
    expected = cases.hessian(case)
    with torch.no_grad():
        H = lla.HessianOperator(case.problem(), route=route)
        check_products(H, expected, calls=2)


@pytest.mark.parametrize("route", [*ROUTES, None])
@pytest.mark.parametrize("made_inside", [True, False])
def test_inference_mode_gives_the_product_or_an_error_but_not_zero(cases, route, made_inside):
    case = cases.BY_NAME["mlp_mse"]
    expected = cases.hessian(case)
    problem = case.problem()
    eye = torch.eye(len(expected)).double()
    H = None if made_inside else lla.HessianOperator(problem, route=route)
    try:
        with torch.inference_mode():
            H = H or lla.HessianOperator(problem, route=route)
            found = H @ eye
    except lla.InputError as error:
        message = str(error)
    else:
        message = "inference_mode"
        assert relative_error(found, expected) < 1e-10
    assert "inference_mode" in message


@pytest.mark.parametrize("route", [*ROUTES, None])
@pytest.mark.parametrize("made_inside", [True, False])
def test_autocast_of_the_caller_does_not_lower_the_precision(cases, route, made_inside):
    case = cases.BY_NAME["group_norm_gelu"]
    problem = case.problem(dtype=torch.float32)
    H = None if made_inside else lla.HessianOperator(problem, route=route)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            H = H or lla.HessianOperator(problem, route=route)
            found = H @ torch.eye(H.shape[0])
    except lla.InputError as error:
        message = str(error)
    else:
        message = "autocast"
        assert relative_error(found, cases.hessian(case)) < 1e-4
    assert "autocast" in message


@pytest.mark.parametrize("route", [*ROUTES, None])
def test_network_that_backward_refuses_is_refused(route):
    class Overwrites(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            h = torch.sigmoid(self.layer(x))
            h += 1  # sigmoid's backward needs what was here
            return h * h

    problem = lla.Problem(Overwrites(), (torch.rand(4, 3), torch.tensor([0, 1, 1, 0])))
    with pytest.raises((lla.InputError, RuntimeError), match=r"inplace|in place|in-place"):
        lla.HessianOperator(problem, route=route) @ torch.ones(8)


@pytest.mark.parametrize("route", ROUTES)
def test_dropping_the_operator_frees_its_graph_at_once(cases, route):
    H = lla.HessianOperator(cases.BY_NAME["cnn_bn_eval"].problem(), route=route)
    H @ torch.ones(H.shape[0]).double()
    gc.collect()
    gc.disable()
    try:
        alive = [weakref.ref(x) for x in (H, *H._kept)]
        del H
        assert not any(ref() for ref in alive)
    finally:
        gc.enable()


@pytest.mark.parametrize("route", ROUTES)
def test_batches_from_a_loader(cases, route):
    case = cases.BY_NAME["softmax_regression"]
    x, y = (torch.cat(parts) for parts in zip(*case.batches((5, 5, 2)), strict=True))
    loader = DataLoader(TensorDataset(x, y), batch_size=5)
    H = lla.HessianOperator(lla.Problem(case.make(), loader), route=route)
    check_products(H, cases.hessian(case, (5, 5, 2)), calls=2)


@pytest.mark.parametrize("products", [0, 10**400])
def test_any_number_of_products_may_be_expected(cases, products):
    case = cases.CASES[0]
    H = lla.HessianOperator(case.problem(), products=products)
    assert bool((H @ torch.ones(H.shape[0], dtype=H.dtype)).isfinite().all())
