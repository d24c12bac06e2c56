import pytest

from paper_tables.engine.fidelity import cell_fidelity, least_faithful, rank
from paper_tables.engine.records import FIDELITIES


def test_the_paper_comes_first_and_what_was_not_run_last():
    assert sorted([None, *reversed(FIDELITIES)], key=rank) == [*FIDELITIES, None]


def test_the_least_faithful_counts():
    assert least_faithful(["paper", "substitute", "reduced"]) == "substitute"
    assert least_faithful(["paper", None]) == "substitute", "nothing is known of it"


@pytest.mark.parametrize(
    ("inputs", "whole", "expected"),
    [
        (("paper", "paper"), True, "paper"),
        (("paper", "reduced"), True, "reduced"),
        (("paper", "paper"), False, "reduced"),
        (("substitute", "paper"), False, "substitute"),
        ((None,), True, "substitute"),
    ],
)
def test_a_cell_is_as_faithful_as_its_inputs_and_its_amount(inputs, whole, expected):
    assert cell_fidelity(*inputs, whole=whole) == expected
