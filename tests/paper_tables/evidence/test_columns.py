from paper_tables.evidence.columns import Place, place_of


def test_columns_name_places():
    for place in (Place("eval", "uniform", "4"), Place("train", "hessian", "3s", True)):
        assert place_of(place.column("random")) == ("random", place)
    assert Place("train", "normal", "1").paper_column == "train/random"
    assert Place("eval", "hessian", "1").paper_column == "eval/hessian"
