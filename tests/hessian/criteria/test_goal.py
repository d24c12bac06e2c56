import math

import pytest

from lla.hessian.criteria.goal import Accuracy, Adaptive, Goal


def goal(targets, probes=10):
    return Goal(targets, "batches", probes, 100, 4000, 0, "product")


def test_what_is_asked_for_follows_from_the_targets():
    both = goal({"re": 0.1, "kh1": 0.05})
    assert (both.whole_runs, both.wants_kh1, both.deflates) == (False, True, True)
    assert both.re_tolerance == 0.05
    only = goal({"kh05": 0.1})
    assert (only.whole_runs, only.wants_kh1, only.deflates) == (True, False, False)
    assert only.re_tolerance == math.inf


@pytest.mark.parametrize(("probes", "expected"), [(1, False), (2, True)])
def test_averages_over_outliers_take_a_second_probe(probes, expected):
    assert goal({"kh1": 0.1}, probes).deflates is expected


def accuracy(target, compared, shortfall):
    return Accuracy(target, compared, (0.0, 1.0), None, None, compared, shortfall)


@pytest.mark.parametrize(
    ("stopped", "advice"),
    [
        ("budget", "raise max_matvecs"),
        ("probes", "raise probes"),
        (
            "batches",
            "further probes cannot reduce the difference between the batches, so give more "
            "batches, or over='probes' if these are all there are",
        ),
    ],
)
def test_a_shortcoming_names_the_target_that_was_missed_most(stopped, advice):
    found = {
        "re": accuracy(0.1, 0.2, "twice too large"),
        "kh1": accuracy(0.01, 0.05, "five times too large"),
        "kh05": accuracy(0.01, 9.0, None),  # met
        "negative_share": accuracy(None, 9.0, None),  # has no target
    }
    adaptive = Adaptive(stopped, found, (2, 1, 1), (12, 3))
    assert not adaptive.converged
    assert adaptive.shortcoming(300) == (
        "after 300 products on 3 batches the standard error of kh1 is five times too large: "
        + advice
    )


def test_only_met_targets_are_converged():
    assert Adaptive("targets", {}, (1,), (12, 12)).converged
