from paper_tables.evidence.selection import (
    at_equal_settings,
    best_rank,
    by_cell,
    most_faithful_first,
)


def test_records_of_equal_settings_stand_together(make_records):
    first, second = make_records({"kh1": 0.5, "re": 0.7})
    (other,) = make_records({"kh1": 0.6}, config={"batch_size": 64})
    assert at_equal_settings([first, other, second]) == [[first, second], [other]]


def test_the_most_faithful_group_comes_first(make_records):
    words = ("substitute", "reduced", "paper")
    stand_in, small, exact = (make_records(fidelity=word) for word in words)
    mixed = [*make_records({"re": 1.0}, fidelity="paper"), *stand_in]
    assert most_faithful_first([stand_in, small, exact]) == [exact, small, stand_in]
    assert [best_rank(group) for group in (mixed, exact, small)] == [0, 0, 1]
    longer = most_faithful_first([exact, mixed], then=lambda group: (-len(group),))
    assert longer == [mixed, exact]


def test_records_by_cell_are_the_measured_ones_of_a_table(make_records, make_cell):
    records = make_records({"kh1": 0.5, "re": 0.7})
    absent = make_cell(column="random/train").absent("no data").not_run()
    others = make_records(table="table4")
    ((place, found),) = by_cell([*records, *absent, *others], "table2").items()
    assert place[:2] == ("lenet", "random/eval")
    assert list(found.values()) == records
