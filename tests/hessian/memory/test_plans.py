"""What does not fit, or runs out of memory, is made by a smaller plan, and says so."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import eigh_tridiagonal
from torch import nn

import lla
from lla import free_memory
from lla.errors import out_of_memory
from lla.free_memory import available_memory
from lla.hessian.lanczos.process import Lanczos
from lla.hessian.memory.batch_hessians import BatchHessians
from lla.hessian.memory.plans import (
    Cost,
    Plan,
    basis_storages,
    bytes_an_example,
    bytes_to_keep,
    describe,
    needed,
    plans,
    try_plans,
)
from lla.hessian.products.routes import ROUTES, Retained
from lla.probes import rademacher

CPU = torch.device("cpu")
NAMES = ("re", "kh1", "kh05", "negative_share")
MIB = 2**20


def values_of(crit):
    return np.array([getattr(crit, name).value for name in NAMES])


def perceptron(seed=0, width=128):
    """A model and a batch of 256, in float32."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))
        return model, (torch.randn(256, 64), torch.randint(0, 10, (256,)))


def refuse(*_):
    """What torch's allocator for the CPU does when there is too little."""
    torch.empty(2**55)


def first_plans(problem, asked, cost, memory=None):
    return [str(plan) for plan in plans(problem, asked, cost, memory)]


def small_cost(**changes):
    facts = {"vectors": 0, "basis": 1, "itemsize": 8, "example": 0.0, "batch": 9, "examples": 9}
    return Cost(**{**facts, **changes})


# the product and the criteria from micro-batches


@pytest.mark.parametrize("route", ["linearized", "retained", "fresh", None])
@pytest.mark.parametrize(
    "case", ["cnn_bn_eval", "encoder_eval", "tied", "dict_input", "tuple_input"], indirect=True
)
def test_product_from_micro_batches_is_that_of_the_explicit_hessian(cases, case, route):
    problem = case.problem((5, 4)).in_micro_batches(2)
    assert problem.batch_sizes == (2, 2, 1, 2, 2)
    H = lla.HessianOperator(problem, route=route)
    expected = cases.hessian(case, (5, 4))
    found = H @ torch.eye(H.shape[0]).double()
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12 * float(expected.norm()))
    whole = lla.HessianOperator(case.problem((5, 4)), route="fresh")
    v = torch.linspace(-1, 1, H.shape[0]).double()
    torch.testing.assert_close(H @ v, whole @ v, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("scope", ["batches", "pooled"])
def test_criteria_from_micro_batches_are_those_of_whole_batches(cases, scope, legacy):
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batches = case.make(), case.batches((5, 4, 1))
    options = {"probes": 2, "steps": 8, "scope": scope, "legacy": legacy}
    whole = lla.criteria(model, batches, **options)
    parts = lla.criteria(model, batches, micro_batch=2, route="fresh", **options)
    np.testing.assert_allclose(values_of(parts), values_of(whole), rtol=1e-9)
    assert parts.plan == "micro-batches of 2, fresh"
    assert parts.loss == whole.loss
    assert (parts.batches, len(parts.spectra)) == (3, 3 if scope == "batches" else 1)


@pytest.mark.parametrize("scope", ["batches", "pooled"])
def test_criteria_refuse_micro_batches_of_another_function_before_any_product(
    cases, monkeypatch, scope
):
    monkeypatch.setattr(lla.HessianOperator, "rows", lambda *_: pytest.fail("a product was made"))
    case = cases.BY_NAME["cnn_bn_eval"]
    model, batches = case.make(), case.batches((5, 4))

    def total(output, y):  # neither a mean nor a sum over examples
        return F.cross_entropy(output, y) ** 2

    for options, message in (
        ({"mode": "train"}, "micro_batch is 2 in train mode"),
        ({"loss": total}, "the loss of batch 0 is neither the mean nor the sum"),
        ({"micro_batch": 0}, "micro_batch is 0"),
    ):
        with pytest.raises(lla.InputError, match=message):
            lla.criteria(model, batches, steps=5, **{"micro_batch": 2, "scope": scope, **options})


def test_storage_of_the_basis_is_passed_on():
    model, batch = perceptron()
    plain, stored = (
        lla.criteria(
            model, batch, probes=1, steps=20, route="retained", memory=lla.Memory(basis_dtype=dtype)
        )
        for dtype in (None, torch.bfloat16)
    )
    assert stored.plan == "whole batches, retained, bfloat16 basis"
    assert not np.array_equal(values_of(stored), values_of(plain))
    np.testing.assert_allclose(values_of(stored), values_of(plain), rtol=5e-3)


@pytest.mark.parametrize("option", [{"basis_dtype": torch.bfloat16}, {"basis_device": "cpu"}])
def test_legacy_has_no_basis_to_store(cases, option):
    H = cases.spectrum_of([1.0, 2.0, 3.0])
    with pytest.raises(lla.InputError, match="legacy keeps eleven Lanczos vectors and no basis"):
        lla.spectral_density(H, 1, 3, legacy=True, memory=lla.Memory(**option))


def test_where_all_fits_the_numbers_are_those_of_lanczos_alone():
    model, batch = perceptron()
    H = lla.HessianOperator(lla.Problem(model, batch), route="retained")
    lanczos = Lanczos(H, rademacher(H.shape[0], H.theta, 0, 0, 0)[None], 12)
    lanczos.advance(12)
    T = lanczos.tridiagonal()
    expected = eigh_tridiagonal(T.alphas[0], T.betas[0, :-1])[0]
    crit = lla.criteria(model, batch, probes=1, steps=12, route="retained")
    spectrum = lla.spectral_density(H, 1, 12)
    assert np.array_equal(crit.spectra[0].eigenvalues[0], expected)
    assert np.array_equal(spectrum.eigenvalues[0], expected)
    assert crit.plan == spectrum.plan == crit.spectra[0].plan == "whole batches, retained"
    assert crit.reread("density").plan == crit.plan


# which plans there are, and in which order


def test_plans_from_the_fastest_to_the_smallest_by_hand(cases):
    problem = cases.BY_NAME["cnn_bn_eval"].problem((9,))
    basis_storages = ["", ", float32 basis", ", bfloat16 basis"]
    expected = [
        f"{product}{basis}"
        for basis in basis_storages
        for product in (
            "whole batches, fastest route", "whole batches, fresh", "micro-batches of 4, fresh",
            "micro-batches of 2, fresh", "micro-batches of 1, fresh",
        )
    ]  # fmt: skip
    assert first_plans(problem, Plan(), small_cost()) == expected
    narrow = Plan(micro_batch=3, route="retained", basis_dtype=torch.bfloat16, basis_device="cpu")
    assert first_plans(problem, narrow, small_cost()) == [
        "micro-batches of 3, retained, bfloat16 basis on the cpu",
        "micro-batches of 3, fresh, bfloat16 basis on the cpu",
        "micro-batches of 1, fresh, bfloat16 basis on the cpu",
    ]
    assert first_plans(problem, Plan(), small_cost(basis=0)) == expected[:5]


def test_in_train_mode_only_the_graph_and_the_basis_are_saved_on(cases):
    problem = cases.BY_NAME["cnn_bn_train"].problem((9,))
    assert first_plans(problem, Plan(), small_cost(itemsize=4)) == [
        "whole batches, fastest route",
        "whole batches, fresh",
        "whole batches, fastest route, bfloat16 basis",
        "whole batches, fresh, bfloat16 basis",
    ]


def test_a_loss_that_is_no_mean_is_not_cut(cases):
    case = cases.BY_NAME["cnn_bn_eval"]

    def total(output, y):  # neither a mean nor a sum over examples
        return F.cross_entropy(output, y) ** 2

    problem = lla.Problem(case.make(), case.batch(9), total)
    assert not any("micro" in text for text in first_plans(problem, Plan(), small_cost()))


def test_beside_another_device_the_basis_goes_to_the_cpu_before_it_loses_digits():
    cuda, asked, cost = torch.device("cuda"), Plan(), small_cost(itemsize=4)
    assert list(basis_storages(asked, cost, cuda)) == [
        (None, None), (None, "cpu"), (torch.bfloat16, None), (torch.bfloat16, "cpu")
    ]  # fmt: skip
    assert list(basis_storages(Plan(basis_device="cpu"), cost, cuda)) == [
        (None, "cpu"), (torch.bfloat16, "cpu")
    ]  # fmt: skip
    basis = small_cost(basis=1000, itemsize=4)
    assert needed(Plan(), basis, cuda).device == needed(Plan(), basis, CPU).device == 4000
    beside = needed(Plan(basis_dtype=torch.bfloat16, basis_device="cpu"), basis, cuda)
    assert (beside.device, beside.host) == (0, 2000)
    assert str(beside) == "0.00 GiB and 0.00 GiB beside the device"


# what a plan takes


@pytest.mark.parametrize(
    ("route", "at_work", "between"),
    [("fresh", 2.75, 0.0), ("retained", 2.75, 1.0), ("linearized", 6.0, 2.25), (None, 2.75, 0.0)],
)
def test_what_a_plan_needs_by_its_formula(route, at_work, between):
    cost = Cost(vectors=1000, basis=5000, itemsize=8, example=100.0, batch=8, examples=20)
    for micro_batch, at_once in ((None, 8), (8, 8), (2, 2), (50, 8)):
        graphs = 100.0 * (at_work * at_once + between * (20 - at_once))
        found = needed(Plan(micro_batch, route), cost, CPU)
        assert (found.device, found.host) == (15 * 1000 + graphs + 5000 * 8, 0)
    half = needed(Plan(None, route, torch.bfloat16), cost, CPU).device
    assert half == needed(Plan(None, route), cost, CPU).device - 5000 * 6


@pytest.mark.parametrize(("legacy", "vectors"), [(True, 0), (False, 7)])
def test_the_legacy_process_is_planned_without_a_basis(cases, monkeypatch, legacy, vectors):
    made, real = [], lla.hessian.memory.plans.cost_of

    def cost_of(*args, **options):
        made.append(real(*args, **options))
        return made[-1]

    monkeypatch.setattr(lla.hessian.memory.plans, "cost_of", cost_of)
    H = cases.spectrum_of(np.arange(1.0, 11.0))
    lla.spectral_density(H, 1, 7, legacy=legacy)
    assert [cost.basis for cost in made] == [vectors * 10]


@pytest.mark.parametrize(("pooled", "sizes"), [(True, [9]), (False, [5, 4])])
def test_each_batch_has_a_hessian_of_its_own_unless_they_are_pooled(cases, pooled, sizes):
    whole = cases.BY_NAME["cnn_bn_eval"].problem((5, 4))
    hessians = BatchHessians(whole, Plan(), 5, pooled=pooled)
    assert hessians.count == len(sizes)
    assert [problem.examples for _, problem in hessians.problems()] == sizes


def test_bytes_an_example_are_those_that_grow_with_the_batch():
    model, (x, y) = perceptron()
    problem = lla.Problem(model, (x, y))
    kept = {}
    for n in (64, 256):
        part = lla.Problem(model, (x[:n], y[:n]))
        function = part.batch_loss(next(iter(part.batches)))
        kept[n] = Retained(function, part.theta(), part.deterministic).kept_bytes
    slope = (kept[256] - kept[64]) / 192
    assert bytes_an_example(problem, problem.space) == pytest.approx(slope, rel=0.05)
    some = bytes_an_example(problem, problem.space.select("2.*"))
    assert 0 < some < slope


@pytest.mark.parametrize("n", [1, 2, 3])
def test_bytes_an_example_of_the_smallest_batches(cases, n):
    problem = cases.BY_NAME["cnn_bn_train" if n > 1 else "cnn_bn_eval"].problem((n,))
    assert bytes_an_example(problem, problem.space) > 0


def test_a_batch_that_cannot_be_cut_is_taken_as_it_is():
    target = torch.rand(256, 10)
    model, batch = perceptron()

    def of_one_size(output, _):
        return (output - target).square().mean()

    problem = lla.Problem(model, batch, of_one_size)
    assert bytes_an_example(problem, problem.space) == 0
    crit = lla.criteria(model, batch, probes=1, steps=3, loss=of_one_size, route="retained")
    assert crit.plan == "whole batches, retained"


def test_what_routes_may_keep_is_half_of_the_rest_and_leaves_room_for_a_product():
    for plan, memory, expected in (
        (Plan(), 10**6, 500_000 - 4000),  # the basis: 8000
        (Plan(), 8000 + 2000, 10),  # beside its graph a product takes 1990
        (Plan(micro_batch=3), 8000 + 2000, 1000),
        (Plan(), 8000, 0),
    ):
        cost = small_cost(example=1990 / 1.75 / 9, basis=1000)
        assert bytes_to_keep(plan, cost, CPU, memory) == pytest.approx(expected, abs=1)


def test_a_control_group_limits_what_is_available(tmp_path, monkeypatch):
    free = available_memory(CPU)
    monkeypatch.setattr(free_memory, "_GROUP", tmp_path)
    assert available_memory(CPU) == pytest.approx(free, rel=0.5)  # no such files
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 150000\nactive_file 50000\n")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert available_memory(CPU) == 1_000_000 - 700_000 + 150_000
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(CPU) == pytest.approx(free, rel=0.5)


# a small memory


@pytest.mark.parametrize("scope", ["batches", "pooled"])
@pytest.mark.parametrize(
    ("mib", "micro", "narrow"), [(64, False, False), (2.5, True, False), (1.5, True, True)]
)
def test_a_small_memory_leads_to_a_smaller_plan_and_the_same_criteria(scope, mib, micro, narrow):
    model, (x, y) = perceptron()
    batches = [(x, y), (x.flip(1), y)]
    options = {"probes": 2, "steps": 40, "scope": scope, "seed": 1}
    free = lla.criteria(model, batches, **options)
    tight = lla.criteria(model, batches, memory=int(mib * MIB), **options)
    assert ("micro-batches" in tight.plan) == micro
    assert ("bfloat16 basis" in tight.plan) == narrow
    assert ("too large: whole batches, fastest route" in tight.plan) == (micro or narrow)
    assert "out of memory" not in tight.plan
    np.testing.assert_allclose(values_of(tight), values_of(free), rtol=5e-3)


def test_in_train_mode_a_small_memory_leads_to_a_smaller_basis(cases):
    case = cases.BY_NAME["cnn_bn_train"]
    model, batch = case.make(), case.batch(6)
    options = {"mode": "train", "probes": 2, "steps": 20, "route": "fresh"}
    free = lla.criteria(model, batch, **options)
    plan = Plan(route="fresh")
    problem = lla.Problem(model, batch, mode="train")
    whole = Cost(problem.space.size * 8, 20 * problem.space.size, 8,
                 bytes_an_example(problem, problem.space), 6, 6)  # fmt: skip
    tight = lla.criteria(model, batch, memory=needed(plan, whole, CPU).device - 1, **options)
    assert tight.plan == "whole batches, fresh, float32 basis (too large: whole batches, fresh)"
    np.testing.assert_allclose(values_of(tight), values_of(free), rtol=1e-4)


def test_spectral_density_fits_its_basis_into_the_memory():
    model, batch = perceptron()
    H = lla.HessianOperator(lla.Problem(model, batch), route="retained")
    free = lla.spectral_density(H, 2, 40)
    bytes_ = 4 * H.shape[0]
    tight = lla.spectral_density(H, 2, 40, memory=45 * bytes_)
    assert tight.plan == (
        "whole batches, retained, bfloat16 basis (too large: whole batches, retained)"
    )
    for found, exact in zip(
        dataclasses.astuple(lla.spectrum_criteria(tight)),
        dataclasses.astuple(lla.spectrum_criteria(free)),
        strict=True,
    ):
        np.testing.assert_allclose(found, exact, rtol=5e-3)


def test_a_plan_named_in_full_is_tried_whatever_it_should_need(monkeypatch):
    model, batch = perceptron()
    monkeypatch.setattr("lla.hessian.memory.plans.available_memory", lambda _: 1000)
    options = {"probes": 1, "steps": 3, "micro_batch": 100, "route": "retained"}
    crit = lla.criteria(model, batch, **options)
    assert crit.plan == "micro-batches of 100, retained"
    with pytest.raises(lla.InsufficientMemoryError):
        lla.criteria(model, batch, memory=1000, **options)


def test_no_plan_that_fits_is_an_error_that_says_what_the_smallest_takes(monkeypatch):
    monkeypatch.setattr(lla.HessianOperator, "rows", lambda *_: pytest.fail("a product was made"))
    model, batch = perceptron()
    match = (
        r"no plan fits into 0.00 GiB: the smallest \(micro-batches of 1, fresh, bfloat16 basis\)"
    )
    with pytest.raises(lla.InsufficientMemoryError, match=match) as caught:
        lla.criteria(model, batch, memory=100_000)
    assert isinstance(caught.value, MemoryError)
    H = lla.HessianOperator(lla.Problem(model, batch), route="retained")
    with pytest.raises(lla.InsufficientMemoryError, match="no plan fits"):
        lla.spectral_density(H, memory=100_000)


# running out of memory


def test_an_allocators_refusal_is_told_from_other_errors():
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ):
        assert out_of_memory(error)
    for error in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
        lla.InputError("DefaultCPUAllocator"),
        KeyError("CUDA out of memory"),
    ):
        assert not out_of_memory(error)
    with pytest.raises(RuntimeError) as caught:  # torch's own
        refuse()
    assert out_of_memory(caught.value)
    with pytest.raises(MemoryError) as caught:  # numpy's own
        np.empty(2**55)
    assert out_of_memory(caught.value)


def test_try_plans_goes_on_until_the_memory_suffices_and_frees_what_was_taken():
    alive = []

    def run(plan):
        held = torch.ones(3)
        alive.append(torch.utils.weak.WeakTensorKeyDictionary({held: plan}))
        if plan.micro_batch != 1:
            refuse()
        assert [len(kept) for kept in alive[:-1]] == [0] * (len(alive) - 1)
        return "done"

    candidates = [Plan(n) for n in (4, 2, 1)]
    found = try_plans(run, iter(candidates), CPU)
    assert found == ("done", Plan(1), (Plan(4), Plan(2)))
    assert describe(found[1], Plan(4), found[2]) == (
        "micro-batches of 1, fastest route (out of memory: micro-batches of 4, fastest route; "
        "micro-batches of 2, fastest route)"
    )
    match = r"2 plans ran out of memory \(.* of 4, fastest route; .* of 2, fastest route\).*alloc"
    with pytest.raises(lla.InsufficientMemoryError, match=match):
        try_plans(run, candidates[:2], CPU)


def test_after_a_failure_no_plan_follows_that_needs_more(cases):
    problem = cases.BY_NAME["cnn_bn_eval"].problem((9,))
    cost = small_cost(example=1e6, basis=10**6)  # the basis: 8 MB, then 4, then 2
    texts = first_plans(problem, Plan(), cost, memory=36 * 10**6)
    assert texts[:2] == ["whole batches, fastest route", "whole batches, fresh"]
    order = [needed(plan, cost, CPU).device for plan in plans(problem, Plan(), cost, 36 * 10**6)]
    assert order == sorted(order, reverse=True)
    assert texts[-1] == "micro-batches of 1, fresh, bfloat16 basis"


class Refusals:
    """Stands for a route, and refuses the first times as torch does."""

    def __init__(self, times, route, error=torch.OutOfMemoryError):
        self.left, self.error, self.make = times, error, ROUTES[route]

    def __call__(self, *arguments):
        if self.left:
            self.left -= 1
            raise self.error("CUDA out of memory. Tried to allocate 9.00 GiB")
        return self.make(*arguments)


@pytest.mark.parametrize("scope", ["batches", "pooled"])
def test_out_of_memory_leads_to_the_next_plan_and_is_recorded(monkeypatch, scope):
    model, (x, y) = perceptron()
    batches = [(x, y), (x.flip(1), y)]
    options = {"probes": 1, "steps": 10, "scope": scope}
    expected = lla.criteria(model, batches, **options)
    monkeypatch.setitem(ROUTES, "retained", Refusals(1, "retained"))
    monkeypatch.setitem(ROUTES, "fresh", Refusals(2, "fresh"))
    crit = lla.criteria(model, batches, **options)
    assert crit.plan == (
        "micro-batches of 64, fresh (out of memory: whole batches, fastest route; whole batches, "
        "fresh; micro-batches of 128, fresh)"
    )
    assert crit.route == "fresh"
    np.testing.assert_allclose(values_of(crit), values_of(expected), rtol=1e-3)
    assert crit.matvecs == expected.matvecs
    if scope == "batches":  # what was found for the first batch holds for the second
        assert crit.spectra[0].plan == crit.plan
        assert crit.spectra[1].plan == "micro-batches of 64, fresh"


@pytest.mark.parametrize("batch", [1, 2])
def test_out_of_memory_by_a_route_asked_for_by_name_is_no_wrong_input(monkeypatch, batch):
    model, (x, y) = perceptron()
    route = Refusals(0, "linearized")

    def second(*arguments):
        route.left = int(route.calls == batch - 1)
        route.calls += 1
        return route(*arguments)

    route.calls = 0
    monkeypatch.setitem(ROUTES, "linearized", second)
    batches = [(x, y), (x[1:], y[1:])]  # of other shapes, so that both are recorded
    crit = lla.criteria(model, batches, probes=1, steps=5, route="linearized")
    assert crit.plan == "whole batches, fresh (out of memory: whole batches, linearized)"
    assert len(crit.spectra) == 2


def test_out_of_memory_in_a_later_batch_repeats_that_batch_alone(monkeypatch):
    model, (x, y) = perceptron()
    batches = [(x, y), (x.flip(1), y), (x.flip(0), y)]
    rows, calls = lla.HessianOperator.rows, []

    def counted(self, vectors):
        calls.append(self.problem.batch_sizes)
        if len(calls) == 7:  # the second product of the second batch
            refuse()
        return rows(self, vectors)

    monkeypatch.setattr(lla.HessianOperator, "rows", counted)
    crit = lla.criteria(model, batches, probes=1, steps=5, route="fresh")
    assert crit.plan == "micro-batches of 128, fresh (out of memory: whole batches, fresh)"
    assert calls == [(256,)] * 7 + [(128, 128)] * 10
    assert [spectrum.matvecs for spectrum in crit.spectra] == [5, 5, 5]


def test_out_of_memory_within_spectral_density(monkeypatch):
    model, batch = perceptron()
    H = lla.HessianOperator(lla.Problem(model, batch), route="retained")
    expected = lla.spectral_density(H, 1, 10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # the operator keeps the weights that it was made with
    rows, left = lla.HessianOperator.rows, [None] * 2

    def short(self, vectors):
        if left:
            left.pop()
            refuse()
        return rows(self, vectors)

    monkeypatch.setattr(lla.HessianOperator, "rows", short)
    found = lla.spectral_density(H, 1, 10)
    assert found.plan == (
        "micro-batches of 128, fresh (out of memory: whole batches, retained; whole batches, fresh)"
    )
    largest = np.abs(expected.eigenvalues).max()
    np.testing.assert_allclose(found.eigenvalues, expected.eigenvalues, atol=1e-4 * largest)
    assert found.matvecs == 10
    assert (H.route, H.problem.batch_sizes) == ("retained", (256,))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_out_of_memory_by_every_plan_lists_them(monkeypatch, mode):
    model, (x, y) = perceptron()
    batch = x[:32], y[:32]
    monkeypatch.setattr(lla.HessianOperator, "rows", refuse)
    with pytest.raises(lla.InsufficientMemoryError) as caught:
        lla.criteria(model, batch, mode, probes=1, steps=5)
    text = str(caught.value)
    assert "whole batches, fastest route; whole batches, fresh" in text
    assert ("micro-batches of 1, fresh, bfloat16 basis" in text) == (mode == "eval")
    assert "DefaultCPUAllocator" in text
    assert "\n" not in text


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError])
def test_other_errors_are_not_swallowed(monkeypatch, error):
    model, batch = perceptron()

    def fails(*_):
        raise error("an illegal memory access was encountered")

    monkeypatch.setattr(lla.HessianOperator, "rows", fails)
    with pytest.raises(error, match="an illegal memory access"):
        lla.criteria(model, batch, probes=1, steps=5)
    H = lla.HessianOperator(lla.Problem(model, batch), route="fresh")
    with pytest.raises(error, match="an illegal memory access"):
        lla.spectral_density(H, 1, 5)
