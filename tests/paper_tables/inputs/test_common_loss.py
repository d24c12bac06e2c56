import pytest
import torch
from torch import nn

from paper_tables.inputs.common_loss import Descent, mean_loss, train


@pytest.fixture
def task():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 5, generator=generator)
    return x, (x[:, 0] > 0).long()


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))


def test_networks_of_different_trainings_end_at_the_same_loss(task):
    for lr, size in ((0.01, 10), (0.1, 30), (0.3, 60)):
        model = network()
        found = train(model, *task, Descent(lr, size, 1e-3, 0, 0.1, 2000))
        assert found.reached
        assert mean_loss(model, *task) == found.loss == pytest.approx(0.1, rel=1e-3)


def test_a_training_is_repeated_exactly(task):
    how = Descent(0.05, 10, 0.0, 3, 0.2, 2000)
    one, other = network(), network()
    assert train(one, *task, how) == train(other, *task, how)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_too_few_steps_are_said(task):
    found = train(network(), *task, Descent(1e-4, 10, 0.0, 0, 0.01, 7))
    assert (found.steps, found.reached) == (7, False)


def test_a_loss_that_explodes_leaves_finite_weights(task):
    model = network()
    found = train(model, *task, Descent(1e20, 10, 0.0, 0, 0.01, 100))
    assert not found.reached
    assert all(bool(p.isfinite().all()) for p in model.parameters())
