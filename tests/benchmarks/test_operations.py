"""FLOPs and bytes of operations by hand and by torch's counter, their limit, and the page."""

import re

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import lla
from benchmarks.language import LanguageCase
from benchmarks.operations import counts, measurement
from benchmarks.operations.counts import KINDS
from benchmarks.operations.measurement import MACHINE, PASS, PRODUCT, Operation, Yardsticks, observe
from benchmarks.operations.view import EXHIBIT
from benchmarks.problems import NetworkCase
from benchmarks.publish import publish
from lla.probes import rademacher

LENET = NetworkCase("lenet", 4, (1, 32, 32))
GPT = LanguageCase(2, 8, width=16, blocks=1, words=20)
SMALL = Yardsticks(side=64, elements=2**12)
F32 = 4  # bytes


def product_of(case):
    """One Hessian product, ready to be called."""
    operator = lla.HessianOperator(case.make()[0], route="linearized")
    rows = rademacher(operator.shape[0], operator.theta, 0)[None]
    return lambda: operator.rows(rows)


@pytest.mark.parametrize(
    "case",
    [LENET, GPT, NetworkCase("resnet20", 2, (3, 32, 32)),
     NetworkCase("squeezenet1_1", 1, (3, 64, 64))], ids=str,
)  # fmt: skip
def test_flops_are_those_of_torchs_counter(case):
    product = product_of(case)
    with FlopCounterMode(display=False) as counter:
        product()
    assert sum(each.flops for each in observe(product)) == counter.get_total_flops() > 0


def one(function):
    """The only operation of a call that is no view."""
    (found,) = (each for each in observe(function) if each.bytes)
    return found


def seen(function):
    """Its kind, FLOPs and bytes."""
    found = one(function)
    return found.kind, found.flops, found.bytes


def test_convolutions_in_groups_by_hand():
    # every output is a sum over 3 x 3 inputs of one channel out of five
    x, weight = torch.ones(2, 5, 8, 8, requires_grad=True), torch.ones(5, 1, 3, 3)
    flops = 2 * (2 * 5 * 6 * 6) * 9
    large, small, kernel = 2 * 5 * 8 * 8, 2 * 5 * 6 * 6, 5 * 9
    moved = F32 * (large + small + kernel)
    assert seen(lambda: F.conv2d(x, weight, groups=5)) == ("convolutions forward", flops, moved)
    for of_inputs, of_weights in ((True, False), (False, True)):
        name = "inputs" if of_inputs else "weights"
        gradient = lambda: torch.ops.aten.convolution_backward(  # noqa: E731
            torch.ones(2, 5, 6, 6), x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 5,
            [of_inputs, of_weights, False],  # noqa: B023
        )  # fmt: skip
        (found,) = (each for each in observe(gradient) if each.flops)
        assert (found.kind, found.flops) == (f"convolutions backward, {name}", flops)
        assert found.bytes == moved


def test_transposed_convolution_by_hand():
    # every one of 2 x 3 x 4 x 4 inputs is multiplied with 7 x 2 x 2 weights
    x, weight = torch.ones(2, 3, 4, 4), torch.ones(3, 7, 2, 2)
    kind, flops, _ = seen(lambda: F.conv_transpose2d(x, weight, stride=2))
    assert (kind, flops) == ("convolutions forward", 2 * (2 * 3 * 4 * 4) * (7 * 2 * 2))


@pytest.mark.parametrize(
    ("function", "kind", "numbers"),
    [
        (lambda x, y: x + y[:, None].expand(3, 4), "pointwise", 12 + 3 + 12),
        (lambda x, y: x * x, "pointwise", 12 + 12),
        (lambda x, y: x.sum(1), "normalisation and reductions", 12 + 3),
        (lambda x, y: torch.softmax(x, 1), "normalisation and reductions", 12 + 12),
        (lambda x, y: x.clone(), "copies and layout", 12 + 12),
        (lambda x, y: x[:, :2].reshape(6), "copies and layout", 6 + 6),
        (lambda x, y: torch.cat([x, x[:2]]), "copies and layout", 12 + 8 + 20),
        (lambda x, y: x.copy_(y[:, None].expand(3, 4)), "copies and layout", 3 + 12),
        (lambda x, y: F.avg_pool1d(x, 2), "pooling", 12 + 6),
        (lambda x, y: torch.cumprod(x, 1), "everything else", 12 + 12),
    ],
)
def test_bytes_by_hand(function, kind, numbers):
    x, y = torch.ones(3, 4), torch.ones(3)
    assert seen(lambda: function(x, y)) == (kind, 0, F32 * numbers)


def test_products_of_matrices_by_hand():
    a, b, bias = torch.ones(2, 3), torch.ones(3, 5), torch.ones(5)
    parts = F32 * (6 + 15 + 10)
    assert seen(lambda: a @ b) == ("matrix products", 2 * 2 * 3 * 5, parts)
    plus = seen(lambda: torch.addmm(bias, a, b))
    assert plus == ("matrix products", 2 * 2 * 3 * 5, parts + F32 * 5)
    stack = seen(lambda: torch.bmm(a.expand(4, 2, 3), b.expand(4, 3, 5)))
    assert stack == ("matrix products", 4 * 2 * 2 * 3 * 5, F32 * (6 + 15 + 4 * 10))


def test_what_a_selection_reads_is_what_it_returns():
    x, index = torch.ones(2, 50), torch.zeros(2, 3, dtype=torch.int64)
    assert seen(lambda: x.gather(1, index)) == ("pooling", 0, F32 * (6 + 6) + 8 * 6)


def test_an_operation_takes_at_least_its_flops_or_its_bytes():
    work = Operation("pointwise", flops=30, bytes=8, seconds=1.0)
    assert measurement.limit(work, flops_per_second=10.0, bytes_per_second=4.0) == 3.0
    assert measurement.limit(work, flops_per_second=20.0, bytes_per_second=4.0) == 2.0


def test_time_goes_to_the_operation_that_takes_it():
    a, x = torch.ones(512, 512), torch.ones(4)
    small, large, _ = observe(lambda: (x + 1, a @ a, x * 2))
    assert large.kind == "matrix products"
    assert large.seconds > 5 * small.seconds > 0


@pytest.mark.parametrize("case", [LENET, GPT], ids=str)
def test_what_was_measured_is_complete(case):
    found = measurement.measure(case, SMALL, rounds=2)
    kinds = [name for name in found if name in KINDS]
    assert {"matrix products", "pointwise", "normalisation and reductions"} <= {*kinds}
    assert ("convolutions forward" in kinds) == (case is LENET)
    for metric in ("operations", "flops", "bytes", "limit"):
        parts = sum(found[kind][metric][0] for kind in kinds)
        assert parts == pytest.approx(found[PRODUCT][metric][0])
    for name in (*kinds, PRODUCT, PASS):
        assert found[name]["seconds"][0] > 0
    assert all(value > 0 and error > 0 for value, error in found[MACHINE].values())


def test_the_language_model_sees_no_later_word():
    case = LanguageCase(1, 6, width=16, blocks=2, words=20)
    problem, step = case.make()
    step()
    (batch,) = problem.batches
    texts = batch[0].clone()
    texts[0, 4] = (texts[0, 4] + 1) % 20
    before, after = (problem.model(x)[0] for x in (batch[0], texts))
    changed = (before - after).abs().amax(0) > 1e-6
    assert changed.tolist() == [False] * 4 + [True] * 2


def planted(slow=1.0):
    """A machine of 100 GFLOP/s and 10 GB/s, and a product of 40 ms of two kinds."""
    kind = {"operations": (3.0, None)}
    return {
        MACHINE: {"flops_per_second": (1e11, 1e9), "bytes_per_second": (1e10, 1e8)},
        PASS: {"seconds": (0.02, 1e-3)},
        PRODUCT: {"seconds": (0.04, 2e-3), "within": (0.03, 1e-3), "limit": (0.02, None),
                  "passes": (2.0, 0.1), "flops": (1.8e9, None), "bytes": (4e7, None), **kind},
        "matrix products": {"seconds": (0.02, 1e-3), "limit": (0.018, None),
                            "flops": (1.8e9, None), "bytes": (2e7, None), **kind},
        "pointwise": {"seconds": (0.01 * slow, 1e-3), "limit": (0.002, None),
                      "flops": (0.0, None), "bytes": (2e7, None), **kind},
    }  # fmt: skip


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_says_what_takes_the_time_and_how_far_it_is_from_the_limit(tmp_path):
    for model in (planted(2.0), planted()):  # the second replaces the first
        publish(EXHIBIT, measurement.records(LENET, model, rounds=2), tmp_path)
    text = (tmp_path / "benchmarks" / "operations.md").read_text()
    (whole,) = (cells(x) for x in text.splitlines() if re.match(r"\|.*\| product +\|", x))
    assert whole[0] == "lenet 4"
    assert whole[-7:] == ["100.0 ± 1.0", "10.00 ± 0.10", "20.0 ± 1.0", "40.0 ± 2.0",
                          "2.00 ± 0.10", "20", "50.0%"]  # fmt: skip
    lines = [cells(x)[-7:] for x in text.splitlines() if x.startswith("|")][-3:]
    assert lines == [
        ["matrix products", "20.0 ± 1.0", "50.0%", "90 (90%)", "1 (10%)", "1.11", "3"],
        ["pointwise", "10.0 ± 1.0", "25.0%", "", "2 (20%)", "5.00", "3"],
        ["between operations", "10", "25.0%", "", "", "", ""],
    ]
    assert "most time is in matrix products (50% of the product), 1.11 times the limit" in text
    assert "reaches 50.0% of the limit; most is lost between operations (25% of the time)." in text


def test_kinds_are_found_by_name_before_torchs_tags():
    aten = torch.ops.aten
    assert counts.kind(aten.clone.default, ()) == "copies and layout"
    assert counts.kind(aten.hardtanh_backward.default, ()) == "pointwise"
    assert counts.kind(aten.view.default, ()) == "copies and layout"
