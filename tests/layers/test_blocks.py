import numpy as np
import pytest
import torch
from torch import nn

import lla
from lla.layers import off_block_share
from lla.layers.blocks import layer_of_each
from lla.layers.ratios import ratio, root


def explicit(cases, case):
    """The share from the whole Hessian."""
    H = cases.hessian(case, (4, 3)).numpy()
    owner, _ = layer_of_each(case.problem((4, 3)).space)
    off = owner[:, None] != owner
    return (H[off] ** 2).sum() / (H**2).sum()


@pytest.mark.parametrize(
    "case", ["cnn_bn_eval", "mlp_mse", "tied", "residual_train"], indirect=True
)
def test_the_share_is_exact_for_a_small_network(cases, case):
    problem = case.problem((4, 3))
    expected = explicit(cases, case)
    size = problem.space.size
    found = off_block_share(problem, probes=size)
    assert found.value == pytest.approx(expected, rel=1e-10)
    assert (found.stderr, found.n, found.matvecs) == (0.0, size, size)
    plain = off_block_share(problem, probes=size, squared=False)
    assert plain.value == pytest.approx(np.sqrt(expected), rel=1e-10)
    assert plain.stderr == 0.0


@pytest.mark.parametrize("case", ["cnn_bn_eval"], indirect=True)
def test_probes_give_the_share_within_their_error(cases, case):
    problem = case.problem((4, 3))
    expected = explicit(cases, case)
    blocks = len(layer_of_each(problem.space)[1])
    found = [off_block_share(problem, probes=4, seed=seed) for seed in range(10)]
    assert all(0 < each.value < 1 and each.stderr > 0 for each in found)
    assert all((each.n, each.matvecs) == (4, 4 * blocks) for each in found)
    values = np.array([each.value for each in found])
    assert abs(values.mean() - expected) < 4 * values.std(ddof=1) / np.sqrt(len(values))
    said = np.sqrt(np.mean([each.stderr**2 for each in found]))
    assert said == pytest.approx(values.std(ddof=1), rel=0.6)


def test_a_network_of_independent_layers_has_nothing_off_its_blocks():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return torch.cat([self.a(x), self.b(x)], 1)

    data = torch.rand(5, 3, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    problem = lla.Problem(Two().double(), data, nn.functional.mse_loss)
    assert off_block_share(problem, probes=2).value == 0


def test_a_ratio_has_its_bias_taken_away():
    random = np.random.default_rng(0)
    found = []
    for _ in range(2000):
        bottoms = random.gamma(2.0, size=8)
        tops = 0.5 * bottoms + random.gamma(1.0, size=8)
        found.append(ratio(tops, bottoms, 8).value - 1.0)
        assert ratio(2 * bottoms, bottoms, 8).value == pytest.approx(2.0)
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_the_root_of_an_estimate():
    assert root(lla.Estimate(0.0, 0.01, 4, 4)).stderr == pytest.approx(0.1)
    assert root(lla.Estimate(-0.1, None, 1, 4)) == lla.Estimate(0.0, None, 1, 4)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (lambda p: off_block_share(p, 1), "probes is 1: give a whole number from 2"),
        (lambda p: off_block_share(p, 2.5), "probes is 2.5: give a whole number"),
        (lambda p: off_block_share(p.model), "takes a Problem, not Sequential"),
    ],
)
def test_slips_are_named(networks, slip, message):
    problem = lla.Problem(networks.seeded(networks.mlp), networks.batches(networks.mlp))
    with pytest.raises(lla.InputError, match=message):
        slip(problem)


def test_one_layer_has_nothing_beside_its_block(cases):
    with pytest.raises(lla.InputError, match="one layer"):
        off_block_share(cases.BY_NAME["linear_regression"].problem())


def test_a_hessian_of_zero_has_no_share(networks):
    problem = lla.Problem(
        networks.seeded(networks.mlp), networks.batches(networks.mlp), lambda z, y: z.mean() * 0
    )
    with pytest.raises(lla.InputError, match="is zero, so no share"):
        off_block_share(problem)
