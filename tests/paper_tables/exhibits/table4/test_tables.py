import math

import pytest

from paper_tables.engine import claims
from paper_tables.engine.publish import write_exhibit
from paper_tables.exhibits import find
from paper_tables.exhibits.table4 import EXHIBIT
from paper_tables.exhibits.table4 import differences as table4

# of one network: ImageNet's value and the new images', with their errors
VALUES = {"accuracy": (80.0, 30.0), "kh1": (0.7, 0.8), "kh05": (0.5, 0.7), "re": (0.02, 0.03)}


@pytest.fixture
def make(make_records):
    def records(row="squeezenet", *, stderr=0.001, second=None, fidelity="reduced", **config):
        found = []
        for i, column in enumerate(("imagenet", "ni")):
            values = {metric: pair[i] for metric, pair in VALUES.items()}
            if i == 1:
                values |= second or {}
            found += make_records(
                values,
                column,
                row=row,
                table="table4",
                data=column,
                stderr=stderr,
                fidelity=fidelity,
                config={"model": row, "side": 224, **config},
            )
        return found

    return records


def of(records, row, metric):
    return next(d for d in table4.differences(records) if (d.row, d.metric) == (row, metric))


def test_the_papers_accuracies_against_binomial_noise():
    found = {d.row: d for d in table4.differences([]) if d.metric == "accuracy"}
    assert found["alexnet"].paper == pytest.approx(-60.9)
    assert found["alexnet"].paper_beyond
    # 55 against 46 of 64: Fisher's p is 0.08; ViT's 56 and 57 are one picture
    assert not found["resnet50"].paper_beyond
    assert not found["vit"].paper_beyond
    assert all(d.value is None and d.beyond is None for d in found.values())


def test_a_difference_against_its_error(make):
    found = of(make(), "squeezenet", "kh05")
    assert found.value == pytest.approx(0.2)
    assert found.stderr == pytest.approx(0.001 * math.sqrt(2))
    assert found.beyond
    # the paper's 0.14 against 1.96 times the scatter of two single batches
    assert found.paper_beyond
    scatter = 0.14 / 1.96 / math.sqrt(2)  # of a batch, at the edge; two batches behind each error
    assert not of(make(stderr=1.01 * scatter / math.sqrt(2)), "squeezenet", "kh05").paper_beyond
    assert of(make(stderr=0.99 * scatter / math.sqrt(2)), "squeezenet", "kh05").paper_beyond
    # two batches each: t with 2 degrees of freedom is 4.303
    error = 0.2 / 4.303 / math.sqrt(2)
    assert of(make(stderr=0.99 * error), "squeezenet", "kh05").beyond
    assert not of(make(stderr=1.01 * error), "squeezenet", "kh05").beyond


def test_without_an_error_nothing_is_said(make):
    found = of(make(stderr=None), "squeezenet", "re")
    assert found.value == pytest.approx(0.01)
    assert (found.stderr, found.beyond, found.paper_beyond) == (None, None, None)


def test_the_most_faithful_settings_come_first(make):
    coarse = make(side=64, m=20, second={"kh05": 9.0})
    assert of([*coarse, *make()], "squeezenet", "kh05").value == pytest.approx(0.2)
    first, second = table4.by_settings([*coarse, *make()])
    assert first[0].config["side"] == 224
    assert second[0].config["side"] == 64


def test_the_table_shows_every_network_and_why_some_are_missing(make, make_records, tmp_path):
    absent = make_records(
        row="vit", column="ni", table="table4", compute=None, fidelity=None, reason="no weights"
    )
    records = [*make(), *absent]
    write_exhibit(EXHIBIT, records, tmp_path)
    text = (tmp_path / "table4.md").read_text()
    assert "0.5000 ± 0.0010 (0.5) reproduced [reduced]" in text
    assert "| ViT " in text
    assert "1. no record yet" in text
    assert "2. no weights" in text
    assert "56 and 57 of 64" in text
    assert "0.1000 ± 0.0014, beyond the noise (+0.16" in text
    assert "\\toprule" in (tmp_path / "table4.tex").read_text()


def judged(records, claim, scope):
    return next(j for j in claims.judge(records, find()) if (j.claim.id, j.scope) == (claim, scope))


def test_claims_on_new_images(make):
    assert judged(make(), "T4.kh05", "squeezenet").verdict == "holds"
    assert judged(make(), "T4.re", "squeezenet").verdict == "holds"
    fallen = make(second={"kh05": 0.3, "re": 0.01})
    assert judged(fallen, "T4.kh05", "squeezenet").verdict == "fails"
    assert judged(fallen, "T4.re", "squeezenet").verdict == "fails"
    assert judged(make(stderr=1.0), "T4.re", "squeezenet").verdict == "undecided"
    vit = make("vit", second={"kh05": 0.3})
    assert judged(vit, "T4.kh05", "vit").verdict == "holds", "the exception"
    stand_in = judged(make(fidelity="substitute"), "T4.kh05", "squeezenet")
    assert stand_in.verdict == "not_run"
    assert "stand-in" in stand_in.note


def test_the_claim_on_every_cell(make):
    found = judged(make(), "T4.cell", "squeezenet")
    assert found.verdict == "fails"
    assert "differs" in found.note
