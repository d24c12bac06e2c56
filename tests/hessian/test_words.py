"""What is said of slips, one sentence each (items 16 and 17 of issue 14)."""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import lla

PAIR = torch.linspace(-1, 2, 12).reshape(4, 3), torch.tensor([0, 1, 0, 1])


def model():
    return nn.Linear(3, 2)


def problem():
    return lla.Problem(model(), PAIR)


def operator():
    return lla.HessianOperator(problem(), route="fresh")


NEEDS_PROBLEM = "HessianOperator takes a Problem, not Linear: give it lla.Problem(model, batches"
NEEDS_OPERATOR = "takes a HessianOperator, not Problem: give it lla.HessianOperator(problem)"
NEEDS_MADE = "not Linear: give it lla.HessianOperator(lla.Problem(model, batches, loss))"


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (lambda: lla.HessianOperator(model()), NEEDS_PROBLEM),
        (lambda: lla.HessianOperator(model(), [PAIR]), NEEDS_PROBLEM),
        (lambda: lla.spectral_density(problem()), f"spectral_density {NEEDS_OPERATOR}"),
        (lambda: lla.spectral_density(model(), [PAIR]), f"spectral_density takes .*{NEEDS_MADE}"),
        (lambda: lla.trace(problem()), f"trace {NEEDS_OPERATOR}"),
        (lambda: lla.trace(model()), NEEDS_MADE),
        (lambda: lla.top_eigenpairs(problem()), f"top_eigenpairs {NEEDS_OPERATOR}"),
        (lambda: lla.top_eigenpairs(model(), 3), NEEDS_MADE),
        (lambda: lla.criteria(problem()), "criteria takes a model, not a Problem: write"),
        (lambda: lla.criteria(operator()), "criteria takes a model, not a HessianOperator"),
        (lambda: lla.criteria(model()), "batches is NoneType"),
        (lambda: lla.criteria(model(), PAIR, steps=2.5), "steps is 2.5: give a whole number"),
        (lambda: lla.criteria(model(), PAIR, probes="2"), "probes is '2': give a whole number"),
        (lambda: lla.spectral_density(operator(), steps=2.5), "steps is 2.5: give a whole number"),
        (lambda: lla.spectral_density(operator(), 2.5), "probes is 2.5: give a whole number"),
        (lambda: lla.trace(operator(), max_matvecs=2.5), "max_matvecs is 2.5: give a whole"),
        (lambda: lla.top_eigenpairs(operator(), 2.5), "k is 2.5: give a whole number"),
        (lambda: lla.top_eigenpairs(operator(), max_steps=9.5), "max_steps is 9.5: give a whole"),
        (lambda: lla.HessianOperator(problem(), products=1.5), "products is 1.5: give a whole"),
        (lambda: operator() @ np.ones(8), "not ndarray: convert it with torch.from_numpy(v)"),
        (lambda: operator() @ [1.0] * 8, "not list: convert it with torch.as_tensor(v)"),
    ],
)
def test_item_17_slips_between_the_conventions(slip, message):
    pattern = ".*".join(map(re.escape, message.split(".*")))
    with pytest.raises(lla.InputError, match=pattern) as caught:
        slip()
    assert "\n" not in str(caught.value)


def test_whole_numbers_of_numpy_are_taken():
    found = lla.criteria(model(), PAIR, probes=np.int64(2), steps=np.int32(3))
    assert (found.probes, found.steps) == (2, 3)


@pytest.mark.parametrize("target", [None, 0.1])
def test_item_17_a_loss_that_does_not_depend_on_the_parameters_is_no_maximum(target):
    def constant(output, y):
        return (output * 0.0).sum() + 1.0

    for loss in (constant, lambda output, y: output.detach().sum(), lambda output, y: output.sum()):
        with pytest.raises(
            lla.InputError, match=r"every eigenvalue that .* is 0.*does not depend on"
        ) as e:
            lla.criteria(model(), PAIR, loss=loss, steps=4, probes=4, target_stderr=target)
        assert "maximum" not in str(e.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_item_17_float64_is_no_advice_in_float64(cases, dtype):
    calls = (
        lla.trace,
        lla.top_eigenpairs,
        lambda H: lla.trace(H, "hutch++", sketch=2),
        lambda H: lla.spectral_density(H, steps=5),
        lambda H: lla.spectral_density(H, steps=5, legacy=True),
        lambda H: lla.top_eigenpairs(H, basis_size=5, max_steps=20),
    )
    for call in calls:
        H = cases.spectrum_of(np.linspace(1, 2, 40), dtype)
        H._kept[0] = lambda rows: rows * float("nan")
        with pytest.raises(lla.NonFiniteError, match="not finite: check the weights") as caught:
            call(H)
        assert ("float64" in str(caught.value)) == (dtype == torch.float32)


def test_item_17_a_foreign_npz_is_no_checksum_error(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, x=np.ones(3))
    for kind in (lla.Spectrum, lla.Eigenpairs):
        with pytest.raises(lla.InputError, match=rf"weights\.npz holds no {kind.__name__} that"):
            kind.load(path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(lla.ChecksumError, match="cannot be read"):
        lla.Spectrum.load(path)


def numbers(message):
    found = re.search(r"is ([\d.e-]+) of the value \(([\d.e-]+), enl.*and ([\d.e-]+) was", message)
    return tuple(map(float, found.groups()))


def test_item_16_the_message_gives_the_number_that_was_compared():
    """The case of the issue: the plain standard error is below the target."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    batches = [(torch.randn(20, 3).double(), torch.randint(0, 2, (20,))) for _ in range(5)]

    def message(target):
        with pytest.warns(UserWarning, match="after") as caught:
            found = lla.criteria(
                net, batches, steps=26, loss=F.cross_entropy, target_stderr={"re": target}
            )
        return found.adaptive, str(caught[0].message)

    accuracy = message(1e-3)[0].accuracy["re"]
    between = (accuracy.reached + accuracy.compared) / 2
    assert accuracy.reached < between < accuracy.compared
    adaptive, said = message(between)
    plain, compared = adaptive.accuracy["re"].reached, adaptive.accuracy["re"].compared
    assert numbers(said) == pytest.approx((compared, plain, between), rel=0.05)
    assert numbers(said)[0] > numbers(said)[2]
    # half of the 95 % interval, in units of a normal number's
    low, high = adaptive.accuracy["re"].interval
    assert (high - low) / 2 == pytest.approx(1.96 * compared * (high + low) / 2, rel=1e-3)
