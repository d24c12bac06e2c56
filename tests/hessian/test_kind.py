import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla.hessian.kind import Kind, kind_of
from lla.hessian.spectrum import Spectrum


def spectrum(*runs):
    """From pairs (nodes, weights), one a probe."""
    runs = [(np.array(nodes, float), np.array(weights, float)) for nodes, weights in runs]
    steps = max(len(nodes) for nodes, _ in runs)
    return Spectrum.of(
        runs, steps, size=9, seed=0, dtype="float64", legacy=False, matvecs=steps * len(runs)
    )


class Diagonal(lla.SymmetricOperator):
    """A diagonal matrix."""

    def __init__(self, values):
        super().__init__(len(values), torch.float64, torch.device("cpu"))
        self.values = torch.tensor(values, dtype=torch.float64)

    def multiplied(self, rows):
        return rows * self.values


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 2.0, 7.0], "positive"),
        ([-1.0, -2.0, -7.0], "negative"),
        ([-7.0, -1.0, 2.0, 6.0], "symmetric"),
        ([-1e-4] * 3000 + [1e-4] * 9000 + [1.0], "near-singular"),  # 1.2 of 2.2 are near zero
        ([-1e-4] * 6000 + [1e-4] * 3000 + [1.0], "symmetric"),  # .9 of 1.9, .6 of 1.9 negative
        ([0.0, 0.0], "near-singular"),
    ],
)
def test_the_kind_of_a_prescribed_spectrum(values, kind):
    found = lla.spectral_density(
        Diagonal(values), probes=4, steps=min(4, len(values))
    ).kind  # all nodes at once
    assert found.name == str(found) == kind
    exact = np.array(values)
    total = np.abs(exact).sum() or 1.0
    assert found.negative_share.value == pytest.approx(-exact[exact < 0].sum() / total, abs=0.02)


def test_shares_are_means_over_probes_with_their_errors():
    found = spectrum(([-1, 3], [0.3, 0.7]), ([-1e-3, 1.0], [0.5, 0.5])).kind
    one, two = 0.3 / 2.4, 1e-3 / (1 + 1e-3)
    assert found.negative_share.value == pytest.approx((one + two) / 2)
    assert found.negative_share.stderr == pytest.approx(abs(one - two) / 2)
    assert found.near_zero.value == pytest.approx(two / 2)  # the bound itself counts as near
    assert found.negative_share.n == 2


def test_nothing_is_decided_within_two_standard_errors_or_without_one():
    near = [([-1, 3], [s / (s + (1 - s) / 3), 1 - s / (s + (1 - s) / 3)]) for s in (0.2, 0.28)]
    found = spectrum(*near).kind
    assert found.negative_share.value == pytest.approx(0.24)
    assert found.name == "undecided"
    assert spectrum(near[0]).kind.name == "undecided"
    assert spectrum(near[0], near[0]).kind.name == "positive"
    # unclear whether it is near-singular
    parts = [([1e-4, 1.0], [w, 1 - w]) for w in (0.9999, 0.99995)]
    assert spectrum(*parts).kind.name == "undecided"


def test_several_spectra_have_an_error_over_them():
    a, b = spectrum(([-1, 1], [0.4, 0.6]), ([-1, 1], [0.6, 0.4])), spectrum(([-1, 1], [0.5, 0.5]))
    found = kind_of([a, b])
    assert found.negative_share.value == pytest.approx(0.5)
    assert found.negative_share.stderr == pytest.approx(0)
    assert found.name == "symmetric"
    assert found.negative_share.matvecs == a.matvecs + b.matvecs


def test_padding_and_scale_do_not_matter():
    whole = spectrum(([-1, 1, 3], [0.2, 0.4, 0.4]), ([-1, 3], [0.3, 0.7]))
    tiny = spectrum(([-1e-300, 1e-300, 3e-300], [0.2, 0.4, 0.4]), ([-1e300, 3e300], [0.3, 0.7]))
    assert tiny.kind.negative_share.value == pytest.approx(whole.kind.negative_share.value)


def test_criteria_have_a_kind(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    batches = [(torch.randn(20, 4), torch.arange(20) % 3) for _ in range(3)]
    crit = lla.criteria(model, batches, probes=2, steps=20)
    assert crit.kind.negative_share.n == 3
    assert crit.kind.negative_share.value == pytest.approx(crit.negative_share.value, rel=1e-4)
    crit.kind.save(tmp_path / "kind.npz")
    assert Kind.load(tmp_path / "kind.npz") == crit.kind
