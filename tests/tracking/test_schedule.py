"""When is measured: against the rule as the docstring of `lla.Tracker` states it."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lla.tracking.schedule import Schedule


def simulate(rule, steps, seconds, costs, *, steps_per_epoch=None, first=1):
    """A training on a clock of its own; (step, started, ended) of every measurement."""
    now, made = 0.0, []
    costs = iter(costs)
    for step in range(first, first + steps):
        now += seconds
        epoch = None if steps_per_epoch is None else step / steps_per_epoch
        if rule.wants(step, epoch, now):
            cost = next(costs)
            made.append((step, now - seconds, now + cost - seconds))  # since the first call
            now += cost
            rule.add(step, epoch, cost, now)
    return made


def test_with_the_whole_time_every_multiple_is_measured():
    rule = Schedule(every=5, share=1.0, most_epochs=10)
    assert [m[0] for m in simulate(rule, 22, 1.0, [0.1] * 9)] == [5, 10, 15, 20]


def test_a_training_that_counts_from_zero_is_measured_at_its_start():
    rule = Schedule(every=5, share=1.0, most_epochs=10)
    assert [m[0] for m in simulate(rule, 11, 1.0, [0.1] * 9, first=0)] == [0, 5, 10]


def test_one_that_goes_on_waits_for_the_next_multiple():
    rule = Schedule(every=5, share=1.0, most_epochs=10)
    assert [m[0] for m in simulate(rule, 10, 1.0, [0.1] * 9, first=13)] == [15, 20]


def test_several_that_were_put_off_are_one():
    # 2 s at step 10; 2 + 2 <= 0.1 (elapsed + 2) from 38 s on, that is from step 37 on
    rule = Schedule(every=10, share=0.1, most_epochs=10)
    made = simulate(rule, 65, 1.0, [2.0] * 9)
    assert [m[0] for m in made] == [10, 37, 55]
    assert [m[1] for m in made] == [9, 38, 58]


@given(
    every=st.integers(1, 20),
    share=st.floats(0.01, 1.0),
    cost=st.floats(0.01, 50.0),
    seconds=st.floats(0.01, 2.0),
)
def test_the_share_holds_after_every_measurement_but_the_first(every, share, cost, seconds):
    rule = Schedule(every, share, most_epochs=10)
    made = simulate(rule, 300, seconds, [cost] * 301)
    for number, (_, _, ended) in enumerate(made[1:], 2):
        assert number * cost <= share * ended * (1 + 1e-9)
    assert rule.spent == pytest.approx(len(made) * cost)


@given(share=st.floats(0.05, 0.5), cost=st.floats(0.01, 5.0))
def test_none_that_the_share_allows_is_left_out(share, cost):
    rule = Schedule(1, share, most_epochs=10)
    made = simulate(rule, 400, 1.0, [cost] * 401)
    assert made[0][0] == 1
    pairs = itertools.pairwise(made)
    for number, ((_, _, before), (_, started, _)) in enumerate(pairs, 1):
        # a step earlier, the share did not allow it yet, unless it followed at once
        earlier = started - 1.0
        assert earlier < before + 1e-6 or (number + 1) * cost > share * (earlier + cost) * (
            1 - 1e-9
        )


def test_the_cost_is_that_of_the_last_measurement():
    rule = Schedule(every=1, share=0.5, most_epochs=10)
    rule.wants(1, None, 0.0)
    rule.add(1, None, 1.0, 1.0)
    assert not rule.wants(2, None, 2.0)
    assert rule.wants(3, None, 3.0)  # 1 + 1 <= (3 + 1) / 2
    rule.add(3, None, 3.0, 6.0)
    assert not rule.wants(4, None, 10.9)
    assert rule.wants(5, None, 11.0)  # 4 + 3 <= (11 + 3) / 2


def test_one_that_failed_tells_no_cost():
    rule = Schedule(every=1, share=0.5, most_epochs=10)
    rule.wants(1, None, 0.0)
    rule.add(1, None, 10.0, 10.0)
    rule.add(2, None, 0.01, 30.0, known=False)
    assert not rule.wants(3, None, 30.0)  # 20.01 > (30 + 10) / 2
    assert rule.wants(4, None, 30.02)


def test_ten_epochs_without_one_are_too_many():
    rule = Schedule(every=7, share=0.01, most_epochs=10)
    made = simulate(rule, 1000, 1.0, [1e4] * 99, steps_per_epoch=10)
    # the first when it is due; the others as soon as one is due and ten epochs have passed
    assert [m[0] for m in made] == [7, 107, 207, 307, 407, 507, 607, 707, 807, 907]


def test_without_epochs_the_share_alone_counts():
    rule = Schedule(every=7, share=0.01, most_epochs=10)
    assert [m[0] for m in simulate(rule, 1000, 1.0, [1e4] * 99)] == [7]


def test_the_share_that_was_spent():
    rule = Schedule(every=1, share=1.0, most_epochs=10)
    assert rule.share_spent == 0
    rule.wants(1, None, 100.0)
    rule.add(1, None, 2.0, 102.0)
    assert rule.share_spent == 1
    rule.wants(2, None, 108.0)
    assert rule.share_spent == 0.25
