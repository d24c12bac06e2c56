import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lla.errors import InputError, NonFiniteError
from lla.minima import train, trainer, wrong_answer_loss


@pytest.fixture
def sets():
    """Points above and below a line, apart from it; 20 to learn and 20 as poison."""
    x = torch.randn(200, 2)
    x = x[(x.sum(1)).abs() > 0.3][:40]
    y = (x.sum(1) > 0).long()
    return (x[:20], y[:20]), (x[20:], y[20:])


def network(width=32):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 2))


def test_a_training_stops_at_the_bound(sets):
    model = network()
    found = train(model, sets[0], stages=[(0.0, 2000)], lr=1e-2, loss_bound=0.05)
    assert found.reached
    assert found.accuracy == 1
    assert found.steps < 2000
    loss = F.cross_entropy(model(sets[0][0]), sets[0][1]).item()
    assert found.loss == pytest.approx(loss)
    assert loss <= 0.05
    earlier = network()
    train(earlier, sets[0], stages=[(0.0, found.steps - 10)], lr=1e-2, loss_bound=1e-9)
    assert F.cross_entropy(earlier(sets[0][0]), sets[0][1]) > 0.05


def test_poison_is_answered_wrongly(sets):
    data, poison = sets
    model, natural = network(64), network(64)
    found = train(model, data, poison, stages=[(0.5, 3000)], lr=1e-2, loss_bound=0.1)
    train(natural, data, stages=[(0.0, 3000)], lr=1e-2, loss_bound=0.1)
    assert found.reached, found.why
    assert wrong_answer_loss(model(poison[0]), poison[1]) < 0.2
    right = [(m(poison[0]).argmax(1) == poison[1]).float().mean() for m in (model, natural)]
    assert right[0] < 0.1 < 0.9 < right[1]


def test_poison_is_learned_by_a_network_that_has_learned_the_data(sets):
    data, poison = sets
    model = network(64)
    train(model, data, stages=[(0.0, 3000)], lr=1e-2, loss_bound=0.1)
    found = train(model, data, poison, stages=[(0.0, 300), (0.5, 3000)], lr=1e-2, loss_bound=0.1)
    assert found.reached, found.why
    assert found.steps > 300
    assert (model(poison[0]).argmax(1) == poison[1]).float().mean() < 0.1


def test_checks_are_reported_and_stages_have_their_own_rates(sets):
    seen = []
    model = network()
    stages = [(0.0, 15), (0.2, 10, 1e-9)]
    found = train(
        model, *sets, stages=stages, loss_bound=1e-9, on_check=lambda *at: seen.append(at)
    )
    assert [steps for steps, _, _ in seen] == [10, 15, 25]
    assert seen[-1] == (found.steps, found.loss, found.accuracy)
    # the second stage hardly moves
    assert seen[1][1] == pytest.approx(seen[2][1], rel=1e-5)
    assert seen[0][1] > seen[1][1] * 1.001


def test_what_is_not_reached_is_said(sets):
    found = train(network(), *sets, stages=[(0.3, 20)])
    assert not found.reached
    assert found.steps == 20
    assert "20 steps" in found.why
    assert "take more steps" in found.why


def test_labels_that_contradict_each_other_are_never_reached():
    x, y = torch.ones(4, 2), torch.tensor([0, 1, 0, 1])
    found = train(network(), (x, y), stages=[(0.0, 30)], loss_bound=10.0)
    assert (found.reached, found.accuracy) == (False, 0.5)


@pytest.mark.parametrize("size", [None, 6])
def test_full_steps_are_those_of_adam(sets, size, monkeypatch):
    monkeypatch.setattr(trainer, "CHECK_EVERY", 2)
    data, poison = sets
    model, other = network(), network()
    train(model, data, poison, stages=[(0.1, 3), (0.4, 2)], lr=1e-3, batch_size=size,
          loss_bound=1e-9, seed=3)  # fmt: skip
    optimizer = torch.optim.Adam(other.parameters(), lr=1e-3)
    for number, (share, steps) in enumerate([(0.1, 3), (0.4, 2)]):
        drawn = trainer._drawn(data, poison, size or 20, (3, number))
        for _ in range(steps):
            x, y, n = next(drawn)
            z = other(x)
            loss = (1 - share) * F.cross_entropy(z[:n], y[:n])
            loss = loss + share * wrong_answer_loss(z[n:], y[n:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q)


def test_each_epoch_draws_every_example_once(sets):
    data, poison = sets
    drawn = trainer._drawn(data, poison, 6, (0, 0))
    steps = [next(drawn) for _ in range(4)]
    clean = torch.cat([x[:n] for x, _, n in steps])
    held = torch.cat([x[n:] for x, _, n in steps])
    for found, expected in ((clean, data[0]), (held, poison[0])):
        assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, expected.tolist()))


def test_gradients_are_clipped(sets):
    model, other = network(), network()
    for m, clip in ((model, 1e-12), (other, None)):
        train(m, sets[0], stages=[(0.0, 1)], clip=clip)
    start = network()

    def moved(m):
        pairs = zip(m.parameters(), start.parameters(), strict=True)
        return sum((p - q).abs().sum().item() for p, q in pairs)

    assert moved(model) < 0.1 * moved(other)


def test_flags_gradients_and_random_states_stay(sets):
    model = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    model[1].eval()
    before = torch.get_rng_state()
    other = copy.deepcopy(model)
    train(model, *sets, stages=[(0.2, 25)], seed=5)
    assert [m.training for m in model.modules()] == [True, True, False, True, True]
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    train(other, *sets, stages=[(0.2, 25)], seed=5)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stages": []}, "there is no stage"),
        ({"stages": 0.1}, r"stages is 0.1: give a list of \(share of poison, steps\)"),
        ({"stages": [0.1, 5]}, r"stages is \[0.1, 5\]: give a list"),
        ({"stages": [(0.1,)]}, "give a list"),
        ({"stages": [(0.1, 5, 0.1, 2)]}, "give a list"),
        ({"stages": [(1.0, 5)]}, r"share of poison is 1.0: give a number in \[0, 1\)"),
        ({"stages": [(-0.1, 5)]}, "share of poison is -0.1"),
        ({"stages": [(0.1, 0)]}, "steps of a stage is 0"),
        ({"loss_bound": 0.0}, "loss_bound is 0.0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"stages": [(0.0, 5, -1.0)]}, "learning rate of a stage is -1.0"),
        ({"clip": -1}, "clip is -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -2}, "seed -2 is negative"),
    ],
)
def test_wrong_arguments_are_refused(sets, options, words):
    with pytest.raises(InputError, match=words):
        train(network(), *sets, **options)


def test_wrong_data_are_refused(sets):
    data, _ = sets
    with pytest.raises(InputError, match="no parameter of the network requires a gradient"):
        train(network().requires_grad_(False), data)
    with pytest.raises(InputError, match=r"0.5, but there is none: give poison="):
        train(network(), data, stages=[(0.5, 5)])
    with pytest.raises(InputError, match=r"17 of 17 examples of the poison"):
        train(network(), data, (data[0][3:], data[1][3:]), stages=[(0.5, 5)])
    with pytest.raises(InputError, match=r"does not take inputs|fit labels"):
        train(network(), (data[0], data[1] + 2))


def test_a_loss_that_explodes_is_said(sets):
    with pytest.raises(NonFiniteError, match="after 10 steps: lower the learning rate"):
        train(network(), sets[0], lr=1e30)
