"""Which measurement is nearest to a printed value, and whether it agrees with it."""

import pytest

from paper_tables.engine.records import Record
from paper_tables.evidence.nearest import agreement, apart, nearest


def record(value, stderr=None, metric="kh1", fidelity="reduced"):
    return Record(
        table="t", row="lenet", column="c", metric=metric, value=value, stderr=stderr,
        fidelity=fidelity, config={},
    )  # fmt: skip


def test_the_nearest_by_ratio():
    far, near, gone = record(0.5), record(0.1), record(0.0)
    assert nearest([gone, far, near], "0.18") is near


@pytest.mark.parametrize(
    ("value", "stderr", "words"),
    [
        (0.2, 0.02, "which agrees within two standard errors"),
        (0.2, 0.001, "which is close"),  # within 15 %
        (0.3, 0.001, "which differs from it"),
    ],
)
def test_three_words_for_agreement(value, stderr, words):
    assert agreement(record(value, stderr), "0.18") == words


def test_two_values_are_apart_by_more_than_chance():
    assert apart(record(0.2, 0.01), record(0.25, 0.01))
    assert not apart(record(0.2, 0.02), record(0.25, 0.02))
    assert not apart(record(0.2), record(0.2))
    assert apart(record(0.2), record(0.21))
