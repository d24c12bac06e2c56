import dataclasses

import pytest

from paper_tables.exhibits.table1 import planes
from tests.paper_tables.planted import absent, plane


def only(records):
    (block,) = planes.blocks(records)
    return block


def test_the_finest_grid_of_a_plane_wins_whatever_the_order():
    coarse, fine = plane(ratio=2.0, points=5), plane(ratio=200.0, points=41)
    for records in ([*coarse, *fine], [*fine, *coarse]):
        (pool,) = only(records).pools.values()
        assert (pool.ratio, pool.complete, pool.category()) == (200.0, True, "explodes")
    assert len(planes.results([*coarse, *fine])) == 2, "both stay records"


def test_a_whole_plane_wins_over_one_that_was_stopped():
    stopped = plane(ratio=1e3, points=5, stopped=True)
    (pool,) = only([*stopped, *plane(ratio=1e5, points=5)]).pools.values()
    assert pool.ratio == 1e5


def test_other_inputs_stand_apart_the_most_faithful_first():
    small = plane(points=5, images=8, side=64)
    stand_in = plane(data="sample-crops", fidelity="substitute")
    found = planes.blocks([*stand_in, *small, *plane()])
    assert [(b.fidelity, b.record.config["side"]) for b in found] == [
        ("reduced", 224), ("reduced", 64), ("substitute", 224),
    ]  # fmt: skip


def test_seeds_are_pooled():
    ratios = [10.0, 1000.0, 1000.0]
    records = [r for seed, ratio in enumerate(ratios) for r in plane(ratio=ratio, seed=seed)]
    (pool,) = only(records).pools.values()
    assert len(pool.planes) == 3
    assert pool.ratio == pytest.approx(10 ** (7 / 3))
    assert pool.category() == "explodes", "the median plane's"
    assert pool.category(explodes=1e4, rises=10.0) == "rises"


def test_explodes_is_safe_on_a_coarse_grid_and_nothing_else_is():
    def pool(**facts):
        (found,) = only(plane(**facts)).pools.values()
        return found

    assert pool(ratio=1e4, points=5).safe
    assert pool(ratio=1.0, nonfinite=1, points=5).safe
    assert not pool(ratio=50.0, points=5).safe
    assert not pool(ratio=1.0, points=21).safe
    assert pool(ratio=1.0, points=41).safe
    assert pool(ratio=1e4, points=41, stopped=True).safe
    assert not pool(ratio=1e4, points=41, stopped=True).complete


def test_what_was_not_run_is_no_plane():
    assert planes.results(absent("vit", "pretrained")) == []


def test_a_stopped_plane_is_told_from_its_numbers():
    whole, stopped = plane(points=5), plane(points=5, stopped=True, seed=1)
    assert [p.stopped for p in planes.results([*whole, *stopped])] == [False, True]

    def uncounted(ratio, nonfinite=0, **config):
        """As records were written before they counted their points."""
        records = plane(points=5, ratio=ratio, nonfinite=nonfinite, **config)
        (found,) = planes.results([dataclasses.replace(r, n=None) for r in records])
        return found.stopped

    assert uncounted(1e6, stops_at=1e6)
    assert uncounted(1.0, nonfinite=1, stops_at=1e6)
    assert not uncounted(9e5, stops_at=1e6)
    assert not uncounted(1e9, nonfinite=3), "computed to its end"
